//! The register file of one virtio-mmio device (virtio 1.3, section 4.2.2): what each access
//! returns and what it asks of the device. Pure: no guest memory, no hypercall.

use super::features::{FeatureRegs, half};
use super::interrupt::Interrupt;
use super::queue_regs::QueueRegs;
use super::regs;
use super::state::{QueueRegsState, STATE_CONFIG_BYTES, STATE_QUEUES, TransportState};
use super::status::Status;
use crate::access::{Reply, Width};
use crate::guest_mem::GuestAddr;
use crate::journal::JournalError;
use crate::virtq::{Layout, layout::BadLayout};
use alloc::vec;
use alloc::vec::Vec;

/// What a device is, for as long as it exists.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Identity {
    /// Virtio device type (section 5).
    pub device_id: u32,
    /// Vendor, free to choose.
    pub vendor_id: u32,
    /// Feature bits offered.
    pub features: u64,
    /// Queues of the device.
    pub queues: u16,
    /// Entries of a queue at most.
    pub queue_size_max: u16,
}

/// What an access asks of the device, beside the reply.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub enum Effect {
    /// Nothing.
    None,
    /// The driver reset the device: forget queues and requests before answering.
    Reset,
    /// The features are agreed, or the driver is set up, or both at once.
    Status {
        /// `FEATURES_OK` was set.
        features_ok: bool,
        /// `DRIVER_OK` was set: serve what is queued.
        driver_ok: bool,
    },
    /// The driver wrote to the configuration space; nothing changes unless the device calls
    /// [`Transport::set_config`].
    Config {
        /// First byte.
        offset: u64,
        /// How wide the access is.
        width: Width,
        /// What was written.
        value: u64,
    },
    /// A queue was made ready, after the features were agreed. One that was ready before starts
    /// with [`Effect::Status`].
    QueueReady(u16, Layout),
    /// A queue was stopped: touch its rings no more.
    QueueStopped(u16),
    /// A queue was to be made ready, but its set-up breaks a rule.
    BadQueue(BadLayout),
    /// The driver notified a queue. Serve it after the answer.
    Notify(u16),
    /// The driver accepts these features, which are not all offered: no agreement.
    Refused(u64),
    /// The driver set a register of virtio-mmio version 1.
    Legacy,
}

/// The register file.
#[derive(Debug)]
pub struct Transport {
    identity: Identity,
    queues: Vec<QueueRegs>,
    config: Vec<u8>,
    config_generation: u32,
    /// The driver may have read a configuration that has changed since.
    config_changed: bool,
    status: Status,
    features: FeatureRegs,
    queue_sel: u32,
    interrupt: Interrupt,
}

impl Transport {
    /// A device after reset. `config` is its configuration space.
    #[must_use]
    pub fn new(identity: Identity, config: Vec<u8>) -> Transport {
        Transport {
            identity,
            queues: vec![QueueRegs::default(); usize::from(identity.queues)],
            config,
            config_generation: 0,
            config_changed: false,
            status: Status::empty(),
            features: FeatureRegs::new(identity.features),
            queue_sel: 0,
            interrupt: Interrupt::default(),
        }
    }

    /// A device that goes on where the incarnation before stopped. The configuration space is as
    /// the driver knows it; its properties must be those that were told.
    ///
    /// # Errors
    /// [`JournalError`] if the journal does not fit this device.
    pub(crate) fn resume(
        identity: Identity,
        state: &TransportState,
        config: &[u8],
    ) -> Result<Transport, JournalError> {
        // The driver has negotiated with the disk that there was. Another one would have to offer the
        // same to go on with it.
        if state.features != identity.features
            || state.queue_count != u32::from(identity.queues)
            || state.config.len() != config.len()
        {
            return Err(JournalError::Changed);
        }
        // `InterruptStatus` is not kept: after a restart every reason is raised anyway.
        let mut transport = Transport::new(identity, state.config.to_vec());
        for (to, from) in transport.queues.iter_mut().zip(&state.queues) {
            *to = QueueRegs::from(*from);
        }
        transport.config_generation = state.config_generation;
        transport.config_changed = state.config_changed != 0;
        transport.status = Status::from_bits(state.status).ok_or(JournalError::Corrupt)?;
        transport.features = FeatureRegs {
            offered: state.features,
            accepted: state.driver_features,
            foreign: state.foreign_features != 0,
            device_sel: state.device_features_sel,
            driver_sel: state.driver_features_sel,
        };
        transport.queue_sel = state.queue_sel;
        Ok(transport)
    }

