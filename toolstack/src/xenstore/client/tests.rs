//! The client against a small xenstored on a socket pair.

use std::collections::BTreeMap;
use std::sync::mpsc;

use super::*;

/// Serves `nodes` until the client hangs up; the first `conflicts` commits answer EAGAIN.
fn xenstored(mut stream: UnixStream, mut nodes: BTreeMap<String, String>, mut conflicts: u32) {
    while let Ok(request) = Message::read_from(&mut stream) {
        let words = strings(&request.payload);
        let path = words[0].clone();
        let error = |name: &str| (XS_ERROR, format!("{name}\0").into_bytes());
        let children = || {
            let below = format!("{path}/");
            nodes.keys().filter_map(|k| k.strip_prefix(&below).map(|c| format!("{c}\0"))).collect::<String>()
        };
        let (kind, payload) = match request.kind {
            XS_READ => match nodes.get(&path) {
                Some(value) => (XS_READ, value.clone().into_bytes()),
                None => error("ENOENT"),
            },
            XS_DIRECTORY if children().len() > 4096 => error("E2BIG"),
            XS_DIRECTORY if children().is_empty() => error("ENOENT"),
            XS_DIRECTORY => (XS_DIRECTORY, children().into_bytes()),
            XS_DIRECTORY_PART => {
                let all = children();
                let rest = &all[words[1].parse::<usize>().unwrap()..];
                let end = rest.len().min(2000);
                let end = rest[..end].rfind('\0').map_or(0, |i| i + 1);
                let tail = if end == rest.len() { "\0" } else { "" };
                (XS_DIRECTORY_PART, format!("7\0{}{tail}", &rest[..end]).into_bytes())
            }
            XS_WRITE => {
                let value = words.get(1).cloned().unwrap_or_default();
                nodes.insert(path.clone(), value);
                (XS_WRITE, b"OK\0".to_vec())
            }
            XS_RM => match nodes.remove(&path) {
                Some(_) => (XS_RM, b"OK\0".to_vec()),
                None => error("ENOENT"),
            },
            XS_SET_PERMS => {
                nodes.insert(format!("{path} is for"), words[1..].join(" "));
                (XS_SET_PERMS, b"OK\0".to_vec())
            }
            XS_TRANSACTION_START => (XS_TRANSACTION_START, b"1\0".to_vec()),
            XS_TRANSACTION_END if conflicts > 0 && path == "T" => {
                conflicts -= 1;
                error("EAGAIN")
            }
            XS_WATCH => {
                let event = format!("{path}\0{}\0", words[1]).into_bytes();
                Message { kind: XS_WATCH_EVENT, id: 0, transaction: 0, payload: event }
                    .write_to(&mut stream)
                    .unwrap();
                (XS_WATCH, b"OK\0".to_vec())
            }
            kind => (kind, b"OK\0".to_vec()),
        };
        Message { kind, id: request.id, transaction: request.transaction, payload }
            .write_to(&mut stream)
            .unwrap();
    }
}

fn connected(nodes: &[(&str, &str)], conflicts: u32) -> (Client, mpsc::Receiver<Event>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let nodes = nodes.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    std::thread::spawn(move || xenstored(theirs, nodes, conflicts));
    let (sender, events) = mpsc::channel();
    let client = Client::over(ours.try_clone().unwrap(), ours, move |e| drop(sender.send(e)));
    (client, events)
}

#[test]
fn an_absent_node_is_none_and_no_error_to_remove_or_list() {
    let (client, _events) = connected(&[("/a", "1")], 0);
    assert_eq!(client.read("/a").unwrap().as_deref(), Some("1"));
    assert_eq!(client.read("/b").unwrap(), None);
    client.remove("/b").unwrap();
    assert!(client.list("/b").unwrap().is_empty());
}

#[test]
fn update_writes_what_the_rule_says_and_leaves_absent_nodes_absent() {
    let (client, _events) = connected(&[("/s", "1"), ("/t", "5")], 0);
    let rule = |old: &str| (old == "1").then_some("2");
    assert!(client.update("/s", &rule).unwrap());
    assert!(!client.update("/t", &rule).unwrap());
    assert!(!client.update("/u", &rule).unwrap());
    assert_eq!(client.read("/s").unwrap().as_deref(), Some("2"));
    assert_eq!(client.read("/u").unwrap(), None);
}

#[test]
fn a_disturbed_transaction_is_tried_again() {
    let (client, _events) = connected(&[("/s", "1")], 3);
    assert!(client.update("/s", &|_| Some("2")).unwrap());
    let (client, _events) = connected(&[("/s", "1")], u32::MAX);
    assert!(client.update("/s", &|_| Some("2")).is_err());
}

#[test]
fn a_node_for_one_domain_is_dom0s_and_that_domain_may_read_it() {
    let (client, _events) = connected(&[], 1);
    client.write_for(7, "/k", "a key").unwrap();
    assert_eq!(client.read("/k").unwrap().as_deref(), Some("a key"));
    assert_eq!(client.read("/k is for").unwrap().as_deref(), Some("n0 r7"));
}

#[test]
fn a_long_listing_comes_in_parts_and_whole() {
    let names: Vec<String> = (0..2000).map(|i| format!("/d/{i:05}")).collect();
    let nodes: Vec<(&str, &str)> = names.iter().map(|n| (n.as_str(), "")).collect();
    let (client, _events) = connected(&nodes, 0);
    let listed = client.list("/d").unwrap();
    assert_eq!(listed.len(), 2000);
    assert_eq!(listed.first().map(String::as_str), Some("00000"));
    assert_eq!(listed.last().map(String::as_str), Some("01999"));
}

#[test]
fn a_watch_reports_and_a_lost_connection_too() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let hangup = theirs.try_clone().unwrap();
    std::thread::spawn(move || xenstored(theirs, BTreeMap::new(), 0));
    let (sender, events) = mpsc::channel();
    let client = Client::over(ours.try_clone().unwrap(), ours, move |e| drop(sender.send(e)));
    client.watch("/w", "token").unwrap();
    let first = events.recv_timeout(ANSWER_TIMEOUT).unwrap();
    assert!(matches!(first, Event::Changed { path, token } if path == "/w" && token == "token"));
    hangup.shutdown(std::net::Shutdown::Both).unwrap();
    assert!(matches!(events.recv_timeout(ANSWER_TIMEOUT).unwrap(), Event::Lost(_)));
    assert!(client.read("/w").is_err());
}
