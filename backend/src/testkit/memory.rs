//! Guest memory for tests: a plain buffer, with holes on demand, one with an observer, and one
//! that lies.

use crate::guest_mem::{GuestAddr, GuestMemory, GuestRange, MemFault, RingKeeper};
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::ops::Range;
use kernel::{Order, PageSlice};

/// A guest's RAM from address [`TestMemory::BASE`] on. Clones are the same memory.
#[derive(Clone)]
pub struct TestMemory {
    bytes: Rc<RefCell<Vec<u8>>>,
    hole: Rc<RefCell<Range<u64>>>,
    invalidations: Rc<Cell<u32>>,
    writes: Rc<Cell<u32>>,
    stale: Rc<Cell<u32>>,
    /// Pages of rings that are kept, once for each range that they are in.
    kept: Rc<RefCell<Vec<u64>>>,
}

impl fmt::Debug for TestMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TestMemory")
    }
}

impl TestMemory {
    /// Where RAM starts.
    pub const BASE: u64 = 0x4000_0000;

    /// `len_bytes` of zeroed RAM.
    #[must_use]
    pub fn new(len_bytes: usize) -> TestMemory {
        TestMemory {
            bytes: Rc::new(RefCell::new(vec![0; len_bytes])),
            hole: Rc::new(RefCell::new(0..0)),
            invalidations: Rc::default(),
            writes: Rc::default(),
            stale: Rc::default(),
            kept: Rc::default(),
        }
    }

    /// Makes accesses to these addresses fail, as after ballooning.
    pub fn punch(&self, hole: Range<u64>) {
        *self.hole.borrow_mut() = hole;
    }

    /// How often every mapping was dropped.
    #[must_use]
    pub fn invalidations(&self) -> u32 {
        self.invalidations.get()
    }

    /// How often the device wrote, in any way.
    #[must_use]
    pub fn device_writes(&self) -> u32 {
        self.writes.get()
    }

    /// How many pages of rings are kept.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.kept.borrow().len()
    }

    /// Has it as many stale mappings, of which each [`GuestMemory::sweep`] ends one.
    pub fn set_stale(&self, mappings: u32) {
        self.stale.set(mappings);
    }

    /// How many stale mappings are left.
    #[must_use]
    pub fn stale(&self) -> u32 {
        self.stale.get()
    }

    fn range(&self, addr: GuestAddr, len: usize) -> Result<Range<usize>, MemFault> {
        let fault = MemFault { addr };
        let end = addr.raw().checked_add(len as u64).ok_or(fault)?;
        let hole = self.hole.borrow();
        if addr.raw() < hole.end && hole.start < end {
            return Err(fault);
        }
        let start = usize::try_from(addr.raw().checked_sub(Self::BASE).ok_or(fault)?).map_err(|_| fault)?;
        let range = start..start.checked_add(len).ok_or(fault)?;
        if range.end <= self.bytes.borrow().len() { Ok(range) } else { Err(fault) }
    }

    /// What the guest itself sees: no hole, no count.
    #[must_use]
    pub fn peek(&self, addr: u64, len: usize) -> Vec<u8> {
        let start = usize::try_from(addr - Self::BASE).expect("an address of the RAM");
        self.bytes.borrow()[start..start + len].to_vec()
    }

    /// What the guest itself writes.
    pub fn poke(&self, addr: u64, bytes: &[u8]) {
        let start = usize::try_from(addr - Self::BASE).expect("an address of the RAM");
        self.bytes.borrow_mut()[start..start + bytes.len()].copy_from_slice(bytes);
    }

    /// A u16 as the guest sees it.
    #[must_use]
    pub fn peek_u16(&self, addr: u64) -> u16 {
        let bytes = self.peek(addr, 2);
        u16::from_le_bytes([bytes[0], bytes[1]])
    }

    /// A u16 as the guest writes it.
    pub fn poke_u16(&self, addr: u64, value: u16) {
        self.poke(addr, &value.to_le_bytes());
    }
}

impl GuestMemory for TestMemory {
    fn read(&self, addr: GuestAddr, dst: &mut [u8]) -> Result<(), MemFault> {
        let range = self.range(addr, dst.len())?;
        dst.copy_from_slice(&self.bytes.borrow()[range]);
        Ok(())
    }

    fn write(&self, addr: GuestAddr, src: &[u8]) -> Result<(), MemFault> {
        let range = self.range(addr, src.len())?;
        self.writes.set(self.writes.get() + 1);
        self.bytes.borrow_mut()[range].copy_from_slice(src);
        Ok(())
    }

    fn load_u16(&self, addr: GuestAddr, _order: Order) -> Result<u16, MemFault> {
        let mut bytes = [0; 2];
        if !addr.is_aligned(2) {
            return Err(MemFault { addr });
        }
        self.read(addr, &mut bytes)?;
        Ok(u16::from_le_bytes(bytes))
    }

    fn store_u16(&self, addr: GuestAddr, value: u16, _order: Order) -> Result<(), MemFault> {
        if !addr.is_aligned(2) {
            return Err(MemFault { addr });
        }
        self.write(addr, &value.to_le_bytes())
    }

    fn copy_to_page(&self, addr: GuestAddr, to: PageSlice<'_>) -> Result<(), MemFault> {
        let range = self.range(addr, to.len)?;
        to.page.write(to.offset, &self.bytes.borrow()[range]).map_err(|_| MemFault { addr })
    }

    fn copy_from_page(&self, addr: GuestAddr, from: PageSlice<'_>) -> Result<(), MemFault> {
        let range = self.range(addr, from.len)?;
        self.writes.set(self.writes.get() + 1);
        from.page.read(from.offset, &mut self.bytes.borrow_mut()[range]).map_err(|_| MemFault { addr })
    }

