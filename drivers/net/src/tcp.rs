//! One TCP connection to one server.

use crate::device::NetDevice;
use alloc::vec;
use core::net::Ipv4Addr;
use drivers::netfront::NetFront;
use drivers::xenstore::{StoreError, Xenstore};
use kernel::{Hypervisor, Port};
use smoltcp::iface::{Config, Interface, PollIngressSingleResult, PollResult, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{CongestionControl, Socket, SocketBuffer, State};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{EthernetAddress, IpCidr, Ipv4Cidr};

/// Bytes that may come before they are read. At 10 Gbit/s and 0.2 ms that is the whole way's content. It is
/// also the largest window, so it asks for window scaling.
pub const RX_BUFFER_BYTES: usize = 256 << 10;
/// Bytes that may wait to be sent, or to be acknowledged. The same, and room for a request of
/// 128 KiB behind one that is on its way.
pub const TX_BUFFER_BYTES: usize = 256 << 10;
/// Frames that one call of [`TcpClient::poll`] takes at most: as many as netback's ring holds.
const FRAMES_AT_ONCE: usize = 256;
/// Without an answer for so long the connection is over.
const TIMEOUT: Duration = Duration::from_secs(15);
/// An idle connection is tried so often: a server that has gone is noticed before somebody needs it, and one
/// that has nothing to say is not taken for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// How often to look whether netback has sent something, when it has no room and makes no event.
const FULL_PAUSE_NS: u64 = 10_000_000;
/// The first of the ports that we use, one for each connection in turn (RFC 6335, "dynamic").
const FIRST_PORT: u16 = 49152;

/// Who we are on the network, and who the server is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Address {
    /// Our own.
    pub ours: Ipv4Addr,
    /// Bits of it that name the network, at most 32.
    pub prefix_bits: u8,
    /// Who knows the way to other networks.
    pub gateway: Option<Ipv4Addr>,
    /// The server.
    pub server: Ipv4Addr,
    /// Its TCP port, not 0.
    pub server_port: u16,
}

/// How the connection is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TcpState {
    /// There is none: [`TcpClient::open`] begins one.
    Closed,
    /// The server has not answered yet.
    Opening,
    /// Bytes go both ways.
    Open,
    /// The server sends no more. What came before can still be read.
    Ending,
}

/// A client of one server.
pub struct TcpClient<H: Hypervisor> {
    hv: H,
    address: Address,
    device: NetDevice<H>,
    interface: Interface,
    sockets: SocketSet<'static>,
    socket: SocketHandle,
    next_port: u16,
}

impl<H: Hypervisor> TcpClient<H> {
    /// A client on a connected interface, without a connection to its server.
    #[must_use]
    pub fn new(hv: &H, front: NetFront<H>, address: Address) -> TcpClient<H> {
        let mac = front.mac();
        let mut device = NetDevice::new(front);
        let now_ns = hv.now_ns();
        let mut config = Config::new(EthernetAddress(mac).into());
        // There is no better source of what others cannot know: sequence numbers begin there. It keeps
        // nobody out who sees our frames.
        config.random_seed = now_ns ^ u64::from(address.ours.to_bits()).rotate_left(32);
        let mut interface = Interface::new(config, &mut device, at(now_ns));
        interface.update_ip_addrs(|addresses| {
            let ours = Ipv4Cidr::new(address.ours, address.prefix_bits.min(32));
            // There is room for one.
            let _ = addresses.push(IpCidr::Ipv4(ours));
        });
        if let Some(gateway) = address.gateway {
            // There is room for one.
            let _ = interface.routes_mut().add_default_ipv4_route(gateway);
        }
        let buffer = |bytes| SocketBuffer::new(vec![0; bytes]);
        let mut socket = Socket::new(buffer(RX_BUFFER_BYTES), buffer(TX_BUFFER_BYTES));
        // Requests are short and somebody waits for each: neither data nor answers are held back.
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(None);
        socket.set_congestion_control(CongestionControl::Reno);
        socket.set_timeout(Some(TIMEOUT));
        socket.set_keep_alive(Some(KEEP_ALIVE));
        let mut sockets = SocketSet::new(vec![]);
        let socket = sockets.add(socket);
        let next_port = FIRST_PORT | u16::try_from(now_ns >> 10 & 0x3fff).unwrap_or(0);
        TcpClient { hv: hv.clone(), address, device, interface, sockets, socket, next_port }
    }

