//! The frontend against a fake netback.

mod chains;
mod frames;
mod handshake;
mod properties;

use super::*;
use crate::fake::netback::RX_ERROR;
use crate::fake::{NetBack, NetMisdeed, RxForm, SentFrame, XenStored};
use crate::ring::ResponseOverrun;
use crate::xenstore::Xenstore;
use alloc::vec::Vec;
use core::num::NonZeroU16;
use kernel::fake::FakeXen;
use kernel::{Errno, Hypervisor};
use proptest::prelude::*;
use xen_pv_sys::io::xenbus::XenbusState;

struct Machine {
    xen: FakeXen,
    store: XenStored,
    back: NetBack,
    xs: Xenstore<FakeXen>,
}

impl Machine {
    fn new() -> Machine {
        let xen = FakeXen::new(DomId(5));
        let store = XenStored::start(&xen);
        let back = NetBack::attach(&xen, &store, 0);
        let xs = Xenstore::new(&xen).unwrap();
        Machine { xen, store, back, xs }
    }

    fn connect(&mut self) -> Result<NetFront<FakeXen>, ConnectError> {
        NetFront::connect(&self.xen, &mut self.xs, 0)
    }

    /// Waits as the main loop does; false if nothing came within a second.
    fn wait(&self, net: &mut NetFront<FakeXen>) -> bool {
        net.kick();
        if net.enable_events() {
            return true;
        }
        self.xen.poll(&[net.port()], Some(self.xen.now_ns() + 1_000_000_000)).unwrap();
        self.xen.evtchn_take_pending(net.port())
    }

    /// Every frame that comes, with waits in between.
    fn receive_all(&self, net: &mut NetFront<FakeXen>) -> Vec<Vec<u8>> {
        self.receive_all_verified(net).into_iter().map(|(frame, _)| frame).collect()
    }

    /// The same, and whether netback answers for their checksums.
    fn receive_all_verified(&self, net: &mut NetFront<FakeXen>) -> Vec<(Vec<u8>, bool)> {
        let mut frames = Vec::new();
        let mut frame = alloc::vec![0; FRAME_MAX_BYTES];
        loop {
            while let Some(Received { len, is_verified }) = net.receive(&mut frame) {
                frames.push((frame[..len].to_vec(), is_verified));
            }
            if !self.wait(net) {
                return frames;
            }
        }
    }
}

/// Sends a frame that netback has nothing to do with but send it.
fn send(net: &mut NetFront<FakeXen>, frame: &[u8]) -> Result<(), SendError> {
    net.send(frame, Offload::default())
}

fn frame(seed: u8, len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at % 249).unwrap() ^ seed).collect()
}
