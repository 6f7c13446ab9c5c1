//! A host's memory and the fake Xen, with a log of what was done in which order.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use backend::guest_mem::RingKeeper;
use backend::testkit::TestMemory;
use core::cell::RefCell;
use kernel::fake::FakeXen;
use kernel::{DomId, Errno, GrantRef, Hypervisor, Port, SharedPage};

pub use backend::testkit::TestMemory as Memory;
pub use kernel::fake::FakeXen as Xen;
pub use kernel::foreign::MapUse;
pub use kernel::granted::GrantUse;

/// What an incarnation did that a test wants to know of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// A panic would now release the guest's vCPUs.
    PanicHook,
    /// The guest's memory was mapped.
    Mapped,
    /// The guest's memory is to be reached by its grants.
    Granted,
    /// The page of an earlier incarnation was asked for.
    PreviousPage,
    /// The ports of earlier incarnations were closed.
    PreviousPortsClosed,
    /// A panic would now lead to a restart.
    RestartAllowed,
}

/// What outlives an incarnation, and what a test sets and sees.
#[derive(Default)]
pub struct Host {
    /// The guest's memory; cannot be mapped if there is none.
    pub memory: Option<TestMemory>,
    /// The window that was asked for, in chunks.
    pub chunks: u16,
    /// Restarts so far.
    pub incarnation: u32,
    /// Pages of the incarnation before that are still in use.
    pub pages_in_use: usize,
    /// Called at each step, before it is done.
    pub on_step: Option<Rc<dyn Fn(Step)>>,
    /// The pages of the journal.
    pub journal: Vec<SharedPage>,
    /// What a panic does that no restart follows.
    pub hook: Option<Box<dyn FnOnce()>>,
}

std::thread_local! {
    static HOST: RefCell<Host> = RefCell::default();
}

/// Reads or changes what the host knows.
pub fn host<R>(change: impl FnOnce(&mut Host) -> R) -> R {
    HOST.with_borrow_mut(change)
}

/// As a panic does that no restart follows.
pub fn run_panic_hook() {
    host(|host| host.hook.take()).expect("a hook")();
}

fn step(step: Step) {
    if let Some(on_step) = host(|host| host.on_step.clone()) {
        on_step(step);
    }
}

/// See `kernel::on_panic`.
pub fn on_panic(hook: impl FnOnce() + 'static) {
    step(Step::PanicHook);
    let old = host(|host| host.hook.replace(Box::new(hook)));
    drop(old);
}

/// See `kernel::restart`.
pub fn incarnation() -> u32 {
    host(|host| host.incarnation)
}

/// See `kernel::restart`.
pub fn last_panic() -> String {
    String::from("a bug")
}

/// See `kernel::restart`.
pub fn journal_page(index: usize) -> Option<SharedPage> {
    host(|host| {
        while host.journal.len() <= index {
            host.journal.push(SharedPage::alloc()?);
        }
        host.journal.get(index).cloned()
    })
}

/// See `Xen::foreign_map`.
pub fn map_guest(_xen: &Xen, _target: DomId, chunks: u16) -> Result<Memory, Errno> {
    step(Step::Mapped);
    host(|host| {
        host.chunks = chunks;
        host.memory.clone().ok_or(Errno::ENOSPC)
    })
}

/// See `Xen::grant_map`.
pub fn grant_guest(_xen: &Xen, _target: DomId) -> Result<(Memory, Rc<dyn RingKeeper>), Errno> {
    step(Step::Granted);
    let memory = host(|host| host.memory.clone()).ok_or(Errno::ENOSPC)?;
    Ok((memory.clone(), Rc::new(memory)))
}

/// Nothing is copied by grants.
pub fn grant_use(_memory: &Memory) -> Option<GrantUse> {
    None
}

/// Nothing is mapped piecewise.
pub fn map_use(_memory: &Memory) -> (u64, MapUse) {
    (0, MapUse::default())
}

/// See `Xen::previous_page`.
pub fn previous_page(xen: &Xen, gref: GrantRef) -> Option<SharedPage> {
    step(Step::PreviousPage);
    let peer = xen.domain(DomId(0));
    let page = peer.map_grant(xen.me(), gref, false).ok()?;
    peer.unmap_grant(xen.me(), gref).ok()?;
    Some(page)
}

/// See `Xen::close_previous_ports`. The fake has few ports.
pub fn close_previous_ports(xen: &Xen, kept: &[Port]) {
    step(Step::PreviousPortsClosed);
    let store = xen.hvm_param(xen_pv_sys::hvm::HVM_PARAM_STORE_EVTCHN).ok();
    for port in (0..1000).map(Port) {
        if !kept.contains(&port) && store != Some(port.0.into()) {
            let _closed = xen.evtchn_close(port);
        }
    }
}

/// See `Xen::allow_restart`.
pub fn allow_restart(_xen: &FakeXen) -> Result<bool, usize> {
    match host(|host| host.pages_in_use) {
        0 => {
            step(Step::RestartAllowed);
            Ok(true)
        }
        pages => Err(pages),
    }
}
