//! How many requests go one way at once, and how long fewer of them may wait.
//!
//! Each event (an interrupt and its two register accesses, a notification, an event for the storage
//! backend) costs several times what a request does. So with many requests under way a *batch*
//! shares one. Its size follows from what the driver keeps outstanding ([`depth`]): the driver
//! never waits for more than there can be, and with few outstanding a batch is one request. What is
//! *held* for a batch is bounded in time, which follows from how fast requests complete ([`rate`]).
//!
//! [`Coalescer`] is a state machine without storage, queue or clock of its own. A device tells it
//! what happens (`on_...`) and asks it what to do. In one turn of the device:
//!
//! ```text
//! on_clock(now)                          is time up? has what is held a deadline?
//! on_storage(events?) on_outstanding(n)  a turn begins
//! early_signal_threshold()               is a whole batch back?
//! on_completed(queue) ...                the storage gave requests back
//! on_request(bytes) on_submitted(queue)  new ones went to it
//! submit_now(..)                         tell the storage backend?
//! on_published(total, unsignalled)       the driver can see what is done
//! signal_now(..) on_signalled(..) on_interrupt()
//! on_turn_end(worked)
//! ```
//!
//! And before the stub sleeps: `on_idle()`, `thresholds()`, `deadline_ns(now)`.

#[cfg(test)]
mod any_order;
mod depth;
mod load;
mod rate;
#[cfg(test)]
mod rules;

use depth::Depth;
use load::Load;
use rate::CompletionRate;

/// One in this many requests of a batch is not waited for where several queues bring it.
const SPARED: u32 = 4;
/// Deadlines in a row for nothing after which whatever comes next is worth an event, and no timer
/// is needed: the storage takes its time, or the driver is gone.
const FRUITLESS_MAX: u32 = 8;

/// Until when requests or answers may be held, or a batch be waited for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Hold {
    /// No deadline: nothing is held, or nobody has read the clock since.
    None,
    /// Until this time, in nanoseconds.
    Until(u64),
    /// The time is over: the next turn sends and signals all there is.
    Overdue,
}

/// For how much the stub wants to be woken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Thresholds {
    /// Responses of the storage (`rsp_event`).
    pub(crate) completions: u32,
    /// New requests of each active queue (`avail_event`); of any other, the first.
    pub(crate) requests: u16,
}

/// What goes in batches, for one disk.
#[derive(Debug)]
pub(crate) struct Coalescer {
    depth: Depth,
    rate: CompletionRate,
    load: Load,
    hold: Hold,
    /// The storage announces completions by an event. One that does not has no use for batches.
    has_events: bool,
    /// Requests that the storage engine took and the storage backend was not told of.
    unsent: u32,
    /// Completed requests that the driver can see and was not signalled.
    unsignalled: u32,
    /// Completed requests in total.
    completed: u64,
    /// The driver was interrupted for a batch, and no deadline has passed since: it is about to
    /// bring as many new requests.
    expects_refill: bool,
    /// Deadlines in a row at which nothing at all had come.
    fruitless: u32,
    /// The largest number of which the last [`Coalescer::thresholds`] wants an event.
    event_threshold: u32,
}

impl Coalescer {
    /// For a device of `queues`. Nothing is known yet, so nothing is held.
    pub(crate) fn new(queues: u16) -> Coalescer {
        Coalescer {
            depth: Depth::default(),
            rate: CompletionRate::new(),
            load: Load::new(queues),
            hold: Hold::None,
            has_events: false,
            unsent: 0,
            unsignalled: 0,
            completed: 0,
            expects_refill: false,
            fruitless: 0,
            event_threshold: 1,
        }
    }
}

/// What happens.
impl Coalescer {
    /// Whether the storage announces completions by an event, as of now.
    pub(crate) fn on_storage(&mut self, has_events: bool) {
        self.has_events = has_events;
    }

    /// The driver has that many requests outstanding: a batch can be made of no more.
    pub(crate) fn on_outstanding(&mut self, requests: u32) {
        self.depth.on_outstanding(requests);
    }

    /// A read or write with that much data was taken from a queue.
    pub(crate) fn on_request(&mut self, data_bytes: u64) {
        self.depth.on_request(data_bytes);
    }

    /// The storage took a request of that queue.
    pub(crate) fn on_submitted(&mut self, queue: usize) {
        self.unsent = self.unsent.saturating_add(1);
        self.load.add(queue);
    }

    /// The storage gave back a request of that queue; `None`: of one that was reset.
    pub(crate) fn on_completed(&mut self, queue: Option<usize>) {
        self.load.remove(queue);
    }

    /// `completed` requests in total are done and visible, `unsignalled` of them without a signal.
    pub(crate) fn on_published(&mut self, completed: u64, unsignalled: u32) {
        (self.completed, self.unsignalled) = (completed, unsignalled);
    }

