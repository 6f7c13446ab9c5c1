//! Attacks by changes: the stub runs on another CPU while this driver changes what it reads.

use super::Attack;
use super::site::{F_INDIRECT_DESC, IN, OUT, SECTOR, SIZE, Site};
use crate::virtio::{DESC_INDIRECT, DESC_NEXT, DESC_WRITE, Descriptor, NEEDS_RESET, outside};
use alloc::string::String;
use kernel::{Hypervisor, Order};

/// How long each race goes on.
const RACE_NS: u64 = 400_000_000;

pub(super) const ATTACKS: &[Attack] = &[
    Attack {
        name: "descriptors-change",
        tries: "descriptors that change while a chain is walked",
        run: descriptors_change,
    },
    Attack {
        name: "next-changes",
        tries: "chains that become loops while they are walked",
        run: next_changes,
    },
    Attack {
        name: "header-changes",
        tries: "type and sector that change while they are read",
        run: header_changes,
    },
    Attack { name: "lengths-change", tries: "lengths that grow while they are read", run: lengths_change },
    Attack {
        name: "table-changes",
        tries: "an indirect table that changes while it is read",
        run: table_changes,
    },
    Attack {
        name: "available-changes",
        tries: "heads that change while they are taken",
        run: available_changes,
    },
    Attack {
        name: "ranges-change",
        tries: "a discard's ranges that change while they are checked",
        run: ranges_change,
    },
];

/// Makes the device live and offers requests for [`RACE_NS`]; `change` is called over and over after each
/// notification.
fn race(
    site: &mut Site<'_>,
    features: u64,
    offer: fn(&mut Site<'_>, u64) -> Result<(), String>,
    change: fn(&Site<'_>, u32) -> Result<(), String>,
) -> Result<(), String> {
    let until_ns = site.device.xen.now_ns().saturating_add(RACE_NS);
    site.live(features)?;
    let mut n = 0_u64;
    while site.device.xen.now_ns() < until_ns {
        offer(site, n)?;
        for step in 0..64 {
            change(site, step)?;
        }
        n = n.wrapping_add(1);
        if n.is_multiple_of(16) || site.device.status() & NEEDS_RESET != 0 {
            site.live(features)?;
        }
    }
    Ok(())
}

fn descriptors_change(site: &mut Site<'_>) -> Result<(), String> {
    race(
        site,
        0,
        |site, n| site.request(IN, n % 16),
        |site, step| {
            let addr = if step % 2 == 0 { site.data.addr() } else { 0x0200_0000 };
            site.describe(1, Descriptor { addr, ..site.data_desc(IN, SECTOR, 2) })
        },
    )
}

fn next_changes(site: &mut Site<'_>) -> Result<(), String> {
    race(
        site,
        0,
        |site, n| site.request(OUT, n % 16),
        |site, step| {
            let next = [2, 1, 0, SIZE, u16::MAX][usize::try_from(step % 5).unwrap_or(0)];
            site.describe(1, site.data_desc(OUT, SECTOR, next))
        },
    )
}

fn header_changes(site: &mut Site<'_>) -> Result<(), String> {
    race(
        site,
        0,
        |site, n| site.request(IN, n % 16),
        |site, step| {
            let (kind, sector) = if step % 2 == 0 { (IN, 0) } else { (OUT, u64::MAX) };
            site.write_header(kind, sector)
        },
    )
}

fn lengths_change(site: &mut Site<'_>) -> Result<(), String> {
    race(
        site,
        0,
        |site, n| site.request(IN, n % 16),
        |site, step| {
            let len = if step % 2 == 0 { SECTOR } else { u32::MAX };
            site.describe(1, site.data_desc(IN, len, 2))
        },
    )
}

/// A table's descriptor.
const fn table(addr: u64, len: u32) -> Descriptor {
    Descriptor { addr, len, flags: DESC_INDIRECT, next: 0 }
}

fn table_changes(site: &mut Site<'_>) -> Result<(), String> {
    race(
        site,
        F_INDIRECT_DESC,
        |site, n| {
            site.write_header(IN, n % 16)?;
            let parts = [site.header_desc(1), site.data_desc(IN, SECTOR, 2), site.status_desc()];
            for (index, desc) in (0..).zip(parts) {
                desc.write(&site.table, index)?;
            }
            site.offer(&[table(site.table.addr(), 48)])
        },
        |site, step| {
            let flags = if step % 2 == 0 { DESC_NEXT | DESC_WRITE } else { DESC_INDIRECT };
            let desc = Descriptor { addr: site.table.addr(), len: SECTOR, flags, next: 1 };
            desc.write(&site.table, 1)
        },
    )
}

fn available_changes(site: &mut Site<'_>) -> Result<(), String> {
    race(
        site,
        0,
        |site, n| site.request(IN, n % 16),
        |site, step| {
            let head = if step % 2 == 0 { 0 } else { u16::MAX };
            let slot = 4 + 2 * usize::try_from(step % u32::from(SIZE)).unwrap_or(0);
            site.avail.store(slot, head, Order::Relaxed).map_err(outside)
        },
    )
}

fn ranges_change(site: &mut Site<'_>) -> Result<(), String> {
    /// `VIRTIO_BLK_F_DISCARD`.
    const F_DISCARD: u64 = 1 << 13;
    /// `VIRTIO_BLK_T_DISCARD`.
    const DISCARD: u32 = 11;
    race(
        site,
        F_DISCARD,
        |site, _| {
            site.data.store(0, 0_u64, Order::Relaxed).map_err(outside)?;
            site.data.store(8, 8_u32, Order::Relaxed).map_err(outside)?;
            site.request_with(DISCARD, 0, site.data_desc(OUT, 16, 2))
        },
        |site, step| {
            let sector = if step % 2 == 0 { 0 } else { u64::MAX - 4 };
            site.data.store(0, sector, Order::Relaxed).map_err(outside)
        },
    )
}