    /// All that has to outlive a restart.
    pub(crate) fn state(&self) -> TransportState {
        let mut state = TransportState {
            features: self.features.offered,
            driver_features: self.features.accepted,
            status: self.status.bits(),
            device_features_sel: self.features.device_sel,
            driver_features_sel: self.features.driver_sel,
            foreign_features: u32::from(self.features.foreign),
            queue_sel: self.queue_sel,
            config_generation: self.config_generation,
            config_changed: u32::from(self.config_changed),
            queue_count: u32::from(self.identity.queues),
            queues: [QueueRegsState::default(); STATE_QUEUES],
            config: [0; STATE_CONFIG_BYTES],
        };
        for (to, queue) in state.queues.iter_mut().zip(&self.queues) {
            *to = QueueRegsState::from(*queue);
        }
        for (to, from) in state.config.iter_mut().zip(&self.config) {
            *to = *from;
        }
        state
    }

    /// Where the rings of a ready queue lie; none as long as the features, on which their format
    /// depends, are not agreed.
    ///
    /// # Errors
    /// [`JournalError`]: only a checked set-up becomes ready.
    pub(crate) fn layout(&self, index: usize) -> Result<Option<Layout>, JournalError> {
        // EVENT_IDX and INDIRECT_DESC decide what the rings hold.
        let agreed = self.status.contains(Status::FEATURES_OK);
        let queue = self.queues.get(index).filter(|queue| queue.ready && agreed);
        let Some(queue) = queue else { return Ok(None) };
        let [desc, avail, used] = [queue.desc, queue.driver, queue.device].map(GuestAddr::new);
        Layout::new(queue.size, desc, avail, used).map(Some).map_err(|_| JournalError::Corrupt)
    }

    /// What the device is.
    pub(crate) const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Bytes of the configuration space.
    pub(crate) fn config(&self) -> &[u8] {
        &self.config
    }

    /// The device status.
    #[must_use]
    pub const fn status(&self) -> Status {
        self.status
    }

    /// Whether all of `bits` were negotiated.
    #[must_use]
    pub fn negotiated(&self, bits: u64) -> bool {
        self.status.contains(Status::FEATURES_OK) && self.features.accepted & bits == bits
    }

    /// Notes reasons to interrupt the driver (`regs::INT_*`). True: by an interrupt, now.
    #[must_use]
    pub fn raise(&mut self, reasons: u32) -> bool {
        self.interrupt.raise(reasons)
    }

    /// `InterruptStatus`, and what of it the driver has not read since it was raised.
    pub(crate) const fn interrupts(&self) -> (u32, u32) {
        self.interrupt.words()
    }

    /// Whether an interrupt may have to be raised again: the driver has not read yet why it came.
    pub(crate) const fn awaits_read(&self) -> bool {
        self.interrupt.awaits_read()
    }

    /// It is `now_ns`. True: the driver must be interrupted again, now, for what it has not read.
    pub(crate) fn remind(&mut self, now_ns: u64) -> bool {
        self.interrupt.remind(now_ns)
    }

    /// It is `now_ns`: when [`Transport::remind`] has something to do.
    pub(crate) fn remind_at_ns(&mut self, now_ns: u64) -> Option<u64> {
        self.interrupt.remind_at_ns(now_ns)
    }

    /// Whether the driver has not acknowledged all interrupts yet.
    pub(crate) const fn is_interrupting(&self) -> bool {
        self.interrupt.is_pending()
    }

    /// Changes `bytes` of the configuration space from `offset` on, and its generation if any
    /// of them is new (section 4.2.2.1). Returns whether one is.
    pub fn set_config(&mut self, offset: usize, bytes: &[u8]) -> bool {
        let field = offset.checked_add(bytes.len()).and_then(|end| self.config.get_mut(offset..end));
        // The same bytes again are no change: a new generation would make the driver read it all again.
        let Some(field) = field.filter(|field| *field != bytes) else { return false };
        field.copy_from_slice(bytes);
        self.config_generation = self.config_generation.wrapping_add(1);
        true
    }

    /// The device changed its configuration by itself. True: the driver must be told by an
    /// interrupt, now.
    pub fn announce_config(&mut self) -> bool {
        // A driver that has not begun yet will read the configuration as it is.
        self.config_changed = !self.status.is_empty();
        self.tell_config()
    }

