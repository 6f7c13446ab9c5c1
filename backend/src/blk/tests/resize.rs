//! A disk that grows or shrinks in use.

use super::super::ranges::T_DISCARD;
use super::*;
use crate::storage::Storage;

impl Rig {
    /// Lets the storage have another length, and the device notice.
    fn resize(&mut self, sectors: u64) -> bool {
        let geometry = self.device.borrow().storage().geometry();
        self.faults.geometry.set(Some(Geometry { capacity_sectors: sectors, ..geometry }));
        let changed = self.device.borrow_mut().update_capacity();
        self.run();
        changed
    }
}

#[test]
fn a_new_length_is_a_new_generation_and_a_configuration_interrupt() {
    let mut rig = Rig::new(ALL, 8);
    let generation = rig.driver.read(CONFIG_GENERATION);
    assert!(rig.resize(100));
    assert_eq!(rig.driver.capacity(), 100);
    assert_eq!(rig.driver.read(CONFIG_GENERATION), generation + 1);
    assert_eq!((rig.irqs, rig.driver.take_interrupt()), (1, INT_CONFIG));
    assert_eq!(rig.driver.read(INTERRUPT_STATUS), 0);
    assert!(!rig.resize(100), "the same length is no news");
    assert_eq!((rig.irqs, rig.driver.read(CONFIG_GENERATION)), (1, generation + 1));
    assert_eq!(rig.status(), 0xf);
}

#[test]
fn requests_are_judged_by_the_new_length() {
    let mut rig = Rig::new(ALL, 8);
    assert_eq!(rig.read(99, 1024, &Framing::Usual).status, S_OK);
    rig.resize(100);
    assert_eq!(rig.read(99, 512, &Framing::Usual).status, S_OK);
    assert_eq!(rig.read(99, 1024, &Framing::Usual).status, S_IOERR);
    assert_eq!(rig.write(100, &bytes(512, 1), &Framing::Usual).status, S_IOERR);
    let mut out = 96u64.to_le_bytes().to_vec();
    out.extend(8u64.to_le_bytes());
    let discard = BlkRequest { kind: T_DISCARD, sector: 0, out, in_len: 0 };
    assert_eq!(rig.ask(&discard, &Framing::Usual).status, S_IOERR);
    rig.resize(200);
    assert_eq!(rig.read(99, 1024, &Framing::Usual).status, S_OK);
    assert_eq!(rig.ask(&discard, &Framing::Usual).status, S_OK);
}

#[test]
fn a_driver_that_is_not_set_up_yet_is_told_when_it_is() {
    let mut rig = Rig::uninitialised(false);
    // Nobody is there: no interrupt, neither now nor later.
    rig.resize(300);
    rig.driver.init(ALL, 8);
    rig.run();
    assert_eq!((rig.irqs, rig.driver.capacity()), (0, 300));
    // Between the driver's look at the capacity and DRIVER_OK.
    rig.driver.negotiate(ALL);
    assert_eq!(rig.driver.capacity(), 300);
    rig.resize(400);
    assert_eq!((rig.irqs, rig.driver.read(INTERRUPT_STATUS)), (0, 0));
    rig.driver.write(STATUS, 0xf);
    rig.run();
    assert_eq!((rig.irqs, rig.driver.take_interrupt()), (1, INT_CONFIG));
    assert_eq!(rig.driver.capacity(), 400);
}
