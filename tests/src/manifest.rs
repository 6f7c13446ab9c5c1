//! The scenarios: name, rule, where each runs, how long it may take.

use std::time::Duration;

use xtask::qemu::{DEFAULT_CPU, LSE_CPU};
use xtask::setup::XenVersion;

/// One script `tests/qemu/<name>.sh`, most with a guest's side in `tests/qemu/guest/`.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name, that of its script.
    pub name: &'static str,
    /// The rule that it states.
    pub rule: &'static str,
    /// The Xen versions it runs on.
    pub xens: &'static [XenVersion],
    /// The CPU models it runs on, by QEMU's names.
    pub cpus: &'static [&'static str],
    /// Seconds of dom0's clock it may take.
    pub limit_s: u64,
    /// Whether it may share a boot with others.
    pub boot: Boot,
}

/// Which machine a scenario gets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Boot {
    /// The one that all scenarios of the same Xen and CPU model share.
    Shared,
    /// One for itself: it may leave Xen or dom0 in a state that no other should start from.
    Own,
}

impl Scenario {
    /// The time that it may take, in dom0.
    #[must_use]
    pub const fn limit(&self) -> Duration {
        Duration::from_secs(self.limit_s)
    }
}

const BOTH: &[XenVersion] = &XenVersion::ALL;
const ANY_CPU: &[&str] = &[DEFAULT_CPU];

/// A scenario for both Xens on the usual CPU, in the shared boot.
const fn shared(name: &'static str, limit_s: u64, rule: &'static str) -> Scenario {
    Scenario { name, rule, xens: BOTH, cpus: ANY_CPU, limit_s, boot: Boot::Shared }
}

/// Every scenario, in the order of running.
pub const SCENARIOS: &[Scenario] = &[
    shared("native-pv", 120, "without any stub, the same guest works on Xen's own PV disk"),
    shared("demo", 240, "data survive a remount, a reboot of the guest, and are in the backing image"),
    shared("ram-only", 90, "a disk inside the stub needs no backend at all"),
    shared("poweroff", 90, "a guest that powers off leaves no stub, node, grant or loop device behind"),
    shared("read-only", 90, "a read-only disk says so, refuses writes, and its image stays as it was"),
    shared("two-guests", 200, "two guests at once have a stub each, and each its own data"),
    shared("two-vcpus", 120, "both vCPUs of a guest do verified I/O at once"),
    shared(
        "features",
        150,
        "queues, write-cache modes, discard and a growing disk work for an unmodified kernel",
    ),
    shared("reboot-loop", 180, "each boot of a guest gets a fresh stub, and the old one is gone"),
    shared("destroy-under-io", 120, "xl destroy amid heavy I/O leaves nothing behind"),
    shared("missing-backing", 90, "a missing backing device fails the guest's start with the reason"),
    shared(
        "bad-target",
        150,
        "a disk file that cannot be read fails the guest's start, naming key and value",
    ),
    shared("no-daemon", 90, "without the daemon xl create gives up after its wait and leaves nothing"),
    shared("daemon-restart", 150, "a restarted daemon adopts running stubs; the guest notices nothing"),
    shared(
        "daemon-killed-early",
        120,
        "a daemon killed between a stub's launch and its readiness leaves nothing",
    ),
    shared("storage-error", 120, "a storage error fails its own requests only; the disk stays usable"),
    shared("balloon", 150, "guest memory may leave and return under I/O"),
    shared("stub-destroyed", 120, "a guest whose stub is destroyed is dealt with as the daemon documents"),
    shared("stub-crash", 120, "a stub that crashes tells where on its console, and its guest is dealt with"),
    shared("stub-memory", 60, "a stub cannot write its code, execute its data or touch what is not mapped"),
    shared("hostile-probe", 240, "Xen refuses a stub everything beyond its own guest, each by its errno"),
    Scenario {
        name: "hostile-hammer",
        rule: "a stub that hammers the page it shares with Xen harms its own guest at most",
        xens: BOTH,
        cpus: &[DEFAULT_CPU, LSE_CPU],
        limit_s: 240,
        boot: Boot::Own,
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::Path;

    #[test]
    fn every_scenario_has_a_script_and_every_script_is_listed() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("qemu");
        let scripts: BTreeSet<String> = std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|ext| ext == "sh"))
            .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
            .filter(|name| name != "checks")
            .collect();
        let listed: BTreeSet<String> = SCENARIOS.iter().map(|scenario| scenario.name.to_owned()).collect();
        assert_eq!(scripts, listed);
        assert_eq!(listed.len(), SCENARIOS.len(), "a name is listed twice");
    }
}
