//! Connections are lost and come back.

use crate::common::{S_IOERR, S_OK, bytes, flush_request, read_request, write_request};
use crate::machine::{Machine, SECOND_NS, TIMEOUT_NS, options};
use backend::storage::NbdOptions;
use nbd::fake::{Faults, Misdeed, ServerConfig};
use nbd::wire::{
    CMD_FLUSH, CMD_READ, CMD_WRITE, FLAG_HAS_FLAGS, FLAG_READ_ONLY, FLAG_SEND_FLUSH, FLAG_SEND_TRIM,
    FLAG_SEND_WRITE_ZEROES,
};
use net::fake::Faults as NetFaults;

/// A server without a write cache.
fn uncached() -> ServerConfig {
    ServerConfig { flags: FLAG_HAS_FLAGS, ..ServerConfig::default() }
}

/// Longer than any pause of ours, shorter than the timeout.
const A_WHILE_NS: u64 = 15 * SECOND_NS;

impl Machine {
    fn statuses(&mut self) -> Vec<(u16, u8)> {
        self.answers().into_iter().map(|(head, answer)| (head, answer.status)).collect()
    }

    /// The server takes requests and answers none.
    fn keep(&self) {
        self.server(|server| server.set_faults(Faults { keep: usize::MAX, ..Faults::default() }));
    }

    fn restart_server(&self) {
        self.host().listen(false);
        self.server(|server| server.set_faults(Faults::default()));
        self.run_for(SECOND_NS);
        self.host().listen(true);
    }
}

/// What ends a connection.
#[derive(Clone, Copy, Debug)]
enum Way {
    Refused,
    Closed,
    Cut,
    Netback,
    Misdeed(Misdeed),
}

const WAYS: [Way; 8] = [
    Way::Refused,
    Way::Closed,
    Way::Cut,
    Way::Netback,
    Way::Misdeed(Misdeed::BogusCookie),
    Way::Misdeed(Misdeed::BadMagic),
    Way::Misdeed(Misdeed::Duplicate),
    Way::Misdeed(Misdeed::Shutdown),
];

fn leave_and_return(machine: &Machine, way: Way) {
    let host = machine.host();
    match way {
        Way::Refused => return machine.restart_server(),
        Way::Closed => host.close(),
        Way::Cut => {
            host.set_faults(NetFaults { is_cut: true, ..NetFaults::default() });
            // Longer than TCP waits.
            machine.run_for(20 * SECOND_NS);
            host.listen(true);
            host.set_faults(NetFaults::default());
        }
        Way::Netback => {
            let back = machine.world.borrow().back.clone();
            back.unbind();
            back.set_node("state", "5");
            machine.run_for(20 * SECOND_NS);
            host.listen(true);
            back.bind();
            back.set_node("state", "6");
        }
        Way::Misdeed(misdeed) => machine.server(|server| {
            server.set_faults(Faults { misdeed_at: Some((server.replies(), misdeed)), ..Faults::default() });
            server.release();
        }),
    }
    machine.server(|server| server.set_faults(Faults::default()));
}

#[test]
fn requests_outlive_every_way_in_which_a_connection_ends() {
    for way in WAYS {
        let mut machine = Machine::ready(uncached());
        machine.server(|server| server.cached[..512].fill(0x5a));
        machine.keep();
        let data = bytes(300 * 1024, 0x21);
        let write = machine.submit(&write_request(64, &data));
        let read = machine.submit(&read_request(0, 512));
        machine.driver.kick();
        machine.run_for(SECOND_NS / 2);
        assert_eq!(machine.answers(), [], "{way:?}");
        leave_and_return(&machine, way);
        let later = machine.submit(&write_request(4, &bytes(512, 0x44)));
        machine.driver.kick();
        machine.run_for(A_WHILE_NS);
        let answers = machine.answers();
        assert_eq!(answers.len(), 3, "{way:?}");
        assert!(answers.iter().all(|(_, answer)| answer.status == S_OK), "{way:?}");
        let heads: Vec<u16> = answers.iter().map(|(head, _)| *head).collect();
        assert!(heads.contains(&write) && heads.contains(&later));
        let (_, answer) = answers.iter().find(|(head, _)| *head == read).expect("the read");
        assert!(answer.data == vec![0x5a; 512], "{way:?}");
        machine.server(|server| {
            assert!(server.cached[64 * 512..][..data.len()] == data);
            assert!(server.cached[4 * 512..][..512] == bytes(512, 0x44));
        });
        assert_eq!(machine.host().connections(), 2, "{way:?}");
        assert_eq!(machine.ask(&flush_request()).status, 2, "no cache, nothing lost");
    }
}

