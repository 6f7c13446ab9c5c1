//! The work between queues and storage: completions in, requests out, one interrupt for
//! all of it.

use super::complete::{self, Status};
use super::device::{Device, ID_BYTES};
use super::follow_up::FollowUp;
use super::reject::Rejected;
use super::request::{HEADER_BYTES, Request, TURN_BYTES, data_run};
use crate::crash::{self, Point};
use crate::guest_mem::GuestMemory;
use crate::limit::warn_limited;
use crate::mmio::regs::{INT_CONFIG, INT_USED};
use crate::mmio::status::Status as DeviceStatus;
use crate::storage::{Io, Operation, Outcome, Storage, Submitted, Ticket};
use crate::virtq::{Chain, QUEUE_SIZE_MAX, QueueFault};

/// Chains taken from a queue before other devices and vCPUs get a turn.
const BUDGET: u32 = 64;
/// One in so many requests of a batch is not waited for where several queues bring it.
const SPARED: u32 = 4;

impl<S: Storage> Device<S> {
    /// Does a bounded amount of work: completions first, then new requests. Returns whether
    /// there was any; call again then.
    pub fn process(&mut self, mem: &dyn GuestMemory) -> bool {
        let mut worked = self.tell_resumed();
        self.note_depth(mem);
        self.turn_bytes = TURN_BYTES;
        // While the rest of a batch is copied, the driver's vCPU wakes and comes to ask why.
        let ahead = self.is_batch_back();
        worked |= self.collect(mem, if ahead { 1 } else { u32::MAX });
        worked |= self.retry_held(mem);
        // Storage may have room for one queue's requests only: each comes first in turn.
        let (first, end) = (self.first_lane, self.lanes.len());
        for index in (first..end).chain(0..first) {
            worked |= self.serve(index, mem);
        }
        let next = first.saturating_add(1);
        self.first_lane = if next < end { next } else { 0 };
        self.send_off();
        if worked {
            self.in_vain = 0;
            crash::point(Point::Finished);
            self.publish(mem);
        }
        self.signal_if_due(mem, ahead);
        self.hurry = false;
        if !self.holds() {
            // A time is that of what was held: what comes next has its own.
            self.nap_until_ns = None;
        }
        worked
    }

    /// What the driver has outstanding is what a batch can be made of.
    fn note_depth(&mut self, mem: &dyn GuestMemory) {
        if self.storage.port().is_none() {
            return;
        }
        let queues = self.lanes.iter().filter_map(|lane| lane.queue.as_ref());
        let outstanding = queues.map(|queue| u32::from(queue.outstanding(mem)));
        self.batch.note_depth(outstanding.fold(0, u32::saturating_add));
    }

    /// Shows the backend what was queued, once that is a batch or nobody may wait.
    fn send_off(&mut self) {
        let due = self.hurry || self.orphans > 0 || !self.held.is_empty();
        if due || self.queued == 0 || self.queued >= self.enough() {
            self.queued = 0;
            self.storage.kick();
        }
    }

    /// New requests that are worth an event. Each of several queues notifies for its part of a
    /// batch, seldom for the last of all: what is missing would come one by one.
    fn enough(&self) -> u32 {
        let batch = self.batch_size();
        if self.queues_in_use() > 1 { batch.saturating_sub(batch / SPARED) } else { batch }
    }

    fn queues_in_use(&self) -> u32 {
        let in_use = self.lanes.iter().filter(|lane| lane.is_in_use()).count();
        u32::try_from(in_use).unwrap_or(u32::MAX)
    }

    /// Whether accesses of the driver are about to come: it has been interrupted, and reads and
    /// acknowledges why.
    #[must_use]
    pub const fn awaits_ack(&self) -> bool {
        self.transport.is_interrupting()
    }

    /// How many requests go one way at once. An engine without events has no use for batches.
    pub(super) fn batch_size(&self) -> u32 {
        if self.storage.port().is_some() { self.batch.size() } else { 1 }
    }

    /// Whether requests go in batches, so that an event comes for one.
    #[must_use]
    pub fn is_deep(&self) -> bool {
        self.batch_size() > 1
    }

    /// Whether the next event is the storage's.
    #[must_use]
    pub fn awaits_storage(&self) -> bool {
        self.in_flight() > 0 && self.storage.port().is_some()
    }

