//! A host at the other end of a fake network: smoltcp again, over the frames of a fake netback. It runs
//! whenever the stub waits. It may be on the same machine: then packets come and go uncut, and without
//! checksums.
#![expect(clippy::expect_used, reason = "a fake that cannot go on ends its test")]
#![expect(clippy::arithmetic_side_effects, reason = "test support: a panic is a verdict")]

pub mod dhcp;

use crate::checksum;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::net::IpAddr;
use drivers::fake::{NetBack, RxForm, SentFrame};
use kernel::Hypervisor;
use kernel::fake::FakeXen;
use smoltcp::iface::{Config, Interface, PollIngressSingleResult, SocketHandle, SocketSet};
use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, PacketMeta, RxToken, TxToken};
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
    /// A byte of every n-th frame for the stub is changed, if it has a checksum.
    pub spoil_every: Option<u64>,
    /// Nothing goes through.
    pub is_cut: bool,
    /// Bytes that the application reads at once; `None`: all.
    pub reads_at_once: Option<usize>,
}

/// Another host: what it answers to a frame of the client's.
pub type Neighbor = Box<dyn FnMut(&[u8]) -> Vec<Vec<u8>>>;

struct Wire {
    back: NetBack,
    neighbor: Option<Neighbor>,
    /// It is within the machine.
    is_near: bool,
    /// Bytes of IP packets.
    mtu_bytes: usize,
    arrived: VecDeque<Vec<u8>>,
    faults: Faults,
    frames: u64,
    from_client: u64,
    uncut: u64,
    longest_uncut: usize,
    /// Bytes of the longest frame on the wire, in either direction.
    longest: usize,
}

impl Wire {
    fn loses(&mut self) -> bool {
        self.frames += 1;
        let frames = self.frames;
        self.faults.is_cut || self.faults.lose_every.is_some_and(|every| frames.is_multiple_of(every))
    }

    fn fetch(&mut self) {
        for SentFrame { mut bytes, checksum_blank, segment_bytes, .. } in self.back.take_sent_frames() {
            if self.loses() {
                continue;
            }
            if checksum_blank {
                checksum::finish(&mut bytes);
            }
            // An uncut packet is what a host of the same machine gets. To others, netback's host cuts it.
            let longest = segment_bytes.map_or(self.mtu_bytes, |bytes| usize::from(bytes) + 60);
            assert!(longest <= self.mtu_bytes + 20, "segments that the wire does not take");
            self.from_client += 1;
            self.uncut += u64::from(segment_bytes.is_some());
            self.longest_uncut = self.longest_uncut.max(bytes.len());
            let cut = segment_bytes.map_or(bytes.len(), |segment| usize::from(segment) + 54);
            self.longest = self.longest.max(cut);
            let answers = self.neighbor.as_mut().map_or_else(Vec::new, |neighbor| neighbor(&bytes));
            for answer in answers {
                self.deliver(answer, None);
            }
            self.arrived.push_back(bytes);
        }
    }

    fn deliver(&mut self, mut frame: Vec<u8>, segment_bytes: Option<u16>) {
        if self.loses() {
            return;
        }
        let is_tcp = frame.get(12..14) == Some(&[8, 0]) && frame.get(23) == Some(&6);
        self.longest = self.longest.max(frame.len());
        if self.is_near {
            let form = if is_tcp { RxForm::of_the_host(segment_bytes) } else { RxForm::default() };
            return self.back.deliver_as(&frame, form);
        }
        if let Some(last) = frame.last_mut()
            && self.faults.spoil_every.is_some_and(|every| self.frames.is_multiple_of(every))
        {
            *last ^= 0x10;
        }
        self.back.deliver_as(&frame, RxForm { flags: 0, ..RxForm::default() });
    }
}

struct Arrived(Vec<u8>);

impl RxToken for Arrived {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

struct Leaving<'a>(&'a mut Wire, Option<u16>);

impl TxToken for Leaving<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        self.0.deliver(frame, self.1);
        result
    }

    fn set_meta(&mut self, meta: PacketMeta) {
        self.1 = meta.segmentation_offload_size.map(core::num::NonZeroU16::get);
    }
}

