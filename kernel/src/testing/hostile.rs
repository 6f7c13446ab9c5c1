//! What an honest stub never does: for the hostile test images (`tests/hostile`), feature
//! `hostile`. Everything here is safe for *our* memory; what it does to others is what the tests
//! are about.

use crate::arch::{self, contention};
use crate::mem::shared::{Order, OutOfPage, SharedPage};
use crate::xen::Xen;
use crate::xen::hypervisor::DomId;
use xen_pv_sys::dm_op::{CreateIoreqServer, DMOP_CREATE_IOREQ_SERVER, DmOpBuf};
use xen_pv_sys::errno::Errno;
use xen_pv_sys::xen::{HYPERVISOR_DM_OP, HYPERVISOR_DOMCTL};

/// `struct xen_domctl` with a zeroed union: every address in it is null.
#[repr(C, align(8))]
struct Domctl {
    command: u32,
    interface_version: u32,
    domain: u16,
    pad: [u16; 3],
    body: [u64; 16],
}

/// Asks for `XEN_DOMCTL_*` number `command` on `domain`.
///
/// # Errors
/// What Xen answers: nobody but dom0 may.
pub fn domctl(command: u32, domain: DomId, interface_version: u32) -> Result<u64, Errno> {
    let mut arg = Domctl { command, interface_version, domain: domain.0, pad: [0; 3], body: [0; 16] };
    let address = (&raw mut arg).addr() as u64;
    // SAFETY: Xen reads and writes at most this structure, which is as large as its own. The
    // addresses that the union may hold are null, which is not mapped.
    Errno::check(unsafe { arch::hypercall(HYPERVISOR_DOMCTL, [address, 0, 0, 0, 0]) })
}

/// A device-model operation from its bytes (`struct xen_dm_op`), which Xen may rewrite.
///
/// # Errors
/// What Xen answers.
pub fn dm_op(target: DomId, request: &mut [u8]) -> Result<u64, Errno> {
    dm_op_buffers(target, request, 1)
}

/// As [`dm_op`], but announces `nr_buffers` buffers: the first is `request`, the others, up to
/// three, are empty.
///
/// # Errors
/// What Xen answers; `EINVAL` without asking for more than four.
pub fn dm_op_buffers(target: DomId, request: &mut [u8], nr_buffers: u32) -> Result<u64, Errno> {
    let mut buffers = [DmOpBuf::default(); 4];
    if nr_buffers as usize > buffers.len() {
        return Err(Errno::EINVAL);
    }
    buffers[0] = DmOpBuf { handle: request.as_mut_ptr().addr() as u64, size: request.len() as u64 };
    let address = buffers.as_ptr().addr() as u64;
    let arguments = [u64::from(target.0), u64::from(nr_buffers), address, 0, 0];
    // SAFETY: Xen reads and writes the buffers within their sizes; no operation of Arm's takes
    // other addresses of the caller's.
    Errno::check(unsafe { arch::hypercall(HYPERVISOR_DM_OP, arguments) })
}

/// `XEN_DMOP_create_ioreq_server` with any `handle_bufioreq`; returns the server's identifier.
///
/// # Errors
/// What Xen answers.
pub fn create_ioreq_server(target: DomId, handle_bufioreq: u8) -> Result<u16, Errno> {
    let mut request = [0u8; 8 + size_of::<CreateIoreqServer>()];
    request[..4].copy_from_slice(&DMOP_CREATE_IOREQ_SERVER.to_le_bytes());
    request[8] = handle_bufioreq;
    dm_op(target, &mut request)?;
    Ok(u16::from_le_bytes([request[12], request[13]]))
}

/// Maps one frame of any domain.
///
/// # Errors
/// What Xen answers.
pub fn foreign_map(xen: &Xen, domain: DomId, gfn: u64) -> Result<SharedPage, Errno> {
    xen.foreign_page(domain, gfn)
}

