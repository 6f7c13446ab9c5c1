//! The network of a stub: its interface, its address, and the connections over it.

use crate::address::Address;
use crate::device::NetDevice;
use crate::lease::{Change, Lease};
use alloc::rc::Rc;
use alloc::vec;
use core::cell::{RefCell, RefMut};
use core::net::IpAddr;
use drivers::netfront::NetFront;
use drivers::xenstore::{StoreError, Xenstore};
use kernel::{Hypervisor, Port};
use log::{info, warn};
use smoltcp::iface::{Config, Interface, PollIngressSingleResult, PollResult, SocketSet};
use smoltcp::socket::Socket;
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, IpCidr};

/// Frames that one call of [`Network::poll`] takes at most: the guest's accesses wait meanwhile.
const FRAMES_AT_ONCE: usize = 64;
/// So much every TCP sends before it hears anything (RFC 6928): nobody waits for an acknowledgement of less.
const LITTLE_BYTES: usize = 14_600;
/// How long an acknowledgement waits for something to go with.
const ANSWER_PAUSE_NS: u64 = 4_000_000;
/// How often to look whether netback has sent something, when it has no room and makes no event.
const FULL_PAUSE_NS: u64 = 10_000_000;
/// Between two times that who has an address is asked anew. smoltcp asks once a second at most: sooner would delay.
const ASK_PAUSE_NS: u64 = 2_000_000_000;
/// The first of the ports that we use, one for each connection in turn (RFC 6335, "dynamic").
const FIRST_PORT: u16 = 49152;

/// What all clones of a [`Network`] share.
pub(crate) struct Stack<H: Hypervisor> {
    hv: H,
    pub(crate) device: NetDevice<H>,
    pub(crate) mac: [u8; 6],
    seed: u64,
    /// `None`: not yet leased, or not any more.
    address: Option<Address>,
    /// It is a DHCP server's.
    lease: Option<Lease>,
    pub(crate) interface: Interface,
    pub(crate) sockets: SocketSet<'static>,
    next_port: u16,
    /// Until then the answers that there are hold.
    ask_again_ns: u64,
    /// Until then what has come need not be answered.
    answer_ns: Option<u64>,
    /// Since the last poll it was enough to hear of so many parts of frames.
    event_parts: Option<u32>,
}

/// The network. Clones are the same one. Connections are [`crate::TcpClient`]s.
pub struct Network<H: Hypervisor> {
    stack: Rc<RefCell<Stack<H>>>,
}

impl<H: Hypervisor> Clone for Network<H> {
    fn clone(&self) -> Self {
        Network { stack: self.stack.clone() }
    }
}

impl<H: Hypervisor> Network<H> {
    /// A connected interface with that address; `None`: with one that a DHCP server leases. `seed` must be known to
    /// nobody else: connections begin with sequence numbers and ports that follow from it (RFC 6528, RFC 6056).
    #[must_use]
    pub fn new(hv: &H, front: NetFront<H>, address: Option<Address>, seed: u64) -> Network<H> {
        let mac = front.mac();
        let mut device = NetDevice::new(front, address.is_some_and(|address| address.ours.is_ipv6()));
        let now_ns = hv.now_ns();
        // After a restart in place the seed is the same, and the time is not.
        let seed = seed ^ now_ns;
        let interface = interface(&mut device, mac, address, (seed, now_ns));
        let mut sockets = SocketSet::new(vec![]);
        let lease = address.is_none().then(|| Lease::new(&mut sockets));
        let next_port = FIRST_PORT | u16::try_from(seed >> 50).unwrap_or(0);
        let stack = Stack {
            hv: hv.clone(),
            device,
            mac,
            seed,
            address,
            lease,
            interface,
            sockets,
            next_port,
            ask_again_ns: 0,
            answer_ns: None,
            event_parts: None,
        };
        Network { stack: Rc::new(RefCell::new(stack)) }
    }

    /// The interface's address; `None` while it has none, which only one of a DHCP server can be.
    #[must_use]
    pub fn address(&self) -> Option<Address> {
        self.stack().address
    }

