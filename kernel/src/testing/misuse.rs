//! Further misuse of what a stub is given, for the hostile test images (feature `hostile`): calls that take
//! no address, or only that of their own argument. Safe for our memory, as all in [`hostile`](super::hostile).

use crate::arch::{self, misuse};
use crate::mem::shared::SharedPage;
use crate::xen::Xen;
use crate::xen::add_foreign;
use crate::xen::hypercalls::{self, sched_poll};
use crate::xen::hypervisor::{DomId, GrantRef};
use alloc::vec::Vec;
use core::ops::Range;
use xen_pv_sys::errno::Errno;
use xen_pv_sys::hvm::HvmParam;
use xen_pv_sys::memory::{RemoveFromPhysmap, XENMEM_REMOVE_FROM_PHYSMAP};
use xen_pv_sys::xen::{
    DOMID_SELF, HYPERVISOR_EVENT_CHANNEL_OP, HYPERVISOR_GRANT_TABLE_OP, HYPERVISOR_HVM_OP,
    HYPERVISOR_MEMORY_OP, HYPERVISOR_SCHED_OP,
};

/// `HVMOP_set_param`.
const HVMOP_SET_PARAM: u64 = 0;
/// `SCHEDOP_remote_shutdown`, `SCHEDOP_watchdog`.
const SCHEDOP_REMOTE_SHUTDOWN: u64 = 4;
const SCHEDOP_WATCHDOG: u64 = 6;
/// `GNTTABOP_cache_flush`.
const GNTTABOP_CACHE_FLUSH: u64 = 12;
/// `EVTCHNOP_status`, `EVTCHNOP_alloc_unbound`, `EVTCHNOP_reset`.
const EVENT_OPS: [u64; 3] = [5, 6, 10];

/// Functions of PSCI (ARM DEN 0022) that suspend, end or start something: by their low byte.
const PSCI_ENDS: [u32; 7] = [0x01, 0x02, 0x08, 0x09, 0x0c, 0x0e, 0x12];
/// `CPU_ON`: only of vCPU 0, which is on.
const PSCI_CPU_ON: u32 = 0x03;

/// A call to firmware, which Xen answers. `None`: not made, since the domain would end, sleep, or run code on
/// another vCPU.
#[must_use]
pub fn smccc(function: u32, args: [u64; 3]) -> Option<u64> {
    let is_psci = function >> 24 & 0x3f == 0x04 && function & 0xffff < 0x20;
    let number = function & 0xff;
    if is_psci && (PSCI_ENDS.contains(&number) || (number == PSCI_CPU_ON && args[0] != 0)) {
        return None;
    }
    // SAFETY: what ends or starts a vCPU was left out. No other function of Xen's writes to memory.
    Some(unsafe { misuse::smccc(u64::from(function), args) })
}

/// Sets both timers.
pub fn timers(compare: u64, control: u64) {
    misuse::virtual_timer(compare, control);
    misuse::physical_timer(compare, control);
}

/// Cleans the cache by set and way, for which Xen flushes all of this domain's memory.
pub fn clean_by_set_way() {
    misuse::clean_by_set_way();
}

/// `GNTTABOP_cache_flush` of `length` bytes from `offset` of a page, `op` with any bits.
///
/// # Errors
/// What Xen answers.
pub fn cache_flush(page: &SharedPage, offset: u16, length: u16, op: u32) -> Result<u64, Errno> {
    // `gnttab_cache_flush`: address, offset, length, operation.
    #[repr(C)]
    struct CacheFlush(u64, u16, u16, u32);
    let mut arg = CacheFlush(page.addr(), offset, length, op);
    let address = (&raw mut arg).addr() as u64;
    // SAFETY: Xen reads the structure. A page that is shared has no value that a cache alone may hold.
    Errno::check(unsafe {
        arch::hypercall(HYPERVISOR_GRANT_TABLE_OP, [GNTTABOP_CACHE_FLUSH, address, 1, 0, 0])
    })
}

/// `HVMOP_set_param` of any domain.
///
/// # Errors
/// What Xen answers.
pub fn hvm_set_param(domain: DomId, index: u32, value: u64) -> Result<u64, Errno> {
    let mut arg = HvmParam { domid: domain.0, pad: 0, index, value };
    // SAFETY: the structure belongs to the command. Xen on Arm keeps the number and does nothing with it.
    unsafe { hypercalls::with_arg(HYPERVISOR_HVM_OP, HVMOP_SET_PARAM, &mut arg) }
}

/// `SCHEDOP_remote_shutdown` of any domain.
///
/// # Errors
/// What Xen answers.
pub fn remote_shutdown(domain: DomId, reason: u32) -> Result<u64, Errno> {
    let mut arg = Pair(domain.0.into(), reason);
    // SAFETY: the domain with its padding, and the reason, as the command takes them.
    unsafe { hypercalls::with_arg(HYPERVISOR_SCHED_OP, SCHEDOP_REMOTE_SHUTDOWN, &mut arg) }
}

