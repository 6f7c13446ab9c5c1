//! How long requests wait for a storage backend.

use super::common::*;
use super::failover::A_WHILE_NS;
use drivers::fake::Faults;
use kernel::{DomId, Hypervisor};

#[test]
fn without_a_backend_requests_fail_after_the_timeout_and_the_disk_recovers() {
    for detached in [false, true] {
        let mut machine = Machine::ready(Setup::default());
        let data = bytes(4096, 5);
        let back = machine.back();
        machine.submit(&write_request(0, &data));
        machine.send_without_answer();
        if detached {
            back.detach()
        } else {
            back.die()
        }
        let began_ns = machine.world.borrow().xen.now_ns();
        machine.run();
        machine.submit(&read_request(0, 512));
        machine.pv.kick();
        machine.run_for(TIMEOUT_NS / 3);
        machine.run_for(TIMEOUT_NS / 3);
        assert_eq!(machine.answers(), [], "held");
        machine.run_for(TIMEOUT_NS / 2);
        let statuses: Vec<u8> = machine.answers().into_iter().map(|(_, status)| status).collect();
        assert_eq!(statuses, [S_IOERR, S_IOERR]);
        assert!(machine.world.borrow().xen.now_ns() - began_ns >= TIMEOUT_NS);
        let before_ns = machine.world.borrow().xen.now_ns();
        assert_eq!(machine.status_of(&read_request(0, 512)), S_IOERR);
        assert!(machine.world.borrow().xen.now_ns() - before_ns < TIMEOUT_NS / 10, "at once");
        back.reattach(DomId(0));
        machine.run_for(A_WHILE_NS);
        assert_eq!(machine.status_of(&write_request(0, &data)), S_OK);
        assert_eq!(back.disk().cached[..4096], data);
        // The next time is a new one.
        back.die();
        machine.submit(&read_request(0, 512));
        machine.pv.kick();
        machine.run_for(TIMEOUT_NS / 2);
        assert_eq!(machine.answers(), []);
    }
}

#[test]
fn a_backend_that_never_answers_is_given_up_after_the_timeout() {
    let mut machine = Machine::ready(Setup::default());
    let back = machine.back();
    // The driver is gone, its state is not: nothing else tells.
    back.unbind();
    machine.submit(&read_request(0, 512));
    machine.pv.kick();
    machine.run_for(TIMEOUT_NS - 1_000_000_000);
    assert_eq!(machine.answers(), []);
    machine.run_for(2_000_000_000);
    assert_eq!(machine.answers().len(), 1);
    assert_eq!(machine.status_of(&read_request(0, 512)), S_IOERR);
    back.bind();
    machine.run_for(A_WHILE_NS);
    assert_eq!(machine.status_of(&read_request(0, 512)), S_OK);
}

#[test]
fn a_backend_that_is_slow_is_not_a_silent_one() {
    let mut machine = Machine::ready(Setup { backend_timeout_ns: Some(1_000_000), ..Setup::default() });
    machine.fault(Faults { delay_steps: 30, ..Faults::default() });
    for turn in 0..3 {
        assert_eq!(machine.status_of(&read_request(turn, 512)), S_OK);
        // Idle for longer than the timeout.
        machine.run_for(5_000_000);
    }
    assert_eq!(machine.back().connections(), 1);
}

#[test]
fn without_a_timeout_requests_wait_for_ever() {
    let mut machine = Machine::ready(Setup { backend_timeout_ns: None, ..Setup::default() });
    let back = machine.back();
    back.die();
    machine.submit(&read_request(0, 512));
    machine.pv.kick();
    for _ in 0..100 {
        machine.run_for(TIMEOUT_NS);
    }
    assert_eq!(machine.answers(), []);
    back.reattach(DomId(0));
    machine.run_for(A_WHILE_NS);
    assert_eq!(machine.answers().len(), 1);
}

#[test]
fn an_idle_storage_backend_after_a_failover_is_not_a_silent_one() {
    let mut machine = Machine::ready(Setup::default());
    let back = machine.back();
    machine.submit(&read_request(0, 512));
    machine.send_without_answer();
    back.die();
    machine.run();
    back.reattach(DomId(0));
    machine.run_for(A_WHILE_NS);
    assert_eq!(machine.answers().len(), 1);
    let connections = back.connections();
    for _ in 0..4 {
        machine.run_for(TIMEOUT_NS);
    }
    assert_eq!(machine.status_of(&read_request(0, 512)), S_OK);
    assert_eq!(back.connections(), connections);
}

#[test]
fn a_backend_that_connects_and_dies_again_and_again_is_given_up_after_the_timeout() {
    let mut machine = Machine::ready(Setup::default());
    let back = machine.back();
    machine.fault(Faults { delay_steps: u32::MAX, ..Faults::default() });
    machine.submit(&read_request(0, 512));
    machine.pv.kick();
    let flap = |machine: &mut Machine, times: u32| {
        for _ in 0..times {
            machine.run_for(TIMEOUT_NS / 10);
            back.die();
            machine.run_for(TIMEOUT_NS / 10);
            back.reattach(DomId(0));
        }
    };
    flap(&mut machine, 4);
    assert_eq!(machine.answers(), [], "held");
    flap(&mut machine, 2);
    assert_eq!(machine.answers().len(), 1);
    assert!(machine.back().connections() >= 5, "it was there");
    machine.fault(Faults::default());
    machine.run_for(A_WHILE_NS);
    assert_eq!(machine.status_of(&read_request(0, 512)), S_OK);
}
