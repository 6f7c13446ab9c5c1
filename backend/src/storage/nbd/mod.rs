//! An export of an NBD server, over the stub's own network.
//!
//! Data that is read is copied once, from what TCP has received to the guest's memory. Data that is written is kept
//! (`nbd/kept.rs`) and sent from there. A request longer than 128 KiB goes in pieces, so that each piece has room to be
//! sent whole.
//!
//! The connection may break at any time; `nbd/life.rs` says what happens then.

mod channel;
mod export;
mod journal;
mod kept;
mod life;
mod link;
mod restart;

use super::remote::{Cache, Progress, Refusal, Requests, Timeout, piece};
use super::{Geometry, Io, Operation, Outcome, Storage, Submitted, Ticket};
use crate::limit::{Limiter, warn_limited};
use core::net::SocketAddr;
use kept::Kept;
use kernel::{Hypervisor, Port};
use link::Link;
use nbd::wire::REQUEST_BYTES;
use nbd::{Command, Event, IoError, SubmitError};
use net::Network;
use restart::Settled;

pub use journal::NbdJournal;
pub use link::Reason;

/// The id of a flush of the engine's own. Those of pieces are smaller.
const OWN_FLUSH: u64 = u64::MAX;
/// The id of a write that is done again for its flush.
const REPLAY: u64 = u64::MAX - 1;

/// Which export, and how.
#[derive(Debug)]
pub struct NbdOptions {
    /// Where the server listens.
    pub server: SocketAddr,
    /// The export's name.
    pub export: alloc::string::String,
    /// The guest may write.
    pub writable: bool,
    /// Without a server for longer than this, requests fail until there is one again; `None`: no limit.
    pub timeout_ns: Option<u64>,
    /// With them the connection is TLS, or there is none.
    pub secrets: Option<tls::Secrets>,
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
    /// Something was given to TCP.
    unsent: bool,
    /// Something was taken from it: it may have to tell the server.
    taken: bool,
    cache: Cache,
    kept: Kept,
    /// A flush of the engine's own is under way, which makes so many writes durable.
    own_flush: Option<u64>,
    /// A server had writes of the incarnation before that were not flushed: a flush comes first (`nbd/restart.rs`).
    inherited: bool,
    journal: Option<NbdJournal>,
    timeout: Timeout,
    limiter: Limiter,
    /// Why there was no connection the last time, so that it is told once.
    reported: Option<Reason>,
}

/// What bytes of the server led to.
enum Received {
    /// The piece of a request in that slot is over; for a write's also its id, and whether it was done.
    Piece(u16, Option<(u64, bool)>),
    OwnFlush(Result<(), IoError>),
    Replay(Result<(), IoError>),
    Nothing,
    Broken(Reason),
}

impl<H: Hypervisor> NbdDisk<H> {
    /// The network that it uses.
    #[must_use]
    pub fn network(&self) -> &Network<H> {
        self.link.network()
    }

    /// Whether requests can be made. Not while writes of the last connection are done again, or made durable.
    fn is_serving(&self) -> bool {
        self.link.is_up() && !self.kept.is_replaying() && !self.inherited
    }

