//! Attacks by requests: types, sectors, lengths, ranges.

use super::Attack;
use super::site::{HEADER, IN, NO_STATUS, OUT, SECTOR, Settled, Site};
use crate::virtio::{DESC_NEXT, DESC_WRITE, Descriptor, outside};
use alloc::format;
use alloc::string::String;
use kernel::Order;

/// `VIRTIO_BLK_T_FLUSH`.
const FLUSH: u32 = 4;
/// `VIRTIO_BLK_T_GET_ID`.
const GET_ID: u32 = 8;
/// `VIRTIO_BLK_T_DISCARD`.
const DISCARD: u32 = 11;
/// `VIRTIO_BLK_T_WRITE_ZEROES`.
const WRITE_ZEROES: u32 = 13;
/// `VIRTIO_BLK_F_DISCARD`, and `VIRTIO_BLK_F_WRITE_ZEROES` beside it.
const F_DISCARD: u64 = 1 << 13;
const F_WRITE_ZEROES: u64 = 1 << 14;
/// `VIRTIO_BLK_F_FLUSH`.
const F_FLUSH: u64 = 1 << 9;

pub(super) const ATTACKS: &[Attack] = &[
    Attack { name: "request-types", tries: "every type up to 64, and enormous ones", run: request_types },
    Attack {
        name: "sectors-beyond",
        tries: "sectors at, over and far beyond the end, and ones that wrap",
        run: sectors_beyond,
    },
    Attack { name: "data-lengths", tries: "data that are no whole sectors", run: data_lengths },
    Attack { name: "header-lengths", tries: "headers of all lengths", run: header_lengths },
    Attack { name: "no-status", tries: "chains without a byte for the status", run: no_status },
    Attack { name: "status-alone", tries: "chains that are a status byte alone", run: status_alone },
    Attack {
        name: "status-on-header",
        tries: "the status byte on the request's header",
        run: status_on_header,
    },
    Attack { name: "status-nowhere", tries: "the status byte where no memory is", run: status_nowhere },
    Attack { name: "flush-with-data", tries: "flushes with data and sectors", run: flush_with_data },
    Attack { name: "id-buffers", tries: "serial numbers into buffers of all lengths", run: id_buffers },
    Attack {
        name: "discard-ranges",
        tries: "discards of nothing, of everything, beyond the end, of too many ranges",
        run: discard_ranges,
    },
    Attack { name: "zeroes-ranges", tries: "the same for write zeroes, with every flag", run: zeroes_ranges },
    Attack { name: "one-page-often", tries: "one page of data 60 times in a request", run: one_page_often },
    Attack {
        name: "not-negotiated",
        tries: "flush, discard and zeroing that were not negotiated",
        run: not_negotiated,
    },
];

fn request_types(site: &mut Site<'_>) -> Result<(), String> {
    site.live(F_FLUSH)?;
    for kind in (2..=64).chain([0x100, 0x8000_0000, u32::MAX]) {
        for with in [IN, OUT] {
            if site.device.status() & crate::virtio::NEEDS_RESET != 0 {
                site.live(F_FLUSH)?;
            }
            site.request_with(kind, 0, site.data_desc(with, SECTOR, 2))?;
            site.settled().map_err(|why| format!("type {kind}: {why}"))?;
        }
    }
    Ok(())
}

fn sectors_beyond(site: &mut Site<'_>) -> Result<(), String> {
    let capacity = site.device.capacity();
    for kind in [IN, OUT] {
        for sector in [capacity, capacity + 1, u64::MAX, u64::MAX - 1, 1 << 55, 1 << 63, u64::MAX / 512] {
            site.live(0)?;
            site.request(kind, sector)?;
            site.refused().map_err(|why| format!("sector {sector:#x}: {why}"))?;
        }
        site.live(0)?;
        site.request_with(kind, capacity - 1, site.data_desc(kind, 2 * SECTOR, 2))?;
        site.refused().map_err(|why| format!("over the end: {why}"))?;
    }
    Ok(())
}

fn data_lengths(site: &mut Site<'_>) -> Result<(), String> {
    for kind in [IN, OUT] {
        for len in [1, 2, 511, 513, 1023, 4095] {
            site.live(0)?;
            site.request_with(kind, 0, site.data_desc(kind, len, 2))?;
            site.refused().map_err(|why| format!("type {kind}, {len} bytes: {why}"))?;
        }
    }
    Ok(())
}

fn header_lengths(site: &mut Site<'_>) -> Result<(), String> {
    for len in 1..HEADER {
        site.live(0)?;
        site.write_header(IN, 0)?;
        let header = Descriptor { len, ..site.header_desc(1) };
        site.offer(&[header, site.data_desc(IN, SECTOR, 2), site.status_desc()])?;
        site.refused().map_err(|why| format!("{len} bytes: {why}"))?;
    }
    Ok(())
}

fn no_status(site: &mut Site<'_>) -> Result<(), String> {
    for kind in [OUT, FLUSH] {
        site.live(F_FLUSH)?;
        site.write_header(kind, 0)?;
        site.offer(&[Descriptor { flags: 0, ..site.header_desc(0) }])?;
        site.needs_reset().map_err(|why| format!("type {kind}: {why}"))?;
    }
    Ok(())
}

