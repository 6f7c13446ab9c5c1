//! Daemons, and programs of theirs, that were killed: the next daemon repairs what they left.

use super::*;

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
fn killed_at_every_step(mut act: impl FnMut(&mut Rig) -> u16, then: impl Fn(&mut Rig, u16)) {
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
            rig.world.clear(&Place::dom0(guest).dir());
            guest
        },
        |rig, guest| rig.assert_nothing_left(guest),
    );
}

/// Whether a key of TLS, or a place of one, is in xenstore.
fn has_key(rig: &Rig) -> bool {
    let state = rig.world.state();
    state.nodes.iter().any(|(path, value)| value.contains(HEX) || path.contains("pilotfish-tls"))
}

const HEX: &str = "00112233445566778899aabbccddeeff";

#[test]
fn a_daemon_killed_while_a_key_is_in_xenstore_has_the_next_remove_it() {
    let mut kept = 0;
    killed_at_every_step(
        |rig| {
            let key = rig.target("key");
            std::fs::write(&key, format!("web:{HEX}\n")).unwrap();
            std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
            let server = "storage = \"nbd\"\nserver = \"nbd://10.0.0.5/x\"\naddress = \"10.0.0.6/24\"";
            std::fs::write(rig.target("d.pilotfish"), format!("{server}\ntls-psk-file = \"{key}\"")).unwrap();
            let guest = rig.world.xl_create(&[&rig.target("d.pilotfish")]);
            rig.settle();
            if has_key(rig) {
                kept += 1;
                // Whatever else the next daemon finds to do.
                rig.restart();
                assert!(!has_key(rig), "a key is left");
            }
            guest
        },
        |rig, _| assert!(!has_key(rig), "a key is left"),
    );
    assert!(kept > 0, "no daemon was killed while it was there");
}

#[test]
fn the_stub_of_a_killed_daemons_xl_that_appears_later_is_removed() {
    let mut rig = Rig::new();
    let guest = rig.guest();
    let uuid = Identity::new(guest).unwrap().uuid;
    rig.world.state().orphan = Some((guest, format!("pilotfish-{guest}"), uuid));
    rig.world.clear(&Place::dom0(guest).dir());
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
    let task = daemon.reconcile(guest).unwrap();
    let env = Env { config: &rig.config, store: &rig.world.store(), host: &rig.world.host() };
    let outcome = perform(&env, &task);
    assert!(matches!(outcome, Outcome::Stopped(_, Err(_))), "{outcome:?}");
    assert_eq!(rig.world.disk_states(guest), ["5", "5"], "the stub may still write");
    assert!(daemon.finish(outcome).is_empty());
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
