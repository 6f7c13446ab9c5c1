//! The frontend against a fake blkback.

mod data;
mod incarnations;
mod leaving;
mod negotiation;
mod properties;

use super::*;
use crate::fake::{BlkBack, BlkBackConfig, Faults, Misdeed, XenStored};
use crate::xenstore::{StoreError, Xenstore};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use kernel::fake::FakeXen;
use kernel::{DomId, Errno, Hypervisor};
use proptest::prelude::*;
use xen_pv_sys::io::xenbus::XenbusState;

const VDEV: u32 = 51712;

struct Machine {
    xen: FakeXen,
    store: XenStored,
    back: BlkBack,
    xs: Xenstore<FakeXen>,
}

impl Machine {
    fn new(config: BlkBackConfig) -> Machine {
        let xen = FakeXen::new(DomId(5));
        let store = XenStored::start(&xen);
        let back = BlkBack::attach(&xen, &store, VDEV, config);
        let xs = Xenstore::new(&xen).unwrap();
        Machine { xen, store, back, xs }
    }

    fn connect(&mut self, pool_pages: u16) -> Result<BlkFront<FakeXen>, ConnectError> {
        BlkFront::connect(&self.xen, &mut self.xs, VDEV, pool_pages)
    }

    fn front_node(&self, key: &str) -> Option<String> {
        self.store.read(&format!("/local/domain/5/device/vbd/{VDEV}/{key}"))
    }

    /// Waits as the main loop does; false if nothing came within a second.
    fn wait(&self, front: &mut BlkFront<FakeXen>) -> bool {
        if front.enable_events(1) {
            return true;
        }
        self.xen.poll(&[front.port()], Some(self.xen.now_ns() + 1_000_000_000)).unwrap();
        self.xen.evtchn_take_pending(front.port())
    }

    fn completion(&self, front: &mut BlkFront<FakeXen>) -> Option<Completion> {
        loop {
            if let Some(completion) = front.next_completion() {
                return Some(completion);
            }
            if !self.wait(front) {
                return None;
            }
        }
    }

    /// One request from start to end; its pages go back.
    fn run(&self, front: &mut BlkFront<FakeXen>, op: Op) -> Result<(), IoError> {
        front.submit(77, op).unwrap();
        front.kick();
        let completion = self.completion(front).expect("an answer");
        assert_eq!(completion.id, 77);
        if let Some(bounce) = completion.bounce {
            front.give_back(bounce);
        }
        completion.outcome
    }

    fn write(&self, front: &mut BlkFront<FakeXen>, first_sector: u64, data: &[u8]) -> Result<(), IoError> {
        let op = write_op(front, first_sector, data);
        self.run(front, op)
    }

    fn read(&self, front: &mut BlkFront<FakeXen>, first_sector: u64, len_bytes: u32) -> Vec<u8> {
        let bounce = front.take_pages(pages(len_bytes)).unwrap();
        front.submit(1, Op::Read { first_sector, bounce, len_bytes }).unwrap();
        front.kick();
        let completion = self.completion(front).unwrap();
        assert_eq!(completion.outcome, Ok(()));
        let bounce = completion.bounce.unwrap();
        let data = content(front, &bounce, len_bytes);
        front.give_back(bounce);
        data
    }
}

fn pages(len_bytes: u32) -> u16 {
    u16::try_from(len_bytes.div_ceil(4096)).unwrap()
}

fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|at| u8::try_from((at / 512 * 7 + at) % 251).unwrap() ^ seed).collect()
}

fn fill(front: &BlkFront<FakeXen>, bounce: &Bounce, data: &[u8]) {
    for (page, part) in front.pages(bounce).zip(data.chunks(4096)) {
        page.write(0, part).unwrap();
    }
}

fn content(front: &BlkFront<FakeXen>, bounce: &Bounce, len_bytes: u32) -> Vec<u8> {
    let mut data = vec![0; len_bytes as usize];
    for (page, part) in front.pages(bounce).zip(data.chunks_mut(4096)) {
        page.read(0, part).unwrap();
    }
    data
}

fn write_op(front: &mut BlkFront<FakeXen>, first_sector: u64, data: &[u8]) -> Op {
    let len_bytes = u32::try_from(data.len()).unwrap();
    let bounce = front.take_pages(pages(len_bytes)).unwrap();
    fill(front, &bounce, data);
    Op::Write { first_sector, bounce, len_bytes }
}
