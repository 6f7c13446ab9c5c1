//! A stub with an NBD disk panics and restarts in place: what the guest asked for is done, and no flush succeeds
//! that could not make durable what was completed before the panic.

use super::network::{NBD, world};
use super::*;
use nbd::fake::{Faults, Server, ServerConfig};
use nbd::wire::{CMD_FLUSH, CMD_WRITE, FLAG_CAN_MULTI_CONN};
use net::fake::FarHost;

const SECOND_NS: u64 = 1_000_000_000;
const S_OK: u8 = 0;
const S_IOERR: u8 = 1;
/// Longer than any pause between two connections.
const A_WHILE_NS: u64 = 15 * SECOND_NS;

/// A guest whose stub may restart, and the server.
struct Machine {
    world: Rc<RefCell<World>>,
    host: FarHost<Server>,
    guest: Driver<GuestBus>,
    cmdline: &'static str,
}

impl Machine {
    fn new() -> Machine {
        let (world, host) = world();
        let cmdline: &'static str = format!("{NBD} restarts=3").leak();
        assert!(world.borrow_mut().begin(cmdline));
        Machine { guest: guest(&world), world, host, cmdline }
    }

    fn run_for(&self, time_ns: u64) {
        self.world.borrow_mut().run_for(time_ns);
    }

    /// One request from start to end: its status.
    fn ask(&mut self, request: &BlkRequest) -> u8 {
        self.guest.submit(request, &Framing::Usual);
        self.guest.kick();
        self.run_for(SECOND_NS);
        self.guest.next_used().expect("an answer").1.status
    }

    fn flush(&mut self) -> u8 {
        self.ask(&flush_request())
    }

    fn serve(&self, faults: Faults) {
        self.host.with(|server| server.set_faults(faults));
    }

    fn panic(&self) {
        self.world.borrow_mut().panic();
        self.host.with(|server| server.log.clear());
    }

    /// The next incarnation begins. The server, which knows one connection only, ends the old one first.
    fn restart(&self) {
        self.host.listen(true);
        assert!(self.world.borrow_mut().begin(self.cmdline));
    }

    /// The server's host crashes.
    fn crash_server(&self) {
        self.host.listen(false);
        self.host.with(Server::lose_cache);
    }

    fn log(&self) -> Vec<u16> {
        self.host.with(|server| server.log.clone())
    }
}

fn flush_request() -> BlkRequest {
    BlkRequest { kind: 4, sector: 0, out: Vec::new(), in_len: 0 }
}

/// A guest that has written something and not flushed it.
fn unflushed() -> Machine {
    let mut machine = Machine::new();
    assert_eq!(machine.ask(&write_request(0, &[1; 512])), S_OK);
    machine
}

#[test]
fn what_was_written_is_made_durable_before_requests_are_done_again() {
    let mut machine = unflushed();
    machine.serve(Faults { keep: usize::MAX, ..Faults::default() });
    let head = machine.guest.submit(&write_request(8, &[2; 512]), &Framing::Usual);
    machine.guest.kick();
    machine.run_for(SECOND_NS);
    machine.panic();
    machine.restart();
    machine.run_for(SECOND_NS);
    assert_eq!(machine.log(), [CMD_FLUSH]);
    machine.host.with(|server| {
        server.set_faults(Faults::default());
        server.release();
    });
    machine.run_for(SECOND_NS);
    let (used, answer) = machine.guest.next_used().expect("an answer");
    assert_eq!((used, answer.status), (head, S_OK));
    assert_eq!(machine.log(), [CMD_FLUSH, CMD_WRITE]);
    machine.host.with(|server| {
        assert_eq!((&server.durable[..512], &server.durable[4096..4608]), (&[1; 512][..], &[0; 512][..]));
        assert_eq!(server.cached[4096..4608], [2; 512]);
    });
    assert_eq!(machine.flush(), S_OK);
    assert_eq!(machine.host.connections(), 2);
    // And again.
    assert_eq!(machine.ask(&write_request(0, &[3; 512])), S_OK);
    machine.panic();
    machine.restart();
    machine.run_for(SECOND_NS);
    assert_eq!(machine.log(), [CMD_FLUSH]);
    machine.host.with(|server| assert_eq!(server.durable[..512], [3; 512]));
    assert_eq!(machine.flush(), S_OK);
}

#[test]
fn writes_since_the_restart_are_kept_as_ever() {
    let mut machine = unflushed();
    machine.panic();
    machine.restart();
    machine.run_for(SECOND_NS);
    assert_eq!(machine.ask(&write_request(8, &[2; 512])), S_OK);
    machine.crash_server();
    machine.host.listen(true);
    machine.run_for(A_WHILE_NS);
    assert_eq!(machine.flush(), S_OK);
    machine.host.with(|server| {
        assert_eq!((&server.durable[..512], &server.durable[4096..4608]), (&[1; 512][..], &[2; 512][..]));
    });
}

#[test]
fn what_was_flushed_needs_nothing() {
    let mut machine = unflushed();
    assert_eq!(machine.flush(), S_OK);
    machine.panic();
    machine.crash_server();
    assert!(machine.world.borrow_mut().begin(machine.cmdline), "nobody waits for the server");
    machine.run_for(SECOND_NS);
    machine.host.listen(true);
    machine.run_for(A_WHILE_NS);
    assert_eq!(machine.log(), []);
    assert_eq!(machine.flush(), S_OK);
}

