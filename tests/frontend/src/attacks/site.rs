//! The abused device, with the memory that attacks use: a split queue in pages of its own, and the parts
//! of requests.

use crate::registers::QUEUE_SEL;
use crate::virtio::{
    DESC_NEXT, DESC_WRITE, DRIVER_OK, Descriptor, Device, F_VERSION_1, NEEDS_RESET, outside, page,
};
use alloc::format;
use alloc::string::String;
use kernel::testing::registers::Registers;
use kernel::{Hypervisor, Order, SharedPage, full_barrier};

/// Entries of the queue.
pub const SIZE: u16 = 64;
/// `VIRTIO_BLK_T_IN`.
pub const IN: u32 = 0;
/// `VIRTIO_BLK_T_OUT`.
pub const OUT: u32 = 1;
/// Bytes of a request's header.
pub const HEADER: u32 = 16;
/// Bytes of a sector.
pub const SECTOR: u32 = 512;
/// `VIRTIO_F_INDIRECT_DESC`.
pub const F_INDIRECT_DESC: u64 = 1 << 28;
/// `VIRTIO_F_EVENT_IDX`.
pub const F_EVENT_IDX: u64 = 1 << 29;
/// How long a chain may stay unanswered while the device does not ask for a reset.
const PATIENCE_NS: u64 = 10_000_000_000;
/// No status of the specification.
pub const NO_STATUS: u8 = 0xee;

/// The abused device and its queue.
pub struct Site<'a> {
    /// The device, by its registers' names.
    pub device: &'a Device<'a>,
    /// Its registers, by offset.
    pub registers: &'a Registers,
    /// The descriptor table.
    pub desc: SharedPage,
    /// The available ring.
    pub avail: SharedPage,
    /// The used ring.
    pub used: SharedPage,
    /// For an indirect table.
    pub table: SharedPage,
    /// For headers.
    pub header: SharedPage,
    /// For data.
    pub data: SharedPage,
    /// For a status.
    pub status: SharedPage,
    /// Chains made available since the device was made live.
    pub published: u16,
    random: u64,
}

