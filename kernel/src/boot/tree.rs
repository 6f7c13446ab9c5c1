//! Reading the device tree.

use super::fdt::{Fdt, number};
use super::{BootError, BootInfo, MAX_CMDLINE_BYTES};
use crate::arch::BLOCK_SIZE;
use core::ops::Range;

/// Bytes of a cell.
const CELL: usize = 4;

/// Reads a device tree.
///
/// # Errors
/// See [`BootError`].
pub(crate) fn parse(dtb: &'static [u8], entry_counter: u64) -> Result<BootInfo, BootError> {
    let fdt = Fdt::new(dtb).ok_or(BootError::Malformed)?;
    let ram = regions(fdt, "memory").next().ok_or(BootError::NoMemory)?;
    if ram.is_empty() {
        return Err(BootError::NoMemory);
    }

    // reg[0] is the grant region, the extended regions follow (libxl_arm.c).
    let whole_blocks = |region: Range<u64>| {
        let start = region.start.checked_next_multiple_of(BLOCK_SIZE)?;
        let end = region.end / BLOCK_SIZE * BLOCK_SIZE;
        (start < end && start >= ram.end).then_some(start..end)
    };
    let mut regions = regions(fdt, "hypervisor").skip(1).filter_map(whole_blocks);
    let first = regions.next().ok_or(BootError::NoExtendedRegion)?;
    let unused = [first, regions.next().unwrap_or(0..0)];

    let cmdline = fdt.of_child("chosen", "bootargs").and_then(|value| value.strip_suffix(b"\0"));
    let cmdline = cmdline.and_then(|text| core::str::from_utf8(text).ok()).unwrap_or("");
    if cmdline.len() > MAX_CMDLINE_BYTES {
        return Err(BootError::CmdlineTooLong(cmdline.len()));
    }
    Ok(BootInfo { cmdline, ram, unused, device_tree: dtb, entry_counter })
}

/// The address ranges of the `reg` of one of the root's children, without those that wrap.
fn regions(fdt: Fdt<'static>, child: &str) -> impl Iterator<Item = Range<u64>> {
    let cells = |key, default| match fdt.of_root(key).and_then(number) {
        Some(cells @ 1..=4) => usize::try_from(cells).unwrap_or(default) * CELL,
        _ => default * CELL,
    };
    let (address_len, size_len) = (cells("#address-cells", 2), cells("#size-cells", 1));
    let registers = fdt.of_child(child, "reg").unwrap_or_default();
    registers.chunks_exact(address_len + size_len).filter_map(move |register| {
        let (start, size) = register.split_at_checked(address_len)?;
        let start = number(start)?;
        Some(start..start.checked_add(number(size)?)?)
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