    /// Whether [`Device::process`] finds work: a glance that costs little and takes nothing. Only what
    /// it would act on counts, under the same conditions: the stub does not sleep while there is
    /// news, so news that stay would keep it awake for ever.
    #[must_use]
    pub fn has_news(&self, mem: &dyn GuestMemory) -> bool {
        let owes = self.hurry || self.irq || self.resumed;
        owes || (self.in_flight() > 0 && self.storage.responses() > 0)
            || (self.may_pop() && self.lanes.iter().any(|lane| lane.has_news(mem)))
    }

    /// After a restart: the former life may have finished requests, or changed the
    /// configuration, without telling. Not before the accesses that it left unanswered have
    /// been executed again: one of them may acknowledge an interrupt.
    fn tell_resumed(&mut self) -> bool {
        let tell =
            core::mem::take(&mut self.resumed) && self.transport.status().contains(DeviceStatus::DRIVER_OK);
        if tell {
            self.irq |= self.transport.raise(INT_USED | INT_CONFIG);
        }
        tell
    }

    /// Asks driver and storage for events, before the stub blocks. True: there is work now,
    /// do not block.
    pub fn arm(&mut self, mem: &dyn GuestMemory) -> bool {
        self.batch.note_rest();
        let batch = if self.is_stalled() { 1 } else { self.batch_size() };
        if batch == 1 {
            self.send_off();
        }
        self.signal_if_due(mem, false);
        let (done, new) = self.event_batches(batch);
        self.waits_for = if self.holds() { batch } else { done.max(new.into()) };
        if self.waits_for == 1 {
            // No old time may end a later wait.
            self.nap_until_ns = None;
        }
        if self.in_flight() > 0 && self.storage.arm(done) {
            return true;
        }
        // Where no chain may be taken, requests are at the storage: its event comes first.
        self.may_pop() && self.arm_queues(mem, new)
    }

    /// How many responses of the storage, and how many requests of each queue in use, are worth an
    /// event: those that make a batch with what there is, each queue bringing its part.
    fn event_batches(&self, batch: u32) -> (u32, u16) {
        let done = batch.saturating_sub(self.unsignalled).clamp(1, self.at_storage().max(1));
        if !self.is_busy() {
            return (done, 1);
        }
        let share = batch.saturating_sub(self.queued).div_ceil(self.queues_in_use().max(1)).max(1);
        (done, u16::try_from(share).unwrap_or(u16::MAX))
    }

    /// Asks for a notification of the `batch`-th request from now of each queue in use, and of the
    /// first of any other, which is news. True: there are some.
    fn arm_queues(&mut self, mem: &dyn GuestMemory, batch: u16) -> bool {
        let mut more = false;
        for lane in &mut self.lanes {
            let batch = if lane.is_in_use() { batch } else { 1 };
            let Some(queue) = lane.queue.as_mut() else { continue };
            if queue.is_armed() && queue.batch() == batch {
                continue;
            }
            match queue.arm(mem, batch) {
                Ok(arrived) => {
                    lane.kicked |= arrived;
                    more |= arrived;
                }
                Err(fault) => {
                    self.fail(fault);
                    return true;
                }
            }
        }
        more
    }

    /// Whether chains may be taken: the driver is set up and nothing older is in the way.
    fn may_pop(&self) -> bool {
        self.transport.status().is_live()
            && self.orphans == 0
            && self.held.is_empty()
            && self.pool.available() >= QUEUE_SIZE_MAX
    }

    /// Whether a whole batch waits to be collected, of which the driver was not told yet.
    fn is_batch_back(&self) -> bool {
        let batch = self.batch_size();
        batch > 1 && !self.awaits_ack() && self.storage.responses() >= batch.min(self.in_flight()).max(2)
    }

    /// Takes what the storage has finished, `limit` requests at the most.
    fn collect(&mut self, mem: &dyn GuestMemory, limit: u32) -> bool {
        let (mut worked, mut bytes) = (false, 0u64);
        for _ in 0..limit.min(self.in_flight()) {
            if bytes >= TURN_BYTES {
                break;
            }
            let io = Io { mem, pool: &self.pool, epochs: &self.epochs };
            let Some((ticket, outcome)) = self.storage.next_completion(&io) else { break };
            worked = true;
            bytes = bytes.saturating_add(ticket.operation.turn_bytes());
            match self.lanes.get_mut(usize::from(ticket.queue)) {
                Some(lane) if io.is_live(&ticket) => lane.in_flight = lane.in_flight.saturating_sub(1),
                _ => self.orphans = self.orphans.saturating_sub(1),
            }
            self.complete(mem, ticket, outcome);
        }
        worked
    }

