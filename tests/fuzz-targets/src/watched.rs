//! Guest memory that panics as soon as the device writes where it may not.

use backend::testkit::TestMemory;
use backend::{GuestAddr, GuestMemory, MemFault};
use kernel::{Order, SharedPage};
use std::cell::RefCell;
use std::ops::Range;

/// The memory, and what of it is the device's to write.
pub struct Watched {
    mem: TestMemory,
    writable: RefCell<Vec<Range<u64>>>,
}

impl Watched {
    /// Nothing is writable at first.
    pub fn new(mem: TestMemory) -> Watched {
        Watched { mem, writable: RefCell::default() }
    }

    /// Gives the device these places, and no others.
    pub fn set_writable(&self, places: impl Iterator<Item = Range<u64>>) {
        let mut writable = self.writable.borrow_mut();
        writable.clear();
        writable.extend(places);
    }

    fn check(&self, addr: GuestAddr, len: usize) {
        let (start, end) = (addr.raw(), addr.raw().saturating_add(len as u64));
        let holds = |place: &Range<u64>| place.start <= start && end <= place.end;
        assert!(
            len == 0 || self.writable.borrow().iter().any(holds),
            "{len} bytes at {start:#x} were not the device's to write"
        );
    }
}

impl GuestMemory for Watched {
    fn read(&self, addr: GuestAddr, dst: &mut [u8]) -> Result<(), MemFault> {
        self.mem.read(addr, dst)
    }

    fn write(&self, addr: GuestAddr, src: &[u8]) -> Result<(), MemFault> {
        self.check(addr, src.len());
        self.mem.write(addr, src)
    }

    fn load_u16(&self, addr: GuestAddr, order: Order) -> Result<u16, MemFault> {
        self.mem.load_u16(addr, order)
    }

    fn store_u16(&self, addr: GuestAddr, value: u16, order: Order) -> Result<(), MemFault> {
        self.check(addr, 2);
        self.mem.store_u16(addr, value, order)
    }

    fn copy_to_page(
        &self,
        addr: GuestAddr,
        page: &SharedPage,
        offset: usize,
        len: usize,
    ) -> Result<(), MemFault> {
        self.mem.copy_to_page(addr, page, offset, len)
    }

    fn copy_from_page(
        &self,
        addr: GuestAddr,
        page: &SharedPage,
        offset: usize,
        len: usize,
    ) -> Result<(), MemFault> {
        self.check(addr, len);
        self.mem.copy_from_page(addr, page, offset, len)
    }
}
