//! Guests that grant their memory: a stub waits for them, and another one comes after it.

use super::*;
use crate::config::GrantStubEntry;
use crate::fake::{Domain, Manner};
use crate::stub::waiting::prepare;

/// A daemon that keeps a stub waiting under the name `granted`.
pub(super) fn rig() -> Rig {
    let mut rig = Rig::with(config(None));
    rig.settle();
    rig
}

fn config(guest: Option<&str>) -> Config {
    let entry = GrantStubEntry { name: "granted".to_owned(), guest: guest.map(str::to_owned) };
    Config { grant_stubs: vec![entry], ..Config::default_for_tests() }
}

/// Of a stub that is to wait under that name.
fn granted() -> Identity {
    Identity::waiting("granted").unwrap()
}

/// The same under FLASK, for the guest `web1`.
fn labelled_rig() -> Rig {
    let mut rig = Rig::with(config(Some("web1")));
    rig.world.state().flask = true;
    rig.settle();
    rig
}

/// The stub that waits.
pub(super) fn waiting(rig: &Rig) -> (u16, Domain) {
    let mut found: Vec<_> = rig.world.stubs().into_iter().filter(|(_, d)| d.name == "granted").collect();
    assert_eq!(found.len(), 1, "one stub waits");
    let (domid, stub) = found.remove(0);
    assert!(stub.paused && stub.target.is_none() && stub.attached.is_empty());
    (domid, stub)
}

/// A guest with an image and a RAM disk at that stub, as libxl leaves it waiting.
pub(super) fn guest_at(rig: &Rig, stub: u16) -> Place {
    rig.world.xl_create_granted(stub, &[&rig.target("a.img"), &rig.target("ram.pilotfish")])
}

pub(super) fn last_error(rig: &Rig) -> String {
    rig.world.get(paths::LAST_ERROR).unwrap_or_default()
}

/// As [`Rig::settle_destroy`]; the nodes go with the stub.
fn settle_destroy(rig: &mut Rig, place: Place) {
    rig.world.xl_destroy_at(place);
    rig.settle();
    assert!(rig.world.disk_states_at(place).is_empty(), "libxl still waits");
    rig.world.state().domains.remove(&place.guest);
    rig.world.clear(&format!("/libxl/{}", place.guest));
    rig.settle();
}

#[test]
fn the_stub_that_waits_gets_the_guest_that_names_it_and_another_one_waits() {
    let mut rig = rig();
    let (domid, stub) = waiting(&rig);
    let xl_config = stub.config.unwrap();
    assert!(xl_config.contains("cmdline = \"config=xenstore\"\nmemory = 16\n"), "{xl_config}");
    let place = guest_at(&rig, domid);
    rig.settle();
    assert_eq!(rig.world.disk_states_at(place), ["2", "2"]);
    let stub = rig.world.state().domains[&domid].clone();
    assert_eq!((stub.target, stub.paused), (Some(place.guest), false));
    assert_eq!(stub.name, format!("pilotfish-{}", place.guest));
    assert!(stub.attached.len() == 1 && stub.attached[0].contains("vdev=xvda,"), "{:?}", stub.attached);
    let words = rig.world.get(&paths::stub_says(domid, "config")).unwrap();
    assert!(words.starts_with(&format!("target={} disk=id=51712,", place.guest)), "{words}");
    assert!(words.ends_with(" grants=on") && !words.contains("map-mib"), "{words}");
    assert_ne!(waiting(&rig).0, domid);
}

#[test]
fn a_reboot_finds_the_next_one_and_nothing_is_left_of_the_last() {
    let mut rig = rig();
    let (first, _) = waiting(&rig);
    let place = guest_at(&rig, first);
    rig.settle();
    settle_destroy(&mut rig, place);
    rig.assert_nothing_left(place.guest);
    let (second, _) = waiting(&rig);
    let place = guest_at(&rig, second);
    rig.settle();
    assert_eq!(rig.world.disk_states_at(place), ["2", "2"]);
    assert_eq!(rig.world.stubs().len(), 2, "one serves, one waits");
}

