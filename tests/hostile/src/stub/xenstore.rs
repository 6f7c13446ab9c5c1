//! Attacks on xenstored, which all domains share, and by nodes that dom0 reads.

use super::site::until_refused;
use super::store::Store;
use super::{Attack, Outcome, Site, Wrong};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use kernel::Errno;
use xen_pv_sys::io::xs_wire::{
    PAYLOAD_MAX, REQ_CONS, REQ_PROD, RSP_CONS, XS_DIRECTORY, XS_MKDIR, XS_READ, XS_RM, XS_TRANSACTION_END,
    XS_TRANSACTION_START, XS_UNWATCH, XS_WATCH, XS_WRITE,
};

/// The attacks.
pub(super) const ATTACKS: &[Attack] = &[
    Attack { name: "nodes-to-quota", tries: "nodes without end", run: nodes_to_quota },
    Attack {
        name: "values-and-paths",
        tries: "values and paths of every length, and paths that are none",
        run: values_and_paths,
    },
    Attack {
        name: "watches-to-quota",
        tries: "watches without end, all of them fired",
        run: watches_to_quota,
    },
    Attack {
        name: "transactions-held",
        tries: "transactions without end, held open over writes",
        run: transactions_held,
    },
    Attack { name: "request-flood", tries: "requests at full rate", run: request_flood },
    Attack {
        name: "answers-unread",
        tries: "requests at full rate whose answers nobody takes",
        run: answers_unread,
    },
    Attack { name: "half-a-message", tries: "a message that does not end", run: half_a_message },
    Attack {
        name: "message-types",
        tries: "messages of every type, with nonsense in them",
        run: message_types,
    },
    Attack {
        name: "privileged-messages",
        tries: "what dom0 alone may ask of xenstored",
        run: privileged_messages,
    },
    Attack {
        name: "nodes-of-strangers",
        tries: "nodes of dom0, the toolstack and another guest",
        run: nodes_of_strangers,
    },
    Attack {
        name: "permissions",
        tries: "permissions that are none, and a node given away",
        run: permissions,
    },
    Attack {
        name: "device-nodes-forged",
        tries: "a disk and a console of its own that name another guest's",
        run: device_nodes_forged,
    },
    Attack {
        name: "store-indices",
        tries: "ring indices that name more than the ring holds",
        run: store_indices,
    },
];

/// The attack that ends the connection in another way.
pub(super) const TOO_LONG: &[Attack] =
    &[Attack { name: "message-too-long", tries: "a message longer than there is", run: message_too_long }];

/// `XS_CONTROL`, `XS_INTRODUCE`, `XS_RELEASE`, `XS_SET_PERMS`, `XS_RESUME`, `XS_SET_TARGET`.
const CONTROL: u32 = 0;
const INTRODUCE: u32 = 8;
const RELEASE: u32 = 9;
const SET_PERMS: u32 = 14;
const RESUME: u32 = 18;
const SET_TARGET: u32 = 19;
/// More than any quota.
const MANY: u32 = 5000;

/// Counts up to what xenstored refuses, with its answer.
pub(super) fn counted(most: u32, mut step: impl FnMut(u32) -> Result<(), String>) -> Outcome {
    let mut answer = String::new();
    let limit = until_refused(most, |n| {
        step(n).map_err(|why| {
            answer = why;
            Errno::ENOSPC
        })
    })?;
    Ok(format!("{}, then {answer}", limit.0))
}

pub(super) fn not_made(why: String) -> Wrong {
    Wrong::NotMade(why)
}

fn nodes_to_quota(site: &mut Site) -> Outcome {
    let store = &mut site.store;
    let outcome = counted(MANY, |n| store.write(&format!("data/many/{n}"), &[b'x'; 100]));
    store.rm("data/many").map_err(not_made)?;
    outcome
}

fn values_and_paths(site: &mut Site) -> Outcome {
    let store = &mut site.store;
    let mut taken = 0_u32;
    for length in [0, 1, 2047, 2048, 2049, 3000, 4000, PAYLOAD_MAX - "data/value".len() - 1] {
        taken += u32::from(store.write("data/value", &vec![0xff; length]).is_ok());
    }
    let long = "a".repeat(300);
    let deep = "d/".repeat(400) + "d";
    let paths = [
        "",
        "/",
        "//",
        "data/",
        "data//x",
        "../0/x",
        "data/../../0/x",
        "data/\u{7f}",
        "data/ä",
        "data/a b",
        "@x",
        "@releaseDomain",
        long.as_str(),
        deep.as_str(),
        "/local/domain/-1/x",
        "/local/domain/99999/x",
    ];
    for path in paths {
        taken += u32::from(store.write(path, b"x").is_ok());
    }
    let _ = (store.rm("data/value"), store.rm("data/d"), store.rm("d"), store.rm(&long));
    Ok(format!("{taken} taken"))
}

