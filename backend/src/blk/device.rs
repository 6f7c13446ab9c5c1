//! One virtio-blk device: registers, queues and storage, and the requests between them.
//!
//! [`Device::access`] answers a guest's access and never touches guest memory or storage;
//! [`Device::process`] does the work afterwards. While there is work the queues are polled
//! and the driver need not notify; [`Device::enable_notifications`] asks for notifications before the stub
//! blocks.
//!
//! Each queue has an epoch that a reset advances. A request of an older epoch is an orphan:
//! its data and its ring are not touched any more, and new requests wait until the last
//! orphan has come back from the storage, so that no late write can overtake them.

use super::follow_up::FollowUps;
use super::journal::{DeviceJournal, DeviceState};
use super::rings::GrantedQueues;
use super::{config, rings};
use crate::access::{Access, Direction, Reply};
use crate::coalesce::Coalescer;
use crate::failpoint::{self, Failpoint};
use crate::guest_mem::{GuestMemory, RingKeeper};
use crate::journal::JournalError;
use crate::limit::{Limiter, warn_limited};
use crate::mmio::regs::{F_EVENT_IDX, F_INDIRECT_DESC, changes_set_up};
use crate::mmio::{Effect, STATE_QUEUES, Transport};
use crate::stats::DeviceStats;
use crate::storage::{Geometry, Storage, Ticket};
use crate::virtq::queue::RingFeatures;
use crate::virtq::{Layout, Queue, SegmentPool};
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec;
use heapless::Deque;

/// Bytes of the identification string (`VIRTIO_BLK_ID_BYTES`).
pub(super) const ID_BYTES: usize = 20;
/// Segments for all requests in flight: room for a full queue of small requests and for
/// several of the longest chains.
const POOL_SEGMENTS: u16 = 3072;
/// Requests that a device takes on at most. Each may come back from the storage with a flush or a
/// range to follow, and then has to wait for room. No engine takes more.
pub(super) const REQUESTS: usize = 512;
/// Queues at most: more vCPUs share them.
pub const MAX_QUEUES: u16 = 8;
const _: () = assert!(MAX_QUEUES as usize <= STATE_QUEUES);

/// What can be chosen about a device.
#[derive(Clone, Debug)]
pub struct DeviceOptions {
    /// Serial number, cut at 20 bytes.
    pub serial: String,
    /// Refuse writes, whatever the storage can do.
    pub read_only: bool,
    /// Offer discard and secure erase, where the storage can.
    pub discard: bool,
    /// Queues: one at least, and no more than [`MAX_QUEUES`] are made.
    pub queues: u16,
    /// The guest grants its memory, and this is what that asks of the queues.
    pub grants: Option<GrantedQueues>,
}

impl Default for DeviceOptions {
    fn default() -> DeviceOptions {
        DeviceOptions { serial: String::new(), read_only: false, discard: true, queues: 1, grants: None }
    }
}

/// A queue of the device, ready or not.
#[derive(Debug, Default)]
pub(super) struct QueueSlot {
    pub(super) queue: Option<Queue>,
    /// The driver notified, or is known to have queued something.
    pub(super) notified: bool,
}

impl QueueSlot {
    /// There may be chains to take.
    pub(super) fn wants_service(&self) -> bool {
        // Of less than a batch the driver does not notify.
        self.queue.as_ref().is_some_and(|queue| {
            self.notified || !queue.is_notification_enabled() || queue.notification_threshold() > 1
        })
    }

    /// There are chains to take, or the ring cannot be reached, which ends the queue's use.
    pub(super) fn has_available(&self, mem: &dyn GuestMemory) -> bool {
        self.wants_service()
            && self.queue.as_ref().is_some_and(|queue| self.notified || queue.has_available(mem))
    }
}

/// A disk as the guest sees it.
pub struct Device<S> {
    pub(super) transport: Transport,
    pub(super) queues: Box<[QueueSlot]>,
    /// The one that is served first next time.
    pub(super) first_queue: usize,
    pub(super) epochs: Box<[u32]>,
    /// Who keeps the rings, if somebody has to.
    pub(super) rings: Option<Rc<dyn RingKeeper>>,
    pub(super) pool: SegmentPool,
    pub(super) follow_ups: FollowUps,
    pub(super) storage: S,
    pub(super) geometry: Geometry,
    pub(super) id: [u8; ID_BYTES],
    /// Requests that the storage had no room for, and flushes that follow a write.
    pub(super) waiting: Box<Deque<Ticket, REQUESTS>>,
    pub(super) irq: bool,
    /// A write is flushed before it is answered.
    pub(super) write_through: bool,
    /// What outlives a restart, if that is wanted.
    journal: Option<DeviceJournal>,
    /// The driver is to be interrupted for all that the previous incarnation may not have told it.
    pub(super) resumed: bool,
    /// How many requests go one way at once.
    pub(super) coalescer: Coalescer,
    /// Bytes that may still be moved in this turn.
    pub(super) turn_bytes: u64,
    pub(super) stats: DeviceStats,
    pub(super) limiter: Limiter,
}

