//! The client against good and evil servers, and against a network that changes what they say.

use crate::fake::{Misdeed, Server};
use crate::record::{TYPE_ALERT, TYPE_DATA, TYPE_HANDSHAKE};
use crate::{DATA_MAX_BYTES, Fault, KEY_MIN_BYTES, RECORD_OVERHEAD_BYTES, Secrets, Session, UPDATE_BYTES};
use proptest::prelude::*;
use std::format;
use std::string::String;
use std::vec;
use std::vec::Vec;

const KEY: [u8; 32] = [0x11; 32];

fn secrets() -> Secrets {
    Secrets::parse(&format!("{} {} web", "5a".repeat(32), "11".repeat(32))).unwrap()
}

struct Pair {
    client: Session,
    server: Server,
}

impl Pair {
    fn new() -> Pair {
        Pair { client: Session::new(&mut secrets()).unwrap(), server: Server::new("web", &KEY) }
    }

    fn open() -> Pair {
        let mut pair = Pair::new();
        pair.shake(usize::MAX).unwrap();
        pair
    }

    /// Goes on until nobody has anything to say.
    fn shake(&mut self, cut: usize) -> Result<(), Fault> {
        loop {
            let said = self.client.outgoing();
            assert!(self.server.receive(said.as_ref()).is_empty());
            let output = self.server.output();
            if output.is_empty() && said.as_ref().is_empty() {
                return Ok(());
            }
            for mut part in output.chunks(cut) {
                while !part.is_empty() {
                    let taken = self.client.take(part)?;
                    assert!(taken > 0);
                    part = &part[taken..];
                }
            }
        }
    }

    /// What the client gets of what the server has to say.
    fn received(&mut self) -> Result<Vec<u8>, Fault> {
        received(&mut self.client, &self.server.output())
    }
}

fn received(client: &mut Session, bytes: &[u8]) -> Result<Vec<u8>, Fault> {
    let (mut rest, mut data) = (bytes, Vec::new());
    while !rest.is_empty() {
        rest = &rest[client.take(rest)?..];
        data.extend_from_slice(client.data());
        client.consume(client.data().len());
    }
    Ok(data)
}

fn misdeed(misdeed: Misdeed) -> Result<(), Fault> {
    let mut pair = Pair::new();
    pair.server.set_misdeed(misdeed);
    let outcome = pair.shake(usize::MAX);
    assert_eq!(pair.client.is_open(), outcome.is_ok());
    if let Err(fault) = outcome {
        assert_eq!(pair.client.take(b"x"), Err(fault), "for ever");
        assert_eq!(pair.client.seal(b"x"), None);
    }
    outcome
}

#[test]
fn data_go_both_ways_however_records_are_cut() {
    for cut in [1, 5, 6, 100, usize::MAX] {
        let mut pair = Pair::new();
        pair.shake(cut).unwrap();
        assert!(pair.client.is_open() && pair.server.is_open());
        let data: Vec<u8> = (0..=u8::MAX).cycle().take(DATA_MAX_BYTES).collect();
        let sealed = pair.client.seal(&data).unwrap().to_vec();
        assert_eq!(sealed.len(), data.len() + RECORD_OVERHEAD_BYTES);
        assert!(!sealed.windows(8).any(|part| part == &data[..8]), "in clear");
        assert_eq!(pair.server.receive(&sealed), data);
        pair.server.send(&[data.as_slice(), b"more"].concat());
        assert_eq!(pair.received().unwrap(), [data.as_slice(), b"more"].concat());
    }
    assert_eq!(Pair::open().client.seal(&[0; DATA_MAX_BYTES + 1]), None);
    assert_eq!(Pair::new().client.seal(b"x"), None, "not before the server has proved itself");
}

