//! A disk whose driver grants its memory: a queue of one request, all of whose parts are pages of their own.

use crate::attacks::site::{HEADER, IN, NO_STATUS, OUT, SECTOR, Settled};
use crate::pattern;
use crate::virtio::{
    DESC_NEXT, DESC_WRITE, DRIVER_OK, Descriptor, Device, F_VERSION_1, NEEDS_RESET, outside, page,
};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use kernel::granted::GRANT_BIT;
use kernel::{DomId, GrantRef, Hypervisor, Order, SharedPage, Xen, full_barrier, misuse};

/// `VIRTIO_F_ACCESS_PLATFORM`.
const F_ACCESS_PLATFORM: u64 = 1 << 33;
/// Entries of the queue.
const SIZE: u16 = 16;
/// What the page holds that no request names.
const GAP: u32 = 0x5a5a_5a5a;
/// How long a request may stay unanswered while the device does not ask for a reset.
const PATIENCE_NS: u64 = 5_000_000_000;

/// An address for the device.
#[derive(Clone, Copy)]
pub(super) struct Address(pub(super) u64);

/// A page and its grant.
pub(super) struct Granted {
    xen: Xen,
    pub(super) page: SharedPage,
    to: (DomId, bool),
    gref: Option<GrantRef>,
    /// The last one that it had.
    last: GrantRef,
}

impl Granted {
    fn new(xen: Xen, stub: DomId) -> Result<Granted, String> {
        let page = page()?;
        let gref = xen.grant_access(stub, &page, false).map_err(|why| format!("a grant: {why:?}"))?;
        Ok(Granted { xen, page, to: (stub, false), gref: Some(gref), last: gref })
    }

    /// Its address by its grant; by the last one, if that was taken back.
    pub(super) fn address(&self) -> Address {
        Address(GRANT_BIT | u64::from(self.last.0) << 12)
    }

    /// Takes the grant back.
    ///
    /// # Errors
    /// That it is in use.
    pub(super) fn revoke(&mut self) -> Result<(), String> {
        let Some(gref) = self.gref else { return Ok(()) };
        self.xen.grant_end(gref).map_err(|why| format!("a grant stays in use: {why:?}"))?;
        self.gref = None;
        Ok(())
    }

    /// Grants it once more, to the same domain.
    pub(super) fn grant_again(&mut self) -> Result<(), String> {
        self.revoke()?;
        let (to, read_only) = self.to;
        let gref =
            self.xen.grant_access(to, &self.page, read_only).map_err(|why| format!("a grant: {why:?}"))?;
        (self.gref, self.last) = (Some(gref), gref);
        Ok(())
    }

    /// Writes the flags of its grant's entry, whether or not the stub uses it.
    pub(super) fn store_flags(&self, flags: u16) -> Result<(), String> {
        misuse::store_grant_flags(&self.xen, self.last, flags).map_err(|why| format!("flags: {why:?}"))
    }

    /// Grants it to that domain.
    pub(super) fn grant_to(&mut self, domain: DomId, read_only: bool) -> Result<(), String> {
        self.to = (domain, read_only);
        self.grant_again()
    }
}

/// The disk.
pub(super) struct Granting<'a> {
    pub(super) device: &'a Device<'a>,
    pub(super) stub: DomId,
    /// Marks what it writes.
    tag: &'static str,
    pub(super) desc: Granted,
    pub(super) avail: Granted,
    pub(super) used: Granted,
    pub(super) header: Granted,
    pub(super) data: Granted,
    /// Granted to dom0, by the number behind that of the data.
    gap: Granted,
    pub(super) status: Granted,
    published: u16,
}

