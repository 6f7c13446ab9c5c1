//! What is agreed with blkback before the ring is offered.

use super::ConnectError;
use crate::frontend::Numbers;
use crate::ring::ring_entries;
use crate::xenstore::Xenstore;
use kernel::Hypervisor;
use xen_pv_sys::io::blkif::{MAX_SEGMENTS_PER_REQUEST, RING_ENTRY_SIZE};

/// Ring pages at most: `2^2`, 128 entries. Linux's blkback makes 264 allocations for each entry
/// before it connects, while a guest waits for its start.
const MAX_RING_PAGE_ORDER: u32 = 2;
/// Entries of the largest ring, 32 to a page.
pub(super) const RING_ENTRIES_MAX: usize = 32 << MAX_RING_PAGE_ORDER;
/// Segments of one request at most; one indirect page holds them.
const MAX_SEGMENTS: u16 = 256;
/// Segments that a request needs before it takes an indirect page.
const MIN_INDIRECT_SEGMENTS: u16 = 12;
#[expect(clippy::cast_possible_truncation, reason = "11")]
const DIRECT_SEGMENTS: u16 = MAX_SEGMENTS_PER_REQUEST as u16;

#[derive(Clone, Copy, Debug)]
pub(super) struct Negotiated {
    ring_page_order: u32,
    pub(super) max_pages: u16,
    pub(super) pool_pages: u16,
}

impl Negotiated {
    /// Reads blkback's limits and takes what is of use to us.
    pub(super) fn read<H: Hypervisor>(
        xs: &mut Xenstore<H>,
        backend: &str,
        pool_pages: u16,
    ) -> Result<Negotiated, ConnectError> {
        let keys = ["max-ring-page-order", "feature-max-indirect-segments"];
        let mut nodes = Numbers::read(xs, backend, &keys)?;
        let order = nodes.next()?.unwrap_or(0);
        let order = u32::try_from(order).unwrap_or(u32::MAX).min(MAX_RING_PAGE_ORDER);
        // No larger than needed for a request per page.
        let enough = (0..order).find(|&order| entries(order) >= u32::from(pool_pages));
        let indirect = nodes.next()?.unwrap_or(0);
        let indirect = u16::try_from(indirect).unwrap_or(u16::MAX).min(MAX_SEGMENTS);
        let max_pages = indirect.max(DIRECT_SEGMENTS).min(pool_pages);
        Ok(Negotiated { ring_page_order: enough.unwrap_or(order), max_pages, pool_pages })
    }

    /// Pages of the ring.
    pub(super) fn ring_pages(self) -> usize {
        ring_pages(self.ring_page_order)
    }

    /// Pages for segments: enough for all indirect requests that the pool allows.
    pub(super) fn indirect_pages(self) -> u16 {
        if self.max_pages < MIN_INDIRECT_SEGMENTS {
            return 0;
        }
        let requests = self.pool_pages.checked_div(MIN_INDIRECT_SEGMENTS).unwrap_or(0);
        requests.min(u16::try_from(entries(self.ring_page_order)).unwrap_or(u16::MAX))
    }
}

fn ring_pages(order: u32) -> usize {
    1usize.checked_shl(order).unwrap_or(1)
}

fn entries(order: u32) -> u32 {
    ring_entries(ring_pages(order), RING_ENTRY_SIZE)
}
