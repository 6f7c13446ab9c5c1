//! The stub's devices as one: routes guest accesses, lets the devices work, interrupts. Around it
//! goes the event loop ([`crate::event_loop`]).

use crate::access::{Access, Direction, Reply};
use crate::blk::{Device, Inspection};
use crate::failpoint::{self, Failpoint};
use crate::guest_mem::GuestMemory;
use crate::ioreq::{Event, Malformed, PanicTeardown, Server, ServerState, StartError, TeardownOutcome};
use crate::irq::IrqLine;
use crate::limit::{Limiter, warn_limited};
use crate::mmio::regs::WINDOW_BYTES;
use crate::stats::{Count, DeviceStats};
use crate::storage::Storage;
use alloc::vec::Vec;
use kernel::{DomId, Hypervisor, Port};

/// Polls of the slots for each of the devices: a vCPU that is answered within a microsecond does
/// not leave its CPU.
const SLOT_POLLS: u32 = 4;
/// The same after a read, of one vCPU: often another access comes at once, and a read leaves
/// nothing to do. No more than that: other vCPUs cannot run meanwhile. With more vCPUs a poll takes
/// longer, and there are fewer.
const AFTER_READ_POLLS: usize = 4096;
/// Rounds of a busy stub for each reading of the clock, which is expensive in an emulator.
const CLOCK_ROUNDS: u32 = 16;
/// Accesses answered in one poll, so that a guest that makes many keeps nothing out.
const MAX_ACCESSES: u32 = 64;

/// A device and its place in the guest.
pub struct Attached<S> {
    /// Guest physical address of its window.
    pub mmio: u64,
    /// SPI (INTID).
    pub irq: u32,
    /// The device.
    pub device: Device<S>,
}

struct Disk<H: Hypervisor, S> {
    mmio: u64,
    line: IrqLine<H>,
    device: Device<S>,
}

impl<H: Hypervisor, S: Storage> Disk<H, S> {
    fn access(&mut self, access: Access) -> Option<Reply> {
        Some(self.device.access(access.within(self.mmio, WINDOW_BYTES)?))
    }
}

/// What accesses were answered; the latter may leave work.
#[derive(Clone, Copy, Eq, Ord, PartialEq, PartialOrd)]
enum Answered {
    Nothing,
    Reads,
    Others,
}

/// How often the slots are still polled in one [`Stub::poll`].
#[derive(Clone, Copy, Debug)]
struct SlotPolls {
    left: u32,
    after_read: u32,
    /// Polls that found accesses.
    answered: u32,
}

impl SlotPolls {
    fn new(vcpus: usize) -> SlotPolls {
        let after_read = AFTER_READ_POLLS.checked_div(vcpus).unwrap_or(0);
        SlotPolls { left: SLOT_POLLS, after_read: u32::try_from(after_read).unwrap_or(0), answered: 0 }
    }

    /// Whether to poll once more.
    fn poll_again(&mut self) -> bool {
        let again = self.left > 0;
        self.left = self.left.saturating_sub(1);
        again
    }

    fn note(&mut self, answered: Answered) {
        self.left = match answered {
            Answered::Nothing => return,
            // A driver reads several registers in a row, and a read leaves no other work.
            Answered::Reads if self.answered < MAX_ACCESSES => self.after_read,
            // A write may be a notification: its queue waits to be served.
            Answered::Reads | Answered::Others => 0,
        };
        self.answered = self.answered.saturating_add(1);
    }
}

/// An ioreq server with the devices behind it.
pub struct Stub<H: Hypervisor, M, S> {
    // Dropped first: the server answers its slots before the devices go.
    server: Server<H>,
    mem: M,
    disks: Vec<Disk<H, S>>,
    hv: H,
    /// The clock is read again in that many rounds, if a disk waits for a time; 0 or 1: in the next.
    clock_in: u32,
    /// Accesses answered.
    answers: Count,
    limiter: Limiter,
}

impl<H: Hypervisor, M: GuestMemory, S: Storage> Stub<H, M, S> {
    /// Claims the devices' windows and enables the server. The guest may run from now on.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left behind.
    pub fn start(hv: &H, target: DomId, mem: M, devices: Vec<Attached<S>>) -> Result<Self, StartError> {
        let last = |first: u64| first.saturating_add(WINDOW_BYTES - 1);
        let ranges: Vec<_> = devices.iter().map(|attached| attached.mmio..=last(attached.mmio)).collect();
        let server = Server::start(hv, target, &ranges)?;
        Ok(Self::compose(hv, target, server, mem, devices))
    }

    /// Goes on with a server of the incarnation before and the devices that were resumed for it.
    #[must_use]
    pub fn resume(hv: &H, server: Server<H>, mem: M, devices: Vec<Attached<S>>) -> Self {
        let target = server.state().target;
        Self::compose(hv, target, server, mem, devices)
    }

    fn compose(hv: &H, target: DomId, server: Server<H>, mem: M, devices: Vec<Attached<S>>) -> Self {
        let mut disks = Vec::with_capacity(devices.len());
        for Attached { mmio, irq, device } in devices {
            disks.push(Disk { mmio, line: IrqLine::new(hv, target, irq), device });
        }
        Stub {
            server,
            mem,
            disks,
            hv: hv.clone(),
            clock_in: 0,
            answers: Count::default(),
            limiter: Limiter::new(),
        }
    }

