//! Reads of 4 KiB without end, for the benchmark: batches of [`BATCH`] random sectors, one
//! notification for each, asleep until all are done. No interrupts, and no CPU used while waiting.
//!
//! Without more words it goes on until it is destroyed: dom0 pauses it and asks its stub what was
//! done. With `spread=MIB,...` each of these is measured in each of `rounds=` for `ms=`, with each
//! disk in turn, which `series=` names by address: that much memory, and all of it at random, is
//! what the data goes to; marks on the console as `tests/bench/meter/src/watch.rs` reads them.

use crate::devices;
use crate::pattern::SECTOR;
use crate::registers::map;
use crate::say::{say, sleep};
use crate::virtio::{Bytes, DRIVER_OK, Device, F_VERSION_1, NO_INTERRUPT, Piece, Queue};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;
use kernel::{BootInfo, Hypervisor, Xen};

/// Reads under way at once.
const BATCH: usize = 16;
/// Descriptors: three for each read.
const QUEUE: u16 = 64;
const PAGE: u64 = 4096;
const MIB: u64 = 1 << 20;
const HEADER: usize = 16;
/// All memory is gone through once before it is measured, a page in each of this many bytes: no more than
/// a stub maps at once, so that one that can keep it mapped does.
const SWEEP_STRIDE: u64 = MIB;
/// Work before a span.
const SETTLE_NS: u64 = 200_000_000;
/// For dom0 to ask the stub: there is no way to hear its answer.
const ASKED_NS: u64 = 400_000_000;

/// Places in memory, one after the other over the gaps.
struct Places(Vec<Range<u64>>);

impl Places {
    /// The bytes of all.
    fn bytes(&self) -> u64 {
        self.0.iter().map(|range| range.end - range.start).sum()
    }

    /// The address of byte `at`.
    fn address(&self, mut at: u64) -> Option<u64> {
        for range in &self.0 {
            let len = range.end - range.start;
            if at < len {
                return Some(range.start + at);
            }
            at -= len;
        }
        None
    }
}

/// Numbers without a pattern that matters here (xorshift64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        for shift in [13, -7, 17_i32] {
            let by = shift.unsigned_abs();
            self.0 ^= if shift > 0 { self.0 << by } else { self.0 >> by };
        }
        self.0 % limit.max(1)
    }
}

struct Load<'a> {
    device: &'a Device<'a>,
    queue: Queue,
    /// Headers and status bytes of a batch.
    frames: Bytes,
    random: Random,
    /// Sectors of the disk.
    capacity: u64,
    requests: u64,
    sectors: u64,
}

impl<'a> Load<'a> {
    fn start(device: &'a Device<'a>) -> Result<Load<'a>, String> {
        device.reset()?;
        if !device.negotiate(F_VERSION_1) {
            return Err(String::from("VERSION_1 alone is not accepted"));
        }
        let queue = Queue::new(QUEUE, NO_INTERRUPT)?;
        device.use_queue(&queue)?;
        device.add_status(DRIVER_OK);
        let random = Random(device.xen.now_ns() | 1);
        let capacity = device.capacity();
        Ok(Load { device, queue, frames: Bytes::new(1)?, random, capacity, requests: 0, sectors: 0 })
    }

    /// Reads `len` bytes to each of these addresses, all at once.
    fn batch(&mut self, addresses: &[u64], len: u64) -> Result<(), String> {
        let sectors = len / SECTOR as u64;
        let blocks = self.capacity / sectors;
        let statuses = BATCH * HEADER;
        for (n, &addr) in addresses.iter().enumerate() {
            let mut header = [0; HEADER];
            let sector = self.random.below(blocks) * sectors;
            header[8..].copy_from_slice(&sector.to_le_bytes());
            self.frames.write(n * HEADER, &header)?;
            self.frames.write(statuses + n, &[0xff])?;
            let mut pieces = self.frames.pieces(n * HEADER, HEADER, &[HEADER], false)?;
            pieces.push(Piece { addr, len: usize::try_from(len).unwrap_or(0), writable: true });
            pieces.extend(self.frames.pieces(statuses + n, 1, &[1], true)?);
            self.queue.offer(&pieces)?;
        }
        self.device.notify();
        let count = u16::try_from(addresses.len()).unwrap_or(u16::MAX);
        if !self.queue.take_back_all(self.device.xen, count) {
            return Err(String::from("a batch was never answered"));
        }
        let mut status = [0xff; BATCH];
        self.frames.read(statuses, &mut status)?;
        if status.iter().take(addresses.len()).any(|&status| status != 0) {
            return Err(format!("status {status:?}"));
        }
        self.requests += addresses.len() as u64;
        self.sectors += sectors * addresses.len() as u64;
        Ok(())
    }

    /// A batch to random pages of the first `bytes` of the places.
    fn spread(&mut self, places: &Places, bytes: u64) -> Result<(), String> {
        let mut addresses = [0; BATCH];
        for address in &mut addresses {
            let page = self.random.below(bytes / PAGE);
            *address = places.address(page * PAGE).ok_or("memory ends early")?;
        }
        self.batch(&addresses, PAGE)
    }

    /// As the meter reads marks: time, and what was done.
    fn counters(&self) -> String {
        let ns = self.device.xen.now_ns();
        let (seconds, rest) = (ns / 1_000_000_000, ns % 1_000_000_000);
        format!("{seconds}.{rest:09},{},{},0,0", self.requests, self.sectors)
    }

    /// Measures the first `bytes` for `span_ns`.
    fn measure(&mut self, places: &Places, bytes: u64, span_ns: u64, label: &str) -> Result<(), String> {
        let steps = bytes / SWEEP_STRIDE;
        let swept: Vec<u64> = (0..steps).filter_map(|step| places.address(step * SWEEP_STRIDE)).collect();
        for addresses in swept.chunks(BATCH) {
            self.batch(addresses, PAGE)?;
        }
        self.spread_for(places, bytes, SETTLE_NS)?;
        // What follows is counted by itself.
        ask(self.device.xen, &format!("map.{label}.swept"));
        log::info!("PF begin {}", self.counters());
        self.spread_for(places, bytes, span_ns)?;
        log::info!("PF end {label} {}", self.counters());
        Ok(())
    }

    fn spread_for(&mut self, places: &Places, bytes: u64, ns: u64) -> Result<(), String> {
        let until_ns = self.device.xen.now_ns().saturating_add(ns);
        while self.device.xen.now_ns() < until_ns {
            self.spread(places, bytes)?;
        }
        Ok(())
    }
}

