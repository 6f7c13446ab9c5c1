//! The work between queues and storage: completions in, requests out, one interrupt for
//! all of it.

use super::complete::{Answer, BlkStatus};
use super::device::{Device, ID_BYTES, REQUESTS};
use super::follow_up::FollowUp;
use super::header::STATUS_BYTES;
use super::reject::Rejected;
use super::request::{Request, TURN_BYTES, data_run};
use crate::failpoint::{self, Failpoint};
use crate::guest_mem::GuestMemory;
use crate::limit::warn_limited;
use crate::mmio::regs::{INT_CONFIG, INT_USED};
use crate::mmio::status::Status;
use crate::storage::{Io, Operation, Outcome, Storage, Submitted, Ticket};
use crate::virtq::{Chain, ChainView, QUEUE_SIZE_MAX, QueueFault};

/// Chains taken from a queue before other devices and vCPUs get a turn.
const BUDGET: u32 = 64;

impl<S: Storage> Device<S> {
    /// Does a bounded amount of work: completions first, then new requests. Returns whether
    /// there was any; call again then.
    pub fn process(&mut self, mem: &dyn GuestMemory) -> bool {
        let mut worked = self.tell_resumed();
        // Before anything is taken: the depth is what the driver sees.
        self.note_outstanding(mem);
        self.turn_bytes = TURN_BYTES;
        // While the rest of a batch is copied, the driver's vCPU wakes and comes to ask why.
        let ahead = self.is_batch_back();
        // Completions first: they free pages and segments, which new requests need.
        worked |= self.collect(mem, if ahead { 1 } else { u32::MAX });
        // Then what waits already, so that requests keep their order.
        worked |= self.retry_waiting(mem);
        // Storage may have room for one queue's requests only: each comes first in turn.
        let (first, end) = (self.first_queue, self.queues.len());
        for index in (first..end).chain(0..first) {
            worked |= self.serve(index, mem);
        }
        let next = first.saturating_add(1);
        self.first_queue = if next < end { next } else { 0 };
        // Once for all queues, so that the storage backend gets one event.
        self.send_if_due();
        if worked {
            failpoint::hit(Failpoint::Finished);
            self.publish(mem);
        }
        self.signal_if_due(mem, ahead);
        self.coalescer.on_turn_end(worked);
        worked
    }

    /// After a restart: the previous incarnation may have finished requests, or changed the
    /// configuration, without telling. Not before the accesses that it left unanswered have
    /// been executed again: one of them may acknowledge an interrupt.
    fn tell_resumed(&mut self) -> bool {
        // A driver that was not set up has given no requests, and must not be interrupted (section 2.1.2).
        let tell = core::mem::take(&mut self.resumed) && self.transport.status().contains(Status::DRIVER_OK);
        if tell {
            self.irq |= self.transport.raise(INT_USED | INT_CONFIG);
        }
        tell
    }

    /// Whether chains may be taken: the driver is set up and nothing older is in the way.
    pub(super) fn may_pop(&self) -> bool {
        let in_flight = usize::try_from(self.in_flight()).unwrap_or(usize::MAX);
        self.transport.status().is_live()
            // A late write of an orphan could land after a new one.
            && !self.coalescer.has_orphans()
            // What waits for room comes first, and more than that has no room either.
            && self.waiting.is_empty()
            // All that is under way may have to wait when it comes back.
            && in_flight < REQUESTS
            // Room for the longest chain that a driver may build.
            && self.pool.available() >= QUEUE_SIZE_MAX
    }

    /// Takes what the storage has finished, `limit` requests at the most.
    fn collect(&mut self, mem: &dyn GuestMemory, limit: u32) -> bool {
        let (mut worked, mut bytes) = (false, 0u64);
        // No more than there are: an engine may need work only to find out that nothing is done.
        for _ in 0..limit.min(self.in_flight()) {
            // Copies take time, in which no vCPU is answered.
            if bytes >= TURN_BYTES {
                break;
            }
            let io = Io { mem, pool: &self.pool, epochs: &self.epochs };
            let Some((ticket, outcome)) = self.storage.next_completion(&io) else { break };
            worked = true;
            bytes = bytes.saturating_add(ticket.operation.turn_bytes());
            self.coalescer.on_completed(io.is_live(&ticket).then_some(usize::from(ticket.queue)));
            self.complete(mem, ticket, outcome);
        }
        worked
    }

