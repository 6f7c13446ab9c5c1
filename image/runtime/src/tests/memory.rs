//! A stub's heap: what its disks need fits into the memory that the daemon gives it.

use super::*;

/// PV disks, and the stub's memory for them by default (`toolstack/src/stub/plan.rs`, whose tests
/// have the same numbers).
const PLAN_MIB: [(u32, usize); 4] = [(1, 8), (2, 12), (3, 16), (11, 16)];
/// Image, stacks, page tables and device tree at most.
const IMAGE_BYTES: usize = 512 << 10;
/// The index of a window of 4 GiB: each chunk of 2 MiB has 146 bytes.
const WINDOW_BYTES: usize = 2048 * 146;
/// What each PV disk has beside pages that all share. The daemon gives nothing for it, so that it
/// must not grow unseen.
const DISK_BYTES: usize = 210 << 10;

/// Bytes that a stub with so many PV disks needs at most, with all queues set up.
fn needed_bytes(disks: u32) -> usize {
    let world = World::new();
    world.borrow().xen.set_target(GUEST, 8);
    let mut cmdline = String::from("target=5 poll-us=0 restarts=3");
    let places: Vec<_> =
        (0..disks).map(|number| (VDEV + 16 * number, MMIO + 0x200 * u64::from(number))).collect();
    for (&(vdev, mmio), irq) in places.iter().zip(33..) {
        if vdev != VDEV {
            let World { xen, store, .. } = &*world.borrow();
            let _back = BlkBack::attach(xen, store, vdev, BlkBackConfig::default());
        }
        cmdline += &format!(" disk=id={vdev},mmio={mmio:#x},irq={irq},mode=rw,store=pv:{vdev}");
    }
    let cmdline: &str = cmdline.leak();
    let before = CountedHeap::used_bytes();
    let _earlier = CountedHeap::take_peak_bytes();
    assert!(world.borrow_mut().begin(cmdline));
    let peak = CountedHeap::take_peak_bytes();
    for (_, mmio) in places {
        let mem = world.borrow().mem.clone();
        Driver::new(GuestBus(world.clone(), mmio), mem, 0).init_queues(u64::MAX, 1024, 8);
    }
    // The fakes' own part is counted as well, and small.
    let most = peak.max(CountedHeap::used_bytes()) - before;
    usize::try_from(most).expect("it needs something")
}

#[test]
fn the_disks_fit_into_half_of_the_heap() {
    for (disks, plan_mib) in PLAN_MIB {
        let needed = needed_bytes(disks);
        // A stub that may restart in place has a half for each of two incarnations.
        let half = ((plan_mib << 20) - IMAGE_BYTES) / 2 - WINDOW_BYTES;
        assert!(needed <= half, "{disks} disks need {} of {} KiB", needed >> 10, half >> 10);
    }
}

#[test]
fn a_further_disk_costs_little() {
    let disk = (needed_bytes(11) - needed_bytes(3)) / 8;
    assert!(disk <= DISK_BYTES, "{} KiB", disk >> 10);
}