    /// Tells a driver that is set up of a change, also of one from before. True: by an
    /// interrupt, now.
    pub fn tell_config(&mut self) -> bool {
        // A driver that is not set up is not interrupted (section 2.1.2): it is told later.
        if !self.config_changed || !self.status.contains(Status::DRIVER_OK) {
            return false;
        }
        self.config_changed = false;
        self.raise(regs::INT_CONFIG)
    }

    /// The device cannot go on. True: the driver must be told by an interrupt.
    pub fn set_needs_reset(&mut self) -> bool {
        self.status.insert(Status::NEEDS_RESET);
        // Section 2.1.2: notify only a driver that is set up.
        self.status.contains(Status::DRIVER_OK) && self.raise(regs::INT_CONFIG)
    }

    /// What a read of `width` at `offset` in the window returns. The registers are 32 bits wide
    /// and aligned (section 4.2.2.2); a driver that reads a part of one gets that part.
    #[must_use]
    pub fn read(&mut self, offset: u64, width: Width) -> Reply {
        // What drivers do all the time: one aligned register, without the detour over bytes.
        if offset < regs::CONFIG && matches!(width, Width::Four) && offset.is_multiple_of(4) {
            Reply(self.read_register(offset).into())
        } else {
            Reply(self.read_bytes(offset, width))
        }
    }

    /// Decides a write of `width` at `offset` in the window. A narrow write to a register counts
    /// as one to all of it, a wide one as two.
    pub fn write(&mut self, offset: u64, width: Width, value: u64) -> Effect {
        let (low, high) = (half(value, 0), half(value, 1));
        match offset.checked_sub(regs::CONFIG) {
            // What a write there means only the device knows.
            Some(offset) => Effect::Config { offset, width, value },
            // Section 4.2.2.2 forbids it, and which register is meant is not clear.
            None if !offset.is_multiple_of(4) => Effect::None,
            None if matches!(width, Width::Eight) => {
                // Of two neighbours one asks for something, but for a register of version 1 (0x040), of
                // which there is only something to say, and QueueReady.
                let first = self.write_register(offset, low);
                match self.write_register(offset.saturating_add(4), high) {
                    Effect::None => first,
                    second => second,
                }
            }
            None => self.write_register(offset, low),
        }
    }

    #[inline(never)]
    fn read_bytes(&mut self, offset: u64, width: Width) -> u64 {
        // From the last byte to the first: the registers and the configuration are little-endian.
        (0..width.bytes()).rev().fold(0, |value, at| {
            let at = offset.saturating_add(at);
            let index = |at| usize::try_from(at).unwrap_or(usize::MAX);
            let byte = match at.checked_sub(regs::CONFIG) {
                Some(at) => self.config.get(index(at)).copied(),
                None => self.read_register(at & !3).to_le_bytes().get(index(at & 3)).copied(),
            };
            (value << 8) | u64::from(byte.unwrap_or(0))
        })
    }

    fn read_register(&mut self, offset: u64) -> u32 {
        match offset {
            regs::MAGIC_VALUE => regs::MAGIC,
            regs::VERSION_REG => regs::VERSION,
            regs::DEVICE_ID => self.identity.device_id,
            regs::VENDOR_ID => self.identity.vendor_id,
            regs::DEVICE_FEATURES => self.features.read(),
            // Section 4.2.2: 0 says that there is no such queue.
            regs::QUEUE_SIZE_MAX => self.selected().map_or(0, |_| self.identity.queue_size_max.into()),
            regs::QUEUE_READY => self.selected().map_or(0, |queue| u32::from(queue.ready)),
            regs::INTERRUPT_STATUS => self.interrupt.read(),
            regs::STATUS => self.status.bits(),
            // No shared memory region exists, whatever SHMSel says.
            regs::SHM_LEN_LOW | regs::SHM_LEN_HIGH | regs::SHM_BASE_LOW | regs::SHM_BASE_HIGH => u32::MAX,
            regs::CONFIG_GENERATION => self.config_generation,
            // Registers that can only be written, and what later versions may put here.
            _ => 0,
        }
    }

