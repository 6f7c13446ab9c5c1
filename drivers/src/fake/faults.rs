//! What a fake blkback does wrong, and when; seeded, so that a failure can be replayed.

/// A broken rule.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Misdeed {
    /// The response carries an id that no request had.
    BogusId,
    /// The response is given twice.
    Duplicate,
    /// The response names another operation.
    WrongOperation,
    /// `rsp_prod` jumps ahead by this much.
    IndexJump(u32),
    /// Blkback goes to Closed and serves no more.
    Vanish,
    /// It stops answering, without a word.
    Silence,
}

/// How a fake blkback serves. The default serves every request at once, in order.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Of the random choices.
    pub seed: u64,
    /// Completes in random order, a random number at a time.
    pub reorder: bool,
    /// Steps that a request waits before it may complete.
    pub delay_steps: u32,
    /// Every n-th request fails with an error status, and does nothing.
    pub fail_every: Option<u64>,
    /// The error status is "not supported".
    pub fail_as_unsupported: bool,
    /// The response (counted from 0) at which a rule is broken.
    pub misdeed_at: Option<(u64, Misdeed)>,
    /// Grants stay mapped when the connection ends.
    pub keep_grants: bool,
    /// It closes each connection as soon as it stands.
    pub flaps: bool,
}

/// A small pseudo-random generator (xorshift64*).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Any seed will do.
    #[must_use]
    pub fn new(seed: u64) -> Random {
        Random(seed ^ 0x9e37_79b9_7f4a_7c15 | 1)
    }

    /// A number below `limit`, or 0.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let mixed = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(mixed).unwrap_or(0).checked_rem(limit).unwrap_or(0)
    }
}
