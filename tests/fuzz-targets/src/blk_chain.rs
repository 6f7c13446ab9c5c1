//! Chains of any content, offered by the rules, through a whole device whose storage may be
//! slow, full or failing.

use crate::Input;
use crate::rig::{Direct, RAM_BYTES, Rig};
use crate::watched::{Watched, watched};
use backend::access::Width;
use backend::blk::DeviceOptions;
use backend::mmio::regs;
use backend::testkit::{Driver, STATUS_UNTOUCHED, Segments, TestMemory};
use std::ops::Range;

/// Chains at most.
const CHAINS: usize = 12;
/// Descriptors that a chain needs at most: nothing is given back to the driver.
const CHAIN_DESCS: usize = 16;
/// Bytes that a chain needs at most, its indirect table included.
const CHAIN_BYTES: u64 = 0x5000;
const QUEUE_SIZE: u16 = 256;
const NEEDS_RESET: u32 = 0x40;
/// `writeback` of the configuration space.
const WRITEBACK: u64 = 32;

/// A chain that the device has.
struct Offered {
    head: u16,
    into: Segments,
    /// The device may ask for a reset instead of an answer: there is no status byte, or a
    /// buffer goes around the end of the address space.
    broken: bool,
}

/// Offers chains and checks what the device does to the memory. Returns whether it served
/// one well.
///
/// # Panics
/// If the device writes anything but writable buffers of chains that it has and the used
/// ring, if a chain is neither returned nor a reason to ask for a reset, if it is returned
/// twice, or if the device claims to have written more than there was room for.
pub fn blk_chain(data: &[u8]) -> bool {
    let mut input = Input::new(data);
    let flags = input.u8();
    let read_only = flags & 1 != 0;
    let mut rig = Rig::new(&DeviceOptions { serial: "fuzz".into(), read_only, ..DeviceOptions::default() });
    let wanted = if flags & 2 != 0 { u64::MAX } else { input.u64() };
    rig.driver.init(wanted, QUEUE_SIZE);
    rig.driver.indirect = flags & 4 != 0;
    if flags & 8 != 0 {
        rig.driver.set_config(WRITEBACK, Width::One, 0);
    }
    let watched = watched(rig.mem.clone());
    let mut offered = Vec::new();
    let mut returned = 0;
    let mut served = false;
    for turn in 0..CHAINS {
        let room = TestMemory::BASE + RAM_BYTES as u64 - rig.driver.alloc(0);
        if input.is_empty() || rig.driver.free_descs() < CHAIN_DESCS || room < CHAIN_BYTES {
            break;
        }
        let how = input.u8();
        rig.set_faults(input.u8());
        let (out, into) = chain(&mut input, &mut rig);
        if !out.is_empty() || !into.is_empty() {
            let no_status = into.iter().all(|&(_, len)| len == 0);
            let wraps = |&(addr, len): &(u64, usize)| addr.checked_add(len as u64).is_none();
            let broken = no_status || out.iter().chain(&into).any(wraps);
            let head = rig.driver.add(out, into.clone());
            offered.push(Offered { head, into, broken });
            rig.driver.kick();
        }
        // Sometimes several at once.
        if how & 3 == 0 && turn + 1 < CHAINS {
            continue;
        }
        work(&rig, &watched, &offered);
        served |= take_used(&rig, &mut offered, &mut returned);
        if stopped(&mut rig.driver, &offered) {
            break;
        }
    }
    rig.set_faults(0);
    work(&rig, &watched, &offered);
    served |= take_used(&rig, &mut offered, &mut returned);
    assert!(stopped(&mut rig.driver, &offered) || offered.is_empty(), "every chain came back");
    rig.must_serve_after_reset();
    served
}

/// The device works; it may write the used ring and the buffers that were not returned.
fn work(rig: &Rig, watched: &Watched, offered: &[Offered]) {
    let buffers = offered.iter().flat_map(|one| &one.into).map(|&(addr, len)| end_of(addr, len));
    watched.observer.set(buffers.chain([used_ring(&rig.driver)]));
    assert!(rig.run(watched), "the device comes to rest");
}

