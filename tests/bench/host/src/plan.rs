//! What is measured: workloads, rounds, and for how long.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::buffered;
use crate::workload::{Kind, Workload};

/// Memory of the guest that measures.
pub const GUEST_MIB: u32 = 384;
/// Memory of the guest beside which the stub's own is measured.
pub const LARGE_GUEST_MIB: u32 = 4096;

/// A benchmark to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How often each kind meets each workload.
    pub rounds: u32,
    /// Length of a span, without fio's start and end.
    pub seconds: f64,
    /// Seconds for which the disks are left alone; 0: not measured.
    pub idle_seconds: u32,
    /// Turns of bare round trips for each of the two stubs.
    pub turns: u32,
    /// vCPUs of the guest.
    pub vcpus: u32,
    /// Size of each disk.
    pub mib: u32,
    /// What to do.
    pub workloads: Vec<Workload>,
    /// What to do in the guest whose memory is churned.
    pub buffered: Vec<buffered::Workload>,
    /// What is compared.
    pub kinds: [Kind; 3],
    /// The MTU of the interfaces on the way to the NBD server, in bytes; `None`: as Linux has them.
    pub mtu: Option<u16>,
}

impl Plan {
    /// What the project's targets ask for.
    #[must_use]
    pub fn full() -> Self {
        Self {
            rounds: 5,
            seconds: 1.5,
            idle_seconds: 5,
            turns: 8,
            vcpus: 1,
            mib: 64,
            workloads: Self::all_workloads(),
            buffered: buffered::ALL.to_vec(),
            kinds: Kind::ALL,
            mtu: None,
        }
    }

    /// A short run: the workloads of 4 KiB at depths 1 and 16, a few of what guests do, few rounds.
    #[must_use]
    pub fn quick() -> Self {
        let mut workloads = Self::all_workloads();
        workloads.retain(|workload| workload.is_random(4, 1) || workload.is_random(4, 16));
        Self {
            rounds: 2,
            seconds: 1.0,
            idle_seconds: 3,
            turns: 1,
            workloads,
            buffered: buffered::quick(),
            ..Self::full()
        }
    }

    /// The workloads of the project's targets, each as a read and as a write.
    #[must_use]
    pub fn all_workloads() -> Vec<Workload> {
        let shapes =
            [(4, 1, false), (4, 16, false), (4, 64, false), (64, 16, false), (1024, 4, true)].into_iter();
        shapes
            .flat_map(|(block_kib, depth, sequential)| {
                [true, false].map(|read| Workload { block_kib, depth, read, sequential })
            })
            .collect()
    }

    /// Leaves all out but these workloads, and with those that only the first guest has all that
    /// goes with them: the idle disks and the bare round trips.
    ///
    /// # Errors
    /// When there is none of such a name.
    pub fn keep(&mut self, names: &[String]) -> Result<()> {
        self.workloads = Self::all_workloads();
        self.buffered = buffered::ALL.to_vec();
        let known = || {
            let direct = self.workloads.iter().map(|workload| workload.words());
            direct.chain(self.buffered.iter().map(|workload| workload.words.to_owned()))
        };
        if let Some(name) = names.iter().find(|&name| !known().any(|words| words == *name)) {
            bail!("no workload {name:?}; there are {}", known().collect::<Vec<_>>().join(", "));
        }
        self.workloads.retain(|workload| names.contains(&workload.words()));
        self.buffered.retain(|workload| names.iter().any(|name| name == workload.words));
        if self.workloads.is_empty() {
            self.idle_seconds = 0;
            self.turns = 0;
        }
        Ok(())
    }

    /// In place of the RAM disk: a second guest, which grants its memory to its stub. Only 4 KiB unless workloads
    /// were `named`, and nothing but these two guests.
    pub fn with_grants(&mut self, named: bool) {
        self.kinds = Kind::GRANTS;
        self.workloads.retain(|workload| named || workload.block_kib == 4);
        self.buffered.clear();
        self.idle_seconds = 0;
        self.turns = 0;
    }

    /// Whether a guest grants its memory.
    #[must_use]
    pub fn grants(&self) -> bool {
        self.kinds == Kind::GRANTS
    }

    /// In place of the RAM disk: one of the stub's own NBD client, beside the others at the same server. Nothing but
    /// this guest.
    pub fn with_nbd(&mut self, mtu: Option<u16>) {
        self.kinds = Kind::NBD;
        self.mtu = mtu;
        self.buffered.clear();
        self.turns = 0;
    }

    /// Whether an NBD server has the data.
    #[must_use]
    pub fn nbd(&self) -> bool {
        self.kinds == Kind::NBD
    }

    /// How many spans are measured.
    #[must_use]
    pub fn spans(&self) -> usize {
        let rounds = usize::try_from(self.rounds).unwrap_or(usize::MAX);
        let direct = self.workloads.len().saturating_mul(self.kinds.len());
        rounds.saturating_mul(direct.saturating_add(buffered::spans(self.buffered.len())))
    }