/// Has dom0 read the stub's counters.
fn ask(xen: &Xen, label: &str) {
    log::info!("PF stats {label}");
    sleep(xen, ASKED_NS);
}

/// All memory that nothing of ours is in: the most that the heap gives away, and other banks.
/// Never given back.
fn unused_memory(boot: &BootInfo) -> Places {
    let mut places = Vec::new();
    let mut bytes = usize::try_from(boot.ram.end - boot.ram.start).unwrap_or(0);
    while bytes > 0 {
        let mut block: Vec<u8> = Vec::new();
        if block.try_reserve_exact(bytes).is_ok() {
            let block = block.leak();
            let start = (block.as_ptr().addr() as u64).next_multiple_of(2 * MIB);
            places.push(start..start + (bytes as u64).saturating_sub(4 * MIB) / MIB * MIB);
            break;
        }
        bytes = bytes.saturating_sub(8 << 20);
    }
    places.extend(devices::memory(boot.device_tree).into_iter().skip(1));
    Places(places)
}

/// Reads until it is destroyed, or all that was asked for is measured.
pub fn run(xen: &Xen, windows: &[Range<u64>], boot: &'static BootInfo) -> Result<(), String> {
    let registers = windows.iter().map(map).collect::<Result<Vec<_>, _>>()?;
    let devices = registers.iter().map(|registers| Device::new(xen, registers));
    let devices = devices.collect::<Result<Vec<_>, _>>()?;
    let Some(spreads) = boot.option("spread") else {
        return forever(devices.first().ok_or("no virtio-mmio device")?);
    };
    let number = |key: &str, default: u64| boot.option(key).unwrap_or("").parse().unwrap_or(default);
    let series: Vec<&str> = boot.option("series").unwrap_or("").split(',').collect();
    if series.len() != devices.len() {
        return Err(format!("{} disks, and names for {}", devices.len(), series.len()));
    }
    let mut loads = devices.iter().map(Load::start).collect::<Result<Vec<_>, _>>()?;
    let places = unused_memory(boot);
    say(xen, "unused_mib", places.bytes() / MIB);
    ask(xen, "map.start");
    for round in 1..=number("rounds", 1) {
        for mib in spreads.split(',').filter_map(|mib| mib.parse::<u64>().ok()) {
            if mib * MIB > places.bytes() {
                return Err(format!("{mib} MiB are more than there are"));
            }
            for (load, name) in loads.iter_mut().zip(&series) {
                let label = format!("map.{name}.{mib}.{round}");
                load.measure(&places, mib * MIB, number("ms", 800) * 1_000_000, &label)?;
                ask(xen, &format!("map.{label}"));
            }
        }
    }
    Ok(())
}

/// Reads to the same pages until it is destroyed.
fn forever(device: &Device<'_>) -> Result<(), String> {
    let mut load = Load::start(device)?;
    let buffers = Bytes::new(BATCH)?;
    let pieces = buffers.pieces(0, BATCH * 4096, &[4096], true)?;
    let addresses: Vec<u64> = pieces.iter().map(|piece| piece.addr).collect();
    loop {
        load.batch(&addresses, PAGE)?;
    }
}
