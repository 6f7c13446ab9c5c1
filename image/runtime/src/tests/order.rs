//! What comes first, and what is there again after a panic.

use super::*;
use drivers::fake::Faults;
use kernel::ShutdownReason;
use kernel::fake::Event;

fn text(word: &str) -> Option<String> {
    Some(String::from(word))
}

#[test]
fn at_boot_the_disks_are_connected_before_the_guest_may_run() {
    let world = World::new();
    let seen = note_steps(&world);
    assert!(world.borrow_mut().begin(CMDLINE));
    let connected = text("4");
    assert_eq!(
        *seen.borrow(),
        [
            (Step::Mapped, connected.clone(), None),
            (Step::PanicHook, connected.clone(), None),
            (Step::RestartAllowed, connected, None),
        ]
    );
    assert_eq!(world.borrow().told("state"), text("serving"), "the daemon acts on it: last");
    assert!(world.borrow().begin_access(0).is_some(), "the window is claimed");
}

#[test]
fn serving_is_told_after_everything_else() {
    let world = World::new();
    let store = world.borrow().store.clone();
    let told = move |key: &str| store.read(&format!("/local/domain/{STUB}/data/pilotfish/{key}"));
    // dom0 acts on it as soon as it sees it.
    world.borrow().xen.domain(DomId(0)).on_idle(move || {
        let figures = ["ready_us", "memory_kib", "heap_peak_kib"];
        assert!(told("state").is_none() || figures.iter().all(|key| told(key).is_some()));
        false
    });
    assert!(world.borrow_mut().begin(CMDLINE));
    assert_eq!(world.borrow().told("state"), text("serving"));
}

#[test]
fn recovery_frees_the_vcpus_first_and_closes_the_old_before_it_connects_anew() {
    let world = World::new();
    assert!(world.borrow_mut().begin(CMDLINE));
    world.borrow_mut().panic();
    let seen = note_steps(&world);
    drop(world.borrow().xen.take_events());
    assert!(world.borrow_mut().begin(CMDLINE));
    let (connected, initialising, restarts) = (text("4"), text("1"), text("1"));
    assert_eq!(
        *seen.borrow(),
        [
            // Before anybody else is spoken to, xenstored included.
            (Step::PanicHook, connected.clone(), text("serving")),
            (Step::Mapped, connected.clone(), restarts.clone()),
            (Step::PreviousPage, connected.clone(), restarts.clone()),
            // The old connection is closed, and there is no new one yet.
            (Step::PreviousPortsClosed, initialising, restarts.clone()),
            (Step::RestartAllowed, connected, restarts),
        ]
    );
    let world = world.borrow();
    assert_eq!(world.told("last_panic"), text("a bug"));
    assert_eq!(world.told("state"), text("serving"));
    assert_eq!(world.back.connections(), 2);
    assert_eq!(world.xen.take_events(), [], "the server is the same, and was enabled all the while");
}

#[test]
fn a_request_under_way_is_done_again_and_an_access_is_answered_after_a_panic() {
    let world = World::new();
    assert!(world.borrow_mut().begin(CMDLINE));
    let mut guest = guest(&world);
    let data = vec![0x5a; 4096];
    world.borrow().back.set_faults(Faults { delay_steps: 1000, ..Faults::default() });
    let head = guest.submit(&write_request(8, &data), &Framing::Usual);
    guest.kick();
    // It is at the storage when the panic comes, and vCPU 1 waits for an answer.
    assert_eq!(guest.next_used(), None);
    let page = world.borrow().begin_access(1).expect("claimed");
    world.borrow_mut().panic();
    world.borrow().back.set_faults(Faults::default());
    assert!(world.borrow_mut().begin(CMDLINE));
    world.borrow_mut().run();
    assert_eq!(take_answer(&page, 1), Some(MAGIC));
    let (used, answer) = guest.next_used().expect("an answer");
    assert_eq!((used, answer.status), (head, 0));
    assert_eq!(guest.next_used(), None, "once");
    assert_eq!(world.borrow().back.disk().cached[4096..8192], data);
    let irq = Event::Irq(GUEST, 33, true);
    assert!(world.borrow().xen.take_events().contains(&irq), "the driver is told");
    // And again.
    world.borrow_mut().panic();
    assert!(world.borrow_mut().begin(CMDLINE));
    guest.submit(&write_request(16, &data), &Framing::Usual);
    guest.kick();
    world.borrow_mut().run();
    assert_eq!(guest.next_used().expect("an answer").1.status, 0);
    assert_eq!(world.borrow().told("restarts"), text("2"));
}

