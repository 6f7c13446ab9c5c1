//! Several names of `grant-stubs`: a stub waits under each, whatever happens to the others meanwhile.

use super::*;
use crate::config::GrantStubEntry;
use crate::host::Host;

const NAMES: [&str; 3] = ["na", "nb", "nc"];

/// A daemon that keeps a stub waiting under each name.
fn rig() -> Rig {
    let entry = |name: &str| GrantStubEntry { name: name.to_owned(), guest: None };
    let grant_stubs = NAMES.map(entry).to_vec();
    let mut rig = Rig::with(Config { grant_stubs, ..Config::default_for_tests() });
    rig.settle();
    assert_eq!(waiting(&rig), NAMES);
    rig
}

/// The names under which stubs wait.
fn waiting(rig: &Rig) -> Vec<String> {
    let names = rig.world.stubs().into_iter().map(|(_, stub)| stub.name);
    let mut names: Vec<String> = names.filter(|name| NAMES.contains(&name.as_str())).collect();
    names.sort();
    names
}

fn stub(rig: &Rig, name: &str) -> u16 {
    rig.world.stubs().into_iter().find(|(_, stub)| stub.name == name).unwrap().0
}

/// Somebody destroys the stub that waits under that name.
fn destroyed(rig: &Rig, name: &str) {
    let domid = stub(rig, name);
    rig.world.state().domains.remove(&domid);
    rig.world.clear(&paths::domain(domid));
}

fn all_tasks(rig: &mut Rig) -> Vec<Task> {
    rig.daemon.as_mut().unwrap().reconcile_all()
}

fn work(rig: &Rig, task: &Task) -> Outcome {
    let (store, host) = (rig.world.store(), rig.world.host());
    perform(&Env { config: &rig.config, store: &store, host: &host }, task)
}

/// The daemon hears of that outcome, and does all that follows.
fn finish(rig: &mut Rig, outcome: Outcome) {
    let mut outcomes = VecDeque::from([outcome]);
    while let Some(outcome) = outcomes.pop_front() {
        let tasks = rig.daemon.as_mut().unwrap().finish(outcome);
        outcomes.extend(tasks.iter().map(|task| work(rig, task)));
    }
    rig.settle();
}

#[test]
fn names_that_become_free_while_a_stub_is_made_get_theirs_too() {
    let mut rig = rig();
    destroyed(&rig, "na");
    let tasks = all_tasks(&mut rig);
    let [task] = tasks.as_slice() else { panic!("{tasks:?}") };
    let outcome = work(&rig, task);
    destroyed(&rig, "nb");
    destroyed(&rig, "nc");
    finish(&mut rig, outcome);
    assert_eq!(waiting(&rig), NAMES);
}

#[test]
fn a_name_whose_stub_could_not_be_made_does_not_keep_another_ones_back() {
    let mut rig = rig();
    destroyed(&rig, "na");
    rig.world.state().create_works = false;
    let tasks = all_tasks(&mut rig);
    let outcome = work(&rig, &tasks[0]);
    rig.world.state().create_works = true;
    destroyed(&rig, "nb");
    finish(&mut rig, outcome);
    assert_eq!(waiting(&rig), NAMES);
}

#[test]
fn guests_that_start_at_once_each_leave_a_stub_to_the_next() {
    let mut rig = rig();
    let places = NAMES.map(|name| rig.world.xl_create_granted(stub(&rig, name), &[&rig.target("a.img")]));
    assert!(all_tasks(&mut rig).is_empty());
    rig.world.advance(Duration::from_secs(2));
    let now = rig.world.host().now();
    let launches = rig.daemon.as_mut().unwrap().reconcile_due(now);
    assert_eq!(launches.len(), 3);
    // The first worker is a little faster: its name is free while the others' are not.
    let mut prepared = None;
    for launch in &launches {
        let outcome = work(&rig, launch);
        assert!(rig.daemon.as_mut().unwrap().finish(outcome).is_empty());
        if prepared.is_none() {
            let tasks = all_tasks(&mut rig);
            assert_eq!(tasks.len(), 1, "{tasks:?}");
            prepared = Some(work(&rig, &tasks[0]));
        }
    }
    finish(&mut rig, prepared.unwrap());
    for place in places {
        assert_eq!(rig.world.disk_states_at(place), ["2"]);
    }
    assert_eq!(waiting(&rig), NAMES);
}

/// `xl create` is killed while it makes the stub that is to wait as `na`.
fn half_made(rig: &mut Rig) -> Outcome {
    destroyed(rig, "na");
    let tasks = all_tasks(rig);
    rig.world.state().xl_is_killed = true;
    let outcome = work(rig, &tasks[0]);
    rig.world.state().xl_is_killed = false;
    assert_eq!(rig.world.stubs().len(), 3, "it has left a domain");
    outcome
}

