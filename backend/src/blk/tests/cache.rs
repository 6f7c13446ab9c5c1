//! The three write-cache modes, and who may choose.

use super::super::device::REQUESTS;
use super::*;
use crate::access::Width;

const WRITEBACK: u64 = 32;

impl Rig {
    fn writeback(&mut self) -> u64 {
        self.driver.config(WRITEBACK, Width::One)
    }

    /// Writes once; returns whether the storage was flushed before the answer.
    fn write_is_flushed(&mut self) -> bool {
        let before = self.faults.flushes.get();
        assert_eq!(self.write(0, &bytes(512, 3), &Framing::Usual).status, S_OK);
        self.faults.flushes.get() > before
    }
}

#[test]
fn writeback_after_negotiation_says_whether_the_driver_can_flush() {
    for (wanted, writeback) in [(ALL, 1), (ALL & !F_FLUSH, 0), (ALL & !F_CONFIG_WCE, 1)] {
        let mut rig = Rig::new(wanted, 8);
        assert_eq!(rig.writeback(), writeback, "{wanted:#x}");
        assert_eq!(rig.write_is_flushed(), writeback == 0, "{wanted:#x}");
        // The driver's choice ends with a reset.
        rig.driver.set_config(WRITEBACK, Width::One, 0);
        rig.driver.init(ALL, 8);
        assert_eq!(rig.writeback(), 1);
        assert!(!rig.write_is_flushed());
    }
}

#[test]
fn the_driver_switches_between_write_back_and_write_through() {
    let mut rig = Rig::new(ALL, 8);
    for writeback in [1, 0, 1, 0] {
        rig.driver.set_config(WRITEBACK, Width::One, writeback);
        assert_eq!(rig.writeback(), writeback);
        assert_eq!(rig.write_is_flushed(), writeback == 0);
    }
    // Nobody else flushes: reads, and the driver's own flush is one.
    let before = rig.faults.flushes.get();
    rig.read(0, 512, &Framing::Usual);
    assert_eq!(rig.faults.flushes.get(), before);
    let flush = BlkRequest { kind: T_FLUSH, sector: 0, out: vec![], in_len: 0 };
    assert_eq!(rig.ask(&flush, &Framing::Usual).status, S_OK);
    assert_eq!(rig.faults.flushes.get(), before + 1);
}

#[test]
fn a_driver_that_cannot_flush_gets_no_cache() {
    let mut rig = Rig::new(ALL & !F_FLUSH, 8);
    rig.driver.set_config(WRITEBACK, Width::One, 1);
    assert_eq!(rig.writeback(), 0);
    assert!(rig.write_is_flushed());
}

#[test]
fn other_writes_to_the_configuration_change_nothing() {
    let mut rig = Rig::new(ALL, 8);
    let config =
        |rig: &mut Rig| -> Vec<u64> { (0..0x100).map(|at| rig.driver.config(at, Width::One)).collect() };
    let before = config(&mut rig);
    for offset in 0..0x100 {
        for width in [Width::One, Width::Two, Width::Four, Width::Eight] {
            for value in [0, 1, 2, 0xff] {
                if offset != WRITEBACK || width != Width::One || value > 1 {
                    rig.driver.set_config(offset, width, value);
                }
            }
        }
    }
    assert_eq!(config(&mut rig), before);
    assert!(!rig.write_is_flushed());
}

#[test]
fn without_the_feature_writeback_is_not_the_drivers_to_set() {
    // Neither before the features are agreed,
    let mut rig = Rig::new(ALL, 8);
    rig.driver.write(STATUS, 0);
    rig.driver.set_config(WRITEBACK, Width::One, 0);
    assert_eq!(rig.writeback(), 1);
    // nor if it was not among them.
    for (wanted, flushed) in [(ALL & !F_CONFIG_WCE, false), (ALL & !F_CONFIG_WCE & !F_FLUSH, true)] {
        rig.driver.init(wanted, 8);
        for writeback in [1, 0] {
            rig.driver.set_config(WRITEBACK, Width::One, writeback);
            assert_eq!(rig.write_is_flushed(), flushed);
        }
    }
}

#[test]
fn each_change_of_writeback_is_a_new_generation() {
    let mut rig = Rig::new(ALL, 8);
    let before = rig.driver.read(CONFIG_GENERATION);
    for (writeback, changes) in [(1, 0), (0, 1), (0, 1), (1, 2)] {
        rig.driver.set_config(WRITEBACK, Width::One, writeback);
        assert_eq!(rig.driver.read(CONFIG_GENERATION), before + changes);
    }
}

#[test]
fn features_and_driver_ok_in_one_step_still_choose_the_cache() {
    let mut rig = Rig::new(ALL, 8);
    rig.driver.negotiate(ALL);
    for (register, value) in [(STATUS, 0), (STATUS, 3), (DRIVER_FEATURES_SEL, 1), (DRIVER_FEATURES, 1)] {
        rig.driver.write(register, value);
    }
    rig.driver.write(STATUS, 0xf);
    assert_eq!((rig.status(), rig.writeback()), (0xf, 0));
}

#[test]
fn more_writes_than_the_device_takes_on_at_once_are_all_flushed() {
    const WRITES: u64 = REQUESTS as u64 + 88;
    let mut rig = Rig::new(ALL & !F_FLUSH, 1024);
    rig.faults.hold.set(true);
    for sector in 0..WRITES {
        let request = BlkRequest { kind: T_OUT, sector, out: bytes(512, 3), in_len: 0 };
        rig.driver.submit(&request, &Framing::Usual);
    }
    rig.driver.kick();
    rig.run();
    assert_eq!(rig.device.borrow().in_flight(), REQUESTS as u32);
    // All come back at once, and each has to wait for its flush.
    rig.faults.hold.set(false);
    rig.run();
    let done = core::iter::from_fn(|| rig.driver.next_used()).filter(|(_, answer)| answer.status == S_OK);
    assert_eq!(done.count() as u64, WRITES);
    assert_eq!(u64::from(rig.faults.flushes.get()), WRITES);
}
