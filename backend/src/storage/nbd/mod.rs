//! An export of an NBD server, over the stub's own network.
//!
//! Data is copied once each way: between the guest's memory and what TCP has received or has to send. A
//! request longer than 128 KiB goes in pieces, so that each piece has room to be sent whole.
//!
//! The connection may break at any time; `nbd/life.rs` says what happens then.

mod export;
mod life;
mod link;

use super::remote::{Cache, Progress, Refusal, Requests, Timeout, piece};
use super::{Geometry, Io, Operation, Outcome, Storage, Submitted, Ticket};
use crate::limit::{Limiter, warn_limited};
use core::net::SocketAddrV4;
use kernel::{Hypervisor, Port};
use link::Link;
use nbd::wire::REQUEST_BYTES;
use nbd::{Command, Event, IoError, SubmitError};
use net::Network;

pub use link::Reason;

/// Which export, and how.
#[derive(Clone, Debug)]
pub struct NbdOptions {
    /// Where the server listens.
    pub server: SocketAddrV4,
    /// The export's name.
    pub export: alloc::string::String,
    /// The guest may write.
    pub writable: bool,
    /// Without a server for longer than this, requests fail until there is one again; `None`: no limit.
    pub timeout_ns: Option<u64>,
}

/// The engine.
pub struct NbdDisk<H: Hypervisor> {
    link: Link<H>,
    writable: bool,
    /// What the guest was told, but for the length.
    geometry: Geometry,
    requests: Requests,
    /// Pieces at the server.
    outstanding: u32,
    /// Something was given to TCP, or taken from it, that has frames to be sent.
    unsent: bool,
    cache: Cache,
    timeout: Timeout,
    limiter: Limiter,
    /// Why there was no connection the last time, so that it is told once.
    reported: Option<Reason>,
}

/// What bytes of the server led to.
enum Received {
    /// The piece of a request in that slot is over.
    Piece(u16),
    Nothing,
    Broken(Reason),
}

impl<H: Hypervisor> NbdDisk<H> {
    /// The network that it uses.
    #[must_use]
    pub fn network(&self) -> &Network<H> {
        self.link.network()
    }

    fn submit_pieces(&mut self, io: &Io<'_>, slot: u16) -> Progress {
        let NbdDisk { link, geometry, requests, outstanding, unsent, .. } = self;
        let mut broken = false;
        let progress = requests.submit_pieces(io, slot, |request| {
            // Without a connection it waits for the next one.
            let Some((client, tcp)) = link.up() else { return Err(Refusal::NoRoom) };
            let command = command(geometry, request.ticket.operation(), request.submitted)?;
            let data_bytes = match command {
                Command::Write { len_bytes, .. } => usize::try_from(len_bytes).unwrap_or(usize::MAX),
                _ => 0,
            };
            if tcp.send_room() < REQUEST_BYTES.saturating_add(data_bytes) {
                return Err(Refusal::NoRoom);
            }
            let id = (u64::from(slot) << 16) | u64::from(request.submitted);
            let header = client.submit(id, command).map_err(refusal)?;
            let skip = piece_bytes(geometry).saturating_mul(request.submitted.into());
            let gather = |at: usize, part: &mut [u8]| {
                let at = skip.saturating_add(u64::try_from(at).unwrap_or(u64::MAX));
                io.gather_bytes(&request.ticket, at, part).is_ok()
            };
            *unsent = true;
            if !tcp.send(&header) || !tcp.send_with(data_bytes, gather) {
                // The server waits for data that the guest does not have.
                broken = true;
                return Err(Refusal::Failed(Outcome::IoError));
            }
            *outstanding = outstanding.saturating_add(1);
            Ok(())
        });
        if broken {
            self.detach(Reason::Memory);
        }
        progress
    }

