//! From the entry code to the image's main function: the order in which things come up.

use super::{BootInfo, tree};
use crate::arch::{self, BLOCK_SIZE, MapError, map_missing};
use crate::log::{console, logger, panic};
use crate::mem::heap;
use crate::restart;
use crate::xen::Xen;
use crate::xen::hypervisor::{Hypervisor, ShutdownReason};
use alloc::boxed::Box;
use core::mem::MaybeUninit;
use core::ops::Range;
use core::ptr::with_exposed_provenance_mut;
use core::slice;
use xen_pv_sys::arch_arm::{GUEST_GNTTAB_BASE, GUEST_GNTTAB_SIZE, GUEST_MAGIC_BASE};

/// Largest device tree taken (`FDT_MAX_SIZE` of libxl is the same order).
const MAX_DTB_BYTES: usize = 2 << 20;
const PAGE: u64 = 4096;

unsafe extern "Rust" {
    /// Defined by [`crate::main!`] in the image.
    safe fn pilotfish_main(xen: Xen, boot: &'static BootInfo) -> ShutdownReason;
}

/// Runs the image. Called once in each incarnation, by the entry code, on the empty boot stack with
/// the MMU on; at boot only the image itself is mapped, after a restart all that was before.
#[unsafe(no_mangle)]
extern "Rust" fn pilotfish_start(dtb: u64, entry_counter: u64) -> ! {
    must(map_missing(GUEST_MAGIC_BASE..GUEST_MAGIC_BASE + BLOCK_SIZE));
    let tree = device_tree(dtb);
    let boot = match tree::parse(tree, entry_counter) {
        Ok(boot) => boot,
        Err(error) => {
            // The console needs a heap; a few pages right behind the image are RAM in any case.
            let end = arch::image::layout().end;
            heap::init(memory(tree::without(end..end + 4 * PAGE, &tree_range(tree))));
            console::init();
            panic::die(format_args!("cannot boot: {error}"))
        }
    };
    must(map_missing(boot.ram.clone()));
    let limit = boot.option("restarts").and_then(|limit| limit.parse().ok()).unwrap_or(0);
    restart::start(dtb, entry_counter, limit);
    let mut heap = heap_range(&boot, tree);
    if limit > 0 {
        let incarnation = restart::incarnation();
        if incarnation > 0 {
            restart::set_previous_heap(&restart::half(&heap, incarnation - 1));
        }
        heap = restart::half(&heap, incarnation);
    }
    heap::init(memory(heap));
    console::init();
    must(map_missing(GUEST_GNTTAB_BASE..GUEST_GNTTAB_BASE + GUEST_GNTTAB_SIZE));

    let boot: &'static BootInfo = Box::leak(Box::new(boot));
    logger::init(boot.option("log"));
    let xen = match Xen::new(boot.ram.clone(), boot.unused.clone()) {
        Ok(xen) => xen,
        Err(errno) => panic::die(format_args!("cannot set up event channels: {errno}")),
    };
    let reason = pilotfish_main(xen, boot);
    log::logger().flush();
    xen.shutdown(reason);
    arch::halt()
}

/// A failure this early is a layout that cannot be served; there may be no console yet.
fn must(mapped: Result<(), MapError>) {
    if let Err(error) = mapped {
        console::init();
        panic::die(format_args!("cannot map memory: {error}"));
    }
}

fn tree_range(tree: &[u8]) -> Range<u64> {
    let start = tree.as_ptr().addr() as u64;
    start..start + tree.len() as u64
}

/// The heap's place: RAM above the image, without the device tree.
fn heap_range(boot: &BootInfo, tree: &[u8]) -> Range<u64> {
    let free = arch::image::layout().end.max(boot.ram.start)..boot.ram.end;
    let tree = tree_range(tree);
    let pages = tree.start / PAGE * PAGE..tree.end.next_multiple_of(PAGE);
    tree::without(free, &pages)
}

/// The device tree's bytes; empty if there is none.
fn device_tree(address: u64) -> &'static [u8] {
    /// `FDT_MAGIC` as it lies in memory.
    const MAGIC: [u8; 4] = [0xd0, 0x0d, 0xfe, 0xed];
    let at: *const u8 = with_exposed_provenance_mut(native(address));
    if at.is_null() || !address.is_multiple_of(8) {
        return &[];
    }
    must(map_missing(address..address.saturating_add(8)));
    // SAFETY: the boot protocol says that the device tree is here, and it is mapped now; the
    // entry code checked that it is not where the image lies; the heap does not get this
    // range, so nothing ever writes to it.
    let header: &'static [u8] = unsafe { slice::from_raw_parts(at, 8) };
    let size = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
    if header[..4] != MAGIC || size > MAX_DTB_BYTES {
        return &[];
    }
    must(map_missing(address..address.saturating_add(size as u64)));
    // SAFETY: as above, for the whole of it.
    unsafe { slice::from_raw_parts(at, size) }
}

/// An address or size of this machine, whose `usize` has 64 bits.
fn native(number: u64) -> usize {
    usize::try_from(number).unwrap_or(0)
}

/// A range of RAM that nothing uses yet.
fn memory(range: Range<u64>) -> &'static mut [MaybeUninit<u8>] {
    let len = native(range.end.saturating_sub(range.start));
    // SAFETY: both callers pass RAM above the image without the device tree, mapped as data;
    // each incarnation calls this once (the other call ends in `die`), so the borrow is unique, and
    // the range is not that of the previous incarnation, in which others may still write.
    unsafe { slice::from_raw_parts_mut(with_exposed_provenance_mut(native(range.start)), len) }
}
