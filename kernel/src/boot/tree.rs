//! Reading the device tree.

use super::{BootError, BootInfo, MAX_CMDLINE_BYTES};
use crate::arch::BLOCK_SIZE;
use core::ops::Range;
use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::{Node, Property};

/// Reads a device tree.
///
/// # Errors
/// See [`BootError`].
pub(crate) fn parse(dtb: &'static [u8], entry_counter: u64) -> Result<BootInfo, BootError> {
    let fdt = Fdt::new(dtb).map_err(|_| BootError::Malformed)?;
    let root = fdt.root();
    let child = |wanted: &str| {
        let named = |node: &FdtNode<'static>| {
            let name: &str = node.name();
            name.split('@').next() == Some(wanted)
        };
        root.children().find(named)
    };

    let memory = child("memory").ok_or(BootError::NoMemory)?;
    let ram = regions(memory).next().ok_or(BootError::NoMemory)?;
    if ram.is_empty() {
        return Err(BootError::NoMemory);
    }

    // reg[0] is the grant region, the extended regions follow (libxl_arm.c).
    let hypervisor = child("hypervisor").ok_or(BootError::NoExtendedRegion)?;
    let whole_blocks = |region: Range<u64>| {
        let start = region.start.checked_next_multiple_of(BLOCK_SIZE)?;
        let end = region.end / BLOCK_SIZE * BLOCK_SIZE;
        (start < end && start >= ram.end).then_some(start..end)
    };
    let unused = regions(hypervisor).skip(1).find_map(whole_blocks).ok_or(BootError::NoExtendedRegion)?;

    let cmdline = child("chosen")
        .and_then(|chosen| chosen.property("bootargs"))
        .and_then(|property| property.value_as::<&'static str>().ok())
        .unwrap_or("");
    if cmdline.len() > MAX_CMDLINE_BYTES {
        return Err(BootError::CmdlineTooLong(cmdline.len()));
    }
    Ok(BootInfo { cmdline, ram, unused, device_tree: dtb, entry_counter })
}

/// The address ranges of a node's `reg`, without those that wrap.
fn regions(node: FdtNode<'static>) -> impl Iterator<Item = Range<u64>> {
    let registers = node.reg().ok().flatten();
    registers.into_iter().flatten().filter_map(|register| {
        let start: u64 = register.address().ok()?;
        let size: u64 = register.size().ok()?;
        Some(start..start.checked_add(size)?)
    })
}

/// The largest part of `memory` that leaves `reserved` alone.
pub(crate) fn without(memory: Range<u64>, reserved: &Range<u64>) -> Range<u64> {
    if reserved.is_empty() || reserved.end <= memory.start || reserved.start >= memory.end {
        return memory;
    }
    let below = memory.start..reserved.start.max(memory.start);
    let above = reserved.end.min(memory.end)..memory.end;
    if below.end - below.start >= above.end - above.start { below } else { above }
}