    /// What the next incarnation needs to take the server over.
    #[must_use]
    pub fn server_state(&self) -> ServerState {
        self.server.state()
    }

    /// Every port to wait for: the vCPUs' and the storage engines'. An engine's changes when it
    /// has another storage backend: ask each time.
    pub fn ports(&self) -> impl Iterator<Item = Port> {
        let storages = self.disks.iter().filter_map(|disk| disk.device.storage().port());
        self.server.ports().iter().copied().chain(storages)
    }

    /// What a panic handler needs to release the guest's vCPUs.
    #[must_use]
    pub fn panic_teardown(&self) -> PanicTeardown<H> {
        self.server.panic_teardown()
    }

    /// The storage engines, in the order of the devices.
    pub fn storages(&mut self) -> impl Iterator<Item = &mut S> {
        self.disks.iter_mut().map(|disk| disk.device.storage_mut())
    }

    /// Accesses of the guest that were answered, each with a notification of Xen.
    #[must_use]
    pub fn answers(&self) -> Count {
        self.answers
    }

    /// What each device has done, in their order, and its storage engine.
    pub fn stats(&self) -> impl Iterator<Item = (DeviceStats, &S)> {
        self.disks.iter().map(|disk| (disk.device.stats(), disk.device.storage()))
    }

    /// The state of each device's rings and interrupts, in their order, to be shown.
    pub fn inspect(&self) -> impl Iterator<Item = Inspection<'_, S>> {
        self.disks.iter().map(|disk| disk.device.inspect(self.mem.inner()))
    }

    /// The guest's memory.
    #[must_use]
    pub fn memory(&self) -> &M {
        &self.mem
    }

    /// Has every disk whose storage has another length now tell the guest, with its next turn or
    /// [`Stub::enable_events`]. Call it when a storage engine says so.
    pub fn update_capacities(&mut self) {
        for disk in &mut self.disks {
            disk.device.update_capacity();
        }
    }

    /// Answers every waiting access, then lets each device do a bounded amount of work.
    /// Returns whether there was any; call again then.
    pub fn run_once(&mut self) -> bool {
        // First of all: a vCPU stands still for each of them.
        let mut worked = self.answer_all() != Answered::Nothing;
        // Before the turns: what is overdue goes in this round.
        self.keep_time();
        for index in 0..self.disks.len() {
            let Some(disk) = self.disks.get_mut(index) else { break };
            let busy = disk.device.process(self.mem.inner());
            // Not after all turns: the guest works on this disk's answers during the others'.
            if disk.device.take_irq() {
                disk.line.assert();
            }
            if busy {
                worked = true;
                // No vCPU waits for another device's batch.
                self.answer_all();
            }
        }
        worked
    }

    /// Has each disk send off what it has held back for long enough. A busy stub does not sleep, so
    /// no sleep's end tells the time: the clock is read when something becomes held, after a sleep,
    /// and every [`CLOCK_ROUNDS`].
    fn keep_time(&mut self) {
        let devices = || self.disks.iter().map(|disk| &disk.device);
        // Nobody waits for a time, and a reading of the clock is expensive.
        if !devices().any(Device::needs_clock) {
            return;
        }
        // What has just become held needs its deadline at once, or it would begin later than it should.
        if self.clock_in > 1 && !devices().any(Device::is_untimed) {
            self.clock_in = self.clock_in.saturating_sub(1);
            return;
        }
        self.clock_in = CLOCK_ROUNDS;
        let (now_ns, busy_disks) = (self.hv.now_ns(), self.busy_disks());
        self.disks.iter_mut().for_each(|disk| disk.device.check_deadline(now_ns, busy_disks));
    }

    /// Disks that are busy, which get on more slowly together.
    fn busy_disks(&self) -> u32 {
        let busy_disks = self.disks.iter().filter(|disk| disk.device.is_busy()).count();
        u32::try_from(busy_disks).unwrap_or(u32::MAX)
    }

    /// Answers accesses that wait, at once: each moment counts until the vCPU leaves its CPU. Then
    /// polls queues and rings, which takes nothing and clears no event. Whether there was
    /// anything.
    #[must_use]
    pub fn poll(&mut self) -> bool {
        let mut slots = SlotPolls::new(self.server.ports().len());
        while slots.poll_again() {
            let answered = self.answer_all();
            slots.note(answered);
        }
        // Queues and rings last: no vCPU stands still for them.
        slots.answered > 0 || self.disks.iter().any(|disk| disk.device.has_pending_work(self.mem.inner()))
    }

    /// Whether polling beats blocking: where an access of the guest is about to come. Not
    /// while requests go in batches, since an event comes for each, and not while the storage
    /// works: it needs the CPU more.
    #[must_use]
    pub fn should_busy_poll(&self) -> bool {
        let mut devices = self.disks.iter().map(|disk| &disk.device);
        let mut others = devices.clone();
        let awaits_event =
            |device: &Device<S>| device.is_busy() && (device.is_coalescing() || device.awaits_storage());
        // A driver that was interrupted makes two accesses at once, and each holds its vCPU.
        devices.any(Device::awaits_ack) || !others.any(awaits_event)
    }

    /// Asks guest and storage for events. True: something arrived meanwhile, run again
    /// instead of blocking.
    pub fn enable_events(&mut self) -> bool {
        // Clear before the last poll: what comes after it sets the bit again.
        let mut more = self.server.enable_events();
        for disk in &mut self.disks {
            if let Some(port) = disk.device.storage_mut().port() {
                self.hv.evtchn_take_pending(port);
            }
            // This may also signal what was held for a batch that is smaller now.
            more |= disk.device.enable_notifications(self.mem.inner());
            if disk.device.take_irq() {
                disk.line.assert();
            }
        }
        more
    }

    /// After [`Stub::enable_events`]: when to run again even without an event, because it asked for
    /// events of batches only, or because an interrupt may be lost. `now_ns` reads the clock.
    pub fn hold_deadline_ns(&mut self, now_ns: impl FnOnce() -> u64) -> Option<u64> {
        // The first round after a sleep reads the clock.
        self.clock_in = 0;
        // An event comes for everything: the sleep needs no end, and the clock no reading.
        if !self.disks.iter().any(|disk| disk.device.needs_timer()) {
            return None;
        }
        let (busy_disks, now_ns) = (self.busy_disks(), now_ns());
        self.disks.iter_mut().filter_map(|disk| disk.device.hold_deadline_ns(now_ns, busy_disks)).min()
    }

    /// Ends the server: no access is answered any more.
    pub fn end(&mut self) -> TeardownOutcome {
        self.server.end()
    }

    /// Ends the server, then gives the engines back for their orderly end.
    pub fn stop(mut self) -> (TeardownOutcome, Vec<S>) {
        let teardown = self.end();
        (teardown, self.disks.into_iter().map(|disk| disk.device.into_storage()).collect())
    }

    /// Answers every access that waits. To find none is what a poll mostly does, so that much is inline.
    #[inline(always)]
    fn answer_all(&mut self) -> Answered {
        self.server.next_waiting(0).map_or(Answered::Nothing, |first| self.answer_from(first))
    }

    /// Answers the access of vCPU `vcpu`, and those that wait of the vCPUs after it.
    #[inline(never)]
    fn answer_from(&mut self, mut vcpu: usize) -> Answered {
        let mut answered = Answered::Nothing;
        loop {
            answered = answered.max(self.answer(vcpu));
            match self.server.next_waiting(vcpu.saturating_add(1)) {
                Some(next) => vcpu = next,
                None => return answered,
            }
        }
    }

    /// Answers an access of vCPU `vcpu`, if there is one.
    fn answer(&mut self, vcpu: usize) -> Answered {
        let Some(slot) = self.server.take(vcpu) else { return Answered::Nothing };
        self.answers.bump();
        match slot.event() {
            Ok(Event::Mmio(access)) => {
                let reply = self.disks.iter_mut().find_map(|disk| disk.access(access));
                failpoint::hit(Failpoint::Answer);
                // Between two windows, or across an end.
                slot.answer(reply.unwrap_or(Reply::ALL_ONES));
                if access.direction == Direction::Read {
                    return Answered::Reads;
                }
            }
            Ok(Event::Invalidate) => {
                // Xen holds the vCPU until no mapping of the old frames can be used.
                self.mem.invalidate();
                slot.answer(Reply::NONE);
            }
            Err(malformed) => {
                Self::note(&mut self.limiter, malformed);
                drop(slot);
            }
        }
        Answered::Others
    }

    fn note(limiter: &mut Limiter, malformed: Malformed) {
        warn_limited!(limiter, "{malformed}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often the slots are polled if this is what the first polls find, and nothing after that.
    fn polls(vcpus: usize, found: &[Answered]) -> u32 {
        let mut slots = SlotPolls::new(vcpus);
        let mut found = found.iter().copied();
        let mut polls = 0;
        while slots.poll_again() {
            slots.note(found.next().unwrap_or(Answered::Nothing));
            polls += 1;
        }
        polls
    }

    #[test]
    fn the_slots_are_polled_longer_after_a_read_and_not_at_all_after_anything_else() {
        use Answered::{Nothing, Others, Reads};
        assert_eq!(polls(1, &[]), 4);
        assert_eq!(polls(1, &[Nothing, Nothing, Nothing, Reads]), 4 + 4096);
        assert_eq!(polls(2, &[Nothing, Reads]), 2 + 2048, "fewer with more vCPUs, each of which takes time");
        assert_eq!(polls(112, &[Reads]), 1 + 36);
        assert_eq!(polls(1, &[Reads, Nothing, Reads]), 3 + 4096, "anew after each");
        assert_eq!(polls(1, &[Others]), 1);
        assert_eq!(polls(1, &[Reads, Others]), 2);
        assert_eq!(polls(1, &[Reads; 1000]), 65, "a guest that reads on end keeps nothing out");
    }
}
