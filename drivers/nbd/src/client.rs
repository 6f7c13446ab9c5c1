//! A connection: negotiation, then requests and replies.

use crate::error::{Fault, IoError, SubmitError};
use crate::export::Export;
use crate::handshake::{Handshake, NameTooLong, Opening, Progress, Security};
use crate::header::Header;
use crate::requests::{Command, InFlight, Requests};
use crate::wire::{
    CMD_DISC, ENOTSUP, EOVERFLOW, ESHUTDOWN, Fields, OPT_ABORT, OPTION_MAGIC, REQUEST_BYTES, Request,
    SIMPLE_REPLY_BYTES, SIMPLE_REPLY_MAGIC,
};
use alloc::boxed::Box;

/// Requests under way at most: as many as a ring of a PV disk has.
pub const REQUESTS_MAX: u16 = 128;
/// How long the negotiation may take in all, in nanoseconds.
pub const HANDSHAKE_TIMEOUT_NS: u64 = 10_000_000_000;

/// What received bytes led to.
#[derive(Debug, Eq, PartialEq)]
pub enum Event<'a> {
    /// The server has greeted: send [`Client::opening`].
    Greeted,
    /// What follows in either direction is TLS. Once it is open, send [`Client::opening`] over it.
    StartTls,
    /// The export is agreed: requests can be made.
    Ready(Export),
    /// Data of a read. It comes in order and without gaps, then the read is [`Event::Done`].
    Data {
        /// The caller's id of the read.
        id: u64,
        /// Where in the read's data it begins, in bytes.
        skip_bytes: u32,
        /// Never beyond the end of the read.
        bytes: &'a [u8],
    },
    /// A request is over.
    Done {
        /// The caller's id.
        id: u64,
        /// How it went.
        outcome: Result<(), IoError>,
    },
}

/// What is expected next, once the export is agreed.
#[derive(Debug)]
enum Reading {
    Reply,
    /// Data of the read with that cookie, of which so many bytes have come.
    Data(u64, u32),
}

#[derive(Debug)]
enum Phase {
    Negotiating(Box<Handshake>, u64),
    Serving(Export, Reading),
    Over(Fault),
}

/// A connection to one export.
///
/// # Examples
/// A flush, with a fake server in the place of a network:
///
/// ```
/// use nbd::fake::{Server, ServerConfig};
/// use nbd::{Client, Command, Event, Security};
///
/// let mut server = Server::new(ServerConfig::default());
/// let mut client = Client::new("disk", Security::Plain, 0)?;
/// loop {
///     let bytes = server.send(usize::MAX);
///     let mut rest = bytes.as_slice();
///     match client.receive(&mut rest)? {
///         Some(Event::Greeted) => server.receive(&client.opening()),
///         Some(Event::Ready(_)) => break,
///         _ => {}
///     }
/// }
/// let header = client.submit(7, Command::Flush).expect("the server can flush");
/// server.receive(&header);
/// let bytes = server.send(usize::MAX);
/// let done = client.receive(&mut bytes.as_slice())?;
/// assert_eq!(done, Some(Event::Done { id: 7, outcome: Ok(()) }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Client {
    phase: Phase,
    header: Header,
    requests: Requests,
}

impl Client {
    /// A client for the export of that name, whose connection stands since `now_ns`. With [`Security::Tls`] the export is
    /// asked for after [`Event::StartTls`] only.
    ///
    /// # Errors
    /// [`NameTooLong`].
    pub fn new(name: &str, security: Security, now_ns: u64) -> Result<Client, NameTooLong> {
        let deadline_ns = now_ns.saturating_add(HANDSHAKE_TIMEOUT_NS);
        Ok(Client {
            phase: Phase::Negotiating(Box::new(Handshake::new(name, security)?), deadline_ns),
            header: Header::default(),
            requests: Requests::new(REQUESTS_MAX),
        })
    }

    /// What to send when the server has greeted, and again when there is TLS; nothing at any other time.
    #[must_use]
    pub fn opening(&self) -> Opening {
        match &self.phase {
            Phase::Negotiating(handshake, _) if !handshake.is_before_greeting() => handshake.opening(),
            _ => Opening::new(),
        }
    }

    /// What to send as the last thing, if there is something: the server then ends the connection in
    /// order. Whatever is under way is lost.
    #[must_use]
    pub fn farewell(&self) -> heapless::Vec<u8, REQUEST_BYTES> {
        match &self.phase {
            // The server knows the export, so it takes requests.
            Phase::Serving(..) | Phase::Over(Fault::ShuttingDown) => {
                let request = Request { flags: 0, kind: CMD_DISC, cookie: 0, offset: 0, len_bytes: 0 };
                request.encode().into_iter().collect()
            }
            Phase::Negotiating(handshake, _) if !handshake.is_before_greeting() => {
                let option = OPTION_MAGIC.to_be_bytes().into_iter().chain(OPT_ABORT.to_be_bytes());
                option.chain(0u32.to_be_bytes()).collect()
            }
            // A server that has broken a rule does not get another word.
            Phase::Negotiating(..) | Phase::Over(_) => heapless::Vec::new(),
        }
    }

