//! The order of accesses to shared memory.

/// How an access is ordered against others.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Order {
    /// Single-copy atomic, no order.
    Relaxed,
    /// A load: later accesses stay later. A store: earlier accesses stay earlier.
    AcqRel,
}