impl<'a> Granting<'a> {
    /// Live.
    pub(super) fn new(
        device: &'a Device<'a>,
        stub: DomId,
        tag: &'static str,
    ) -> Result<Granting<'a>, String> {
        let new = || Granted::new(*device.xen, stub);
        let (desc, avail, used) = (new()?, new()?, new()?);
        let (header, data, gap, status) = (new()?, new()?, new()?, new()?);
        if data.last.0.checked_add(1) != Some(gap.last.0) {
            return Err(format!("grants {:?} and {:?} do not follow each other", data.last, gap.last));
        }
        let mut granting =
            Granting { device, stub, tag, desc, avail, used, header, data, gap, status, published: 0 };
        granting.gap.grant_to(DomId(0), false)?;
        granting.gap.page.store(0, GAP, Order::Relaxed).map_err(outside)?;
        granting.renew()?;
        Ok(granting)
    }

    /// The device from reset to DRIVER_OK, with new grants.
    ///
    /// # Errors
    /// Also that the stub did not let go of a grant.
    pub(super) fn renew(&mut self) -> Result<(), String> {
        self.prepare()?;
        self.start(self.rings())
    }

    /// The same up to where the queue is placed.
    pub(super) fn prepare(&mut self) -> Result<(), String> {
        self.device.reset()?;
        let stub = self.stub;
        for part in self.parts() {
            part.grant_to(stub, false)?;
            part.page.zero();
        }
        self.published = 0;
        if !self.device.negotiate(F_VERSION_1 | F_ACCESS_PLATFORM) {
            return Err(String::from("the device takes no grants"));
        }
        Ok(())
    }

    /// Where the rings are: descriptors, available, used.
    pub(super) fn rings(&self) -> [Address; 3] {
        [&self.desc, &self.avail, &self.used].map(Granted::address)
    }

    /// What holds them, in the same order.
    pub(super) fn ring(&mut self, which: usize) -> &mut Granted {
        match which {
            0 => &mut self.desc,
            1 => &mut self.avail,
            _ => &mut self.used,
        }
    }

    /// Places the queue there, and goes on to DRIVER_OK.
    pub(super) fn start(&self, rings: [Address; 3]) -> Result<(), String> {
        self.device.place_queue(SIZE.into(), rings.map(|Address(address)| address));
        self.device.add_status(DRIVER_OK);
        Ok(())
    }

    /// Whether the page that is dom0's is as it was.
    pub(super) fn is_gap_untouched(&self) -> Result<(), String> {
        match self.gap.page.load::<u32>(0, Order::AcqRel) {
            Ok(GAP) => Ok(()),
            found => Err(format!("a page that is granted to dom0 was written: {found:?}")),
        }
    }

    fn parts(&mut self) -> [&mut Granted; 6] {
        let Granting { desc, avail, used, header, data, status, .. } = self;
        [desc, avail, used, header, data, status]
    }

    /// Resets, and takes all grants back.
    pub(super) fn end(mut self) -> Result<(), String> {
        self.device.reset()?;
        for part in self.parts() {
            part.revoke()?;
        }
        Ok(())
    }

    /// A request of one sector, with its data there.
    pub(super) fn request(&mut self, kind: u32, sector: u64, data: Address) -> Result<(), String> {
        self.write_header(kind, sector)?;
        let flags = DESC_NEXT | if kind == OUT { 0 } else { DESC_WRITE };
        let status = self.status.address();
        self.offer(&[
            Descriptor { addr: self.header.address().0, len: HEADER, flags: DESC_NEXT, next: 1 },
            Descriptor { addr: data.0, len: SECTOR, flags, next: 2 },
            Descriptor { addr: status.0, len: 1, flags: DESC_WRITE, next: 0 },
        ])
    }

    /// Writes the header at byte 0 of its page, and the status that no device writes.
    pub(super) fn write_header(&self, kind: u32, sector: u64) -> Result<(), String> {
        self.header.page.store(0, kind, Order::Relaxed).map_err(outside)?;
        self.header.page.store(8, sector, Order::Relaxed).map_err(outside)?;
        self.status.page.store(0, NO_STATUS, Order::Relaxed).map_err(outside)
    }

    /// Makes this chain available from descriptor 0 on, and notifies.
    pub(super) fn offer(&mut self, chain: &[Descriptor]) -> Result<(), String> {
        for (index, desc) in (0..).zip(chain) {
            desc.write(&self.desc.page, index)?;
        }
        let slot = 4 + 2 * usize::from(self.published % SIZE);
        self.avail.page.store(slot, 0_u16, Order::Relaxed).map_err(outside)?;
        self.published = self.published.wrapping_add(1);
        self.avail.page.store(2, self.published, Order::AcqRel).map_err(outside)?;
        full_barrier();
        self.device.notify();
        Ok(())
    }

    /// Waits until all that was made available is used, or the device asks for a reset.
    ///
    /// # Errors
    /// That neither comes.
    pub(super) fn settled(&self) -> Result<Settled, String> {
        let xen = self.device.xen;
        let until_ns = xen.now_ns().saturating_add(PATIENCE_NS);
        while xen.now_ns() < until_ns {
            if self.used.page.load::<u16>(2, Order::AcqRel) == Ok(self.published) {
                let status = self.status.page.load(0, Order::AcqRel).map_err(outside)?;
                return Ok(Settled::Answered(status));
            }
            if self.device.status() & NEEDS_RESET != 0 {
                return Ok(Settled::NeedsReset);
            }
            xen.yield_cpu();
        }
        Err(String::from("a request was never answered"))
    }

    /// As [`Granting::settled`], for what may not succeed.
    pub(super) fn refused(&self) -> Result<(), String> {
        match self.settled()? {
            Settled::Answered(0) => Err(String::from("it succeeded")),
            Settled::Answered(NO_STATUS) => Err(String::from("it came back without a status")),
            Settled::Answered(_) | Settled::NeedsReset => Ok(()),
        }
    }

    /// As [`Granting::settled`], for what has to succeed.
    pub(super) fn done(&self) -> Result<(), String> {
        match self.settled()? {
            Settled::Answered(0) => Ok(()),
            Settled::Answered(status) => Err(format!("status {status}")),
            Settled::NeedsReset => Err(String::from("the device asks for a reset")),
        }
    }

    /// Writes a sector, reads it back.
    pub(super) fn writes_and_reads(&mut self, sector: u64) -> Result<(), String> {
        let mut bytes = vec![0; pattern::SECTOR];
        pattern::fill(&mut bytes, self.tag, sector);
        self.data.page.write(0, &bytes).map_err(outside)?;
        for kind in [OUT, IN] {
            self.request(kind, sector, self.data.address())?;
            self.done().map_err(|why| format!("request of type {kind}: {why}"))?;
            if kind == OUT {
                self.data.page.zero();
            }
        }
        self.data.page.read(0, &mut bytes).map_err(outside)?;
        let wrong = pattern::wrong(&bytes, self.tag, sector);
        wrong.map_or(Ok(()), |sector| Err(format!("sector {sector} is not what was written")))
    }
}
