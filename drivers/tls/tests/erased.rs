//! No memory that is given back has a key in it: not the words that the stub is given, not the key, not the generator.

use kernel::fake::CountedHeap;
use tls::fake::Server;
use tls::{Secrets, Session};

/// Looks into blocks as they are freed.
#[global_allocator]
static HEAP: CountedHeap = CountedHeap;

const KEY: [u8; 32] = *b"a key that nobody else may know!";
const SEED: [u8; 32] = *b"a seed which nobody else has now";
/// Parts of key and seed, as bytes and as digits: an allocator may write its own at a block's ends.
const TRACES: &[&[u8]] = &[b"nobody else may", b"which nobody", b"6e6f626f647920656c7365"];

fn words() -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("{} {} web", hex(&SEED), hex(&KEY))
}

#[test]
fn what_has_a_key_is_found() {
    CountedHeap::seek_in_freed(TRACES);
    drop(words());
    drop(KEY.to_vec());
    drop(vec![0_u8; 64]);
    assert!(CountedHeap::found_in_freed() >= 2, "the search finds nothing");
    drop(words());
    assert_eq!(CountedHeap::found_in_freed(), 0, "it goes on after its end");
}

#[test]
fn the_words_are_erased_whatever_they_are() {
    let (good, short) = (words(), words().replace(" web", ""));
    CountedHeap::seek_in_freed(TRACES);
    let taken = Secrets::take(good);
    let refused = Secrets::take(short);
    assert_eq!(CountedHeap::found_in_freed(), 0);
    assert_eq!((taken.is_some(), refused.is_none()), (true, true));
}

#[test]
fn nothing_is_left_of_a_connection_and_of_its_key() {
    let mut server = Server::new("web", &KEY);
    // In blocks of their own, so that what is inside them is searched too.
    let mut secrets = Box::new(Secrets::take(words()).unwrap());
    CountedHeap::seek_in_freed(TRACES);
    let mut session = Box::new(Session::new(&mut secrets).unwrap());
    let hello = session.outgoing();
    assert_eq!(CountedHeap::found_in_freed(), 0);
    server.receive(hello.as_ref());
    let answer = server.output();
    CountedHeap::seek_in_freed(TRACES);
    let mut rest = answer.as_slice();
    while !rest.is_empty() {
        let taken = session.take(rest).unwrap();
        rest = &rest[taken..];
    }
    assert!(session.is_open());
    drop(session);
    drop(secrets);
    assert_eq!(CountedHeap::found_in_freed(), 0);
}