    fn retry_held(&mut self, mem: &dyn GuestMemory) -> bool {
        let mut worked = false;
        while self.turn_bytes > 0
            && let Some(ticket) = self.held.pop_front()
        {
            if let Err(ticket) = self.submit(mem, ticket) {
                self.held.push_front(ticket);
                break;
            }
            worked = true;
        }
        worked
    }

    /// Takes chains from a queue, up to the budget.
    fn serve(&mut self, index: usize, mem: &dyn GuestMemory) -> bool {
        let mut worked = false;
        for _ in 0..BUDGET {
            // A written-through write leaves its flush behind.
            worked |= self.retry_held(mem);
            if self.turn_bytes == 0 || !self.may_pop() {
                break;
            }
            let Some(lane) = self.lanes.get_mut(index).filter(|lane| lane.wants_service()) else { break };
            let Some(queue) = lane.queue.as_mut() else { break };
            let popped = match queue.disarm(mem) {
                Ok(()) => queue.pop(mem, &mut self.pool),
                Err(fault) => Err(fault),
            };
            lane.kicked = false;
            match popped {
                Ok(Some(chain)) => {
                    crash::point(Point::Taken);
                    self.start(mem, index, chain);
                }
                Ok(None) => break,
                Err(fault) => self.fail(fault),
            }
            worked = true;
        }
        worked
    }

    /// Judges a chain and sends it on its way.
    fn start(&mut self, mem: &dyn GuestMemory, index: usize, chain: Chain) {
        self.stats.requests.bump();
        match Request::parse(&chain, &self.pool, mem, &self.geometry) {
            Ok(Ok(Request::Storage(operation))) => {
                let ticket = self.ticket(index, chain, operation);
                if let Err(ticket) = self.submit(mem, ticket) {
                    self.held.push_back(ticket);
                }
            }
            Ok(Ok(Request::Ranges(ranges))) => {
                // No operation yet: the first range is the next step.
                let ticket = self.ticket(index, chain, Operation::Flush);
                let flush = ranges.store_data() && self.write_through;
                self.follow_ups.set(&ticket.chain, FollowUp { ranges: Some(ranges), flush });
                self.complete(mem, ticket, Outcome::Done);
            }
            Ok(Ok(Request::GetId)) => {
                let room = usize::try_from(chain.writable_bytes().saturating_sub(1)).unwrap_or(ID_BYTES);
                let id = self.id.get(..room.min(ID_BYTES)).unwrap_or_default();
                let written = self.pool.writable(&chain, 0, ID_BYTES as u64).write(mem, id);
                let outcome = if written.is_ok() { Outcome::Done } else { Outcome::IoError };
                let len = written.ok().and_then(|len| u64::try_from(len).ok()).unwrap_or(0);
                self.finish(mem, index, chain, outcome.into(), len);
            }
            Ok(Err(rejected)) => {
                warn_limited!(self.limiter, "a request was refused: {rejected}");
                self.finish(mem, index, chain, rejected.into(), 0);
            }
            Err(fault) => {
                self.pool.abandon(chain);
                self.fail(fault);
            }
        }
    }

    fn ticket(&mut self, index: usize, chain: Chain, operation: Operation) -> Ticket {
        if let Operation::Read { len_bytes, .. } | Operation::Write { len_bytes, .. } = operation {
            self.stats.data_bytes.add(len_bytes);
            self.batch.note_request(len_bytes);
        }
        let flush = self.write_through && matches!(operation, Operation::Write { .. });
        self.follow_ups.set(&chain, FollowUp { ranges: None, flush });
        Ticket {
            queue: u16::try_from(index).unwrap_or(u16::MAX),
            epoch: self.epochs.get(index).copied().unwrap_or(0),
            chain,
            operation,
            data: data_run(operation),
        }
    }

    /// Hands a request to the storage; back if there is no room.
    fn submit(&mut self, mem: &dyn GuestMemory, ticket: Ticket) -> Result<(), Ticket> {
        let index = usize::from(ticket.queue);
        let io = Io { mem, pool: &self.pool, epochs: &self.epochs };
        self.turn_bytes = self.turn_bytes.saturating_sub(ticket.operation.turn_bytes());
        match self.storage.submit(&io, ticket) {
            Submitted::Done(ticket, outcome) => self.complete(mem, ticket, outcome),
            Submitted::Pending => {
                self.queued = self.queued.saturating_add(1);
                if let Some(lane) = self.lanes.get_mut(index) {
                    lane.in_flight = lane.in_flight.saturating_add(1);
                }
            }
            Submitted::Full(ticket) => return Err(ticket),
        }
        Ok(())
    }