#[test]
fn requests_are_submitted_again_in_their_order_and_flushes_last() {
    let mut machine = Machine::ready(ServerConfig::default());
    machine.keep();
    machine.submit(&flush_request());
    machine.submit(&write_request(0, &bytes(512, 1)));
    machine.submit(&read_request(8, 512));
    machine.driver.kick();
    machine.run_for(SECOND_NS / 2);
    machine.server(|server| {
        assert_eq!(server.log, [CMD_FLUSH, CMD_WRITE, CMD_READ]);
        server.log.clear();
    });
    machine.host().listen(false);
    machine.run_for(SECOND_NS);
    machine.submit(&write_request(0, &bytes(512, 2)));
    machine.driver.kick();
    machine.run_for(SECOND_NS / 10);
    machine.server(|server| server.set_faults(Faults::default()));
    machine.host().listen(true);
    machine.run_for(A_WHILE_NS);
    assert!(machine.statuses().iter().all(|(_, status)| *status == S_OK));
    machine.server(|server| {
        assert_eq!(server.log, [CMD_WRITE, CMD_READ, CMD_FLUSH, CMD_WRITE]);
        assert!(server.cached[..512] == bytes(512, 2));
    });
}

#[test]
fn a_silent_server_fails_requests_after_the_timeout_until_it_is_back() {
    let mut machine = Machine::ready(uncached());
    machine.keep();
    let head = machine.submit(&write_request(0, &bytes(512, 1)));
    machine.driver.kick();
    machine.run_for(TIMEOUT_NS - SECOND_NS);
    assert_eq!(machine.answers(), [], "the connection stands");
    assert_eq!(machine.host().connections(), 1);
    machine.host().listen(false);
    machine.run_for(2 * SECOND_NS);
    assert_eq!(machine.statuses(), [(head, S_IOERR)]);
    assert_eq!(machine.ask(&read_request(0, 512)).status, S_IOERR, "at once");
    machine.server(|server| server.set_faults(Faults::default()));
    machine.host().listen(true);
    machine.run_for(A_WHILE_NS);
    assert_eq!(machine.ask(&read_request(0, 512)).status, S_OK);
}

#[test]
fn without_a_timeout_requests_wait() {
    let mut machine = Machine::new(uncached(), NbdOptions { timeout_ns: None, ..options() });
    machine.driver.init(u64::MAX, 64);
    machine.host().listen(false);
    let head = machine.submit(&write_request(0, &bytes(512, 1)));
    machine.driver.kick();
    machine.run_for(10 * TIMEOUT_NS);
    assert_eq!(machine.answers(), []);
    machine.host().listen(true);
    machine.run_for(A_WHILE_NS);
    assert_eq!(machine.statuses(), [(head, S_OK)]);
}

#[test]
fn a_slow_server_is_not_a_silent_one() {
    let mut machine = Machine::ready(uncached());
    machine.keep();
    let heads: Vec<u16> = (0..4).map(|at| machine.submit(&read_request(at * 8, 512))).collect();
    machine.driver.kick();
    let mut done = Vec::new();
    for _ in 0..4 {
        machine.run_for(TIMEOUT_NS - 5 * SECOND_NS);
        machine.server(nbd::fake::Server::release_one);
        machine.run_for(SECOND_NS);
        done.extend(machine.statuses());
    }
    done.sort_unstable();
    let mut expected: Vec<_> = heads.iter().map(|head| (*head, S_OK)).collect();
    expected.sort_unstable();
    assert_eq!(done, expected);
}

#[test]
fn an_unreachable_server_is_tried_after_pauses_that_grow() {
    let machine = Machine::ready(uncached());
    machine.host().listen(false);
    let before = machine.host().frames();
    machine.run_for(120 * SECOND_NS);
    let frames = machine.host().frames() - before;
    // 0, 0.1, 0.2, 0.4, 0.8 to 10 s: about 18 attempts of two frames each.
    assert!((30..80).contains(&frames), "{frames} frames");
}

