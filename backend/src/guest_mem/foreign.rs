//! Guest memory over the kernel's foreign mappings.

use super::{GuestAddr, GuestMemory, MemFault};
use kernel::foreign::Window;
use kernel::{ForeignFault, ForeignMap, Order, PageSlice};

impl From<ForeignFault> for MemFault {
    fn from(fault: ForeignFault) -> MemFault {
        MemFault { addr: GuestAddr::new(fault.gpa) }
    }
}

impl<W: Window> GuestMemory for ForeignMap<W> {
    fn read(&self, addr: GuestAddr, dst: &mut [u8]) -> Result<(), MemFault> {
        Ok(ForeignMap::read(self, addr.raw(), dst)?)
    }

    fn write(&self, addr: GuestAddr, src: &[u8]) -> Result<(), MemFault> {
        Ok(ForeignMap::write(self, addr.raw(), src)?)
    }

    fn load_u16(&self, addr: GuestAddr, order: Order) -> Result<u16, MemFault> {
        Ok(ForeignMap::load(self, addr.raw(), order)?)
    }

    fn store_u16(&self, addr: GuestAddr, value: u16, order: Order) -> Result<(), MemFault> {
        Ok(ForeignMap::store(self, addr.raw(), value, order)?)
    }

    fn copy_to_page(&self, addr: GuestAddr, to: PageSlice<'_>) -> Result<(), MemFault> {
        Ok(ForeignMap::copy_to_page(self, addr.raw(), to)?)
    }

    fn copy_from_page(&self, addr: GuestAddr, from: PageSlice<'_>) -> Result<(), MemFault> {
        Ok(ForeignMap::copy_from_page(self, addr.raw(), from)?)
    }

    fn invalidate(&self) {
        ForeignMap::invalidate(self);
    }

    fn is_unswept(&self) -> bool {
        ForeignMap::is_unswept(self)
    }

    fn sweep(&self) {
        ForeignMap::sweep(self);
    }
}