impl<S: Storage> Device<S> {
    /// A device after reset.
    #[must_use]
    pub fn new(storage: S, options: &DeviceOptions) -> Device<S> {
        let mut geometry = storage.geometry();
        geometry.read_only |= options.read_only;
        geometry.discard = geometry.discard.filter(|_| options.discard);
        let queues = options.queues.clamp(1, MAX_QUEUES);
        let (identity, space) = config::offer(&geometry, queues, options.grants.as_ref());
        let mut id = [0; ID_BYTES];
        for (to, from) in id.iter_mut().zip(options.serial.bytes()) {
            *to = from;
        }
        Device {
            transport: Transport::new(identity, space),
            queues: core::iter::repeat_with(QueueSlot::default).take(usize::from(queues)).collect(),
            first_queue: 0,
            epochs: vec![0; usize::from(queues)].into(),
            rings: options.grants.as_ref().map(|grants| grants.keeper.clone()),
            pool: SegmentPool::new(POOL_SEGMENTS),
            follow_ups: FollowUps::new(POOL_SEGMENTS),
            storage,
            geometry,
            id,
            waiting: Box::default(),
            irq: false,
            write_through: false,
            journal: None,
            resumed: false,
            coalescer: Coalescer::new(queues),
            turn_bytes: 0,
            stats: DeviceStats::default(),
            limiter: Limiter::new(),
        }
    }

    /// Has the device, which is new, write down what must outlive a restart.
    #[must_use]
    pub fn with_journal(mut self, journal: DeviceJournal) -> Device<S> {
        self.journal = Some(journal);
        self.save();
        self
    }

    /// A device that goes on where the previous incarnation's stopped. Requests that it had under way
    /// are done again, the driver is interrupted once. A driver that broke its rings meanwhile
    /// has to reset the device.
    ///
    /// # Errors
    /// [`JournalError`] if the journal is not one of this device.
    pub fn resume(
        storage: S,
        options: &DeviceOptions,
        journal: DeviceJournal,
        mem: &dyn GuestMemory,
    ) -> Result<Device<S>, JournalError> {
        let state = journal.load()?;
        let mut device = Device::new(storage, options);
        let transport =
            Transport::resume(*device.transport.identity(), &state.transport, device.transport.config())?;
        let told = config::check_same(device.transport.config(), transport.config())?;
        device.transport = transport;
        // As the driver knows it: `update_capacity` tells of another.
        device.geometry.capacity_sectors = told;
        device.write_through = state.write_through != 0;
        device.resumed = true;
        let features = device.ring_features();
        for (index, slot) in device.queues.iter_mut().enumerate() {
            let Some(layout) = device.transport.layout(index)? else { continue };
            let journal = journal.queue(index).ok_or(JournalError::Corrupt)?;
            let state = journal.load()?;
            match Queue::resume(layout, features, journal, state, mem) {
                Ok(queue) => {
                    slot.queue = Some(queue);
                    slot.notified = true;
                }
                Err(fault) => {
                    warn_limited!(device.limiter, "queue {index} cannot be resumed: {fault}");
                    device.transport.set_needs_reset();
                }
            }
        }
        device.journal = Some(journal);
        device.save();
        Ok(device)
    }

    /// Writes the registers down, if that is wanted.
    #[cold]
    #[inline(never)]
    pub(super) fn save(&self) {
        if let Some(journal) = &self.journal {
            let write_through = u64::from(self.write_through);
            journal.save(&DeviceState { transport: self.transport.state(), write_through });
        }
    }

    fn ring_features(&self) -> RingFeatures {
        RingFeatures {
            event_idx: self.transport.negotiated(F_EVENT_IDX),
            indirect: self.transport.negotiated(F_INDIRECT_DESC),
        }
    }

    /// The storage engine.
    pub fn storage_mut(&mut self) -> &mut S {
        &mut self.storage
    }

    /// The storage engine.
    #[must_use]
    pub fn storage(&self) -> &S {
        &self.storage
    }

    /// Gives the storage engine up, for its orderly end.
    #[must_use]
    pub fn into_storage(self) -> S {
        self.storage
    }

    /// Takes over the storage's length, if that has changed, and tells the driver by a
    /// configuration interrupt: it is due with [`Device::take_irq`]. Requests that were
    /// judged by the old length are the storage's to refuse.
    pub fn update_capacity(&mut self) -> bool {
        let capacity = self.storage.geometry().capacity_sectors;
        if capacity == self.geometry.capacity_sectors {
            return false;
        }
        self.geometry.capacity_sectors = capacity;
        self.transport.set_config(config::CAPACITY, &capacity.to_le_bytes());
        self.irq |= self.transport.announce_config();
        self.save();
        true
    }