#[test]
fn a_restarted_daemon_keeps_the_one_that_waits_and_the_one_that_serves() {
    let mut rig = rig();
    let (domid, _) = waiting(&rig);
    rig.restart();
    rig.settle();
    assert_eq!(waiting(&rig).0, domid);
    let place = guest_at(&rig, domid);
    rig.settle();
    let next = waiting(&rig).0;
    rig.restart();
    rig.settle();
    assert_eq!((waiting(&rig).0, rig.world.stubs().len()), (next, 2));
    settle_destroy(&mut rig, place);
    assert_eq!((waiting(&rig).0, rig.world.stubs().len()), (next, 1));
}

#[test]
fn a_daemon_killed_at_any_moment_leaves_no_stub_without_its_guest() {
    let mut killed = 0;
    for n in 1..60 {
        let mut rig = rig();
        let (domid, _) = waiting(&rig);
        rig.world.kill_after(n);
        let place = guest_at(&rig, domid);
        rig.settle();
        let died = rig.world.state().kill_in == Some(0);
        killed += u32::from(died);
        rig.restart();
        rig.settle();
        let states = rig.world.disk_states_at(place);
        assert!(states == ["2", "2"] || states.is_empty(), "{n}: {states:?}");
        settle_destroy(&mut rig, place);
        rig.assert_nothing_left(place.guest);
        assert_eq!(rig.world.stubs().len(), 1, "killed after {n} changes: {:?}", rig.world.stubs());
        waiting(&rig);
        if !died {
            break;
        }
    }
    assert!(killed > 5, "{killed}");
}

#[test]
fn a_stub_that_cannot_serve_goes_with_its_reason_told() {
    let mut rig = rig();
    let (domid, _) = waiting(&rig);
    rig.world.state().manner = Manner::Fails("no room".to_owned());
    let place = guest_at(&rig, domid);
    rig.settle();
    assert!(last_error(&rig).contains("the stub says: no room"), "{}", last_error(&rig));
    assert!(!rig.world.state().domains.contains_key(&domid) && rig.world.disk_states_at(place).is_empty());
    rig.world.state().manner = Manner::Serves;
    let place = guest_at(&rig, waiting(&rig).0);
    rig.settle();
    assert_eq!(rig.world.disk_states_at(place), ["2", "2"]);
}

#[test]
fn a_stub_serves_one_guest_only() {
    let mut rig = rig();
    let (domid, _) = waiting(&rig);
    let place = guest_at(&rig, domid);
    rig.settle();
    let other = guest_at(&rig, domid);
    rig.settle();
    assert!(
        last_error(&rig).contains(&format!("serves guest {} already", place.guest)),
        "{}",
        last_error(&rig)
    );
    assert!(rig.world.disk_states_at(other).is_empty());
    assert_eq!(rig.world.disk_states_at(place), ["2", "2"]);
}

#[test]
fn grants_and_addresses_are_not_taken_for_each_other() {
    let mut rig = rig();
    let (domid, _) = waiting(&rig);
    let place = rig.world.xl_create_granted(domid, &[]);
    rig.world.add_disk_at(place, 0, &rig.target("a.img"));
    for dir in [place.disk(51712), format!("{}/51712", paths::libxl_disks(place.guest))] {
        rig.world.set(&format!("{dir}/grant_usage"), "0");
    }
    rig.settle();
    assert!(last_error(&rig).contains("grant_usage=0: this stub reaches"), "{}", last_error(&rig));
    let guest = rig.guest();
    for dir in [Place::dom0(guest).disk(51712), format!("{}/51712", paths::libxl_disks(guest))] {
        rig.world.set(&format!("{dir}/grant_usage"), "1");
    }
    rig.settle();
    assert!(last_error(&rig).contains("backend=NAME with a name of grant-stubs"), "{}", last_error(&rig));
    // Xen 4.17 has no such key: there the guest grants.
    let place = rig.world.xl_create_granted(waiting(&rig).0, &[&rig.target("a.img")]);
    for dir in [place.disk(51712), format!("{}/51712", paths::libxl_disks(place.guest))] {
        rig.world.clear(&format!("{dir}/grant_usage"));
    }
    rig.settle();
    assert_eq!(rig.world.disk_states_at(place), ["2"]);
}

