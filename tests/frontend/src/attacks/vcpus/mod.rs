//! Attacks by several vCPUs: three of them change what the stub reads, or use the registers, at full rate, while the
//! first one makes requests.

use super::Attack;
use super::site::{F_INDIRECT_DESC, IN, OUT, SECTOR, SIZE, Settled, Site};
use crate::registers::{
    CONFIG, CONFIG_GENERATION, DEVICE_FEATURES, DRIVER_FEATURES, DRIVER_FEATURES_SEL, INTERRUPT_ACK,
    INTERRUPT_STATUS, QUEUE_DESC, QUEUE_DEVICE, QUEUE_DRIVER, QUEUE_NOTIFY, QUEUE_READY, QUEUE_SEL,
    QUEUE_SIZE, STATUS,
};
use crate::virtio::{DESC_INDIRECT, DESC_NEXT, DESC_WRITE, Descriptor, NEEDS_RESET};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use kernel::Hypervisor;
use kernel::testing::other_cpu::{Blows, OtherCpu};
use kernel::testing::registers::Width::{Byte, Half, Word};

/// How long each goes on.
const SPAN_NS: u64 = 800_000_000;
/// Where nothing of a guest's is but this device.
const NOWHERE: u64 = 0x0200_0000;

pub(super) const ATTACKS: &[Attack] = &[
    Attack {
        name: "descriptors-by-others",
        tries: "addresses, lengths and flags that other vCPUs change while a chain is walked",
        run: |site| changed(site, 0, [address(site), length(site), flags(site)]),
    },
    Attack {
        name: "headers-by-others",
        tries: "a type and a sector that other vCPUs change while they are read",
        run: |site| changed(site, 0, [kind(site), sector(site), kind(site)]),
    },
    Attack {
        name: "available-by-others",
        tries: "heads and an index that other vCPUs change while they are taken",
        run: |site| changed(site, 0, [heads(site), index(site), heads(site)]),
    },
    Attack {
        name: "table-by-others",
        tries: "an indirect table that other vCPUs change while it is read",
        run: table_by_others,
    },
    Attack {
        name: "used-by-others",
        tries: "a used ring that other vCPUs write while the device does",
        run: |site| changed(site, 0, [used(site), used(site), used(site)]),
    },
    Attack {
        name: "all-read-registers",
        tries: "status and configuration read by four vCPUs at full rate, with requests under way",
        run: |site| served_beside(site, [read(site), read(site), read(site)]),
    },
    Attack {
        name: "all-notify",
        tries: "notifications of queues that there are and are not by four vCPUs at full rate",
        run: |site| served_beside(site, [notified(site), notified(site), notified(site)]),
    },
    Attack {
        name: "all-write-registers",
        tries: "selectors, sizes, features and acknowledgements written by four vCPUs at full rate",
        run: |site| changed(site, 0, [written(site), written(site), written(site)]),
    },
    Attack {
        name: "reset-by-others",
        tries: "resets and states by other vCPUs, with requests under way",
        run: |site| changed(site, 0, [states(site), states(site), read(site)]),
    },
    Attack {
        name: "queue-moved-by-others",
        tries: "a queue that other vCPUs move, start and stop while it is used",
        run: |site| changed(site, 0, [moved(site), moved(site), notified(site)]),
    },
];

/// The words of descriptor 1, which has a request's data.
fn address(site: &Site<'_>) -> Blows {
    Blows::default().store(&site.desc, Word, 16, [site.data.addr(), NOWHERE])
}

fn length(site: &Site<'_>) -> Blows {
    Blows::default().store(&site.desc, Word, 24, [SECTOR.into(), u32::MAX.into()])
}

fn flags(site: &Site<'_>) -> Blows {
    let [good, loops] = [DESC_NEXT | DESC_WRITE, DESC_INDIRECT | DESC_NEXT].map(u64::from);
    Blows::default().store(&site.desc, Half, 28, [good, loops]).store(&site.desc, Half, 30, [2, 1])
}

fn kind(site: &Site<'_>) -> Blows {
    Blows::default().store(&site.header, Word, 0, [IN.into(), OUT.into()])
}

fn sector(site: &Site<'_>) -> Blows {
    let high = Blows::default().store(&site.header, Word, 12, [0, u64::MAX]);
    high.store(&site.header, Word, 8, [1, u64::MAX])
}

fn heads(site: &Site<'_>) -> Blows {
    let slots = (0..usize::from(SIZE)).map(|slot| 4 + 2 * slot);
    slots.fold(Blows::default(), |blows, at| blows.store(&site.avail, Half, at, [0, u64::MAX]))
}

fn index(site: &Site<'_>) -> Blows {
    Blows::default().store(&site.avail, Half, 2, [1, 0x8000]).store(&site.avail, Half, 0, [0, 1])
}

fn used(site: &Site<'_>) -> Blows {
    (0..64).fold(Blows::default(), |blows, at| blows.store(&site.used, Word, at * 4, [0, u64::MAX]))
}

