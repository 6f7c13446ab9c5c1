//! Writes that may have died in the cache of a storage backend that is gone: a flush tells it.

use super::common::*;
use super::failover::A_WHILE_NS;
use drivers::fake::{BlkBackConfig, Faults, Misdeed};
use kernel::DomId;

#[test]
fn a_flush_fails_once_if_unflushed_writes_may_have_died_with_their_domain() {
    for (domain, flushed, expected) in
        [(DomId(9), false, S_IOERR), (DomId(9), true, S_OK), (DomId(0), false, S_OK)]
    {
        for held in [false, true] {
            let mut machine = Machine::ready(Setup::default());
            let back = machine.back();
            assert_eq!(machine.write(Disk::Pv, 0, &bytes(512, 1)).status, S_OK);
            if flushed {
                assert_eq!(machine.status_of(&flush_request()), S_OK);
            }
            if held {
                machine.submit(&flush_request());
                machine.submit(&flush_request());
                machine.send_without_answer();
            }
            back.die();
            machine.run();
            back.reattach(domain);
            machine.run_for(A_WHILE_NS);
            let case = (domain, flushed, held);
            if held {
                let statuses: Vec<u8> = machine.answers().into_iter().map(|(_, status)| status).collect();
                assert_eq!(statuses, [expected, expected], "{case:?}");
            } else {
                assert_eq!(machine.status_of(&flush_request()), expected, "{case:?}");
            }
            // It has been told.
            assert_eq!(machine.status_of(&flush_request()), S_OK, "{case:?}");
        }
    }
}

#[test]
fn a_backend_that_cannot_flush_any_more_makes_no_earlier_write_durable() {
    for (flushed, expected) in [(false, S_IOERR), (true, S_OK)] {
        let mut machine = Machine::ready(Setup::default());
        let back = machine.back();
        assert_eq!(machine.write(Disk::Pv, 0, &bytes(512, 1)).status, S_OK);
        if flushed {
            assert_eq!(machine.status_of(&flush_request()), S_OK);
        }
        back.die();
        machine.run();
        back.configure(|config| config.flush = false);
        back.reattach(DomId(0));
        machine.run_for(A_WHILE_NS);
        assert_eq!(machine.status_of(&flush_request()), expected);
        // What this one completes is as durable as it makes it.
        assert_eq!(machine.write(Disk::Pv, 0, &bytes(512, 1)).status, S_OK);
        assert_eq!(machine.status_of(&flush_request()), S_OK);
    }
}

#[test]
fn a_write_through_write_fails_if_it_may_have_died_before_its_flush() {
    let mut machine = Machine::new(Setup::default());
    machine.pv.init(!(1 << 9), 64);
    let back = machine.back();
    machine.submit(&write_request(0, &bytes(512, 1)));
    // The write is answered, its flush is not.
    machine.fault(Faults { misdeed_at: Some((1, Misdeed::Silence)), ..Faults::default() });
    machine.pv.kick();
    machine.run();
    machine.fault(Faults::default());
    assert_eq!(machine.answers(), []);
    back.die();
    back.disk_mut().power_cut();
    back.reattach(DomId(9));
    machine.run_for(A_WHILE_NS);
    assert_eq!(machine.answers().len(), 1);
    assert_eq!(back.disk().durable[..512], [0; 512]);
    // Nothing else was lost: the next one is good.
    let data = bytes(512, 2);
    assert_eq!(machine.status_of(&write_request(0, &data)), S_OK);
    assert_eq!(back.disk().durable[..512], data);
}

#[test]
fn a_write_after_a_good_flush_may_be_lost_as_well() {
    let mut machine = Machine::ready(Setup::default());
    let back = machine.back();
    assert_eq!(machine.write(Disk::Pv, 0, &bytes(512, 1)).status, S_OK);
    assert_eq!(machine.status_of(&flush_request()), S_OK);
    assert_eq!(machine.status_of(&write_request(0, &bytes(512, 2))), S_OK);
    back.die();
    machine.run();
    back.reattach(DomId(9));
    machine.run_for(A_WHILE_NS);
    assert_eq!(machine.status_of(&flush_request()), S_IOERR);
}

#[test]
fn what_was_told_of_is_not_told_again_after_the_next_failover() {
    let mut machine = Machine::ready(Setup::default());
    let back = machine.back();
    assert_eq!(machine.write(Disk::Pv, 0, &bytes(512, 1)).status, S_OK);
    for (domain, expected) in [(DomId(9), S_IOERR), (DomId(10), S_OK)] {
        back.die();
        machine.run();
        back.reattach(domain);
        machine.run_for(A_WHILE_NS);
        assert_eq!(machine.status_of(&flush_request()), expected, "{domain:?}");
    }
}

#[test]
fn a_part_of_a_write_that_is_done_again_is_not_lost() {
    let back = BlkBackConfig { sectors: 8192, max_indirect_segments: None, ..BlkBackConfig::default() };
    let mut machine = Machine::ready(Setup { back, ..Setup::default() });
    let back = machine.back();
    let data = bytes(96 * 1024, 3);
    machine.submit(&write_request(0, &data));
    // Its first piece is answered.
    machine.fault(Faults { misdeed_at: Some((1, Misdeed::Silence)), ..Faults::default() });
    machine.pv.kick();
    machine.run();
    machine.fault(Faults::default());
    assert_eq!(machine.answers(), []);
    assert_eq!(back.disk().cached[..4096], data[..4096]);
    back.die();
    machine.run();
    back.reattach(DomId(9));
    machine.run_for(A_WHILE_NS);
    assert_eq!(machine.answers().len(), 1);
    assert_eq!(machine.status_of(&flush_request()), S_OK);
}
