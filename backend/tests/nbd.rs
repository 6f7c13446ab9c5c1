//! A disk of an NBD server, with the whole stack over fakes: a guest's driver, Xen, the stub, xenstored, netback
//! and the server's host.
#![cfg(feature = "nbd")]
#![expect(clippy::expect_used, clippy::panic, reason = "a test fails loudly")]

#[expect(dead_code, reason = "the machine with PV disks uses the rest")]
mod common;
#[path = "nbd/life.rs"]
mod life;
#[path = "nbd/lost_cache.rs"]
mod lost_cache;
#[path = "nbd/machine.rs"]
mod machine;
#[path = "nbd/start.rs"]
mod start;
#[path = "nbd/tls.rs"]
mod tls_disk;

use backend::storage::SECTOR_BYTES;
use backend::testkit::{BlkRequest, Framing};
use common::{S_IOERR, S_OK, bytes, flush_request, read_request, write_request};
use machine::{Machine, SECOND_NS, options};
use nbd::fake::{Faults, ServerConfig};
use nbd::wire::{
    CMD_FLUSH, CMD_TRIM, CMD_WRITE_ZEROES, FLAG_HAS_FLAGS, FLAG_READ_ONLY, FLAG_SEND_FLUSH, FLAG_SEND_TRIM,
    FLAG_SEND_WRITE_ZEROES,
};

const S_UNSUPP: u8 = 2;
const F_RO: u64 = 1 << 5;
const F_FLUSH: u64 = 1 << 9;
const F_DISCARD: u64 = 1 << 13;
const F_WRITE_ZEROES: u64 = 1 << 14;

/// A discard (11) or a write of zeros (13).
fn range_request(kind: u32, sector: u64, sectors: u32) -> BlkRequest {
    let range = [&sector.to_le_bytes()[..], &sectors.to_le_bytes(), &[0; 4]].concat();
    BlkRequest { kind, sector: 0, out: range, in_len: 0 }
}

#[test]
fn a_disk_is_written_and_read() {
    let mut machine = Machine::ready(ServerConfig::default());
    assert_eq!(machine.driver.capacity(), 2048);
    let data = bytes(20_480, 0x31);
    assert_eq!(machine.ask(&write_request(9, &data)).status, S_OK);
    machine.server(|server| {
        assert!(server.cached[9 * 512..][..data.len()] == data);
        assert!(server.durable[9 * 512..][..data.len()] != data);
    });
    let answer = machine.ask(&read_request(9, data.len()));
    assert_eq!((answer.status, answer.used_len), (S_OK, 20_481));
    assert!(answer.data == data);
    assert_eq!(machine.ask(&flush_request()).status, S_OK);
    machine.server(|server| assert!(server.durable[9 * 512..][..data.len()] == data));
}

#[test]
fn a_long_request_goes_in_pieces() {
    let small = Some((512, 512, 8192));
    for block_size in [ServerConfig::default().block_size, small, None] {
        let mut machine = Machine::ready(ServerConfig { block_size, ..ServerConfig::default() });
        let data = bytes(700 * 1024, 0x77);
        for framing in [Framing::Usual, Framing::Pieces(vec![5000, 70_000, 16])] {
            machine.driver.submit(&write_request(3, &data), &framing);
            machine.driver.kick();
            machine.run_for(SECOND_NS);
            assert_eq!(machine.answers()[0].1.status, S_OK);
            machine.server(|server| assert!(server.cached[3 * 512..][..data.len()] == data));
            machine.driver.submit(&read_request(3, data.len()), &framing);
            machine.driver.kick();
            machine.run_for(SECOND_NS);
            let answer = machine.answers().remove(0).1;
            assert_eq!((answer.status, answer.used_len), (S_OK, 700 * 1024 + 1));
            assert!(answer.data == data);
            machine.server(|server| server.cached.fill(0));
        }
    }
}

#[test]
fn many_requests_are_under_way_at_once_and_answered_in_any_order() {
    let mut machine = Machine::ready(ServerConfig::default());
    machine.server(|server| server.set_faults(Faults { keep: 16, ..Faults::default() }));
    let writes: Vec<_> = (0..80u8).map(|at| write_request(u64::from(at) * 8, &bytes(4096, at))).collect();
    assert!(machine.all(&writes, SECOND_NS).iter().all(|answer| answer.status == S_OK));
    let reads: Vec<_> = (0..80u8).map(|at| read_request(u64::from(at) * 8, 4096)).collect();
    let answers = machine.all(&reads, SECOND_NS);
    for (at, answer) in (0..80u8).zip(answers) {
        assert_eq!(answer.status, S_OK);
        assert!(answer.data == bytes(4096, at), "block {at}");
    }
}

#[test]
fn errors_fail_just_their_requests() {
    let mut machine = Machine::ready(ServerConfig::default());
    machine.server(|server| server.set_faults(Faults { fail_every: Some(3), ..Faults::default() }));
    let requests: Vec<_> = (0..6).map(|sector| read_request(sector, 512)).collect();
    let statuses: Vec<_> = machine.all(&requests, SECOND_NS).iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [S_OK, S_OK, S_IOERR, S_OK, S_OK, S_IOERR]);
}