    /// Takes received bytes off the front of `bytes`. Call it again after each event, until
    /// it is `None`: then all are taken, and a read's end is not left for later.
    ///
    /// # Errors
    /// [`Fault`], now and ever after. Requests under way will not complete.
    pub fn receive<'b>(&mut self, bytes: &mut &'b [u8]) -> Result<Option<Event<'b>>, Fault> {
        let event = match &mut self.phase {
            Phase::Over(fault) => return Err(*fault),
            Phase::Negotiating(handshake, _) => match handshake.step(bytes) {
                Ok(Progress::Wait) => Ok(None),
                Ok(Progress::Greeted) => Ok(Some(Event::Greeted)),
                Ok(Progress::StartTls) => Ok(Some(Event::StartTls)),
                Ok(Progress::Agreed(export)) => {
                    self.phase = Phase::Serving(export, Reading::Reply);
                    Ok(Some(Event::Ready(export)))
                }
                Err(fault) => Err(fault),
            },
            Phase::Serving(_, reading) => match reading {
                Reading::Data(cookie, done) => {
                    let (cookie, done) = (*cookie, *done);
                    Ok(self.data(bytes, cookie, done))
                }
                Reading::Reply => self.reply(bytes),
            },
        };
        event.inspect_err(|fault| self.phase = Phase::Over(*fault))
    }

    fn reply<'b>(&mut self, bytes: &mut &'b [u8]) -> Result<Option<Event<'b>>, Fault> {
        let Some(header) = self.header.fill(bytes, SIMPLE_REPLY_BYTES) else { return Ok(None) };
        let mut fields = Fields(&header);
        let (magic, error, cookie) = (fields.u32(), fields.u32(), fields.u64());
        if magic != SIMPLE_REPLY_MAGIC {
            return Err(Fault::BadReply(magic));
        }
        // It stays under way: the next server has to do it.
        if error == ESHUTDOWN {
            return Err(Fault::ShuttingDown);
        }
        let request = self.requests.get(cookie).ok_or(Fault::UnknownCookie(cookie))?;
        // Data follow a read that went well, and nothing else.
        if error == 0 && request.read_bytes > 0 {
            self.set_reading(Reading::Data(cookie, 0));
            return Ok(self.data(bytes, cookie, 0));
        }
        self.requests.remove(cookie);
        let outcome = match error {
            0 => Ok(()),
            // What is too long for it can be done in another way, as what it does not know.
            ENOTSUP | EOVERFLOW => Err(IoError::Unsupported),
            error => Err(IoError::Failed(error)),
        };
        Ok(Some(Event::Done { id: request.id, outcome }))
    }

    /// Hands out what has come of a read's data.
    fn data<'b>(&mut self, bytes: &mut &'b [u8], cookie: u64, done: u32) -> Option<Event<'b>> {
        let InFlight { id, read_bytes } = self.requests.get(cookie)?;
        let missing = read_bytes.saturating_sub(done);
        if missing == 0 {
            self.requests.remove(cookie);
            self.set_reading(Reading::Reply);
            return Some(Event::Done { id, outcome: Ok(()) });
        }
        let now = usize::try_from(missing).unwrap_or(usize::MAX).min(bytes.len());
        let (now, rest) = bytes.split_at_checked(now).filter(|(now, _)| !now.is_empty())?;
        *bytes = rest;
        let taken = u32::try_from(now.len()).unwrap_or(missing);
        self.set_reading(Reading::Data(cookie, done.saturating_add(taken)));
        Some(Event::Data { id, skip_bytes: done, bytes: now })
    }

    fn set_reading(&mut self, next: Reading) {
        if let Phase::Serving(_, reading) = &mut self.phase {
            *reading = next;
        }
    }

    /// Makes a request under the caller's `id`. The answer is its header: send it now, and right behind
    /// it the data of a write, before any other header.
    ///
    /// # Errors
    /// Why not.
    pub fn submit(&mut self, id: u64, command: Command) -> Result<[u8; REQUEST_BYTES], SubmitError> {
        let Phase::Serving(export, _) = &self.phase else { return Err(SubmitError::NotReady) };
        // Judged before the server has any of it: what is sent cannot be taken back.
        command.check(export)?;
        let cookie = self.requests.insert(id, command).ok_or(SubmitError::Full)?;
        Ok(command.request(cookie).encode())
    }

    /// The export, once it is agreed and while the connection can be used.
    #[must_use]
    pub fn export(&self) -> Option<&Export> {
        match &self.phase {
            Phase::Serving(export, _) => Some(export),
            _ => None,
        }
    }

    /// The requests that are not over, by the caller's ids, in no order.
    pub fn in_flight_ids(&self) -> impl Iterator<Item = u64> + '_ {
        self.requests.in_flight()
    }

    /// When [`Client::check`] has something to say, without received bytes.
    #[must_use]
    pub fn due_ns(&self) -> Option<u64> {
        match &self.phase {
            Phase::Negotiating(_, deadline_ns) => Some(*deadline_ns),
            _ => None,
        }
    }

    /// Takes note of the time: a server that does not come to the end of the negotiation is left.
    ///
    /// # Errors
    /// [`Fault`], now and ever after.
    pub fn check(&mut self, now_ns: u64) -> Result<(), Fault> {
        if let Phase::Negotiating(_, deadline_ns) = self.phase
            && now_ns >= deadline_ns
        {
            self.phase = Phase::Over(Fault::TimedOut);
        }
        match self.phase {
            Phase::Over(fault) => Err(fault),
            _ => Ok(()),
        }
    }
}
