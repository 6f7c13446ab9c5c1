//! What guests do: through the page cache, on a file system, mixed; and how long single I/Os take.
//!
//! A guest of its own measures it, most of whose memory was used and given back before: its free
//! pages lie all over it, so that data goes to all of it, not to the few buffers of a benchmark.
//!
//! - [`view`]: the tables, the targets' ratios, and the JSON.
//!
//! The other sides are `tests/bench/dom0/buffered.sh` (dom0) and `tests/bench/guest/buffered.sh` (guest).

pub mod view;

use std::fmt;

use crate::workload::Kind;

/// Memory of the guest.
pub const GUEST_MIB: u32 = 1536;
/// Size of each of its disks.
pub const DISK_MIB: u32 = 256;
/// The disks that are compared: one in the stub's memory would have to be as large.
pub const KINDS: [Kind; 2] = [Kind::Native, Kind::Pilotfish];
/// How many times the length of other spans those have that latencies are taken from: the slowest
/// of a thousand I/Os is wanted.
pub const LATENCY_SPANS: f64 = 2.0;

/// How something is done to a disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    /// Through the guest's page cache.
    Cached,
    /// By `O_DIRECT`.
    Direct,
    /// By `O_DIRECT`, and each I/O's time is taken.
    Timed,
}

/// What is done to a disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Workload {
    /// As the guest's script takes it, and the command line.
    pub words: &'static str,
    /// For people.
    pub what: &'static str,
    /// What is counted.
    pub unit: &'static str,
    /// How it is done.
    pub way: Way,
}

impl Workload {
    const fn new(words: &'static str, what: &'static str, unit: &'static str, way: Way) -> Self {
        Self { words, what, unit, way }
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }
}

/// All of them, in the order of a round: those that need no file system first.
pub const ALL: [Workload; 13] = [
    Workload::new("cached-read", "buffered read of 256 MiB", "MiB", Way::Cached),
    Workload::new("cached-reread", "buffered read of 256 MiB, again", "MiB", Way::Cached),
    Workload::new("cached-write", "buffered write of 200 MiB, fsync", "MiB", Way::Cached),
    Workload::new("cached-randread-4k", "buffered 4 KiB random read", "I/O", Way::Cached),
    Workload::new("mixed-8k-7", "8 KiB random, 70 % reads, QD7", "I/O", Way::Direct),
    Workload::new("mixed-8k-33", "8 KiB random, 70 % reads, QD33", "I/O", Way::Direct),
    Workload::new("latency-randread-4k-1", "4 KiB random read, QD1", "I/O", Way::Timed),
    Workload::new("latency-randwrite-4k-1", "4 KiB random write, QD1", "I/O", Way::Timed),
    Workload::new("latency-randread-4k-16", "4 KiB random read, QD16", "I/O", Way::Timed),
    Workload::new("latency-randwrite-4k-16", "4 KiB random write, QD16", "I/O", Way::Timed),
    Workload::new("ext4-create", "create 1000 files of 4 KiB on ext4, sync", "file", Way::Cached),
    Workload::new("ext4-read", "read 1000 files of 4 KiB on ext4", "file", Way::Cached),
    Workload::new("ext4-fsync-8k", "8 KiB random write on ext4, fsync after each", "I/O", Way::Cached),
];

/// Those of a quick run.
#[must_use]
pub fn quick() -> Vec<Workload> {
    let quick = ["cached-read", "cached-write", "latency-randread-4k-1", "ext4-fsync-8k"];
    ALL.into_iter().filter(|workload| quick.contains(&workload.words)).collect()
}

/// How many spans are measured in a round.
#[must_use]
pub const fn spans(workloads: usize) -> usize {
    workloads.saturating_mul(KINDS.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quick_run_has_a_workload_of_each_sort() {
        let quick = quick();
        assert_eq!(quick.len(), 4);
        assert!(quick.iter().any(|workload| workload.way == Way::Timed));
    }

    #[test]
    fn words_are_unique_and_fit_into_a_label() {
        for (n, workload) in ALL.iter().enumerate() {
            assert!(!workload.words.contains(['.', ',', ' ']), "{workload:?}");
            assert!(ALL.iter().skip(n + 1).all(|other| other.words != workload.words), "{workload:?}");
        }
    }
}