    /// Whether a connection could be begun: there are an interface and an address.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let stack = self.stack();
        stack.device.up().is_some() && stack.address.is_some()
    }

    /// Waits until a DHCP server has leased an address; `None` if none has before `deadline_ns`.
    #[must_use]
    pub fn wait_for_lease(&self, deadline_ns: u64) -> Option<Address> {
        loop {
            self.poll();
            if let Some(address) = self.address() {
                return Some(address);
            }
            if self.now_ns() >= deadline_ns || !self.wait(deadline_ns) {
                return None;
            }
        }
    }

    /// Sleeps until something comes, something of the network's is due, or `until_ns`. False: nothing can come, as
    /// there is no interface, or the hypervisor refuses.
    #[must_use]
    pub fn wait(&self, until_ns: u64) -> bool {
        let Some(port) = self.port() else { return false };
        let hv = self.stack().hv.clone();
        // Clear before the last look: what comes after it sets the bit again.
        hv.evtchn_take_pending(port);
        if self.enable_events() {
            return true;
        }
        let due_ns = self.due_ns().map_or(until_ns, |due_ns| due_ns.min(until_ns));
        hv.poll(&[port], Some(due_ns)).is_ok()
    }

    /// Nothing that is called while it is borrowed leads back here.
    pub(crate) fn stack(&self) -> RefMut<'_, Stack<H>> {
        self.stack.borrow_mut()
    }

    /// Takes in frames, as many as one turn may, and sends what is due and cannot wait. True if something may
    /// have changed for a connection.
    pub fn poll(&self) -> bool {
        self.stack().poll()
    }

    /// Sends what is due, unless it can wait: acknowledgements can, for a moment.
    pub fn send_answers(&self) {
        let _ = self.stack().send_answers();
    }

    /// Sends what is due.
    pub fn send_frames(&self) {
        let _ = self.stack().send_frames();
    }

    /// The event channel of the interface, if it is connected.
    #[must_use]
    pub fn port(&self) -> Option<Port> {
        self.stack().device.up().map(NetFront::port)
    }

    /// Frames that have come: a poll, nothing is taken.
    #[must_use]
    pub fn frames(&self) -> u32 {
        self.stack().device.up().map_or(0, NetFront::received)
    }

    /// Asks for an event with the next frame, unless [`Network::enable_events_after`] was told that later is enough.
    /// True: look again before sleeping.
    #[must_use]
    pub fn enable_events(&self) -> bool {
        let mut stack = self.stack();
        let parts = stack.event_parts.unwrap_or(1);
        stack.enable_events(parts)
    }

    /// As [`Network::enable_events`], but so many parts of frames make an event. The caller sees to it that it does not
    /// sleep for long. Of all that is asked for since the last [`Network::poll`], the least counts.
    #[must_use]
    pub fn enable_events_after(&self, parts: u32) -> bool {
        let mut stack = self.stack();
        let parts = stack.event_parts.map_or(parts, |others| others.min(parts));
        stack.event_parts = Some(parts);
        stack.enable_events(parts)
    }

    /// When [`Network::poll`] or [`Network::service`] has something to do, without an event.
    #[must_use]
    pub fn due_ns(&self) -> Option<u64> {
        self.stack().due_ns()
    }

    /// Now, as the hypervisor has it.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.stack().hv.now_ns()
    }

    /// Judges a watch event.
    ///
    /// # Errors
    /// A failure of xenstore; nothing is known then.
    pub fn on_watch(&self, xs: &mut Xenstore<H>, path: &str) -> Result<(), StoreError> {
        self.stack().device.on_watch(xs, path)
    }

    /// As [`Network::on_watch`], when events may have been dropped.
    ///
    /// # Errors
    /// A failure of xenstore; nothing is known then.
    pub fn refresh(&self, xs: &mut Xenstore<H>) -> Result<(), StoreError> {
        self.stack().device.refresh(xs)
    }

    /// Does what is due for the interface: notices that it broke, goes a step towards the next one. True
    /// if there is one again.
    pub fn service(&self, xs: &mut Xenstore<H>) -> bool {
        self.stack().service(xs)
    }
}