#[test]
fn data_that_are_left_hold_up_what_comes() {
    let mut pair = Pair::open();
    pair.server.send(b"first");
    pair.server.send(b"second");
    let bytes = pair.server.output();
    let taken = pair.client.take(&bytes).unwrap();
    assert!(taken < bytes.len());
    assert_eq!(pair.client.take(&bytes[taken..]), Ok(0));
    pair.client.consume(2);
    assert_eq!(pair.client.data(), b"rst");
    pair.client.consume(3);
    assert_eq!(received(&mut pair.client, &bytes[taken..]).unwrap(), b"second");
}

#[test]
fn who_has_not_the_key_gets_nowhere() {
    let mut pair = Pair { server: Server::new("web", &[0x22; 32]), ..Pair::new() };
    assert_eq!(pair.shake(usize::MAX), Err(Fault::Alert(51)));
    let mut pair = Pair { server: Server::new("other", &KEY), ..Pair::new() };
    assert_eq!(pair.shake(usize::MAX), Err(Fault::Alert(115)));
    // The other way round: a server that accepts any client, and has not the key.
    assert_eq!(misdeed(Misdeed::BadProof), Err(Fault::NotTheServer));
    assert_eq!(misdeed(Misdeed::NoKey), Err(Fault::KeyNotUsed));
    assert_eq!(misdeed(Misdeed::OtherKey), Err(Fault::KeyNotUsed));
}

#[test]
fn another_way_than_the_one_that_was_offered_is_refused() {
    assert_eq!(misdeed(Misdeed::Retry), Err(Fault::OtherGroup));
    assert_eq!(misdeed(Misdeed::OtherCipher), Err(Fault::Unexpected("cipher")));
    assert_eq!(misdeed(Misdeed::OldVersion), Err(Fault::Unexpected("version")));
    assert_eq!(misdeed(Misdeed::ZeroShare), Err(Fault::Unexpected("key share")));
    assert_eq!(misdeed(Misdeed::OddExtension), Err(Fault::Unexpected("extension")));
    let keys = Err(Fault::Unexpected("record where keys change"));
    assert_eq!(misdeed(Misdeed::Trailing), keys);
    assert_eq!(misdeed(Misdeed::TrailingPlain), keys);
}

#[test]
fn what_is_not_sealed_is_not_believed_once_there_are_keys() {
    for record in [
        &[TYPE_ALERT, 3, 3, 0, 2, 1, 0][..],
        &[TYPE_HANDSHAKE, 3, 3, 0, 5, 24, 0, 0, 1, 0],
        &[20, 3, 3, 0, 1, 1],
        // What made another implementation panic.
        &[&[TYPE_HANDSHAKE, 3, 3, 0, 36, 20, 0, 0, 32][..], &[0; 32]].concat(),
    ] {
        assert_eq!(Pair::open().client.take(record), Err(Fault::Forged), "{record:?}");
    }
    // And data do not come before there are any.
    let early = [&[TYPE_DATA, 3, 3, 0, 40][..], &[0; 40]].concat();
    assert_eq!(Pair::new().client.take(&early), Err(Fault::Unexpected("record")));
}

#[test]
fn lengths_are_judged_before_anything_is_kept() {
    for header in [[TYPE_DATA, 3, 3, 0x41, 1], [TYPE_HANDSHAKE, 3, 3, 0x40, 1], [TYPE_DATA, 3, 3, 0, 0]] {
        assert_eq!(Pair::open().client.take(&header), Err(Fault::Unexpected("length of a record")));
    }
    assert_eq!(Pair::open().client.take(&[TYPE_DATA, 2, 3, 0, 40]), Err(Fault::Unexpected("record")));
    let short = [&[TYPE_DATA, 3, 3, 0, 15][..], &[0; 15]].concat();
    assert_eq!(Pair::open().client.take(&short), Err(Fault::Unexpected("length of a record")));
    let mut pair = Pair::open();
    pair.server.send_record(TYPE_HANDSHAKE, &[4, 0xff, 0, 0]);
    assert_eq!(pair.received(), Err(Fault::Unexpected("length of a message")));
    let mut pair = Pair::open();
    pair.server.send_record(0, &[]);
    assert_eq!(pair.received(), Err(Fault::Unexpected("record without a type")));
    let mut pair = Pair::open();
    pair.server.send_record(TYPE_HANDSHAKE, &[]);
    assert_eq!(pair.received(), Err(Fault::Unexpected("empty record")));
}

