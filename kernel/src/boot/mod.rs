//! What the toolstack tells this domain through the device tree, validated once.

#[cfg(any(target_os = "none", test))]
mod fdt;
#[cfg(target_os = "none")]
mod start;
#[cfg(any(target_os = "none", test))]
mod tree;

use crate::time;
use crate::xen::Unused;
use core::fmt;
use core::ops::Range;

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
    pub unused: Unused,
    /// The device tree itself, for what is not told here.
    pub device_tree: &'static [u8],
    /// The counter at our first instruction.
    pub(crate) entry_counter: u64,
}

impl BootInfo {
    /// What a domain with this command line would see, for tests.
    #[cfg(any(test, feature = "fake"))]
    #[must_use]
    pub const fn with_cmdline(cmdline: &'static str) -> BootInfo {
        let unused = [0..0, 0..0];
        BootInfo { cmdline, ram: 0..0, unused, device_tree: &[], entry_counter: 0 }
    }

    /// Microseconds since this domain's first instruction.
    #[must_use]
    pub fn uptime_us(&self) -> u64 {
        time::now_ns().saturating_sub(time::at_ticks_ns(self.entry_counter)) / 1000
    }

    /// The value of the first `key=value` on the command line.
    #[must_use]
    pub fn option(&self, key: &str) -> Option<&'static str> {
        let value = |word: &'static str| word.strip_prefix(key)?.strip_prefix('=');
        self.cmdline.split_ascii_whitespace().find_map(value)
    }
}

#[cfg(test)]
mod tests;