/// smoltcp's side of the interface. It asks once for the length of frames, and for offloads.
fn interface<H: Hypervisor>(
    device: &mut NetDevice<H>,
    mac: [u8; 6],
    address: Option<Address>,
    (seed, now_ns): (u64, u64),
) -> Interface {
    let mut config = Config::new(EthernetAddress(mac).into());
    // Who sees our frames is not kept out by that.
    config.random_seed = seed;
    let mut interface = Interface::new(config, device, at(now_ns));
    give(&mut interface, address);
    interface
}

/// Gives the interface that address and no other.
fn give(interface: &mut Interface, address: Option<Address>) {
    interface.update_ip_addrs(|addresses| {
        addresses.clear();
        if let Some(Address { ours, prefix_bits, .. }) = address {
            let most_bits = if ours.is_ipv4() { 32 } else { 128 };
            // There is room for one.
            let _ = addresses.push(IpCidr::new(ours.into(), prefix_bits.min(most_bits)));
        }
    });
    let routes = interface.routes_mut();
    routes.remove_default_ipv4_route();
    // There is room for one.
    let _ = match address.and_then(|address| address.gateway) {
        Some(IpAddr::V4(gateway)) => routes.add_default_ipv4_route(gateway).map(drop),
        Some(IpAddr::V6(gateway)) => routes.add_default_ipv6_route(gateway).map(drop),
        None => Ok(()),
    };
}

impl<H: Hypervisor> Stack<H> {
    fn service(&mut self, xs: &mut Xenstore<H>) -> bool {
        let is_new = self.device.service(xs);
        if is_new {
            // It may have other frames and offloads. Connections stand: they are kept elsewhere.
            // It is not to begin with the same numbers again.
            let now_ns = self.hv.now_ns();
            let seed = self.seed ^ now_ns.rotate_left(32);
            self.interface = interface(&mut self.device, self.mac, self.address, (seed, now_ns));
        }
        is_new
    }

    fn enable_events(&mut self, parts: u32) -> bool {
        let wanted = self.sockets_count();
        let Some(front) = self.device.up_mut() else { return false };
        let is_full = !front.can_send();
        let has_more = front.enable_events_for(wanted, parts);
        // Frames that came wait with us for netback to send: to look at them again changes nothing.
        if is_full { front.can_send() } else { has_more }
    }

    fn poll(&mut self) -> bool {
        self.event_parts = None;
        let Stack { hv, device, interface, sockets, .. } = self;
        if device.up().is_none() {
            return false;
        }
        let now = at(hv.now_ns());
        let mut changed = false;
        // Not until there are none: somebody may send faster than we read, and others have work as well.
        for _ in 0..FRAMES_AT_ONCE {
            match interface.poll_ingress_single(now, device, sockets) {
                PollIngressSingleResult::None => break,
                PollIngressSingleResult::PacketProcessed => {}
                PollIngressSingleResult::SocketStateChanged => changed = true,
            }
        }
        // Before anything is sent by it.
        let moved = self.follow_lease();
        self.send_answers() || changed || moved
    }

    /// Takes the address that a DHCP server leases, or gives one up. True if it has changed.
    fn follow_lease(&mut self) -> bool {
        let now_ns = self.hv.now_ns();
        let change = self.lease.as_mut().and_then(|lease| lease.change(&mut self.sockets, now_ns));
        let address = match change {
            None => return false,
            Some(Change::Leased(address)) => Some(address),
            Some(Change::Lost) => None,
        };
        if address == self.address {
            return false;
        }
        match address {
            Some(Address { ours, prefix_bits, gateway: Some(gateway) }) => {
                info!("leased {ours}/{prefix_bits}, gateway {gateway}");
            }
            Some(Address { ours, prefix_bits, .. }) => info!("leased {ours}/{prefix_bits}"),
            None => warn!("the lease of {:?} is over", self.address.map(|address| address.ours)),
        }
        self.address = address;
        give(&mut self.interface, address);
        // Connections have the address that they began with.
        for (_, socket) in self.sockets.iter_mut() {
            if let Socket::Tcp(tcp) = socket {
                tcp.abort();
            }
        }
        true
    }