    /// A request came back from the storage.
    fn complete(&mut self, mem: &dyn GuestMemory, mut ticket: Ticket, outcome: Outcome) {
        let index = usize::from(ticket.queue);
        if self.epochs.get(index) != Some(&ticket.epoch) {
            self.pool.abandon(ticket.chain);
            return;
        }
        let step = if outcome == Outcome::Done { self.next_step(mem, &mut ticket) } else { Ok(false) };
        let status = match step {
            Ok(true) => {
                self.held.push_back(ticket);
                return;
            }
            Ok(false) => outcome.into(),
            Err(rejected) => rejected.into(),
        };
        let data_bytes = match ticket.operation {
            Operation::Read { len_bytes, .. } if outcome == Outcome::Done => len_bytes,
            _ => 0,
        };
        self.finish(mem, index, ticket.chain, status, data_bytes);
    }

    /// Makes the ticket's operation the next one of its request: another range, then the
    /// flush of what must be durable. False: there is none.
    fn next_step(&mut self, mem: &dyn GuestMemory, ticket: &mut Ticket) -> Result<bool, Rejected> {
        let Some(follow_up) = self.follow_ups.get_mut(&ticket.chain) else { return Ok(false) };
        if let Some(ranges) = &mut follow_up.ranges
            && let Some(operation) =
                ranges.take(&ticket.chain, HEADER_BYTES, &self.pool, mem, &self.geometry)?
        {
            ticket.operation = operation;
            return Ok(true);
        }
        if core::mem::take(&mut follow_up.flush) {
            ticket.operation = Operation::Flush;
            return Ok(true);
        }
        Ok(false)
    }

    fn finish(&mut self, mem: &dyn GuestMemory, index: usize, chain: Chain, status: Status, data_bytes: u64) {
        let live = self.transport.status().is_live();
        match self.lanes.get_mut(index).and_then(|lane| lane.queue.as_mut()).filter(|_| live) {
            Some(queue) => {
                let pushed = complete::finish(mem, queue, &mut self.pool, chain, status, data_bytes);
                match pushed {
                    Ok(()) => self.stats.used.bump(),
                    Err(fault) => self.fail(fault),
                }
            }
            // The device waits for a reset: its rings are left alone.
            None => self.pool.abandon(chain),
        }
    }

    /// Shows the driver what was finished.
    fn publish(&mut self, mem: &dyn GuestMemory) {
        if !self.transport.status().is_live() {
            return;
        }
        let mut published = self.lanes.iter_mut().filter_map(|lane| lane.queue.as_mut());
        if let Err(fault) = published.try_for_each(|queue| queue.publish(mem)) {
            self.fail(fault);
        }
    }

    /// Signals what was published once it is a batch, or nothing is at the storage: each interrupt
    /// costs the driver two accesses for which its vCPU waits.
    fn signal_if_due(&mut self, mem: &dyn GuestMemory, ahead: bool) {
        let queues = self.lanes.iter().filter_map(|lane| lane.queue.as_ref());
        let unsignalled: u32 = queues.map(|queue| u32::from(queue.unsignalled())).sum();
        // Nobody can be told of what a driver that is gone was to hear, so it is not held either.
        self.unsignalled = if self.transport.status().is_live() { unsignalled } else { 0 };
        let due = self.hurry || ahead || self.at_storage() == 0 || unsignalled >= self.batch_size();
        if self.unsignalled > 0 && due {
            self.signal(mem);
        }
    }

    /// Requests that the storage was told of.
    fn at_storage(&self) -> u32 {
        self.in_flight().saturating_sub(self.queued)
    }

    /// Signals what was published, if the driver wants that; one interrupt for all of it.
    fn signal(&mut self, mem: &dyn GuestMemory) {
        self.unsignalled = 0;
        let mut signal = false;
        for lane in &mut self.lanes {
            let Some(queue) = lane.queue.as_mut() else { continue };
            lane.in_batch = queue.unsignalled() > 0;
            match queue.should_signal(mem) {
                Ok(wanted) => signal |= wanted,
                Err(fault) => {
                    self.fail(fault);
                    return;
                }
            }
        }
        if signal {
            self.irq |= self.transport.raise(INT_USED);
            self.expecting = self.is_deep();
        }
    }

    /// The driver broke the queue's rules: nothing is served until it resets the device.
    #[cold]
    fn fail(&mut self, fault: QueueFault) {
        warn_limited!(self.limiter, "the guest broke its queue: {fault}");
        self.irq |= self.transport.set_needs_reset();
        self.save();
    }
}
