//! Guest memory that notes each access of the device, in order.

use backend::testkit::TestMemory;
use backend::{GuestAddr, GuestMemory, MemFault};
use kernel::{Order, SharedPage};
use std::cell::RefCell;

/// One access.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Touch {
    pub write: bool,
    pub start: u64,
    pub len: u64,
}

/// The memory and what was done to it.
pub struct Traced {
    mem: TestMemory,
    log: RefCell<Vec<Touch>>,
}

impl Traced {
    pub fn new(mem: TestMemory) -> Traced {
        Traced { mem, log: RefCell::default() }
    }

    pub fn into_log(self) -> Vec<Touch> {
        self.log.into_inner()
    }

    fn note(&self, write: bool, addr: GuestAddr, len: usize) {
        self.log.borrow_mut().push(Touch { write, start: addr.raw(), len: len as u64 });
    }
}

impl GuestMemory for Traced {
    fn read(&self, addr: GuestAddr, dst: &mut [u8]) -> Result<(), MemFault> {
        self.note(false, addr, dst.len());
        self.mem.read(addr, dst)
    }

    fn write(&self, addr: GuestAddr, src: &[u8]) -> Result<(), MemFault> {
        self.note(true, addr, src.len());
        self.mem.write(addr, src)
    }

    fn load_u16(&self, addr: GuestAddr, order: Order) -> Result<u16, MemFault> {
        self.note(false, addr, 2);
        self.mem.load_u16(addr, order)
    }

    fn store_u16(&self, addr: GuestAddr, value: u16, order: Order) -> Result<(), MemFault> {
        self.note(true, addr, 2);
        self.mem.store_u16(addr, value, order)
    }

    fn copy_to_page(
        &self,
        addr: GuestAddr,
        page: &SharedPage,
        offset: usize,
        len: usize,
    ) -> Result<(), MemFault> {
        self.note(false, addr, len);
        self.mem.copy_to_page(addr, page, offset, len)
    }

    fn copy_from_page(
        &self,
        addr: GuestAddr,
        page: &SharedPage,
        offset: usize,
        len: usize,
    ) -> Result<(), MemFault> {
        self.note(true, addr, len);
        self.mem.copy_from_page(addr, page, offset, len)
    }
}