fn watches_to_quota(site: &mut Site) -> Outcome {
    let store = &mut site.store;
    let mut made = 0;
    let outcome = counted(MANY, |n| {
        store.ask_of(XS_WATCH, 0, &["data", &format!("token-{n}")])?;
        made = n + 1;
        Ok(())
    });
    for n in 0..10 {
        store.write("data/fired", format!("{n}").as_bytes()).map_err(not_made)?;
    }
    for n in 0..made {
        store.ask_of(XS_UNWATCH, 0, &["data", &format!("token-{n}")]).map_err(not_made)?;
    }
    Ok(format!("{}, {} events", outcome?, store.events))
}

fn transactions_held(site: &mut Site) -> Outcome {
    let store = &mut site.store;
    let mut held = Vec::new();
    let outcome = counted(MANY, |_| {
        let answer = store.ask_of(XS_TRANSACTION_START, 0, &[""])?;
        let text = String::from_utf8_lossy(&answer);
        let id =
            text.trim_end_matches('\0').parse().map_err(|_| "a transaction without a number".to_string())?;
        held.push(id);
        let mut payload = b"data/held\0".to_vec();
        payload.extend(format!("{id}").bytes());
        store.ask(XS_WRITE, id, &payload).map(drop)
    });
    site.rest(2000);
    for id in held {
        // At most one of them can succeed.
        let _ = site.store.ask(XS_TRANSACTION_END, id, b"T\0");
    }
    outcome
}

fn request_flood(site: &mut Site) -> Outcome {
    let times = site.flood(|site, n| {
        let _ = match n % 3 {
            0 => site.store.write("data/flood", b"x"),
            1 => site.store.ask_of(XS_READ, 0, &["data/flood"]).map(drop),
            _ => site.store.ask_of(XS_DIRECTORY, 0, &["data"]).map(drop),
        };
    });
    Ok(format!("{times} requests"))
}

fn answers_unread(site: &mut Site) -> Outcome {
    let message = [XS_DIRECTORY, 0, 0, 5].map(u32::to_le_bytes).concat();
    let message = [message, b"data\0".to_vec()].concat();
    // Whole messages, as far as there is room: how much of one went in is known.
    let mut sent = 0_usize;
    let mut at = 0_usize;
    site.flood(|site, _| {
        let rest = message.get(at..).unwrap_or_default();
        let done = site.store.put(rest);
        site.store.notify();
        sent = sent.wrapping_add(done);
        at = (at + done) % message.len();
    });
    site.rest(2000);
    let mut rest = message.get(at..).unwrap_or_default();
    while at != 0 && !rest.is_empty() {
        site.store.drain(20_000_000);
        let done = site.store.put(rest);
        site.store.notify();
        rest = rest.get(done..).unwrap_or_default();
    }
    site.store.drain(500_000_000);
    Ok(format!("{sent} bytes"))
}

fn half_a_message(site: &mut Site) -> Outcome {
    let payload = [b"data/half\0".to_vec(), vec![b'x'; 1000]].concat();
    let length = u32::try_from(payload.len()).unwrap_or(0);
    let (now, later) = payload.split_at(10);
    let header = [XS_WRITE, 0xfffe, 0, length].map(u32::to_le_bytes).concat();
    if site.store.put(&header) < header.len() || site.store.put(now) < now.len() {
        return Err(Wrong::NotMade("no room".to_string()));
    }
    site.store.notify();
    site.rest(2000);
    let mut rest = later;
    while !rest.is_empty() {
        let done = site.store.put(rest);
        site.store.notify();
        rest = rest.get(done..).unwrap_or_default();
        site.rest(1);
    }
    let answer = site.store.answer(0xfffe);
    Ok(format!("{:?}", answer.map(|_| ())))
}

fn message_types(site: &mut Site) -> Outcome {
    let mut refused = 0_u32;
    let types = (0..40).filter(|kind| ![XS_RM, XS_UNWATCH].contains(kind)).chain([255, 0xffff, u32::MAX]);
    for kind in types {
        for payload in [&b""[..], b"\0", b"x", b"data\0\0\0\0", &[0xff; 64], b"\0\0\0\0\0\0\0\0"] {
            refused += u32::from(site.store.ask(kind, 0, payload).is_err());
        }
        // Of a transaction that there is not.
        refused += u32::from(site.store.ask(kind, 0x7777_7777, b"data\0").is_err());
    }
    site.store.drain(100_000_000);
    Ok(format!("{refused} refused"))
}

