//! Servers that lose what was not flushed, with their connection or without.

use crate::common::{S_IOERR, S_OK, bytes, flush_request, read_request, write_request};
use crate::machine::{Machine, SECOND_NS, TIMEOUT_NS};
use crate::range_request;
use backend::testkit::BlkRequest;
use nbd::fake::{Faults, ServerConfig};
use nbd::wire::{CMD_FLUSH, CMD_READ, CMD_TRIM, CMD_WRITE, CMD_WRITE_ZEROES, FLAG_HAS_FLAGS, FLAG_SEND_TRIM};
use proptest::prelude::*;

/// Longer than any pause of ours, shorter than the timeout.
const A_WHILE_NS: u64 = 15 * SECOND_NS;

impl Machine {
    /// The server's host crashes, and is there again after a moment.
    fn crash_server(&self) {
        self.host().listen(false);
        self.server(|server| {
            server.lose_cache();
            server.log.clear();
            server.set_faults(Faults::default());
        });
        self.run_for(SECOND_NS / 2);
        self.host().listen(true);
    }

    fn kinds(&self) -> Vec<u16> {
        self.server(|server| server.log.clone())
    }

    fn good(&mut self, request: &BlkRequest) {
        assert_eq!(self.ask(request).status, S_OK);
    }
}

#[test]
fn completed_writes_are_done_again_when_the_server_has_lost_them() {
    let mut machine = Machine::ready(ServerConfig::default());
    machine.good(&write_request(0, &bytes(300 * 1024, 1)));
    machine.good(&write_request(8, &bytes(4096, 2)));
    machine.good(&range_request(13, 16, 8));
    machine.good(&range_request(11, 32, 8));
    let before = machine.server(|server| server.cached.clone());
    machine.crash_server();
    machine.run_for(A_WHILE_NS);
    let expected = [CMD_WRITE, CMD_WRITE, CMD_WRITE, CMD_WRITE, CMD_WRITE_ZEROES, CMD_TRIM];
    assert_eq!(machine.kinds(), expected, "in their order");
    machine.server(|server| assert!(server.cached == before && server.durable != before));
    machine.good(&flush_request());
    machine.server(|server| assert!(server.durable == before));
    // They are flushed now.
    machine.crash_server();
    machine.run_for(A_WHILE_NS);
    assert_eq!(machine.kinds(), []);
}

#[test]
fn what_was_flushed_is_not_done_again() {
    let mut machine = Machine::ready(ServerConfig::default());
    machine.good(&write_request(0, &bytes(512, 1)));
    machine.good(&flush_request());
    machine.good(&read_request(0, 512));
    machine.crash_server();
    machine.run_for(A_WHILE_NS);
    assert_eq!(machine.kinds(), []);
}

#[test]
fn a_failed_write_is_not_done_again() {
    let mut machine = Machine::ready(ServerConfig::default());
    machine.server(|server| server.set_faults(Faults { fail_every: Some(1), ..Faults::default() }));
    assert_eq!(machine.ask(&write_request(0, &bytes(512, 1))).status, S_IOERR);
    machine.crash_server();
    machine.run_for(A_WHILE_NS);
    assert_eq!(machine.kinds(), []);
}

#[test]
fn a_write_that_failed_by_the_timeout_is_not_done_again() {
    let mut machine = Machine::ready(ServerConfig::default());
    machine.server(|server| server.set_faults(Faults { keep: usize::MAX, ..Faults::default() }));
    machine.submit(&write_request(0, &bytes(512, 1)));
    machine.driver.kick();
    machine.run_for(SECOND_NS);
    machine.host().listen(false);
    machine.run_for(TIMEOUT_NS + SECOND_NS);
    assert_eq!(machine.answers().len(), 1);
    machine.server(|server| server.set_faults(Faults::default()));
    machine.host().listen(true);
    machine.run_for(A_WHILE_NS);
    machine.good(&write_request(8, &bytes(512, 2)));
    machine.crash_server();
    machine.run_for(A_WHILE_NS);
    assert_eq!(machine.kinds(), [CMD_WRITE]);
    machine.server(|server| assert!(server.cached[..512] == [0; 512]));
}

#[test]
fn a_flush_covers_what_was_completed_before_it() {
    let mut machine = Machine::ready(ServerConfig::default());
    machine.server(|server| server.set_faults(Faults { keep: usize::MAX, ..Faults::default() }));
    for request in [flush_request(), write_request(0, &bytes(512, 1))] {
        machine.submit(&request);
        machine.driver.kick();
        machine.run_for(SECOND_NS / 10);
    }
    // The write first.
    machine.server(nbd::fake::Server::release);
    machine.run_for(SECOND_NS);
    assert!(machine.answers().iter().all(|(_, answer)| answer.status == S_OK));
    machine.crash_server();
    machine.run_for(A_WHILE_NS);
    assert_eq!(machine.kinds(), [CMD_WRITE]);
}

