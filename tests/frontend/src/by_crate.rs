//! The `virtio-drivers` crate as the driver: indirect descriptors, event index, one request
//! after the other, data in one piece of any size.

use crate::hal::{Identity, transport};
use crate::pattern::{self, SECTOR};
use crate::registers::map;
use crate::say::say;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use core::ops::Range;
use kernel::testing::registers::Registers;
use kernel::{Hypervisor, Xen};
use virtio_drivers::Error;
use virtio_drivers::device::blk::VirtIOBlk;
use virtio_drivers::transport::mmio::{MmioTransport, MmioVersion};
use virtio_drivers::transport::{DeviceType, InterruptStatus, Transport};

/// Sectors of one request, in turn.
const WRITES: [usize; 9] = [1, 8, 7, 64, 128, 2, 256, 31, 512];
/// Others, so that no read has a write's borders.
const READS: [usize; 7] = [128, 3, 8, 512, 1, 100, 256];

type Disk<'a> = VirtIOBlk<Identity, MmioTransport<'a>>;

fn told(what: &'static str) -> impl Fn(Error) -> String {
    move |error| format!("{what}: {error}")
}

fn open(registers: &Registers) -> Result<Disk<'_>, String> {
    let transport = transport(registers).map_err(|error| error.to_string())?;
    if transport.device_type() != DeviceType::Block || transport.version() != MmioVersion::Modern {
        return Err(format!("{:?}, {:?}", transport.device_type(), transport.version()));
    }
    VirtIOBlk::new(transport).map_err(told("set-up"))
}

/// The cuts of `sectors` sectors into requests of `sizes`.
fn cuts(sectors: usize, sizes: &'static [usize]) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    sizes.iter().cycle().map_while(move |&size| {
        let cut = at..(at + size).min(sectors);
        at = cut.end;
        (!cut.is_empty()).then_some(cut)
    })
}

/// Uses the disk in `window`; what it writes is marked with `tag`.
pub fn run(xen: &Xen, window: &Range<u64>, tag: &str) -> Result<(), String> {
    let registers = map(window)?;
    let mut disk = open(&registers)?;
    let sectors = usize::try_from(disk.capacity()).map_err(|_| "a disk too large")?;
    say(xen, "sectors", sectors);
    say(xen, "readonly", disk.readonly());
    let mut id = [0; 20];
    let count = disk.device_id(&mut id).map_err(told("device id"))?;
    say(xen, "serial", String::from_utf8_lossy(&id[..count]));

    whole_disk(xen, &mut disk, sectors, tag)?;
    interrupts(xen, &mut disk)?;
    beyond_the_end(xen, &mut disk, sectors, tag)?;

    // The crate resets the device when it lets it go; another driver finds all as it was.
    drop(disk);
    let mut disk = open(&registers)?;
    let mut data = vec![0; SECTOR];
    disk.read_blocks(sectors / 2, &mut data).map_err(told("read by a second driver"))?;
    let kept = pattern::wrong(&data, tag, (sectors / 2) as u64).is_none();
    say(xen, "second_driver", u8::from(kept));
    Ok(())
}

fn whole_disk(xen: &Xen, disk: &mut Disk<'_>, sectors: usize, tag: &str) -> Result<(), String> {
    let from_ns = xen.now_ns();
    let mut requests = 0;
    for cut in cuts(sectors, &WRITES) {
        let data = pattern::sectors(tag, cut.start as u64, cut.len());
        disk.write_blocks(cut.start, &data).map_err(told("write"))?;
        requests += 1;
    }
    disk.flush().map_err(told("flush"))?;
    say(xen, "writes", requests);
    requests = 0;
    for cut in cuts(sectors, &READS) {
        let mut data = vec![0xa5; cut.len() * SECTOR];
        disk.read_blocks(cut.start, &mut data).map_err(told("read"))?;
        if let Some(sector) = pattern::wrong(&data, tag, cut.start as u64) {
            return Err(format!("sector {sector} reads as something else"));
        }
        requests += 1;
    }
    say(xen, "reads", requests);
    say(xen, "verified_sectors", sectors);
    say(xen, "ms", xen.now_ns().saturating_sub(from_ns) / 1_000_000);
    Ok(())
}

/// An interrupt is told until it is acknowledged. (With the event index, which is negotiated
/// here, the crate knows no way to want none.)
fn interrupts(xen: &Xen, disk: &mut Disk<'_>) -> Result<(), String> {
    let mut data = vec![0; SECTOR];
    disk.ack_interrupt();
    disk.read_blocks(0, &mut data).map_err(told("read"))?;
    let told_of = disk.ack_interrupt().contains(InterruptStatus::QUEUE_INTERRUPT);
    let acknowledged = disk.ack_interrupt().is_empty();
    say(xen, "interrupt_told", u8::from(told_of));
    say(xen, "interrupt_acknowledged", u8::from(acknowledged));
    Ok(())
}

/// Requests that end beyond the disk fail and change nothing; the next good one succeeds.
fn beyond_the_end(xen: &Xen, disk: &mut Disk<'_>, sectors: usize, tag: &str) -> Result<(), String> {
    let mut refused = 0;
    let bad = vec![0x5a; 4 * SECTOR];
    for first in [sectors - 1, sectors, sectors + 1000, usize::MAX / 512, usize::MAX] {
        let mut data = vec![0; 4 * SECTOR];
        let write = disk.write_blocks(first, &bad);
        let read = disk.read_blocks(first, &mut data);
        refused += u8::from(write == Err(Error::IoError)) + u8::from(read == Err(Error::IoError));
    }
    say(xen, "refused", refused);
    let mut data = vec![0; SECTOR];
    disk.read_blocks(sectors - 1, &mut data).map_err(told("read after the refused ones"))?;
    let kept = pattern::wrong(&data, tag, (sectors - 1) as u64).is_none();
    say(xen, "last_sector_kept", u8::from(kept));
    Ok(())
}
