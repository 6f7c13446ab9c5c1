//! The guest's memory of a stub, whichever way it is reached.

use super::{GuestAddr, GuestMemory, MemFault};
use alloc::rc::Rc;
use kernel::foreign::Window;
use kernel::{ForeignMap, GrantMap, Order, PageSlice};

/// All of it, mapped, or what the guest grants.
#[expect(clippy::large_enum_variant, reason = "there is one for each stub")]
pub enum AnyMemory<W: Window> {
    /// The stub maps what it wants.
    Mapped(ForeignMap<W>),
    /// The guest grants what the stub may reach. Its disks have it as the keeper of their rings, too.
    Granted(Rc<GrantMap>),
}

/// For whoever does not ask for [`GuestMemory::inner`].
macro_rules! each {
    ($self:expr, $memory:ident => $call:expr) => {
        match $self {
            AnyMemory::Mapped($memory) => $call,
            AnyMemory::Granted($memory) => {
                let $memory = &**$memory;
                $call
            }
        }
    };
}

impl<W: Window> GuestMemory for AnyMemory<W> {
    fn read(&self, addr: GuestAddr, dst: &mut [u8]) -> Result<(), MemFault> {
        self.inner().read(addr, dst)
    }

    fn write(&self, addr: GuestAddr, src: &[u8]) -> Result<(), MemFault> {
        self.inner().write(addr, src)
    }

    fn load_u16(&self, addr: GuestAddr, order: Order) -> Result<u16, MemFault> {
        self.inner().load_u16(addr, order)
    }

    fn store_u16(&self, addr: GuestAddr, value: u16, order: Order) -> Result<(), MemFault> {
        self.inner().store_u16(addr, value, order)
    }

    fn copy_to_page(&self, addr: GuestAddr, to: PageSlice<'_>) -> Result<(), MemFault> {
        self.inner().copy_to_page(addr, to)
    }

    fn copy_from_page(&self, addr: GuestAddr, from: PageSlice<'_>) -> Result<(), MemFault> {
        self.inner().copy_from_page(addr, from)
    }

    fn finish_copies(&self) -> Result<(), MemFault> {
        self.inner().finish_copies()
    }

    fn inner(&self) -> &dyn GuestMemory {
        each!(self, memory => memory)
    }

    fn invalidate(&self) {
        self.inner().invalidate();
    }

    fn is_unswept(&self) -> bool {
        each!(self, memory => memory.is_unswept())
    }

    fn sweep(&self) {
        each!(self, memory => memory.sweep());
    }
}
