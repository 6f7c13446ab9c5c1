//! Register accesses in any order, by a driver that also scribbles over its memory.

use crate::Input;
use crate::rig::{RAM_BYTES, Rig};
use backend::access::{Access, Direction, Width};
use backend::blk::DeviceOptions;
use backend::mmio::regs;
use backend::testkit::{BlkRequest, Framing, TestMemory};

/// Steps at most: more find nothing that fewer do not.
const STEPS: usize = 200;
/// `DRIVER_OK`.
const DRIVER_OK: u64 = 4;

const REGISTERS: [u64; 16] = [
    regs::STATUS,
    regs::STATUS,
    regs::DRIVER_FEATURES_SEL,
    regs::DRIVER_FEATURES,
    regs::QUEUE_SEL,
    regs::QUEUE_SIZE,
    regs::QUEUE_READY,
    regs::QUEUE_READY,
    regs::QUEUE_NOTIFY,
    regs::INTERRUPT_ACK,
    regs::QUEUE_DESC_LOW,
    regs::QUEUE_DESC_HIGH,
    regs::QUEUE_DRIVER_LOW,
    regs::QUEUE_DEVICE_LOW,
    regs::DEVICE_FEATURES_SEL,
    regs::CONFIG + 32,
];

fn value(input: &mut Input<'_>) -> u64 {
    match input.u8() % 4 {
        0 => input.choose(&[0, 1, 2, 3, 4, 8, 0xb, 0xf]),
        1 => TestMemory::BASE + u64::from(input.u16()) * 16 % RAM_BYTES as u64,
        2 => 1 << (input.u8() % 33),
        _ => input.u64(),
    }
}

fn access(input: &mut Input<'_>) -> Access {
    let choice = input.u8();
    let addr = if choice & 0x80 == 0 {
        input.choose(&REGISTERS)
    } else {
        u64::from(input.u16()) % (regs::WINDOW_BYTES + 8)
    };
    let width = match choice & 0x70 {
        0x10 => Width::One,
        0x20 => Width::Two,
        0x30 => Width::Eight,
        _ => Width::Four,
    };
    let direction =
        if choice & 3 == 0 { Direction::Read } else { Direction::Write(width.mask(value(input))) };
    Access { addr, width, direction }
}

/// The driver offers a request, if it has set up a queue and has room.
fn offer(input: &mut Input<'_>, rig: &mut Rig) {
    let room = TestMemory::BASE + RAM_BYTES as u64 - rig.driver.alloc(0);
    if rig.driver.free_descs() < 4 || room < 4096 {
        return;
    }
    let kind = input.choose(&[0, 1, 4, 8, 11, 13]);
    let out = if kind == 1 || kind > 8 { vec![0; 512] } else { Vec::new() };
    let in_len = if kind == 0 || kind == 8 { 512 } else { 0 };
    rig.driver.submit(&BlkRequest { kind, sector: u64::from(input.u8() % 40), out, in_len }, &Framing::Usual);
    rig.driver.kick();
}

/// Runs a sequence of accesses, requests, memory changes and work. Returns whether the
/// device served anything.
///
/// # Panics
/// If a reply is wider than its access, if the device touches memory before DRIVER_OK or
/// interrupts then, or if it does not serve after a reset.
pub fn mmio_seq(data: &[u8]) -> bool {
    let mut input = Input::new(data);
    let queues = u16::from(input.u8() % 4) + 1;
    let flags = input.u8();
    let read_only = flags & 1 == 1;
    let mut rig =
        Rig::new(&DeviceOptions { serial: "fuzz".into(), read_only, queues, ..DeviceOptions::default() });
    if flags & 2 == 0 {
        rig.driver.init(input.u64(), 1 << (input.u8() % 9));
    }
    let mut served = false;
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        match input.u8() % 8 {
            0 => {
                let at = usize::from(input.u16()) * 2 % (RAM_BYTES - 64);
                let len = input.below(64);
                rig.mem.poke(TestMemory::BASE + at as u64, input.bytes(len));
            }
            1 | 2 => served |= work(&rig),
            3 => offer(&mut input, &mut rig),
            4 if input.u8().is_multiple_of(4) => rig.set_faults(input.u8()),
            _ => {
                let access = access(&mut input);
                let reply = rig.device.borrow_mut().access(access).0;
                assert_eq!(access.width.mask(reply), reply, "no wider than the access");
            }
        }
    }
    rig.must_serve_after_reset();
    served
}

/// The device works for a while; whether it answered anything.
fn work(rig: &Rig) -> bool {
    let mut device = rig.device.borrow_mut();
    let status = Access { addr: regs::STATUS, width: Width::Four, direction: Direction::Read };
    let set_up = device.access(status).0 & DRIVER_OK != 0;
    let used_idx = rig.driver.used(2);
    let (writes, used) = (rig.mem.device_writes(), rig.mem.peek_u16(used_idx));
    let _ = device.process(&rig.mem);
    let _ = device.enable_notifications(&rig.mem);
    let irq = device.take_irq();
    assert!(set_up || (writes == rig.mem.device_writes() && !irq), "quiet before DRIVER_OK");
    used != rig.mem.peek_u16(used_idx)
}