#[test]
fn held_requests_wait_for_the_writes_before_them() {
    let mut machine = Machine::ready(ServerConfig::default());
    machine.good(&write_request(0, &bytes(512, 1)));
    machine.good(&write_request(0, &bytes(512, 2)));
    machine.server(|server| server.set_faults(Faults { keep: usize::MAX, ..Faults::default() }));
    let flush = machine.submit(&flush_request());
    let read = machine.submit(&read_request(0, 512));
    machine.driver.kick();
    machine.run_for(SECOND_NS / 2);
    machine.crash_server();
    // The first write is kept, so the others have to wait.
    machine.server(|server| server.set_faults(Faults { keep: usize::MAX, ..Faults::default() }));
    machine.run_for(A_WHILE_NS);
    assert_eq!(machine.kinds(), [CMD_WRITE]);
    machine.server(|server| {
        server.set_faults(Faults::default());
        server.release();
    });
    machine.run_for(SECOND_NS);
    assert_eq!(machine.kinds(), [CMD_WRITE, CMD_WRITE, CMD_READ, CMD_FLUSH]);
    let answers = machine.answers();
    assert_eq!(answers.len(), 2);
    for (head, answer) in answers {
        assert_eq!(answer.status, S_OK);
        assert!(head == flush || head == read && answer.data == bytes(512, 2));
    }
    machine.server(|server| assert!(server.durable[..512] == bytes(512, 2)));
}

#[test]
fn a_guest_that_does_not_flush_is_flushed_for() {
    let mut machine = Machine::ready(ServerConfig::default());
    for at in 0..64u8 {
        machine.good(&write_request(u64::from(at % 8) * 256, &bytes(128 * 1024, at)));
    }
    let flushes = machine.kinds().iter().filter(|kind| **kind == CMD_FLUSH).count();
    assert!((4..12).contains(&flushes), "{flushes} flushes for 8 MiB");
    let before = machine.server(|server| server.cached.clone());
    machine.crash_server();
    machine.run_for(A_WHILE_NS);
    assert!((1..=16).contains(&machine.kinds().len()));
    machine.server(|server| assert!(server.cached == before));
}

#[test]
fn many_writes_at_once_wait_for_a_flush() {
    let mut machine = Machine::ready(ServerConfig::default());
    let writes: Vec<_> =
        (0..48u8).map(|at| write_request(u64::from(at % 8) * 256, &bytes(128 * 1024, at))).collect();
    assert!(machine.all(&writes, 5 * SECOND_NS).iter().all(|answer| answer.status == S_OK));
    assert!(machine.kinds().contains(&CMD_FLUSH));
    let small: Vec<_> = (0..80).map(|at| write_request(at, &bytes(512, 1))).collect();
    for _ in 0..20 {
        assert!(machine.all(&small, SECOND_NS).iter().all(|answer| answer.status == S_OK));
    }
    machine.good(&flush_request());
}

#[test]
fn a_write_longer_than_what_is_kept_is_done() {
    let uncached = FLAG_HAS_FLAGS | FLAG_SEND_TRIM;
    for flags in [ServerConfig::default().flags, uncached] {
        let mut machine =
            Machine::ready(ServerConfig { size_bytes: 16 << 20, flags, ..ServerConfig::default() });
        for sector in [0, 9] {
            let data = bytes(5 << 20, 7);
            machine.good(&write_request(sector, &data));
            // What lies before it decides where its pieces lie.
            machine.good(&write_request(sector + 20_000, &bytes(1536, 3)));
            let first = usize::try_from(sector).unwrap() * 512;
            machine.server(|server| assert!(server.cached[first..first + data.len()] == data));
        }
        machine.crash_server();
        machine.run_for(A_WHILE_NS);
        machine.good(&read_request(0, 512));
    }
}

#[test]
fn a_flush_of_ours_that_fails_makes_the_next_one_of_the_guest_fail_once() {
    let mut machine = Machine::ready(ServerConfig::default());
    machine.server(|server| server.set_faults(Faults { fail_kind: Some(CMD_FLUSH), ..Faults::default() }));
    for at in 0..64u8 {
        machine.good(&write_request(u64::from(at % 8) * 256, &bytes(128 * 1024, at)));
    }
    machine.server(|server| server.set_faults(Faults::default()));
    machine.server(|server| server.log.clear());
    assert_eq!(machine.ask(&flush_request()).status, S_IOERR);
    assert_eq!(machine.kinds(), [], "nobody was asked");
    machine.good(&flush_request());
}

