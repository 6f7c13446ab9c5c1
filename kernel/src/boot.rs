//! What the toolstack tells this domain through the device tree, validated once.

use crate::arch::BLOCK_SIZE;
use core::fmt;
use core::ops::Range;
use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::{Node, Property};

/// Longest command line taken; Xen's own limit for a kernel's is the same order.
pub const MAX_CMDLINE_BYTES: usize = 2048;

/// Why the device tree cannot be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BootError {
    /// It is not a well-formed device tree.
    Malformed,
    /// There is no usable memory node.
    NoMemory,
    /// There is no hypervisor node with an extended region: Xen before 4.17, or too much RAM.
    NoExtendedRegion,
    /// The command line is longer than [`MAX_CMDLINE_BYTES`].
    CmdlineTooLong(usize),
}

impl fmt::Display for BootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("malformed device tree"),
            Self::NoMemory => f.write_str("the device tree names no memory"),
            Self::NoExtendedRegion => f.write_str("the device tree names no extended region of Xen"),
            Self::CmdlineTooLong(bytes) => write!(f, "command line of {bytes} bytes"),
        }
    }
}

/// What this domain was started with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BootInfo {
    /// The domain's command line (`/chosen/bootargs`), empty if there is none.
    pub cmdline: &'static str,
    /// RAM, guest physical; the first bank only.
    pub ram: Range<u64>,
    /// Guest physical addresses that nothing uses: for what Xen maps on our request.
    /// Aligned to 2 MiB at both ends.
    pub unused: Range<u64>,
    /// The counter at our first instruction.
    pub(crate) entry_counter: u64,
}

impl BootInfo {
    /// Microseconds since this domain's first instruction.
    #[must_use]
    pub fn uptime_us(&self) -> u64 {
        crate::time::now_ns().saturating_sub(crate::time::at_ticks_ns(self.entry_counter)) / 1000
    }

    /// The value of the first `key=value` on the command line.
    #[must_use]
    pub fn option(&self, key: &str) -> Option<&'static str> {
        let value = |word: &'static str| word.strip_prefix(key)?.strip_prefix('=');
        self.cmdline.split_ascii_whitespace().find_map(value)
    }

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
        let unused =
            regions(hypervisor).skip(1).find_map(whole_blocks).ok_or(BootError::NoExtendedRegion)?;

        let cmdline = child("chosen")
            .and_then(|chosen| chosen.property("bootargs"))
            .and_then(|property| property.value_as::<&'static str>().ok())
            .unwrap_or("");
        if cmdline.len() > MAX_CMDLINE_BYTES {
            return Err(BootError::CmdlineTooLong(cmdline.len()));
        }
        Ok(BootInfo { cmdline, ram, unused, entry_counter })
    }
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

#[cfg(test)]
mod tests;
