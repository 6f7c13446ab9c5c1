//! Memory as the weakest CPU may show it.
//!
//! Words that both sides store and load are atomics of [`loom`]: it tries every order of their accesses,
//! and every value that the C11 memory model lets a load see. What an index or a state hands over
//! (entries, descriptors, fields) is *data*: an access to it that the other side's is not ordered
//! against is an error.

use kernel::model::{Installed, MemoryModel, install};
use kernel::{Order, SharedPage, Word};
use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU64, Ordering, fence};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// What is left out of our side, to see that it is needed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Flaws {
    /// Full barriers.
    pub no_barriers: bool,
    /// Acquire and release.
    pub no_order: bool,
}

impl Flaws {
    /// Nothing is left out.
    pub const NONE: Flaws = Flaws { no_barriers: false, no_order: false };
    /// No full barriers.
    pub const NO_BARRIERS: Flaws = Flaws { no_barriers: true, no_order: false };
    /// Neither acquire nor release.
    pub const NO_ORDER: Flaws = Flaws { no_barriers: false, no_order: true };
}

/// Bytes that one side hands over to the other.
#[derive(Debug)]
struct Data {
    bytes: usize,
    accesses: Rc<UnsafeCell<()>>,
}

/// The shared memory of one world.
#[derive(Debug)]
pub struct Weak {
    words: RefCell<BTreeMap<usize, Rc<AtomicU64>>>,
    /// By first byte.
    data: RefCell<BTreeMap<usize, Data>>,
    flaws: Flaws,
}

/// Runs `world` in every order in which a side is interrupted at most `preemptions` times where it need
/// not wait; `LOOM_MAX_PREEMPTIONS` in the environment is for another number.
///
/// # Panics
/// If one of them fails: deadlock, unordered data, or an assertion.
pub fn check(preemptions: usize, flaws: Flaws, world: fn(&Rc<Weak>)) {
    let mut builder = loom::model::Builder::new();
    builder.max_branches = 20_000;
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
    builder.check(move || {
        let weak = Rc::new(Weak { words: RefCell::default(), data: RefCell::default(), flaws });
        let installed: Installed = install(weak.clone());
        world(&weak);
        drop(installed);
    });
}

impl Weak {
    /// Makes the word at `offset` of `page` one that both sides access. Before there are two.
    ///
    /// # Panics
    /// If it is not inside.
    pub fn word<W: Word + Into<u64>>(&self, page: &SharedPage, offset: usize) -> Rc<AtomicU64> {
        let now: W = page.load(offset, Order::Relaxed).expect("inside");
        let word = Rc::new(AtomicU64::new(now.into()));
        self.words.borrow_mut().insert(address(page, offset), word.clone());
        word
    }

    /// Makes these bytes of `page` data.
    pub fn data(&self, page: &SharedPage, offset: usize, bytes: usize) {
        let data = Data { bytes, accesses: Rc::new(UnsafeCell::new(())) };
        self.data.borrow_mut().insert(address(page, offset), data);
    }

    fn find(&self, at: usize) -> Option<Rc<AtomicU64>> {
        self.words.borrow().get(&at).cloned()
    }

    /// The other side's access to data.
    pub fn touch(&self, page: &SharedPage, offset: usize, bytes: usize, write: bool) {
        self.copy(address(page, offset), bytes, write);
    }

    fn order(&self, order: Order, ordered: Ordering) -> Ordering {
        if order == Order::Relaxed || self.flaws.no_order { Ordering::Relaxed } else { ordered }
    }
}

fn address(page: &SharedPage, offset: usize) -> usize {
    usize::try_from(page.addr()).expect("an address of this machine") + offset
}

impl MemoryModel for Weak {
    fn load(&self, at: usize, bytes: usize, order: Order) -> Option<u64> {
        match self.find(at) {
            Some(word) => Some(word.load(self.order(order, Ordering::Acquire))),
            None => {
                self.copy(at, bytes, false);
                None
            }
        }
    }

    fn store(&self, at: usize, bytes: usize, value: u64, order: Order) -> bool {
        let word = self.find(at);
        match &word {
            Some(word) => word.store(value, self.order(order, Ordering::Release)),
            None => self.copy(at, bytes, true),
        }
        word.is_some()
    }

    fn clear_bits(&self, at: usize, bits: u64) -> Option<u64> {
        let order = if self.flaws.no_order { Ordering::Relaxed } else { Ordering::AcqRel };
        Some(self.find(at)?.fetch_and(!bits, order))
    }

    fn copy(&self, at: usize, bytes: usize, write: bool) {
        let end = at + bytes;
        let data = self.data.borrow();
        let touched = data.range(..end).rev().take_while(|(start, data)| *start + data.bytes > at);
        let cells: Vec<_> = touched.map(|(_, data)| data.accesses.clone()).collect();
        drop(data);
        for cell in cells {
            if write { cell.with_mut(|_| ()) } else { cell.with(|_| ()) }
        }
    }

    fn full_barrier(&self) {
        if !self.flaws.no_barriers {
            fence(Ordering::SeqCst);
        }
    }
}