#[test]
fn ranges_are_discarded_and_zeroed() {
    let mut machine = Machine::ready(ServerConfig::default());
    assert_eq!(machine.ask(&write_request(0, &bytes(16_384, 5))).status, S_OK);
    assert_eq!(machine.ask(&range_request(11, 8, 8)).status, S_OK);
    assert_eq!(machine.ask(&range_request(13, 16, 4)).status, S_OK);
    machine.server(|server| {
        assert_eq!(server.log.iter().filter(|kind| [CMD_TRIM, CMD_WRITE_ZEROES].contains(kind)).count(), 2);
        assert!(server.cached[..4096] == bytes(16_384, 5)[..4096]);
        // What is trimmed reads as anything.
        assert!(server.cached[4096..8192].iter().all(|byte| *byte == 0xd5));
        assert!(server.cached[8192..10_240].iter().all(|byte| *byte == 0));
        assert!(server.cached[10_240..16_384] == bytes(16_384, 5)[10_240..]);
    });
}

#[test]
fn what_the_export_cannot_do_is_not_offered() {
    let all = FLAG_SEND_FLUSH | FLAG_SEND_TRIM | FLAG_SEND_WRITE_ZEROES;
    let cases = [
        (all, F_FLUSH | F_DISCARD | F_WRITE_ZEROES),
        (FLAG_SEND_FLUSH, F_FLUSH),
        (FLAG_SEND_TRIM, F_DISCARD),
        (FLAG_SEND_WRITE_ZEROES, F_WRITE_ZEROES),
        (all | FLAG_READ_ONLY, F_FLUSH | F_RO),
    ];
    for (flags, features) in cases {
        let config = ServerConfig { flags: flags | FLAG_HAS_FLAGS, ..ServerConfig::default() };
        let writable = flags & FLAG_READ_ONLY == 0;
        let mut machine = Machine::new(config, backend::storage::NbdOptions { writable, ..options() });
        let offered = machine.driver.offered() & (F_RO | F_FLUSH | F_DISCARD | F_WRITE_ZEROES);
        assert_eq!(offered, features, "{flags:#x}");
        machine.driver.init(u64::MAX, 64);
        let flush = if flags & FLAG_SEND_FLUSH == 0 { S_UNSUPP } else { S_OK };
        assert_eq!(machine.ask(&flush_request()).status, flush);
        if !writable {
            assert_eq!(machine.ask(&write_request(0, &bytes(512, 1))).status, S_IOERR);
            machine.server(|server| assert_eq!(server.log, [CMD_FLUSH]));
        }
    }
}

#[test]
fn an_idle_connection_stays_and_the_stub_sleeps() {
    let machine = Machine::ready(ServerConfig::default());
    let rounds = machine.run_for(120 * SECOND_NS);
    assert_eq!(machine.host().connections(), 1);
    // It is tried every 5 s.
    assert!((20..200).contains(&rounds), "{rounds} rounds");
}

#[test]
fn a_driver_that_resets_the_device_gets_no_data_of_old_requests() {
    let mut machine = Machine::ready(ServerConfig::default());
    let old = bytes(256 * 1024, 0x0d);
    machine.server(|server| server.set_faults(Faults { keep: usize::MAX, ..Faults::default() }));
    machine.submit(&write_request(0, &old));
    machine.submit(&read_request(1024, 256 * 1024));
    machine.driver.kick();
    machine.run_for(SECOND_NS);
    assert_eq!(machine.answers(), []);
    machine.driver.init(u64::MAX, 256);
    let writes = machine.driver.memory().device_writes();
    // The new driver's write waits for the old one: it cannot be overtaken.
    let new = bytes(64 * 1024, 0x3e);
    let head = machine.submit(&write_request(0, &new));
    machine.driver.kick();
    machine.run_for(SECOND_NS);
    assert_eq!(machine.answers(), []);
    machine.server(|server| {
        server.set_faults(Faults::default());
        server.release();
    });
    machine.run_for(SECOND_NS);
    let answers = machine.answers();
    assert_eq!((answers.len(), answers[0].0, answers[0].1.status), (1, head, S_OK));
    machine.server(|server| assert!(server.cached[..new.len()] == new));
    // Its status byte, used element and used.idx (and avail_event), but no data of the read.
    assert!(machine.driver.memory().device_writes() - writes < 10);
    assert_eq!(machine.host().connections(), 1);
}

#[test]
fn sectors_are_those_of_virtio() {
    assert_eq!(SECTOR_BYTES, 512);
    let config = ServerConfig { block_size: Some((4096, 4096, 32 << 20)), ..ServerConfig::default() };
    let mut machine = Machine::ready(config);
    assert_eq!(machine.driver.capacity(), 2048);
    assert_eq!(machine.ask(&write_request(8, &bytes(4096, 3))).status, S_OK);
    machine.server(|server| assert!(server.cached[4096..8192] == bytes(4096, 3)));
    assert_eq!(machine.ask(&write_request(9, &bytes(512, 3))).status, S_IOERR, "no whole block");
}
