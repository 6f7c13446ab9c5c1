//! The scenarios: name, rule, where each runs, how long it may take.

use xtask::setup::XenVersion;
use xtask::system::MEMORY_MIB;

use crate::scenario::{Board, Boot, EVERY_XEN, Scenario};

impl Scenario {
    /// Whether a usual run has it on this Xen.
    #[must_use]
    pub fn is_usual(&self, xen: XenVersion) -> bool {
        let wanted = match xen {
            _ if !xen.is_packaged() => CORE.contains(&self.name),
            XenVersion::V4_20 => true,
            _ => !ONCE.contains(&self.name),
        };
        self.xens.contains(&xen) && !self.long && wanted
    }
}

const USUAL: &[Board] = &[Board::USUAL];

/// The scenarios that a usual run has on a Xen that Debian does not ship, too: one for each thing
/// that a new Xen is likely to break. The others run there when they or that Xen are named.
const CORE: &[&str] = &[
    "demo",
    "features",
    "reboot-loop",
    "backend-restart",
    "stub-restart",
    "hostile-probe",
    "suspend",
    "unmapped-accesses",
];

/// The scenarios of what no Xen decides, but the stub or the programs in dom0 alone: a usual run has
/// them on one Xen.
const ONCE: &[&str] = &[
    "ram-only",
    "two-guests",
    "features-4k",
    "virtio-drivers",
    "firmware-driver",
    "pause",
    "save-refused",
    "driver-reload",
    "guest-crash",
    "missing-backing",
    "bad-target",
    "refused-targets",
    "disk-line",
    "check-host",
    "one-daemon",
    "xl-killed",
    "daemon-killed-early",
    "storage-error",
    "backend-reattach",
    "backend-gone",
    "stub-restart-limits",
    "hostile-shared-page",
    "power-cut",
];

/// The scenario whose guest has the disk of a small Debian's packages.
pub const INSTALLS_DEBIAN: &str = "debian-install";

/// The scenario whose guest boots by U-Boot.
pub const BOOTS_BY_U_BOOT: &str = "u-boot";

/// The scenario that gets the table of what Xen answers.
pub const WALKS: &str = "hostile-walk";

/// A scenario for every Xen on the usual board, in the shared boot.
const fn shared(name: &'static str, limit_s: u64, rule: &'static str) -> Scenario {
    Scenario {
        name,
        rule,
        xens: EVERY_XEN,
        boards: USUAL,
        limit_s,
        boot: Boot::Shared,
        long: false,
        tools: false,
        memory_mib: MEMORY_MIB,
    }
}

/// As [`shared`], with the tools' disk, and only when named.
const fn with_tools(name: &'static str, limit_s: u64, rule: &'static str) -> Scenario {
    Scenario { tools: true, long: true, ..shared(name, limit_s, rule) }
}

/// As [`shared`], on Xen 4.20 and only when named.
const fn only_named(name: &'static str, limit_s: u64, rule: &'static str) -> Scenario {
    Scenario { xens: &[XenVersion::V4_20], long: true, ..shared(name, limit_s, rule) }
}

/// A group of attacks by the hostile stub, each of which dom0 judges before the next: only when named.
const fn hostile_stub(name: &'static str, rule: &'static str) -> Scenario {
    only_named(name, 600, rule)
}