/// `SCHEDOP_watchdog`: Xen ends this domain when the time is over, unless it is set again. Identifier 0 asks for a
/// new one.
///
/// # Errors
/// What Xen answers.
pub fn watchdog(id: u32, seconds: u32) -> Result<u64, Errno> {
    // SAFETY: two words, as the command takes them.
    let answer =
        unsafe { hypercalls::with_arg(HYPERVISOR_SCHED_OP, SCHEDOP_WATCHDOG, &mut Pair(id, seconds)) }?;
    // Xen 4.20 gives an error of it in 32 bits.
    Errno::check(i64::from(((answer & 0xffff_ffff) as u32).cast_signed()))
}

#[repr(C)]
struct Pair(u32, u32);

/// `SCHEDOP_poll` with any ports, and a time on Xen's clock.
///
/// # Errors
/// What Xen answers.
pub fn poll(ports: &[u32], system_time_ns: u64) -> Result<(), Errno> {
    sched_poll(ports, system_time_ns)
}

/// `EVTCHNOP_status`, `_alloc_unbound` or `_reset` with any argument; `EINVAL` for another operation.
///
/// # Errors
/// What Xen answers.
pub fn event_op(op: u64, argument: &mut [u32; 8]) -> Result<u64, Errno> {
    if !EVENT_OPS.contains(&op) {
        return Err(Errno::EINVAL);
    }
    // SAFETY: none of these three takes an address, and their structures are smaller.
    unsafe { hypercalls::with_arg(HYPERVISOR_EVENT_CHANNEL_OP, op, argument) }
}

/// Writes the flags of a grant of this domain's, whether or not somebody uses it. Its page stays held.
///
/// # Errors
/// `EINVAL` if it is none.
pub fn store_grant_flags(xen: &Xen, gref: GrantRef, flags: u16) -> Result<(), Errno> {
    xen.store_grant_flags(gref, flags)
}

/// Places of 2 MiB in this domain's address space, for mappings that nobody uses.
#[derive(Debug)]
pub struct Places {
    blocks: Vec<Range<u64>>,
}

impl Places {
    /// Takes that many, or as many as there are.
    ///
    /// # Errors
    /// `ENOSPC` if there are none.
    pub fn take(xen: &Xen, count: usize) -> Result<Places, Errno> {
        let blocks: Vec<Range<u64>> = (0..count).map_while(|_| xen.unused_gfns().ok()).collect();
        if blocks.is_empty() { Err(Errno::ENOSPC) } else { Ok(Places { blocks }) }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.blocks.len()
    }

    fn gfn(&self, block: usize, page: u64) -> Result<u64, Errno> {
        let block = self.blocks.get(block).ok_or(Errno::EINVAL)?;
        let gfn = block.start.checked_add(page).ok_or(Errno::EINVAL)?;
        if block.contains(&gfn) { Ok(gfn) } else { Err(Errno::EINVAL) }
    }

    /// Maps a frame of a domain at page `page` of place `block`.
    ///
    /// # Errors
    /// What Xen answers; `EINVAL` for a place that is not one of these.
    pub fn map(&self, domain: DomId, frame: u64, block: usize, page: u64) -> Result<(), Errno> {
        // SAFETY: nothing of Rust's is at that frame, and nobody reads it.
        unsafe { add_foreign(domain, frame, self.gfn(block, page)?) }
    }

    /// Ends such a mapping.
    ///
    /// # Errors
    /// As above.
    pub fn unmap(&self, block: usize, page: u64) -> Result<(), Errno> {
        let mut arg = RemoveFromPhysmap { domid: DOMID_SELF, pad: [0; 3], gpfn: self.gfn(block, page)? };
        // SAFETY: the structure belongs to the command; the frame is one that nobody reads.
        unsafe { hypercalls::with_arg(HYPERVISOR_MEMORY_OP, XENMEM_REMOVE_FROM_PHYSMAP, &mut arg) }
            .map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_call_to_firmware_ends_or_starts_a_vcpu() {
        for base in [0x8400_0000, 0xc400_0000] {
            for number in PSCI_ENDS {
                assert_eq!(smccc(base + number, [0; 3]), None);
            }
            assert_eq!(smccc(base + PSCI_CPU_ON, [1, 0, 0]), None);
            assert_eq!(smccc(base + PSCI_CPU_ON, [0; 3]), Some(u64::MAX));
            assert_eq!(smccc(base, [0; 3]), Some(u64::MAX));
        }
        assert_eq!(smccc(0x8600_0001, [0; 3]), Some(u64::MAX));
    }

    #[test]
    fn an_event_operation_that_takes_an_address_is_not_made() {
        for op in [11, 12] {
            assert_eq!(event_op(op, &mut [0; 8]), Err(Errno::EINVAL));
        }
        assert_eq!(event_op(EVENT_OPS[0], &mut [0; 8]), Err(Errno::ENOSYS));
    }
}