#[test]
fn disks_with_grants_and_without_are_not_one_guests() {
    let mut rig = rig();
    let (domid, _) = waiting(&rig);
    let guest = rig.guest();
    rig.world.add_disk_at(Place { owner: domid, guest }, 2, &rig.target("a.img"));
    rig.settle();
    assert!(last_error(&rig).contains(": one guest has either all its disks"), "{}", last_error(&rig));
    // Neither those in dom0 nor, once they are gone, the other one.
    assert_eq!(rig.world.stubs().len(), 1, "{:?}", rig.world.stubs());
    waiting(&rig);
}

#[test]
fn under_flask_the_stub_waits_with_its_guests_label_and_gets_no_target() {
    let mut rig = labelled_rig();
    let (domid, stub) = waiting(&rig);
    assert_eq!(stub.label.as_deref(), Some("system_u:system_r:pf_stub_web1_t_building"));
    let place = guest_at(&rig, domid);
    rig.world.label(place.guest, "system_u:system_r:pf_guest_web1_t");
    rig.settle();
    assert_eq!(rig.world.disk_states_at(place), ["2", "2"]);
    let stub = rig.world.state().domains[&domid].clone();
    assert_eq!((stub.target, stub.paused), (None, false));
    assert_eq!(stub.label.as_deref(), Some("system_u:system_r:pf_stub_web1_t"));
    // The next one waits for the guest's next boot, and that boot is served too.
    let next = waiting(&rig).0;
    settle_destroy(&mut rig, place);
    let place = guest_at(&rig, next);
    rig.world.label(place.guest, "system_u:system_r:pf_guest_web1_t");
    rig.settle();
    assert_eq!(rig.world.disk_states_at(place), ["2", "2"]);
}

#[test]
fn a_guest_at_the_stub_of_another_guest_is_refused_and_takes_it_with_it() {
    let mut rig = labelled_rig();
    let (domid, _) = waiting(&rig);
    let place = guest_at(&rig, domid);
    rig.world.label(place.guest, "system_u:system_r:pf_guest_web2_t");
    rig.settle();
    let said = last_error(&rig);
    assert!(
        said.contains("waits as granted has the label system_u:system_r:pf_stub_web1_t_building,"),
        "{said}"
    );
    assert!(said.contains("guest = \"web2\""), "{said}");
    assert!(rig.world.disk_states_at(place).is_empty() && waiting(&rig).0 != domid);
}

#[test]
fn a_guest_without_a_label_of_ours_gets_no_target_at_the_stub_of_a_guest_with_one() {
    let mut rig = labelled_rig();
    for label in [None, Some("system_u:system_r:domU_t")] {
        let (domid, _) = waiting(&rig);
        let place = guest_at(&rig, domid);
        if let Some(label) = label {
            rig.world.label(place.guest, label);
        }
        rig.settle();
        let said = last_error(&rig);
        assert!(said.contains(&format!("this guest has {};", label.unwrap_or("none"))), "{said}");
        assert!(said.contains("seclabel = 'system_u:system_r:pf_guest_web1_t'"), "{said}");
        assert!(rig.world.disk_states_at(place).is_empty() && waiting(&rig).0 != domid);
    }
}

#[test]
fn a_stub_that_keeps_its_first_label_serves_nobody() {
    let mut rig = labelled_rig();
    let (domid, _) = waiting(&rig);
    rig.world.state().relabel_fails = true;
    let place = guest_at(&rig, domid);
    rig.world.label(place.guest, "system_u:system_r:pf_guest_web1_t");
    rig.settle();
    assert!(last_error(&rig).contains("second label: another label"), "{}", last_error(&rig));
    assert!(rig.world.disk_states_at(place).is_empty() && waiting(&rig).0 != domid);
}

