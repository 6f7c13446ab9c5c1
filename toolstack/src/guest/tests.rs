use super::*;
use crate::stub::identity::Identity;

const TIMES: Times =
    Times { quiet: Duration::from_millis(150), launch: Duration::from_secs(9), tidy: Duration::from_secs(5) };

fn node(disk: u32, state: &str) -> NodeState {
    NodeState { disk, state: state.to_owned(), offline: false }
}

fn seen(nodes: &[NodeState]) -> Observation {
    Observation { nodes: nodes.to_vec(), guest_lives: true, ..Observation::default() }
}

fn stub(disks: &[u32]) -> Stub {
    Stub { domid: 9, identity: Identity { guest: 5, uuid: "u".into(), made_as: None }, disks: disks.to_vec() }
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[test]
fn a_launch_waits_until_nothing_new_has_come_for_the_quiet_time() {
    let (mut guest, t0) = (Guest::new(), Instant::now());
    let one = [node(51712, "1")];
    let two = [node(51712, "1"), node(51728, "1")];
    assert_eq!(guest.step(&seen(&one), t0, &TIMES), Action::Nothing);
    assert_eq!(guest.wake_at(), Some(t0 + ms(150)));
    assert_eq!(guest.step(&seen(&two), t0 + ms(100), &TIMES), Action::Nothing);
    assert_eq!(guest.step(&seen(&two), t0 + ms(249), &TIMES), Action::Nothing);
    assert_eq!(guest.step(&seen(&two), t0 + ms(250), &TIMES), Action::Launch(t0 + TIMES.launch));
}

#[test]
fn the_quiet_time_is_longer_where_xenstore_is_slow_but_not_without_limit() {
    let (mut guest, t0) = (Guest::new(), Instant::now());
    let slow = Observation { read_time: ms(20), ..seen(&[node(51712, "1")]) };
    guest.step(&slow, t0, &TIMES);
    assert_eq!(guest.wake_at(), Some(t0 + ms(400)));
    let stuck = Observation { read_time: ms(3000), ..slow };
    guest.step(&stuck, t0, &TIMES);
    assert_eq!(guest.wake_at(), Some(t0 + TIMES.launch / 8));
}

#[test]
fn a_guest_that_goes_while_collecting_is_closed_without_a_stub() {
    let (mut guest, t0) = (Guest::new(), Instant::now());
    guest.step(&seen(&[node(51712, "1")]), t0, &TIMES);
    assert_eq!(guest.step(&seen(&[node(51712, "5")]), t0, &TIMES), Action::Stop);
    let mut guest = Guest::new();
    guest.step(&seen(&[node(51712, "1")]), t0, &TIMES);
    assert_eq!(guest.step(&seen(&[]), t0, &TIMES), Action::Forget);
}

#[test]
fn a_guest_that_goes_while_launching_cancels_the_worker() {
    for over in [
        seen(&[node(51712, "5")]),
        seen(&[]),
        Observation { guest_lives: false, ..seen(&[node(51712, "1")]) },
    ] {
        let mut guest = Guest::new();
        let cancel = Arc::new(AtomicBool::new(false));
        guest.launching(Arc::clone(&cancel), "u".into());
        assert_eq!(guest.step(&over, Instant::now(), &TIMES), Action::Nothing);
        assert!(cancel.load(Ordering::Relaxed));
        assert!(!guest.launched(None), "a cancelled launch is nothing to tell");
        assert_eq!(guest.step(&over, Instant::now(), &TIMES), Action::Stop);
    }
}

#[test]
fn a_served_guest_is_left_alone_until_it_closes_any_disk() {
    let t0 = Instant::now();
    let serving = || Guest { phase: Phase::Serving(stub(&[51712, 51728])) };
    let running = [node(51712, "2"), node(51728, "2")];
    assert_eq!(serving().step(&seen(&running), t0, &TIMES), Action::Nothing);
    assert_eq!(serving().wake_at(), None);
    let offline = NodeState { offline: true, ..node(51728, "2") };
    for over in [
        seen(&[node(51712, "5"), node(51728, "2")]),
        seen(&[node(51712, "2"), offline]),
        seen(&[]),
        Observation { guest_lives: false, ..seen(&running) },
    ] {
        assert_eq!(serving().step(&over, t0, &TIMES), Action::Stop);
    }
}

#[test]
fn a_disk_that_comes_after_the_stub_is_refused_and_the_others_stay() {
    let mut guest = Guest { phase: Phase::Serving(stub(&[51712])) };
    let late = seen(&[node(51712, "2"), node(51728, "1")]);
    assert_eq!(guest.step(&late, Instant::now(), &TIMES), Action::RefuseLate(vec![51728]));
    assert!(matches!(guest.phase, Phase::Serving(_)));
}

#[test]
fn the_policy_is_applied_once_to_a_dead_stub_which_goes_with_its_guest() {
    let mut guest = Guest { phase: Phase::Serving(stub(&[51712])) };
    let running = [node(51712, "2")];
    let failed = Observation { failure: Some("crashed".into()), ..seen(&running) };
    assert_eq!(
        guest.step(&failed, Instant::now(), &TIMES),
        Action::ApplyCrashPolicy(stub(&[51712]), "crashed".into())
    );
    assert_eq!(guest.step(&seen(&running), Instant::now(), &TIMES), Action::Nothing);
    assert!(guest.owns("any"), "the dead stub stays for inspection");
    assert_eq!(guest.step(&seen(&[node(51712, "5")]), Instant::now(), &TIMES), Action::Stop);
}

#[test]
fn the_policy_is_applied_where_a_stub_took_the_nodes_with_it() {
    let mut granted = stub(&[51712]);
    granted.identity.made_as = Some("waiting".into());
    let gone = Observation { failure: Some("domain has gone".into()), ..seen(&[]) };
    let mut guest = Guest { phase: Phase::Serving(granted.clone()) };
    let policy = Action::ApplyCrashPolicy(granted.clone(), "domain has gone".into());
    assert_eq!(guest.step(&gone, Instant::now(), &TIMES), policy);
    assert_eq!(guest.step(&seen(&[]), Instant::now(), &TIMES), Action::Stop);
    // libxl removes them at the guest's end, when the stub still serves or the guest is gone. Those in dom0 only libxl removes.
    let usual = stub(&[51712]);
    for (stub, over) in [
        (&granted, seen(&[])),
        (&granted, Observation { guest_lives: false, ..gone.clone() }),
        (&usual, gone.clone()),
    ] {
        let mut guest = Guest { phase: Phase::Serving(stub.clone()) };
        assert_eq!(guest.step(&over, Instant::now(), &TIMES), Action::Stop);
    }
}

#[test]
fn the_policy_is_applied_where_a_stub_closes_its_own_nodes_under_a_guest_that_runs() {
    let mut granted = stub(&[51712]);
    granted.identity.made_as = Some("waiting".into());
    let offline = NodeState { offline: true, ..node(51712, "2") };
    for nodes in [vec![node(51712, "5")], vec![node(51712, "6")], vec![offline], vec![]] {
        // libxl has paused the guest before, or it has shut down.
        let by_libxl = seen(&nodes);
        let by_the_stub = Observation { guest_runs: true, ..by_libxl.clone() };
        let policy = Action::ApplyCrashPolicy(granted.clone(), CLOSED.into());
        for (stub, seen, action) in [
            (&granted, &by_the_stub, policy),
            (&granted, &by_libxl, Action::Stop),
            (&stub(&[51712]), &by_the_stub, Action::Stop),
        ] {
            let mut guest = Guest { phase: Phase::Serving(stub.clone()) };
            assert_eq!(guest.step(seen, Instant::now(), &TIMES), action, "{nodes:?}");
        }
    }
}

#[test]
fn no_policy_is_applied_where_the_guest_goes_with_its_stub() {
    for over in [seen(&[node(51712, "5")]), Observation { guest_lives: false, ..seen(&[node(51712, "2")]) }] {
        let mut guest = Guest { phase: Phase::Serving(stub(&[51712])) };
        let both = Observation { failure: Some("domain has gone".into()), ..over };
        assert_eq!(guest.step(&both, Instant::now(), &TIMES), Action::Stop);
    }
}

#[test]
fn a_stub_that_cannot_be_removed_is_tried_again_and_libxl_not_told() {
    let (mut guest, t0) = (Guest { phase: Phase::Stopping }, Instant::now());
    let closing = seen(&[node(51712, "5")]);
    guest.stopped(false, t0, &TIMES);
    assert_eq!(guest.step(&closing, t0 + ms(1999), &TIMES), Action::Nothing);
    assert_eq!(guest.wake_at(), Some(t0 + RETRY));
    assert_eq!(guest.step(&closing, t0 + RETRY, &TIMES), Action::Stop);
}

#[test]
fn closed_nodes_are_left_to_libxl_for_a_while() {
    let (mut guest, t0) = (Guest { phase: Phase::Stopping }, Instant::now());
    let closed = seen(&[node(51712, "6")]);
    guest.stopped(true, t0, &TIMES);
    assert_eq!(guest.step(&closed, t0 + ms(4999), &TIMES), Action::Nothing);
    assert_eq!(guest.step(&closed, t0 + TIMES.tidy, &TIMES), Action::Tidy);
    assert_eq!(guest.step(&seen(&[]), t0 + TIMES.tidy, &TIMES), Action::Forget);
}

#[test]
fn an_interrupted_predecessor_leaves_a_stub_to_look_for() {
    let t0 = Instant::now();
    let mut waiting = Guest::adopted(Record::Interrupted);
    assert_eq!(waiting.step(&seen(&[node(51712, "1")]), t0, &TIMES), Action::Nothing);
    assert!(matches!(waiting.phase, Phase::Collecting { .. }), "its launch sweeps first");
    for over in [seen(&[]), seen(&[node(51712, "5")]), seen(&[node(51712, "6")])] {
        let mut gone = Guest::adopted(Record::Interrupted);
        assert_eq!(gone.step(&over, t0, &TIMES), Action::Stop);
    }
}