#[test]
fn keys_change_when_the_server_wants_it() {
    let mut pair = Pair::open();
    pair.server.update(false);
    pair.server.send(b"one");
    assert_eq!(pair.received().unwrap(), b"one");
    let sealed = pair.client.seal(b"two").unwrap().to_vec();
    assert_eq!((pair.server.receive(&sealed), pair.server.updates), (b"two".to_vec(), 0));
    pair.server.update(true);
    pair.server.update(true);
    pair.server.send(b"three");
    assert_eq!(pair.received().unwrap(), b"three");
    // One answer to both, before more data.
    let sealed = pair.client.seal(b"four").unwrap().to_vec();
    assert_eq!(sealed.len(), UPDATE_BYTES + 4 + RECORD_OVERHEAD_BYTES);
    assert_eq!((pair.server.receive(&sealed), pair.server.updates), (b"four".to_vec(), 1));
    let sealed = pair.client.seal(b"five").unwrap().to_vec();
    assert_eq!((pair.server.receive(&sealed), pair.server.updates), (b"five".to_vec(), 1));
    pair.server.send_record(TYPE_HANDSHAKE, &[24, 0, 0, 1, 2]);
    assert_eq!(pair.received(), Err(Fault::Unexpected("key update")));
}

#[test]
fn tickets_are_passed_over_and_other_messages_are_not() {
    let mut pair = Pair::open();
    pair.server.ticket();
    pair.server.send(b"data");
    assert_eq!(pair.received().unwrap(), b"data");
    for message in [[20, 0, 0, 0], [8, 0, 0, 0], [2, 0, 0, 0], [13, 0, 0, 0]] {
        let mut pair = Pair::open();
        pair.server.send_record(TYPE_HANDSHAKE, &message);
        assert_eq!(pair.received(), Err(Fault::Unexpected("message")));
    }
    // A message that is cut must not have data between its parts.
    let mut pair = Pair::open();
    pair.server.send_record(TYPE_HANDSHAKE, &[4, 0, 0, 9]);
    pair.server.send(b"data");
    assert_eq!(pair.received(), Err(Fault::Unexpected("record")));
}

#[test]
fn a_server_that_sends_no_data_is_left() {
    let mut pair = Pair::open();
    for _ in 0..10 {
        // Each is followed by data.
        pair.server.ticket();
        pair.server.send(b"data");
    }
    assert_eq!(pair.received().unwrap().len(), 40);
    (0..100).for_each(|_| pair.server.update(false));
    assert_eq!(pair.received(), Err(Fault::NoData));
    let mut pair = Pair::open();
    (0..100).for_each(|_| pair.server.send_record(TYPE_DATA, &[]));
    assert_eq!(pair.received(), Err(Fault::NoData));
}

#[test]
fn ends_are_told_apart() {
    let mut pair = Pair::open();
    pair.server.send_record(TYPE_ALERT, &[1, 0]);
    assert_eq!(pair.received(), Err(Fault::Closed));
    let mut pair = Pair::open();
    pair.server.send_record(TYPE_ALERT, &[2, 20]);
    assert_eq!(pair.received(), Err(Fault::Alert(20)));
}

#[test]
fn no_two_hellos_are_alike() {
    let mut secrets = secrets();
    let mut seen = Vec::new();
    for _ in 0..3 {
        let mut pair = Pair { client: Session::new(&mut secrets).unwrap(), server: Server::new("web", &KEY) };
        pair.shake(usize::MAX).unwrap();
        seen.extend(pair.server.hello_randoms.chunks(32).map(<[u8]>::to_vec));
    }
    let count = seen.len();
    seen.sort();
    seen.dedup();
    assert_eq!((count, seen.len()), (6, 6));
}

