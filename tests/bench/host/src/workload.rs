//! Kinds of disk, and what is done to them by the guest that has one of each.

use std::fmt;

/// A kind of disk.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    /// Linux's blkfront and xen-blkback, no stub: what the others are compared with.
    Native,
    /// The stub's PV engine over xen-blkback and a backing of the same kind.
    Pilotfish,
    /// The stub's RAM disk.
    Ram,
    /// As [`Kind::Pilotfish`], of a guest that grants its memory to its stub.
    Granted,
    /// The stub's own NBD client.
    Nbd,
}

impl Kind {
    /// Those of one guest.
    pub const ALL: [Self; 3] = [Self::Native, Self::Pilotfish, Self::Ram];
    /// Those by which a stub reaches memory, and the native one: of two guests.
    pub const GRANTS: [Self; 3] = [Self::Native, Self::Pilotfish, Self::Granted];
    /// Those of one guest whose data an NBD server has. The first two have Linux's client in dom0 behind blkback.
    pub const NBD: [Self; 3] = [Self::Native, Self::Pilotfish, Self::Nbd];

    /// Its name, in the guest's script and in the report.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Pilotfish => "pilotfish",
            Self::Ram => "ram",
            Self::Granted => "granted",
            Self::Nbd => "nbd",
        }
    }

    /// The kind of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::ALL, Self::GRANTS, Self::NBD].into_iter().flatten().find(|kind| kind.name() == name)
    }
}

/// What is done to a disk.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Workload {
    /// KiB of each I/O.
    pub block_kib: u32,
    /// I/Os under way at once.
    pub depth: u32,
    /// Reads, or else writes.
    pub read: bool,
    /// One after the other, or else anywhere.
    pub sequential: bool,
}

impl Workload {
    /// As the guest's script takes it: fio's `rw`, block size and depth.
    #[must_use]
    pub fn words(self) -> String {
        let rw = match (self.read, self.sequential) {
            (true, true) => "read",
            (false, true) => "write",
            (true, false) => "randread",
            (false, false) => "randwrite",
        };
        format!("{rw}-{}k-{}", self.block_kib, self.depth)
    }

    /// Whether this is a random one of that size and depth.
    #[must_use]
    pub const fn is_random(self, block_kib: u32, depth: u32) -> bool {
        !self.sequential && self.block_kib == block_kib && self.depth == depth
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.block_kib {
            kib if kib >= 1024 && kib.is_multiple_of(1024) => write!(f, "{} MiB", kib / 1024)?,
            kib => write!(f, "{kib} KiB")?,
        }
        let order = if self.sequential { "sequential" } else { "random" };
        let what = if self.read { "read" } else { "write" };
        write!(f, " {order} {what}, QD{}", self.depth)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_has_words_for_fio_and_for_people() {
        let workload = Workload { block_kib: 1024, depth: 4, read: false, sequential: true };
        assert_eq!(workload.words(), "write-1024k-4");
        assert_eq!(workload.to_string(), "1 MiB sequential write, QD4");
        let workload = Workload { block_kib: 4, depth: 16, read: true, sequential: false };
        assert_eq!(workload.words(), "randread-4k-16");
        assert_eq!(workload.to_string(), "4 KiB random read, QD16");
        assert!(workload.is_random(4, 16) && !workload.is_random(4, 1));
    }
}
