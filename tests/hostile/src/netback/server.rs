//! What is behind this netback: a host of our own with an NBD server, so that the stub has something to use.

use super::link::{FRAME_MAX, Link};
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;
use core::net::Ipv4Addr;
use nbd::fake::{Server, ServerConfig};
use nbd::wire::{FLAG_HAS_FLAGS, FLAG_SEND_FLUSH};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{EthernetAddress, IpCidr, Ipv4Cidr};

/// Where the server is.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const PORT: u16 = 10809;
const BUFFER_BYTES: usize = 128 << 10;

/// The connection of netback, as smoltcp sees it.
struct Wire<'a>(&'a mut Link);

struct Frame(Vec<u8>);

impl RxToken for Frame {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

struct Room<'a>(&'a mut Link);

impl TxToken for Room<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        self.0.deliver(&frame);
        result
    }
}

impl Device for Wire<'_> {
    type RxToken<'b>
        = Frame
    where
        Self: 'b;
    type TxToken<'b>
        = Room<'b>
    where
        Self: 'b;

    fn receive(&mut self, _now: Instant) -> Option<(Frame, Room<'_>)> {
        let frame = self.0.fetch()?;
        Some((Frame(frame), Room(self.0)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Room<'_>> {
        Some(Room(self.0))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = FRAME_MAX;
        // The stub leaves those of its own to netback, which has nobody to make them for.
        capabilities.checksum.tcp = Checksum::Tx;
        capabilities
    }
}

/// The host.
pub struct Host {
    interface: Option<Interface>,
    sockets: SocketSet<'static>,
    socket: SocketHandle,
    is_open: bool,
    server: Server,
}

impl Host {
    /// One that has no network yet.
    pub fn new() -> Host {
        let buffer = || SocketBuffer::new(vec![0; BUFFER_BYTES]);
        let mut socket = Socket::new(buffer(), buffer());
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(None);
        // A connection that an attack has cost is not to be waited for.
        socket.set_timeout(Some(Duration::from_millis(1500)));
        socket.set_keep_alive(Some(Duration::from_millis(500)));
        let mut sockets = SocketSet::new(vec![]);
        let socket = sockets.add(socket);
        let server = Server::new(ServerConfig {
            name: "far".to_string(),
            flags: FLAG_HAS_FLAGS | FLAG_SEND_FLUSH,
            ..ServerConfig::default()
        });
        Host { interface: None, sockets, socket, is_open: false, server }
    }

    /// Requests answered.
    pub fn replies(&self) -> u64 {
        self.server.replies()
    }

    /// Takes what came over the link and answers it.
    pub fn step(&mut self, link: &mut Link, now_ns: u64) {
        let now = Instant::from_micros(i64::try_from(now_ns / 1000).unwrap_or(i64::MAX));
        let mut wire = Wire(link);
        self.poll(&mut wire, now);
        self.serve();
        self.poll(&mut wire, now);
    }

    fn poll(&mut self, wire: &mut Wire<'_>, now: Instant) {
        let interface = self.interface.get_or_insert_with(|| interface(wire, now));
        let _ = interface.poll(now, wire, &mut self.sockets);
    }

    fn serve(&mut self) {
        let tcp = self.sockets.get_mut::<Socket<'_>>(self.socket);
        if matches!(tcp.state(), State::Closed | State::TimeWait) {
            tcp.abort();
            // A socket that is closed can listen.
            let _ = tcp.listen(PORT);
        }
        if tcp.state() == State::CloseWait {
            tcp.close();
        }
        let is_open = tcp.state() == State::Established;
        if is_open && !self.is_open {
            self.server.reconnect();
        }
        self.is_open = is_open;
        if !is_open {
            return;
        }
        while tcp.can_recv() {
            let taken = tcp.recv(|bytes| (bytes.len(), bytes.to_vec()));
            self.server.receive(&taken.unwrap_or_default());
        }
        let bytes = self.server.send(tcp.send_capacity().saturating_sub(tcp.send_queue()));
        let mut rest = bytes.as_slice();
        while let Ok(sent) = tcp.send_slice(rest)
            && sent > 0
        {
            rest = rest.get(sent..).unwrap_or_default();
        }
    }
}

fn interface(wire: &mut Wire<'_>, now: Instant) -> Interface {
    let mut config = Config::new(EthernetAddress([2, 0, 0, 0, 0, 1]).into());
    config.random_seed = 1;
    let mut interface = Interface::new(config, wire, now);
    interface.update_ip_addrs(|addresses| {
        // There is room for one.
        let _ = addresses.push(IpCidr::Ipv4(Ipv4Cidr::new(ADDRESS, 24)));
    });
    interface
}