#[test]
fn a_server_that_ends_each_connection_at_once_is_tried_after_pauses_that_grow() {
    let mut machine = Machine::ready(uncached());
    machine.submit(&read_request(0, 512));
    machine.driver.kick();
    for _ in 0..6000 {
        machine.host().close();
        machine.run_for(SECOND_NS / 50);
    }
    let connections = machine.host().connections();
    assert!((10..25).contains(&connections), "{connections} connections");
}

#[test]
fn another_length_is_told_to_the_guest() {
    for sectors in [4096u64, 1024] {
        let mut machine = Machine::ready(uncached());
        machine.host().listen(false);
        machine.server(|server| server.resize(sectors * 512));
        machine.run_for(SECOND_NS);
        machine.host().listen(true);
        machine.run_for(A_WHILE_NS);
        assert_eq!(machine.driver.capacity(), sectors);
        let last = machine.ask(&read_request(sectors - 1, 512)).status;
        let beyond = machine.ask(&read_request(sectors, 512)).status;
        assert_eq!((last, beyond), (S_OK, S_IOERR));
    }
}

#[test]
fn another_disk_is_refused_until_the_right_one_is_back() {
    let flags = FLAG_HAS_FLAGS | FLAG_SEND_FLUSH | FLAG_SEND_TRIM | FLAG_SEND_WRITE_ZEROES;
    let told = ServerConfig { flags, ..ServerConfig::default() };
    let others = [
        ServerConfig { block_size: Some((4096, 4096, 1 << 20)), ..told.clone() },
        ServerConfig { flags: flags | FLAG_READ_ONLY, ..told.clone() },
        ServerConfig { flags: flags & !FLAG_SEND_FLUSH, ..told.clone() },
        ServerConfig { flags: flags & !FLAG_SEND_TRIM, ..told.clone() },
        ServerConfig { flags: flags & !FLAG_SEND_WRITE_ZEROES, ..told.clone() },
    ];
    for (at, other) in others.into_iter().enumerate() {
        let mut machine = Machine::ready(told.clone());
        machine.host().listen(false);
        machine.server(|server| server.set_config(other));
        machine.run_for(SECOND_NS);
        machine.host().listen(true);
        machine.run_for(A_WHILE_NS);
        assert_eq!(machine.ask(&read_request(0, 4096)).status, S_IOERR, "{at}");
        machine.server(|server| assert_eq!(server.log, [], "{at}"));
        machine.server(|server| server.set_config(told.clone()));
        machine.run_for(40 * SECOND_NS);
        assert_eq!(machine.ask(&read_request(0, 4096)).status, S_OK, "{at}");
    }
    // One that gets a cache, of which the guest knows nothing.
    let mut machine = Machine::ready(uncached());
    machine.host().listen(false);
    machine.server(|server| server.set_config(told));
    machine.run_for(SECOND_NS);
    machine.host().listen(true);
    machine.run_for(A_WHILE_NS);
    assert_eq!(machine.ask(&read_request(0, 512)).status, S_IOERR);
}

#[test]
fn a_disk_that_the_guest_only_reads_goes_on_with_an_export_that_became_read_only() {
    let mut machine = Machine::new(ServerConfig::default(), NbdOptions { writable: false, ..options() });
    machine.driver.init(u64::MAX, 64);
    assert_eq!(machine.ask(&flush_request()).status, S_OK);
    // Servers say less of such an export.
    let read_only = ServerConfig { flags: FLAG_HAS_FLAGS | FLAG_READ_ONLY, ..ServerConfig::default() };
    for config in [read_only, ServerConfig::default()] {
        machine.server(|server| {
            server.set_config(config);
            server.log.clear();
        });
        machine.restart_server();
        machine.run_for(A_WHILE_NS);
        assert_eq!(machine.ask(&read_request(0, 512)).status, S_OK);
        // The guest was told that it can flush, and there is nothing to be flushed.
        assert_eq!(machine.ask(&flush_request()).status, S_OK);
    }
    machine.server(|server| {
        let block_size = Some((4096, 4096, 1 << 20));
        server.set_config(ServerConfig { block_size, ..ServerConfig::default() });
    });
    machine.restart_server();
    machine.run_for(A_WHILE_NS);
    assert_eq!(machine.ask(&read_request(0, 4096)).status, S_IOERR, "another disk");
}