#[test]
fn a_stub_of_the_guest_that_serves_already_is_alone() {
    let mut rig = labelled_rig();
    let (domid, _) = waiting(&rig);
    rig.world.domain_appears(99, Some("left"), "00000000-0000-0000-0000-000000000000");
    rig.world.label(99, "system_u:system_r:pf_stub_web1_t");
    let place = guest_at(&rig, domid);
    rig.world.label(place.guest, "system_u:system_r:pf_guest_web1_t");
    rig.settle();
    assert!(last_error(&rig).contains("domain 99 has the label"), "{}", last_error(&rig));
    assert!(rig.world.disk_states_at(place).is_empty());
}

#[test]
fn without_flask_the_stubs_guest_says_nothing() {
    let mut rig = Rig::with(config(Some("web1")));
    rig.settle();
    let (domid, stub) = waiting(&rig);
    assert_eq!(stub.label, None);
    let place = guest_at(&rig, domid);
    rig.settle();
    assert_eq!(rig.world.disk_states_at(place), ["2", "2"]);
    assert_eq!(rig.world.state().domains[&domid].target, Some(place.guest));
}

#[test]
fn no_stub_waits_while_the_policy_lacks_what_it_will_need() {
    let world = World::new();
    world.state().flask = true;
    world.state().denied = vec![(10, 5)];
    let (config, store, host) = (config(Some("web1")), world.store(), world.host());
    let env = Env { config: &config, store: &store, host: &host };
    let error = format!("{:#}", prepare(&env, &granted()).unwrap_err());
    for part in [
        "grant-stubs: granted: ",
        "grant copy of system_u:system_r:pf_stub_web1_t",
        "--policy web1 --grants`",
    ] {
        assert!(error.contains(part), "{error}");
    }
    let from = host.now();
    perform(&env, &Task::Prepare(granted()));
    assert!(world.stubs().is_empty() && host.now() > from, "it takes its time to try again");
    world.state().denied.clear();
    perform(&env, &Task::Prepare(granted()));
    assert_eq!(world.stubs().len(), 1);
}

#[test]
fn a_right_that_the_policy_lacks_is_named_at_the_guests_start() {
    let mut rig = rig();
    let (domid, _) = waiting(&rig);
    let place = guest_at(&rig, domid);
    rig.world.label(place.guest, "system_u:system_r:pf_guest_web1_t");
    rig.world.state().denied = vec![(10, 0)];
    rig.settle();
    assert!(last_error(&rig).contains("grant map_read of"), "{}", last_error(&rig));
}

#[test]
fn the_stub_of_a_guest_that_is_to_grant_is_asked_whether_it_does_and_no_other() {
    let mut rig = rig();
    let (granted, _) = waiting(&rig);
    guest_at(&rig, granted);
    rig.settle();
    let mapped = rig.guest();
    rig.settle();
    for _ in 0..2 {
        rig.world.advance(Duration::from_secs(6));
        rig.settle();
    }
    let stubs = rig.world.stubs().into_iter();
    let asked = stubs.filter(|(stub, _)| rig.world.get(&paths::stub_says(*stub, "ask")).is_some());
    assert_eq!(asked.map(|(stub, _)| stub).collect::<Vec<_>>(), [granted]);
    rig.assert_served(mapped);
}

#[test]
fn of_two_guests_that_start_at_one_stub_together_one_is_served_and_the_other_refused() {
    // In order of their numbers, and of these as xenstore lists them.
    for first in [50, 99] {
        let mut rig = rig();
        let (domid, _) = waiting(&rig);
        rig.world.set_next(first);
        let [served, refused] = [guest_at(&rig, domid), guest_at(&rig, domid)];
        rig.settle();
        let said = last_error(&rig);
        let why = format!("guest {}: backend={domid}: that stub serves guest {first} already", refused.guest);
        assert_eq!(said, why);
        assert_eq!(rig.world.disk_states_at(served), ["2", "2"]);
        assert!(rig.world.disk_states_at(refused).is_empty());
        assert_eq!(rig.world.state().domains[&domid].target, Some(first));
        rig.assert_nothing_left(refused.guest);
        waiting(&rig);
    }
}
