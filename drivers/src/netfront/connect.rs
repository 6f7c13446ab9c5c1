//! A connection's beginning, its watches, and its end.

use super::{
    ConnectError, Counts, Health, MTU_BYTES, MTU_MAX_BYTES, NetFront, PeerFault, RX_PAGES, Reconnect,
    TX_PAGES, TxSlot,
};
use crate::evtchn::OwnedPort;
use crate::frontend::{self, CONNECT_TIMEOUT_NS, Device, Numbers, Session, is_below};
use crate::gnttab::GrantedPage;
use crate::ring::FrontRing;
use crate::xenbus::{self, Phase, Step};
use crate::xenstore::{Ask, StoreError, Xenstore};
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use kernel::{Errno, Hypervisor};
use xen_pv_sys::io::netif::{RX_ENTRY_SIZE, TX_ENTRY_SIZE};
use xen_pv_sys::io::xenbus::XenbusState;

/// The least that an interface may carry: what IPv4 asks of every host (RFC 791).
const MTU_MIN_BYTES: u64 = 576;

impl<H: Hypervisor> Device<H> for NetFront<H> {
    const CLASS: &'static str = "vif";
    const NAME: &'static str = "netfront";
    /// Netback waits for Connected; Initialised means nothing to it.
    const OFFERED: XenbusState = XenbusState::Connected;
    type Options = ();

    fn prepare(
        hv: &H,
        xs: &mut Xenstore<H>,
        session: Session<()>,
    ) -> Result<Self, (ConnectError, Vec<GrantedPage<H>>)> {
        let properties = Properties::read(xs, &session).map_err(|error| (error, Vec::new()))?;
        Self::allocate(hv, session, properties).map_err(|(errno, pages)| (ConnectError::Xen(errno), pages))
    }

    fn offer(&self, xs: &mut Xenstore<H>) -> Result<(), ConnectError> {
        let numbers = [
            ("tx-ring-ref", self.tx_ring.gref().0),
            ("rx-ring-ref", self.rx_ring.gref().0),
            ("event-channel", self.port().0),
            ("request-rx-copy", 1),
            // We notify when it waits for places: without that it looks for itself, every 30 ms.
            ("feature-rx-notify", 1),
            // Frames in parts, long ones, and such as nobody has made checksums for. Those of IPv4 come without
            // it unless we object.
            ("feature-sg", 1),
            ("feature-gso-tcpv4", 1),
            ("feature-gso-tcpv6", 1),
            ("feature-ipv6-csum-offload", 1),
        ];
        let write = |(key, number): &(&str, u32)| {
            Ask::Write(format!("{}/{key}", self.session.paths.frontend), number.to_string())
        };
        frontend::write_nodes(xs, &numbers.iter().map(write).collect::<Vec<_>>())
    }

    fn complete(&mut self, _xs: &mut Xenstore<H>) -> Result<(), ConnectError> {
        Ok(())
    }

    fn session(&self) -> &Session<()> {
        &self.session
    }

    fn session_mut(&mut self) -> &mut Session<()> {
        &mut self.session
    }

    fn into_pages(self) -> Vec<GrantedPage<H>> {
        let NetFront { tx, rx, tx_slots, rx_pages, tx_ring, rx_ring, port, .. } = self;
        // Nobody of ours uses the rings any more before their pages go.
        drop((tx, rx, port));
        let frames = tx_slots.into_iter().map(|slot| slot.page).chain(rx_pages);
        frames.chain([tx_ring, rx_ring]).collect()
    }
}

/// What the toolstack and netback say of the interface.
struct Properties {
    mac: [u8; 6],
    mtu_bytes: u16,
    cuts: bool,
}

