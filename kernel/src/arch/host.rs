//! The host's twin of the architecture: no hypervisor below, a clock that counts nanoseconds.

use super::MapError;
use core::sync::atomic::{AtomicU64, Ordering};
use xen_pv_sys::errno::Errno;

/// Answers as a hypervisor that knows no hypercall.
///
/// # Safety
/// None; the signature is that of the real one.
pub(crate) unsafe fn hypercall(_number: u64, _args: [u64; 5]) -> i64 {
    -i64::from(Errno::ENOSYS.0)
}

/// Leaves it all to the portable copy.
///
/// # Safety
/// None; the signature is that of the real one.
pub(crate) unsafe fn copy_blocks(_src: *mut u8, _dst: *mut u8, _len: usize) -> usize {
    0
}

static TICKS: AtomicU64 = AtomicU64::new(0);

/// A counter that moves by a microsecond each time it is read.
pub(crate) fn counter() -> u64 {
    TICKS.fetch_add(1000, Ordering::Relaxed)
}

/// Ticks of [`counter`] per second.
pub(crate) fn counter_hz() -> u64 {
    1_000_000_000
}

/// Nothing to map on a host.
///
/// # Errors
/// As the real one for a bad address.
pub(crate) fn map_block(address: u64, size: u64) -> Result<(), MapError> {
    if address.is_multiple_of(size) { Ok(()) } else { Err(MapError::Unaligned(address)) }
}

/// Ordinary atomics in place of the contending instructions.
#[cfg(feature = "hostile")]
pub(crate) mod contention {
    use core::sync::atomic::{AtomicU32, Ordering};

    /// Host twin.
    ///
    /// # Safety
    /// `at` is valid for atomic access.
    pub(crate) unsafe fn exclusives(at: *mut u32, add: u32, times: u64) {
        for _ in 0..times {
            // SAFETY: the caller's promise.
            unsafe { AtomicU32::from_ptr(at) }.fetch_add(add, Ordering::Relaxed);
        }
    }

    /// Host twin.
    ///
    /// # Safety
    /// `at` is valid for atomic access.
    pub(crate) unsafe fn lse(at: *mut u32, add: u32, times: u64) {
        // SAFETY: the caller's promise.
        unsafe { exclusives(at, add, times) };
    }

    /// Host twin.
    ///
    /// # Safety
    /// `at` is valid for atomic access.
    pub(crate) unsafe fn stores(at: *mut u32, value: u32, times: u64) {
        for _ in 0..times {
            // SAFETY: the caller's promise.
            unsafe { AtomicU32::from_ptr(at) }.store(value, Ordering::Relaxed);
        }
    }

    /// Whether the CPU has LSE atomics.
    pub(crate) fn has_lse() -> bool {
        false
    }
}

/// Nothing below that could be misused.
#[cfg(feature = "hostile")]
pub(crate) mod misuse {
    /// Answers as firmware that knows no function.
    ///
    /// # Safety
    /// None; the signature is that of the real one.
    pub(crate) unsafe fn smccc(_function: u64, _args: [u64; 3]) -> u64 {
        u64::MAX
    }

    /// Host twin.
    pub(crate) fn virtual_timer(_compare: u64, _control: u64) {}

    /// Host twin.
    pub(crate) fn physical_timer(_compare: u64, _control: u64) {}

    /// Host twin.
    pub(crate) fn clean_by_set_way() {}
}
