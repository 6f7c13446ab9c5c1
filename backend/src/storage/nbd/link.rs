//! The connection to the server, or the way to the next one: TCP, then the negotiation, with TLS in it if there is a key.
//!
//! Nothing here waits. An attempt that fails is followed by a pause, as for a PV disk.

use super::channel::Channel;
use alloc::string::String;
use core::fmt;
use core::net::SocketAddr;
use drivers::backoff;
use kernel::Hypervisor;
use nbd::{Client, Event, Export, Fault, NameTooLong};
use net::{Network, TcpState};
use tls::Secrets;

/// How long the server may take to accept a connection. What is lost on the way is sent again after a
/// second.
const OPENING_NS: u64 = 5_000_000_000;

/// Why there is no connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reason {
    /// Nobody answers at that address.
    NoAnswer,
    /// The server's host refuses connections to that port.
    Refused,
    /// The server ended the connection, or nothing came from its host any more.
    Ended,
    /// It broke the protocol, or refused the export.
    Fault(Fault),
    /// It answered nothing for so long that requests fail.
    Silent,
    /// The export cannot be used; why.
    Unfit(&'static str),
    /// The export's name is too long.
    Name,
    /// TLS failed.
    Tls(tls::Fault),
    /// The server ended the connection instead of proving itself. Servers do so if they do not like the key.
    TlsRefused,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::NoAnswer => f.write_str("no answer"),
            Reason::Refused => f.write_str("connection refused"),
            Reason::Ended => f.write_str("the connection ended"),
            Reason::Fault(fault) => fault.fmt(f),
            Reason::Silent => f.write_str("no answer to requests within the timeout"),
            Reason::Unfit(why) => f.write_str(why),
            Reason::Name => NameTooLong.fmt(f),
            Reason::Tls(fault) => fault.fmt(f),
            Reason::TlsRefused => f.write_str(
                "the server ended the TLS handshake: it has another key for this identity, or none",
            ),
        }
    }
}

impl core::error::Error for Reason {}

/// What a step led to.
pub(super) enum Progress {
    /// The export is agreed: requests can be made.
    Ready(Export),
    /// It was for nothing.
    Failed(Reason),
}

enum Stage {
    /// No attempt before this time.
    Down(u64),
    /// Until this time the server has to accept.
    Opening(u64),
    Negotiating(Client),
    /// Since this time.
    Up(Client, u64),
}

/// The connection.
pub(super) struct Link<H: Hypervisor> {
    channel: Channel<H>,
    export: String,
    stage: Stage,
    pause_ns: u64,
}

/// Server and export, to be shown.
pub(super) struct Name<'a> {
    server: SocketAddr,
    export: &'a str,
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A name may have any character, and a line of the log is one.
        write!(f, "NBD server {}, export {:?}", self.server, self.export)
    }
}

impl<H: Hypervisor> Link<H> {
    /// With `secrets` it is TLS, or nothing.
    pub(super) fn new(
        network: &Network<H>,
        server: SocketAddr,
        export: String,
        secrets: Option<Secrets>,
    ) -> Link<H> {
        let channel = Channel::new(network, server, secrets);
        Link { channel, export, stage: Stage::Down(0), pause_ns: 0 }
    }

    pub(super) fn network(&self) -> &Network<H> {
        self.channel.network()
    }

