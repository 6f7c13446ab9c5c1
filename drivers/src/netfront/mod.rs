//! The frontend of a PV network interface: frames to and from another domain.
//!
//! One queue. Frames lie in pages that are granted once: each place of the receive ring has its page, and
//! frames to be sent take theirs from a pool. Nothing allocates once connected. The usual round:
//! [`NetFront::receive`] until none, [`NetFront::send`], [`NetFront::kick`]; then
//! [`NetFront::enable_events`] before sleeping.
//!
//! Netback is not trusted. A response is copied once; its id must be the one due, its frame must lie in
//! the page; anything else ends the connection ([`Health::Broken`]). What stands in a frame is for the
//! caller to judge: it comes from anybody on the network.
//!
//! A frame lies in one page, or in several where the interface's MTU is larger than the usual
//! ([`MTU_USUAL_BYTES`], `feature-sg`). No other offload: each frame has its checksums. Netback copies into
//! our pages (`request-rx-copy`), so it maps none of them for long.

mod connect;
mod error;
mod frames;

pub use crate::frontend::ConnectError;
pub use error::{Health, PeerFault, SendError};
use frames::Chain;

use crate::evtchn::OwnedPort;
use crate::frontend::{self, Session};
use crate::gnttab::GrantedPage;
use crate::ring::FrontRing;
use alloc::vec::Vec;
use kernel::{DomId, Hypervisor, Port};

/// Bytes before the payload of a frame: two addresses and a type.
pub const HEADER_BYTES: usize = 14;
/// Bytes of a frame's payload at most, unless the toolstack says otherwise (`mtu`), and always without
/// `feature-sg`: netback then sends and takes no more.
pub const MTU_USUAL_BYTES: u16 = 1500;
/// The largest MTU that is used, whatever the toolstack says: that of "jumbo frames".
pub const MTU_MAX_BYTES: u16 = 9000;
/// Bytes of the longest frame.
pub const FRAME_MAX_BYTES: usize = HEADER_BYTES + MTU_MAX_BYTES as usize;
/// Parts of a received frame at most (`XEN_NETIF_NR_SLOTS_MIN`). Linux' netback fills pages, so it needs
/// three.
pub const PARTS_MAX: usize = 18;
/// Pages for frames to be sent: 96 KiB of data on their way, or 21 of the longest frames. Netback takes them
/// in a moment.
pub const TX_PAGES: u16 = 64;
/// Pages for received frames: one for each place of the ring, 384 KiB of data or more.
pub const RX_PAGES: u16 = 256;

/// An interface without a connection, on its way to one.
pub type Reconnect<H> = frontend::Reconnect<H, NetFront<H>>;

/// Frames that went wrong, since the connection stands.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Frames that netback could not send.
    pub tx_failed: u64,
    /// Frames that it could not bring, or that are of no use: too long, too short, without checksum.
    pub rx_dropped: u64,
}

/// A frame that waits for netback, or the place for one.
#[derive(Debug)]
struct TxSlot<H: Hypervisor> {
    page: GrantedPage<H>,
    generation: u8,
    in_flight: bool,
}

/// A connection to a netback.
///
/// # Examples
/// A frame to the other side and back, over fakes of Xen, xenstored and netback:
///
/// ```
/// use drivers::fake::{NetBack, XenStored};
/// use drivers::netfront::{FRAME_MAX_BYTES, NetFront};
/// use drivers::xenstore::Xenstore;
/// use kernel::fake::FakeXen;
/// use kernel::DomId;
///
/// let xen = FakeXen::new(DomId(5));
/// let store = XenStored::start(&xen);
/// let netback = NetBack::attach(&xen, &store, 0);
/// let mut xenstore = Xenstore::new(&xen).unwrap();
/// let mut net = NetFront::connect(&xen, &mut xenstore, 0).unwrap();
///
/// net.send(&[7; 60]).unwrap();
/// net.kick();
/// xen.run_peers(10);
/// assert_eq!(netback.take_sent(), [[7; 60]]);
///
/// netback.deliver(&[8; 60]);
/// xen.run_peers(10);
/// let mut frame = [0; FRAME_MAX_BYTES];
/// assert_eq!(net.receive(&mut frame), Some(60));
/// assert_eq!(frame[..60], [8; 60]);
/// ```
#[derive(Debug)]
pub struct NetFront<H: Hypervisor> {
    hv: H,
    session: Session<()>,
    tx: FrontRing,
    rx: FrontRing,
    tx_slots: Vec<TxSlot<H>>,
    /// Numbers of those that are not in flight.
    tx_free: Vec<u8>,
    rx_pages: Vec<GrantedPage<H>>,
    /// Responses taken: it says which place is due.
    rx_taken: u32,
    /// What has come of a frame. Its places stay ours until it is whole.
    rx_chain: Chain,
    tx_ring: GrantedPage<H>,
    rx_ring: GrantedPage<H>,
    port: OwnedPort<H>,
    mac: [u8; 6],
    mtu_bytes: u16,
    health: Health,
    counts: Counts,
}

impl<H: Hypervisor> NetFront<H> {
    /// Our address on the network, as the toolstack gave it.
    #[must_use]
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// Bytes of a frame's payload at most.
    #[must_use]
    pub fn mtu_bytes(&self) -> u16 {
        self.mtu_bytes
    }

    /// Netback's domain.
    #[must_use]
    pub fn backend_domid(&self) -> DomId {
        self.session.paths.domid
    }

    /// Netback's directory.
    #[must_use]
    pub fn backend_path(&self) -> &str {
        &self.session.paths.backend
    }

    /// The event channel of both rings.
    #[must_use]
    pub fn port(&self) -> Port {
        self.port.port()
    }

    /// Whether it can be used. Look after each round and each [`NetFront::on_watch`].
    #[must_use]
    pub fn health(&self) -> Health {
        self.health
    }

    /// Frames that went wrong.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }
}

#[cfg(test)]
mod tests;