#[test]
fn writes_that_cannot_be_done_again_make_the_next_flush_fail_once() {
    // The server refuses them, or has a shorter disk.
    for is_shorter in [false, true] {
        let mut machine = Machine::ready(ServerConfig::default());
        machine.good(&write_request(2000, &bytes(4096, 1)));
        machine.good(&write_request(0, &bytes(4096, 1)));
        machine.crash_server();
        machine.server(|server| {
            if is_shorter {
                server.resize(512 * 1024);
            } else {
                server.set_faults(Faults { fail_kind: Some(CMD_WRITE), ..Faults::default() });
            }
        });
        machine.run_for(A_WHILE_NS);
        machine.server(|server| server.set_faults(Faults::default()));
        assert_eq!(machine.ask(&flush_request()).status, S_IOERR);
        machine.good(&write_request(0, &bytes(4096, 1)));
        machine.good(&flush_request());
    }
}

#[test]
fn kept_writes_are_done_again_in_parts_if_the_server_carries_less_at_once() {
    let mut machine = Machine::ready(ServerConfig::default());
    machine.good(&write_request(0, &bytes(300 * 1024, 1)));
    machine.good(&range_request(13, 16, 8));
    machine.good(&write_request(3, &bytes(9 * 1024, 2)));
    let before = machine.server(|server| server.cached.clone());
    machine.crash_server();
    machine.server(|server| {
        server.set_config(ServerConfig { block_size: Some((512, 512, 4096)), ..ServerConfig::default() });
    });
    machine.run_for(A_WHILE_NS);
    assert_eq!(machine.kinds().len(), 75 + 1 + 3);
    machine.server(|server| assert!(server.cached == before));
    machine.good(&flush_request());
    machine.server(|server| assert!(server.durable == before));
}

#[test]
fn a_flush_for_which_nobody_waits_any_more_tells_nobody_of_lost_writes() {
    let mut machine = Machine::ready(ServerConfig::default());
    let write = |at: u64| write_request(at % 8 * 256, &bytes(128 * 1024, 1));
    (0..8).for_each(|at| machine.good(&write(at)));
    let keep = Faults { keep: usize::MAX, fail_kind: Some(CMD_FLUSH), ..Faults::default() };
    machine.server(|server| server.set_faults(keep));
    machine.submit(&flush_request());
    // So much is under way that the engine needs room, for which it makes a flush of its own. That fails.
    for at in 8..17 {
        machine.submit(&write(at));
    }
    machine.driver.kick();
    machine.run_for(SECOND_NS / 10);
    assert_eq!(machine.kinds()[8..], [&[CMD_FLUSH][..], &[CMD_WRITE; 8], &[CMD_FLUSH]].concat());
    machine.driver.init(u64::MAX, 256);
    machine.server(nbd::fake::Server::release_last);
    machine.run_for(SECOND_NS / 10);
    machine.server(|server| {
        server.set_faults(Faults::default());
        server.release();
    });
    machine.run_for(SECOND_NS);
    assert_eq!(machine.ask(&flush_request()).status, S_IOERR);
    machine.good(&flush_request());
}

#[test]
fn a_flush_that_is_held_tells_only_of_writes_before_it() {
    let mut machine = Machine::ready(ServerConfig::default());
    machine.good(&write_request(0, &bytes(512, 1)));
    machine.server(|server| server.set_faults(Faults { keep: usize::MAX, ..Faults::default() }));
    for request in [flush_request(), write_request(8, &bytes(512, 1))] {
        machine.submit(&request);
        machine.driver.kick();
        machine.run_for(SECOND_NS / 10);
    }
    // The write is answered, and the flush is not.
    machine.server(nbd::fake::Server::release_last);
    machine.run_for(SECOND_NS);
    machine.crash_server();
    machine.server(|server| server.set_faults(Faults { fail_kind: Some(CMD_WRITE), ..Faults::default() }));
    machine.run_for(A_WHILE_NS);
    let statuses: Vec<_> = machine.answers().iter().map(|(_, answer)| answer.status).collect();
    assert_eq!(statuses, [S_OK, S_IOERR]);
    machine.server(|server| server.set_faults(Faults::default()));
    assert_eq!(machine.ask(&flush_request()).status, S_IOERR, "the second write came after that flush");
    machine.good(&flush_request());
}

