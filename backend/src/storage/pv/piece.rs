//! The pieces of a request: parts of equal length, each one request of the ring.

use crate::storage::remote::{InFlight, Refusal, piece};
use crate::storage::{Geometry, Io, Operation, Outcome, SECTOR_BYTES};
use drivers::BlkFront;
use drivers::blkfront::{Bounce, Op, SubmitError};
use kernel::{Hypervisor, SharedPage};

pub(super) const PAGE_BYTES: u64 = xen_pv_sys::PAGE_SIZE as u64;

/// Bytes of every piece but the last. A multiple of a page, so of any logical block.
pub(super) fn piece_bytes(geometry: &Geometry) -> u64 {
    u64::from(geometry.transfer_bytes).max(PAGE_BYTES)
}

/// Submits the next piece of a request.
pub(super) fn submit_piece<H: Hypervisor>(
    front: &mut BlkFront<H>,
    geometry: &Geometry,
    io: &Io<'_>,
    slot: u16,
    request: &InFlight,
) -> Result<(), Refusal> {
    let ticket = &request.ticket;
    let id = (u64::from(slot) << 16) | u64::from(request.submitted);
    let piece = piece(piece_bytes(geometry), ticket.operation(), request.submitted);
    let op = match ticket.operation() {
        // This storage backend has no cache, where an earlier one had (whose unflushed writes are dealt
        // with in `failover.rs`): a write that it completes is durable.
        Operation::Flush if geometry.flush && !front.geometry().flush => return Err(Refusal::NotNeeded),
        Operation::Flush => Op::Flush,
        Operation::Read { first_sector, .. } => {
            let (skip, len_bytes, bounce) = bounce(front, piece)?;
            Op::Read { first_sector: piece_sector(first_sector, skip), bounce, len_bytes }
        }
        Operation::Write { first_sector, .. } => {
            let (skip, len_bytes, bounce) = bounce(front, piece)?;
            let part = skip..skip.saturating_add(len_bytes.into());
            // The guest has no memory there, or has taken its buffers back.
            if io.gather(ticket, part, front.pages(&bounce)).is_err() {
                front.give_back(bounce);
                return Err(Refusal::Failed(Outcome::IoError));
            }
            Op::Write { first_sector: piece_sector(first_sector, skip), bounce, len_bytes }
        }
        // The ring has no such operation, and a discard does not promise zeros.
        Operation::WriteZeroes { first_sector, .. } => {
            let (skip, len_bytes, bounce) = bounce(front, piece)?;
            front.pages(&bounce).for_each(SharedPage::zero);
            Op::Write { first_sector: piece_sector(first_sector, skip), bounce, len_bytes }
        }
        Operation::Discard { first_sector, len_bytes, secure } => {
            Op::Discard { first_sector, sectors: len_bytes / SECTOR_BYTES, secure }
        }
    };
    front.submit(id, op).map_err(|(error, op)| {
        // It is not in the ring, so nobody works on its pages.
        if let Op::Read { bounce, .. } | Op::Write { bounce, .. } = op {
            front.give_back(bounce);
        }
        match error {
            // It is submitted again once there is a connection.
            SubmitError::RingFull | SubmitError::NotConnected => Refusal::NoRoom,
            SubmitError::Unsupported => Refusal::Failed(Outcome::Unsupported),
            SubmitError::BadRange => Refusal::Failed(Outcome::IoError),
        }
    })
}

/// Pages for a piece of that offset and length: both, and the pages.
fn bounce<H: Hypervisor>(
    front: &mut BlkFront<H>,
    piece: Option<(u64, u64)>,
) -> Result<(u64, u32, Bounce), Refusal> {
    let failed = Refusal::Failed(Outcome::IoError);
    let (skip, len) = piece.ok_or(failed)?;
    let len_bytes = u32::try_from(len).map_err(|_| failed)?;
    let pages = u16::try_from(len.div_ceil(PAGE_BYTES)).map_err(|_| failed)?;
    // Pages come back with completions, as places in the ring do.
    let bounce = front.take_pages(pages).ok_or(Refusal::NoRoom)?;
    Ok((skip, len_bytes, bounce))
}

/// A piece's place on the disk. It lies inside the request's range, which was checked.
fn piece_sector(first_sector: u64, skip_bytes: u64) -> u64 {
    first_sector.saturating_add(skip_bytes / SECTOR_BYTES)
}
