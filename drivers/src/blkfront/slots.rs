//! The requests that blkback holds, found again by the id that it echoes.
//!
//! An id on the wire is a slot's number and the slot's generation, both ours. An id that is
//! unknown, answered already, or of an earlier use of its slot finds nothing.

use super::negotiate::RING_ENTRIES_MAX;
use super::pool::Bounce;
use super::wire::RequestKind;
use alloc::boxed::Box;
use heapless::Vec;

/// A request under way.
#[derive(Debug)]
pub(super) struct InFlight {
    /// The caller's own id.
    pub(super) caller_id: u64,
    pub(super) kind: RequestKind,
    /// The pages that blkback may read or write until it answers.
    pub(super) bounce: Option<Bounce>,
    /// The page that holds its segments.
    pub(super) indirect_page: Option<u16>,
}

/// Why a response matches no request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Mismatch {
    UnknownId,
    WrongOperation,
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    request: Option<InFlight>,
}

/// As many slots as the ring has entries.
#[derive(Debug)]
pub(super) struct Slots {
    slots: Box<[Slot]>,
    /// Numbers of the empty ones.
    free: Vec<u16, RING_ENTRIES_MAX>,
}

/// The numbers below `count`, no more than there is room for, the lowest on top.
pub(super) fn numbers(count: u16) -> Vec<u16, RING_ENTRIES_MAX> {
    let mut numbers = Vec::new();
    // What had no number would stay unused.
    let _full = (0..count).rev().try_for_each(|number| numbers.push(number));
    numbers
}

impl Slots {
    pub(super) fn new(count: u16) -> Slots {
        let slots = core::iter::repeat_with(Slot::default).take(count.into()).collect();
        Slots { slots, free: numbers(count) }
    }

    /// The id that [`Slots::insert`] will use; `None` if every slot is taken.
    pub(super) fn next_id(&self) -> Option<u64> {
        let number = *self.free.last()?;
        let slot = self.slots.get(usize::from(number))?;
        Some((u64::from(slot.generation) << 32) | u64::from(number))
    }

    /// Keeps a request under the id that [`Slots::next_id`] gave. Handed back if every slot
    /// is taken.
    pub(super) fn insert(&mut self, request: InFlight) -> Result<(), InFlight> {
        let slot = self.free.last().and_then(|&number| self.slots.get_mut(usize::from(number)));
        let Some(slot) = slot else { return Err(request) };
        slot.request = Some(request);
        self.free.pop();
        Ok(())
    }

    /// The request that a response answers. On a mismatch nothing changes.
    pub(super) fn take(&mut self, id: u64, operation: u8) -> Result<InFlight, Mismatch> {
        let number = u16::try_from(id & 0xffff_ffff).map_err(|_| Mismatch::UnknownId)?;
        let slot = self.slots.get_mut(usize::from(number)).ok_or(Mismatch::UnknownId)?;
        // An answer to an earlier use of the slot: the same request answered twice, for instance.
        if u64::from(slot.generation) != id >> 32 {
            return Err(Mismatch::UnknownId);
        }
        match &slot.request {
            None => return Err(Mismatch::UnknownId),
            Some(request) if !request.kind.answered_by(operation) => return Err(Mismatch::WrongOperation),
            Some(_) => {}
        }
        let request = slot.request.take().ok_or(Mismatch::UnknownId)?;
        slot.generation = slot.generation.wrapping_add(1);
        // There is room: it was taken out when the slot was filled.
        let _full = self.free.push(number);
        Ok(request)
    }

    /// The requests under way, in no order.
    pub(super) fn in_flight(&self) -> impl Iterator<Item = &InFlight> {
        self.slots.iter().filter_map(|slot| slot.request.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xen_pv_sys::io::blkif::{BLKIF_OP_DISCARD, BLKIF_OP_FLUSH_DISKCACHE};

    fn flush(caller_id: u64) -> InFlight {
        InFlight { caller_id, kind: RequestKind::Flush, bounce: None, indirect_page: None }
    }

    #[test]
    fn an_id_is_good_once() {
        let mut slots = Slots::new(2);
        let id = slots.next_id().unwrap();
        slots.insert(flush(9)).unwrap();
        assert_eq!(slots.take(id, BLKIF_OP_DISCARD).err(), Some(Mismatch::WrongOperation));
        assert_eq!(slots.take(id, BLKIF_OP_FLUSH_DISKCACHE).unwrap().caller_id, 9);
        assert_eq!(slots.take(id, BLKIF_OP_FLUSH_DISKCACHE).err(), Some(Mismatch::UnknownId));
        // The slot's next use has another id.
        slots.insert(flush(10)).unwrap();
        assert_eq!(slots.take(id, BLKIF_OP_FLUSH_DISKCACHE).err(), Some(Mismatch::UnknownId));
        assert_eq!(slots.in_flight().count(), 1);
    }

    #[test]
    fn ids_outside_the_table_find_nothing() {
        let mut slots = Slots::new(2);
        slots.insert(flush(1)).unwrap();
        for id in [1, 2, 0x1_0000, 0xffff, 1 << 32, u64::MAX] {
            assert_eq!(slots.take(id, BLKIF_OP_FLUSH_DISKCACHE).err(), Some(Mismatch::UnknownId), "{id:#x}");
        }
    }

    #[test]
    fn a_full_table_hands_the_request_back() {
        let mut slots = Slots::new(1);
        slots.insert(flush(1)).unwrap();
        assert_eq!(slots.next_id(), None);
        assert_eq!(slots.insert(flush(2)).err().map(|request| request.caller_id), Some(2));
    }
}
