//! The same over TLS: nothing goes in clear, and there is no way back to a connection without it.

use crate::common::{S_IOERR, S_OK, bytes, flush_request, read_request, write_request};
use crate::machine::{KEY, Lan, Machine, SECOND_NS, TIMEOUT_NS, options, secrets};
use backend::storage::NbdOptions;
use nbd::fake::ServerConfig;
use net::fake::Faults;
use tls::fake::Misdeed;

fn tls_options() -> NbdOptions {
    NbdOptions { secrets: secrets("web", &KEY), ..options() }
}

fn config() -> ServerConfig {
    ServerConfig { tls: true, size_bytes: 8 << 20, ..ServerConfig::default() }
}

fn machine() -> Machine {
    let mut machine = Machine::new(config(), tls_options());
    machine.driver.init(u64::MAX, 256);
    machine
}

/// Whether the client has sent that in clear.
fn was_seen(machine: &Machine, what: &[u8]) -> bool {
    let first = what[0];
    machine.host().with(|peer| {
        let mut rest = peer.seen.as_slice();
        while let Some(at) = rest.iter().position(|byte| *byte == first) {
            rest = &rest[at..];
            if rest.starts_with(what) {
                return true;
            }
            rest = &rest[1..];
        }
        false
    })
}

/// Writes and reads in all lengths up to `longest`.
fn round(machine: &mut Machine, seed: u8, longest: usize) {
    for (sector, len) in [(9, 512), (100, 16_384), (333, 16_896), (1000, longest)] {
        let data = bytes(len, seed);
        assert_eq!(machine.ask(&write_request(sector, &data)).status, S_OK);
        let answer = machine.ask(&read_request(sector, len));
        assert_eq!(answer.status, S_OK);
        assert!(answer.data == data, "{len} bytes");
        assert!(!was_seen(machine, &data[..32]));
    }
    let reads: Vec<_> = (0..40).map(|at| read_request(at * 8, 4096)).collect();
    assert!(machine.all(&reads, SECOND_NS).iter().all(|answer| answer.status == S_OK));
    assert_eq!(machine.ask(&flush_request()).status, S_OK);
}

#[test]
fn a_disk_is_written_and_read_and_nobody_on_the_way_sees_what() {
    let mut machine = machine();
    // Longer than what TCP takes at once.
    round(&mut machine, 0x31, 700_416);
    // The export's name, and a request.
    assert!(!was_seen(&machine, b"disk") && !was_seen(&machine, &[0x25, 0x60, 0x95, 0x13]));
    assert!(machine.server(|server| server.is_secure()));
    assert_eq!(machine.host().connections(), 1);
}

#[test]
fn a_disk_without_a_key_is_seen_by_all() {
    // What the test above looks for is found where there is no TLS.
    let mut machine = Machine::ready(ServerConfig::default());
    let data = bytes(512, 0x31);
    assert_eq!(machine.ask(&write_request(9, &data)).status, S_OK);
    assert!(was_seen(&machine, &data[..32]) && was_seen(&machine, b"disk"));
}

#[test]
fn frames_are_lost_and_records_cut() {
    let mut machine = machine();
    machine.host().set_faults(Faults { lose_every: Some(23), ..Faults::default() });
    let data = bytes(65_536, 0x47);
    assert_eq!(machine.all(&[write_request(0, &data)], 20 * SECOND_NS)[0].status, S_OK);
    machine.host().set_faults(Faults { reads_at_once: Some(1), ..Faults::default() });
    assert!(machine.all(&[read_request(0, 65_536)], 20 * SECOND_NS)[0].data == data);
}

#[test]
fn the_next_connection_is_tls_again_with_other_numbers() {
    let mut machine = machine();
    let randoms =
        |machine: &Machine| machine.host().with(|peer| peer.tls.as_ref().expect("TLS").hello_randoms.clone());
    let before = randoms(&machine);
    let data = bytes(4096, 0x53);
    assert_eq!(machine.ask(&write_request(8, &data)).status, S_OK);
    machine.host().listen(false);
    machine.server(nbd::fake::Server::lose_cache);
    machine.run_for(SECOND_NS);
    machine.host().listen(true);
    let answer = machine.all(&[read_request(8, 4096)], 10 * SECOND_NS).remove(0);
    assert!(answer.status == S_OK && answer.data == data, "what was not flushed is written again");
    assert!(!was_seen(&machine, &data[..32]));
    let after = randoms(&machine);
    assert!(before[..32] != after[..32] && before[32..] != after[32..]);
    assert_eq!(machine.host().connections(), 2);
}

