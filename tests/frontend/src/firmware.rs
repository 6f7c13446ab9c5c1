//! A driver as firmware has it: no optional feature, tiny queues, one request at a time, no
//! interrupts; and the ways in which such drivers cut their requests, start over and give up.

use crate::pattern::{self, SECTOR};
use crate::registers::map;
use crate::say::say;
use crate::virtio::{
    ACKNOWLEDGE, Bytes, DRIVER, DRIVER_OK, Device, F_VERSION_1, FEATURES_OK, NEEDS_RESET, NO_INTERRUPT,
    Queue, wait,
};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;
use kernel::{Hypervisor, Xen};

const IN: u32 = 0;
const OUT: u32 = 1;
const GET_ID: u32 = 8;
const HEADER: usize = 16;
/// Pages of each side of a request.
const PAGES: usize = 4;
/// What no device answers.
const NO_STATUS: u8 = 0xff;

/// How a driver uses the queue.
pub struct Framing {
    name: &'static str,
    queue: u16,
    /// Sectors of a request.
    sectors: usize,
    /// Where the header lies: at 4080 it ends its page, so that data begin a new one.
    header_at: usize,
    /// Lengths of descriptors, in turn.
    cuts: &'static [usize],
    /// Of the available ring.
    flags: u16,
}

const WHOLE: &[usize] = &[usize::MAX];

/// The ways that are tried.
pub const FRAMINGS: [Framing; 5] = [
    // Header and data in one descriptor, or data and status.
    Framing { name: "merged", queue: 2, sectors: 7, header_at: 0, cuts: WHOLE, flags: NO_INTERRUPT },
    Framing { name: "three", queue: 4, sectors: 8, header_at: 4080, cuts: WHOLE, flags: NO_INTERRUPT },
    Framing { name: "full", queue: 4, sectors: 16, header_at: 4080, cuts: WHOLE, flags: 0 },
    Framing { name: "many", queue: 32, sectors: 16, header_at: 4080, cuts: &[SECTOR], flags: 0 },
    // Even the header is cut, and no border is a sector's.
    Framing {
        name: "odd",
        queue: 64,
        sectors: 8,
        header_at: 0,
        cuts: &[5, 1, 300, 13, 2, 1000],
        flags: NO_INTERRUPT,
    },
];

/// A device that serves, and the memory for its requests.
pub struct Live<'a> {
    device: &'a Device<'a>,
    framing: &'a Framing,
    queue: Queue,
    from_driver: Bytes,
    from_device: Bytes,
}