    /// What dom0 may take: each span has a start of fio before it.
    #[must_use]
    pub fn limit(&self) -> Duration {
        let spans = u32::try_from(self.spans()).unwrap_or(u32::MAX);
        let span = Duration::from_secs_f64(self.seconds * buffered::LATENCY_SPANS + 6.0);
        Duration::from_secs(240) + span * spans
    }

    /// As `tests/bench/dom0/bench.sh` reads it.
    #[must_use]
    pub fn config(&self) -> String {
        let workloads: Vec<String> = self.workloads.iter().map(|workload| workload.words()).collect();
        let buffered: Vec<&str> = self.buffered.iter().map(|workload| workload.words).collect();
        let mut text = String::new();
        for (key, value) in [
            ("rounds", self.rounds.to_string()),
            ("seconds", self.seconds.to_string()),
            ("idle", self.idle_seconds.to_string()),
            ("turns", self.turns.to_string()),
            ("turn_s", "2".to_owned()),
            ("vcpus", self.vcpus.to_string()),
            ("mib", self.mib.to_string()),
            ("guest_mib", GUEST_MIB.to_string()),
            ("large_mib", LARGE_GUEST_MIB.to_string()),
            ("workloads", workloads.join(",")),
            ("grants", if self.grants() { "yes" } else { "" }.to_owned()),
            ("nbd", if self.nbd() { "yes" } else { "" }.to_owned()),
            ("mtu", self.mtu.map_or_else(String::new, |mtu| mtu.to_string())),
            ("buffered", buffered.join(",")),
            ("buffered_guest_mib", buffered::GUEST_MIB.to_string()),
            ("buffered_disk_mib", buffered::DISK_MIB.to_string()),
            ("latency_seconds", (self.seconds * buffered::LATENCY_SPANS).to_string()),
        ] {
            // Writing into a String cannot fail.
            let _ = writeln!(text, "{key}={value}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_meets_every_workload_in_every_round() {
        let plan = Plan::full();
        assert_eq!(plan.spans(), 150 + 130);
        let config = plan.config();
        assert!(config.contains("seconds=1.5\n"));
        assert!(config.contains("workloads=randread-4k-1,randwrite-4k-1,randread-4k-16"));
        assert!(
            config.contains("\nbuffered=cached-read,cached-reread,")
                && config.contains("latency_seconds=3\n")
        );
    }

    #[test]
    fn with_grants_a_guest_that_grants_takes_the_place_of_the_ram_disk() {
        let mut plan = Plan::full();
        assert!(!plan.grants() && plan.config().contains("\ngrants=\n"));
        plan.with_grants(false);
        assert_eq!((plan.spans(), plan.turns, plan.idle_seconds), (6 * 3 * 5, 0, 0));
        let config = plan.config();
        assert!(config.contains("\ngrants=yes\n") && config.contains("\nbuffered=\n"), "{config}");
        assert!(config.contains("randwrite-4k-64\n") && !config.contains("randread-64k"), "{config}");
        let mut plan = Plan::full();
        plan.keep(&["randread-64k-16".to_owned()]).unwrap();
        plan.with_grants(true);
        assert_eq!(plan.spans(), 3 * 5);
    }

    #[test]
    fn with_nbd_the_stubs_own_client_takes_the_place_of_the_ram_disk() {
        let mut plan = Plan::full();
        assert!(!plan.nbd() && plan.config().contains("\nnbd=\n"));
        plan.with_nbd(None);
        assert_eq!((plan.spans(), plan.turns), (10 * 3 * 5, 0));
        let config = plan.config();
        assert!(config.contains("\nnbd=yes\n") && config.contains("\ngrants=\n"), "{config}");
        assert!(config.contains("\nbuffered=\n") && config.contains("write-1024k-4"), "{config}");
        assert!(config.contains("\nmtu=\n"), "{config}");
        plan.with_nbd(Some(9000));
        assert!(plan.config().contains("\nmtu=9000\n"));
    }

    #[test]
    fn workloads_of_both_guests_are_asked_for_by_name() {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let mut plan = Plan::quick();
        plan.keep(&names(&["ext4-read", "randread-64k-16"])).unwrap();
        assert_eq!((plan.workloads.len(), plan.buffered.len(), plan.turns), (1, 1, 1));
        plan.keep(&names(&["cached-read"])).unwrap();
        assert_eq!((plan.workloads.len(), plan.buffered.len(), plan.turns), (0, 1, 0));
        let error = plan.keep(&names(&["cached-read", "randread-3k-1"])).unwrap_err().to_string();
        assert!(error.contains("randread-3k-1") && error.contains("ext4-create"), "{error}");
    }
}