/// Whatever becomes of the server: one flush of the guest's fails, and the next does not.
fn tells_once(machine: &mut Machine) {
    machine.serve(Faults::default());
    machine.host.listen(true);
    machine.run_for(A_WHILE_NS);
    assert_eq!(machine.flush(), S_IOERR);
    assert_eq!(machine.flush(), S_OK);
}

#[test]
fn a_server_that_was_away_may_have_lost_writes() {
    let mut machine = unflushed();
    machine.panic();
    machine.crash_server();
    assert!(machine.world.borrow_mut().begin(machine.cmdline));
    machine.run_for(SECOND_NS);
    tells_once(&mut machine);
}

#[test]
fn a_server_that_leaves_before_it_has_flushed_may_have_lost_writes() {
    let mut machine = unflushed();
    machine.panic();
    machine.serve(Faults { keep: usize::MAX, ..Faults::default() });
    machine.restart();
    machine.run_for(SECOND_NS);
    assert_eq!(machine.log(), [CMD_FLUSH]);
    machine.crash_server();
    machine.run_for(SECOND_NS);
    tells_once(&mut machine);
}

#[test]
fn a_server_that_cannot_flush_may_lose_writes() {
    let mut machine = unflushed();
    machine.panic();
    machine.serve(Faults { fail_kind: Some(CMD_FLUSH), ..Faults::default() });
    machine.restart();
    machine.run_for(SECOND_NS);
    assert_eq!(machine.log(), [CMD_FLUSH]);
    tells_once(&mut machine);
}

#[test]
fn a_server_whose_flush_covers_one_connection_only_may_lose_writes() {
    let mut machine = unflushed();
    machine.panic();
    let default = ServerConfig::default();
    let flags = default.flags & !FLAG_CAN_MULTI_CONN;
    let config = ServerConfig { name: String::from("a disk"), flags, ..default };
    machine.host.with(|server| server.set_config(config));
    machine.restart();
    tells_once(&mut machine);
    // With nothing to be flushed it does not matter.
    machine.panic();
    machine.restart();
    machine.run_for(SECOND_NS);
    assert_eq!(machine.flush(), S_OK);
}

#[test]
fn an_export_that_is_another_one_now_may_have_lost_writes() {
    let mut machine = unflushed();
    machine.panic();
    let config =
        |block_size| ServerConfig { name: String::from("a disk"), block_size, ..ServerConfig::default() };
    machine.host.with(|server| server.set_config(config(Some((4096, 4096, 1 << 20)))));
    machine.restart();
    machine.run_for(SECOND_NS);
    machine.host.with(|server| server.set_config(config(ServerConfig::default().block_size)));
    machine.run_for(40 * SECOND_NS);
    tells_once(&mut machine);
}

#[test]
fn writes_that_only_the_stub_had_are_lost_with_it() {
    let mut machine = unflushed();
    machine.crash_server();
    machine.run_for(A_WHILE_NS);
    machine.panic();
    machine.restart();
    tells_once(&mut machine);
}

#[test]
fn what_is_lost_is_told_by_whichever_incarnation_can() {
    let mut machine = unflushed();
    machine.crash_server();
    machine.run_for(A_WHILE_NS);
    for _ in 0..2 {
        machine.panic();
        machine.restart();
        machine.run_for(SECOND_NS);
    }
    tells_once(&mut machine);
    machine.panic();
    machine.restart();
    machine.run_for(SECOND_NS);
    assert_eq!(machine.flush(), S_OK, "it has been told");
}

#[test]
fn what_the_guest_may_not_have_seen_is_told_again() {
    let mut machine = unflushed();
    machine.serve(Faults { keep: usize::MAX, fail_kind: Some(CMD_WRITE), ..Faults::default() });
    machine.guest.submit(&flush_request(), &Framing::Usual);
    machine.guest.kick();
    machine.run_for(SECOND_NS);
    machine.crash_server();
    machine.run_for(A_WHILE_NS);
    machine.host.listen(true);
    machine.run_for(A_WHILE_NS);
    // The write cannot be done again, so the flush fails, in a turn that the stub does not live to see the end of.
    machine.host.with(Server::release);
    let xen = machine.world.borrow().xen.clone();
    for _ in 0..10 {
        xen.run_peers(10);
        machine.world.borrow_mut().stub().run_once();
    }
    assert_eq!(machine.guest.next_used().expect("an answer").1.status, S_IOERR);
    machine.panic();
    machine.restart();
    tells_once(&mut machine);
}

#[test]
fn another_length_is_told_after_the_restart() {
    let mut machine = Machine::new();
    assert_eq!(machine.guest.capacity(), 2048);
    machine.panic();
    machine.host.with(|server| server.resize(2 << 20));
    machine.restart();
    machine.run_for(SECOND_NS);
    assert_eq!(machine.guest.capacity(), 4096);
    assert_eq!(machine.ask(&write_request(4000, &[1; 512])), S_OK);
}