fn read(site: &Site<'_>) -> Blows {
    let offsets =
        [STATUS, INTERRUPT_STATUS, CONFIG_GENERATION, CONFIG, CONFIG + 4, DEVICE_FEATURES, QUEUE_READY];
    let words = offsets.iter().fold(Blows::default(), |blows, &at| blows.read(site.registers, Word, at));
    words.read(site.registers, Byte, CONFIG)
}

fn notified(site: &Site<'_>) -> Blows {
    Blows::default().write(site.registers, Word, QUEUE_NOTIFY, [0, 1]).write(
        site.registers,
        Word,
        QUEUE_NOTIFY,
        [0xffff, u64::MAX],
    )
}

fn written(site: &Site<'_>) -> Blows {
    let offsets = [QUEUE_SEL, QUEUE_SIZE, DRIVER_FEATURES_SEL, DRIVER_FEATURES, INTERRUPT_ACK, CONFIG];
    offsets.iter().fold(Blows::default(), |blows, &at| blows.write(site.registers, Word, at, [0, u64::MAX]))
}

fn states(site: &Site<'_>) -> Blows {
    let some = Blows::default().write(site.registers, Word, STATUS, [0, 0xf]);
    some.write(site.registers, Word, STATUS, [1, 0x80])
}

fn moved(site: &Site<'_>) -> Blows {
    let places = [QUEUE_DESC, QUEUE_DRIVER, QUEUE_DEVICE].iter();
    let blows = places.fold(Blows::default(), |blows, &at| {
        blows.write(site.registers, Word, at, [site.desc.addr(), NOWHERE])
    });
    blows.write(site.registers, Word, QUEUE_READY, [0, 1])
}

/// Starts three vCPUs with these.
fn others(blows: [Blows; 3]) -> Result<Vec<OtherCpu>, String> {
    let started = (1..)
        .zip(blows)
        .map(|(cpu, blows)| OtherCpu::start(cpu, blows).ok_or_else(|| format!("vCPU {cpu} does not start")));
    started.collect()
}

/// Ends them. Each has to have gone through its list.
fn end(others: Vec<OtherCpu>) -> Result<(), String> {
    let rounds: Vec<u64> = others.into_iter().map(OtherCpu::stop).collect();
    if rounds.contains(&0) { Err(format!("a vCPU did nothing: {rounds:?}")) } else { Ok(()) }
}

/// Makes requests, whatever becomes of them, while other vCPUs do that. The device is made live again and again.
fn changed(site: &mut Site<'_>, features: u64, blows: [Blows; 3]) -> Result<(), String> {
    beside(site, features, blows, |site, n| site.request(IN, n % 16))
}

fn beside(
    site: &mut Site<'_>,
    features: u64,
    blows: [Blows; 3],
    offer: fn(&mut Site<'_>, u64) -> Result<(), String>,
) -> Result<(), String> {
    site.live(features)?;
    let others = others(blows)?;
    let until_ns = site.device.xen.now_ns().saturating_add(SPAN_NS);
    let mut n = 0_u64;
    while site.device.xen.now_ns() < until_ns {
        offer(site, n)?;
        n = n.wrapping_add(1);
        if n.is_multiple_of(16) || site.device.status() & NEEDS_RESET != 0 {
            // The others may be in its way: then the next request finds no queue.
            let _ = site.live(features);
        }
    }
    end(others)
}

fn table_by_others(site: &mut Site<'_>) -> Result<(), String> {
    let offset = 16;
    let one = Blows::default().store(&site.table, Word, offset, [site.data.addr(), NOWHERE]);
    let two = Blows::default().store(&site.table, Word, offset + 8, [SECTOR.into(), u32::MAX.into()]);
    let flags = [DESC_NEXT | DESC_WRITE, DESC_INDIRECT].map(u64::from);
    let three = Blows::default().store(&site.table, Half, offset + 12, flags).store(
        &site.table,
        Half,
        offset + 14,
        [2, 0],
    );
    beside(site, F_INDIRECT_DESC, [one, two, three], |site, n| {
        site.write_header(IN, n % 16)?;
        let parts = [site.header_desc(1), site.data_desc(IN, SECTOR, 2), site.status_desc()];
        for (index, desc) in (0..).zip(parts) {
            desc.write(&site.table, index)?;
        }
        site.offer(&[Descriptor { addr: site.table.addr(), len: 48, flags: DESC_INDIRECT, next: 0 }])
    })
}

/// Makes requests while other vCPUs do that, which must not keep any from success.
fn served_beside(site: &mut Site<'_>, blows: [Blows; 3]) -> Result<(), String> {
    site.live(0)?;
    let others = others(blows)?;
    let until_ns = site.device.xen.now_ns().saturating_add(SPAN_NS);
    let mut n = 0_u64;
    while site.device.xen.now_ns() < until_ns {
        site.request(IN, n % 16)?;
        n = n.wrapping_add(1);
        match site.settled()? {
            Settled::Answered(0) => {}
            Settled::Answered(status) => return Err(format!("request {n} has status {status}")),
            Settled::NeedsReset => return Err(format!("request {n}: the device asks for a reset")),
        }
    }
    end(others)
}
