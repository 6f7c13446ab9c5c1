//! What a scenario is, and the machines that one may run on.

use std::time::Duration;

use xtask::agent::Patience;
use xtask::qemu::{DEFAULT_CPU, Gic, LSE_CPU, MAX_CPU, OLD_CPU};
use xtask::setup::XenVersion;

/// Between two lines of a suite of attacks, each of which tells of many; its waits end after 90 s.
const SILENCE: Duration = Duration::from_secs(150);

/// One script `tests/qemu/<name>.sh`, most with a guest's side in `tests/qemu/guest/`.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name, that of its script.
    pub name: &'static str,
    /// The rule that it states.
    pub rule: &'static str,
    /// The Xen versions it runs on.
    pub xens: &'static [XenVersion],
    /// The machines it runs on.
    pub boards: &'static [Board],
    /// Seconds of dom0's clock it may take.
    pub limit_s: u64,
    /// Whether it may share a boot with others.
    pub boot: Boot,
    /// Whether it runs only when named: it takes longer than a usual run may.
    pub long: bool,
    /// Whether its guest uses the tools' disk: fio and the like.
    pub tools: bool,
    /// Memory of its machine in MiB.
    pub memory_mib: u32,
}

/// A machine that QEMU emulates.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Board {
    /// The CPU model, by QEMU's name.
    pub cpu: &'static str,
    /// The interrupt controller.
    pub gic: Gic,
    /// The Xens that are booted on it.
    pub xens: &'static [XenVersion],
    /// Whether Xen enforces a FLASK policy, under which each guest has a label ([`crate::flask`]).
    pub flask: bool,
    /// Whether its guests grant their memory: their kernel does, and their disk lines name a stub that waits for
    /// them (`/pf/grants`, which dom0's lib.sh looks for).
    pub grants: bool,
}

impl Board {
    pub(crate) const USUAL: Board =
        Board { cpu: DEFAULT_CPU, gic: Gic::V3, xens: EVERY_XEN, flask: false, grants: false };
    pub(crate) const LSE: Board = Board { cpu: LSE_CPU, ..Board::USUAL };
    /// Of the age of the boards that people have.
    pub(crate) const OLD: Board =
        Board { cpu: OLD_CPU, gic: Gic::V2, xens: &[XenVersion::V4_20], ..Board::USUAL };
    pub(crate) const MAX: Board = Board { cpu: MAX_CPU, xens: &[XenVersion::V4_20], ..Board::USUAL };
    pub(crate) const FLASK: Board = Board { flask: true, xens: &[XenVersion::V4_20], ..Board::USUAL };
    pub(crate) const GRANTS: Board = Board { grants: true, xens: &[XenVersion::V4_20], ..Board::USUAL };

    /// Its name, in verdicts and file names.
    #[must_use]
    pub fn name(&self) -> String {
        let flask = if self.flask { "+flask" } else { "" };
        let grants = if self.grants { "+grants" } else { "" };
        format!("{}{flask}{grants}", self.cpu)
    }

    /// The machine itself, whichever Xen boots on it; with `flask` always under a FLASK policy, with `grants` always
    /// with guests that grant their memory.
    #[must_use]
    pub const fn machine(self, flask: bool, grants: bool) -> Board {
        Board { xens: EVERY_XEN, flask: self.flask || flask, grants: self.grants || grants, ..self }
    }
}

/// Which machine a scenario gets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Boot {
    /// The one that all scenarios of the same Xen and board share.
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

    /// How it is waited for: a long one with keys on the console, one of attacks until it has been silent for long.
    #[must_use]
    pub fn patience(&self) -> Patience {
        let silence = if self.is_hostile() { SILENCE } else { self.limit() };
        Patience { silence, keep_awake: self.long, ..Patience::of(self.limit()) }
    }

    /// Whether it is a suite of attacks.
    #[must_use]
    pub fn is_hostile(&self) -> bool {
        self.name.starts_with("hostile-")
    }

    /// Whether its guest has a kernel that grants its pages.
    #[must_use]
    pub fn wants_grant_kernel(&self) -> bool {
        self.name.starts_with("grants")
    }

    /// The machines it runs on with this Xen.
    pub fn boards(&self, xen: XenVersion) -> impl Iterator<Item = Board> {
        let boards = if self.xens.contains(&xen) { self.boards } else { &[] };
        boards.iter().copied().filter(move |board| board.xens.contains(&xen))
    }
}

/// Every Xen that the tests know.
pub(crate) const EVERY_XEN: &[XenVersion] = &XenVersion::ALL;
