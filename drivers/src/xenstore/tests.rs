//! The client against a fake xenstored.

use super::*;
use crate::fake::XenStored;
use crate::fake::tree::Tree;
use alloc::format;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;
use kernel::fake::FakeXen;
use kernel::{DomId, Hypervisor};
use proptest::prelude::*;
use xen_pv_sys::io::xs_wire::{XS_READ, XsdSockmsg};
use zerocopy::IntoBytes;

fn start() -> (FakeXen, XenStored, Xenstore<FakeXen>) {
    let xen = FakeXen::new(DomId(5));
    let stored = XenStored::start(&xen);
    let store = Xenstore::new(&xen).unwrap();
    (xen, stored, store)
}

#[test]
fn nodes_are_written_read_listed_and_removed() {
    let (_xen, stored, mut store) = start();
    store.write("data/pilotfish/state", b"serving").unwrap();
    assert_eq!(stored.read("/local/domain/5/data/pilotfish/state").as_deref(), Some("serving"));
    assert_eq!(store.read_string("data/pilotfish/state").as_deref(), Ok("serving"));
    store.mkdir("data/other").unwrap();
    assert_eq!(store.directory("data"), Ok(vec!["other".to_string(), "pilotfish".to_string()]));
    assert_eq!(store.directory("data/other"), Ok(vec![]));
    store.rm("data/pilotfish").unwrap();
    assert!(store.read("data/pilotfish/state").unwrap_err().is_not_found());
}

#[test]
fn numbers_are_digits_and_nothing_else() {
    let (_xen, stored, mut store) = start();
    for (text, number) in
        [("51712", Some(51712)), ("+1", None), ("-1", None), ("", None), ("1 ", None), ("0x1", None)]
    {
        stored.write("/n", text);
        assert_eq!(store.read_number("/n").ok(), number, "{text:?}");
    }
    stored.write("/n", "18446744073709551616");
    assert_eq!(store.read_number("/n"), Err(StoreError::Refused(Errno::EINVAL)));
}

#[test]
fn values_longer_than_the_ring_pass_in_pieces() {
    let (_xen, stored, mut store) = start();
    for chunk_bytes in [1, 3, 100, 1024] {
        stored.knobs(|knobs| knobs.chunk_bytes = chunk_bytes);
        let value: Vec<u8> = (0..3000u32).map(|index| u8::try_from(index % 251).unwrap()).collect();
        // The fake machine runs a peer at most 100 times per wait; several waits follow.
        store.write("/big", &value).unwrap();
        assert_eq!(store.read("/big").as_deref(), Ok(value.as_slice()));
    }
}

#[test]
fn what_cannot_be_sent_is_refused_here() {
    let (_xen, _stored, mut store) = start();
    assert_eq!(store.write("/n", &[0; 4095]), Err(StoreError::Refused(Errno::E2BIG)));
    assert_eq!(store.write("/n\0x", b""), Err(StoreError::Refused(Errno::EINVAL)));
    assert_eq!(store.watch("/n", "a\0b"), Err(StoreError::Refused(Errno::EINVAL)));
    store.write("/n", b"still works").unwrap();
}

#[test]
fn a_quota_is_an_error_of_the_request_only() {
    let (_xen, stored, mut store) = start();
    stored.knobs(|knobs| knobs.quota_nodes = 0);
    assert_eq!(store.write("/n", b""), Err(StoreError::Refused(Errno::ENOSPC)));
    stored.knobs(|knobs| knobs.quota_nodes = 10);
    assert_eq!(store.write("/n", b""), Ok(()));
}

#[test]
fn watches_fire_for_the_node_and_below() {
    let (xen, stored, mut store) = start();
    store.watch("/w", "token").unwrap();
    assert_eq!(store.watch("/w", "token"), Err(StoreError::Refused(Errno::EEXIST)));
    assert!(store.poll_events().unwrap(), "the first event comes at once");
    assert_eq!(store.next_event(), Some(WatchEvent { path: "/w".into(), token: "token".into() }));
    stored.write("/w/below", "1");
    stored.write("/elsewhere", "1");
    xen.run_peers(10);
    assert!(store.poll_events().unwrap());
    assert_eq!(store.next_event(), Some(WatchEvent { path: "/w/below".into(), token: "token".into() }));
    assert_eq!(store.next_event(), None);
    store.unwatch("/w", "token").unwrap();
    stored.write("/w", "2");
    xen.run_peers(10);
    assert!(!store.poll_events().unwrap());
}

#[test]
fn events_that_come_during_a_request_are_kept() {
    let (_xen, stored, mut store) = start();
    store.watch("/w", "a").unwrap();
    store.watch("/v", "b").unwrap();
    stored.write("/w", "1");
    stored.write("/n", "7");
    assert_eq!(store.read_number("/n"), Ok(7));
    let tokens: Vec<_> = core::iter::from_fn(|| store.next_event()).map(|event| event.token).collect();
    assert_eq!(tokens, ["a", "b"]);
}

