//! Attacks by the rings: places, indices and heads.

use super::Attack;
use super::site::{F_EVENT_IDX, IN, OUT, SECTOR, SIZE, Settled, Site};
use crate::virtio::{DESC_WRITE, Descriptor, outside};
use alloc::format;
use alloc::string::String;
use kernel::Order;

/// No RAM of the guest's (`public/arch-arm.h`): devices, the interrupt controller, the serial port, where
/// grants may be mapped, and what is nobody's. The pages of console and xenstore are RAM.
pub const NOWHERE: [u64; 8] = [
    0,
    0x0200_0000,
    0x0300_1000,
    0x2200_0000,
    0x3800_0000,
    0x00ff_ffff_f000,
    0x7fff_ffff_ffff_f000,
    0xffff_ffff_ffff_f000,
];

pub(super) const ATTACKS: &[Attack] = &[
    Attack { name: "rings-nowhere", tries: "each part of the queue where no memory is", run: rings_nowhere },
    Attack { name: "rings-askew", tries: "each part of the queue at an odd address", run: rings_askew },
    Attack {
        name: "rings-at-the-end",
        tries: "parts of the queue that wrap at the end of the address space",
        run: rings_at_the_end,
    },
    Attack {
        name: "rings-on-each-other",
        tries: "all parts of the queue in one page",
        run: rings_on_each_other,
    },
    Attack {
        name: "used-on-descriptors",
        tries: "a used ring that overwrites the descriptors",
        run: used_on_descriptors,
    },
    Attack { name: "data-on-rings", tries: "reads from the disk into the rings", run: data_on_rings },
    Attack {
        name: "head-beyond-the-table",
        tries: "heads that are no descriptor",
        run: head_beyond_the_table,
    },
    Attack { name: "head-twice", tries: "the same chain made available many times at once", run: head_twice },
    Attack {
        name: "index-jumps",
        tries: "an available index that jumps by more than the queue",
        run: index_jumps,
    },
    Attack { name: "index-back", tries: "an available index that goes back", run: index_back },
    Attack {
        name: "index-oscillates",
        tries: "an available index that goes to and fro amid requests",
        run: index_oscillates,
    },
    Attack { name: "index-wraps", tries: "more requests than an index counts", run: index_wraps },
    Attack {
        name: "event-index-jumps",
        tries: "used_event anywhere, with EVENT_IDX",
        run: event_index_jumps,
    },
    Attack { name: "available-flags", tries: "every flag of the available ring", run: available_flags },
    Attack {
        name: "used-ring-written",
        tries: "the driver writes the used ring all the while",
        run: used_ring_written,
    },
];

fn rings_nowhere(site: &mut Site<'_>) -> Result<(), String> {
    for nowhere in NOWHERE {
        for part in 0..3 {
            let mut parts = site.parts();
            parts[part] = nowhere;
            site.live_at(SIZE.into(), parts)?;
            site.request(IN, 0)?;
            site.device.sleep_ms(1);
        }
    }
    Ok(())
}

fn rings_askew(site: &mut Site<'_>) -> Result<(), String> {
    for by in [1, 2, 3, 4, 7, 8, 15, 4095] {
        for part in 0..3 {
            let mut parts = site.parts();
            parts[part] += by;
            site.live_at(SIZE.into(), parts)?;
            site.request(IN, 0)?;
            site.device.sleep_ms(1);
        }
    }
    Ok(())
}

fn rings_at_the_end(site: &mut Site<'_>) -> Result<(), String> {
    for below in [16, 64, 1024, 4096] {
        for part in 0..3 {
            let mut parts = site.parts();
            parts[part] = u64::MAX - below + 1;
            site.live_at(SIZE.into(), parts)?;
            site.request(IN, 0)?;
        }
    }
    Ok(())
}

fn rings_on_each_other(site: &mut Site<'_>) -> Result<(), String> {
    for by in [0, 16, 64, 256] {
        let desc = site.desc.addr();
        site.live_at(SIZE.into(), [desc, desc + by, desc + by])?;
        for n in 0..8 {
            site.request(IN, n)?;
        }
        for word in 0..64_u16 {
            site.desc.store(usize::from(word) * 2, word, Order::Relaxed).map_err(outside)?;
            site.device.notify();
        }
    }
    Ok(())
}