    /// Requests at the storage, orphans included.
    #[must_use]
    pub const fn in_flight(&self) -> u32 {
        self.coalescer.in_flight()
    }

    /// Decides a guest's access; `access.addr` is the offset in the window. A reset takes
    /// effect here, before the guest goes on; a notification is only noted.
    pub fn access(&mut self, access: Access) -> Reply {
        match access.direction {
            Direction::Read => {
                failpoint::hit(Failpoint::Access);
                self.transport.read(access.addr, access.width)
            }
            Direction::Write(value) => {
                self.write(access, value);
                Reply::NONE
            }
        }
    }

    // Not inlined: a read, for whose answer nanoseconds count, saves the registers of this.
    #[inline(never)]
    fn write(&mut self, access: Access, value: u64) {
        match self.transport.write(access.addr, access.width, value) {
            Effect::None => {}
            Effect::Notify(index) => {
                self.stats.notifications.bump();
                if let Some(slot) = self.queues.get_mut(usize::from(index)) {
                    slot.notified = true;
                }
            }
            Effect::Config { offset, width, value } => self.write_config(offset, width, value),
            Effect::Status { features_ok, driver_ok } => self.on_status(features_ok, driver_ok),
            Effect::QueueReady(index, layout) => self.start_queue(index, layout),
            Effect::QueueStopped(index) => self.stop_queue(index),
            Effect::BadQueue(rule) => {
                warn_limited!(self.limiter, "the guest set up a queue wrongly: {rule}");
                self.irq |= self.transport.set_needs_reset();
            }
            Effect::Refused(accepted) => {
                let offered = self.transport.identity().features;
                warn_limited!(
                    self.limiter,
                    "the guest's driver accepts features {accepted:#x}, refused: {offered:#x} are offered"
                );
            }
            Effect::Legacy => {
                warn_limited!(
                    self.limiter,
                    "the guest's driver speaks virtio-mmio version 1 (legacy), this disk version 2 only"
                );
            }
            Effect::Reset => {
                for index in 0..u16::try_from(self.queues.len()).unwrap_or(u16::MAX) {
                    self.stop_queue(index);
                }
                self.reset_cache();
                self.irq = false;
                self.coalescer.on_reset();
            }
        }
        failpoint::hit(Failpoint::Access);
        if changes_set_up(&access) {
            self.save();
        }
    }

    /// The driver has set these bits of the status.
    fn on_status(&mut self, features_ok: bool, driver_ok: bool) {
        if features_ok {
            self.start_cache();
            // A queue that was made ready earlier had to wait: the features decide what its rings hold.
            for index in 0..self.transport.identity().queues {
                if let Ok(Some(layout)) = self.transport.layout(index.into()) {
                    self.start_queue(index, layout);
                }
            }
        }
        if driver_ok {
            // The driver may have queued requests before.
            self.queues.iter_mut().for_each(|slot| slot.notified = true);
            self.irq |= self.transport.tell_config();
        }
    }

    fn start_queue(&mut self, index: u16, layout: Layout) {
        let features = self.ring_features();
        if let Err(fault) = rings::keep(self.rings.as_deref(), &layout) {
            self.fail(fault.into());
            return;
        }
        if let Some(slot) = self.queues.get_mut(usize::from(index)) {
            let journal = self.journal.as_ref().and_then(|journal| journal.queue(usize::from(index)));
            slot.queue = Some(Queue::new(layout, features).with_journal(journal));
        }
    }

    /// Forgets a queue and its requests. Those at the storage become orphans.
    fn stop_queue(&mut self, index: u16) {
        let at = usize::from(index);
        let (Some(slot), Some(epoch)) = (self.queues.get_mut(at), self.epochs.get_mut(at)) else { return };
        let Some(queue) = slot.queue.take() else { return };
        *slot = QueueSlot::default();
        // Before the answer: the driver takes its rings' pages back then.
        rings::release(self.rings.as_deref(), queue.layout());
        self.coalescer.on_queue_reset(at);
        *epoch = epoch.wrapping_add(1);
        for _ in 0..self.waiting.len() {
            let Some(ticket) = self.waiting.pop_front() else { break };
            if ticket.queue == index {
                self.pool.abandon(ticket.chain);
            } else {
                // There is room: it was just taken out.
                let _ = self.waiting.push_back(ticket);
            }
        }
    }

    /// Whether an interrupt is due; asking takes it. One for each batch.
    pub fn take_irq(&mut self) -> bool {
        let due = core::mem::take(&mut self.irq);
        self.stats.interrupts.add(due.into());
        due
    }

    /// What it has done.
    #[must_use]
    pub fn stats(&self) -> DeviceStats {
        self.stats
    }
}
