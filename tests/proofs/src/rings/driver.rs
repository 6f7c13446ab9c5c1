//! A driver of one virtqueue, as Linux' `virtio_ring.c` orders its accesses, and the guest's memory.
//!
//! A model: it has one descriptor for each request, and nothing in it but the rings.

use crate::weak::Weak;
use backend::guest_mem::{GuestAddr, GuestMemory, MemFault};
use backend::virtq::Layout;
use kernel::{Order, PageSlice, SharedPage};
use loom::sync::atomic::{AtomicU64, Ordering, fence};
use std::rc::Rc;

/// Guest physical address of the page.
const BASE: u64 = 0x1000;
/// Offsets in the page.
const DESC: usize = 0;
const AVAIL: usize = 0x100;
const USED: usize = 0x200;

/// One page of a guest's memory, which holds the rings.
#[derive(Clone)]
pub struct Page(SharedPage);

impl Page {
    fn offset(addr: GuestAddr) -> Result<usize, MemFault> {
        let offset = addr.raw().checked_sub(BASE).and_then(|offset| usize::try_from(offset).ok());
        offset.ok_or(MemFault { addr })
    }
}

impl GuestMemory for Page {
    fn read(&self, addr: GuestAddr, dst: &mut [u8]) -> Result<(), MemFault> {
        self.0.read(Self::offset(addr)?, dst).map_err(|_| MemFault { addr })
    }

    fn write(&self, addr: GuestAddr, src: &[u8]) -> Result<(), MemFault> {
        self.0.write(Self::offset(addr)?, src).map_err(|_| MemFault { addr })
    }

    fn load_u16(&self, addr: GuestAddr, order: Order) -> Result<u16, MemFault> {
        self.0.load(Self::offset(addr)?, order).map_err(|_| MemFault { addr })
    }

    fn store_u16(&self, addr: GuestAddr, value: u16, order: Order) -> Result<(), MemFault> {
        self.0.store(Self::offset(addr)?, value, order).map_err(|_| MemFault { addr })
    }

    fn copy_to_page(&self, addr: GuestAddr, _to: PageSlice<'_>) -> Result<(), MemFault> {
        Err(MemFault { addr })
    }

    fn copy_from_page(&self, addr: GuestAddr, _from: PageSlice<'_>) -> Result<(), MemFault> {
        Err(MemFault { addr })
    }
}

/// The driver's half.
pub struct Driver {
    /// The guest's memory.
    pub page: Page,
    /// Where the rings are.
    pub layout: Layout,
    size: u16,
    event_idx: bool,
    avail_flags: Rc<AtomicU64>,
    avail_idx: Rc<AtomicU64>,
    used_event: Rc<AtomicU64>,
    used_flags: Rc<AtomicU64>,
    used_idx: Rc<AtomicU64>,
    avail_event: Rc<AtomicU64>,
    offered: u16,
    used: u16,
}

impl Driver {
    /// A queue of `size` entries.
    ///
    /// # Panics
    /// Without memory.
    #[must_use]
    pub fn new(weak: &Weak, size: u16, event_idx: bool) -> Driver {
        let shared = SharedPage::alloc().expect("memory");
        let entries = usize::from(size);
        for entry in 0..entries {
            weak.data(&shared, DESC + entry * 16, 16);
            weak.data(&shared, AVAIL + 4 + entry * 2, 2);
            weak.data(&shared, USED + 4 + entry * 8, 8);
        }
        let word = |offset| weak.word::<u16>(&shared, offset);
        let place = |offset: usize| GuestAddr::new(BASE + offset as u64);
        Driver {
            layout: Layout::new(size.into(), place(DESC), place(AVAIL), place(USED)).expect("a good layout"),
            size,
            event_idx,
            avail_flags: word(AVAIL),
            avail_idx: word(AVAIL + 2),
            used_event: word(AVAIL + 4 + entries * 2),
            used_flags: word(USED),
            used_idx: word(USED + 2),
            avail_event: word(USED + 4 + entries * 8),
            page: Page(shared),
            offered: 0,
            used: 0,
        }
    }

    /// Offers a request of one descriptor. True: the device wants to be notified.
    ///
    /// # Panics
    /// Never: it is inside the page.
    #[must_use]
    pub fn offer(&mut self) -> bool {
        let slot = self.offered % self.size;
        let mut desc = [0; 16];
        desc[..8].copy_from_slice(&0x10_0000_u64.to_le_bytes());
        desc[8] = 1;
        self.page.0.write(DESC + usize::from(slot) * 16, &desc).expect("inside");
        self.page.0.write(AVAIL + 4 + usize::from(slot) * 2, &slot.to_le_bytes()).expect("inside");
        let old = self.offered;
        self.offered = old.wrapping_add(1);
        self.avail_idx.store(self.offered.into(), Ordering::Release);
        fence(Ordering::SeqCst);
        if self.event_idx {
            let event = u16::try_from(self.avail_event.load(Ordering::Relaxed)).expect("a word of 16 bits");
            return self.offered.wrapping_sub(event).wrapping_sub(1) < self.offered.wrapping_sub(old);
        }
        self.used_flags.load(Ordering::Relaxed) & 1 == 0
    }

    /// Takes what the device has used; how many requests that were.
    ///
    /// # Panics
    /// If the device answers a request that was not asked, or too many.
    pub fn take_used(&mut self) -> u16 {
        let mut taken = 0;
        while self.used_idx.load(Ordering::Acquire) != u64::from(self.used) {
            let slot = self.used % self.size;
            let mut elem = [0; 8];
            self.page.0.read(USED + 4 + usize::from(slot) * 8, &mut elem).expect("inside");
            // One queue, in order: the head is that of the slot.
            assert_eq!(elem[..4], u32::from(slot).to_le_bytes(), "a head that was offered");
            self.used = self.used.wrapping_add(1);
            taken += 1;
            assert!(self.used <= self.offered, "answered more often than asked");
        }
        taken
    }

    /// Wants no interrupts for now.
    pub fn disable_interrupts(&self) {
        if !self.event_idx {
            self.avail_flags.store(1, Ordering::Relaxed);
        }
    }

    /// Wants an interrupt for the next used request. False: there is one already.
    #[must_use]
    pub fn enable_interrupts(&self) -> bool {
        if self.event_idx {
            self.used_event.store(self.used.into(), Ordering::Relaxed);
        } else {
            self.avail_flags.store(0, Ordering::Relaxed);
        }
        fence(Ordering::SeqCst);
        self.used_idx.load(Ordering::Acquire) == u64::from(self.used)
    }
}
