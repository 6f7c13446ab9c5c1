//! The queues of a guest that grants its memory: how large they may be, and who keeps their rings.
//!
//! The guest's driver grants each buffer for as long as its request is under way: header, status,
//! indirect table, and each page of data. A guest has 32768 grants at most unless its configuration says
//! otherwise, and other drivers need some too. [`budget`] divides them, so that full queues of aligned
//! requests have enough. Where they still run out, Linux keeps a request until others are done.

use crate::guest_mem::{MemFault, RingKeeper};
use crate::virtq::Layout;
use alloc::rc::Rc;

/// Grants of a guest: 64 frames of 512 (Xen's and libxl's default).
const GRANTS: u32 = 32768;
/// Those of them that are left to the guest's other drivers.
const OTHERS: u32 = 2048;
/// What a request needs beyond its segments: header, status and indirect table.
const BESIDES: u32 = 3;
/// Pages of a queue's rings, at most.
const RING_PAGES: u32 = 8;
/// Sizes of queues, the best first.
const SIZES: [u16; 4] = [256, 128, 64, 32];
/// A request may have this many segments at least: else more queues are not worth it.
const SEG_MAX_LEAST: u32 = 16;
/// The most segments, as without grants.
const SEG_MAX_MOST: u32 = 254;

/// What a guest that grants its memory asks of a disk's queues.
#[derive(Clone, Debug)]
pub struct GrantedQueues {
    /// Who keeps the rings.
    pub keeper: Rc<dyn RingKeeper>,
    /// Entries of a queue at most.
    pub size: u16,
    /// Segments of a request at most, each within a page.
    pub seg_max: u16,
}

/// Queues of each of `disks` disks, `wanted` at the most; the entries of each; and the segments of a
/// request. `None`: the guest has not enough grants for so many disks.
#[must_use]
pub fn budget(disks: u32, wanted: u16) -> Option<(u16, u16, u16)> {
    let by_disk = GRANTS.saturating_sub(OTHERS).checked_div(disks)?;
    let choices = (1..=wanted).rev().flat_map(|queues| SIZES.map(|size| (queues, size)));
    choices.into_iter().find_map(|(queues, size)| {
        let by_queue = by_disk.checked_div(queues.into())?.checked_sub(RING_PAGES)?;
        let segments = by_queue.checked_div(size.into())?.checked_sub(BESIDES)?;
        let seg_max = u16::try_from(segments.min(SEG_MAX_MOST)).ok()?;
        (segments >= SEG_MAX_LEAST).then_some((queues, size, seg_max))
    })
}

/// Has a queue's rings kept, all or none.
pub(super) fn keep(keeper: Option<&dyn RingKeeper>, layout: &Layout) -> Result<(), MemFault> {
    let Some(keeper) = keeper else { return Ok(()) };
    let parts = layout.parts();
    for (index, part) in parts.into_iter().enumerate() {
        if let Err(fault) = keeper.keep(part) {
            parts.into_iter().take(index).for_each(|part| keeper.release(part));
            return Err(fault);
        }
    }
    Ok(())
}

/// Lets go of a queue's rings.
pub(super) fn release(keeper: Option<&dyn RingKeeper>, layout: &Layout) {
    if let Some(keeper) = keeper {
        layout.parts().into_iter().for_each(|part| keeper.release(part));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_queues_of_every_disk_have_grants_enough() {
        for disks in 1..=11 {
            for wanted in 1..=8 {
                let (queues, size, seg_max) = budget(disks, wanted).expect("enough for 11 disks");
                assert!(queues <= wanted && seg_max >= 16);
                let by_queue = u32::from(size) * (u32::from(seg_max) + 3) + RING_PAGES;
                assert!(
                    disks * u32::from(queues) * by_queue <= 32768 - 2048,
                    "{disks} disks, {wanted} vCPUs"
                );
            }
        }
    }

    #[test]
    fn queues_are_as_large_as_the_grants_allow() {
        assert_eq!(budget(1, 1), Some((1, 256, 116)));
        assert_eq!(budget(1, 2), Some((2, 256, 56)));
        assert_eq!(budget(1, 8), Some((8, 128, 26)));
        assert_eq!(budget(11, 1), Some((1, 128, 18)));
        assert_eq!(budget(11, 8), Some((4, 32, 18)));
        assert_eq!(budget(0, 1), None);
        assert_eq!(budget(100, 8), None);
    }
}