/// Every scenario, in the order of running.
pub const SCENARIOS: &[Scenario] = &[
    shared("native-pv", 120, "without any stub, the same guest works on Xen's own PV disk"),
    Scenario {
        boards: &[Board::USUAL, Board::FLASK],
        ..shared("demo", 240, "data survive a remount, a reboot of the guest, and are in the backing image")
    },
    shared("ram-only", 90, "a disk inside the stub needs no storage backend at all"),
    shared("poweroff", 90, "a guest that powers off leaves no stub, node, grant or loop device behind"),
    shared("read-only", 90, "a read-only disk says so, refuses writes, and its image stays as it was"),
    shared("two-guests", 200, "two guests at once have a stub each, and each its own data"),
    Scenario {
        boards: &[Board::USUAL, Board::OLD, Board::MAX],
        ..shared("two-vcpus", 120, "both vCPUs of a guest do verified I/O at once")
    },
    shared(
        "features",
        150,
        "queues, write-cache modes, discard, zeroing and a resized disk work for an unmodified kernel",
    ),
    shared(
        "features-4k",
        120,
        "disks with blocks of 512 and 4096 bytes, serials and a read-only one are as told",
    ),
    shared(
        "virtio-drivers",
        120,
        "the virtio-drivers crate in a guest that is not Linux finds a disk that works",
    ),
    shared(
        "firmware-driver",
        120,
        "a driver with no optional feature and tiny queues, as firmware has, is served",
    ),
    Scenario {
        xens: &[XenVersion::V4_20],
        ..shared(
            BOOTS_BY_U_BOOT,
            180,
            "firmware scans for the disk, reads and writes files on it, and boots a Linux that goes on with it",
        )
    },
    with_tools(
        "fio-verify",
        240,
        "fio finds every block as it wrote it, at all sizes, depths and patterns, trims too",
    ),
    with_tools("block-layer", 240, "what an unmodified block layer does to a disk in use costs no data"),
    with_tools(
        "filesystems",
        300,
        "ext4 and xfs that were filled, trimmed and half emptied keep their files and are clean",
    ),
    Scenario {
        xens: &[XenVersion::V4_20],
        boards: &[Board::USUAL, Board::FLASK],
        ..shared(
            "grants",
            300,
            "a guest that grants its memory is served by its grants alone, over reloads, reboot and destruction",
        )
    },
    shared("reboot-loop", 180, "each boot of a guest gets a fresh stub, and the old one is gone"),
    shared("pause", 180, "pausing guest or stub under I/O is latency, nothing else"),
    shared("save-refused", 90, "a refused save leaves guest, stub and I/O as they were"),
    shared(
        "suspend",
        240,
        "a guest that sleeps with its disk in use, in each way there is, wakes and uses it",
    ),
    Scenario {
        xens: &[XenVersion::V4_22],
        ..shared(
            "unmapped-accesses",
            150,
            "where its stub was a guest reads ones if its configuration says so",
        )
    },
    shared("vcpu-hotplug", 240, "a guest's vCPUs go off- and online under I/O on a queue for each"),
    shared("driver-reload", 240, "the guest's driver lets go and returns many times, also during I/O"),
    shared("kexec", 270, "a crashed kernel's successor resets the device during its requests and uses it"),
    shared("guest-crash", 240, "a guest that panics or is ended as crashed loses nothing that was synced"),
    shared("destroy-under-io", 120, "xl destroy during heavy I/O leaves nothing behind"),
    shared("missing-backing", 90, "a missing backing device fails the guest's start with the reason"),
    shared(
        "bad-target",
        150,
        "a disk file that cannot be read fails the guest's start, naming key and value",
    ),
    shared(
        "refused-targets",
        240,
        "what is protected, broken or in use is not attached, and the reason names disk, path and fault",
    ),
    Scenario {
        xens: &[XenVersion::V4_20],
        ..with_tools(
            "stacked-devices",
            120,
            "what dom0's LVM, md or btrfs has is refused, and what they make is taken",
        )
    },
    shared("disk-line", 150, "the words of a disk line are obeyed, and those without effect do no harm"),
    shared("no-daemon", 90, "without the daemon xl create gives up after its wait and leaves nothing"),
    Scenario {
        xens: &[XenVersion::V4_17, XenVersion::V4_20],
        ..shared(
            "power-cut",
            180,
            "whatever dies under a writing guest, what was acknowledged after a flush is there, whole",
        )
    },
    shared("check-host", 90, "--check-host tells what a host lacks, line by line, with the remedy"),
    shared("one-daemon", 150, "a second daemon says that one runs and ends before it touches anything"),
    shared("xl-killed", 150, "what a killed xl leaves of a stub is removed, with or without a name"),
    shared("daemon-restart", 150, "a restarted daemon adopts running stubs; the guest notices nothing"),
    shared(
        "daemon-killed-early",
        120,
        "a daemon killed between a stub's launch and its readiness leaves nothing",
    ),
    shared("storage-error", 120, "a storage error fails its own requests only; the disk stays usable"),
    Scenario {
        xens: &[XenVersion::V4_20],
        ..shared("driver-domain", 240, "the data may be another domain's, which is killed and made again")
    },
    Scenario {
        xens: &[XenVersion::V4_20],
        ..shared(
            "paused-driver-domain",
            180,
            "a guest destroyed while its storage's domain is paused is dying until that goes on, then freed",
        )
    },
    only_named(
        "network-storage",
        600,
        "a driver domain's disk may be an NBD server's: a hung server and a cut network cost only time",
    ),
    only_named("nbd-driver-domain", 420, "a driver domain that serves an NBD disk may hang or die"),
    shared(
        "backend-restart",
        200,
        "a storage backend driver that is unbound and bound, or closes, costs the guest only time",
    ),
    shared("backend-reattach", 200, "a disk that is detached and attached again costs the guest only time"),
    shared(
        "backend-gone",
        150,
        "without a storage backend for longer than the timeout the guest gets errors, and then recovers",
    ),
    Scenario {
        xens: &[XenVersion::V4_20],
        ..shared(
            "nbd",
            240,
            "a stub has its disk on an NBD server, whose end and return cost the guest only time",
        )
    },
    Scenario {
        xens: &[XenVersion::V4_20],
        ..with_tools("nbd-fio-verify", 480, "as fio-verify, with the disk on an NBD server")
    },
    only_named(
        "nbd-power-cut",
        900,
        "as power-cut, with the disks on an NBD server that is killed and started again amid writes",
    ),
    only_named(
        "nbd-cache-lost",
        840,
        "writes that an NBD server lost with its cache are done again, or a flush says that they are lost",
    ),
    only_named(
        "nbd-restart",
        240,
        "a stub with an NBD disk that panics starts again in place; its guest sees a pause",
    ),
    only_named("nbd-tls", 300, "an NBD disk with TLS leaves no key anywhere, and is never used without TLS"),
    only_named("nbd-servers", 480, "slow, failing, forgetful and odd NBD servers harm no other disk"),
    shared("balloon", 150, "guest memory may leave and return under I/O"),
    shared("stub-destroyed", 120, "a guest whose stub is destroyed is dealt with as the daemon documents"),
    shared("stub-crash", 120, "a stub that crashes tells where on its console, and its guest is dealt with"),
    shared(
        "stub-restart",
        200,
        "a stub that panics during I/O starts again in place; its guest sees a pause",
    ),
    shared(
        "stub-restart-limits",
        150,
        "where a stub cannot be restarted, the daemon says why and ends the guest as crashed",
    ),
    shared("stub-memory", 60, "a stub cannot write its code, execute its data or touch what is not mapped"),
    Scenario {
        boards: &[Board::FLASK],
        ..shared(
            "flask-guests",
            300,
            "under a FLASK policy labels stand for a target, and nobody reaches what is not its own",
        )
    },
    shared("hostile-guest", 300, "a hostile driver harms no other disk, stub or guest, and a reset ends it"),
    only_named(
        "hostile-guest-vcpus",
        300,
        "what four vCPUs of a hostile driver do at once harms no other disk, stub or guest",
    ),
    Scenario {
        boards: &[Board::GRANTS],
        ..only_named("hostile-guest-grants", 300, "a hostile driver's grants cost its own requests at most")
    },
    Scenario {
        xens: &[XenVersion::V4_20],
        ..shared(
            "hostile-blkback",
            500,
            "a hostile storage backend costs its own disk time and errors, and nothing else",
        )
    },
    only_named(
        "hostile-nbd",
        500,
        "a hostile NBD server costs its own disk time and errors, and nothing else",
    ),
    only_named("hostile-nbd-replies", 500, "as hostile-nbd, for requests that are under way"),
    only_named(
        "hostile-netback",
        600,
        "a hostile netback costs its own disk time and errors, and nothing else",
    ),
    only_named(
        "hostile-network",
        600,
        "whatever somebody sends to a stub's network costs its own disk time and errors, and nothing else",
    ),
    Scenario {
        xens: &[XenVersion::V4_20],
        ..shared(
            "hostile-stub",
            300,
            "a stub that misuses its servers, ranges, interrupts and slots harms its own guest at most",
        )
    },
    hostile_stub(
        "hostile-stub-lives",
        "a stub that ends at any step harms its own guest at most, and leaves nothing",
    ),
    hostile_stub("hostile-stub-daemon", "a stub's words about itself do the daemon no harm, nor its log"),
    hostile_stub("hostile-stub-fatal", "a stub whose answers end its guest ends no other"),
    hostile_stub(
        "hostile-stub-memory",
        "a stub that misuses memory takes it from itself and its own guest at most",
    ),
    hostile_stub(
        "hostile-stub-events",
        "event channels, console and CPU time of a hostile stub hold nobody up for long",
    ),
    hostile_stub(
        "hostile-stub-store",
        "a stub that floods xenstore or breaks its protocol loses its own connection at most",
    ),
    hostile_stub("hostile-stub-disk", "a hostile disk front end harms no other disk of the same blkback"),
    Scenario {
        // Some 40 starts of guests.
        long: true,
        ..shared(
            "hostile-xenstore",
            600,
            "what names, disk lines, guests and stubs write reaches no configuration, no path and no log as it is",
        )
    },
    shared("hostile-probe", 240, "Xen refuses a stub everything beyond its own guest, each by its errno"),
    Scenario {
        xens: &[XenVersion::V4_17, XenVersion::V4_20],
        boards: &[Board::USUAL, Board::FLASK],
        // It writes many lines.
        long: true,
        ..shared(
            WALKS,
            300,
            "Xen answers every hypercall of a stub, and of a guest, as the table of privileges says",
        )
    },
    Scenario {
        name: "hostile-contention",
        rule: "a stub that contends for the page it shares with Xen harms its own guest at most",
        xens: EVERY_XEN,
        boards: &[Board::USUAL, Board::LSE],
        limit_s: 240,
        boot: Boot::Own,
        long: false,
        tools: false,
        memory_mib: MEMORY_MIB,
    },
    Scenario {
        boards: &[Board::USUAL, Board::LSE, Board::FLASK],
        ..shared(
            "hostile-shared-page",
            180,
            "events reach a guest, and dom0 goes on, while its stub contends for the words that Xen sets for them",
        )
    },
    Scenario {
        boot: Boot::Own,
        long: true,
        memory_mib: 8192,
        ..shared(
            "balloon-large",
            1200,
            "a guest of 4 GiB gets no stall from memory that leaves, and its end is not later for being mapped",
        )
    },
    Scenario {
        boot: Boot::Own,
        ..with_tools("soak", 7800, "spans of I/O at several depths go on for hours, also beside a CPU hog")
    },
    Scenario {
        xens: &[XenVersion::V4_20, XenVersion::V4_22],
        boot: Boot::Own,
        long: true,
        ..shared(
            INSTALLS_DEBIAN,
            2400,
            "a guest installs Debian onto its disk, boots it, copies files, reboots",
        )
    },
    Scenario {
        name: "power-failure",
        rule: "as power-cut, with 50 ends",
        xens: EVERY_XEN,
        boards: USUAL,
        limit_s: 3600,
        boot: Boot::Own,
        long: true,
        tools: false,
        memory_mib: MEMORY_MIB,
    },
];

#[cfg(test)]
mod tests;
