//! Pauses before a peer that failed is tried again.

/// The pause after a failure, doubled at each that follows.
const PAUSE_MIN_NS: u64 = 100_000_000;
const PAUSE_MAX_NS: u64 = 10_000_000_000;
/// A connection that lasted so long was a good one: the next pause is none.
const LASTING_NS: u64 = 5_000_000_000;

/// The pause after a failure, if the last one was `pause_ns`.
#[must_use]
pub fn longer(pause_ns: u64) -> u64 {
    pause_ns.saturating_mul(2).clamp(PAUSE_MIN_NS, PAUSE_MAX_NS)
}

/// The pause after a connection that stood for `lasted_ns`, if the last pause was `pause_ns`. One that broke
/// at once counts as a failure to connect.
#[must_use]
pub fn after(lasted_ns: u64, pause_ns: u64) -> u64 {
    if lasted_ns >= LASTING_NS { 0 } else { longer(pause_ns) }
}