#[test]
fn waiting_for_one_watch_leaves_the_others_alone() {
    let (xen, stored, mut store) = start();
    store.watch("/w", "a").unwrap();
    store.watch("/v", "b").unwrap();
    let deadline_ns = xen.now_ns() + 1000;
    assert_eq!(store.wait_event("b", deadline_ns).unwrap().unwrap().path, "/v");
    assert_eq!(store.wait_event("b", deadline_ns), Ok(None));
    assert!(xen.now_ns() >= deadline_ns);
    assert_eq!(store.next_event().unwrap().path, "/w");
    stored.write("/w", "1");
    assert_eq!(store.wait_event("a", xen.now_ns() + 1000).unwrap().unwrap().path, "/w");
}

#[test]
fn a_storm_of_events_is_bounded_and_admitted() {
    let (xen, stored, mut store) = start();
    store.watch("/w", "a").unwrap();
    for round in 0..10 {
        for node in 0..20 {
            stored.write(&format!("/w/{}", round * 20 + node), "1");
        }
        xen.run_peers(50);
        store.poll_events().unwrap();
    }
    assert!(store.take_events_lost());
    assert_eq!(core::iter::from_fn(|| store.next_event()).count(), events::MAX_EVENTS);
}

#[test]
fn each_answer_of_a_batch_stands_in_its_place() {
    let (_xen, stored, mut store) = start();
    for chunk_bytes in [7, 1024] {
        stored.knobs(|knobs| knobs.chunk_bytes = chunk_bytes);
        // More than the ring holds, and than are asked at once.
        let value = |node: u32| format!("{node}").repeat(20);
        store.write_all((0..40).map(|node| (format!("/b/{node}"), value(node))).collect()).unwrap();
        let paths = (0..42).map(|node| format!("/b/{node}")).collect();
        let answers = store.read_all(paths).unwrap();
        for (node, answer) in (0u32..).zip(&answers) {
            let expected = if node < 40 {
                Ok(value(node).into_bytes())
            } else {
                Err(StoreError::Refused(Errno::ENOENT))
            };
            assert_eq!(*answer, expected, "{node}");
        }
        assert_eq!(answers.len(), 42);
    }
    let asks = [
        Ask::Watch("/w".into(), "t".into()),
        Ask::Read("/b\0".into()),
        Ask::Rm("/b/1".into()),
        Ask::Read("/b/2".into()),
    ];
    let answers = store.batch(&asks).unwrap();
    assert!(answers[0].is_ok() && answers[2].is_ok() && answers[3].is_ok());
    assert_eq!(answers[1], Err(StoreError::Refused(Errno::EINVAL)));
    assert_eq!((stored.read("/b/1"), stored.watches().len()), (None, 1));
}

#[test]
fn a_batch_without_answers_ends_at_one_deadline() {
    let (xen, stored, mut store) = start();
    stored.knobs(|knobs| knobs.silent = true);
    store.set_request_timeout_ns(5_000);
    let answers = store.read_all((0..5).map(|node| format!("/n/{node}")).collect()).unwrap();
    assert_eq!(answers, [const { Err(StoreError::TimedOut) }; 5]);
    assert_eq!(xen.now_ns(), 5_000);
    stored.knobs(|knobs| knobs.silent = false);
    stored.write("/n", "7");
    assert_eq!(store.read_number("/n"), Ok(7));
}

#[test]
fn a_transaction_is_tried_again_after_a_collision() {
    let (_xen, stored, mut store) = start();
    stored.knobs(|knobs| knobs.collisions = 3);
    let mut tries = 0;
    let done = store.transaction(|tx| {
        tries += 1;
        tx.write("a", b"1")?;
        tx.rm("never/was")?;
        tx.write("b", b"2")
    });
    assert_eq!((done, tries), (Ok(()), 4));
    assert_eq!(stored.read("/local/domain/5/b").as_deref(), Some("2"));
}

#[test]
fn a_failed_transaction_leaves_nothing() {
    let (_xen, stored, mut store) = start();
    let done: Result<(), _> = store.transaction(|tx| {
        tx.write("a", b"1")?;
        tx.read("missing").map(drop)
    });
    assert!(done.unwrap_err().is_not_found());
    assert_eq!(stored.read("/local/domain/5/a"), None);
    stored.knobs(|knobs| knobs.collisions = u32::MAX);
    let done = store.transaction(|tx| tx.write("a", b"1"));
    assert_eq!(done, Err(StoreError::Refused(Errno::EAGAIN)));
}

#[test]
fn silence_ends_with_the_deadline_and_a_late_answer_is_dropped() {
    let (xen, stored, mut store) = start();
    stored.write("/n", "7");
    stored.knobs(|knobs| knobs.silent = true);
    store.set_request_timeout_ns(5_000);
    let before_ns = xen.now_ns();
    assert_eq!(store.read("/n"), Err(StoreError::TimedOut));
    assert_eq!(xen.now_ns() - before_ns, 5_000);
    stored.knobs(|knobs| knobs.silent = false);
    // The answer to the request that was given up (the first, so id 1).
    let late = XsdSockmsg { msg_type: XS_READ, req_id: 1, tx_id: 0, len: 1 };
    stored.inject(late.as_bytes());
    stored.inject(b"x");
    assert_eq!(store.read_number("/n"), Ok(7));
}

