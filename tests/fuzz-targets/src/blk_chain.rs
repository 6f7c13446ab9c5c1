//! Chains of any content, offered by the rules, through a whole device.

use crate::Input;
use crate::rig::{RAM_BYTES, Rig};
use backend::blk::DeviceOptions;
use backend::mmio::regs;
use backend::testkit::TestMemory;

/// Chains at most.
const CHAINS: usize = 12;
/// Where the rings end and buffers start.
const BUFFERS: usize = 0x4_0000;
/// Where the driver keeps its used ring.
const USED: std::ops::Range<usize> = 0x5000..0x8000;
const NEEDS_RESET: u32 = 0x40;

/// Offers chains and checks what the device does to the memory.
///
/// # Panics
/// If the device writes anything but writable buffers and the used ring, if a chain is
/// neither returned nor a reason to ask for a reset, or if it claims to have written more
/// than there was room for.
pub fn blk_chain(data: &[u8]) {
    let mut input = Input::new(data);
    let flags = input.u8();
    let read_only = flags & 1 != 0;
    let rig = Rig::new(&DeviceOptions { serial: "fuzz".into(), read_only, queues: 1 });
    let Rig { device, mut driver, mem } = rig;
    let wanted = if flags & 2 != 0 { u64::MAX } else { input.u64() | regs::F_VERSION_1 };
    driver.init(wanted, 64);
    driver.indirect = flags & 4 != 0;
    let mut rig = Rig { device, driver, mem };
    for _ in 0..CHAINS {
        if input.is_empty() || rig.driver.free_descs() < 24 {
            break;
        }
        let (out, into) = chain(&mut input, &rig.mem);
        if out.is_empty() && into.is_empty() {
            continue;
        }
        let room: usize = into.iter().map(|&(_, len)| len).sum();
        rig.driver.add(out, into.clone());
        rig.driver.kick();
        let before = rig.mem.peek(TestMemory::BASE, RAM_BYTES);
        assert!(rig.run(), "the device comes to rest");
        let after = rig.mem.peek(TestMemory::BASE, RAM_BYTES);
        check_writes(&before, &after, &into);
        if rig.driver.read(regs::STATUS) & NEEDS_RESET != 0 {
            assert_eq!(room, 0, "only a chain without a status byte stops the device");
            break;
        }
        let elem = rig.mem.peek(TestMemory::BASE + USED.start as u64 + 2, 2);
        assert_ne!(elem, [0, 0], "the chain came back");
        // The driver reads the writable parts; they may lie outside the RAM.
        if into.iter().all(|&(addr, len)| inside(addr, len)) {
            let (_, answer) = rig.driver.next_used().expect("the chain came back");
            assert!(answer.used_len as usize <= room, "no more than the room");
        } else {
            break;
        }
    }
    rig.must_serve_after_reset();
}

fn inside(addr: u64, len: usize) -> bool {
    addr.checked_sub(TestMemory::BASE).is_some_and(|at| at + len as u64 <= RAM_BYTES as u64)
}

type Segments = Vec<(u64, usize)>;

/// A header that often makes sense, in pieces, and more buffers.
fn chain(input: &mut Input<'_>, mem: &TestMemory) -> (Segments, Segments) {
    let shape = input.u8();
    let mut header = [0u8; 16];
    header[0] = input.u8() % 16;
    header[3] = if shape & 1 != 0 { input.u8() } else { 0 };
    let sector = if shape & 2 != 0 { input.u64() } else { u64::from(input.u8()) };
    header[8..].copy_from_slice(&sector.to_le_bytes());
    let mut at = BUFFERS;
    let mut place = |len: usize, wild: bool, input: &mut Input<'_>| -> (u64, usize) {
        let addr = if wild {
            input.u64()
        } else {
            TestMemory::BASE + (at % (RAM_BYTES - 0x4000)).max(BUFFERS) as u64
        };
        at += len + 3;
        (addr, len)
    };
    let mut out = Segments::new();
    let mut rest: &[u8] = &header[..16 - usize::from(shape >> 6 & 1)];
    let cut = if shape & 4 != 0 { 1 + input.below(16) } else { 16 };
    while !rest.is_empty() && out.len() < 8 {
        let (now, later) = rest.split_at(cut.min(rest.len()));
        let (addr, len) = place(now.len(), false, input);
        mem.poke(addr, now);
        out.push((addr, len));
        rest = later;
    }
    let mut into = Segments::new();
    for _ in 0..input.below(5) {
        let kind = input.u8();
        let len = input.choose(&[512, 1024, 16, 1, 511, 4096, 20, 0]);
        let segment = place(len, kind & 0x70 == 0x70, input);
        if kind & 1 == 0 {
            out.push(segment);
        } else {
            into.push(segment);
        }
    }
    if shape & 8 == 0 {
        into.push(place(1, false, input));
    }
    (out, into)
}

/// Whatever changed lies in a writable buffer or the used ring.
fn check_writes(before: &[u8], after: &[u8], into: &Segments) {
    const STEP: usize = 512;
    // Whole steps first: almost all of them are equal.
    let steps = before.chunks(STEP).zip(after.chunks(STEP)).enumerate();
    for (step, (before, after)) in steps.filter(|(_, (before, after))| before != after) {
        for (at, (old, new)) in (step * STEP..).zip(before.iter().zip(after)) {
            if old == new || USED.contains(&at) {
                continue;
            }
            let addr = TestMemory::BASE + at as u64;
            let holds =
                |&(start, len): &(u64, usize)| addr.checked_sub(start).is_some_and(|far| far < len as u64);
            assert!(into.iter().any(holds), "byte {at:#x} was not the device's to write");
        }
    }
}
