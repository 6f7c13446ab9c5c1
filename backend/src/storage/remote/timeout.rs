//! How long nobody has answered.

/// The time without an answer.
pub(in crate::storage) struct Timeout {
    timeout_ns: Option<u64>,
    /// Since when there has been no response while one is waited for.
    waiting_since_ns: Option<u64>,
    responded: bool,
    /// The time is over: requests fail.
    over: bool,
}

impl Timeout {
    /// `None`: no limit.
    pub(in crate::storage) fn new(timeout_ns: Option<u64>) -> Timeout {
        Timeout { timeout_ns, waiting_since_ns: None, responded: false, over: false }
    }

    /// Whether requests fail.
    pub(in crate::storage) fn is_over(&self) -> bool {
        self.over
    }

    /// Requests fail from now on, until there is a connection again.
    pub(in crate::storage) fn end(&mut self) {
        self.over = true;
    }

    /// The other end has answered something.
    pub(in crate::storage) fn on_response(&mut self) {
        self.responded = true;
    }

    /// Takes note of the time. True if it has just run out.
    pub(in crate::storage) fn check(&mut self, waits: bool, now_ns: u64) -> bool {
        // A slow server is not a silent one: each response starts the time anew.
        if core::mem::take(&mut self.responded) || !waits {
            self.waiting_since_ns = None;
        }
        if waits && self.waiting_since_ns.is_none() {
            self.waiting_since_ns = Some(now_ns);
        }
        // Once only: what it does needs no second time, and a new connection begins anew.
        !self.over && self.deadline_ns().is_some_and(|deadline_ns| now_ns >= deadline_ns)
    }

    /// When the time runs out, if something is waited for.
    pub(in crate::storage) fn deadline_ns(&self) -> Option<u64> {
        let since_ns = self.waiting_since_ns.filter(|_| !self.over)?;
        Some(since_ns.saturating_add(self.timeout_ns?))
    }

    /// There is a connection again.
    pub(in crate::storage) fn renew(&mut self) {
        *self = Timeout::new(self.timeout_ns);
    }
}