#[test]
fn nobody_restarts_into_memory_that_is_still_in_use() {
    let world = World::new();
    assert!(world.borrow_mut().begin(CMDLINE));
    world.borrow_mut().panic();
    host(|host| host.pages_in_use = 3);
    let seen = note_steps(&world);
    assert!(world.borrow_mut().begin(CMDLINE), "it serves all the same");
    assert!(seen.borrow().iter().all(|(step, ..)| *step != Step::RestartAllowed));
}

#[test]
fn the_end_destroys_the_server_and_says_that_it_is_a_crash() {
    let world = World::new();
    assert!(world.borrow_mut().begin(CMDLINE));
    world.borrow_mut().run();
    drop(world.borrow().xen.take_events());
    world.borrow().xen.fail_next("poll", kernel::Errno::EINVAL);
    let mut event_loop = world.borrow_mut().event_loop.take().expect("running");
    let why = event_loop.run();
    assert_eq!(crate::end(event_loop.stub(), why), ShutdownReason::Crash);
    let events = world.borrow().xen.take_events();
    assert!(
        matches!(events[..], [Event::ServerState(a, false), Event::ServerDestroyed(b)] if a == b),
        "{events:?}"
    );
}

#[test]
fn whoever_asks_for_statistics_gets_the_word_back_and_all_counters() {
    let world = World::new();
    assert!(world.borrow_mut().begin(CMDLINE));
    let mut guest = guest(&world);
    guest.submit(&write_request(0, &[1; 512]), &Framing::Usual);
    guest.kick();
    let mut world = world.borrow_mut();
    world.run();
    world.store.write(&format!("/local/domain/{STUB}/data/pilotfish/ask"), "one,two");
    world.run();
    let line = world.told("stats").expect("an answer");
    assert!(line.starts_with("asked=onetwo answers="), "{line}");
    for key in [" polls=", " worked=", " blocks=", " disk=0 ", " sends="] {
        assert!(line.contains(key), "{line}");
    }
    assert!(line.ends_with(" sends=1"), "{line}");
    let ask = |world: &mut World, word: &str| {
        world.store.write(&format!("/local/domain/{STUB}/data/pilotfish/ask"), word);
        world.run();
        world.told("stats").expect("an answer")
    };
    let line = ask(&mut world, "a-word-that-is-longer-than-it-may-be");
    assert!(line.starts_with("asked=awordthatislongertha answers="), "{line}");
    let line = ask(&mut world, "rings1");
    assert!(line.starts_with("asked=rings1 disk=0 ") && !line.contains("polls="), "{line}");
}

#[test]
fn answers_are_given_to_questions_only() {
    let world = World::new();
    assert!(world.borrow_mut().begin(CMDLINE));
    let mut world = world.borrow_mut();
    world.store.write(&format!("/local/domain/{STUB}/data/pilotfish/ask"), "one");
    world.run();
    world.store.rm(&format!("/local/domain/{STUB}/data/pilotfish/stats"));
    // An event of the disk's.
    world.back.set_node("state", "4");
    world.run();
    assert_eq!(world.told("stats"), None);
}

#[test]
fn another_length_of_a_disk_is_told_after_a_restart() {
    let world = World::new();
    assert!(world.borrow_mut().begin(CMDLINE));
    let mut guest = guest(&world);
    assert_eq!(guest.capacity(), 8192);
    world.borrow_mut().panic();
    world.borrow().back.set_node("sectors", "4096");
    assert!(world.borrow_mut().begin(CMDLINE));
    world.borrow_mut().run();
    assert_eq!(guest.capacity(), 4096);
    assert_eq!(guest.take_interrupt() & 2, 2, "a change of the configuration");
}
