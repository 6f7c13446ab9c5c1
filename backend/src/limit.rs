//! Logging that a guest cannot turn into a flood.

use core::fmt;

/// Counts messages of one source and lets ever fewer through: the first eight, then each
/// whose count is a power of two.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limiter {
    seen: u64,
}

impl Limiter {
    /// Nothing seen yet.
    #[must_use]
    pub const fn new() -> Limiter {
        Limiter { seen: 0 }
    }

    /// Counts one message; its number if it may be logged.
    pub fn admit(&mut self) -> Option<u64> {
        self.seen = self.seen.saturating_add(1);
        (self.seen <= 8 || self.seen.is_power_of_two()).then_some(self.seen)
    }
}

/// `log::warn!`, limited. The message is numbered.
macro_rules! warn_limited {
    ($limiter:expr, $($message:tt)+) => {
        if let Some(count) = $limiter.admit() {
            $crate::limit::warn(module_path!(), count, format_args!($($message)+));
        }
    };
}
pub(crate) use warn_limited;

/// A function of its own, so that the places that may log carry little code for it.
#[cold]
#[inline(never)]
pub(crate) fn warn(target: &str, count: u64, message: fmt::Arguments<'_>) {
    log::warn!(target: target, "{message} [{count}]");
}

#[cfg(test)]
mod tests {
    use super::Limiter;

    #[test]
    fn a_flood_shrinks_to_its_powers_of_two() {
        let mut limiter = Limiter::new();
        let logged: alloc::vec::Vec<u64> = (0..1000).filter_map(|_| limiter.admit()).collect();
        assert_eq!(logged, [1, 2, 3, 4, 5, 6, 7, 8, 16, 32, 64, 128, 256, 512]);
    }
}