    fn socket(&self) -> &Socket<'static> {
        self.sockets.get(self.socket)
    }

    fn socket_mut(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.socket)
    }

    /// How the connection is.
    #[must_use]
    pub fn state(&self) -> TcpState {
        match self.socket().state() {
            State::Closed | State::Listen | State::TimeWait => TcpState::Closed,
            State::SynSent | State::SynReceived => TcpState::Opening,
            State::Established => TcpState::Open,
            State::CloseWait | State::FinWait1 | State::FinWait2 | State::Closing | State::LastAck => {
                TcpState::Ending
            }
        }
    }

    /// Begins a connection. The one that there was is over, whatever was under way.
    pub fn open(&mut self) {
        self.abort();
        let local = self.next_port;
        // Another one each time: the server may still know the last one.
        self.next_port = FIRST_PORT | (local.wrapping_add(1) & 0x3fff);
        let TcpClient { address, interface, sockets, socket, .. } = self;
        let remote = (address.server, address.server_port);
        // What it could refuse is refused before (`Address`), or shows as a state that stays closed.
        let _ = sockets.get_mut::<Socket<'_>>(*socket).connect(interface.context(), remote, local);
    }

    /// Ends the connection at once, and tells the server, if there is a way to it.
    pub fn abort(&mut self) {
        if self.socket().is_open() {
            self.socket_mut().abort();
            // The farewell goes now: the socket forgets it with the next connection.
            self.send_frames();
        }
    }

    /// Takes in frames and sends what is due. True if something may have changed for the caller.
    pub fn poll(&mut self) -> bool {
        let TcpClient { hv, device, interface, sockets, .. } = self;
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
        self.send_frames() || changed
    }

    fn send_frames(&mut self) -> bool {
        let TcpClient { hv, device, interface, sockets, .. } = self;
        let now = at(hv.now_ns());
        let mut changed = false;
        // It ends when netfront's pages do.
        for _ in 0..FRAMES_AT_ONCE {
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

    /// Bytes that [`TcpClient::send`] takes now.
    #[must_use]
    pub fn send_room(&self) -> usize {
        let socket = self.socket();
        if socket.may_send() { socket.send_capacity().saturating_sub(socket.send_queue()) } else { 0 }
    }

    /// Takes bytes to be sent with the next [`TcpClient::poll`]: all, or none if there is no room for all.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        let fits = bytes.len() <= self.send_room();
        // The buffer's end lies somewhere in its memory, so it may take two parts.
        let mut rest = bytes;
        while fits && !rest.is_empty() {
            match self.socket_mut().send_slice(rest) {
                Ok(taken) if taken > 0 => rest = rest.get(taken..).unwrap_or_default(),
                _ => break,
            }
        }
        fits && rest.is_empty()
    }

    /// Hands received bytes to `take`, which returns how many of them it took, until there are none or it
    /// takes none.
    pub fn receive(&mut self, mut take: impl FnMut(&[u8]) -> usize) {
        let socket = self.socket_mut();
        while socket.can_recv() {
            let taken = socket.recv(|bytes| {
                let taken = take(bytes).min(bytes.len());
                (taken, taken)
            });
            if !matches!(taken, Ok(taken) if taken > 0) {
                return;
            }
        }
    }

    /// Bytes that have been received.
    #[must_use]
    pub fn received(&self) -> usize {
        self.socket().recv_queue()
    }

    /// The event channel of the interface, if it is connected.
    #[must_use]
    pub fn port(&self) -> Option<Port> {
        self.device.up().map(NetFront::port)
    }

    /// Frames that have come: a poll, nothing is taken.
    #[must_use]
    pub fn frames(&self) -> u32 {
        self.device.up().map_or(0, NetFront::received)
    }

    /// Asks for an event with the next frame. True: look again before sleeping.
    pub fn enable_events(&mut self) -> bool {
        let Some(front) = self.device.up_mut() else { return false };
        let is_full = !front.can_send();
        let has_more = front.enable_events();
        // Frames that came wait with us for netback to send: to look at them again changes nothing.
        if is_full { front.can_send() } else { has_more }
    }

    /// When [`TcpClient::poll`] or [`TcpClient::service`] has something to do, without an event.
    #[must_use]
    pub fn due_ns(&mut self) -> Option<u64> {
        // Without an interface nothing can be sent, whatever is due.
        if self.device.up().is_none() {
            return self.device.due_ns();
        }
        let now_ns = self.hv.now_ns();
        let due = self.interface.poll_at(at(now_ns), &self.sockets)?;
        let due_ns = u64::try_from(due.total_micros()).unwrap_or(0).saturating_mul(1_000);
        let is_full = self.device.up_mut().is_some_and(|front| !front.can_send());
        // What is due cannot be sent. An event comes when there is room.
        Some(if is_full { due_ns.max(now_ns.saturating_add(FULL_PAUSE_NS)) } else { due_ns })
    }

    /// Judges a watch event.
    ///
    /// # Errors
    /// A failure of xenstore; nothing is known then.
    pub fn on_watch(&mut self, xs: &mut Xenstore<H>, path: &str) -> Result<(), StoreError> {
        self.device.on_watch(xs, path)
    }

    /// As [`TcpClient::on_watch`], when events may have been dropped.
    ///
    /// # Errors
    /// A failure of xenstore; nothing is known then.
    pub fn refresh(&mut self, xs: &mut Xenstore<H>) -> Result<(), StoreError> {
        self.device.refresh(xs)
    }

    /// Does what is due for the interface: notices that it broke, goes a step towards the next one. True
    /// if there is one again.
    pub fn service(&mut self, xs: &mut Xenstore<H>) -> bool {
        self.device.service(xs)
    }
}

/// A time of the hypervisor as smoltcp has it: in microseconds, rounded up, so that what is due is due.
fn at(now_ns: u64) -> Instant {
    Instant::from_micros(i64::try_from(now_ns.div_ceil(1_000)).unwrap_or(i64::MAX))
}
