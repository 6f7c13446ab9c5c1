//! Time from the generic timer's virtual counter.

use crate::arch;

const NS_PER_S: u64 = 1_000_000_000;

/// Ticks of a counter of `hz` per second as nanoseconds, without losing the low digits.
fn ticks_to_ns(ticks: u64, hz: u64) -> u64 {
    let hz = hz.max(1);
    let whole = (ticks / hz).saturating_mul(NS_PER_S);
    // The remainder is below `hz`, which is at most a few GHz: no overflow.
    whole.saturating_add((ticks % hz).saturating_mul(NS_PER_S) / hz)
}

/// Nanoseconds on a monotonic clock that also runs while this domain does not.
#[must_use]
pub fn now_ns() -> u64 {
    ticks_to_ns(arch::counter(), arch::counter_hz())
}

/// What [`now_ns`] said when the counter stood at `ticks`.
pub(crate) fn at_ticks_ns(ticks: u64) -> u64 {
    ticks_to_ns(ticks, arch::counter_hz())
}

#[cfg(test)]
mod tests {
    use super::ticks_to_ns;

    #[test]
    fn ticks_convert_without_overflow() {
        assert_eq!(ticks_to_ns(62_500_000, 62_500_000), 1_000_000_000);
        assert_eq!(ticks_to_ns(62_500_001, 62_500_000), 1_000_000_016);
        // A century at 1 GHz.
        assert_eq!(ticks_to_ns(3_155_760_000_000_000_000, 1_000_000_000), 3_155_760_000_000_000_000);
        assert_eq!(ticks_to_ns(5, 0), 5_000_000_000);
        assert_eq!(ticks_to_ns(u64::MAX, 1), u64::MAX);
    }
}
