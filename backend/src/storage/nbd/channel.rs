//! What goes between client and server: the bytes of a TCP connection, or data sealed by TLS in them.
//!
//! With a key nothing but the beginning of the negotiation goes in clear: [`nbd::Client`] asks for nothing else before TLS.

use alloc::boxed::Box;
use core::net::SocketAddr;
use kernel::Hypervisor;
use nbd::Security;
use net::{Network, TcpClient, TcpState};
use tls::{DATA_MAX_BYTES, Fault, RECORD_OVERHEAD_BYTES, Secrets, Session, UPDATE_BYTES};

/// Bytes of the longest record.
const RECORD_BYTES: usize = DATA_MAX_BYTES + RECORD_OVERHEAD_BYTES;

/// A connection's bytes.
pub(super) struct Channel<H: Hypervisor> {
    tcp: TcpClient<H>,
    secrets: Option<Secrets>,
    session: Option<Box<Session>>,
}

impl<H: Hypervisor> Channel<H> {
    pub(super) fn new(network: &Network<H>, server: SocketAddr, secrets: Option<Secrets>) -> Channel<H> {
        Channel { tcp: TcpClient::new(network, server), secrets, session: None }
    }

    pub(super) fn network(&self) -> &Network<H> {
        self.tcp.network()
    }

    pub(super) fn server(&self) -> SocketAddr {
        self.tcp.server()
    }

    pub(super) fn state(&self) -> TcpState {
        self.tcp.state()
    }

    /// Whether it has to be TLS.
    pub(super) fn security(&self) -> Security {
        if self.secrets.is_some() { Security::Tls } else { Security::Plain }
    }

    /// Begins a connection, in clear.
    pub(super) fn open(&mut self) {
        self.session = None;
        self.tcp.open();
        self.network().send_frames();
    }

    pub(super) fn abort(&mut self) {
        self.session = None;
        self.tcp.abort();
    }

    /// Begins TLS: the server has agreed to it.
    ///
    /// # Errors
    /// There is no key, so nobody has asked for it.
    pub(super) fn start_tls(&mut self) -> Result<(), Fault> {
        let secrets = self.secrets.as_mut().ok_or(Fault::Unexpected("beginning"))?;
        self.session = Some(Box::new(Session::new(secrets)?));
        self.send_outgoing();
        Ok(())
    }

    /// Whether TLS was begun and the server has not proved itself yet.
    pub(super) fn is_shaking_hands(&self) -> bool {
        self.session.as_ref().is_some_and(|session| !session.is_open())
    }

    fn send_outgoing(&mut self) {
        let Some(session) = &mut self.session else { return };
        let said = session.outgoing();
        if !said.as_ref().is_empty() {
            // There is room: nothing else was sent for a while.
            let _ = self.tcp.send(said.as_ref());
            self.tcp.network().send_frames();
        }
    }

    /// Bytes that [`Channel::send`] takes now, in two parts if need be.
    pub(super) fn send_room(&self) -> usize {
        let room = self.tcp.send_room();
        if self.session.is_none() {
            return room;
        }
        // A second part has a record of its own, and keys may have to be changed first.
        let room = room.saturating_sub(UPDATE_BYTES + RECORD_OVERHEAD_BYTES);
        let rest = (room % RECORD_BYTES).saturating_sub(RECORD_OVERHEAD_BYTES);
        (room / RECORD_BYTES).saturating_mul(DATA_MAX_BYTES).saturating_add(rest)
    }

    /// Takes bytes to be sent with the next [`Network::poll`]: all, or none if there is no room for all.
    pub(super) fn send(&mut self, bytes: &[u8]) -> bool {
        let fits = bytes.len() <= self.send_room();
        match &mut self.session {
            None => self.tcp.send(bytes),
            Some(session) => {
                let tcp = &mut self.tcp;
                let mut send = |data| session.seal(data).is_some_and(|record| tcp.send(record));
                fits && bytes.chunks(DATA_MAX_BYTES).all(&mut send)
            }
        }
    }

    /// Hands received bytes to `take`, which returns how many of them it took, until there are none or it
    /// takes none. It must not use the network.
    ///
    /// # Errors
    /// TLS is over, which has to be noticed: [`Channel::received`] says that there is something.
    pub(super) fn receive(&mut self, mut take: impl FnMut(&[u8]) -> usize) -> Result<(), Fault> {
        if self.session.is_none() {
            self.tcp.receive(take);
            return Ok(());
        }
        loop {
            if !self.hand_out(&mut take) {
                return Ok(());
            }
            let outcome = self.open_records();
            // Our part of the handshake, if it has come to that.
            self.send_outgoing();
            if !outcome? {
                return Ok(());
            }
        }
    }

    /// Hands out what was opened. False if something is left.
    fn hand_out(&mut self, take: &mut impl FnMut(&[u8]) -> usize) -> bool {
        let Some(session) = &mut self.session else { return true };
        while !session.data().is_empty() {
            let taken = take(session.data());
            if taken == 0 {
                return false;
            }
            session.consume(taken);
        }
        true
    }

    /// Opens what has come, up to the next data. True if there are some.
    fn open_records(&mut self) -> Result<bool, Fault> {
        let Channel { tcp, session: Some(session), .. } = self else { return Ok(false) };
        let mut outcome = session.fault().map_or(Ok(()), Err);
        tcp.receive(|bytes| match session.take(bytes) {
            Ok(taken) => taken,
            Err(fault) => {
                outcome = Err(fault);
                0
            }
        });
        outcome.map(|()| !session.data().is_empty())
    }

    /// Bytes that have been received, or more than none if [`Channel::receive`] fails.
    pub(super) fn received(&self) -> usize {
        let opened = self.session.as_ref().map_or(0, |session| {
            // Nobody reads what came after it.
            session.data().len().max(usize::from(session.fault().is_some()))
        });
        self.tcp.received().saturating_add(opened)
    }
}
