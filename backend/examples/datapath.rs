//! Counts instructions of the data path: requests of one kind through the real device, PV
//! engine and foreign map, to be run under callgrind (docs/performance.md says how).
//!
//! What is of the stub happens in `take_requests` and `take_completions`; everything else plays the
//! guest, Xen and the storage backend, and is not to be counted.

#![expect(clippy::expect_used, clippy::panic, reason = "a measurement fails loudly")]

use backend::access::{Access, Direction, Width};
use backend::blk::{Device, DeviceOptions};
use backend::mmio::regs;
use backend::storage::{AnyStorage, PvDisk};
use drivers::fake::{BlkBack, BlkBackConfig, XenStored};
use drivers::{BlkFront, Xenstore};
use kernel::fake::FakeXen;
use kernel::foreign::HostWindow;
use kernel::{DomId, ForeignMap, Hypervisor, Order};

type Memory = ForeignMap<HostWindow>;
type Disk = Device<AnyStorage<FakeXen>>;

/// As Linux lays things out: rings, indirect tables, requests and data in chunks of their own.
const RAM: u64 = 0x4000_0000;
const DESC: u64 = RAM;
const AVAIL: u64 = RAM + 0x4000;
const USED: u64 = RAM + 0x5000;
const TABLES: u64 = RAM + (2 << 20);
const HEADERS: u64 = RAM + (4 << 20);
const DATA: u64 = RAM + (6 << 20);
const CHUNKS: u16 = 19;
/// Entries of the queue.
const SIZE: u16 = 256;
/// Requests at a time.
const DEPTH: u16 = 16;
/// Batches that are not counted, until every page of the guest is mapped.
const WARM_UP: usize = 4;
/// `VIRTIO_BLK_F_FLUSH`: without it every write is flushed.
const F_FLUSH: u64 = 1 << 9;
const VDEV: u32 = 51712;
const POOL_PAGES: u16 = 960;

/// What to ask for.
struct Workload {
    name: &'static str,
    kind: u32,
    bytes: u32,
    /// Length of one buffer.
    piece: u32,
}

const WORKLOADS: [Workload; 4] = [
    Workload { name: "read-4k", kind: 0, bytes: 4096, piece: 4096 },
    Workload { name: "write-4k", kind: 1, bytes: 4096, piece: 4096 },
    Workload { name: "read-64k", kind: 0, bytes: 64 << 10, piece: 4096 },
    Workload { name: "read-1m", kind: 0, bytes: 1 << 20, piece: 16 << 10 },
];

#[inline(never)]
fn take_requests(device: &mut Disk, mem: &Memory) -> bool {
    device.process(mem)
}

#[inline(never)]
fn take_completions(device: &mut Disk, mem: &Memory) -> u32 {
    // The first of a batch, with which the driver is told, and the others.
    device.process(mem);
    device.process(mem);
    device.in_flight()
}

fn set(device: &mut Disk, addr: u64, value: u64) {
    let _ = device.access(Access { addr, width: Width::Four, direction: Direction::Write(value) });
}

/// What the driver does before the first request (virtio 1.3, section 3.1.1).
fn set_up(device: &mut Disk) {
    for status in [0, 1, 3] {
        set(device, regs::STATUS, status);
    }
    let features = F_FLUSH | regs::F_INDIRECT_DESC | regs::F_EVENT_IDX | regs::F_VERSION_1;
    for select in [0, 1] {
        set(device, regs::DRIVER_FEATURES_SEL, select);
        set(device, regs::DRIVER_FEATURES, features >> (32 * select) & 0xffff_ffff);
    }
    set(device, regs::STATUS, 11);
    set(device, regs::QUEUE_SIZE, SIZE.into());
    let parts =
        [(regs::QUEUE_DESC_LOW, DESC), (regs::QUEUE_DRIVER_LOW, AVAIL), (regs::QUEUE_DEVICE_LOW, USED)];
    for (register, addr) in parts {
        set(device, register, addr);
        set(device, register + 4, 0);
    }
    set(device, regs::QUEUE_READY, 1);
    set(device, regs::STATUS, 15);
}

fn write_desc(mem: &Memory, at: u64, (addr, len): (u64, u32), flags: u16, next: u16) {
    mem.store(at, addr, Order::Relaxed).expect("RAM");
    mem.store(at + 8, len, Order::Relaxed).expect("RAM");
    mem.store(at + 12, flags, Order::Relaxed).expect("RAM");
    mem.store(at + 14, next, Order::Relaxed).expect("RAM");
}