impl Device for Wire {
    type RxToken<'a> = Arrived;
    type TxToken<'a> = Leaving<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(Arrived, Leaving<'_>)> {
        self.fetch();
        let frame = self.arrived.pop_front()?;
        Some((Arrived(frame), Leaving(self, None)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Leaving<'_>> {
        Some(Leaving(self, None))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.mtu_bytes + 14;
        if self.is_near {
            capabilities.checksum.tcp = Checksum::Rx;
            capabilities.segmentation.tcpv4 = core::num::NonZeroUsize::new(65_549);
        }
        capabilities
    }
}

/// What is between netback and a host.
pub struct Link {
    back: NetBack,
    is_near: bool,
    mtu_bytes: usize,
}

impl Link {
    /// A wire to another machine. All on it have the interface's MTU.
    #[must_use]
    pub fn far(back: &NetBack) -> Link {
        let mtu_bytes = back.front_node("mtu").and_then(|mtu| mtu.parse().ok()).unwrap_or(1500);
        Link { back: back.clone(), is_near: false, mtu_bytes }
    }

    /// A bridge within the machine, of that MTU.
    #[must_use]
    pub fn near(back: &NetBack, mtu_bytes: usize) -> Link {
        Link { back: back.clone(), is_near: true, mtu_bytes }
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
    #[must_use]
    pub fn start(
        xen: &FakeXen,
        back: &NetBack,
        address: impl Into<IpAddr>,
        port: u16,
        application: A,
    ) -> FarHost<A> {
        FarHost::start_at(xen, Link::far(back), address.into(), port, application)
    }

    /// The same, at the other end of that.
    ///
    /// # Panics
    /// If smoltcp refuses to listen.
    #[must_use]
    pub fn start_at(xen: &FakeXen, link: Link, address: IpAddr, port: u16, application: A) -> FarHost<A> {
        let Link { back, is_near, mtu_bytes } = link;
        let bits = if address.is_ipv4() { 24 } else { 64 };
        let faults = Faults::default();
        let arrived = VecDeque::new();
        let mut wire = Wire {
            back,
            neighbor: None,
            is_near,
            mtu_bytes,
            arrived,
            faults,
            frames: 0,
            from_client: 0,
            uncut: 0,
            longest_uncut: 0,
            longest: 0,
        };
        let config = Config::new(EthernetAddress([2, 0, 0, 0, 0, 9]).into());
        let mut interface = Interface::new(config, &mut wire, Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::new(address.into(), bits)).expect("room");
        });
        let mut sockets = SocketSet::new(vec![]);
        let buffer = || SocketBuffer::new(vec![0; 64 << 10]);
        let mut tcp = Socket::new(buffer(), buffer());
        // Nobody wakes it when one that it holds back is due.
        tcp.set_ack_delay(None);
        let socket = sockets.add(tcp);
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

    /// Has another host on the network.
    pub fn set_neighbor(&self, neighbor: Neighbor) {
        self.inner.borrow_mut().wire.neighbor = Some(neighbor);
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

    /// Bytes of the longest frame so far, in either direction. Packets that netback's host cuts count as they are cut.
    #[must_use]
    pub fn longest_frame(&self) -> usize {
        self.inner.borrow().wire.longest
    }

    /// Frames that came from the client.
    #[must_use]
    pub fn from_client(&self) -> u64 {
        self.inner.borrow().wire.from_client
    }

    /// Packets that came uncut, and bytes of the longest.
    #[must_use]
    pub fn uncut(&self) -> (u64, usize) {
        let inner = self.inner.borrow();
        (inner.wire.uncut, inner.wire.longest_uncut)
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
        let frames = self.wire.frames;
        self.listen_again();
        loop {
            let Inner { wire, interface, sockets, .. } = &mut *self;
            if interface.poll_ingress_single(now, wire, sockets) == PollIngressSingleResult::None {
                break;
            }
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
        let mut moved = false;
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
        moved || wire.frames != frames
    }
}