impl<'a> Site<'a> {
    /// With pages of its own.
    pub fn new(device: &'a Device<'a>, registers: &'a Registers) -> Result<Site<'a>, String> {
        Ok(Site {
            device,
            registers,
            desc: page()?,
            avail: page()?,
            used: page()?,
            table: page()?,
            header: page()?,
            data: page()?,
            status: page()?,
            published: 0,
            random: device.xen.now_ns() | 1,
        })
    }

    /// The three parts of the queue, as they should be.
    pub fn parts(&self) -> [u64; 3] {
        [&self.desc, &self.avail, &self.used].map(SharedPage::addr)
    }

    /// Pages emptied, the device from reset to where its queue may be placed.
    pub fn negotiated(&mut self, features: u64) -> Result<(), String> {
        self.device.reset()?;
        for page in [&self.desc, &self.avail, &self.used, &self.table, &self.header, &self.data, &self.status]
        {
            page.zero();
        }
        self.status.store(0, NO_STATUS, Order::Relaxed).map_err(outside)?;
        self.published = 0;
        if !self.device.negotiate(F_VERSION_1 | features) {
            return Err(format!("features {features:#x} are not accepted"));
        }
        self.registers.write(QUEUE_SEL, 0);
        Ok(())
    }

    /// The device from reset to DRIVER_OK, with its queue in place.
    pub fn live(&mut self, features: u64) -> Result<(), String> {
        self.negotiated(features)?;
        self.device.place_queue(SIZE.into(), self.parts());
        self.device.add_status(DRIVER_OK);
        Ok(())
    }

    /// As [`Site::live`], with the queue's parts in these places.
    pub fn live_at(&mut self, size: u32, parts: [u64; 3]) -> Result<(), String> {
        self.negotiated(0)?;
        self.device.place_queue(size, parts);
        self.device.add_status(DRIVER_OK);
        Ok(())
    }

    /// Writes an entry of the descriptor table.
    pub fn describe(&self, index: u16, desc: Descriptor) -> Result<(), String> {
        desc.write(&self.desc, index)
    }

    /// Makes `head` available, without a notification.
    pub fn publish(&mut self, head: u16) -> Result<(), String> {
        let slot = 4 + 2 * usize::from(self.published % SIZE);
        self.avail.store(slot, head, Order::Relaxed).map_err(outside)?;
        self.published = self.published.wrapping_add(1);
        self.set_available(self.published)
    }

    /// Sets the available ring's index.
    pub fn set_available(&self, index: u16) -> Result<(), String> {
        self.avail.store(2, index, Order::AcqRel).map_err(outside)?;
        full_barrier();
        Ok(())
    }

    /// Chains that the device has used.
    pub fn used_index(&self) -> u16 {
        self.used.load(2, Order::AcqRel).unwrap_or(0)
    }

    /// Writes the header at byte 0 of its page.
    pub fn write_header(&self, kind: u32, sector: u64) -> Result<(), String> {
        self.header.store(0, kind, Order::Relaxed).map_err(outside)?;
        self.header.store(8, sector, Order::Relaxed).map_err(outside)
    }

    /// The header's descriptor.
    pub fn header_desc(&self, next: u16) -> Descriptor {
        Descriptor { addr: self.header.addr(), len: HEADER, flags: DESC_NEXT, next }
    }

    /// The status byte's, the last of its chain.
    pub fn status_desc(&self) -> Descriptor {
        Descriptor { addr: self.status.addr(), len: 1, flags: DESC_WRITE, next: 0 }
    }

    /// A descriptor of `len` bytes of data, another one behind it.
    pub fn data_desc(&self, kind: u32, len: u32, next: u16) -> Descriptor {
        let flags = DESC_NEXT | if kind == OUT { 0 } else { DESC_WRITE };
        Descriptor { addr: self.data.addr(), len, flags, next }
    }

    /// Makes a chain of these from descriptor 0 on available and notifies.
    pub fn offer(&mut self, chain: &[Descriptor]) -> Result<(), String> {
        for (index, desc) in (0..).zip(chain) {
            self.describe(index, *desc)?;
        }
        self.publish(0)?;
        self.device.notify();
        Ok(())
    }

    /// A request as it should be, of one sector, made available and notified.
    pub fn request(&mut self, kind: u32, sector: u64) -> Result<(), String> {
        self.request_with(kind, sector, self.data_desc(kind, SECTOR, 2))
    }

    /// The same with this descriptor for its data.
    pub fn request_with(&mut self, kind: u32, sector: u64, data: Descriptor) -> Result<(), String> {
        self.write_header(kind, sector)?;
        self.offer(&[self.header_desc(1), data, self.status_desc()])
    }

    /// Waits until all that was made available is used, or the device asks for a reset; which of both.
    pub fn settled(&self) -> Result<Settled, String> {
        let until_ns = self.device.xen.now_ns().saturating_add(PATIENCE_NS);
        while self.device.xen.now_ns() < until_ns {
            if self.used_index() == self.published {
                return Ok(Settled::Answered(self.status.load(0, Order::AcqRel).map_err(outside)?));
            }
            if self.device.status() & NEEDS_RESET != 0 {
                return Ok(Settled::NeedsReset);
            }
            self.device.xen.yield_cpu();
        }
        Err(format!(
            "{} chains of {} were never answered",
            self.published.wrapping_sub(self.used_index()),
            self.published
        ))
    }

    /// As [`Site::settled`], for what may not succeed.
    pub fn refused(&self) -> Result<(), String> {
        match self.settled()? {
            Settled::Answered(0) => Err(String::from("it succeeded")),
            Settled::Answered(NO_STATUS) => Err(String::from("it came back without a status")),
            Settled::Answered(_) | Settled::NeedsReset => Ok(()),
        }
    }

    /// As [`Site::settled`], for a broken ring: nothing but a reset helps.
    pub fn needs_reset(&self) -> Result<(), String> {
        match self.settled()? {
            Settled::NeedsReset => Ok(()),
            Settled::Answered(status) => Err(format!("it was answered with status {status}")),
        }
    }

    /// A number below `limit`, without a pattern that matters here (xorshift64).
    pub fn random(&mut self, limit: u32) -> u32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        u32::try_from(self.random % u64::from(limit.max(1))).unwrap_or(0)
    }
}

/// How the device deals with what was made available.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// All of it was used; the status byte of the last one.
    Answered(u8),
    /// The device asks for a reset.
    NeedsReset,
}