/// The driver's request number `head`: header, data, status, in an indirect table.
fn write_request(mem: &Memory, workload: &Workload, head: u16) {
    let place = u64::from(head);
    let (table, header) = (TABLES + place * 4096, HEADERS + place * 512);
    mem.store(header, workload.kind, Order::Relaxed).expect("RAM");
    mem.store(header + 8, place * u64::from(workload.bytes / 512), Order::Relaxed).expect("RAM");
    mem.store(header + 16, 0xeeu8, Order::Relaxed).expect("RAM");
    write_desc(mem, table, (header, 16), 1, 1);
    let data = DATA + place * u64::from(workload.bytes.max(8192));
    let pieces = u16::try_from(workload.bytes / workload.piece).expect("few");
    for piece in 0..pieces {
        let flags = if workload.kind == 0 { 3 } else { 1 };
        let at = data + u64::from(piece) * u64::from(workload.piece);
        write_desc(mem, table + (u64::from(piece) + 1) * 16, (at, workload.piece), flags, piece + 2);
    }
    write_desc(mem, table + (u64::from(pieces) + 1) * 16, (header + 16, 1), 2, 0);
    write_desc(mem, DESC + place * 16, (table, (u32::from(pieces) + 2) * 16), 4, 0);
}

/// Offers the first `depth` requests from this index of the available ring on; returns the next one.
fn offer(mem: &Memory, index: u16, depth: u16) -> u16 {
    for head in 0..depth {
        let slot = u64::from(index.wrapping_add(head) % SIZE);
        mem.store(AVAIL + 4 + slot * 2, head, Order::Relaxed).expect("RAM");
    }
    let next = index.wrapping_add(depth);
    mem.store(AVAIL + 2, next, Order::AcqRel).expect("RAM");
    next
}

/// All that was offered came back, and came to a good end.
fn check(mem: &Memory, index: u16, depth: u16) {
    assert_eq!(mem.load::<u16>(USED + 2, Order::AcqRel).expect("RAM"), index);
    for head in 0..u64::from(depth) {
        let status: u8 = mem.load(HEADERS + head * 512 + 16, Order::Relaxed).expect("RAM");
        assert_eq!(status, 0, "a request failed");
        mem.store(HEADERS + head * 512 + 16, 0xeeu8, Order::Relaxed).expect("RAM");
    }
}

fn main() {
    let mut args = std::env::args().skip(1);
    let name = args.next().unwrap_or_default();
    let workload = WORKLOADS.iter().find(|workload| workload.name == name).unwrap_or_else(|| {
        panic!("datapath WORKLOAD REQUESTS, with one of {:?}", WORKLOADS.map(|workload| workload.name))
    });
    let requests: usize = args.next().and_then(|count| count.parse().ok()).expect("a number of requests");
    // Long requests in as many batches as the pool of pages needs.
    let depth = if workload.bytes > 256 << 10 { 2 } else { DEPTH };
    let batches = requests.div_ceil(depth.into());

    let xen = FakeXen::new(DomId(7));
    xen.set_target(DomId(5), 1);
    let store = XenStored::start(&xen);
    let config = BlkBackConfig { sectors: 64 << 11, ..BlkBackConfig::default() };
    let back = BlkBack::attach(&xen, &store, VDEV, config);
    let mut xs = Xenstore::new(&xen).expect("a xenstore");
    let front = BlkFront::connect(&xen, &mut xs, VDEV, POOL_PAGES).expect("connects");
    let port = front.port();
    let storage = AnyStorage::Pv(Box::new(PvDisk::new(front, None)));
    let mut device = Device::new(storage, &DeviceOptions::default());
    let mem = ForeignMap::new(HostWindow::new(RAM / 4096, CHUNKS));
    set_up(&mut device);
    for head in 0..depth {
        write_request(&mem, workload, head);
    }

    let mut index = 0u16;
    for batch in 0..batches + WARM_UP {
        let counted = batch >= WARM_UP;
        index = offer(&mem, index, depth);
        set(&mut device, regs::QUEUE_NOTIFY, 0);
        let worked = if counted { take_requests(&mut device, &mem) } else { device.process(&mem) };
        assert!(worked, "requests were taken");
        assert_eq!(device.in_flight(), u32::from(depth));

        xen.evtchn_take_pending(port);
        let _ = device.enable_notifications(&mem);
        xen.poll(&[port], Some(0)).expect("a good port");
        if !counted {
            device.process(&mem);
            device.process(&mem);
        } else if take_completions(&mut device, &mem) > 0 {
            panic!("{} responses are missing", device.in_flight());
        }
        check(&mem, index, depth);
    }
    println!("{name}: {} requests counted, {} at a time", batches * usize::from(depth), depth);
    assert_eq!(back.disk().counts.malformed, 0);
}