fn privileged_messages(site: &mut Site) -> Outcome {
    let (own, other) = (site.walker.own().to_string(), site.other.to_string());
    let asked: [(u32, &[&str]); 8] = [
        (CONTROL, &["help"]),
        (CONTROL, &["quota", "nodes", "100000"]),
        (INTRODUCE, &[&other, "1", "1"]),
        (INTRODUCE, &[&own, "1", "1"]),
        (RELEASE, &[&other]),
        (RESUME, &[&other]),
        (SET_TARGET, &[&own, "0"]),
        (SET_TARGET, &[&own, &other]),
    ];
    all_refused(&mut site.store, &asked)
}

/// That each of these is refused; the last answer.
fn all_refused(store: &mut Store, asked: &[(u32, &[&str])]) -> Outcome {
    let mut last = String::new();
    for (kind, words) in asked {
        match store.ask_of(*kind, 0, words) {
            Err(why) => last = why,
            Ok(_) => return Err(Wrong::Passed(format!("message {kind} {words:?}"))),
        }
    }
    Ok(format!("{} refused, {last}", asked.len()))
}

fn nodes_of_strangers(site: &mut Site) -> Outcome {
    let other = site.other;
    let paths = [
        "/x".to_string(),
        "/local/domain/0/data/x".to_string(),
        "/local/domain/0/backend/vbd/x".to_string(),
        "/tool/x".to_string(),
        "/tool/pilotfish/x".to_string(),
        format!("/libxl/{other}/device/x"),
        format!("/local/domain/{other}/data/x"),
        format!("/local/domain/{other}/device/vbd/51712/state"),
        format!("/local/domain/{other}/name"),
        "name".to_string(),
        "domid".to_string(),
    ];
    let mut last = Ok("".to_string());
    for path in &paths {
        let asked: [(u32, &[&str]); 4] =
            [(XS_WRITE, &[path, "x"]), (XS_MKDIR, &[path]), (XS_RM, &[path]), (SET_PERMS, &[path, "b0"])];
        // A node that is not there is not removed, which xenstored may call well done.
        last = all_refused(&mut site.store, &asked);
        if let Err(Wrong::Passed(what)) = &last {
            return Err(Wrong::Passed(format!("{path}: {what}")));
        }
    }
    last
}

fn permissions(site: &mut Site) -> Outcome {
    let (own, other) = (site.walker.own(), site.other);
    let store = &mut site.store;
    store.write("data/shared", b"x").map_err(not_made)?;
    let many: Vec<String> = (0..400).map(|n| format!("r{n}")).collect();
    let mut lists: Vec<Vec<&str>> = vec![vec![], vec!["x"], vec!["n"], vec!["n99999999"], vec!["w-1"]];
    lists.push(many.iter().map(String::as_str).collect());
    let (given, kept) = (format!("n{other}"), format!("n{own}"));
    lists.push(vec![&given]);
    lists.push(vec![&kept]);
    let mut taken = 0_u32;
    for list in lists {
        let words = [vec!["data/shared"], list].concat();
        taken += u32::from(store.ask_of(SET_PERMS, 0, &words).is_ok());
    }
    let _ = store.rm("data/shared");
    Ok(format!("{taken} taken"))
}

fn device_nodes_forged(site: &mut Site) -> Outcome {
    let other = site.other;
    let backend = format!("/local/domain/0/backend/vbd/{other}/51712");
    let console = format!("/local/domain/0/backend/console/{other}/0");
    let nodes = [
        ("device/vbd/51712/backend", backend.as_str()),
        ("device/vbd/51712/backend-id", "0"),
        ("device/vbd/51712/state", "1"),
        ("device/virtio_disk/51712/backend", backend.as_str()),
        ("device/console/0/backend", console.as_str()),
        ("device/suspend/event-channel", "1"),
        ("console/tty", "/dev/mem"),
        ("console/type", "ioemu"),
        ("control/shutdown", "reboot"),
        ("memory/target", "99999999"),
        ("data/updated", "x"),
    ];
    let taken = nodes.iter().filter(|(path, value)| site.store.write(path, value.as_bytes()).is_ok()).count();
    Ok(format!("{taken} of {} taken", nodes.len()))
}

fn message_too_long(site: &mut Site) -> Outcome {
    let _ = site.store.send(XS_WRITE, 0, u32::MAX, b"data/long\0");
    site.rest(1000);
    let answer = site.store.peek(REQ_CONS);
    Ok(format!("{answer} bytes taken"))
}

fn store_indices(site: &mut Site) -> Outcome {
    for (at, value) in [(RSP_CONS, 77), (REQ_PROD, 5000), (REQ_PROD, u32::MAX), (RSP_CONS, u32::MAX / 2)] {
        let value = site.store.peek(at).wrapping_add(value);
        site.store.poke(at, value);
        site.store.notify();
        site.rest(300);
    }
    Ok("4 written".to_string())
}
