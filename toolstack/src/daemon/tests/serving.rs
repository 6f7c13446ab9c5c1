//! Guests whose disks are served, and what becomes of them with their stub.

use super::*;
use crate::config::OnStubCrash;
use crate::fake::Manner;

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
fn a_guest_with_a_label_of_ours_gets_a_stub_with_a_label_and_no_target() {
    let mut rig = Rig::with(Config { stub_seclabel: "another".to_owned(), ..Config::default_for_tests() });
    let guest = rig.guest();
    rig.world.label(guest, "system_u:system_r:pf_guest_web1_t");
    rig.settle();
    assert_eq!(rig.world.disk_states(guest), ["2", "2"]);
    let (_, stub) = &rig.world.stubs()[0];
    assert_eq!((stub.target, stub.paused), (None, false));
    let config = stub.config.as_ref().unwrap();
    assert!(config.contains("seclabel = \"system_u:system_r:pf_stub_web1_t\"\n"), "{config}");
    rig.settle_destroy(guest);
    rig.assert_nothing_left(guest);
}

#[test]
fn a_guest_whose_label_another_has_or_whose_policy_lacks_a_right_does_not_start() {
    for (twin, denied, why) in [(true, vec![], "has the label"), (false, vec![(5, 11)], "hvm dm")] {
        let mut rig = Rig::new();
        let guest = rig.guest();
        rig.world.label(guest, "system_u:system_r:pf_guest_web1_t");
        if twin {
            rig.world.domain_appears(
                99,
                Some("twin"),
                &crate::stub::identity::Identity::new(3).unwrap().uuid,
            );
            rig.world.label(99, "system_u:system_r:pf_guest_web1_t");
        }
        rig.world.state().denied = denied;
        rig.settle();
        rig.assert_nothing_left(guest);
        let said = rig.world.get(paths::LAST_ERROR).unwrap();
        assert!(said.contains(why), "{said}");
        assert!(rig.world.stubs().is_empty());
    }
}

#[test]
fn a_stub_that_flask_refuses_something_is_told_with_what_to_do() {
    let mut rig = Rig::new();
    rig.world.state().manner = Manner::Fails("cannot create the ioreq server: denied (EACCES)".to_owned());
    rig.guest();
    rig.settle();
    let said = rig.world.get(paths::LAST_ERROR).unwrap();
    assert!(said.contains("(EACCES); Xen's FLASK policy") && said.contains("pilotfishd --policy"), "{said}");
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
fn a_stub_that_never_serves_is_removed_before_libxl_gives_up() {
    for manner in [
        Manner::Silent,
        Manner::Waits("disk 51712: a server \x1b[2J".repeat(40)),
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
fn whom_a_stub_waited_for_is_told() {
    let mut rig = Rig::new();
    rig.world.state().manner = Manner::Waits("disk 51712: NBD server 10.0.0.5:10809: not ready yet".into());
    let guest = rig.guest();
    rig.settle();
    rig.assert_nothing_left(guest);
    let reason = rig.world.get(paths::LAST_ERROR).unwrap();
    let what = "disk xvda (51712): the stub says: disk 51712: NBD server 10.0.0.5:10809: not ready yet: no stub within";
    assert!(reason.contains(what), "{reason}");
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