    fn write_register(&mut self, offset: u64, value: u32) -> Effect {
        match offset {
            regs::DEVICE_FEATURES_SEL => self.features.device_sel = value,
            regs::DRIVER_FEATURES_SEL => self.features.driver_sel = value,
            // What was agreed does not change without a reset (section 3.1.1).
            regs::DRIVER_FEATURES if !self.status.contains(Status::FEATURES_OK) => self.features.write(value),
            regs::QUEUE_SEL => self.queue_sel = value,
            regs::QUEUE_READY => return self.write_ready(value),
            regs::QUEUE_NOTIFY => return self.write_notify(value),
            regs::INTERRUPT_ACK => self.interrupt.acknowledge(value),
            regs::STATUS => return self.write_status(value),
            // A driver of version 1 goes on blindly, so somebody has to say why nothing works.
            regs::LEGACY_GUEST_PAGE_SIZE | regs::LEGACY_QUEUE_PFN if value != 0 => return Effect::Legacy,
            _ => self.write_queue(offset, value),
        }
        Effect::None
    }

    /// The queue that `QueueSel` names, compared in full width.
    fn selected(&self) -> Option<&QueueRegs> {
        self.queues.get(usize::try_from(self.queue_sel).ok()?)
    }

    fn write_status(&mut self, value: u32) -> Effect {
        let old = self.status;
        let acceptable = self.features.are_acceptable();
        let Some(status) = old.write(value, acceptable) else {
            // Section 2.4: the driver goes on as soon as it reads 0 back, and it may read at once.
            self.reset();
            return Effect::Reset;
        };
        self.status = status;
        let new = status.difference(old);
        let features_ok = new.contains(Status::FEATURES_OK);
        let driver_ok = new.contains(Status::DRIVER_OK);
        let asked =
            Status::from_bits_truncate(value).intersects(Status::FEATURES_OK.union(Status::DRIVER_OK));
        // Only what is new asks for something: drivers write all bits again with each step.
        if features_ok || driver_ok {
            Effect::Status { features_ok, driver_ok }
        } else if asked && !status.contains(Status::FEATURES_OK) {
            Effect::Refused(self.features.accepted)
        } else {
            Effect::None
        }
    }

    /// Back to the state after power-on. The configuration and its generation stay.
    fn reset(&mut self) {
        // The configuration stays: it is what the disk is like, not what was agreed.
        self.queues.fill(QueueRegs::default());
        self.status = Status::empty();
        self.features = FeatureRegs::new(self.identity.features);
        self.queue_sel = 0;
        self.interrupt = Interrupt::default();
        self.config_changed = false;
    }

    fn write_ready(&mut self, value: u32) -> Effect {
        let negotiated = self.status.contains(Status::FEATURES_OK);
        let size_max = u32::from(self.identity.queue_size_max);
        let Some((index, queue)) = selected_mut(&mut self.queues, self.queue_sel) else {
            return Effect::None;
        };
        match (value, queue.ready) {
            // Section 4.2.2.2 has drivers read 0 back before they take the memory away: the device
            // touches the rings no more from here on.
            (0, true) => {
                queue.ready = false;
                Effect::QueueStopped(index)
            }
            (1.., false) if queue.size > size_max => Effect::BadQueue(BadLayout::Size(queue.size)),
            (1.., false) => {
                let [desc, avail, used] = [queue.desc, queue.driver, queue.device].map(GuestAddr::new);
                match Layout::new(queue.size, desc, avail, used) {
                    Ok(layout) => {
                        queue.ready = true;
                        // Before the features are agreed the format of its rings is not known:
                        // `Effect::Status` starts it then.
                        if negotiated { Effect::QueueReady(index, layout) } else { Effect::None }
                    }
                    Err(rule) => Effect::BadQueue(rule),
                }
            }
            // It is what it already was.
            _ => Effect::None,
        }
    }

    fn write_notify(&self, value: u32) -> Effect {
        // Compared in full width: the high half of a wrong value must not name a queue. A device that
        // is not live serves nothing, so it need not be woken.
        match u16::try_from(value) {
            Ok(index) if index < self.identity.queues && self.status.is_live() => Effect::Notify(index),
            _ => Effect::None,
        }
    }

    /// A set-up register of the selected queue.
    fn write_queue(&mut self, offset: u64, value: u32) {
        let Some((_, queue)) = selected_mut(&mut self.queues, self.queue_sel) else { return };
        // Not while it is ready: its layout was checked, and stays as it was checked.
        if !queue.ready {
            queue.write(offset, value);
        }
    }
}

fn selected_mut(queues: &mut [QueueRegs], queue_sel: u32) -> Option<(u16, &mut QueueRegs)> {
    let index = u16::try_from(queue_sel).ok()?;
    Some((index, queues.get_mut(usize::from(index))?))
}