impl Properties {
    fn read<H: Hypervisor>(xs: &mut Xenstore<H>, session: &Session<()>) -> Result<Properties, ConnectError> {
        let paths = &session.paths;
        let mac = match xs.read(&format!("{}/mac", paths.frontend)) {
            Ok(text) => parse_mac(&text).ok_or(ConnectError::BadValue("mac"))?,
            Err(error) if error.is_not_found() => return Err(ConnectError::Missing("mac")),
            Err(error) => return Err(error.into()),
        };
        let mtu = Numbers::read(xs, &paths.frontend, &["mtu"])?.next()?.unwrap_or(MTU_BYTES.into());
        if mtu < MTU_MIN_BYTES {
            return Err(ConnectError::BadValue("mtu"));
        }
        let keys = ["feature-rx-copy", "feature-sg", "feature-gso-tcpv4"];
        let mut features = Numbers::read(xs, &paths.backend, &keys)?;
        // A netback that maps our pages for reading frames has never been seen, and would need another driver.
        if features.next()? != Some(1) {
            return Err(ConnectError::Missing("feature-rx-copy"));
        }
        let takes_parts = features.next()? == Some(1);
        let cuts = features.next()? == Some(1) && takes_parts;
        // More than we have use for, or than netback takes in one part, is as good as the most.
        let longest = if takes_parts { MTU_MAX_BYTES } else { MTU_BYTES };
        let mtu_bytes = u16::try_from(mtu).unwrap_or(longest).min(longest);
        Ok(Properties { mac, mtu_bytes, cuts })
    }
}

/// `00:16:3e:01:02:03`, the address of one interface.
fn parse_mac(text: &[u8]) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = core::str::from_utf8(text).ok()?.split(':');
    for byte in &mut mac {
        let part = parts.next().filter(|part| part.len() == 2)?;
        let plain = part.bytes().all(|digit| digit.is_ascii_hexdigit());
        *byte = u8::from_str_radix(part, 16).ok().filter(|_| plain)?;
    }
    // The lowest bit of the first byte marks a group.
    let single = mac.first().is_some_and(|first| first & 1 == 0) && mac != [0; 6];
    (parts.next().is_none() && single).then_some(mac)
}

impl<H: Hypervisor> NetFront<H> {
    /// Blocking handshake with netback of `device/vif/<number>` of our own directory. A connection that an
    /// earlier incarnation of this domain left behind is closed first.
    ///
    /// Watches on our `backend` node and netback's state stay behind: hand their events to
    /// [`NetFront::on_watch`].
    ///
    /// # Errors
    /// Why there is no connection. Everything has been given back then, except for pages that netback has
    /// mapped and keeps.
    pub fn connect(hv: &H, xs: &mut Xenstore<H>, number: u32) -> Result<Self, ConnectError> {
        Self::connect_within(hv, xs, number, CONNECT_TIMEOUT_NS)
    }

    /// As [`NetFront::connect`], but each step of the handshake may take `timeout_ns` only.
    ///
    /// # Errors
    /// As there.
    pub fn connect_within(
        hv: &H,
        xs: &mut Xenstore<H>,
        number: u32,
        timeout_ns: u64,
    ) -> Result<Self, ConnectError> {
        frontend::connect(xs, Reconnect::new(hv, number, ()), timeout_ns)
    }

