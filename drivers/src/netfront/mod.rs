//! The frontend of a PV network interface: frames to and from another domain.
//!
//! One queue. Frames lie in pages that are granted once: each place of the receive ring has its page, and
//! frames to be sent take theirs from a pool. Nothing allocates once connected. The usual round:
//! [`NetFront::receive`] until none, [`NetFront::send`], [`NetFront::kick`]; then
//! [`NetFront::enable_events`] before sleeping.
//!
//! **Offloads**, as Linux' netfront has them, since most of the cost of a frame does not depend on its length. A
//! TCP packet may have up to 64 KiB, as long as it stays in the host's memory: netback cuts it where it leaves
//! ([`Offload`]), and hands over what was put together ([`Received`]). Nor are TCP checksums made before they
//! are needed. Netback says what it can do with frames of ours; we take all of it.
//!
//! Netback is not trusted. A response is copied once; its id must be the one due, its part of a frame must lie in
//! the page, and no frame has more parts than was agreed; anything else ends the connection
//! ([`Health::Broken`]). What stands in a frame is for the caller to judge: it comes from anybody on the
//! network.
//!
//! Netback copies into our pages (`request-rx-copy`), and maps those of frames that we send until they are read.

mod connect;
mod error;
mod events;
mod receive;
mod send;

pub use crate::frontend::ConnectError;
pub use error::{Health, PeerFault, SendError};
pub use receive::Received;
pub use send::{Offload, first_part_bytes};

use crate::evtchn::OwnedPort;
use crate::frontend::{self, Session};
use crate::gnttab::GrantedPage;
use crate::ring::FrontRing;
use alloc::vec::Vec;
use kernel::{DomId, Hypervisor, Port};

/// Bytes before the payload of a frame: two addresses and a type.
pub const HEADER_BYTES: usize = 14;
/// Bytes of a frame's payload, unless the toolstack says otherwise (`mtu`).
pub const MTU_BYTES: u16 = 1500;
/// The most that it may say: what networks with long frames usually have.
pub const MTU_MAX_BYTES: u16 = 9000;
/// Bytes of the longest frame that can come: an IP packet cannot be longer.
pub const FRAME_MAX_BYTES: usize = HEADER_BYTES + 0xffff;
/// Pages for frames to be sent. A frame of 64 KiB takes 16, and each of eleven disks may send one at once.
pub const TX_PAGES: u16 = 192;
/// Pages for received frames: one for each place of the ring, 1 MiB.
pub const RX_PAGES: u16 = 256;

/// An interface without a connection, on its way to one.
pub type Reconnect<H> = frontend::Reconnect<H, NetFront<H>>;

/// Frames that went wrong, since the connection stands.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Pages of frames that netback could not send.
    pub tx_failed: u64,
    /// Frames that it could not bring, or that are of no use: too long or too short.
    pub rx_dropped: u64,
}

/// Part of a frame that waits for netback, or the place for one.
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
/// use drivers::netfront::{FRAME_MAX_BYTES, NetFront, Offload, Received};
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
/// net.send(&[7; 60], Offload::default()).unwrap();
/// net.kick();
/// xen.run_peers(10);
/// assert_eq!(netback.take_sent(), [[7; 60]]);
///
/// netback.deliver(&[8; 60]);
/// xen.run_peers(10);
/// let mut frame = [0; FRAME_MAX_BYTES];
/// assert_eq!(net.receive(&mut frame), Some(Received { len: 60, is_verified: true }));
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
    /// Extra information in the transmit ring whose answer has not been taken.
    tx_extras: u16,
    rx_pages: Vec<GrantedPage<H>>,
    /// Responses taken: it says which place is due.
    rx_taken: u32,
    tx_ring: GrantedPage<H>,
    rx_ring: GrantedPage<H>,
    port: OwnedPort<H>,
    mac: [u8; 6],
    mtu_bytes: u16,
    /// Netback cuts TCP packets of IPv4.
    cuts: bool,
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