fn used_on_descriptors(site: &mut Site<'_>) -> Result<(), String> {
    let [desc, avail, _] = site.parts();
    site.live_at(SIZE.into(), [desc, avail, desc])?;
    for n in 0..u64::from(SIZE) {
        site.request(OUT, n % 16)?;
    }
    site.device.sleep_ms(5);
    Ok(())
}

fn data_on_rings(site: &mut Site<'_>) -> Result<(), String> {
    for part in 0..3 {
        site.live(0)?;
        let addr = site.parts()[part];
        for sector in 0..8 {
            let data = Descriptor { addr, ..site.data_desc(IN, SECTOR, 2) };
            site.request_with(IN, sector, data)?;
        }
        site.device.sleep_ms(5);
    }
    Ok(())
}

fn head_beyond_the_table(site: &mut Site<'_>) -> Result<(), String> {
    for head in [SIZE, SIZE + 1, 0x7fff, 0x8000, u16::MAX] {
        site.live(0)?;
        site.publish(head)?;
        site.device.notify();
        site.needs_reset().map_err(|why| format!("head {head}: {why}"))?;
    }
    Ok(())
}

fn head_twice(site: &mut Site<'_>) -> Result<(), String> {
    site.live(0)?;
    site.write_header(IN, 0)?;
    for (index, desc) in (0..).zip([site.header_desc(1), site.data_desc(IN, SECTOR, 2), site.status_desc()]) {
        site.describe(index, desc)?;
    }
    for _ in 0..SIZE {
        site.publish(0)?;
    }
    site.device.notify();
    site.settled().map(|_| ())
}

fn index_jumps(site: &mut Site<'_>) -> Result<(), String> {
    for jump in [SIZE + 1, SIZE * 2, 0x7fff, 0x8000, u16::MAX] {
        site.live(0)?;
        site.request(IN, 0)?;
        site.settled()?;
        site.published = site.published.wrapping_add(jump);
        site.set_available(site.published)?;
        site.device.notify();
        site.needs_reset().map_err(|why| format!("by {jump}: {why}"))?;
    }
    Ok(())
}

fn index_back(site: &mut Site<'_>) -> Result<(), String> {
    site.live(0)?;
    for n in 0..4 {
        site.request(IN, n)?;
    }
    site.settled()?;
    site.published = 1;
    site.set_available(1)?;
    site.device.notify();
    site.needs_reset()
}

fn index_oscillates(site: &mut Site<'_>) -> Result<(), String> {
    site.live(0)?;
    for n in 0..64 {
        site.request(IN, n % 16)?;
        for to in [0, u16::MAX, site.published, site.published.wrapping_sub(1), site.published] {
            site.set_available(to)?;
        }
        site.device.notify();
    }
    Ok(())
}

fn index_wraps(site: &mut Site<'_>) -> Result<(), String> {
    site.live(0)?;
    // From just below the end the index wraps within the queue's size.
    for n in 0..3 * u64::from(SIZE) {
        site.request(IN, n % 16)?;
        if site.settled()? != Settled::Answered(0) {
            return Err(format!("request {n} failed"));
        }
    }
    Ok(())
}

fn event_index_jumps(site: &mut Site<'_>) -> Result<(), String> {
    site.live(F_EVENT_IDX)?;
    let used_event = 4 + 2 * usize::from(SIZE);
    for n in 0..u64::from(SIZE) {
        let event = u16::try_from(site.random(0x1_0000)).unwrap_or(0);
        site.avail.store(used_event, event, Order::Relaxed).map_err(outside)?;
        site.request(IN, n % 16)?;
        site.settled()?;
    }
    Ok(())
}

fn available_flags(site: &mut Site<'_>) -> Result<(), String> {
    site.live(0)?;
    for bit in 0..16 {
        for flags in [1_u16 << bit, u16::MAX << bit] {
            site.avail.store(0, flags, Order::Relaxed).map_err(outside)?;
            site.request(IN, bit)?;
            if site.settled()? != Settled::Answered(0) {
                return Err(format!("flags {flags:#x}: the request failed"));
            }
        }
    }
    Ok(())
}

fn used_ring_written(site: &mut Site<'_>) -> Result<(), String> {
    site.live(0)?;
    for n in 0..u64::from(SIZE) {
        site.request(IN, n % 16)?;
        for word in 0..32_usize {
            site.used.store(word * 4, u32::MAX, Order::Relaxed).map_err(outside)?;
        }
    }
    // The writable flag of a used ring's entry means nothing to the device.
    site.used.store(0, DESC_WRITE, Order::Relaxed).map_err(outside)?;
    Ok(())
}