impl<'a> Live<'a> {
    /// From reset to DRIVER_OK, with VERSION_1 and nothing else.
    pub fn start(device: &'a Device<'a>, framing: &'a Framing) -> Result<Live<'a>, String> {
        Live::start_with(device, framing, F_VERSION_1)
    }

    /// From reset to DRIVER_OK, with these features.
    fn start_with(device: &'a Device<'a>, framing: &'a Framing, features: u64) -> Result<Live<'a>, String> {
        device.reset()?;
        if !device.negotiate(features) {
            return Err(format!("features {features:#x} are not accepted"));
        }
        let queue = Queue::new(framing.queue, framing.flags)?;
        device.use_queue(&queue)?;
        device.add_status(DRIVER_OK);
        if device.status() != ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK {
            return Err(format!("status {:#x}", device.status()));
        }
        Ok(Live { device, framing, queue, from_driver: Bytes::new(PAGES)?, from_device: Bytes::new(PAGES)? })
    }

    /// Offers a request and notifies. `data` goes to the device; `room` is for its answer.
    fn submit(&mut self, kind: u32, sector: u64, data: &[u8], room: usize) -> Result<u16, String> {
        let Framing { header_at, cuts, .. } = *self.framing;
        let mut header = [0; HEADER];
        header[..4].copy_from_slice(&kind.to_le_bytes());
        header[8..].copy_from_slice(&sector.to_le_bytes());
        self.from_driver.write(header_at, &header)?;
        self.from_driver.write(header_at + HEADER, data)?;
        self.from_device.write(0, &vec![0xa5; room])?;
        self.from_device.write(room, &[NO_STATUS])?;
        let mut pieces = self.from_driver.pieces(header_at, HEADER + data.len(), cuts, false)?;
        pieces.extend(self.from_device.pieces(0, room + 1, cuts, true)?);
        let head = self.queue.head();
        self.queue.offer(&pieces)?;
        self.device.notify();
        Ok(head)
    }

    /// A whole request; the device's answer to one that succeeds.
    fn request(&mut self, kind: u32, sector: u64, data: &[u8], room: usize) -> Result<Vec<u8>, String> {
        let head = self.submit(kind, sector, data, room)?;
        let len = self.queue.take_back(self.device.xen, head)? as usize;
        let mut answer = vec![0; room + 1];
        self.from_device.read(0, &mut answer)?;
        match answer.pop() {
            Some(0) if len == room + 1 => Ok(answer),
            status => Err(format!("type {kind} sector {sector}: status {status:?}, {len} bytes written")),
        }
    }

    /// Writes and reads `range` in requests of the framing's size.
    pub fn write_and_verify(&mut self, range: &Range<u64>, tag: &str) -> Result<u64, String> {
        let mut requests = 0;
        for kind in [OUT, IN] {
            let mut at = range.start;
            while at < range.end {
                let count = self.framing.sectors.min(usize::try_from(range.end - at).unwrap_or(0));
                if kind == OUT {
                    self.request(OUT, at, &pattern::sectors(tag, at, count), 0)?;
                } else {
                    let data = self.request(IN, at, &[], count * SECTOR)?;
                    if let Some(sector) = pattern::wrong(&data, tag, at) {
                        return Err(format!(
                            "{}: sector {sector} reads as something else",
                            self.framing.name
                        ));
                    }
                }
                requests += 1;
                at += count as u64;
            }
        }
        Ok(requests)
    }
}

/// Uses the disk in `window`; what it writes is marked with `tag`.
pub fn run(xen: &Xen, window: &Range<u64>, tag: &str) -> Result<(), String> {
    let registers = map(window)?;
    let device = Device::new(xen, &registers)?;
    say(xen, "offered", format_args!("{:#x}", device.offered()));
    let sectors = device.capacity();
    say(xen, "sectors", sectors);

    not_offered(&device)?;
    let share = sectors / FRAMINGS.len() as u64;
    for (n, framing) in (0..).zip(&FRAMINGS) {
        let from_ns = xen.now_ns();
        let mut live = Live::start(&device, framing)?;
        let end = if n + 1 == FRAMINGS.len() as u64 { sectors } else { (n + 1) * share };
        let requests = live.write_and_verify(&(n * share..end), tag)?;
        // Never acknowledged: with interrupts on, the bit is there for good.
        say(xen, format_args!("{}_interrupts", framing.name), device.interrupts());
        say(xen, format_args!("{}_requests", framing.name), requests);
        say(xen, format_args!("{}_ms", framing.name), xen.now_ns().saturating_sub(from_ns) / 1_000_000);
    }
    let id = Live::start(&device, &FRAMINGS[1])?.request(GET_ID, 0, &[], 20)?;
    say(xen, "serial", String::from_utf8_lossy(&id).trim_end_matches('\0'));
    let data = Live::start_with(&device, &FRAMINGS[1], 0)?.request(IN, 0, &[], SECTOR)?;
    say(xen, "read_with_nothing", u8::from(pattern::wrong(&data, tag, 0).is_none()));
    said_twice(&device, tag)?;
    reset_in_flight(&device, tag)?;
    no_status_byte(&device, tag)?;
    device.reset()
}

/// A driver that accepts what is not offered: the device refuses it, serves nothing, and is there
/// for the next one.
fn not_offered(device: &Device<'_>) -> Result<(), String> {
    device.reset()?;
    say(device.xen, "features_ok_not_offered", u8::from(device.negotiate(F_VERSION_1 | 1)));
    let mut queue = Queue::new(4, NO_INTERRUPT)?;
    device.use_queue(&queue)?;
    device.add_status(DRIVER_OK);
    say(device.xen, "driver_ok_not_offered", u8::from(device.status() & DRIVER_OK != 0));
    let (from_driver, from_device) = (Bytes::new(1)?, Bytes::new(2)?);
    let mut pieces = from_driver.pieces(0, HEADER, WHOLE, false)?;
    pieces.extend(from_device.pieces(0, SECTOR + 1, WHOLE, true)?);
    queue.offer(&pieces)?;
    device.notify();
    device.sleep_ms(300);
    say(device.xen, "served_not_offered", queue.used_index());
    device.reset()
}

/// Status and features written again to a live device change nothing.
fn said_twice(device: &Device<'_>, tag: &str) -> Result<(), String> {
    let mut live = Live::start(device, &FRAMINGS[1])?;
    device.accept(0);
    device.set_status(device.status());
    device.set_status(ACKNOWLEDGE);
    let data = live.request(IN, 0, &[], SECTOR)?;
    let good = device.status() == 0xf && pattern::wrong(&data, tag, 0).is_none();
    say(device.xen, "said_twice", u8::from(good));
    Ok(())
}

/// After a reset during a request nothing arrives any more: neither data, nor an entry of the used
/// ring, nor an interrupt.
fn reset_in_flight(device: &Device<'_>, tag: &str) -> Result<(), String> {
    let mut quiet = 0;
    for n in 0..20_u64 {
        let mut live = Live::start(device, &FRAMINGS[2])?;
        live.submit(IN, n, &[], 16 * SECTOR)?;
        device.reset()?;
        let used = live.queue.used_index();
        live.from_device.write(0, &vec![0xee; 16 * SECTOR + 1])?;
        device.sleep_ms(20);
        let mut after = vec![0; 16 * SECTOR + 1];
        live.from_device.read(0, &mut after)?;
        let untouched = after.iter().all(|&byte| byte == 0xee);
        quiet += u64::from(untouched && live.queue.used_index() == used && device.interrupts() == 0);
    }
    say(device.xen, "quiet_after_reset", quiet);
    let data = Live::start(device, &FRAMINGS[2])?.request(IN, 0, &[], SECTOR)?;
    say(device.xen, "read_after_resets", u8::from(pattern::wrong(&data, tag, 0).is_none()));
    Ok(())
}

/// A queue of one, whose only descriptor leaves no room for a status: the device asks for a
/// reset, and is well after it.
fn no_status_byte(device: &Device<'_>, tag: &str) -> Result<(), String> {
    const ONE: Framing =
        Framing { name: "one", queue: 1, sectors: 1, header_at: 0, cuts: WHOLE, flags: NO_INTERRUPT };
    let mut live = Live::start(device, &ONE)?;
    live.from_driver.write(0, &[0; HEADER])?;
    let pieces = live.from_driver.pieces(0, HEADER, WHOLE, false)?;
    live.queue.offer(&pieces)?;
    device.notify();
    let asked = wait(device.xen, || device.status() & NEEDS_RESET != 0);
    say(device.xen, "needs_reset", u8::from(asked));
    say(device.xen, "needs_reset_interrupts", device.interrupts());
    let data = Live::start(device, &FRAMINGS[0])?.request(IN, 0, &[], SECTOR)?;
    say(device.xen, "read_after_needs_reset", u8::from(pattern::wrong(&data, tag, 0).is_none()));
    Ok(())
}