fn end_of(addr: u64, len: usize) -> Range<u64> {
    addr..addr.saturating_add(len as u64)
}

fn used_ring(driver: &Driver<Direct>) -> Range<u64> {
    end_of(driver.used(0), 6 + 8 * usize::from(QUEUE_SIZE))
}

/// Takes what the device has returned from its place in `offered`; whether one was served.
fn take_used(rig: &Rig, offered: &mut Vec<Offered>, returned: &mut u16) -> bool {
    let mut served = false;
    while *returned != rig.mem.peek_u16(rig.driver.used(2)) {
        let elem = rig.driver.used(4 + u64::from(*returned) * 8);
        let [head, high, len, len_high] = [0, 2, 4, 6].map(|at| rig.mem.peek_u16(elem + at));
        let place = offered.iter().position(|one| one.head == head).expect("a chain that the device has");
        let one = offered.swap_remove(place);
        let room: usize = one.into.iter().map(|&(_, len)| len).sum();
        let len = usize::from(len_high) << 16 | usize::from(len);
        assert!(high == 0 && len <= room, "no more than the room");
        served |= status_byte(&one.into).is_some_and(|at| rig.mem.peek(at, 1) == [0]);
        *returned += 1;
    }
    served
}

/// Where the status byte of a chain lies, if in the RAM.
fn status_byte(into: &Segments) -> Option<u64> {
    let (addr, len) = into.iter().copied().rfind(|&(_, len)| len > 0)?;
    inside(addr, len).then(|| addr + len as u64 - 1)
}

/// Whether the device asked for a reset; it must have had a reason.
fn stopped(driver: &mut Driver<Direct>, offered: &[Offered]) -> bool {
    let needs_reset = driver.read(regs::STATUS) & NEEDS_RESET != 0;
    assert!(!needs_reset || offered.iter().any(|one| one.broken), "only a broken chain stops the device");
    needs_reset
}

fn inside(addr: u64, len: usize) -> bool {
    addr.checked_sub(TestMemory::BASE).is_some_and(|at| at.saturating_add(len as u64) <= RAM_BYTES as u64)
}

/// A place for a buffer, filled with bytes of the input; or any address outside the RAM.
fn place(input: &mut Input<'_>, rig: &mut Rig, len: usize, wild: bool) -> (u64, usize) {
    if wild {
        let addr = input.u64();
        return (if inside(addr, 0) { !addr } else { addr }, len);
    }
    let addr = rig.driver.alloc(len);
    let content = input.below(64).min(len);
    rig.mem.poke(addr, input.bytes(content));
    (addr, len)
}

/// A header that often makes sense, in pieces, and more buffers.
fn chain(input: &mut Input<'_>, rig: &mut Rig) -> (Segments, Segments) {
    let shape = input.u8();
    let mut header = [0u8; 16];
    header[0] = input.u8() % 16;
    header[3] = if shape & 1 != 0 { input.u8() } else { 0 };
    let sector = if shape & 2 != 0 { input.u64() } else { u64::from(input.u8() % 40) };
    header[8..].copy_from_slice(&sector.to_le_bytes());
    let mut out = Segments::new();
    let mut rest: &[u8] = &header[..16 - usize::from(shape >> 6 & 1)];
    let cut = if shape & 4 != 0 { 1 + input.below(16) } else { 16 };
    while !rest.is_empty() && out.len() < 8 {
        let (now, later) = rest.split_at(cut.min(rest.len()));
        let addr = rig.driver.alloc(now.len());
        rig.mem.poke(addr, now);
        out.push((addr, now.len()));
        rest = later;
    }
    let mut into = Segments::new();
    for _ in 0..input.below(5) {
        let kind = input.u8();
        let len = input.choose(&[512, 1024, 16, 1, 511, 4096, 20, 0]);
        let segment = place(input, rig, len, kind & 0x70 == 0x70);
        if kind & 1 == 0 {
            out.push(segment);
        } else {
            into.push(segment);
        }
    }
    if shape & 8 == 0 {
        into.push(place(input, rig, 1, false));
    }
    if let Some(at) = status_byte(&into) {
        rig.mem.poke(at, &[STATUS_UNTOUCHED]);
    }
    (out, into)
}
