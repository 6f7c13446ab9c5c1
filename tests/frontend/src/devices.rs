//! The virtio-mmio devices and the memory that the device tree names.

use alloc::vec::Vec;
use core::ops::Range;
use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::{Node, Property};

/// The windows of all `virtio,mmio` nodes, by address.
pub fn find(tree: &'static [u8]) -> Vec<Range<u64>> {
    let Ok(fdt) = Fdt::new(tree) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for node in fdt.root().children() {
        let compatible = node.property("compatible");
        if !compatible.is_some_and(|property| property.value().starts_with(b"virtio,mmio\0")) {
            continue;
        }
        found.extend(registers(node).take(1));
    }
    found.sort_by_key(|window| window.start);
    found
}

/// The banks of RAM, by address; `kernel` uses only the first.
pub fn memory(tree: &'static [u8]) -> Vec<Range<u64>> {
    let Ok(fdt) = Fdt::new(tree) else {
        return Vec::new();
    };
    let mut banks = Vec::new();
    for node in fdt.root().children() {
        let name: &str = node.name();
        if name.split('@').next() == Some("memory") {
            banks.extend(registers(node));
        }
    }
    banks.sort_by_key(|bank| bank.start);
    banks
}

/// The address ranges of a node's `reg`, without those that wrap.
fn registers(node: FdtNode<'static>) -> impl Iterator<Item = Range<u64>> {
    let registers = node.reg().ok().flatten();
    registers.into_iter().flatten().filter_map(|register| {
        let start: u64 = register.address().ok()?;
        let size: u64 = register.size().ok()?;
        Some(start..start.checked_add(size)?)
    })
}
