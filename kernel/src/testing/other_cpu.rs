//! Other vCPUs of a test guest, each of which makes a few accesses over and over while the first one goes on
//! (feature `guest`).
//!
//! They have the first one's translation tables, but neither its heap nor its console: all that they do is stores to
//! pages and accesses to registers, from a list that is ready before they start.

use super::registers::{Registers, Width};
use crate::arch;
use crate::mem::shared::SharedPage;
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::ptr::{self, with_exposed_provenance_mut};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use xen_pv_sys::PAGE_SIZE;

/// Words of a vCPU's stack.
const STACK_WORDS: usize = 1024;

/// One access.
struct Blow {
    at: *mut u32,
    width: Width,
    /// Written in turn; nothing: a read.
    values: Option<[u64; 2]>,
}

/// What a vCPU does over and over, in this order.
#[derive(Default)]
pub struct Blows {
    list: Vec<Blow>,
    /// Kept as long as they are written.
    pages: Vec<SharedPage>,
}

impl Blows {
    /// Also writes two values to a page, in turn. Nothing if that is not aligned or not inside the page.
    #[must_use]
    pub fn store(mut self, page: &SharedPage, width: Width, offset: usize, values: [u64; 2]) -> Blows {
        let bytes = width.bytes();
        if offset.is_multiple_of(bytes) && offset.saturating_add(bytes) <= PAGE_SIZE {
            let base = usize::try_from(page.addr()).unwrap_or(0);
            let at = with_exposed_provenance_mut(base + offset);
            self.list.push(Blow { at, width, values: Some(values) });
            self.pages.push(page.clone());
        }
        self
    }

    /// Also reads a register.
    #[must_use]
    pub fn read(mut self, registers: &Registers, width: Width, offset: usize) -> Blows {
        self.list.extend(registers.at(offset, width).map(|at| Blow { at, width, values: None }));
        self
    }

    /// Also writes two values to a register, in turn.
    #[must_use]
    pub fn write(mut self, registers: &Registers, width: Width, offset: usize, values: [u64; 2]) -> Blows {
        self.list.extend(registers.at(offset, width).map(|at| Blow { at, width, values: Some(values) }));
        self
    }
}

/// What both vCPUs look at.
struct Work {
    stop: AtomicBool,
    rounds: AtomicU64,
    blows: Blows,
}

/// A vCPU that runs.
pub struct OtherCpu {
    cpu: u64,
    work: Box<Work>,
    /// Kept until it is off.
    _start: Box<arch::Start>,
    _stack: Vec<u128>,
}

impl OtherCpu {
    /// Starts the vCPU of that number. Nothing if there is none or it runs already.
    #[must_use]
    pub fn start(cpu: u64, blows: Blows) -> Option<OtherCpu> {
        let work = Box::new(Work { stop: AtomicBool::new(false), rounds: AtomicU64::new(0), blows });
        let stack = vec![0_u128; STACK_WORDS];
        let stack_top = stack.as_ptr_range().end.expose_provenance();
        let argument = ptr::from_ref::<Work>(&work).expose_provenance();
        let start = Box::new(arch::Start::new(stack_top, run, argument));
        // SAFETY: all three are in boxes of what is returned, which waits for the vCPU before it drops them.
        let is_on = unsafe { start.switch_on(cpu) };
        is_on.then(|| OtherCpu { cpu, work, _start: start, _stack: stack })
    }

    /// Ends it; how often it went through its list.
    #[must_use]
    pub fn stop(self) -> u64 {
        self.end();
        self.work.rounds.load(Ordering::Acquire)
    }

    fn end(&self) {
        self.work.stop.store(true, Ordering::Release);
        while !arch::is_off(self.cpu) {
            core::hint::spin_loop();
        }
    }
}

impl Drop for OtherCpu {
    fn drop(&mut self) {
        self.end();
    }
}

/// What a vCPU runs.
extern "C" fn run(argument: usize) {
    // SAFETY: `start` made it of a `Work` that lives until this vCPU is off. Of it only atomics change.
    let work: &Work = unsafe { &*with_exposed_provenance_mut(argument) };
    let mut round = 0_u64;
    while !work.stop.load(Ordering::Acquire) {
        for blow in &work.blows.list {
            make(blow, round);
        }
        round = round.wrapping_add(1);
        work.rounds.store(round, Ordering::Release);
    }
}

fn make(blow: &Blow, round: u64) {
    let at = blow.at;
    // SAFETY: aligned, and in a page that `Blows` keeps, which is never looked at but by atomic copies, or in registers,
    // whose mapping is never taken back. One instruction each, outside of what the language orders.
    unsafe {
        match (blow.width, blow.values.map(|[even, odd]| if round.is_multiple_of(2) { even } else { odd })) {
            (Width::Byte, None) => drop(arch::read_register_8(at.cast())),
            (Width::Half, None) => drop(arch::read_register_16(at.cast())),
            (Width::Word, None) => drop(arch::read_register(at)),
            (Width::Double, None) => drop(arch::read_register_64(at.cast())),
            (Width::Byte, Some(value)) => arch::write_register_8(at.cast(), (value & 0xff) as u8),
            (Width::Half, Some(value)) => arch::write_register_16(at.cast(), (value & 0xffff) as u16),
            (Width::Word, Some(value)) => arch::write_register(at, (value & 0xffff_ffff) as u32),
            (Width::Double, Some(value)) => arch::write_register_64(at.cast(), value),
        }
    }
}
