//! Attacks by the registers alone: in any order, of any width, with any value, at full rate.

use super::Attack;
use super::site::{IN, SIZE, Site};
use crate::registers::{
    CONFIG, CONFIG_GENERATION, DEVICE_FEATURES, DEVICE_FEATURES_SEL, DRIVER_FEATURES, DRIVER_FEATURES_SEL,
    INTERRUPT_ACK, QUEUE_NOTIFY, QUEUE_READY, QUEUE_SEL, QUEUE_SIZE, SHM_SEL, STATUS,
};
use crate::virtio::{DRIVER_OK, F_VERSION_1, FEATURES_OK, NEEDS_RESET};
use alloc::format;
use alloc::string::String;
use kernel::testing::registers::Width;

/// Bytes of the window.
const WINDOW: usize = 0x200;
/// Accesses of the long ones.
const MANY: u32 = 3000;

pub(super) const ATTACKS: &[Attack] = &[
    Attack {
        name: "read-everything",
        tries: "reads every offset before and after DRIVER_OK",
        run: read_everything,
    },
    Attack {
        name: "write-everything",
        tries: "writes ones and zeroes to every offset but Status",
        run: write_everything,
    },
    Attack {
        name: "narrow-and-wide",
        tries: "accesses of 1, 2 and 8 bytes to every offset",
        run: narrow_and_wide,
    },
    Attack { name: "random-registers", tries: "thousands of random accesses", run: random_registers },
    Attack { name: "status-values", tries: "every value of Status, on a live device", run: status_values },
    Attack {
        name: "features-not-offered",
        tries: "each feature bit that is not offered",
        run: features_not_offered,
    },
    Attack {
        name: "features-after-ok",
        tries: "features changed after FEATURES_OK and DRIVER_OK",
        run: features_after_ok,
    },
    Attack { name: "feature-words", tries: "feature words beyond the second", run: feature_words },
    Attack {
        name: "queue-numbers",
        tries: "queues that do not exist are placed, made ready and notified",
        run: queue_numbers,
    },
    Attack { name: "queue-sizes", tries: "queues of 0, of 3, and larger than the largest", run: queue_sizes },
    Attack { name: "ready-toggled", tries: "QueueReady toggled amid requests", run: ready_toggled },
    Attack { name: "moved-while-ready", tries: "a ready queue is placed elsewhere", run: moved_while_ready },
    Attack {
        name: "notified-early",
        tries: "notifications before the queue is ready and before DRIVER_OK",
        run: notified_early,
    },
    Attack {
        name: "notification-storm",
        tries: "thousands of notifications with nothing to do",
        run: notification_storm,
    },
    Attack {
        name: "notified-numbers",
        tries: "notifications of queues that do not exist",
        run: notified_numbers,
    },
    Attack {
        name: "interrupts-acked",
        tries: "interrupts acknowledged that are not pending",
        run: interrupts_acked,
    },
    Attack {
        name: "config-written",
        tries: "every byte of the configuration is written",
        run: config_written,
    },
    Attack { name: "shared-memory", tries: "shared memory regions are selected", run: shared_memory },
    Attack { name: "reset-storm", tries: "hundreds of resets", run: reset_storm },
    Attack {
        name: "reset-amid-requests",
        tries: "a reset right after each of a hundred requests",
        run: reset_amid_requests,
    },
    Attack { name: "no-queue", tries: "DRIVER_OK without a queue", run: no_queue },
    Attack { name: "failed", tries: "a driver that gives up (FAILED) amid a request", run: failed },
];

fn offsets() -> impl Iterator<Item = usize> {
    (0..WINDOW).step_by(4)
}

fn read_all(site: &Site<'_>) -> u32 {
    offsets().fold(0, |sum, offset| sum ^ site.registers.read(offset))
}

fn read_everything(site: &mut Site<'_>) -> Result<(), String> {
    site.device.reset()?;
    core::hint::black_box(read_all(site));
    site.live(0)?;
    core::hint::black_box(read_all(site));
    // Reading has no effect.
    site.request(IN, 0)?;
    site.settled().map(|_| ())
}

fn write_everything(site: &mut Site<'_>) -> Result<(), String> {
    for live in [false, true] {
        for value in [u32::MAX, 0, 0x8000_0000, 1] {
            if live {
                site.live(0)?;
            } else {
                site.device.reset()?;
            }
            for offset in offsets().filter(|&offset| offset != STATUS) {
                site.registers.write(offset, value);
            }
        }
    }
    Ok(())
}

