//! How long nobody has answered.

/// The time without an answer.
///
/// A connection is given up when it brings no response for so long. What was waited for when it began is waited
/// for since before it: one that ends before a request is done does not start the time anew.
pub(in crate::storage) struct Timeout {
    timeout_ns: Option<u64>,
    /// Since when no request has been done while there were some, over whatever connections.
    needed_since_ns: Option<u64>,
    /// Since when there has been no response while one is waited for.
    waiting_since_ns: Option<u64>,
    responded: bool,
    done: bool,
    /// The time is over: requests fail.
    over: bool,
}

impl Timeout {
    /// `None`: no limit.
    pub(in crate::storage) fn new(timeout_ns: Option<u64>) -> Timeout {
        let (needed_since_ns, waiting_since_ns) = (None, None);
        Timeout { timeout_ns, needed_since_ns, waiting_since_ns, responded: false, done: false, over: false }
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

    /// The other end has done a request.
    pub(in crate::storage) fn on_done(&mut self) {
        self.done = true;
    }

    /// Takes note of the time. `waits`: there are requests, or there is no connection. True if the time has just
    /// run out.
    pub(in crate::storage) fn check(&mut self, waits: bool, now_ns: u64) -> bool {
        if core::mem::take(&mut self.done) || !waits {
            self.needed_since_ns = None;
        }
        // A slow server is not a silent one: each response starts the time anew.
        if core::mem::take(&mut self.responded) || !waits {
            self.waiting_since_ns = None;
        }
        if waits {
            self.needed_since_ns.get_or_insert(now_ns);
            self.waiting_since_ns.get_or_insert(now_ns);
        }
        // Once only: what it does needs no second time, and a new connection begins anew.
        !self.over && self.deadline_ns().is_some_and(|deadline_ns| now_ns >= deadline_ns)
    }

    /// When the time runs out, if something is waited for.
    pub(in crate::storage) fn deadline_ns(&self) -> Option<u64> {
        let since_ns = self.waiting_since_ns.filter(|_| !self.over)?;
        Some(since_ns.saturating_add(self.timeout_ns?))
    }

    /// There is a connection again. Requests that have failed meanwhile need it no more.
    pub(in crate::storage) fn renew(&mut self) {
        if self.over {
            *self = Timeout::new(self.timeout_ns);
        } else {
            self.waiting_since_ns = self.needed_since_ns;
        }
    }
}