/// Maps the first page of a domain's grant table.
///
/// # Errors
/// What Xen answers.
pub fn grant_table(xen: &Xen, domain: DomId) -> Result<SharedPage, Errno> {
    xen.grant_table_page(domain)
}

/// The page that this domain shares with Xen: event bits that Xen changes atomically.
#[must_use]
pub fn shared_info(xen: &Xen) -> SharedPage {
    xen.shared_info()
}

/// Adds `add` to the word at `offset` `times` times by load-exclusive and store-exclusive,
/// without checking whether the store succeeded.
///
/// # Errors
/// [`OutOfPage`] if the offset is not in the page or not aligned.
pub fn contend_by_exclusives(
    page: &SharedPage,
    offset: usize,
    add: u32,
    times: u64,
) -> Result<(), OutOfPage> {
    let at = word(page, offset)?;
    // SAFETY: in the page and aligned (`word`); the page is for concurrent access.
    unsafe { contention::exclusives(at, add, times) };
    Ok(())
}

/// As [`contend_by_exclusives`], by LSE atomics. Does nothing if the CPU has none: ask
/// [`has_lse`] first.
///
/// # Errors
/// [`OutOfPage`] if the offset is not in the page or not aligned.
pub fn contend_by_lse(page: &SharedPage, offset: usize, add: u32, times: u64) -> Result<(), OutOfPage> {
    let at = word(page, offset)?;
    if has_lse() {
        // SAFETY: as above, and the CPU has LSE.
        unsafe { contention::lse(at, add, times) };
    }
    Ok(())
}

/// Stores `value` to the word at `offset` `times` times.
///
/// # Errors
/// [`OutOfPage`] if the offset is not in the page or not aligned.
pub fn contend_by_stores(page: &SharedPage, offset: usize, value: u32, times: u64) -> Result<(), OutOfPage> {
    let at = word(page, offset)?;
    // SAFETY: in the page and aligned (`word`); the page is for concurrent access.
    unsafe { contention::stores(at, value, times) };
    Ok(())
}

/// Whether the CPU has LSE atomics.
#[must_use]
pub fn has_lse() -> bool {
    contention::has_lse()
}

fn word(page: &SharedPage, offset: usize) -> Result<*mut u32, OutOfPage> {
    let at = page.at(offset, 4)?;
    if offset.is_multiple_of(4) { Ok(at.cast()) } else { Err(OutOfPage) }
}

/// Accesses that the MMU must refuse: each one ends the domain.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// Writes to an address that is not mapped.
    Unmapped,
    /// Writes to code.
    WriteCode,
    /// Executes data, on the heap.
    ExecuteData,
}

/// Ends the domain in the way that a bug does, by a fault. Returns only if the MMU let it pass.
/// (On a host it just returns.)
pub fn fault(kind: Fault) {
    if cfg!(not(target_os = "none")) {
        return;
    }
    let code = fault as fn(Fault) as *mut u32;
    match kind {
        // SAFETY: the first page is never mapped on the stub: this faults and does not return.
        // Volatile, through an opaque pointer: the compiler may not reason about it.
        Fault::Unmapped => unsafe {
            core::hint::black_box(core::ptr::null_mut::<u32>().wrapping_add(2)).write_volatile(1);
        },
        // SAFETY: code is mapped read-only: this faults and does not return. What would be
        // written if it did not is what is there.
        Fault::WriteCode => unsafe { code.write_volatile(code.read_volatile()) },
        Fault::ExecuteData => {
            if let Some(page) = SharedPage::alloc() {
                // `ret`, should the page be executable after all.
                let _ = page.store(0, 0xd65f_03c0u32, Order::AcqRel);
                let address =
                    core::ptr::with_exposed_provenance::<()>(usize::try_from(page.addr()).unwrap_or(0));
                // SAFETY: the heap is not executable: this faults and does not return. If it
                // did, it would be a function that returns at once.
                unsafe { core::mem::transmute::<*const (), extern "C" fn()>(address)() };
            }
        }
    }
}
