//! The network interface as smoltcp sees it.

use alloc::boxed::Box;
use drivers::netfront::{FRAME_MAX_BYTES, Health, NetFront, Reconnect};
use drivers::xenstore::{StoreError, Xenstore};
use kernel::Hypervisor;
use log::{info, warn};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

/// Frames that smoltcp lets a server send at once, if its window is no smaller: with their pages they take no more
/// than netfront has for received frames.
const BURST_FRAMES: usize = 32;

/// The interface, or the way to the next one.
#[expect(clippy::large_enum_variant, reason = "there is one for each disk, on the heap")]
enum Link<H: Hypervisor> {
    Up(NetFront<H>),
    Down(Reconnect<H>),
}

/// Frames of no use that are dropped at once, at most.
const FOREIGN_AT_ONCE: usize = 64;

/// One frame.
type Frame = Box<[u8; FRAME_MAX_BYTES]>;

/// The interface with a frame for each direction: pages that netback reaches are never lent.
pub(crate) struct NetDevice<H: Hypervisor> {
    /// `None` only while one becomes the other.
    link: Option<Link<H>>,
    rx_frame: Frame,
    tx_frame: Frame,
    frame_max: usize,
    /// IPv6 is spoken, and not IPv4.
    is_v6: bool,
}

impl<H: Hypervisor> NetDevice<H> {
    pub(crate) fn new(front: NetFront<H>, is_v6: bool) -> NetDevice<H> {
        NetDevice {
            frame_max: front.frame_max_bytes(),
            is_v6,
            link: Some(Link::Up(front)),
            rx_frame: Box::new([0; FRAME_MAX_BYTES]),
            tx_frame: Box::new([0; FRAME_MAX_BYTES]),
        }
    }

    pub(crate) fn up(&self) -> Option<&NetFront<H>> {
        match &self.link {
            Some(Link::Up(front)) => Some(front),
            _ => None,
        }
    }

    pub(crate) fn up_mut(&mut self) -> Option<&mut NetFront<H>> {
        match &mut self.link {
            Some(Link::Up(front)) => Some(front),
            _ => None,
        }
    }

    pub(crate) fn on_watch(&mut self, xs: &mut Xenstore<H>, path: &str) -> Result<(), StoreError> {
        match &mut self.link {
            Some(Link::Up(front)) => front.on_watch(xs, path).map(drop),
            Some(Link::Down(way)) => {
                way.on_watch(path);
                Ok(())
            }
            None => Ok(()),
        }
    }

    pub(crate) fn refresh(&mut self, xs: &mut Xenstore<H>) -> Result<(), StoreError> {
        match &mut self.link {
            Some(Link::Up(front)) => front.refresh(xs).map(drop),
            Some(Link::Down(way)) => {
                way.set_due();
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Notices that the connection to netback broke, goes a step towards the next one. True if there is
    /// one again.
    pub(crate) fn service(&mut self, xs: &mut Xenstore<H>) -> bool {
        if self.up().is_some_and(|front| front.health() != Health::Connected)
            && let Some(Link::Up(front)) = self.link.take()
        {
            warn!("{}: waiting for a netback", front.backend_path());
            self.link = Some(Link::Down(front.reconnect()));
        }
        let Some(Link::Down(way)) = &mut self.link else { return false };
        let Some(front) = way.step(xs) else { return false };
        info!("{}: connected again", front.backend_path());
        self.frame_max = front.frame_max_bytes();
        self.link = Some(Link::Up(front));
        true
    }

    /// When [`NetDevice::service`] has something to do, without an event.
    pub(crate) fn due_ns(&self) -> Option<u64> {
        match &self.link {
            Some(Link::Down(way)) => Some(way.due_ns()),
            _ => None,
        }
    }
}

/// Whether a frame is of the IP that is spoken.
fn is_spoken(frame: &[u8], is_v6: bool) -> bool {
    match frame.get(12..14) {
        Some([0x86, 0xdd]) => is_v6,
        // IPv4 and ARP.
        Some([0x08, 0x00 | 0x06]) => !is_v6,
        _ => false,
    }
}

/// A received frame.
pub(crate) struct Received<'a>(&'a [u8]);

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

/// The right to send one frame.
pub(crate) struct Sending<'a, H: Hypervisor> {
    front: &'a mut NetFront<H>,
    frame: &'a mut [u8],
}

impl<H: Hypervisor> TxToken for Sending<'_, H> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        // It keeps to the frames' length that `capabilities` tells.
        let len = len.min(self.frame.len());
        let frame = self.frame.get_mut(..len).unwrap_or_default();
        let result = f(frame);
        // There was room. A frame that is lost all the same is sent again, as any that the network loses.
        let _ = self.front.send(frame);
        result
    }
}

impl<H: Hypervisor> Device for NetDevice<H> {
    type RxToken<'a>
        = Received<'a>
    where
        H: 'a;
    type TxToken<'a>
        = Sending<'a, H>
    where
        H: 'a;

    fn receive(&mut self, _now: Instant) -> Option<(Received<'_>, Sending<'_, H>)> {
        let Some(Link::Up(front)) = &mut self.link else { return None };
        // An answer may have to be sent: without room for it the frame stays where it is.
        if !front.can_send() {
            return None;
        }
        let is_v6 = self.is_v6;
        let mut foreign = 0..FOREIGN_AT_ONCE;
        let len = loop {
            let len = front.receive(&mut self.rx_frame)?;
            if is_spoken(self.rx_frame.get(..len)?, is_v6) {
                break len;
            }
            // More of them have to wait for another turn.
            foreign.next()?;
        };
        let received = self.rx_frame.get(..len)?;
        Some((Received(received), Sending { front, frame: self.tx_frame.as_mut_slice() }))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Sending<'_, H>> {
        let Some(Link::Up(front)) = &mut self.link else { return None };
        front.can_send().then_some(Sending { front, frame: self.tx_frame.as_mut_slice() })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.frame_max;
        // smoltcp makes and checks every checksum: netback leaves that to us.
        capabilities.max_burst_size = Some(BURST_FRAMES);
        capabilities
    }
}
