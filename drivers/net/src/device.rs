//! The network interface as smoltcp sees it.

use crate::checksum;
use alloc::boxed::Box;
use alloc::vec;
use core::num::{NonZeroU16, NonZeroUsize};
use drivers::netfront::{FRAME_MAX_BYTES, Health, NetFront, Offload, Reconnect, first_part_bytes};
use drivers::xenstore::{StoreError, Xenstore};
use kernel::Hypervisor;
use log::{info, warn};
use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, PacketMeta, RxToken, TxToken};
use smoltcp::time::Instant;

/// Bytes that are copied at once.
const WORD_BYTES: usize = 16;

/// The interface, or the way to the next one.
#[expect(clippy::large_enum_variant, reason = "there is one for each disk, on the heap")]
enum Link<H: Hypervisor> {
    Up(NetFront<H>),
    Down(Reconnect<H>),
}

/// Frames of no use that are dropped at once, at most.
const USELESS_AT_ONCE: usize = 64;

/// The interface with a frame for each direction: pages that netback reaches are never lent.
pub(crate) struct NetDevice<H: Hypervisor> {
    /// `None` only while one becomes the other.
    link: Option<Link<H>>,
    rx_frame: Box<[u8]>,
    tx_frame: Box<[u8]>,
    /// Of the last interface, if there is none.
    frame_max: usize,
    uncut_max: Option<NonZeroUsize>,
    /// Bytes that came for TCP connections.
    payload_bytes: usize,
    /// IPv6 is spoken, and not IPv4.
    is_v6: bool,
}

impl<H: Hypervisor> NetDevice<H> {
    pub(crate) fn new(front: NetFront<H>, is_v6: bool) -> NetDevice<H> {
        let frame = || vec![0; FRAME_MAX_BYTES.saturating_add(WORD_BYTES)].into_boxed_slice();
        NetDevice {
            frame_max: front.frame_max_bytes(),
            uncut_max: front.uncut_max_bytes(),
            link: Some(Link::Up(front)),
            rx_frame: frame(),
            tx_frame: frame(),
            payload_bytes: 0,
            is_v6,
        }
    }

    /// Bytes that may have to be acknowledged.
    pub(crate) fn payload_bytes(&self) -> usize {
        self.payload_bytes
    }

    /// They are.
    pub(crate) fn forget_payload(&mut self) {
        self.payload_bytes = 0;
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
    /// one again: its capabilities may be others.
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
        self.uncut_max = front.uncut_max_bytes();
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
    segment_bytes: Option<NonZeroU16>,
}

impl<'a, H: Hypervisor> Sending<'a, H> {
    fn new(front: &'a mut NetFront<H>, frame: &'a mut [u8]) -> Sending<'a, H> {
        Sending { front, frame, segment_bytes: None }
    }
}

impl<H: Hypervisor> TxToken for Sending<'_, H> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        // What fills pages begins at a multiple of the words that are copied.
        let start = first_part_bytes(len).wrapping_neg() % WORD_BYTES;
        // It keeps to the frames' length that `capabilities` tells.
        let frame = self.frame.get_mut(start..start.saturating_add(len)).unwrap_or_default();
        let result = f(frame);
        let checksum = checksum::leave_to_netback(frame);
        // There was room. A frame that is lost all the same is sent again, as any that the network loses.
        let _ = self.front.send(frame, Offload { checksum, segment_bytes: self.segment_bytes });
        result
    }

    fn set_meta(&mut self, meta: PacketMeta) {
        self.segment_bytes = meta.segmentation_offload_size;
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
        let mut useless = 0..USELESS_AT_ONCE;
        let len = loop {
            let received = front.receive(&mut self.rx_frame)?;
            let frame = self.rx_frame.get(..received.len)?;
            // Nobody else looks at the checksums.
            if is_spoken(frame, self.is_v6) && checksum::is_sound(frame, received.is_verified) {
                break received.len;
            }
            // More of them have to wait for another turn.
            useless.next()?;
        };
        let frame = self.rx_frame.get(..len)?;
        self.payload_bytes = self.payload_bytes.saturating_add(checksum::tcp_payload_bytes(frame));
        Some((Received(frame), Sending::new(front, &mut self.tx_frame)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Sending<'_, H>> {
        let Some(Link::Up(front)) = &mut self.link else { return None };
        front.can_send().then(|| Sending::new(front, &mut self.tx_frame))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.frame_max;
        // Netback makes those of TCP. The others are looked at as they come (`checksum.rs`).
        capabilities.checksum.tcp = Checksum::None;
        capabilities.checksum.udp = Checksum::Tx;
        // smoltcp 0.14 has this for IPv4 only: longer packets of IPv6 it drops.
        capabilities.segmentation.tcpv4 = self.uncut_max;
        capabilities
    }
}