    /// Takes what the server has sent, up to the end of a piece.
    fn receive(&mut self, io: &Io<'_>) -> Received {
        let NbdDisk { link, geometry, requests, outstanding, unsent, timeout, .. } = self;
        let Some((client, tcp)) = link.up() else { return Received::Nothing };
        let mut received = Received::Nothing;
        tcp.receive(|bytes| {
            let mut rest = bytes;
            while matches!(received, Received::Nothing) {
                match client.receive(&mut rest) {
                    Ok(None) => break,
                    Ok(Some(Event::Data { id, skip_bytes, bytes })) => {
                        timeout.on_response();
                        scatter(geometry, requests, io, Data { id, skip_bytes, bytes });
                    }
                    Ok(Some(Event::Done { id, outcome })) => {
                        timeout.on_response();
                        *outstanding = outstanding.saturating_sub(1);
                        received = complete(requests, id, outcome);
                    }
                    // The negotiation is over.
                    Ok(Some(Event::Greeted | Event::Ready(_))) => {}
                    Err(fault) => received = Received::Broken(Reason::Fault(fault)),
                }
            }
            *unsent = true;
            bytes.len().saturating_sub(rest.len())
        });
        received
    }

    /// Submits what waits for room; returns the first request that is over by that.
    fn resume_waiting(&mut self, io: &Io<'_>) -> Option<(Ticket, Outcome)> {
        while let Some(slot) = self.requests.first_waiting() {
            // It stays the first, so that requests keep their order.
            if self.submit_pieces(io, slot) == Progress::NoRoom || !self.link.is_up() {
                return None;
            }
            self.requests.end_wait();
            // Without a piece on its way no answer would ever bring it back.
            if let Some(finished) = self.requests.retire(slot, &mut self.cache) {
                return Some(finished);
            }
        }
        None
    }
}

/// Bytes of every piece but the last: whole blocks.
fn piece_bytes(geometry: &Geometry) -> u64 {
    geometry.transfer_bytes.max(geometry.block_size_bytes).into()
}

/// How many pieces an operation takes.
fn pieces(geometry: &Geometry, operation: Operation) -> Option<u16> {
    match operation {
        Operation::Read { len_bytes, .. } | Operation::Write { len_bytes, .. } => {
            u16::try_from(len_bytes.div_ceil(piece_bytes(geometry))).ok()
        }
        // They carry no data.
        Operation::Flush | Operation::Discard { .. } | Operation::WriteZeroes { .. } => Some(1),
    }
}

/// What the server is asked for the next piece of an operation.
fn command(geometry: &Geometry, operation: Operation, index: u16) -> Result<Command, Refusal> {
    let failed = Refusal::Failed(Outcome::IoError);
    let (first, all_bytes) = operation.byte_range().unwrap_or_default();
    let part = || piece(piece_bytes(geometry), operation, index).ok_or(failed);
    let short = |bytes: u64| u32::try_from(bytes).map_err(|_| failed);
    match operation {
        Operation::Flush => Ok(Command::Flush),
        Operation::Read { .. } => {
            let (skip, len) = part()?;
            Ok(Command::Read { offset: first.saturating_add(skip), len_bytes: short(len)? })
        }
        Operation::Write { .. } => {
            let (skip, len) = part()?;
            let offset = first.saturating_add(skip);
            Ok(Command::Write { offset, len_bytes: short(len)?, durable: false })
        }
        Operation::Discard { secure: true, .. } => Err(Refusal::Failed(Outcome::Unsupported)),
        Operation::Discard { .. } => Ok(Command::Trim { offset: first, len_bytes: short(all_bytes)? }),
        Operation::WriteZeroes { .. } => {
            Ok(Command::WriteZeroes { offset: first, len_bytes: short(all_bytes)?, durable: false })
        }
    }
}

fn refusal(error: SubmitError) -> Refusal {
    match error {
        SubmitError::Full | SubmitError::NotReady => Refusal::NoRoom,
        SubmitError::Unsupported => Refusal::Failed(Outcome::Unsupported),
        SubmitError::BadRange => Refusal::Failed(Outcome::IoError),
    }
}

/// Slot and piece of a request's id, as [`NbdDisk::submit_pieces`] makes it. No other comes back.
fn parts_of(id: u64) -> Option<(u16, u16)> {
    Some((u16::try_from(id >> 16).ok()?, u16::try_from(id & 0xffff).ok()?))
}

/// Some of a piece's data.
struct Data<'a> {
    id: u64,
    skip_bytes: u32,
    bytes: &'a [u8],
}

