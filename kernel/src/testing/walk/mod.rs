//! Every hypercall there is, asked for on every kind of domain: for the test image `walk`.
//!
//! A walk goes through [`GROUPS`], one operation after the other, with each of a list of domains as
//! its object. What Xen answers is the whole result: an operation that Xen allows takes effect, on the
//! object or on this domain, but never on memory that Rust knows of:
//!
//! - every address that is passed is one in [`Frame`], and every length ends within it;
//! - a frame of this domain that an operation may take away is a page that was allocated for this and leaked;
//! - a frame at which an operation may put something is one that nothing uses.
//!
//! Numbers, layouts and the order of Xen's checks are from `xen/include/public` and the handlers of
//! Xen 4.17 to 4.22.

mod bare;
mod control;
mod device;
mod events;
mod frame;
mod grants;
mod memory;
mod rest;

use crate::arch;
use crate::mem::shared::SharedPage;
use crate::xen::Xen;
use crate::xen::hypervisor::{DomId, GrantRef, Hypervisor};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::iter::Cycle;
use core::ops::Range;
use frame::Frame;
use xen_pv_sys::PAGE_SHIFT;
use xen_pv_sys::arch_arm::GUEST_RAM0_BASE;
use xen_pv_sys::errno::Errno;
use xen_pv_sys::xen::DOMID_SELF;

/// The operations of one hypercall.
#[derive(Debug)]
pub struct Group {
    /// The hypercall, as Xen's headers call it.
    pub name: &'static str,
    ops: &'static [Op],
}

/// Every hypercall, in the order of the walk. What ends an object comes last.
pub const GROUPS: &[Group] = &[
    Group { name: "hypercall", ops: bare::HYPERCALLS },
    Group { name: "xen_version", ops: rest::XEN_VERSION },
    Group { name: "console_io", ops: rest::CONSOLE_IO },
    Group { name: "vm_assist", ops: rest::VM_ASSIST },
    Group { name: "hypfs_op", ops: rest::HYPFS },
    Group { name: "xsm_op", ops: bare::XSM },
    Group { name: "argo_op", ops: bare::ARGO },
    Group { name: "platform_op", ops: control::PLATFORM },
    Group { name: "sysctl", ops: control::SYSCTL },
    Group { name: "domctl", ops: control::DOMCTL },
    Group { name: "physdev_op", ops: bare::PHYSDEV },
    Group { name: "hvm_op", ops: device::HVM },
    Group { name: "dm_op", ops: device::DM },
    Group { name: "memory_op", ops: memory::MEMORY },
    Group { name: "grant_table_op", ops: grants::GRANTS },
    Group { name: "event_channel_op", ops: events::EVENTS },
    Group { name: "vcpu_op", ops: rest::VCPU },
    Group { name: "multicall", ops: rest::MULTICALL },
    Group { name: "sched_op", ops: rest::SCHED },
];

/// One operation of a hypercall.
#[derive(Debug)]
struct Op {
    name: &'static str,
    number: u32,
    form: Form,
}

/// How an operation is asked for.
#[derive(Clone, Copy, Debug)]
enum Form {
    /// It names no domain: it is about the caller or about the machine.
    Alone(fn(&mut Walker, u32) -> Answer),
    /// With each domain as its object.
    Each(fn(&mut Walker, u32, DomId) -> Answer),
    /// Not at all: it would end or spoil the walk, and has no form that cannot.
    LeftOut,
}

/// A list of operations that are all asked for in the same way.
macro_rules! ops {
    ($form:expr; $($name:literal $number:literal),* $(,)?) => {
        &[$(crate::testing::walk::Op { name: $name, number: $number, form: $form }),*]
    };
}
use ops;

impl Op {
    const fn alone(name: &'static str, number: u32, ask: fn(&mut Walker, u32) -> Answer) -> Op {
        Op { name, number, form: Form::Alone(ask) }
    }

    const fn each(name: &'static str, number: u32, ask: fn(&mut Walker, u32, DomId) -> Answer) -> Op {
        Op { name, number, form: Form::Each(ask) }
    }