    /// The driver was signalled, for that many requests of that queue. It may not want an interrupt
    /// for them: see [`Coalescer::on_interrupt`].
    pub(crate) fn on_signalled(&mut self, queue: usize, requests: u16) {
        self.load.set_in_last_batch(queue, requests > 0);
    }

    /// The driver was interrupted for what it was signalled.
    pub(crate) fn on_interrupt(&mut self) {
        // It takes a whole batch, and usually brings another.
        self.expects_refill = self.is_coalescing();
    }

    /// A turn is over; `worked`: it did something.
    pub(crate) fn on_turn_end(&mut self, worked: bool) {
        if worked {
            // Something came after all: a wait may be worth its timer again.
            self.fruitless = 0;
        }
        // A deadline is that of what was held: what is held next has its own.
        if self.hold == Hold::Overdue || !self.is_holding() {
            self.hold = Hold::None;
        }
    }

    /// The stub is about to sleep.
    pub(crate) fn on_idle(&mut self) {
        self.depth.on_idle();
    }

    /// It is `now_ns`: judges the deadline, and gives one to what is held without. `busy_disks`: as
    /// for [`Coalescer::deadline_ns`].
    pub(crate) fn on_clock(&mut self, now_ns: u64, busy_disks: u32) {
        match self.hold {
            Hold::Until(deadline_ns) if now_ns >= deadline_ns => self.on_deadline(),
            // It became held since the last reading of the clock. Its time begins now.
            Hold::None if self.is_holding() => {
                self.hold_for(self.batch_size(), now_ns, busy_disks);
            }
            _ => {}
        }
    }

    /// The deadline has passed: holds nothing any longer, and learns from it.
    pub(crate) fn on_deadline(&mut self) {
        self.hold = Hold::Overdue;
        let expected = core::mem::take(&mut self.expects_refill);
        if expected && self.in_flight() == 0 && !self.is_holding() {
            self.depth.on_starved();
        // Something has come, but no whole batch: it was too large.
        } else if expected || self.is_holding() {
            self.depth.on_timeout();
        } else {
            // Only the storage was waited for: that says nothing of the driver.
            self.fruitless = self.fruitless.saturating_add(1);
        }
    }

    /// A queue was reset. Its requests at the storage are orphans.
    pub(crate) fn on_queue_reset(&mut self, queue: usize) {
        self.load.make_orphans(queue);
    }

    /// The device was reset: its driver brings nothing.
    pub(crate) fn on_reset(&mut self) {
        self.expects_refill = false;
    }
}

/// What to do.
impl Coalescer {
    /// Whether the storage backend is to be told of what was submitted; if so, this counts as done.
    /// `blocked`: the storage has no room for more.
    pub(crate) fn submit_now(&mut self, blocked: bool) -> bool {
        // What is blocked, or waits for the last orphan, goes on only with the storage's next
        // completion: that must not wait for new requests. Without any, telling costs nothing.
        let due = blocked
            || self.hold == Hold::Overdue
            || self.load.orphans() > 0
            || self.unsent == 0
            || self.unsent >= self.submit_threshold();
        if due {
            self.unsent = 0;
        }
        due
    }

    /// Whether the driver is to be signalled of what is done; if so, this counts as done. `ahead`:
    /// a whole batch is back, and this is the first of it.
    pub(crate) fn signal_now(&mut self, ahead: bool) -> bool {
        // With nothing at the storage no more can be waited for.
        let due = ahead
            || self.hold == Hold::Overdue
            || self.at_storage() == 0
            || self.unsignalled >= self.batch_size();
        // An interrupt without a reason would cost the driver two accesses for nothing.
        let due = due && self.unsignalled > 0;
        if due {
            self.unsignalled = 0;
        }
        due
    }

    /// With how many responses of the storage a whole batch is back, so that the driver is
    /// signalled with its first request: while the others are copied, its vCPU wakes and comes to
    /// ask why. `None`: there are no batches.
    pub(crate) fn early_signal_threshold(&self) -> Option<u32> {
        let batch = self.batch_size();
        // A single response is signalled anyway. Where fewer than a batch are at the storage, all of them
        // count as one.
        (batch > 1).then(|| batch.min(self.in_flight()).max(2))
    }

    /// For how much the stub wants to be woken from the sleep that begins now: what makes a batch
    /// with what there is already.
    pub(crate) fn thresholds(&mut self) -> Thresholds {
        let batch = self.idle_batch_size();
        // More than is at the storage cannot come back from it.
        let completions = batch.saturating_sub(self.unsignalled).clamp(1, self.at_storage().max(1));
        let requests = if self.is_busy() {
            // Each queue brings its part.
            let missing = batch.saturating_sub(self.unsent);
            u16::try_from(missing.div_ceil(self.load.active_queues().max(1)).max(1)).unwrap_or(u16::MAX)
        } else {
            // The first request of an idle disk waits for nobody.
            1
        };
        // What is held needs a timer even if one more would make the batch: that one may never come.
        self.event_threshold = if self.is_holding() { batch } else { completions.max(requests.into()) };
        if self.event_threshold == 1 && self.hold != Hold::Overdue {
            // An event comes for everything. No old deadline may end a later wait.
            self.hold = Hold::None;
        }
        Thresholds { completions, requests }
    }