    pub(super) fn name(&self) -> Name<'_> {
        Name { server: self.channel.server(), export: &self.export }
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(self.stage, Stage::Up(..))
    }

    /// What requests go over, if it is up.
    pub(super) fn up(&mut self) -> Option<(&mut Client, &mut Channel<H>)> {
        match &mut self.stage {
            Stage::Up(client, _) => Some((client, &mut self.channel)),
            _ => None,
        }
    }

    /// Bytes that wait to be read.
    pub(super) fn received(&self) -> usize {
        if self.is_up() { self.channel.received() } else { 0 }
    }

    /// Whether a connection that was up is so no more, and everything that came over it was read.
    pub(super) fn has_ended(&self) -> bool {
        self.is_up() && self.channel.state() != TcpState::Open && self.channel.received() == 0
    }

    /// Ends the connection: there is another one after a pause, which is none if this one has lasted.
    pub(super) fn lose(&mut self) {
        let now_ns = self.network().now_ns();
        self.pause_ns = match self.stage {
            Stage::Up(_, since_ns) => backoff::after(now_ns.saturating_sub(since_ns), self.pause_ns),
            _ => backoff::longer(self.pause_ns),
        };
        self.hold_off(self.pause_ns);
    }

    /// Ends the connection: no other one for so long.
    pub(super) fn hold_off(&mut self, pause_ns: u64) {
        self.channel.abort();
        self.stage = Stage::Down(self.network().now_ns().saturating_add(pause_ns));
    }

    /// When [`Link::step`] has something to do, whatever comes.
    pub(super) fn due_ns(&self) -> Option<u64> {
        match &self.stage {
            // Without an interface and an address nothing can begin: the network has times of its own.
            Stage::Down(_) if !self.network().is_ready() => None,
            Stage::Down(until_ns) | Stage::Opening(until_ns) => Some(*until_ns),
            Stage::Negotiating(client) => client.due_ns(),
            Stage::Up(..) => None,
        }
    }

    /// Does what can be done now on the way to a connection.
    pub(super) fn step(&mut self) -> Option<Progress> {
        let now_ns = self.network().now_ns();
        let failed = match &mut self.stage {
            Stage::Up(..) => return None,
            Stage::Down(until_ns) => {
                if now_ns >= *until_ns && self.network().is_ready() {
                    self.channel.open();
                    self.stage = Stage::Opening(now_ns.saturating_add(OPENING_NS));
                }
                return None;
            }
            Stage::Opening(until_ns) => match self.channel.state() {
                TcpState::Open => match Client::new(&self.export, self.channel.security(), now_ns) {
                    Ok(client) => {
                        self.stage = Stage::Negotiating(client);
                        return self.step();
                    }
                    Err(NameTooLong) => Reason::Name,
                },
                TcpState::Opening if now_ns < *until_ns => return None,
                TcpState::Opening => Reason::NoAnswer,
                TcpState::Closed => Reason::Refused,
                TcpState::Ending => Reason::Ended,
            },
            Stage::Negotiating(client) => match negotiate(client, &mut self.channel, now_ns) {
                Ok(None) => return None,
                Ok(Some(export)) => {
                    self.go_up(now_ns);
                    return Some(Progress::Ready(export));
                }
                Err(reason) => reason,
            },
        };
        self.lose();
        Some(Progress::Failed(failed))
    }

    fn go_up(&mut self, now_ns: u64) {
        let stage = core::mem::replace(&mut self.stage, Stage::Down(0));
        self.stage = match stage {
            Stage::Negotiating(client) => Stage::Up(client, now_ns),
            other => other,
        };
    }

    /// Nothing more is to be expected within the time that there was.
    pub(super) fn give_up(&mut self) -> Reason {
        let reason = match self.stage {
            Stage::Negotiating(_) => Reason::Fault(Fault::TimedOut),
            _ => Reason::NoAnswer,
        };
        self.lose();
        reason
    }
}

/// Takes what has come of the negotiation; the export at its end.
fn negotiate<H: Hypervisor>(
    client: &mut Client,
    channel: &mut Channel<H>,
    now_ns: u64,
) -> Result<Option<Export>, Reason> {
    loop {
        let was_shaking = channel.is_shaking_hands();
        let step = step_of(client, channel)?;
        let has_tls = was_shaking && !channel.is_shaking_hands();
        if has_tls || step == Some(Step::Greeted) {
            // There is room: it is the first that is sent, in clear or over TLS.
            let _ = channel.send(&client.opening());
            channel.network().send_frames();
        }
        match step {
            Some(Step::Ready(export)) => return Ok(Some(export)),
            Some(Step::StartTls) => channel.start_tls().map_err(Reason::Tls)?,
            Some(Step::Greeted) => {}
            None if has_tls => {}
            None => break,
        }
    }
    client.check(now_ns).map_err(Reason::Fault)?;
    match channel.state() {
        TcpState::Open => Ok(None),
        _ if channel.is_shaking_hands() => Err(Reason::TlsRefused),
        _ => Err(Reason::Ended),
    }
}

/// What the server has led the negotiation to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Step {
    Greeted,
    StartTls,
    Ready(Export),
}

/// Takes what has come up to the next step: what follows it may have to be read in another way.
fn step_of<H: Hypervisor>(client: &mut Client, channel: &mut Channel<H>) -> Result<Option<Step>, Reason> {
    let (mut step, mut fault) = (None, None);
    let received = channel.receive(|bytes| {
        if step.is_some() || fault.is_some() {
            return 0;
        }
        let mut rest = bytes;
        match client.receive(&mut rest) {
            Ok(Some(Event::Greeted)) => step = Some(Step::Greeted),
            Ok(Some(Event::StartTls)) => step = Some(Step::StartTls),
            Ok(Some(Event::Ready(export))) => step = Some(Step::Ready(export)),
            // There are no requests yet.
            Ok(None | Some(Event::Data { .. } | Event::Done { .. })) => {}
            Err(broken) => fault = Some(broken),
        }
        bytes.len().saturating_sub(rest.len())
    });
    received.map_err(Reason::Tls)?;
    match fault {
        Some(fault) => Err(Reason::Fault(fault)),
        None => Ok(step),
    }
}
