//! A stub that cannot begin, or cannot begin again: it says why, and leaves no vCPU waiting.

use super::*;
use crate::platform::run_panic_hook;
use kernel::fake::Event;

/// The guest's vCPUs run on as soon as they are answered, and note what they were told.
fn let_vcpus_run(world: &World, page: &SharedPage) -> Rc<RefCell<Vec<u64>>> {
    let answers: Rc<RefCell<Vec<u64>>> = Rc::default();
    let (log, page) = (answers.clone(), page.clone());
    world.xen.on_idle(move || {
        let taken: Vec<u64> = (0..2).filter_map(|vcpu| take_answer(&page, vcpu)).collect();
        log.borrow_mut().extend(&taken);
        !taken.is_empty()
    });
    answers
}

/// The stub has panicked while vCPU 1 waits for an answer, then `broken` happens. The next
/// incarnation cannot serve, and ends the server in order.
fn must_release_the_guest(broken: impl FnOnce(&World)) -> Rc<RefCell<World>> {
    let world = World::new();
    assert!(world.borrow_mut().begin(CMDLINE));
    let page = world.borrow().begin_access(1).expect("claimed");
    world.borrow_mut().panic();
    broken(&world.borrow());
    let answers = let_vcpus_run(&world.borrow(), &page);
    drop(world.borrow().xen.take_events());
    assert!(!world.borrow_mut().begin(CMDLINE));
    assert_eq!(*answers.borrow(), [u64::MAX], "as an absent device would");
    let events = world.borrow().xen.take_events();
    assert!(
        matches!(events[..], [Event::ServerState(a, false), Event::ServerDestroyed(b)] if a == b),
        "{events:?}"
    );
    assert!(world.borrow().begin_access(0).is_none(), "nobody claims the window");
    world
}

#[test]
fn without_room_for_the_guests_memory_the_guest_is_released_and_the_daemon_told() {
    let world = must_release_the_guest(|_| host(|host| host.memory = None));
    let world = world.borrow();
    assert_eq!(world.told("state").as_deref(), Some("failed"));
    assert!(world.told("error").is_some_and(|why| why.starts_with("no room to map")));
}

#[test]
fn without_its_disk_the_guest_is_released_and_the_daemon_told() {
    let world = must_release_the_guest(|world| {
        world.back.die();
        world.store.rm(&format!("/local/domain/{STUB}/device/vbd/{VDEV}"));
    });
    let world = world.borrow();
    assert_eq!(world.told("state").as_deref(), Some("failed"));
    assert!(
        world.told("error").is_some_and(|why| why.starts_with("disk 51712: ")),
        "{:?}",
        world.told("error")
    );
}

#[test]
fn without_xenstore_the_guest_is_released() {
    must_release_the_guest(|world| world.store.knobs(|knobs| knobs.silent = true));
}

#[test]
fn a_disk_that_has_become_another_releases_the_guest() {
    let world = must_release_the_guest(|world| world.back.configure(|config| config.read_only = true));
    let why = world.borrow().told("error").expect("told");
    assert!(why.starts_with("disk 51712: ") && why.contains("another than the journal's"), "{why}");
}

#[test]
fn a_journal_of_another_guest_is_left_alone() {
    let world = World::new();
    assert!(world.borrow_mut().begin(CMDLINE));
    world.borrow_mut().panic();
    let seen = note_steps(&world);
    let other = "target=6 restarts=3 disk=id=51712,mmio=0x2000000,irq=33,mode=rw,store=pv:51712";
    assert!(!world.borrow_mut().begin(other));
    assert!(seen.borrow().is_empty(), "{seen:?}");
    assert_eq!(world.borrow().front_state().as_deref(), Some("4"), "untouched");
}

#[test]
fn without_a_journal_there_is_no_recovery() {
    let world = World::new();
    host(|host| host.incarnation = 1);
    let seen = note_steps(&world);
    assert!(!world.borrow_mut().begin(CMDLINE));
    assert!(seen.borrow().is_empty(), "{seen:?}");
}

#[test]
fn at_boot_a_failure_is_told_and_leaves_no_server() {
    let bad = "target=5 disk=id=51712,mmio=0x2000000,irq=33,mode=rw,store=pv:51728";
    for (cmdline, reason) in [("target=5 disc=1", "disc"), (bad, "disk 51712: PV disk 51728: ")] {
        let world = World::new();
        assert!(!world.borrow_mut().begin(cmdline));
        let world = world.borrow();
        assert_eq!(world.told("state").as_deref(), Some("failed"));
        assert!(world.told("error").is_some_and(|why| why.starts_with(reason)), "{:?}", world.told("error"));
        assert_eq!(world.xen.take_events(), []);
    }
}

#[test]
fn a_reason_is_cut_to_whole_characters() {
    let world = World::new();
    // Twice as long as is told, of two bytes each, after one of one byte.
    let cmdline: &str = format!("x{}", "ä".repeat(200)).leak();
    assert!(!world.borrow_mut().begin(cmdline));
    let told = world.borrow().told("error").expect("told");
    assert!((190..=200).contains(&told.len()) && !told.contains('\u{fffd}'), "{} bytes: {told}", told.len());
}

#[test]
fn a_panic_that_no_restart_follows_releases_the_guest() {
    let world = World::new();
    assert!(world.borrow_mut().begin(CMDLINE));
    let page = world.borrow().begin_access(1).expect("claimed");
    let answers = let_vcpus_run(&world.borrow(), &page);
    drop(world.borrow().xen.take_events());
    // Whatever state the stub is in: it is borrowed here.
    let stub = world.borrow_mut();
    run_panic_hook();
    assert_eq!(*answers.borrow(), [u64::MAX]);
    let events = stub.xen.take_events();
    assert!(
        matches!(events[..], [Event::ServerState(a, false), Event::ServerDestroyed(b)] if a == b),
        "{events:?}"
    );
}