fn scatter(geometry: &Geometry, requests: &mut Requests, io: &Io<'_>, data: Data<'_>) {
    let Some((slot, index)) = parts_of(data.id) else { return };
    let Some(request) = requests.get_mut(slot) else { return };
    let skip = piece_bytes(geometry).saturating_mul(index.into()).saturating_add(data.skip_bytes.into());
    // The guest has no memory there, or has taken its buffers back.
    if io.scatter_bytes(&request.ticket, skip, data.bytes).is_err() && request.outcome == Outcome::Done {
        request.outcome = Outcome::IoError;
    }
}

fn complete(requests: &mut Requests, id: u64, outcome: Result<(), IoError>) -> Received {
    let found = parts_of(id).and_then(|(slot, _)| Some((slot, requests.get_mut(slot)?)));
    let Some((slot, request)) = found else { return Received::Nothing };
    request.outstanding = request.outstanding.saturating_sub(1);
    // The first error of several pieces is the request's.
    if request.outcome == Outcome::Done {
        request.outcome = match outcome {
            Ok(()) => Outcome::Done,
            Err(IoError::Unsupported) => Outcome::Unsupported,
            Err(IoError::Failed(_)) => Outcome::IoError,
        };
    }
    Received::Piece(slot)
}

impl<H: Hypervisor> Storage for NbdDisk<H> {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn port(&self) -> Option<Port> {
        self.network().port()
    }

    fn submit(&mut self, io: &Io<'_>, ticket: Ticket) -> Submitted {
        // The guest's own timeouts end what nobody answers; more requests would only pile up.
        if self.timeout.is_over() {
            warn_limited!(self.limiter, "a request failed: {} does not serve", self.link.name());
            return Submitted::Done(ticket, Outcome::IoError);
        }
        // What waits for room comes first. Without a connection everything queues up.
        if self.link.is_up() && self.requests.waiting() > 0 {
            return Submitted::Full(ticket);
        }
        // The guest has to learn that writes were lost, and only a flush can say so.
        if ticket.operation() == Operation::Flush && self.cache.take_lost() {
            self.report_lost();
            return Submitted::Done(ticket, Outcome::IoError);
        }
        let Some(pieces) = pieces(&self.geometry, ticket.operation()) else {
            return Submitted::Done(ticket, Outcome::IoError);
        };
        let slot = match self.requests.insert(ticket, pieces, &self.cache) {
            Ok(slot) => slot,
            Err(ticket) => return Submitted::Full(ticket),
        };
        let was_up = self.link.is_up();
        match self.submit_pieces(io, slot) {
            Progress::NoRoom => self.requests.wait(slot),
            // It broke the connection, and is held with the others: it comes back as a failed one.
            Progress::All if was_up && !self.link.is_up() => return Submitted::Pending,
            Progress::All => {}
        }
        // It may be over already, as it was refused.
        match self.requests.retire(slot, &mut self.cache) {
            Some((ticket, outcome)) => Submitted::Done(ticket, outcome),
            None => Submitted::Pending,
        }
    }

    fn kick(&mut self) {
        if core::mem::take(&mut self.unsent) {
            self.network().send_frames();
        }
    }

    /// How many answers there are in what has come, nobody knows.
    fn responses(&self) -> u32 {
        u32::from(self.network().frames() > 0 || self.link.received() > 0)
    }

    fn next_completion(&mut self, io: &Io<'_>) -> Option<(Ticket, Outcome)> {
        if self.link.received() == 0 && self.network().frames() > 0 {
            self.network().poll();
        }
        loop {
            match self.receive(io) {
                Received::Piece(slot) => {
                    if let Some(finished) = self.requests.retire(slot, &mut self.cache) {
                        return Some(finished);
                    }
                }
                Received::Broken(reason) => self.detach(reason),
                Received::Nothing => break,
            }
        }
        // Answers made room.
        if let Some(finished) = self.link.is_up().then(|| self.resume_waiting(io)).flatten() {
            return Some(finished);
        }
        // Without a connection, some requests need not wait for one.
        if self.link.is_up() { None } else { self.requests.take_failed(io, self.timeout.is_over()) }
    }

    fn enable_events(&mut self, _completions: u32) -> bool {
        // A connection that ended sends no event, and somebody has to see to it (`life.rs`).
        self.link.received() > 0 || self.link.has_ended() || self.network().enable_events()
    }
}
