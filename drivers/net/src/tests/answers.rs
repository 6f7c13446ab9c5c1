//! When what has come is acknowledged.

use super::*;

/// Our frames for round trips of a few bytes each, one after the other.
fn frames_of_round_trips(machine: &mut Machine, count: u64) -> u64 {
    assert!(machine.echo(b"first", SECOND_NS).is_some());
    machine.run(SECOND_NS / 10, |_| false);
    let first = machine.host.from_client();
    for _ in 0..count {
        assert!(machine.echo(&[7; 100], SECOND_NS).is_some());
    }
    machine.run(SECOND_NS / 10, |_| false);
    machine.host.from_client() - first
}

#[test]
fn an_acknowledgement_goes_with_the_next_request() {
    let mut machine = Machine::new(ADDRESS, SERVER);
    machine.open();
    // The last acknowledgement goes alone.
    assert_eq!(frames_of_round_trips(&mut machine, 50), 51);
}

#[test]
fn an_acknowledgement_that_nothing_goes_with_waits_for_a_moment_only() {
    let mut machine = Machine::new(ADDRESS, SERVER);
    machine.open();
    machine.run(SECOND_NS / 10, |_| false);
    assert!(machine.echo(&[7; 100], SECOND_NS).is_some());
    let (frames, now_ns) = (machine.host.from_client(), machine.xen.now_ns());
    let due_ns = machine.client.network().due_ns().unwrap();
    assert!((now_ns + 1_000_000..=now_ns + 4_000_000).contains(&due_ns), "after {} ns", due_ns - now_ns);
    // Looking for frames does not put it off.
    for _ in 0..10 {
        machine.client.network().poll();
    }
    assert_eq!(machine.client.network().due_ns(), Some(due_ns));
    machine.run(3_900_000, |_| false);
    assert_eq!(machine.host.from_client(), frames);
    machine.run(200_000, |_| false);
    machine.xen.run_peers(10);
    assert_eq!(machine.host.from_client(), frames + 1);
}

#[test]
fn much_is_acknowledged_at_once() {
    for (len, at_once) in [(14_000, false), (15_000, true)] {
        let mut machine = near_machine();
        machine.run(SECOND_NS / 10, |_| false);
        assert!(machine.echo(&pattern(len), SECOND_NS).is_some());
        let wait_ns = machine.client.network().due_ns().unwrap() - machine.xen.now_ns();
        assert_eq!(wait_ns > 4_000_000, at_once, "{len}: {wait_ns}");
    }
}

/// One with wide windows, so that as much comes at once.
fn near_machine() -> Machine {
    let mut machine = Machine::at(ADDRESS, SERVER, |_, back| Link::near(back, 1500));
    machine.open();
    assert!(machine.echo(&pattern(1_000_000), 60 * SECOND_NS).is_some());
    machine
}

#[test]
fn data_that_waits_for_an_acknowledgement_goes_when_it_comes() {
    let mut machine = near_machine();
    let begin_ns = machine.xen.now_ns();
    // More than the host's window, so that some waits.
    assert!(machine.echo(&pattern(1_000_000), 60 * SECOND_NS).is_some());
    let took_ns = machine.xen.now_ns() - begin_ns;
    assert!(took_ns < 4_000_000, "it took {took_ns} ns");
}

#[test]
fn an_event_comes_with_the_least_that_anybody_asked_for() {
    let mut machine = Machine::new(ADDRESS, SERVER);
    machine.open();
    let network = machine.client.network().clone();
    let port = network.port().unwrap();
    for (asked, expected) in [(&[3][..], 3), (&[5, 2], 2), (&[2, 5], 2), (&[], 1)] {
        network.poll();
        machine.xen.evtchn_take_pending(port);
        assert!(asked.iter().all(|parts| !network.enable_events_after(*parts)));
        assert!(!network.enable_events(), "it does not change what was asked for");
        let frames = (1..10).find(|_| {
            machine.back.deliver(&[0xff; 60]);
            machine.xen.run_peers(10);
            machine.xen.evtchn_take_pending(port)
        });
        assert_eq!(frames, Some(expected), "{asked:?}");
    }
}
