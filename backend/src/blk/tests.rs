//! The device against a driver that obeys, and against requests that do not.

#![expect(clippy::cast_possible_truncation, reason = "test values are small, or cut on purpose")]

use super::complete::{S_IOERR, S_OK, S_UNSUPP};
use super::config::{F_CONFIG_WCE, F_FLUSH, F_RO};
use super::header::{T_FLUSH, T_GET_ID, T_IN, T_OUT};
use super::*;
use crate::access::{Access, Reply};
use crate::guest_mem::GuestMemory;
use crate::mmio::regs::*;
use crate::storage::{Faults, FaultyStorage, Geometry, RamDisk};
use crate::testkit::*;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;
use proptest::prelude::*;

mod cache;
mod data;
mod errors;
mod grants;
mod hostile;
mod lifecycle;
mod queues;
mod ranges;
mod resize;
mod restart;
mod signals;
mod sleep;
mod turns;

const DISK_BYTES: u64 = 1 << 20;
const ALL: u64 = u64::MAX;

type Dev = Device<FaultyStorage<RamDisk>>;

struct DirectBus(Rc<RefCell<Dev>>);

impl Bus for DirectBus {
    fn access(&mut self, access: Access) -> u64 {
        let Reply(value) = self.0.borrow_mut().access(access);
        value
    }
}

struct Rig {
    device: Rc<RefCell<Dev>>,
    driver: Driver<DirectBus>,
    mem: TestMemory,
    faults: Rc<Faults>,
    irqs: u32,
}

impl Rig {
    fn new(wanted: u64, size: u16) -> Rig {
        let mut rig = Rig::uninitialised(false);
        rig.driver.init(wanted, size);
        rig
    }

    fn uninitialised(read_only: bool) -> Rig {
        Rig::build(Faults::default(), read_only, 1)
    }

    /// Not initialised; the storage tells of this geometry.
    fn with_geometry(geometry: Geometry) -> Rig {
        let faults = Faults::default();
        faults.geometry.set(Some(geometry));
        Rig::build(faults, false, 1)
    }

    fn build(faults: Faults, read_only: bool, queues: u16) -> Rig {
        Rig::of(faults, &DeviceOptions { read_only, queues, ..DeviceOptions::default() })
    }

    fn of(faults: Faults, options: &DeviceOptions) -> Rig {
        let faults = Rc::new(faults);
        let storage = FaultyStorage::new(RamDisk::new(DISK_BYTES, false).expect("memory"), faults.clone());
        let options = DeviceOptions { serial: String::from("pf-test"), ..options.clone() };
        let device = Rc::new(RefCell::new(Device::new(storage, &options)));
        let mem = TestMemory::new(0x40_0000);
        let driver = Driver::new(DirectBus(device.clone()), mem.clone(), 0);
        Rig { device, driver, mem, faults, irqs: 0 }
    }

    /// Lets the device work until it would block.
    fn run(&mut self) {
        for _ in 0..1000 {
            let worked = self.device.borrow_mut().process(&self.mem);
            self.irqs += u32::from(self.device.borrow_mut().take_irq());
            let more = worked || self.device.borrow_mut().enable_notifications(&self.mem);
            // Before it sleeps, the device signals what it held back.
            self.irqs += u32::from(self.device.borrow_mut().take_irq());
            if !more {
                return;
            }
        }
        panic!("the device never comes to rest");
    }

    fn ask(&mut self, request: &BlkRequest, framing: &Framing) -> Answer {
        let head = self.driver.submit(request, framing);
        self.driver.kick();
        self.run();
        let (used, answer) = self.driver.next_used().expect("an answer");
        assert_eq!(used, head);
        answer
    }

    fn write(&mut self, sector: u64, data: &[u8], framing: &Framing) -> Answer {
        self.ask(&BlkRequest { kind: T_OUT, sector, out: data.to_vec(), in_len: 0 }, framing)
    }

    fn read(&mut self, sector: u64, len: usize, framing: &Framing) -> Answer {
        self.ask(&BlkRequest { kind: T_IN, sector, out: vec![], in_len: len }, framing)
    }

    fn status(&mut self) -> u32 {
        self.driver.read(STATUS)
    }

    fn needs_reset(&mut self) -> bool {
        self.status() & 0x40 != 0
    }
}

fn bytes(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8 ^ seed).collect()
}

fn read_request(sector: u64, in_len: usize) -> BlkRequest {
    BlkRequest { kind: T_IN, sector, out: vec![], in_len }
}