    /// Keeps a request until the storage has room for it.
    #[inline(never)]
    fn wait(&mut self, mem: &dyn GuestMemory, ticket: Ticket) {
        if let Err(ticket) = self.waiting.push_back(ticket) {
            self.refuse(mem, ticket);
        }
    }

    /// Answers a request that nobody can keep. `may_pop` sees to it that there is none.
    #[cold]
    fn refuse(&mut self, mem: &dyn GuestMemory, ticket: Ticket) {
        self.complete_chain(mem, usize::from(ticket.queue), ticket.chain, Answer::bare(Outcome::IoError));
    }

    fn retry_waiting(&mut self, mem: &dyn GuestMemory) -> bool {
        let mut worked = false;
        while self.turn_bytes > 0
            && let Some(ticket) = self.waiting.pop_front()
        {
            if let Err(ticket) = self.submit(mem, ticket) {
                // Still no room. It stays the first, in the place that it had.
                if let Err(ticket) = self.waiting.push_front(ticket) {
                    self.refuse(mem, ticket);
                }
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
            worked |= self.retry_waiting(mem);
            // Other devices and the vCPUs get a turn.
            if self.turn_bytes == 0 || !self.may_pop() {
                break;
            }
            let Some(slot) = self.queues.get_mut(index).filter(|slot| slot.wants_service()) else { break };
            let Some(queue) = slot.queue.as_mut() else { break };
            // While the queue is served, the driver need not notify (section 2.7.10).
            let popped = match queue.disable_notification(mem) {
                Ok(()) => queue.pop(mem, &mut self.pool),
                Err(fault) => Err(fault),
            };
            // What comes after this reading of the ring is polled, or notified anew.
            slot.notified = false;
            match popped {
                Ok(Some(chain)) => {
                    failpoint::hit(Failpoint::Taken);
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
        let view = ChainView::new(&chain, &self.pool, mem);
        match Request::parse(view, &self.geometry) {
            Ok(Request::Storage(operation)) => {
                let ticket = self.ticket(index, chain, operation);
                if let Err(ticket) = self.submit(mem, ticket) {
                    // The storage is full: the next completion makes room.
                    self.wait(mem, ticket);
                }
            }
            Ok(Request::Ranges(ranges)) => {
                // No operation yet: the first range is the next step.
                let ticket = self.ticket(index, chain, Operation::Flush);
                let flush = ranges.store_data() && self.write_through;
                self.follow_ups.set(&ticket.chain, FollowUp { ranges: Some(ranges), flush });
                self.complete(mem, ticket, Outcome::Done);
            }
            Ok(Request::GetId) => {
                // Section 5.2.6: 20 bytes. A driver that gives fewer gets the first of them.
                let room =
                    usize::try_from(view.writable_bytes().saturating_sub(STATUS_BYTES)).unwrap_or(ID_BYTES);
                let id = self.id.get(..room.min(ID_BYTES)).unwrap_or_default();
                let written = view.writable(0..ID_BYTES as u64).write(id);
                let outcome = if written.is_ok() { Outcome::Done } else { Outcome::IoError };
                let data_bytes = written.ok().and_then(|len| u64::try_from(len).ok()).unwrap_or(0);
                self.complete_chain(mem, index, chain, Answer { status: outcome.into(), data_bytes });
            }
            Ok(Request::Rejected(rejected)) => {
                warn_limited!(self.limiter, "a request was refused: {rejected}");
                self.complete_chain(mem, index, chain, Answer::bare(rejected));
            }
            Err(fault) => {
                // No status can be told, so nothing is.
                self.pool.abandon(chain);
                self.fail(fault);
            }
        }
    }

    fn ticket(&mut self, index: usize, chain: Chain, operation: Operation) -> Ticket {
        if let Operation::Read { len_bytes, .. } | Operation::Write { len_bytes, .. } = operation {
            self.stats.data_bytes.add(len_bytes);
            self.coalescer.on_request(len_bytes);
        }
        // As the cache mode is now: a later change concerns later writes.
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
        // Counted also if the storage is full: the turn ends then anyway.
        self.turn_bytes = self.turn_bytes.saturating_sub(ticket.operation.turn_bytes());
        match self.storage.submit(&io, ticket) {
            Submitted::Done(ticket, outcome) => self.complete(mem, ticket, outcome),
            Submitted::Pending => self.coalescer.on_submitted(index),
            Submitted::Full(ticket) => return Err(ticket),
        }
        Ok(())
    }

    /// A request came back from the storage.
    fn complete(&mut self, mem: &dyn GuestMemory, mut ticket: Ticket, outcome: Outcome) {
        let index = usize::from(ticket.queue);
        if self.epochs.get(index) != Some(&ticket.epoch) {
            // An orphan: its buffers and its ring belong to the driver again.
            self.pool.abandon(ticket.chain);
            return;
        }
        // After an error the rest of the request is not tried: one status tells of all of it.
        let step = if outcome == Outcome::Done { self.next_step(mem, &mut ticket) } else { Ok(false) };
        let status: BlkStatus = match step {
            Ok(true) => {
                // Behind what waits already. It must not recurse: a request may have many steps.
                self.wait(mem, ticket);
                return;
            }
            Ok(false) => outcome.into(),
            Err(rejected) => rejected.into(),
        };
        // What a failed read left in the buffers does not count.
        let data_bytes = match ticket.operation {
            Operation::Read { len_bytes, .. } if outcome == Outcome::Done => len_bytes,
            _ => 0,
        };
        self.complete_chain(mem, index, ticket.chain, Answer { status, data_bytes });
    }

    /// Makes the ticket's operation the next one of its request: another range, then the
    /// flush of what must be durable. False: there is none.
    fn next_step(&mut self, mem: &dyn GuestMemory, ticket: &mut Ticket) -> Result<bool, Rejected> {
        let Some(follow_up) = self.follow_ups.get_mut(&ticket.chain) else { return Ok(false) };
        // Each range is judged again: the guest may have changed it since the request was taken.
        if let Some(ranges) = &mut follow_up.ranges
            && let Some(operation) =
                ranges.take(ChainView::new(&ticket.chain, &self.pool, mem), &self.geometry)?
        {
            ticket.operation = operation;
            return Ok(true);
        }
        // Last: a flush covers only writes that are done (section 5.2.6.2).
        if core::mem::take(&mut follow_up.flush) {
            ticket.operation = Operation::Flush;
            return Ok(true);
        }
        Ok(false)
    }

    fn complete_chain(&mut self, mem: &dyn GuestMemory, index: usize, chain: Chain, answer: Answer) {
        let live = self.transport.status().is_live();
        match self.queues.get_mut(index).and_then(|slot| slot.queue.as_mut()).filter(|_| live) {
            Some(queue) => {
                let written = answer.write(ChainView::new(&chain, &self.pool, mem));
                match queue.add_used(mem, &mut self.pool, chain, written) {
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
        // The device waits for a reset: its rings are left alone.
        if !self.transport.status().is_live() {
            return;
        }
        let mut published = self.queues.iter_mut().filter_map(|slot| slot.queue.as_mut());
        if let Err(fault) = published.try_for_each(|queue| queue.publish_used(mem)) {
            self.fail(fault);
        }
    }

    /// The driver broke the queue's rules: nothing is served until it resets the device.
    #[cold]
    pub(super) fn fail(&mut self, fault: QueueFault) {
        warn_limited!(self.limiter, "the guest broke its queue: {fault}");
        self.irq |= self.transport.set_needs_reset();
        self.save();
    }
}
