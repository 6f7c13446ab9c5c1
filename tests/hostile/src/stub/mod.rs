//! What a hostile stub can do with what a stub is given, one attack after the other.
//!
//! Each attack says what it tries. Afterwards the stub tells what came of it, in the words of the Xen Test
//! Framework, and waits until dom0 has looked at those who may not be harmed: itself, and a bystander that has
//! an honest stub. The stub's own guest may be harmed.

mod cpu;
mod daemon;
mod device;
mod disk;
mod events;
mod fatal;
mod frontend;
mod grants;
mod life;
mod memory;
mod site;
pub mod store;
mod xenstore;

use alloc::string::String;
pub use life::live;
pub use site::Site;

/// What is wrong after an attack.
#[derive(Debug)]
pub enum Wrong {
    /// Xen or dom0 let something pass that it must not.
    Passed(String),
    /// The attack could not be made.
    NotMade(String),
    /// There is nothing here to attack.
    Absent(String),
    /// The machine's security policy refused what the attack consists of.
    Refused(String),
}

/// What came of an attack: what was answered, in words.
pub type Outcome = Result<String, Wrong>;

/// One attack.
pub struct Attack {
    /// As the report names it.
    pub name: &'static str,
    /// What it tries, and why that would matter.
    pub tries: &'static str,
    /// Makes it.
    pub run: fn(&mut Site) -> Outcome,
}

/// Attacks that one stub makes on one guest, in turn. What ends either comes last.
pub struct Run {
    /// As the command line names it.
    pub name: &'static str,
    /// In the order in which they are made.
    pub attacks: &'static [&'static [Attack]],
}

/// Every attack.
pub const RUNS: &[Run] = &[
    Run { name: "device", attacks: &[device::ATTACKS, device::answers::ATTACKS] },
    Run { name: "events", attacks: &[events::ATTACKS, cpu::ATTACKS, events::OF_THE_GUEST] },
    Run { name: "watchdog", attacks: &[cpu::WATCHDOG] },
    Run { name: "memory", attacks: &[memory::ATTACKS] },
    Run { name: "store", attacks: &[xenstore::ATTACKS] },
    Run { name: "too-long", attacks: &[xenstore::TOO_LONG] },
    Run { name: "grants", attacks: &[grants::ATTACKS, disk::ATTACKS] },
    Run { name: "daemon", attacks: &[daemon::ATTACKS] },
    Run { name: "twice", attacks: &[fatal::TWICE] },
    Run { name: "backwards", attacks: &[fatal::BACKWARDS] },
    Run { name: "unknown", attacks: &[fatal::UNKNOWN] },
];

impl Wrong {
    /// The verdict, in the words of the Xen Test Framework, and why.
    #[must_use]
    pub fn verdict(self) -> (&'static str, String) {
        match self {
            Wrong::Passed(why) => ("failure", why),
            Wrong::NotMade(why) => ("error", why),
            Wrong::Absent(why) => ("skip", why),
            Wrong::Refused(why) => ("refused", why),
        }
    }
}