    const fn left_out(name: &'static str, number: u32) -> Op {
        Op { name, number, form: Form::LeftOut }
    }
}

/// What Xen answered. As text it is one word.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Answer {
    /// It was done.
    Done,
    /// No error, and nothing was done: how Xen refuses a change of a reservation.
    Nothing,
    /// An error of the call.
    Refused(Errno),
    /// `GNTST_*`, an error of a grant operation.
    Grant(i16),
    /// Not asked.
    LeftOut,
}

impl From<Result<u64, Errno>> for Answer {
    fn from(result: Result<u64, Errno>) -> Answer {
        result.map_or_else(Answer::Refused, |_| Answer::Done)
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Answer::Done => f.write_str("ok"),
            Answer::Nothing => f.write_str("nothing"),
            Answer::Refused(errno) if Errno::ALL.iter().any(|&(_, value)| value == errno.0) => {
                write!(f, "{errno:?}")
            }
            // Two that no stub ever sees.
            Answer::Refused(Errno(84)) => f.write_str("EILSEQ"),
            Answer::Refused(Errno(105)) => f.write_str("ENOBUFS"),
            Answer::Refused(errno) => write!(f, "E{}", errno.0),
            Answer::Grant(status) => f.write_str(grants::status_name(status)),
            Answer::LeftOut => f.write_str("-"),
        }
    }
}

/// What a walk has to know of the Xen below.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Versions {
    /// `XEN_DOMCTL_INTERFACE_VERSION`: another one is refused before any right is looked at.
    pub domctl: u32,
    /// `XEN_SYSCTL_INTERFACE_VERSION`.
    pub sysctl: u32,
    /// Whether this Xen falls over `XEN_DOMCTL_vm_event_op` on nobody: Xen 4.17 with FLASK.
    pub is_fragile: bool,
}

/// One who asks for everything.
#[derive(Debug)]
pub struct Walker {
    frame: Box<Frame>,
    own: DomId,
    /// Frames of this domain's address space at which nothing is, again and again.
    unused: Cycle<Range<u64>>,
    /// The next frame of another domain's RAM to ask for.
    foreign: u64,
    versions: Versions,
    /// The ioreq server that could be made last.
    server: u16,
    /// A page that this domain has granted to itself.
    gref: GrantRef,
    /// The handle of its mapping.
    handle: u32,
}

impl Walker {
    /// Prepares a walk on a Xen of these versions.
    ///
    /// # Errors
    /// What Xen answers to what each domain may do; `ENOMEM` without memory.
    pub fn new(xen: &Xen, versions: Versions) -> Result<Walker, Errno> {
        let mut walker = Walker {
            frame: Box::new(Frame::new()),
            own: DomId(DOMID_SELF),
            unused: xen.unused_gfns()?.cycle(),
            foreign: (GUEST_RAM0_BASE >> PAGE_SHIFT) + 0x1000,
            versions,
            server: 0,
            gref: GrantRef(0),
            handle: 0,
        };
        walker.own = walker.own_domid()?;
        let page = SharedPage::alloc().ok_or(Errno::ENOMEM)?;
        walker.gref = xen.grant_access(walker.own, &page, false)?;
        core::mem::forget(page);
        Ok(walker)
    }

    /// The number of this domain.
    #[must_use]
    pub fn own(&self) -> DomId {
        self.own
    }

    /// Asks for everything, and calls `row` with each operation and its answers: one for each of `objects`, or
    /// one alone if it names no domain or was left out.
    pub fn walk(&mut self, objects: &[DomId], mut row: impl FnMut(&str, &str, &[Answer])) {
        for group in GROUPS {
            for op in group.ops {
                let answers: Vec<Answer> = match op.form {
                    Form::Alone(ask) => [ask(self, op.number)].into(),
                    Form::Each(ask) => objects.iter().map(|&object| ask(self, op.number, object)).collect(),
                    Form::LeftOut => [Answer::LeftOut].into(),
                };
                row(group.name, op.name, &answers);
            }
        }
    }