    fn submit_pieces(&mut self, io: &Io<'_>, slot: u16) -> Progress {
        let is_serving = self.is_serving();
        let NbdDisk { link, writable, geometry, requests, outstanding, unsent, kept, .. } = self;
        let mut is_full = false;
        let progress = requests.submit_pieces(io, slot, |request| {
            // Without a connection it waits for the next one.
            let Some((client, tcp)) = link.up().filter(|_| is_serving) else {
                return Err(Refusal::NoRoom);
            };
            let piece = Piece::new(geometry, request.ticket.operation(), request.submitted)?;
            if tcp.send_room() < REQUEST_BYTES.saturating_add(piece.data_bytes) {
                return Err(Refusal::NoRoom);
            }
            let is_kept = piece.is_write();
            if is_kept && !kept.has_room(piece.data_bytes) {
                is_full = true;
                return Err(Refusal::NoRoom);
            }
            // Before the server knows of it: what is not in the guest's memory fails alone.
            let gather = |data: &mut [u8]| io.gather_bytes(&request.ticket, piece.skip, data).is_ok();
            let id = (u64::from(slot) << 16) | u64::from(request.submitted);
            if is_kept && !kept.keep(id, piece.command, piece.data_bytes, gather) {
                return Err(Refusal::Failed(Outcome::IoError));
            }
            let header = client.submit(id, piece.command).map_err(|error| {
                if is_kept {
                    kept.drop_last();
                }
                match (error, piece.command) {
                    // An export that became read-only, for a guest that writes nothing.
                    (SubmitError::Unsupported, Command::Flush) if !*writable => Refusal::NotNeeded,
                    _ => refusal(error),
                }
            })?;
            // There is room for both.
            let _ = tcp.send(&header) && (!is_kept || tcp.send(kept.last_data()));
            *unsent = true;
            *outstanding = outstanding.saturating_add(1);
            Ok(())
        });
        if is_full {
            self.flush_own();
        }
        progress
    }

    /// Takes a request out if it is over.
    fn retire(&mut self, io: &Io<'_>, slot: u16) -> Option<(Ticket, Outcome)> {
        let (ticket, outcome) = self.requests.retire(io, slot, &mut self.cache)?;
        if ticket.operation() == Operation::Flush {
            self.kept.free(self.cache.durable());
            self.save(Settled::No);
        }
        Some((ticket, outcome))
    }

    /// A write's piece is over. It counts by itself, so that a flush can free its place for the rest of a long request.
    fn end_piece(&mut self, id: u64, is_done: bool) {
        let completed = is_done.then(|| {
            self.cache.note_written();
            self.cache.completed()
        });
        self.kept.end(id, completed);
        self.save(Settled::No);
        if self.kept.is_half_full() {
            self.flush_own();
        }
    }

    /// Takes what the server has sent, up to the end of a request. Without `io` there are no requests.
    fn take_received(&mut self, io: Option<&Io<'_>>) -> Option<(Ticket, Outcome)> {
        loop {
            match self.receive(io) {
                Received::Piece(slot, written) => {
                    if let Some((id, is_done)) = written {
                        self.end_piece(id, is_done);
                    }
                    if let Some(finished) = io.and_then(|io| self.retire(io, slot)) {
                        self.timeout.on_done();
                        return Some(finished);
                    }
                }
                Received::OwnFlush(outcome) => self.on_own_flush(outcome),
                Received::Replay(outcome) => self.on_replay(outcome),
                Received::Broken(reason) => self.detach(reason),
                Received::Nothing => return None,
            }
        }
    }

    /// Takes what the server has sent, up to the end of a piece.
    fn receive(&mut self, io: Option<&Io<'_>>) -> Received {
        let NbdDisk { link, geometry, requests, outstanding, taken, timeout, .. } = self;
        let Some((client, tcp)) = link.up() else { return Received::Nothing };
        let mut received = Received::Nothing;
        let outcome = tcp.receive(|bytes| {
            let mut rest = bytes;
            while matches!(received, Received::Nothing) {
                match client.receive(&mut rest) {
                    Ok(None) => break,
                    Ok(Some(Event::Data { id, skip_bytes, bytes })) => {
                        timeout.on_response();
                        if let Some(io) = io {
                            scatter(geometry, requests, io, Data { id, skip_bytes, bytes });
                        }
                    }
                    Ok(Some(Event::Done { id, outcome })) => {
                        timeout.on_response();
                        *outstanding = outstanding.saturating_sub(1);
                        received = match id {
                            OWN_FLUSH => Received::OwnFlush(outcome),
                            REPLAY => Received::Replay(outcome),
                            id => complete(requests, id, outcome),
                        };
                    }
                    // The negotiation is over.
                    Ok(Some(Event::Greeted | Event::StartTls | Event::Ready(_))) => {}
                    Err(fault) => received = Received::Broken(Reason::Fault(fault)),
                }
            }
            *taken = true;
            bytes.len().saturating_sub(rest.len())
        });
        match (received, outcome) {
            // What came before it counts. The next call says it again.
            (Received::Nothing, Err(fault)) => Received::Broken(Reason::Tls(fault)),
            (received, _) => received,
        }
    }