fn narrow_and_wide(site: &mut Site<'_>) -> Result<(), String> {
    site.live(0)?;
    for width in [Width::Byte, Width::Half, Width::Double] {
        for offset in (0..WINDOW).step_by(width.bytes()) {
            core::hint::black_box(site.registers.read_of(width, offset));
            // All of Status at once would be a reset or not, by luck.
            if !(STATUS - 7..STATUS + 4).contains(&offset) {
                site.registers.write_of(width, offset, u64::MAX);
            }
        }
    }
    Ok(())
}

fn random_registers(site: &mut Site<'_>) -> Result<(), String> {
    site.live(0)?;
    for _ in 0..MANY {
        let offset = usize::try_from(site.random(0x80)).unwrap_or(0) * 4;
        let value = site.random(u32::MAX) >> site.random(32);
        if site.random(3) == 0 {
            core::hint::black_box(site.registers.read(offset));
        } else {
            site.registers.write(offset, value);
        }
    }
    Ok(())
}

fn status_values(site: &mut Site<'_>) -> Result<(), String> {
    for value in 1..=0xff {
        site.device.set_status(value);
    }
    site.live(0)?;
    for value in (1..=0xff).rev() {
        site.device.set_status(value);
    }
    site.device.set_status(u32::MAX);
    Ok(())
}

fn features_not_offered(site: &mut Site<'_>) -> Result<(), String> {
    site.device.reset()?;
    let offered = site.device.offered();
    for bit in (0..64).map(|bit| 1_u64 << bit).filter(|bit| offered & bit == 0) {
        site.device.reset()?;
        if site.device.negotiate(F_VERSION_1 | bit) {
            return Err(format!("feature {bit:#x} is not offered and was accepted"));
        }
    }
    Ok(())
}

fn features_after_ok(site: &mut Site<'_>) -> Result<(), String> {
    site.live(0)?;
    for features in [0, u64::MAX, 1 << 28, 1 << 29] {
        site.device.accept(features);
        site.device.add_status(FEATURES_OK);
        site.request(IN, 0)?;
        site.settled()?;
    }
    Ok(())
}

fn feature_words(site: &mut Site<'_>) -> Result<(), String> {
    site.device.reset()?;
    for select in [2, 3, 31, 32, 0x7fff_ffff, u32::MAX] {
        site.registers.write(DEVICE_FEATURES_SEL, select);
        let word = site.registers.read(DEVICE_FEATURES);
        if word != 0 {
            return Err(format!("feature word {select} is {word:#x}"));
        }
        site.registers.write(DRIVER_FEATURES_SEL, select);
        site.registers.write(DRIVER_FEATURES, u32::MAX);
    }
    Ok(())
}

fn queue_numbers(site: &mut Site<'_>) -> Result<(), String> {
    site.negotiated(0)?;
    let parts = site.parts();
    for number in [1, 7, 8, 64, 0xffff, 0x1_0000, u32::MAX] {
        site.registers.write(QUEUE_SEL, number);
        site.device.place_queue(SIZE.into(), parts);
        site.registers.write(QUEUE_NOTIFY, number);
    }
    site.device.add_status(DRIVER_OK);
    for number in [1, 7, 8, 64, 0xffff, 0x1_0000, u32::MAX] {
        site.registers.write(QUEUE_NOTIFY, number);
        site.registers.write(QUEUE_SEL, number);
        site.registers.write(QUEUE_READY, 0);
    }
    Ok(())
}

fn queue_sizes(site: &mut Site<'_>) -> Result<(), String> {
    for size in [0, 3, 5, 1023, 1025, 2048, 0x8000, 0xffff, 0x1_0000, 0x1_0004, u32::MAX] {
        site.live_at(size, site.parts())?;
        site.request(IN, 0)?;
        site.device.sleep_ms(3);
        if site.used_index() != 0 {
            return Err(format!("a queue of {size} was served"));
        }
    }
    Ok(())
}

fn ready_toggled(site: &mut Site<'_>) -> Result<(), String> {
    site.live(0)?;
    for n in 0..200_u64 {
        site.request(IN, n % 16)?;
        site.registers.write(QUEUE_READY, 0);
        if n % 2 == 0 {
            site.registers.write(QUEUE_READY, 1);
            site.device.notify();
        }
        site.registers.write(QUEUE_READY, 1);
    }
    Ok(())
}

