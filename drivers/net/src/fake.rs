//! A host at the other end of a fake network: smoltcp again, over the frames of a fake netback. It runs
//! whenever the stub waits.
#![expect(clippy::expect_used, reason = "a fake that cannot go on ends its test")]
#![expect(clippy::arithmetic_side_effects, reason = "test support: a panic is a verdict")]

use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::net::IpAddr;
use drivers::fake::NetBack;
use kernel::Hypervisor;
use kernel::fake::FakeXen;
use smoltcp::iface::{Config, Interface, PollIngressSingleResult, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, IpCidr};

/// What a TCP server does with a connection.
pub trait Application {
    /// A client has connected.
    fn open(&mut self);
    /// Bytes of the client.
    fn receive(&mut self, bytes: &[u8]);
    /// Up to `max` bytes for the client.
    fn send(&mut self, max: usize) -> Vec<u8>;
}

impl Application for nbd::fake::Server {
    fn open(&mut self) {
        self.reconnect();
    }

    fn receive(&mut self, bytes: &[u8]) {
        nbd::fake::Server::receive(self, bytes);
    }

    fn send(&mut self, max: usize) -> Vec<u8> {
        nbd::fake::Server::send(self, max)
    }
}

/// What the network and the host do wrong.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Every n-th frame is lost, in each direction.
    pub lose_every: Option<u64>,
    /// Nothing goes through.
    pub is_cut: bool,
    /// Bytes that the application reads at once; `None`: all.
    pub reads_at_once: Option<usize>,
}

struct Wire {
    back: NetBack,
    arrived: VecDeque<Vec<u8>>,
    faults: Faults,
    frames: u64,
    mtu: usize,
    /// Bytes of the longest frame in either direction so far.
    longest: usize,
}

impl Wire {
    fn loses(&mut self, len: usize) -> bool {
        self.frames += 1;
        self.longest = self.longest.max(len);
        let frames = self.frames;
        self.faults.is_cut || self.faults.lose_every.is_some_and(|every| frames.is_multiple_of(every))
    }

    fn fetch(&mut self) {
        for frame in self.back.take_sent() {
            if !self.loses(frame.len()) {
                self.arrived.push_back(frame);
            }
        }
    }
}

struct Arrived(Vec<u8>);

impl RxToken for Arrived {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

struct Leaving<'a>(&'a mut Wire);

impl TxToken for Leaving<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        if !self.0.loses(len) {
            self.0.back.deliver(&frame);
        }
        result
    }
}

