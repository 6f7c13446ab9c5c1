//! The virtio-mmio devices that the device tree names.

use alloc::vec::Vec;
use core::ops::Range;
use dtoolkit::fdt::Fdt;
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
        let registers = node.reg().ok().flatten();
        found.extend(registers.into_iter().flatten().take(1).filter_map(|register| {
            let start: u64 = register.address().ok()?;
            let size: u64 = register.size().ok()?;
            Some(start..start.checked_add(size)?)
        }));
    }
    found.sort_by_key(|window| window.start);
    found
}