    fn invalidate(&self) {
        self.invalidations.set(self.invalidations.get() + 1);
    }

    fn is_unswept(&self) -> bool {
        self.stale.get() > 0
    }

    fn sweep(&self) {
        self.stale.set(self.stale.get().saturating_sub(1));
    }
}

impl RingKeeper for TestMemory {
    fn keep(&self, range: GuestRange) -> Result<(), MemFault> {
        let page = |addr: u64| addr / 4096;
        let last = range.start().raw() + range.len_bytes() - 1;
        self.kept.borrow_mut().extend(page(range.start().raw())..=page(last));
        Ok(())
    }

    fn release(&self, range: GuestRange) {
        let mut kept = self.kept.borrow_mut();
        let page = |addr: u64| addr / 4096;
        for wanted in page(range.start().raw())..=page(range.start().raw() + range.len_bytes() - 1) {
            let at = kept.iter().position(|&page| page == wanted).expect("a page that is kept");
            kept.swap_remove(at);
        }
    }
}

/// An access of the device to guest memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Touch {
    /// Whether it writes.
    pub write: bool,
    /// Guest physical address of its first byte.
    pub start: u64,
    /// Bytes.
    pub len: u64,
}

/// Somebody who sees each access before it is made.
pub trait Observer {
    /// It is about to be made.
    fn touch(&self, touch: Touch);
}

/// Memory with an observer of every access.
pub struct Observed<O> {
    /// The memory.
    pub inner: TestMemory,
    /// Who looks on.
    pub observer: O,
}

impl<O: Observer> Observed<O> {
    fn note(&self, write: bool, addr: GuestAddr, len: usize) -> &TestMemory {
        self.observer.touch(Touch { write, start: addr.raw(), len: len as u64 });
        &self.inner
    }
}

impl<O: Observer> GuestMemory for Observed<O> {
    fn read(&self, addr: GuestAddr, dst: &mut [u8]) -> Result<(), MemFault> {
        self.note(false, addr, dst.len()).read(addr, dst)
    }

    fn write(&self, addr: GuestAddr, src: &[u8]) -> Result<(), MemFault> {
        self.note(true, addr, src.len()).write(addr, src)
    }

    fn load_u16(&self, addr: GuestAddr, order: Order) -> Result<u16, MemFault> {
        self.note(false, addr, 2).load_u16(addr, order)
    }

    fn store_u16(&self, addr: GuestAddr, value: u16, order: Order) -> Result<(), MemFault> {
        self.note(true, addr, 2).store_u16(addr, value, order)
    }

    fn copy_to_page(&self, addr: GuestAddr, to: PageSlice<'_>) -> Result<(), MemFault> {
        self.note(false, addr, to.len).copy_to_page(addr, to)
    }

    fn copy_from_page(&self, addr: GuestAddr, from: PageSlice<'_>) -> Result<(), MemFault> {
        self.note(true, addr, from.len).copy_from_page(addr, from)
    }

    fn invalidate(&self) {
        self.inner.invalidate();
    }

    fn is_unswept(&self) -> bool {
        self.inner.is_unswept()
    }

    fn sweep(&self) {
        self.inner.sweep();
    }
}

/// Memory whose bytes change between reads: before each access of the device, another vCPU
/// scribbles over a few bytes of `target`. Seeded, so that a failure can be repeated.
#[derive(Clone)]
pub struct HostileMemory {
    inner: TestMemory,
    target: Range<u64>,
    state: Rc<Cell<u64>>,
}

impl HostileMemory {
    /// Scribbles over addresses in `target` of `inner`.
    #[must_use]
    pub fn new(inner: TestMemory, target: Range<u64>, seed: u64) -> HostileMemory {
        HostileMemory { inner, target, state: Rc::new(Cell::new(seed | 1)) }
    }

    /// xorshift64.
    fn random(&self) -> u64 {
        let mut x = self.state.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.state.set(x);
        x
    }

    fn scribble(&self) {
        for _ in 0..self.random() % 4 {
            let at = self.target.start + self.random() % (self.target.end - self.target.start);
            let byte = self.random().to_le_bytes()[0];
            // Small numbers are more often valid, so they reach deeper.
            self.inner.poke(at, &[if self.random().is_multiple_of(2) { byte % 8 } else { byte }]);
        }
    }
}

impl GuestMemory for HostileMemory {
    fn read(&self, addr: GuestAddr, dst: &mut [u8]) -> Result<(), MemFault> {
        self.scribble();
        self.inner.read(addr, dst)
    }

    fn write(&self, addr: GuestAddr, src: &[u8]) -> Result<(), MemFault> {
        self.inner.write(addr, src)?;
        self.scribble();
        Ok(())
    }

    fn load_u16(&self, addr: GuestAddr, order: Order) -> Result<u16, MemFault> {
        self.scribble();
        self.inner.load_u16(addr, order)
    }

    fn store_u16(&self, addr: GuestAddr, value: u16, order: Order) -> Result<(), MemFault> {
        self.inner.store_u16(addr, value, order)?;
        self.scribble();
        Ok(())
    }

    fn copy_to_page(&self, addr: GuestAddr, to: PageSlice<'_>) -> Result<(), MemFault> {
        self.scribble();
        self.inner.copy_to_page(addr, to)
    }

    fn copy_from_page(&self, addr: GuestAddr, from: PageSlice<'_>) -> Result<(), MemFault> {
        self.inner.copy_from_page(addr, from)
    }
}