impl Device for Wire {
    type RxToken<'a> = Arrived;
    type TxToken<'a> = Leaving<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(Arrived, Leaving<'_>)> {
        self.fetch();
        let frame = self.arrived.pop_front()?;
        Some((Arrived(frame), Leaving(self)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Leaving<'_>> {
        Some(Leaving(self))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 14 + self.mtu;
        capabilities
    }
}

struct Inner<A> {
    xen: FakeXen,
    wire: Wire,
    interface: Interface,
    sockets: SocketSet<'static>,
    socket: SocketHandle,
    port: u16,
    is_open: bool,
    is_listening: bool,
    connections: u64,
    application: A,
}

/// A handle on the host; clones are the same host.
pub struct FarHost<A> {
    inner: Rc<RefCell<Inner<A>>>,
}

impl<A> Clone for FarHost<A> {
    fn clone(&self) -> Self {
        FarHost { inner: self.inner.clone() }
    }
}

impl<A: Application + 'static> FarHost<A> {
    /// A host with that address, of a network of 24 bits (IPv6: 64), and a server on `port`.
    ///
    /// # Panics
    /// If smoltcp refuses to listen.
    #[must_use]
    pub fn start(
        xen: &FakeXen,
        back: &NetBack,
        address: impl Into<IpAddr>,
        port: u16,
        application: A,
    ) -> FarHost<A> {
        let address = address.into();
        let bits = if address.is_ipv4() { 24 } else { 64 };
        let faults = Faults::default();
        // That of the interface, as on a network where all hosts have the same.
        let mtu = back.front_node("mtu").and_then(|mtu| mtu.parse().ok()).unwrap_or(1500);
        let mut wire =
            Wire { back: back.clone(), arrived: VecDeque::new(), faults, frames: 0, mtu, longest: 0 };
        let config = Config::new(EthernetAddress([2, 0, 0, 0, 0, 9]).into());
        let mut interface = Interface::new(config, &mut wire, Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::new(address.into(), bits)).expect("room");
        });
        let mut sockets = SocketSet::new(vec![]);
        let buffer = || SocketBuffer::new(vec![0; 64 << 10]);
        let socket = sockets.add(Socket::new(buffer(), buffer()));
        let inner = Inner {
            xen: xen.clone(),
            wire,
            interface,
            sockets,
            socket,
            port,
            is_open: false,
            is_listening: true,
            connections: 0,
            application,
        };
        let host = FarHost { inner: Rc::new(RefCell::new(inner)) };
        let peer = host.clone();
        xen.on_idle(move || peer.inner.borrow_mut().step());
        host
    }

    /// Sets what goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.inner.borrow_mut().wire.faults = faults;
    }

    /// Whether the server takes connections. One that does not refuses them, and ends the present one.
    pub fn listen(&self, listens: bool) {
        let mut inner = self.inner.borrow_mut();
        inner.is_listening = listens;
        let socket = inner.socket;
        inner.sockets.get_mut::<Socket<'_>>(socket).abort();
    }

    /// Ends the present connection in order.
    pub fn close(&self) {
        let mut inner = self.inner.borrow_mut();
        let socket = inner.socket;
        inner.sockets.get_mut::<Socket<'_>>(socket).close();
    }

    /// Connections made so far.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.inner.borrow().connections
    }

    /// The client's port, if there is a connection.
    #[must_use]
    pub fn client_port(&self) -> Option<u16> {
        let inner = self.inner.borrow();
        inner.sockets.get::<Socket<'_>>(inner.socket).remote_endpoint().map(|endpoint| endpoint.port)
    }

    /// Frames that went through or were lost, in both directions.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.inner.borrow().wire.frames
    }

    /// Bytes of the longest frame so far, in either direction.
    #[must_use]
    pub fn longest_frame(&self) -> usize {
        self.inner.borrow().wire.longest
    }

    /// Works with the application.
    pub fn with<R>(&self, with: impl FnOnce(&mut A) -> R) -> R {
        with(&mut self.inner.borrow_mut().application)
    }
}

impl<A: Application> Inner<A> {
    fn listen_again(&mut self) {
        let tcp = self.sockets.get_mut::<Socket<'_>>(self.socket);
        if self.is_listening && matches!(tcp.state(), State::Closed | State::TimeWait) {
            tcp.abort();
            tcp.listen(self.port).expect("a closed socket");
            self.is_open = false;
        }
    }

    fn step(&mut self) -> bool {
        let now = Instant::from_micros(i64::try_from(self.xen.now_ns() / 1000).expect("a short test"));
        self.listen_again();
        let mut had_frames = false;
        loop {
            let Inner { wire, interface, sockets, .. } = &mut *self;
            if interface.poll_ingress_single(now, wire, sockets) == PollIngressSingleResult::None {
                break;
            }
            had_frames = true;
            // The next frame may begin the next connection.
            self.listen_again();
        }
        let Inner { wire, interface, sockets, socket, application, .. } = self;
        let _ = interface.poll(now, wire, sockets);
        let tcp = sockets.get_mut::<Socket<'_>>(*socket);
        let open = tcp.may_send() && tcp.state() == State::Established;
        if open && !self.is_open {
            self.connections += 1;
            application.open();
        }
        self.is_open = open;
        let mut moved = had_frames;
        let at_once = wire.faults.reads_at_once.unwrap_or(usize::MAX);
        while tcp.can_recv() {
            let taken = tcp.recv(|bytes| {
                let taken = bytes.len().min(at_once);
                (taken, bytes.get(..taken).unwrap_or_default().to_vec())
            });
            application.receive(&taken.expect("it can"));
            moved = true;
            if wire.faults.reads_at_once.is_some() {
                break;
            }
        }
        if open {
            let bytes = application.send(tcp.send_capacity() - tcp.send_queue());
            moved |= !bytes.is_empty();
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let sent = tcp.send_slice(rest).expect("open");
                rest = rest.get(sent..).unwrap_or_default();
            }
        }
        let _ = interface.poll(now, wire, sockets);
        moved
    }
}