    /// After [`Coalescer::thresholds`]: until when the stub may sleep without an event. `None`: an
    /// event comes for everything. `busy_disks`: disks of the stub that are busy.
    pub(crate) fn deadline_ns(&mut self, now_ns: u64, busy_disks: u32) -> Option<u64> {
        match self.hold {
            // The next turn lets everything go: no sleep comes before it.
            Hold::Overdue => Some(now_ns),
            _ if !self.needs_timer() => {
                self.hold = Hold::None;
                None
            }
            // What is held is not held longer because the stub woke in between.
            Hold::Until(deadline_ns) if self.is_holding() => Some(deadline_ns),
            // Nothing is held, but an event comes for several only: the first of them must not wait long.
            _ => Some(self.hold_for(self.event_threshold, now_ns, busy_disks)),
        }
    }

    /// The one place where a wait begins: it lasts until `requests` should long have completed.
    fn hold_for(&mut self, requests: u32, now_ns: u64, busy_disks: u32) -> u64 {
        // A reading of the clock is expensive, so the rate is measured only where the time is known anyway.
        self.rate.update(self.completed, now_ns, busy_disks);
        let wait_ns = self.rate.wait_ns(requests, self.depth.wait_max_ns(), busy_disks);
        let deadline_ns = now_ns.saturating_add(wait_ns);
        self.hold = Hold::Until(deadline_ns);
        deadline_ns
    }
}

/// What is known.
impl Coalescer {
    /// How many requests go one way at once.
    pub(crate) fn batch_size(&self) -> u32 {
        // Only a storage that sends events can end a sleep until a batch is back.
        if self.has_events { self.depth.batch_size() } else { 1 }
    }

    /// Whether requests go in batches, so that an event comes for one.
    pub(crate) fn is_coalescing(&self) -> bool {
        self.batch_size() > 1
    }

    /// The batch that is worth waking for: after many fruitless waits, whatever comes next.
    pub(crate) fn idle_batch_size(&self) -> u32 {
        if self.fruitless >= FRUITLESS_MAX { 1 } else { self.batch_size() }
    }

    /// New requests that are worth an event for the storage backend. Each of several queues
    /// notifies for its part of a batch, seldom for the last of all: what is missing would come one
    /// by one.
    fn submit_threshold(&self) -> u32 {
        let batch = self.batch_size();
        // A single queue notifies when the batch is complete, so nothing is missing.
        if self.load.active_queues() > 1 { batch.saturating_sub(batch / SPARED) } else { batch }
    }

    /// Whether something is held back until it is a batch, or time is up.
    pub(crate) const fn is_holding(&self) -> bool {
        self.unsent > 0 || self.unsignalled > 0
    }

    /// Whether the next turn sends and signals all there is.
    pub(crate) fn is_overdue(&self) -> bool {
        self.hold == Hold::Overdue
    }

    /// Whether [`Coalescer::deadline_ns`] has to know the time.
    pub(crate) const fn needs_timer(&self) -> bool {
        self.event_threshold > 1
    }

    /// Whether [`Coalescer::on_clock`] has something to do, now or later.
    pub(crate) const fn needs_clock(&self) -> bool {
        matches!(self.hold, Hold::Until(_)) || self.is_holding()
    }

    /// Whether something is held that has no deadline yet.
    pub(crate) const fn is_untimed(&self) -> bool {
        matches!(self.hold, Hold::None) && self.is_holding()
    }

    /// Requests at the storage, orphans included.
    pub(crate) const fn in_flight(&self) -> u32 {
        self.load.in_flight()
    }

    /// Whether requests of queues that were reset are still at the storage.
    pub(crate) const fn has_orphans(&self) -> bool {
        self.load.orphans() > 0
    }

    /// Whether the driver uses that queue these days.
    pub(crate) fn is_active(&self, queue: usize) -> bool {
        self.load.is_active(queue)
    }

    /// Whether requests are under way, or expected at once.
    pub(crate) const fn is_busy(&self) -> bool {
        self.expects_refill || self.in_flight() > 0
    }

    /// Requests that the storage backend was not told of.
    pub(crate) const fn unsent(&self) -> u32 {
        self.unsent
    }

    #[cfg(test)]
    pub(crate) const fn event_threshold(&self) -> u32 {
        self.event_threshold
    }

    #[cfg(test)]
    pub(crate) const fn has_deadline(&self) -> bool {
        matches!(self.hold, Hold::Until(_))
    }

    /// Requests that the storage backend was told of.
    const fn at_storage(&self) -> u32 {
        self.in_flight().saturating_sub(self.unsent)
    }
}