#[test]
fn a_server_that_carries_less_at_once_gets_more_pieces() {
    let mut machine = Machine::ready(uncached());
    machine.keep();
    let data = bytes(256 * 1024, 0x66);
    let head = machine.submit(&write_request(0, &data));
    machine.driver.kick();
    machine.run_for(SECOND_NS / 2);
    machine.server(|server| {
        server.set_config(ServerConfig { block_size: Some((512, 512, 4096)), ..uncached() });
    });
    machine.restart_server();
    machine.run_for(A_WHILE_NS);
    assert_eq!(machine.statuses(), [(head, S_OK)]);
    machine.server(|server| assert!(server.cached[..data.len()] == data));
}

#[test]
fn a_write_without_memory_fails_alone() {
    let mut machine = Machine::ready(uncached());
    let other = machine.submit(&read_request(64, 4096));
    let header = machine.driver.alloc(16);
    machine.driver.memory().poke(header, &[&1u64.to_le_bytes()[..], &0u64.to_le_bytes()].concat());
    let status = machine.driver.alloc(1);
    let bad = machine.driver.add(vec![(header, 16), (1 << 40, 65_536)], vec![(status, 1)]);
    machine.driver.kick();
    machine.run_for(A_WHILE_NS);
    let mut statuses = machine.statuses();
    statuses.sort_unstable();
    let mut expected = [(other, S_OK), (bad, S_IOERR)];
    expected.sort_unstable();
    assert_eq!(statuses, expected);
    assert_eq!(machine.host().connections(), 1);
    machine.server(|server| assert_eq!(server.log, [CMD_READ]));
    assert_eq!(machine.ask(&read_request(0, 512)).status, S_OK);
}

#[test]
fn held_requests_of_a_driver_that_resets_the_device_are_given_up() {
    let mut machine = Machine::ready(uncached());
    machine.host().listen(false);
    machine.run_for(SECOND_NS);
    machine.submit(&write_request(0, &bytes(512, 1)));
    machine.driver.kick();
    machine.run_for(SECOND_NS);
    machine.driver.init(u64::MAX, 256);
    let head = machine.submit(&write_request(8, &bytes(512, 2)));
    machine.driver.kick();
    machine.run_for(SECOND_NS);
    machine.host().listen(true);
    machine.run_for(A_WHILE_NS);
    assert_eq!(machine.statuses(), [(head, S_OK)]);
    machine.server(|server| assert!(server.cached[..512] == [0; 512]));
}

/// What a server does while a connection stands.
type During = fn(&mut nbd::fake::Server);

/// The server ends so many connections, each after `open_ns` and after `during`.
fn flap(machine: &Machine, times: u32, open_ns: u64, during: During) {
    for _ in 0..times {
        machine.run_for(open_ns);
        machine.server(during);
        machine.run_for(SECOND_NS / 10);
        machine.host().close();
    }
}

#[test]
fn a_server_that_agrees_and_dies_again_and_again_meets_the_timeout() {
    // A long request of which one piece is done over each connection does not get done either.
    let cases: [(usize, During); 2] = [(512, |_| ()), (300 * 1024, nbd::fake::Server::release_one)];
    for (len, during) in cases {
        let mut machine = Machine::ready(uncached());
        machine.keep();
        let head = machine.submit(&read_request(0, len));
        machine.driver.kick();
        flap(&machine, 4, TIMEOUT_NS / 5, during);
        assert_eq!(machine.answers(), [], "{len}");
        flap(&machine, 2, TIMEOUT_NS / 5, during);
        assert_eq!(machine.statuses(), [(head, S_IOERR)], "{len}");
        assert!(machine.host().connections() >= 5, "it was there");
        machine.server(|server| server.set_faults(Faults::default()));
        machine.run_for(A_WHILE_NS);
        assert_eq!(machine.ask(&read_request(0, 512)).status, S_OK);
    }
}

#[test]
fn a_server_that_dies_again_and_again_and_does_requests_meanwhile_is_not_a_silent_one() {
    let mut machine = Machine::ready(uncached());
    machine.keep();
    for at in 0..16 {
        machine.submit(&read_request(at * 8, 512));
    }
    machine.driver.kick();
    flap(&machine, 16, TIMEOUT_NS / 4, nbd::fake::Server::release_one);
    let statuses = machine.statuses();
    assert!(statuses.len() == 16 && statuses.iter().all(|(_, status)| *status == S_OK), "{statuses:?}");
}