    /// Asks for one operation alone, by the names of [`GROUPS`]. [`Answer::LeftOut`] if there is none of that name.
    pub fn ask(&mut self, group: &str, op: &str, object: DomId) -> Answer {
        let ops = GROUPS.iter().filter(|known| known.name == group).flat_map(|known| known.ops);
        match ops.filter(|known| known.name == op).map(|known| (known.form, known.number)).next() {
            Some((Form::Alone(ask), number)) => ask(self, number),
            Some((Form::Each(ask), number)) => ask(self, number, object),
            Some((Form::LeftOut, _)) | None => Answer::LeftOut,
        }
    }

    /// A hypercall. The caller is one of the tables of this module, each of which keeps its rules.
    fn call(&mut self, number: u64, args: [u64; 5]) -> Result<u64, Errno> {
        // SAFETY: the rules at the head of this module: Xen reads and writes in the frame only, whose
        // addresses are exposed, and changes no mapping of memory that is used.
        Errno::check(unsafe { arch::hypercall(number, args) })
    }

    /// The frame, empty.
    fn blank(&mut self) -> &mut Frame {
        self.frame.clear();
        &mut self.frame
    }

    /// Whether the object is this domain, by either of its numbers.
    fn is_own(&self, object: DomId) -> bool {
        object == self.own || object.0 == DOMID_SELF
    }

    /// A frame at which nothing is, in this domain's address space and in that of each guest.
    fn unused(&mut self) -> u64 {
        // Not empty, so there always is a next one.
        self.unused.next().unwrap_or(0)
    }

    /// A frame of the object's RAM that may be taken from it.
    fn ram(&mut self, object: DomId) -> u64 {
        if self.is_own(object) { self.spare() } else { self.foreign_frame() }
    }

    /// A page of this domain that nothing will use again; 0, where no RAM is, without memory.
    fn spare(&mut self) -> u64 {
        SharedPage::alloc().map_or(0, |page| {
            let gfn = page.addr() >> PAGE_SHIFT;
            core::mem::forget(page);
            gfn
        })
    }

    fn foreign_frame(&mut self) -> u64 {
        self.foreign += 1;
        self.foreign
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;

    #[test]
    fn each_row_has_a_name_of_its_own_and_of_one_word() {
        for group in GROUPS {
            let names: BTreeSet<&str> = group.ops.iter().map(|op| op.name).collect();
            assert_eq!(names.len(), group.ops.len(), "{}", group.name);
            assert!(names.iter().all(|name| !name.contains([' ', '\t', '.'])), "{}", group.name);
        }
    }

    #[test]
    fn an_operation_without_a_name_is_called_by_its_number() {
        for op in GROUPS.iter().flat_map(|group| group.ops) {
            let last = op.name.rsplit('/').next().and_then(|name| name.parse().ok());
            assert!(last.is_none_or(|number: u32| number == op.number), "{}", op.name);
        }
    }

    #[test]
    fn every_hypercall_number_below_64_has_a_group_or_a_row() {
        let grouped = [7, 12, 13, 17, 18, 20, 21, 24, 27, 29, 32, 33, 34, 35, 36, 39, 41, 42];
        assert_eq!(grouped.len(), GROUPS.len() - 1, "all but the first group");
        let bare = bare::HYPERCALLS.iter().map(|op| op.number);
        let numbers: BTreeSet<u32> = bare.chain(grouped).collect();
        assert!((0..64).all(|number| numbers.contains(&number)), "{numbers:?}");
    }

    #[test]
    fn an_answer_is_one_word() {
        let answers = [
            Answer::Done,
            Answer::Nothing,
            Answer::Refused(Errno::EPERM),
            Answer::Refused(Errno(84)),
            Answer::Refused(Errno(9999)),
            Answer::Grant(-8),
            Answer::Grant(-99),
            Answer::LeftOut,
        ];
        let words = ["ok", "nothing", "EPERM", "EILSEQ", "E9999", "permission_denied", "unknown_status", "-"];
        for (answer, word) in answers.into_iter().zip(words) {
            assert_eq!(alloc::format!("{answer}"), word);
        }
    }
}
