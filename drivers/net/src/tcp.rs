//! One TCP connection to one server.

use crate::network::Network;
use alloc::vec;
use core::net::SocketAddr;
use kernel::Hypervisor;
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::{CongestionControl, Socket, SocketBuffer, State};
use smoltcp::time::Duration;

/// Bytes that may come before they are read. At 10 Gbit/s and 0.2 ms that is the whole way's content. It is
/// also the largest window, so it asks for window scaling.
pub const RX_BUFFER_BYTES: usize = (256 << 10) - 1;
/// Until its first acknowledgement smoltcp 0.14 takes the window of its SYN (65535, not scaled) for a scaled one, and
/// panics at data beyond the buffer. So the scaled one has to lie within the buffer.
const _: () = assert!((0xffff << scale(RX_BUFFER_BYTES)) <= RX_BUFFER_BYTES);
/// Bytes that may wait to be sent, or to be acknowledged. The same, and room for a request of
/// 128 KiB behind one that is on its way, with their headers.
pub const TX_BUFFER_BYTES: usize = (256 << 10) + 64;
/// Without an answer for so long the connection is over.
const TIMEOUT: Duration = Duration::from_secs(15);
/// An idle connection is tried so often: a server that has gone is noticed before somebody needs it, and one
/// that has nothing to say is not taken for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// The window scale that smoltcp asks for with a receive buffer of that size.
const fn scale(buffer_bytes: usize) -> u32 {
    usize::BITS.saturating_sub(buffer_bytes.leading_zeros()).saturating_sub(16)
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

/// A client of one server. Frames go and come with [`Network::poll`].
pub struct TcpClient<H: Hypervisor> {
    network: Network<H>,
    socket: SocketHandle,
    server: SocketAddr,
}

impl<H: Hypervisor> TcpClient<H> {
    /// A client of that server, without a connection yet.
    #[must_use]
    pub fn new(network: &Network<H>, server: SocketAddr) -> TcpClient<H> {
        let buffer = |bytes| SocketBuffer::new(vec![0; bytes]);
        let mut socket = Socket::new(buffer(RX_BUFFER_BYTES), buffer(TX_BUFFER_BYTES));
        // Requests are short and somebody waits for each: neither data nor answers are held back.
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(None);
        socket.set_congestion_control(CongestionControl::Reno);
        socket.set_timeout(Some(TIMEOUT));
        socket.set_keep_alive(Some(KEEP_ALIVE));
        let socket = network.stack().sockets.add(socket);
        TcpClient { network: network.clone(), socket, server }
    }

    fn with<R>(&self, with: impl FnOnce(&mut Socket<'static>) -> R) -> R {
        with(self.network.stack().sockets.get_mut(self.socket))
    }

    /// The network that it uses.
    #[must_use]
    pub fn network(&self) -> &Network<H> {
        &self.network
    }

    /// Who is at the other end.
    #[must_use]
    pub fn server(&self) -> SocketAddr {
        self.server
    }

    /// How the connection is.
    #[must_use]
    pub fn state(&self) -> TcpState {
        match self.with(|socket| socket.state()) {
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
        let mut stack = self.network.stack();
        stack.forget_neighbors();
        let local = stack.take_port();
        let remote = (self.server.ip(), self.server.port());
        let stack = &mut *stack;
        let socket = stack.sockets.get_mut::<Socket<'_>>(self.socket);
        // What it could refuse (no address, port 0) shows as a state that stays closed.
        let _ = socket.connect(stack.interface.context(), remote, local);
    }

    /// Ends the connection at once, and tells the server, if there is a way to it.
    pub fn abort(&mut self) {
        let was_open = self.with(|socket| {
            let is_open = socket.is_open();
            if is_open {
                socket.abort();
            }
            is_open
        });
        if was_open {
            // The farewell goes now: the socket forgets it with the next connection.
            self.network.send_frames();
        }
    }

    /// Bytes that [`TcpClient::send`] takes now.
    #[must_use]
    pub fn send_room(&self) -> usize {
        self.with(|socket| {
            let room = socket.send_capacity().saturating_sub(socket.send_queue());
            if socket.may_send() { room } else { 0 }
        })
    }

    /// Takes bytes to be sent with the next [`Network::poll`]: all, or none if there is no room for all.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        let fits = bytes.len() <= self.send_room();
        // The buffer's end lies somewhere in its memory, so it may take two parts.
        let mut rest = bytes;
        while fits && !rest.is_empty() {
            match self.with(|socket| socket.send_slice(rest)) {
                Ok(taken) if taken > 0 => rest = rest.get(taken..).unwrap_or_default(),
                _ => break,
            }
        }
        fits && rest.is_empty()
    }

    /// Hands received bytes to `take`, which returns how many of them it took, until there are none or it
    /// takes none. It must not use the network.
    pub fn receive(&mut self, mut take: impl FnMut(&[u8]) -> usize) {
        self.with(|socket| {
            while socket.can_recv() {
                let taken = socket.recv(|bytes| {
                    let taken = take(bytes).min(bytes.len());
                    (taken, taken)
                });
                if !matches!(taken, Ok(taken) if taken > 0) {
                    return;
                }
            }
        });
    }

    /// Bytes that have been received.
    #[must_use]
    pub fn received(&self) -> usize {
        self.with(|socket| socket.recv_queue())
    }
}