fn status_alone(site: &mut Site<'_>) -> Result<(), String> {
    site.live(0)?;
    site.offer(&[site.status_desc()])?;
    site.refused()
}

fn status_on_header(site: &mut Site<'_>) -> Result<(), String> {
    for _ in 0..16 {
        site.live(0)?;
        site.write_header(OUT, 0)?;
        let status = Descriptor { addr: site.header.addr(), ..site.status_desc() };
        site.offer(&[site.header_desc(1), site.data_desc(OUT, SECTOR, 2), status])?;
        site.settled()?;
    }
    Ok(())
}

fn status_nowhere(site: &mut Site<'_>) -> Result<(), String> {
    for addr in super::rings::NOWHERE {
        site.live(0)?;
        site.write_header(IN, 0)?;
        let status = Descriptor { addr, ..site.status_desc() };
        site.offer(&[site.header_desc(1), site.data_desc(IN, SECTOR, 2), status])?;
        if site.settled()? == Settled::Answered(0) {
            return Err(format!("status at {addr:#x}: a status of 0 was seen elsewhere"));
        }
    }
    Ok(())
}

fn flush_with_data(site: &mut Site<'_>) -> Result<(), String> {
    for kind in [IN, OUT] {
        site.live(F_FLUSH)?;
        site.request_with(FLUSH, u64::MAX, site.data_desc(kind, SECTOR, 2))?;
        site.settled()?;
    }
    Ok(())
}

fn id_buffers(site: &mut Site<'_>) -> Result<(), String> {
    for len in [1, 19, 20, 21, 512, 4096] {
        site.live(0)?;
        site.request_with(GET_ID, 0, site.data_desc(IN, len, 2))?;
        site.settled()?;
        // The serial number has 20 bytes.
        let mut after = [0; 64];
        site.data.read(20, &mut after).map_err(outside)?;
        if after != [0; 64] {
            return Err(format!("more than a serial number was written to {len} bytes"));
        }
    }
    Ok(())
}

/// A request with this range in its data, and `bytes` of data.
fn range(
    site: &mut Site<'_>,
    kind: u32,
    (sector, sectors, flags): (u64, u32, u32),
    bytes: u32,
) -> Result<(), String> {
    site.live(F_DISCARD | F_WRITE_ZEROES)?;
    for at in (0..bytes.min(4096 - 15)).step_by(16) {
        let at = usize::try_from(at).unwrap_or(0);
        site.data.store(at, sector, Order::Relaxed).map_err(outside)?;
        site.data.store(at + 8, sectors, Order::Relaxed).map_err(outside)?;
        site.data.store(at + 12, flags, Order::Relaxed).map_err(outside)?;
    }
    site.status.store(0, NO_STATUS, Order::Relaxed).map_err(outside)?;
    site.request_with(kind, 0, site.data_desc(OUT, bytes, 2))
}

fn bad_ranges(site: &mut Site<'_>, kind: u32) -> Result<(), String> {
    let capacity = site.device.capacity();
    for bad in [
        (capacity, 1, 0),
        (capacity - 1, 2, 0),
        (u64::MAX, 1, 0),
        (u64::MAX, u32::MAX, 0),
        (0, u32::MAX, 0),
        (1 << 63, 8, 0),
        (0, 8, 0x8000_0000),
        (0, 8, 2),
    ] {
        range(site, kind, bad, 16)?;
        site.refused().map_err(|why| format!("range {bad:?}: {why}"))?;
    }
    for bytes in [1, 15, 17, 4096] {
        range(site, kind, (0, 1, 0), bytes)?;
        site.refused().map_err(|why| format!("{bytes} bytes of ranges: {why}"))?;
    }
    // Nothing at all may be a success.
    range(site, kind, (0, 0, 0), 16)?;
    site.settled().map(|_| ())
}

fn discard_ranges(site: &mut Site<'_>) -> Result<(), String> {
    bad_ranges(site, DISCARD)?;
    // Unmap is no flag of a discard.
    range(site, DISCARD, (0, 8, 1), 16)?;
    site.refused()
}

fn zeroes_ranges(site: &mut Site<'_>) -> Result<(), String> {
    bad_ranges(site, WRITE_ZEROES)
}

fn one_page_often(site: &mut Site<'_>) -> Result<(), String> {
    for kind in [IN, OUT] {
        site.live(0)?;
        site.write_header(kind, 0)?;
        let flags = DESC_NEXT | if kind == IN { DESC_WRITE } else { 0 };
        let addr = site.data.addr();
        let mut chain = alloc::vec![site.header_desc(1)];
        chain.extend((1..=60).map(|at| Descriptor { addr, len: 4096, flags, next: at + 1 }));
        chain.push(site.status_desc());
        site.offer(&chain)?;
        if site.settled()? != Settled::Answered(0) {
            return Err(format!("type {kind} failed"));
        }
    }
    Ok(())
}

fn not_negotiated(site: &mut Site<'_>) -> Result<(), String> {
    for kind in [DISCARD, WRITE_ZEROES, FLUSH] {
        site.live(0)?;
        site.data.store(8, 8_u32, Order::Relaxed).map_err(outside)?;
        site.request_with(kind, 0, site.data_desc(OUT, 16, 2))?;
        site.settled().map_err(|why| format!("type {kind}: {why}"))?;
    }
    Ok(())
}