    /// Submits what waits for room; returns the first request that is over by that.
    fn resume_waiting(&mut self, io: &Io<'_>) -> Option<(Ticket, Outcome)> {
        while let Some(slot) = self.requests.first_waiting() {
            // It stays the first, so that requests keep their order.
            if self.submit_pieces(io, slot) == Progress::NoRoom {
                return None;
            }
            self.requests.end_wait();
            // Without a piece on its way no answer would ever bring it back.
            if let Some(finished) = self.retire(io, slot) {
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

/// A piece of a request.
struct Piece {
    command: Command,
    /// Where its data begin in the request's.
    skip: u64,
    /// What goes to the server behind the header.
    data_bytes: usize,
}

impl Piece {
    fn new(geometry: &Geometry, operation: Operation, index: u16) -> Result<Piece, Refusal> {
        let failed = Refusal::Failed(Outcome::IoError);
        let (first, all_bytes) = operation.byte_range().unwrap_or_default();
        let (skip, len) = match operation {
            Operation::Read { .. } | Operation::Write { .. } => {
                piece(piece_bytes(geometry), operation, index).ok_or(failed)?
            }
            Operation::Flush | Operation::Discard { .. } | Operation::WriteZeroes { .. } => (0, all_bytes),
        };
        let len_bytes = u32::try_from(len).map_err(|_| failed)?;
        let offset = first.saturating_add(skip);
        let command = match operation {
            Operation::Flush => Command::Flush,
            Operation::Read { .. } => Command::Read { offset, len_bytes },
            Operation::Write { .. } => Command::Write { offset, len_bytes, durable: false },
            Operation::Discard { secure: true, .. } => return Err(Refusal::Failed(Outcome::Unsupported)),
            Operation::Discard { .. } => Command::Trim { offset, len_bytes },
            Operation::WriteZeroes { .. } => Command::WriteZeroes { offset, len_bytes, durable: false },
        };
        let data_bytes = if let Command::Write { .. } = command { len } else { 0 };
        Ok(Piece { command, skip, data_bytes: usize::try_from(data_bytes).map_err(|_| failed)? })
    }

    /// Whether it changes the disk.
    fn is_write(&self) -> bool {
        !matches!(self.command, Command::Read { .. } | Command::Flush)
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
    Received::Piece(slot, request.ticket.operation().is_write().then_some((id, outcome.is_ok())))
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
        if self.is_serving() && self.requests.waiting() > 0 {
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
        if self.submit_pieces(io, slot) == Progress::NoRoom {
            self.requests.wait(slot);
        }
        // It may be over already, as it was refused.
        match self.retire(io, slot) {
            Some((ticket, outcome)) => Submitted::Done(ticket, outcome),
            None => Submitted::Pending,
        }
    }

    fn kick(&mut self) {
        let taken = core::mem::take(&mut self.taken);
        if core::mem::take(&mut self.unsent) {
            self.network().send_frames();
        } else if taken {
            self.network().send_answers();
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
        if let Some(finished) = self.take_received(Some(io)) {
            return Some(finished);
        }
        // Answers made room.
        if let Some(finished) = self.is_serving().then(|| self.resume_waiting(io)).flatten() {
            return Some(finished);
        }
        // Without a connection, some requests need not wait for one.
        if self.is_serving() {
            None
        } else {
            self.requests.take_failed(io, self.timeout.is_over(), &mut self.cache)
        }
    }

    fn enable_events(&mut self, completions: u32) -> bool {
        // An answer takes a part of a frame at least, unless one brings several: the caller's time is bounded. What
        // waits for room goes on with any acknowledgement.
        let can_wait = self.is_serving() && self.requests.waiting() == 0;
        let parts = if can_wait { completions } else { 1 };
        // A connection that ended sends no event, and somebody has to see to it (`life.rs`).
        self.link.received() > 0 || self.link.has_ended() || self.network().enable_events_after(parts)
    }
}
