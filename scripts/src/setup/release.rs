//! The Xen releases we test with, and the Debian suite that each one's dom0 comes from.

use std::fmt;

use clap::ValueEnum;

/// A Xen minor version; its dom0's kernel and userland come from one Debian suite.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash, PartialOrd, Ord, ValueEnum)]
pub enum XenVersion {
    /// Xen 4.17, tools and Linux 6.1 of Debian 12.
    #[value(name = "4.17")]
    V4_17,
    /// Xen 4.20, tools and Linux 6.12 of Debian 13.
    #[value(name = "4.20")]
    V4_20,
    /// Xen 4.22 and its tools, both built from its release tarball; the rest of Debian 13.
    #[value(name = "4.22")]
    V4_22,
}

impl XenVersion {
    /// Every version, oldest first.
    pub const ALL: [Self; 3] = [Self::V4_17, Self::V4_20, Self::V4_22];

    /// The versions that Debian ships, oldest first.
    pub const PACKAGED: [Self; 2] = [Self::V4_17, Self::V4_20];

    /// Whether Debian ships it. Of any other we need Xen's release tarball.
    #[must_use]
    pub fn is_packaged(self) -> bool {
        Self::PACKAGED.contains(&self)
    }

    /// The Debian suite's code name.
    #[must_use]
    pub const fn suite(self) -> &'static str {
        match self {
            Self::V4_17 => "bookworm",
            Self::V4_20 | Self::V4_22 => "trixie",
        }
    }

    /// The minor version as text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V4_17 => "4.17",
            Self::V4_20 => "4.20",
            Self::V4_22 => "4.22",
        }
    }
}

impl fmt::Display for XenVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
