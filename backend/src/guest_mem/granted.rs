//! Guest memory over the guest's grants.

use super::{GuestAddr, GuestMemory, GuestRange, MemFault, RingKeeper};
use kernel::{GrantFault, GrantMap, Order, PageSlice};

impl From<GrantFault> for MemFault {
    fn from(fault: GrantFault) -> MemFault {
        MemFault { addr: GuestAddr::new(fault.addr) }
    }
}

impl GuestMemory for GrantMap {
    fn read(&self, addr: GuestAddr, dst: &mut [u8]) -> Result<(), MemFault> {
        Ok(GrantMap::read(self, addr.raw(), dst)?)
    }

    fn write(&self, addr: GuestAddr, src: &[u8]) -> Result<(), MemFault> {
        Ok(GrantMap::write(self, addr.raw(), src)?)
    }

    fn load_u16(&self, addr: GuestAddr, order: Order) -> Result<u16, MemFault> {
        Ok(GrantMap::load(self, addr.raw(), order)?)
    }

    fn store_u16(&self, addr: GuestAddr, value: u16, order: Order) -> Result<(), MemFault> {
        Ok(GrantMap::store(self, addr.raw(), value, order)?)
    }

    fn copy_to_page(&self, addr: GuestAddr, to: PageSlice<'_>) -> Result<(), MemFault> {
        Ok(GrantMap::copy_to_page(self, addr.raw(), to)?)
    }

    fn copy_from_page(&self, addr: GuestAddr, from: PageSlice<'_>) -> Result<(), MemFault> {
        Ok(GrantMap::copy_from_page(self, addr.raw(), from)?)
    }

    fn finish_copies(&self) -> Result<(), MemFault> {
        Ok(GrantMap::finish_copies(self)?)
    }
}

impl RingKeeper for GrantMap {
    fn keep(&self, range: GuestRange) -> Result<(), MemFault> {
        Ok(GrantMap::keep(self, range.start().raw(), range.len_bytes())?)
    }

    fn release(&self, range: GuestRange) {
        GrantMap::release(self, range.start().raw(), range.len_bytes());
    }
}