#[test]
fn secrets_are_judged_and_never_shown() {
    let seed = "5a".repeat(32);
    let parse = |key: &str, identity: &str| Secrets::parse(&format!("{seed} {key} {identity}"));
    assert!(parse(&"ab".repeat(KEY_MIN_BYTES), "a b:c").is_some());
    for (key, identity) in [
        ("ab".repeat(KEY_MIN_BYTES - 1), "web"),
        ("ab".repeat(65), "web"),
        ("abc".repeat(11), "web"),
        ("xy".repeat(32), "web"),
        ("ab".repeat(32), ""),
    ] {
        assert!(parse(&key, identity).is_none(), "{key}");
    }
    assert!(parse(&"ab".repeat(32), &"i".repeat(129)).is_none());
    assert!(Secrets::parse(&format!("{} {} web", "5a".repeat(31), "11".repeat(32))).is_none());
    assert!(Secrets::parse("").is_none());
    let mut secrets = secrets();
    let shown = format!("{secrets:?} {:?}", Session::new(&mut secrets).unwrap());
    assert_eq!(shown, "Secrets(..) Session(..)");
}

proptest! {
    /// Whatever the network makes of the server's bytes, the client takes data that the server sent, or none.
    #[test]
    fn no_changed_byte_is_taken_for_data(at in 0usize..600, bit in 0u8..8, cut in 1usize..200) {
        let mut pair = Pair::new();
        let hello = pair.client.outgoing();
        pair.server.receive(hello.as_ref());
        let mut bytes = pair.server.output();
        // The third byte of a record that is not sealed is of no meaning.
        let hello_end = 5 + usize::from(u16::from_be_bytes([bytes[3], bytes[4]]));
        let harmless = [2, hello_end + 2].contains(&at) || at >= bytes.len();
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 1 << bit;
        }
        for part in bytes.chunks(cut) {
            if received(&mut pair.client, part).is_err() { break; }
        }
        prop_assert_eq!(pair.client.is_open(), harmless);
        if pair.client.is_open() {
            let said = pair.client.outgoing();
            pair.server.receive(said.as_ref());
            pair.server.send(&[0x77; 300]);
            let mut bytes = pair.server.output();
            // Of a record that is said to be longer there is nothing yet.
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            let got = received(&mut pair.client, &bytes);
            prop_assert!(got.is_err() || (got == Ok(Vec::new()) && (3..5).contains(&at)), "{got:?}");
        }
    }

    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..2000), open: bool, cut in 1usize..100) {
        let mut pair = if open { Pair::open() } else { Pair::new() };
        for part in bytes.chunks(cut) {
            match received(&mut pair.client, part) {
                Ok(data) => prop_assert!(data.is_empty()),
                Err(_) => break,
            }
        }
    }

    #[test]
    fn any_server_hello_is_survived(body in proptest::collection::vec(any::<u8>(), 0..200), real in 0usize..80) {
        let mut pair = Pair::new();
        let hello = pair.client.outgoing();
        pair.server.receive(hello.as_ref());
        let good = pair.server.output();
        let message = [&good[9..9 + real.min(80)], &body].concat();
        let len = u8::try_from(message.len() & 0xff).unwrap();
        let high = u8::try_from(message.len() >> 8).unwrap();
        let total = u16::try_from(message.len() + 4).unwrap().to_be_bytes();
        let record = [&[TYPE_HANDSHAKE, 3, 3][..], &total, &[2, 0, high, len], &message].concat();
        let _outcome = received(&mut pair.client, &record);
        prop_assert!(!pair.client.is_open());
    }
}

#[test]
fn what_is_told_names_the_remedy_s_place() {
    let told: Vec<String> = vec![Fault::Alert(51), Fault::Alert(115), Fault::KeyNotUsed, Fault::NotTheServer]
        .into_iter()
        .map(|fault| format!("{fault}"))
        .collect();
    assert!(told.iter().all(|line| line.contains("TLS") && !line.contains('\n')), "{told:?}");
}