    /// On failure, the pages that were granted.
    fn allocate(
        hv: &H,
        session: Session<()>,
        properties: Properties,
    ) -> Result<Self, (Errno, Vec<GrantedPage<H>>)> {
        let domid = session.paths.domid;
        let port = OwnedPort::alloc(hv, domid).map_err(|errno| (errno, Vec::new()))?;
        let count = usize::from(TX_PAGES).saturating_add(RX_PAGES.into()).saturating_add(2);
        let mut pages = Vec::with_capacity(count);
        for _ in 0..count {
            match GrantedPage::alloc(hv, domid) {
                Ok(page) => pages.push(page),
                Err(errno) => return Err((errno, pages)),
            }
        }
        let (Some(tx_ring), Some(rx_ring)) = (pages.pop(), pages.pop()) else {
            return Err((Errno::EINVAL, pages));
        };
        let ring = |page: &GrantedPage<H>, entry| FrontRing::new(alloc::vec![page.page().clone()], entry);
        let rings = (ring(&tx_ring, TX_ENTRY_SIZE), ring(&rx_ring, RX_ENTRY_SIZE));
        let (Some(tx), Some(rx)) = rings else {
            pages.extend([tx_ring, rx_ring]);
            return Err((Errno::EINVAL, pages));
        };
        let rx_pages = pages.split_off(TX_PAGES.into());
        let slot = |page| TxSlot { page, generation: 0, in_flight: false };
        let mut front = NetFront {
            hv: hv.clone(),
            session,
            tx,
            rx,
            tx_slots: pages.into_iter().map(slot).collect(),
            tx_free: (0..TX_PAGES).rev().filter_map(|number| u8::try_from(number).ok()).collect(),
            tx_extras: 0,
            rx_pages,
            rx_taken: 0,
            tx_ring,
            rx_ring,
            port,
            mac: properties.mac,
            mtu_bytes: properties.mtu_bytes,
            cuts: properties.cuts,
            health: Health::Connected,
            counts: Counts::default(),
        };
        (0..RX_PAGES).for_each(|place| front.offer_place(place));
        // Netback is not there yet: it finds them when it maps the ring.
        let _nobody_listens = front.rx.publish();
        Ok(front)
    }

    /// Judges a watch event: whether netback left. True if it did, which [`NetFront::health`] explains.
    ///
    /// # Errors
    /// A failure of xenstore; nothing is known then.
    pub fn on_watch(&mut self, xs: &mut Xenstore<H>, path: &str) -> Result<bool, StoreError> {
        if is_below(path, &self.session.paths.frontend) || self.session.paths.is_backend(path) {
            return self.refresh(xs);
        }
        Ok(false)
    }

    /// As [`NetFront::on_watch`], for events of this interface that may have been dropped.
    ///
    /// # Errors
    /// A failure of xenstore; nothing is known then.
    pub fn refresh(&mut self, xs: &mut Xenstore<H>) -> Result<bool, StoreError> {
        if self.health != Health::Connected {
            return Ok(false);
        }
        if !frontend::is_ours(xs, Self::CLASS, &self.session)? {
            self.break_off(PeerFault::Replaced);
            return Ok(true);
        }
        let state = xenbus::read_state(xs, &self.session.paths.backend)?;
        let lost = xenbus::step(Phase::Connected, state) == Step::Lost;
        if lost {
            self.break_off(PeerFault::Left(state));
        }
        Ok(lost)
    }

    /// Ends the use of the rings, whatever netback does, and begins the way to another connection. Frames
    /// under way are lost.
    #[must_use]
    pub fn reconnect(self) -> Reconnect<H> {
        let hv = self.hv.clone();
        Reconnect::after(&hv, self)
    }

    /// Closes the connection in order and takes its pages back; those that netback still has mapped are
    /// leaked and counted.
    ///
    /// # Errors
    /// [`ConnectError::TimedOut`] if netback does not follow; the connection is over all the same.
    pub fn close(mut self, xs: &mut Xenstore<H>) -> Result<(), ConnectError> {
        self.health = Health::Closed;
        let closed = frontend::close(xs, Self::CLASS, &self.session);
        drop(self.into_pages());
        closed
    }
}

#[cfg(test)]
mod tests {
    use super::parse_mac;

    #[test]
    fn an_address_has_six_bytes_in_hexadecimal() {
        assert_eq!(parse_mac(b"00:16:3e:0a:fF:00"), Some([0, 0x16, 0x3e, 0x0a, 0xff, 0]));
        let bad: [&[u8]; 10] = [
            b"",
            b"00:16:3e:0a:ff",
            b"00:16:3e:0a:ff:00:01",
            b"00:16:3e:0a:ff:",
            b"0:16:3e:0a:ff:00",
            b"00:16:3e:0a:ff:+1",
            b"00-16-3e-0a-ff-00",
            b"01:16:3e:0a:ff:00",
            b"00:00:00:00:00:00",
            b"\xff0:16:3e:0a:ff:00",
        ];
        for text in bad {
            assert_eq!(parse_mac(text), None, "{text:?}");
        }
    }
}