fn moved_while_ready(site: &mut Site<'_>) -> Result<(), String> {
    site.live(0)?;
    let [desc, avail, used] = site.parts();
    for parts in [[used, desc, avail], [avail, used, desc], [0, 0, 0], [u64::MAX; 3], [desc, avail, used]] {
        site.request(IN, 0)?;
        site.device.place_queue(SIZE.into(), parts);
        site.registers.write(QUEUE_SIZE, 1);
        site.device.notify();
    }
    site.settled().map(|_| ())
}

fn notified_early(site: &mut Site<'_>) -> Result<(), String> {
    site.device.reset()?;
    site.registers.write(QUEUE_NOTIFY, 0);
    site.negotiated(0)?;
    site.publish(0)?;
    site.registers.write(QUEUE_NOTIFY, 0);
    site.device.place_queue(SIZE.into(), site.parts());
    site.registers.write(QUEUE_NOTIFY, 0);
    site.device.sleep_ms(5);
    if site.used_index() == 0 { Ok(()) } else { Err(String::from("served before DRIVER_OK")) }
}

fn notification_storm(site: &mut Site<'_>) -> Result<(), String> {
    site.live(0)?;
    for _ in 0..MANY {
        site.device.notify();
    }
    if site.used_index() == 0 { Ok(()) } else { Err(String::from("something was used")) }
}

fn notified_numbers(site: &mut Site<'_>) -> Result<(), String> {
    site.live(0)?;
    for shift in 0..32 {
        site.registers.write(QUEUE_NOTIFY, 1 << shift);
        site.registers.write(QUEUE_NOTIFY, u32::MAX << shift);
    }
    site.request(IN, 0)?;
    site.settled().map(|_| ())
}

fn interrupts_acked(site: &mut Site<'_>) -> Result<(), String> {
    site.live(0)?;
    for n in 0..32 {
        site.registers.write(INTERRUPT_ACK, 1 << n);
        site.registers.write(INTERRUPT_ACK, u32::MAX);
        site.request(IN, n)?;
        site.registers.write(INTERRUPT_ACK, u32::MAX);
    }
    site.settled().map(|_| ())
}

fn config_written(site: &mut Site<'_>) -> Result<(), String> {
    site.live(0)?;
    let capacity = site.device.capacity();
    for value in [0, u64::MAX, 0x0101_0101_0101_0101] {
        for width in [Width::Byte, Width::Half, Width::Word, Width::Double] {
            for offset in (CONFIG..WINDOW).step_by(width.bytes()) {
                site.registers.write_of(width, offset, value);
            }
        }
    }
    site.registers.write(CONFIG_GENERATION, u32::MAX);
    if site.device.capacity() == capacity { Ok(()) } else { Err(String::from("the capacity was written")) }
}

fn shared_memory(site: &mut Site<'_>) -> Result<(), String> {
    site.live(0)?;
    for select in [0, 1, 255, 256, u32::MAX] {
        site.registers.write(SHM_SEL, select);
        for offset in [4, 8, 12, 16] {
            let word = site.registers.read(SHM_SEL + offset);
            if word != u32::MAX {
                return Err(format!("shared memory {select} is told as {word:#x}"));
            }
        }
    }
    Ok(())
}

fn reset_storm(site: &mut Site<'_>) -> Result<(), String> {
    for _ in 0..500 {
        site.device.set_status(0);
    }
    site.device.reset()
}

fn reset_amid_requests(site: &mut Site<'_>) -> Result<(), String> {
    for n in 0..100 {
        site.live(0)?;
        site.request(IN, n)?;
        site.device.reset()?;
        let used = site.used_index();
        // What the device would still write is seen here.
        site.data.zero();
        site.device.sleep_ms(1);
        let mut data = [0; 512];
        site.data.read(0, &mut data).map_err(crate::virtio::outside)?;
        if data != [0; 512] || site.used_index() != used {
            return Err(format!("round {n}: written after the reset"));
        }
    }
    Ok(())
}

fn no_queue(site: &mut Site<'_>) -> Result<(), String> {
    site.negotiated(0)?;
    site.device.add_status(DRIVER_OK);
    site.device.notify();
    Ok(())
}

fn failed(site: &mut Site<'_>) -> Result<(), String> {
    /// `FAILED`.
    const FAILED: u32 = 128;
    site.live(0)?;
    site.request(IN, 0)?;
    site.device.add_status(FAILED);
    site.device.notify();
    site.device.add_status(NEEDS_RESET);
    Ok(())
}
