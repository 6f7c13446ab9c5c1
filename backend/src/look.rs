//! How long to look for news before the CPU is given away.
//!
//! A blocked stub answers several times later than one that looks, so it looks for a while
//! after its last work. Whether that pays shows by how long nothing came in the end: if news
//! mostly come within the budget, it is spent; if not, hardly any of it is.

/// Looking costs no more than this where it does not pay.
const LEAST_NS: u64 = 20_000;
/// The score from which on the budget is spent, and the highest: a few odd waits either way do
/// not change what is done.
const PAYS: u8 = 2;
const SCORE_MAX: u8 = 4;

/// Decides from the past.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    budget_ns: u64,
    score: u8,
}

impl Look {
    /// Spends at most `budget_ns` after each work; 0: does not look at all.
    #[must_use]
    pub const fn new(budget_ns: u64) -> Look {
        Look { budget_ns, score: PAYS }
    }

    /// How long to look now.
    #[must_use]
    pub const fn limit_ns(&self) -> u64 {
        if self.score >= PAYS || self.budget_ns < LEAST_NS { self.budget_ns } else { LEAST_NS }
    }

    /// News came after `idle_ns` without, of which the CPU may have been given away.
    pub const fn note(&mut self, idle_ns: u64) {
        if idle_ns > self.budget_ns {
            self.score = self.score.saturating_sub(1);
        } else if self.score < SCORE_MAX {
            self.score = self.score.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_spent_only_where_it_pays() {
        let mut look = Look::new(1_000_000);
        assert_eq!(look.limit_ns(), 1_000_000);
        look.note(50_000_000);
        assert_eq!(look.limit_ns(), LEAST_NS);
        look.note(900_000);
        assert_eq!(look.limit_ns(), 1_000_000);
        (0..9).for_each(|_| look.note(10));
        look.note(50_000_000);
        assert_eq!(look.limit_ns(), 1_000_000, "one long wait among short ones");
        (0..9).for_each(|_| look.note(u64::MAX));
        assert_eq!(look.limit_ns(), LEAST_NS);
    }

    #[test]
    fn no_budget_means_no_looking() {
        let mut look = Look::new(0);
        look.note(0);
        assert_eq!(look.limit_ns(), 0);
        assert_eq!(Look::new(5_000).limit_ns(), 5_000);
    }
}