#[test]
fn a_flush_that_is_held_tells_of_writes_that_cannot_be_done_again() {
    let mut machine = Machine::ready(ServerConfig::default());
    machine.good(&write_request(0, &bytes(512, 1)));
    machine.server(|server| server.set_faults(Faults { keep: usize::MAX, ..Faults::default() }));
    let flush = machine.submit(&flush_request());
    machine.driver.kick();
    machine.run_for(SECOND_NS / 2);
    machine.crash_server();
    machine.server(|server| server.set_faults(Faults { fail_kind: Some(CMD_WRITE), ..Faults::default() }));
    machine.run_for(A_WHILE_NS);
    let statuses: Vec<_> = machine.answers().iter().map(|(head, answer)| (*head, answer.status)).collect();
    assert_eq!(statuses, [(flush, S_IOERR)]);
    machine.server(|server| server.set_faults(Faults::default()));
    machine.good(&flush_request());
}

#[test]
fn a_connection_that_breaks_while_writes_are_done_again_is_followed_by_another() {
    let mut machine = Machine::ready(ServerConfig::default());
    for at in 0..8u8 {
        machine.good(&write_request(u64::from(at) * 8, &bytes(4096, at)));
    }
    let before = machine.server(|server| server.cached.clone());
    for _ in 0..3 {
        machine.crash_server();
        machine.server(|server| server.set_faults(Faults { keep: usize::MAX, ..Faults::default() }));
        machine.run_for(2 * SECOND_NS);
    }
    machine.crash_server();
    machine.run_for(A_WHILE_NS);
    machine.good(&flush_request());
    machine.server(|server| assert!(server.durable == before));
}

#[derive(Clone, Debug)]
enum Act {
    Write(u8, u8),
    Zero(u8),
    Flush,
    Crash,
    /// Requests are kept, and then the connection ends with all that was not flushed.
    CrashUnderLoad(Vec<(u8, u8)>),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => (0u8..16, 1u8..40).prop_map(|(place, blocks)| Act::Write(place, blocks)),
        1 => (0u8..16).prop_map(Act::Zero),
        2 => Just(Act::Flush),
        2 => Just(Act::Crash),
        2 => prop::collection::vec((0u8..16, 1u8..40), 1..6).prop_map(Act::CrashUnderLoad),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whenever the server crashes: what the guest was told to be written is there, and is durable after a flush.
    #[test]
    fn a_server_that_crashes_costs_only_time(acts in prop::collection::vec(act(), 1..40)) {
        let mut machine = Machine::ready(ServerConfig::default());
        let mut model = vec![0u8; 1 << 20];
        let mut seed = 0u8;
        let mut put = |model: &mut Vec<u8>, place: u8, blocks: u8| {
            seed = seed.wrapping_add(1);
            let (at, data) = (usize::from(place) * 60_416, bytes(usize::from(blocks) * 1024, seed));
            model[at..at + data.len()].copy_from_slice(&data);
            write_request(at as u64 / 512, &data)
        };
        for act in acts {
            match act {
                Act::Write(place, blocks) => {
                    let request = put(&mut model, place, blocks);
                    machine.good(&request);
                }
                Act::Zero(place) => {
                    let at = usize::from(place) * 60_416;
                    model[at..at + 4096].fill(0);
                    machine.good(&range_request(13, at as u64 / 512, 8));
                }
                Act::Flush => {
                    machine.good(&flush_request());
                    machine.server(|server| assert!(server.durable == model));
                }
                Act::Crash => {
                    machine.crash_server();
                    machine.run_for(A_WHILE_NS);
                }
                Act::CrashUnderLoad(writes) => {
                    let mut places = std::collections::BTreeSet::new();
                    machine.server(|server| server.set_faults(Faults { keep: 3, ..Faults::default() }));
                    for (place, blocks) in writes.into_iter().filter(|(place, _)| places.insert(*place)) {
                        let request = put(&mut model, place, blocks);
                        machine.submit(&request);
                    }
                    machine.driver.kick();
                    machine.run_for(SECOND_NS / 100);
                    machine.crash_server();
                    machine.run_for(A_WHILE_NS);
                    prop_assert!(machine.answers().iter().all(|(_, answer)| answer.status == S_OK));
                    prop_assert_eq!(machine.driver.in_flight(), 0);
                }
            }
            let is_there = machine.server(|server| server.cached == model);
            prop_assert!(is_there);
        }
        machine.good(&flush_request());
        machine.server(|server| assert!(server.durable == model));
    }
}