#[test]
fn what_a_killed_xl_left_of_a_stub_goes_and_another_one_waits() {
    let mut rig = rig();
    let outcome = half_made(&mut rig);
    finish(&mut rig, outcome);
    assert_eq!((waiting(&rig), rig.world.stubs().len()), (NAMES.map(str::to_owned).to_vec(), 3));
}

#[test]
fn the_next_daemon_finds_what_was_left() {
    let mut rig = rig();
    drop(half_made(&mut rig));
    rig.restart();
    rig.settle();
    assert_eq!((waiting(&rig), rig.world.stubs().len()), (NAMES.map(str::to_owned).to_vec(), 3));
}

#[test]
fn a_half_made_stub_that_has_its_name_waits_for_nobody() {
    let mut rig = rig();
    let half = stub(&rig, "na");
    rig.world.clear(&paths::waits(half));
    let left = Place { owner: half, guest: 90 };
    rig.world.add_disk_at(left, 0, &rig.target("a.img"));
    assert_eq!(place_of(&rig.world.store(), &rig.world.host(), 90).unwrap(), Place::dom0(90));
    rig.settle();
    assert!(!rig.world.state().domains.contains_key(&half));
    assert_eq!((waiting(&rig), rig.world.stubs().len()), (NAMES.map(str::to_owned).to_vec(), 3));
}

#[test]
fn the_mark_of_another_domain_is_none() {
    let mut rig = rig();
    let half = stub(&rig, "na");
    rig.world.set(&paths::waits(half), &Identity::waiting("na").unwrap().uuid);
    rig.settle();
    assert!(!rig.world.state().domains.contains_key(&half) && waiting(&rig) == NAMES);
}

#[test]
fn a_stub_that_is_being_made_is_not_discarded() {
    let mut rig = rig();
    destroyed(&rig, "na");
    let tasks = all_tasks(&mut rig);
    let Task::Prepare(identity) = &tasks[0] else { panic!("{tasks:?}") };
    rig.world.domain_appears(70, Some("na"), &identity.uuid);
    assert!(all_tasks(&mut rig).is_empty());
    // Its worker has failed: now it is.
    let tasks = rig.daemon.as_mut().unwrap().finish(Outcome::Prepared("na".to_owned()));
    assert!(matches!(tasks.as_slice(), [Task::Discard(uuid)] if *uuid == identity.uuid), "{tasks:?}");
    assert!(all_tasks(&mut rig).is_empty(), "once");
    rig.world.state().destroy_works = false;
    let outcome = work(&rig, &tasks[0]);
    let again = rig.daemon.as_mut().unwrap().finish(outcome);
    assert!(matches!(again.as_slice(), [Task::Discard(_)]), "{again:?}");
    rig.world.state().destroy_works = true;
    let outcome = work(&rig, &again[0]);
    finish(&mut rig, outcome);
    assert_eq!(waiting(&rig), NAMES);
}

#[test]
fn a_domain_with_such_a_uuid_and_a_name_of_its_own_is_left_alone() {
    let mut rig = rig();
    rig.world.domain_appears(70, Some("somebody's"), &Identity::waiting("na").unwrap().uuid);
    rig.settle();
    assert!(rig.world.state().domains.contains_key(&70));
}

#[test]
fn a_guest_that_finds_its_stub_before_the_daemon_does_is_collected_at_once() {
    let mut rig = rig();
    destroyed(&rig, "na");
    let tasks = all_tasks(&mut rig);
    let outcome = work(&rig, &tasks[0]);
    let place = rig.world.xl_create_granted(stub(&rig, "na"), &[&rig.target("a.img")]);
    assert!(rig.daemon.as_mut().unwrap().finish(outcome).is_empty());
    assert!(rig.daemon.as_ref().unwrap().wake_at().is_some(), "libxl waits");
    rig.settle();
    assert_eq!(rig.world.disk_states_at(place), ["2"]);
}

#[test]
fn a_stub_that_somebody_destroys_while_it_is_made_gets_no_mark() {
    let mut rig = rig();
    destroyed(&rig, "na");
    let tasks = all_tasks(&mut rig);
    rig.world.after_create(|world| {
        let made = world.stubs().into_iter().find(|(_, stub)| stub.name == "na").unwrap().0;
        world.clear(&paths::domain(made));
    });
    let outcome = work(&rig, &tasks[0]);
    let made = stub(&rig, "na");
    assert_eq!(rig.world.get(&paths::waits(made)), None);
    finish(&mut rig, outcome);
    assert!(!rig.world.state().domains.contains_key(&made) && waiting(&rig) == NAMES);
}
