//! The whole daemon, without threads, in a fake world: every task runs to its end at once.

use std::collections::VecDeque;
use std::time::Duration;

use super::*;
use crate::fake::{Manner, World};

/// A daemon in a world, and a directory with targets.
struct Rig {
    world: World,
    config: Arc<Config>,
    daemon: Option<Daemon>,
    dir: tempfile::TempDir,
}

impl Rig {
    fn new() -> Rig {
        Rig::with(Config::default_for_tests())
    }

    fn with(config: Config) -> Rig {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.img"), [0; 1024]).unwrap();
        std::fs::write(dir.path().join("ram.pilotfish"), "storage = \"ram\"\nsize = \"1MiB\"").unwrap();
        std::fs::write(dir.path().join("bad.pilotfish"), "storage = \"ram\"\nsiez = \"1MiB\"").unwrap();
        let mut rig = Rig { world: World::new(), config: Arc::new(config), daemon: None, dir };
        rig.restart();
        rig
    }

    fn target(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    /// A guest with an image and a RAM disk, as libxl leaves it waiting.
    fn guest(&self) -> u16 {
        self.world.xl_create(&[&self.target("a.img"), &self.target("ram.pilotfish")])
    }

    /// The daemon of before is dead; a new one takes over.
    fn restart(&mut self) {
        self.world.next_process();
        let (store, host) = (Arc::new(self.world.store()), Arc::new(self.world.host()));
        self.daemon = Daemon::new(Arc::clone(&self.config), store, host).ok();
    }

    /// Lets the daemon work until there is nothing to do and nothing to wait for.
    fn settle(&mut self) {
        let Some(daemon) = &mut self.daemon else { return };
        let (store, host) = (self.world.store(), self.world.host());
        for _ in 0..50 {
            let mut tasks: VecDeque<Task> = daemon.look_at_all().into();
            tasks.extend(daemon.look_at_due(host.now()));
            let mut idle = tasks.is_empty();
            while let Some(task) = tasks.pop_front() {
                tasks.extend(daemon.finish(perform(&self.config, &store, &host, &task)));
            }
            if let Some(at) = daemon.wake_at() {
                self.world.advance(at.saturating_duration_since(host.now()));
                idle = false;
            }
            if idle {
                return;
            }
        }
    }

    /// As [`Rig::settle`], but libxl takes its nodes away as soon as the disks are closed.
    fn settle_destroy(&mut self, guest: u16) {
        self.world.xl_destroy(guest);
        self.settle();
        self.world.xl_destroyed(guest);
        self.settle();
    }

    fn assert_served(&self, guest: u16) {
        assert_eq!(self.world.disk_states(guest), ["2", "2"]);
        let stubs = self.world.stubs();
        let mine: Vec<_> = stubs.iter().filter(|(_, d)| d.target == Some(guest)).collect();
        assert_eq!(mine.len(), 1);
        assert!(!mine[0].1.paused);
        assert_eq!(mine[0].1.name, format!("pilotfish-{guest}"));
    }

    /// No stub, no node, no record of `guest`.
    fn assert_nothing_left(&self, guest: u16) {
        assert!(self.world.stubs().iter().all(|(_, d)| d.name != format!("pilotfish-{guest}")));
        let state = self.world.state();
        let left: Vec<_> = state
            .nodes
            .keys()
            .filter(|k| k.starts_with(&paths::record(guest)) || k.starts_with(&paths::guest_backends(guest)))
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn a_guest_with_two_disks_gets_one_stub_and_loses_it_when_it_goes() {
    let mut rig = Rig::new();
    let guest = rig.guest();
    rig.settle();
    rig.assert_served(guest);
    let (_, stub) = &rig.world.stubs()[0];
    let config = stub.config.as_ref().unwrap();
    assert!(config.contains("store=pv:51712") && config.contains("store=ram:1048576"), "{config}");
    assert_eq!(rig.world.get(&format!("{}/state", paths::record(guest))).as_deref(), Some("serving"));

    rig.settle_destroy(guest);
    rig.assert_nothing_left(guest);
    assert_eq!(rig.daemon.as_ref().unwrap().guests.len(), 0);
}

#[test]
fn a_reboot_is_a_new_domain_and_a_new_stub_and_never_two_at_once() {
    let mut rig = Rig::new();
    let first = rig.guest();
    rig.settle();
    let old = rig.world.stubs()[0].0;
    rig.settle_destroy(first);
    let second = rig.guest();
    rig.settle();
    rig.assert_served(second);
    rig.assert_nothing_left(first);
    assert!(rig.world.stubs().iter().all(|(domid, _)| *domid != old));
    assert_eq!(rig.world.stubs().len(), 1);
}

#[test]
fn libxl_is_told_only_after_the_stub_has_gone() {
    let mut rig = Rig::new();
    let guest = rig.guest();
    rig.settle();
    rig.world.state().destroy_works = false;
    rig.world.xl_destroy(guest);
    rig.settle();
    assert_eq!(rig.world.disk_states(guest), ["5", "5"], "the stub may still write");
    rig.world.state().destroy_works = true;
    rig.settle();
    rig.world.xl_destroyed(guest);
    rig.settle();
    rig.assert_nothing_left(guest);
}

#[test]
fn two_guests_have_two_stubs() {
    let mut rig = Rig::new();
    let (a, b) = (rig.guest(), rig.guest());
    rig.settle();
    rig.assert_served(a);
    rig.assert_served(b);
    rig.settle_destroy(a);
    rig.assert_served(b);
    rig.assert_nothing_left(a);
}

#[test]
fn a_disk_that_comes_while_the_stub_is_made_is_served_too() {
    let mut rig = Rig::new();
    let guest = rig.world.xl_create(&[&rig.target("a.img")]);
    let target = rig.target("ram.pilotfish");
    rig.world.after_create(move |world| world.add_disk(guest, 1, &target));
    rig.settle();
    rig.assert_served(guest);
    assert_eq!(rig.world.state().most_stubs, 1);
}

#[test]
fn a_disk_that_comes_when_the_stub_serves_is_refused() {
    let mut rig = Rig::new();
    let guest = rig.world.xl_create(&[&rig.target("a.img")]);
    rig.settle();
    rig.world.add_disk(guest, 1, &rig.target("ram.pilotfish"));
    rig.settle();
    assert_eq!(rig.world.disk_states(guest), ["2"], "libxl's wait for the late one ends with its node");
    assert!(rig.world.get(paths::LAST_ERROR).unwrap().contains("came after the stub"));
}

#[test]
fn a_bad_target_ends_the_start_at_once_with_a_reason_and_leaves_nothing() {
    for (name, what) in [("bad.pilotfish", "siez"), ("missing.img", "missing.img")] {
        let mut rig = Rig::new();
        let guest = rig.world.xl_create(&[&rig.target("a.img"), &rig.target(name)]);
        let before = rig.world.host().now();
        rig.settle();
        let took = rig.world.host().now().duration_since(before);
        assert!(took < Duration::from_secs(1), "{took:?}");
        assert!(rig.world.disk_states(guest).is_empty(), "no node: libxl's wait ends");
        rig.assert_nothing_left(guest);
        let reason = rig.world.get(paths::LAST_ERROR).unwrap();
        assert!(reason.contains(what) && reason.contains("disk xvdb (51728): "), "{reason}");
    }
}

#[test]
fn nodes_that_make_no_sense_are_refused_with_key_and_value() {
    for (key, value) in [
        ("mode", "x"),
        ("base", "0x30000000"),
        ("base", "33554433"),
        ("base", "many"),
        ("irq", "5"),
        ("irq", "99999999999"),
        ("irq", "1020"),
        ("params", "relative"),
        ("grant_usage", "1"),
        ("grant_usage", "yes"),
        ("discard-enable", "no"),
    ] {
        let mut rig = Rig::new();
        let guest = rig.world.xl_create(&[&rig.target("a.img")]);
        rig.world.set(&format!("{}/{key}", paths::backend(guest, 51712)), value);
        rig.world.set(&format!("{}/51712/{key}", paths::libxl_disks(guest)), value);
        rig.settle();
        rig.assert_nothing_left(guest);
        let reason = rig.world.get(paths::LAST_ERROR).unwrap();
        let named = reason.contains(key) || (key == "params" && reason.contains("target"));
        assert!(named, "{key}={value}: {reason}");
        if key == "irq" {
            assert!(reason.contains(&format!("irq = {value}: no shared interrupt")), "{reason}");
        }
    }
}

#[test]
fn a_disk_that_must_not_discard_does_not_and_a_libxl_that_knows_fewer_keys_is_good() {
    let mut rig = Rig::new();
    let guest = rig.guest();
    for (disk, key, value) in
        [(51728, "discard-enable", Some("0")), (51712, "discard-enable", None), (51712, "grant_usage", None)]
    {
        for dir in [paths::backend(guest, disk), format!("{}/{disk}", paths::libxl_disks(guest))] {
            match value {
                Some(value) => rig.world.set(&format!("{dir}/{key}"), value),
                None => rig.world.clear(&format!("{dir}/{key}")),
            }
        }
    }
    rig.settle();
    rig.assert_served(guest);
    let config = rig.world.stubs()[0].1.config.clone().unwrap();
    let disks: Vec<&str> = config.split("disk=id=").skip(1).collect();
    assert!(!disks[0].contains("discard") && disks[1].contains(",discard=off"), "{config}");
}

#[test]
fn a_node_that_differs_from_libxls_copy_is_refused() {
    let mut rig = Rig::new();
    let guest = rig.world.xl_create(&[&rig.target("a.img")]);
    rig.world.set(&format!("{}/params", paths::backend(guest, 51712)), "/dev/sda");
    rig.settle();
    rig.assert_nothing_left(guest);
    assert!(rig.world.get(paths::LAST_ERROR).unwrap().contains("libxl's own copy"));
}

#[test]
fn other_kinds_of_nodes_are_left_alone() {
    let mut rig = Rig::new();
    let guest = rig.world.xl_create(&[&rig.target("a.img")]);
    rig.world.set(&format!("{}/transport", paths::backend(guest, 51712)), "pci");
    rig.settle();
    assert_eq!(rig.world.disk_states(guest), ["1"]);
    assert!(rig.world.stubs().is_empty());
}

#[test]
fn a_stub_that_never_serves_is_removed_before_libxl_gives_up() {
    for manner in [
        Manner::Silent,
        Manner::Crashes,
        Manner::Fails("no disk \x1b[2J\x07here\nand more".into()),
        Manner::Fails(String::new()),
        Manner::Says("serving\0".into()),
        Manner::Says("s".repeat(4000)),
        Manner::Says("\u{1b}]0;owned\u{7}".into()),
    ] {
        let mut rig = Rig::new();
        rig.world.state().manner = manner.clone();
        let guest = rig.guest();
        let before = rig.world.host().now();
        rig.settle();
        let took = rig.world.host().now().duration_since(before);
        assert!(took < Duration::from_secs(10), "{manner:?}: {took:?}");
        rig.assert_nothing_left(guest);
        let reason = rig.world.get(paths::LAST_ERROR).unwrap();
        assert!(reason.len() < 900, "{manner:?}: {} bytes", reason.len());
        assert!(reason.chars().all(|c| c == ' ' || c.is_ascii_graphic()), "{manner:?}: {reason:?}");
    }
}

#[test]
fn a_failing_xl_is_told_and_leaves_nothing() {
    let mut rig = Rig::new();
    rig.world.state().create_works = false;
    let guest = rig.guest();
    rig.settle();
    rig.assert_nothing_left(guest);
    assert!(rig.world.get(paths::LAST_ERROR).unwrap().contains("no memory"));
}

#[test]
fn a_stub_that_dies_is_dealt_with_as_configured() {
    for (policy, paused, shutdown, lives) in [
        (OnStubCrash::CrashGuest, false, Some(3), true),
        (OnStubCrash::PauseGuest, true, None, true),
        (OnStubCrash::Ignore, false, None, true),
        (OnStubCrash::DestroyGuest, false, None, false),
    ] {
        let mut rig = Rig::with(Config { on_stub_crash: policy, ..Config::default_for_tests() });
        let guest = rig.guest();
        rig.settle();
        let (stub, _) = rig.world.stubs()[0];
        rig.world.state().domains.get_mut(&guest).unwrap().paused = false;
        rig.world.state().domains.get_mut(&stub).unwrap().shutdown = Some(3);
        rig.settle();
        let now = rig.world.state().domains.get(&guest).cloned();
        assert_eq!(now.is_some(), lives, "{policy:?}");
        if let Some(now) = now {
            assert_eq!((now.paused, now.shutdown), (paused, shutdown), "{policy:?}");
            assert_eq!(rig.world.stubs().len(), 1, "the dead stub stays for inspection");
            rig.world.xl_destroy(guest);
        }
        rig.settle();
        rig.world.xl_destroyed(guest);
        rig.settle();
        rig.assert_nothing_left(guest);
    }
}

#[test]
fn a_stub_that_says_it_failed_counts_as_dead() {
    let mut rig = Rig::new();
    let guest = rig.guest();
    rig.settle();
    let (stub, _) = rig.world.stubs()[0];
    rig.world.set(&paths::stub_says(stub, "state"), "failed");
    rig.settle();
    assert_eq!(rig.world.state().domains[&guest].shutdown, Some(3));
}

#[test]
fn a_guest_that_vanishes_without_a_word_takes_its_stub_along() {
    let mut rig = Rig::new();
    let guest = rig.guest();
    rig.settle();
    rig.world.state().domains.remove(&guest);
    rig.settle();
    rig.assert_nothing_left(guest);
}

#[test]
fn a_restarted_daemon_adopts_the_stub_that_serves() {
    let mut rig = Rig::new();
    let guest = rig.guest();
    rig.settle();
    let before = rig.world.stubs()[0].0;
    rig.restart();
    rig.settle();
    rig.assert_served(guest);
    assert_eq!(rig.world.stubs()[0].0, before);
    rig.settle_destroy(guest);
    rig.assert_nothing_left(guest);
}

#[test]
fn a_daemon_that_starts_late_serves_the_guest_that_waits() {
    let mut rig = Rig::new();
    let guest = rig.guest();
    rig.restart();
    rig.settle();
    rig.assert_served(guest);
}

/// Kills the daemon after its change `n` of `act`, for all `n` there are; a new daemon must
/// reach what `then` asserts.
fn killed_at_every_step(act: impl Fn(&mut Rig) -> u16, then: impl Fn(&mut Rig, u16)) {
    let mut steps = 0;
    for n in 1.. {
        let mut rig = Rig::new();
        let changes = rig.world.state().changes;
        rig.world.kill_after(n);
        let guest = act(&mut rig);
        let done = rig.world.state().changes - changes;
        rig.restart();
        rig.settle();
        then(&mut rig, guest);
        assert!(rig.world.state().most_stubs <= 1, "killed after {n}: two stubs at once");
        if done < n {
            assert!(steps >= 8, "only {steps} steps: nothing was tested");
            return;
        }
        steps = n;
    }
}

#[test]
fn a_daemon_killed_at_any_step_of_a_launch_is_repaired_by_the_next() {
    killed_at_every_step(
        |rig| {
            let guest = rig.guest();
            rig.settle();
            guest
        },
        |rig, guest| {
            rig.assert_served(guest);
            rig.settle_destroy(guest);
            rig.assert_nothing_left(guest);
        },
    );
}

#[test]
fn a_daemon_killed_at_any_step_of_a_teardown_is_repaired_by_the_next() {
    killed_at_every_step(
        |rig| {
            let guest = rig.guest();
            rig.settle();
            rig.world.xl_destroy(guest);
            rig.settle();
            guest
        },
        |rig, guest| {
            // Killed early, the guest is already gone when the next daemon comes.
            if rig.world.disk_states(guest).iter().any(|s| s == "2") {
                rig.world.xl_destroy(guest);
                rig.settle();
            }
            rig.world.xl_destroyed(guest);
            rig.settle();
            rig.assert_nothing_left(guest);
        },
    );
}

#[test]
fn a_killed_daemon_whose_guest_went_meanwhile_leaves_no_stub() {
    killed_at_every_step(
        |rig| {
            let guest = rig.guest();
            rig.settle();
            // libxl gives up and destroys the guest while there is no daemon.
            rig.world.state().domains.remove(&guest);
            rig.world.clear(&paths::guest_backends(guest));
            guest
        },
        |rig, guest| rig.assert_nothing_left(guest),
    );
}

#[test]
fn the_stub_of_a_killed_daemons_xl_that_appears_later_is_removed() {
    let mut rig = Rig::new();
    let guest = rig.guest();
    let uuid = Identity::new(guest).unwrap().uuid;
    rig.world.state().orphan = Some((guest, format!("pilotfish-{guest}"), uuid));
    rig.world.clear(&paths::guest_backends(guest));
    rig.world.state().domains.remove(&guest);
    rig.restart();
    rig.settle();
    rig.world.release_orphan();
    assert_eq!(rig.world.stubs().len(), 1);
    rig.settle();
    rig.assert_nothing_left(guest);
}

#[test]
fn a_domain_that_a_killed_xl_left_without_a_name_is_destroyed() {
    let mut rig = Rig::new();
    rig.world.state().xl_is_killed = true;
    let other = Identity::new(77).unwrap().uuid;
    rig.world.domain_appears(500, Some("somebody's"), &other);
    let guest = rig.guest();
    rig.settle();
    assert!(rig.world.disk_states(guest).is_empty(), "refused");
    assert!(rig.world.stubs().is_empty(), "nothing in xenstore tells of it, but Xen does");
    assert!(rig.world.state().domains.contains_key(&500), "its name is not a stub's");
    rig.assert_nothing_left(guest);
}

#[test]
fn libxl_is_told_nothing_of_a_stub_that_has_lost_only_its_name() {
    let mut rig = Rig::new();
    let guest = rig.guest();
    rig.settle();
    rig.world.state().destroy_ends_halfway = true;
    rig.world.xl_destroy(guest);
    let daemon = rig.daemon.as_mut().unwrap();
    let task = daemon.look_at(guest).unwrap();
    let outcome = perform(&rig.config, &rig.world.store(), &rig.world.host(), &task);
    assert!(matches!(outcome, Outcome::Stopped(_, Err(_))), "{outcome:?}");
    assert_eq!(rig.world.disk_states(guest), ["5", "5"], "the stub may still write");
    assert!(daemon.finish(outcome).is_none());
    rig.settle();
    rig.world.xl_destroyed(guest);
    rig.settle();
    rig.assert_nothing_left(guest);
    assert!(rig.world.stubs().is_empty(), "tried again by its UUID");
}

#[test]
fn loop_devices_that_libxl_left_are_detached_and_those_in_use_are_not() {
    let mut rig = Rig::new();
    let guest = rig.guest();
    rig.settle();
    let (stub, other) = (rig.world.stubs()[0].0, 999);
    let record = |stub: u16| format!("{}/{stub}/51712", paths::LOOPS);
    rig.world.set(&record(stub), "/dev/loop0 /disks/a b.img");
    rig.world.set(&record(other), "/dev/loop7 /disks/old.img");
    rig.restart();
    rig.settle();
    assert_eq!(rig.world.state().detached, ["/dev/loop7 /disks/old.img"], "what a dead daemon's stub left");
    assert_eq!((rig.world.get(&record(other)), rig.world.get(&record(stub)).is_some()), (None, true));
    rig.settle_destroy(guest);
    assert_eq!(rig.world.state().detached[1..], ["/dev/loop0 /disks/a b.img"]);
    assert!(rig.world.state().nodes.keys().all(|node| !node.starts_with(paths::LOOPS)));
}

#[test]
fn a_stub_that_was_renamed_keeps_its_loop_device_and_goes_with_its_guest() {
    let mut rig = Rig::new();
    let guest = rig.guest();
    rig.settle();
    let stub = rig.world.stubs()[0].0;
    let record = format!("{}/{stub}/51712", paths::LOOPS);
    rig.world.set(&record, "/dev/loop0 2049:12 /disks/a.img");
    rig.world.set(&format!("{}/name", paths::domain(stub)), "another");
    rig.restart();
    rig.settle();
    assert_eq!(rig.world.state().detached, Vec::<String>::new());
    assert_eq!(rig.world.stubs().len(), 1);
    rig.settle_destroy(guest);
    assert_eq!(rig.world.state().detached, ["/dev/loop0 2049:12 /disks/a.img"]);
    assert_eq!(rig.world.stubs().len(), 0);
}
