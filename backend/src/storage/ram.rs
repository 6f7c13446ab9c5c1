//! A disk in the stub's own memory. It starts zeroed and ends with the stub.
//!
//! All its memory is set aside at the start, but each chunk is zeroed when a request first
//! touches it: zeroing all would keep the guest waiting for its start, or a vCPU for its disk.

use super::{
    AT_ONCE_BYTES, Discard, Geometry, Io, Operation, Outcome, SECTOR_BYTES, Storage, Submitted, Ticket,
};
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;
use kernel::Port;

/// Longest range that is zeroed in one go: no guest vCPU waits longer than for that.
const MAX_ZERO_SECTORS: u32 = 2048;
/// What is zeroed at once when it is first touched; in tests so little that their requests span
/// several.
const CHUNK_BYTES: usize = if cfg!(test) { 4 << 10 } else { 256 << 10 };

/// The stub has not enough memory for a disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OutOfMemory {
    /// Bytes asked for.
    pub len_bytes: u64,
}

impl fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no memory for a RAM disk of {} bytes", self.len_bytes)
    }
}

impl core::error::Error for OutOfMemory {}

/// The disk. Requests are over when they are submitted, but for long ones, which take several turns;
/// a flush has nothing to do.
pub struct RamDisk {
    /// Each has room for its part of the disk, and holds nothing until it is touched.
    chunks: Vec<Vec<u8>>,
    len: usize,
    read_only: bool,
    /// A long request, and how many bytes of it are done. Others wait until it is over.
    long: Option<(Ticket, usize)>,
}

/// What of a request lies in one chunk. All in bytes.
struct Part {
    /// Where its data begin in the request's.
    skip: u64,
    /// Length of the chunk.
    chunk_len: usize,
    /// Its place in the chunk.
    range: Range<usize>,
}

impl RamDisk {
    /// A zeroed disk of `len_bytes`, rounded down to whole sectors.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn new(len_bytes: u64, read_only: bool) -> Result<RamDisk, OutOfMemory> {
        let refused = OutOfMemory { len_bytes };
        let len = usize::try_from(len_bytes & !(SECTOR_BYTES - 1)).map_err(|_| refused)?;
        let mut chunks = Vec::new();
        chunks.try_reserve_exact(len.div_ceil(CHUNK_BYTES)).map_err(|_| refused)?;
        for start in (0..len).step_by(CHUNK_BYTES) {
            let mut chunk = Vec::new();
            chunk.try_reserve_exact(chunk_len(start, len)).map_err(|_| refused)?;
            chunks.push(chunk);
        }
        Ok(RamDisk { chunks, len, read_only, long: None })
    }

    fn range(operation: Operation) -> Option<Range<usize>> {
        let (start, len) = operation.byte_range()?;
        let start = usize::try_from(start).ok()?;
        Some(start..start.checked_add(usize::try_from(len).ok()?)?)
    }

    /// Does as much of a request as is done at once, from byte `done` of it on. `None`: there is more.
    #[inline(never)]
    fn serve(&mut self, io: &Io<'_>, ticket: &Ticket, done: &mut usize) -> Option<Outcome> {
        let operation = ticket.operation();
        if operation == Operation::Flush {
            return Some(Outcome::Done);
        }
        if self.read_only && !matches!(operation, Operation::Read { .. }) {
            return Some(Outcome::IoError);
        }
        let Some(range) = Self::range(operation).filter(|range| range.end <= self.len) else {
            return Some(Outcome::IoError);
        };
        let mut start = range.start.saturating_add(*done);
        let at_once = usize::try_from(AT_ONCE_BYTES).unwrap_or(usize::MAX);
        let turn_end = range.end.min(start.saturating_add(at_once));
        while start < turn_end {
            let chunk_start = start.saturating_sub(start % CHUNK_BYTES);
            let end = turn_end.min(chunk_start.saturating_add(CHUNK_BYTES));
            let Some(chunk) = self.chunks.get_mut(start / CHUNK_BYTES) else { return Some(Outcome::IoError) };
            let part = Part {
                skip: start.saturating_sub(range.start) as u64,
                chunk_len: chunk_len(chunk_start, self.len),
                range: start.saturating_sub(chunk_start)..end.saturating_sub(chunk_start),
            };
            if Self::serve_part(io, ticket, chunk, part).is_none() {
                return Some(Outcome::IoError);
            }
            start = end;
        }
        *done = start.saturating_sub(range.start);
        (start == range.end).then_some(Outcome::Done)
    }

    /// Does what concerns a part of a chunk.
    fn serve_part(io: &Io<'_>, ticket: &Ticket, chunk: &mut Vec<u8>, part: Part) -> Option<()> {
        if chunk.is_empty() {
            if matches!(ticket.operation(), Operation::Discard { .. } | Operation::WriteZeroes { .. }) {
                return Some(());
            }
            // There is room for it: see `new`.
            chunk.resize(part.chunk_len, 0);
        }
        let bytes = chunk.get_mut(part.range)?;
        match ticket.operation() {
            Operation::Read { .. } => io.scatter_bytes(ticket, part.skip, bytes).ok(),
            Operation::Write { .. } => io.gather_bytes(ticket, part.skip, bytes).ok(),
            Operation::Flush => None,
            // Zeroed memory is discarded beyond recovery, too.
            Operation::Discard { .. } | Operation::WriteZeroes { .. } => {
                bytes.fill(0);
                Some(())
            }
        }
    }
}

/// The length of the chunk that begins at `start`.
fn chunk_len(start: usize, len: usize) -> usize {
    len.saturating_sub(start).min(CHUNK_BYTES)
}

impl Storage for RamDisk {
    fn geometry(&self) -> Geometry {
        Geometry {
            capacity_sectors: u64::try_from(self.len).unwrap_or(u64::MAX) / SECTOR_BYTES,
            block_size_bytes: 512,
            physical_block_size_bytes: 4096,
            transfer_bytes: 1 << 20,
            read_only: self.read_only,
            flush: true,
            discard: Some(Discard { granularity_bytes: 512, max_sectors: MAX_ZERO_SECTORS, secure: true }),
            max_write_zeroes_sectors: MAX_ZERO_SECTORS,
        }
    }

    fn port(&self) -> Option<Port> {
        None
    }

    fn submit(&mut self, io: &Io<'_>, ticket: Ticket) -> Submitted {
        if self.long.is_some() {
            return Submitted::Full(ticket);
        }
        let mut done = 0;
        if let Some(outcome) = self.serve(io, &ticket, &mut done) {
            return Submitted::Done(ticket, outcome);
        }
        self.long = Some((ticket, done));
        Submitted::Pending
    }

    fn kick(&mut self) {}

    fn responses(&self) -> u32 {
        self.long.is_some().into()
    }

    fn next_completion(&mut self, io: &Io<'_>) -> Option<(Ticket, Outcome)> {
        let (ticket, mut done) = self.long.take()?;
        // Nobody waits for an orphan.
        let over =
            if io.is_live(&ticket) { self.serve(io, &ticket, &mut done) } else { Some(Outcome::IoError) };
        if over.is_none() {
            self.long = Some((ticket, done));
            return None;
        }
        over.map(|outcome| (ticket, outcome))
    }

    fn enable_events(&mut self, _completions: u32) -> bool {
        self.long.is_some()
    }
}