#[test]
fn half_a_request_cannot_be_taken_back() {
    let (xen, stored, mut store) = start();
    stored.knobs(|knobs| knobs.chunk_bytes = 0);
    store.set_request_timeout_ns(5_000);
    assert_eq!(store.write("/n", &[0; 3000]), Err(StoreError::TimedOut));
    assert_eq!(xen.now_ns(), 5_000);
    assert_eq!(store.write("/n", b"1"), Err(StoreError::Fault(StoreFault::Stalled)));
}

#[test]
fn requests_given_up_are_remembered_but_not_without_end() {
    let (_xen, stored, mut store) = start();
    stored.knobs(|knobs| knobs.silent = true);
    store.set_request_timeout_ns(1);
    let errors: Vec<_> = (0..42).map(|_| store.read("/n").unwrap_err()).collect();
    assert_eq!(errors[..41], [StoreError::TimedOut; 41]);
    assert_eq!(errors[41], StoreError::Fault(StoreFault::Stalled));
}

#[test]
fn a_broken_rule_ends_the_connection_for_good() {
    type Case = (fn(&XenStored), fn(StoreFault) -> bool);
    let cases: [Case; 6] = [
        (
            |stored| stored.knobs(|knobs| knobs.req_id_skew = 9),
            |fault| matches!(fault, StoreFault::UnknownRequest(_)),
        ),
        (
            |stored| stored.knobs(|knobs| knobs.claimed_len = Some(4097)),
            |fault| fault == StoreFault::PayloadTooLong(4097),
        ),
        (
            |stored| stored.knobs(|knobs| knobs.rsp_prod_jump = 1025),
            |fault| matches!(fault, StoreFault::RingOverrun(_)),
        ),
        (
            |stored| stored.knobs(|knobs| knobs.rsp_prod_jump = 100u32.wrapping_neg()),
            |fault| matches!(fault, StoreFault::RingOverrun(_)),
        ),
        (
            |stored| {
                let event = XsdSockmsg { msg_type: 15, req_id: 0, tx_id: 0, len: 1 };
                stored.inject(event.as_bytes());
                stored.inject(b"x");
            },
            |fault| fault == StoreFault::Malformed,
        ),
        (
            |stored| {
                // Our next request's id, but another type than we asked.
                let answer = XsdSockmsg { msg_type: 99, req_id: 1, tx_id: 0, len: 0 };
                stored.inject(answer.as_bytes());
            },
            |fault| fault == StoreFault::WrongType(99),
        ),
    ];
    for (number, (break_rule, expected)) in cases.into_iter().enumerate() {
        let (_xen, stored, mut store) = start();
        stored.write("/n", "7");
        break_rule(&stored);
        let Err(StoreError::Fault(fault)) = store.read("/n") else { panic!("case {number} passed") };
        assert!(expected(fault), "case {number}: {fault:?}");
        assert_eq!(store.read("/n"), Err(StoreError::Fault(fault)));
        assert_eq!(store.poll_events(), Err(StoreError::Fault(fault)));
    }
}

#[test]
fn without_a_ring_there_is_no_connection() {
    let xen = FakeXen::new(DomId(5));
    assert_eq!(Xenstore::new(&xen).err(), Some(StoreError::Xen(Errno::EINVAL)));
}

#[derive(Clone, Debug)]
enum Action {
    Write(u8, Vec<u8>),
    Rm(u8),
    Read(u8),
}

fn path(node: u8) -> alloc::string::String {
    format!("/t/{}/{}", node % 3, node % 5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// With messages cut anywhere, what the client reads is what a plain tree says.
    #[test]
    fn the_client_agrees_with_the_tree(
        chunk_bytes in 8usize..200,
        actions in prop::collection::vec(prop_oneof![
            (any::<u8>(), prop::collection::vec(any::<u8>(), 0..100)).prop_map(|(node, value)| Action::Write(node, value)),
            any::<u8>().prop_map(Action::Rm),
            any::<u8>().prop_map(Action::Read),
        ], 1..40),
    ) {
        let (_xen, stored, mut store) = start();
        stored.knobs(|knobs| knobs.chunk_bytes = chunk_bytes);
        let mut model = Tree::default();
        for action in actions {
            match action {
                Action::Write(node, value) => {
                    prop_assert_eq!(store.write(&path(node), &value), Ok(()));
                    model.write(&path(node), &value, usize::MAX).unwrap();
                }
                Action::Rm(node) => {
                    let expected = model.rm(&path(node)).map_err(StoreError::Refused);
                    prop_assert_eq!(store.rm(&path(node)), expected);
                }
                Action::Read(node) => {
                    let expected = model.read(&path(node)).map(<[u8]>::to_vec).map_err(StoreError::Refused);
                    prop_assert_eq!(store.read(&path(node)), expected);
                }
            }
        }
    }
}
