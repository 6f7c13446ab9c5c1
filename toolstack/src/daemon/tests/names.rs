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