#[test]
fn a_server_that_has_lost_its_tls_is_not_used() {
    let mut machine = machine();
    machine.host().listen(false);
    machine.server(|server| server.set_config(ServerConfig { tls: false, ..config() }));
    machine.run_for(SECOND_NS);
    machine.host().listen(true);
    let data = bytes(512, 0x61);
    let answers = machine.all(&[write_request(8, &data)], TIMEOUT_NS + 2 * SECOND_NS);
    assert_eq!(answers[0].status, S_IOERR);
    assert!(
        machine.host().connections() > 1 && !was_seen(&machine, &data[..32]) && !was_seen(&machine, b"disk")
    );
    machine.server(|server| assert!(server.cached[8 * 512..][..512] != data));
}

#[test]
fn a_record_that_is_not_the_servers_ends_the_connection_only() {
    let mut machine = machine();
    round(&mut machine, 0x71, 4096);
    // Of another server, or of somebody between.
    machine.host().with(|peer| peer.tls.as_mut().expect("TLS").send_record(22, &[20, 0, 0, 0]));
    machine.run_for(5 * SECOND_NS);
    assert_eq!(machine.host().connections(), 2);
    round(&mut machine, 0x73, 4096);
    machine.host().with(|peer| peer.tls.as_mut().expect("TLS").send_record(21, &[1, 0]));
    machine.run_for(5 * SECOND_NS);
    assert_eq!(machine.host().connections(), 3);
    round(&mut machine, 0x75, 4096);
}

#[test]
fn keys_change_under_way() {
    let mut machine = machine();
    for seed in 1..6 {
        machine.host().with(|peer| peer.tls.as_mut().expect("TLS").update(true));
        machine.host().with(|peer| peer.tls.as_mut().expect("TLS").ticket());
        round(&mut machine, seed, 4096);
    }
    assert_eq!(machine.host().with(|peer| peer.tls.as_ref().expect("TLS").updates), 5);
    assert_eq!(machine.host().connections(), 1);
}

/// What a start that fails says, and in which time.
fn said(lan: &Lan, options: NbdOptions) -> String {
    let before_ns = kernel::Hypervisor::now_ns(&lan.xen);
    let Err(reason) = lan.connect(options) else { panic!("it connects") };
    assert!(kernel::Hypervisor::now_ns(&lan.xen) - before_ns < SECOND_NS);
    reason.to_string()
}

#[test]
fn a_start_that_fails_says_why() {
    let with = |identity, key: &[u8]| NbdOptions { secrets: secrets(identity, key), ..options() };
    let lan = Lan::new(config());
    assert_eq!(said(&lan, options()), "the server requires TLS; set tls-psk-file");
    let wrong = "the server refuses the TLS key: it has another one for this identity";
    assert_eq!(said(&lan, with("web", &[0x22; 32])), wrong);
    assert_eq!(said(&lan, with("other", &KEY)), "the server does not know the TLS identity");
    let plain = Lan::new(ServerConfig::default());
    let none = "the server does not offer TLS, and the disk has a tls-psk-file";
    assert_eq!(said(&plain, with("web", &KEY)), none);
    lan.host.with(|peer| peer.misdeed = Some(Misdeed::BadProof));
    assert_eq!(said(&lan, with("web", &KEY)), "the server does not have the TLS key");
    lan.host.with(|peer| peer.misdeed = Some(Misdeed::NoKey));
    assert_eq!(said(&lan, with("web", &KEY)), "the server does not use the TLS key");
}

#[test]
fn a_server_that_hangs_up_in_the_middle_is_told_apart() {
    // As nbdkit does where it has another key.
    let lan = Lan::new(config());
    let host = lan.host.clone();
    lan.xen.on_idle(move || {
        if host.with(|peer| peer.tls.is_some()) {
            host.close();
        }
        false
    });
    let refused = "the server ended the TLS handshake: it has another key for this identity, or none";
    lan.host.with(|peer| peer.key = Vec::new());
    let told = said(&lan, NbdOptions { secrets: secrets("web", &KEY), ..options() });
    assert!(told == refused || told.contains("refuses the TLS key"), "{told}");
}