    /// An acknowledgement alone costs the server's host as much as a request. One of little that has come waits
    /// for the next request, as long as nothing of ours waits for what has come: then it is all on its way.
    fn can_wait(&mut self) -> bool {
        let payload_bytes = self.device.payload_bytes();
        let is_sent = self.sockets.iter().all(|(_, socket)| match socket {
            Socket::Tcp(tcp) => tcp.send_queue() < LITTLE_BYTES,
            Socket::Dhcpv4(_) => true,
        });
        if payload_bytes == 0 || payload_bytes >= LITTLE_BYTES || !is_sent {
            return false;
        }
        let now_ns = self.hv.now_ns();
        now_ns < *self.answer_ns.get_or_insert(now_ns.saturating_add(ANSWER_PAUSE_NS))
    }

    fn send_answers(&mut self) -> bool {
        if !self.can_wait() {
            return self.send_frames();
        }
        // Places that were emptied, and answers of the interface's own.
        if let Some(front) = self.device.up_mut() {
            front.kick();
        }
        false
    }

    pub(crate) fn send_frames(&mut self) -> bool {
        self.answer_ns = None;
        self.device.forget_payload();
        let wanted = self.sockets_count();
        let Stack { hv, device, interface, sockets, .. } = self;
        let now = at(hv.now_ns());
        let mut changed = false;
        for _ in 0..FRAMES_AT_ONCE {
            // A socket that finds no room loses a retransmission (smoltcp 0.14), and its timer with it: then nothing
            // would send that frame again. So nobody is asked before there is room for a frame of each.
            if !device.up_mut().is_some_and(|front| front.has_room(wanted)) {
                break;
            }
            match interface.poll_egress(now, device, sockets) {
                PollResult::None => break,
                PollResult::SocketStateChanged => changed = true,
            }
        }
        if let Some(front) = device.up_mut() {
            front.kick();
        }
        changed
    }

    /// Frames that one look at all sockets may send.
    fn sockets_count(&self) -> usize {
        self.sockets.iter().count()
    }

    /// Asks again who has an address: the server may have moved to another machine, or somebody lied. smoltcp would
    /// believe the last answer for a minute.
    pub(crate) fn forget_neighbors(&mut self) {
        let now_ns = self.hv.now_ns();
        if now_ns < self.ask_again_ns {
            return;
        }
        self.ask_again_ns = now_ns.saturating_add(ASK_PAUSE_NS);
        // What it does whenever addresses may have changed.
        self.interface.update_ip_addrs(|_| ());
    }

    /// Another one each time: the server may still know the last one.
    pub(crate) fn take_port(&mut self) -> u16 {
        let port = self.next_port;
        self.next_port = FIRST_PORT | (port.wrapping_add(1) & 0x3fff);
        port
    }

    fn due_ns(&mut self) -> Option<u64> {
        // Without an interface nothing can be sent, whatever is due.
        if self.device.up().is_none() {
            return self.device.due_ns();
        }
        let now_ns = self.hv.now_ns();
        let due = self.interface.poll_at(at(now_ns), &self.sockets);
        let due_ns = due.map(|due| u64::try_from(due.total_micros()).unwrap_or(0).saturating_mul(1_000));
        let due_ns = due_ns.map(|due_ns| due_ns.max(self.answer_ns.unwrap_or(0)));
        let pause_ns = self.lease.as_ref().and_then(Lease::due_ns);
        let due_ns = due_ns.into_iter().chain(pause_ns).min()?;
        let wanted = self.sockets_count();
        let is_full = self.device.up_mut().is_some_and(|front| !front.has_room(wanted));
        // What is due cannot be sent. An event comes when there is room.
        Some(if is_full { due_ns.max(now_ns.saturating_add(FULL_PAUSE_NS)) } else { due_ns })
    }
}

/// A time of the hypervisor as smoltcp has it: in microseconds, rounded up, so that what is due is due.
fn at(now_ns: u64) -> Instant {
    Instant::from_micros(i64::try_from(now_ns.div_ceil(1_000)).unwrap_or(i64::MAX))
}
