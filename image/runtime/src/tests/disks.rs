//! What the command line says of disks reaches them.

use super::*;
use backend::access::Width;
use backend::stats::LoopStats;
use backend::storage::Storage;
use drivers::xenstore::Xenstore;
use kernel::fake::Event;

const SECOND_MMIO: u64 = MMIO + 0x200;
const F_RO: u64 = 1 << 5;
const F_MQ: u64 = 1 << 12;
const F_DISCARD: u64 = 1 << 13;
const NUM_QUEUES: u64 = 34;
/// Pages of a disk's ring and of indirect segments, beside the pool's, at most.
const RING_PAGES: usize = 60;

const TWO: &str = "target=5 poll-us=0 \
    disk=id=51712,mmio=0x2000000,irq=33,mode=rw,store=pv:51712,serial=first,discard=off,backend-timeout-ms=1000 \
    disk=id=51728,mmio=0x2000200,irq=34,mode=ro,store=ram:65536,serial=second";

fn serial(world: &Rc<RefCell<World>>, driver: &mut Driver<GuestBus>) -> String {
    let request = BlkRequest { kind: 8, sector: 0, out: vec![], in_len: 20 };
    driver.submit(&request, &Framing::Usual);
    driver.kick();
    world.borrow_mut().run();
    let (_, answer) = driver.next_used().expect("an answer");
    String::from_utf8(answer.data).expect("text").trim_end_matches('\0').into()
}

#[test]
fn each_disk_is_what_its_words_say() {
    let world = World::new();
    assert!(world.borrow_mut().begin(TWO));
    let mut first = guest_of(&world, MMIO, 0);
    let mut second = guest_of(&world, SECOND_MMIO, 1);
    assert_eq!(first.offered() & (F_RO | F_MQ | F_DISCARD), F_MQ, "writable, no discard");
    assert_eq!(
        second.offered() & (F_RO | F_MQ | F_DISCARD),
        F_RO | F_MQ,
        "read-only, so nothing is discarded"
    );
    assert_eq!(first.config(NUM_QUEUES, Width::Two), 2, "one for each vCPU");
    assert_eq!(serial(&world, &mut first), "first");
    first.take_interrupt();
    drop(world.borrow().xen.take_events());
    assert_eq!(serial(&world, &mut second), "second");
    let events = world.borrow().xen.take_events();
    assert_eq!(events, [Event::Irq(GUEST, 34, true)]);
}

#[test]
fn discard_is_offered_unless_it_is_off() {
    let world = World::new();
    assert!(world.borrow_mut().begin(CMDLINE));
    assert_eq!(guest(&world).offered() & F_DISCARD, F_DISCARD);
}

#[test]
fn a_disk_that_is_read_only_is_offered_so_although_its_storage_is_not() {
    let world = World::new();
    let cmdline = "target=5 poll-us=0 disk=id=51712,mmio=0x2000000,irq=33,mode=ro,store=pv:51712";
    assert!(world.borrow_mut().begin(cmdline));
    assert_eq!(guest(&world).offered() & F_RO, F_RO);
}

#[test]
fn a_guest_of_many_vcpus_has_eight_queues() {
    let world = World::new();
    world.borrow().xen.set_target(GUEST, 20);
    assert!(world.borrow_mut().begin(CMDLINE));
    assert_eq!(guest(&world).config(NUM_QUEUES, Width::Two), 8);
}

#[test]
fn requests_fail_after_the_disks_own_timeout() {
    let world = World::new();
    assert!(world.borrow_mut().begin(TWO));
    let mut driver = guest(&world);
    world.borrow().back.unbind();
    driver.submit(&write_request(0, &[1; 512]), &Framing::Usual);
    driver.kick();
    world.borrow_mut().run();
    assert_eq!(driver.next_used(), None);
    world.borrow().xen.advance_ns(1_500_000_000);
    world.borrow_mut().run();
    assert_eq!(driver.next_used().expect("an answer").1.status, 1);
}

#[test]
fn pv_disks_share_the_bounce_pages() {
    for (disks, pages) in [(1, 512), (3, 3 * 341)] {
        let world = World::new();
        let mut cmdline = String::from("target=5 poll-us=0");
        for number in 0..disks {
            let (vdev, offset) = (VDEV + 16 * number, 0x200 * u64::from(number));
            if number > 0 {
                let World { xen, store, .. } = &*world.borrow();
                let _ = BlkBack::attach(xen, store, vdev, BlkBackConfig::default());
            }
            cmdline += &format!(
                " disk=id={vdev},mmio={:#x},irq={},mode=rw,store=pv:{vdev}",
                MMIO + offset,
                33 + number
            );
        }
        assert!(world.borrow_mut().begin(cmdline.leak()));
        let granted = world.borrow().xen.live_grants();
        let most = pages + RING_PAGES * usize::try_from(disks).expect("few");
        assert!((pages..most).contains(&granted), "{disks} disks: {granted} pages are granted");
    }
}

#[test]
fn the_window_has_room_for_all_that_the_command_line_says() {
    let world = World::new();
    assert!(world.borrow_mut().begin(CMDLINE));
    assert_eq!(host(|host| host.chunks), 64, "128 MiB unless it says otherwise");
    let world = World::new();
    assert!(
        world
            .borrow_mut()
            .begin("target=5 map-mib=7 disk=id=51712,mmio=0x2000000,irq=33,mode=rw,store=pv:51712")
    );
    assert_eq!(host(|host| host.chunks), 4, "rounded up to chunks of 2 MiB");
}

#[test]
fn without_restarts_nothing_is_written_down() {
    let world = World::new();
    assert!(world.borrow_mut().begin(TWO));
    assert!(host(|host| host.journal.is_empty()));
}

/// As the image does it. What has changed of a connection must be told: no event comes for what was held.
fn housekeep_and_check(xs: &mut Xenstore<FakeXen>, stub: &mut ImageStub, stats: &LoopStats) -> bool {
    let ports = |stub: &mut ImageStub| stub.storages().map(|storage| storage.port()).collect::<Vec<_>>();
    let before = ports(stub);
    let changed = housekeep(xs, stub, stats);
    assert!(changed || ports(stub) == before, "a connection has come or gone");
    changed
}

#[test]
fn a_connection_that_comes_back_is_told_to_the_event_loop() {
    let world = World::new();
    assert!(world.borrow_mut().begin(CMDLINE));
    let mut world = world.borrow_mut();
    let (stub, xs) = world.event_loop.take().expect("running").into_parts();
    world.event_loop = Some(EventLoop::new(&world.xen, xs, stub, housekeep_and_check, 0));
    world.run();
    world.back.die();
    world.run();
    world.back.reattach(DomId(0));
    world.xen.advance_ns(20_000_000_000);
    world.run();
    assert_eq!(world.back.connections(), 2);
}
