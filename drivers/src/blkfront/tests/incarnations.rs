//! What an earlier incarnation left, and reconnection.

use super::*;

/// Steps until a connection stands or this much time has passed.
fn reconnect(machine: &mut Machine, way: &mut Reconnect<FakeXen>, time_ns: u64) -> Option<BlkFront<FakeXen>> {
    let end_ns = machine.xen.now_ns() + time_ns;
    while machine.xen.now_ns() < end_ns {
        machine.xs.poll_events().unwrap();
        while let Some(event) = machine.xs.next_event() {
            way.on_watch(&event.path);
        }
        if let Some(front) = way.step(&mut machine.xs) {
            return Some(front);
        }
        let until_ns = way.due_ns().min(end_ns);
        machine.xen.poll(&[machine.xs.port()], Some(until_ns)).unwrap();
    }
    None
}

const A_WHILE_NS: u64 = 15_000_000_000;

#[test]
fn what_an_earlier_life_left_is_closed_before_connecting() {
    for state in ["5", "4", "2"] {
        let mut machine = Machine::new(BlkBackConfig::default());
        // A stub that panicked gives nothing back and says nothing.
        core::mem::forget(machine.connect(8).unwrap());
        machine.back.set_node("state", state);
        let mut front = machine.connect(8).unwrap();
        assert_eq!(machine.back.connections(), 2, "from {state}");
        machine.write(&mut front, 0, &[7; 512]).unwrap();
        assert_eq!(machine.read(&mut front, 0, 512), [7; 512]);
    }
}

#[test]
fn a_back_end_that_never_lets_go_of_an_earlier_life_is_not_connected_to() {
    let mut machine = Machine::new(BlkBackConfig::default());
    core::mem::forget(machine.connect(8).unwrap());
    machine.back.unbind();
    assert_eq!(machine.connect(8).err(), Some(ConnectError::TimedOut(XenbusState::Connected)));
}

#[test]
fn a_reconnection_takes_every_page_back_first() {
    let mut machine = Machine::new(BlkBackConfig::default());
    let mut front = machine.connect(8).unwrap();
    machine.write(&mut front, 0, &[1; 8 * 4096]).unwrap();
    let grants = machine.xen.live_grants();
    machine.back.set_faults(Faults { keep_grants: true, ..Faults::default() });
    machine.back.set_node("state", "5");
    let mut way = front.reconnect();
    assert!(reconnect(&mut machine, &mut way, A_WHILE_NS).is_none());
    assert_eq!(way.pages_out(), grants, "all of them are mapped");
    assert_eq!(machine.xen.live_grants(), grants, "and no other was granted");
    // It lets go at last.
    machine.back.set_faults(Faults::default());
    machine.back.let_go();
    let mut front = reconnect(&mut machine, &mut way, A_WHILE_NS).unwrap();
    assert_eq!((way.pages_out(), machine.xen.live_grants()), (0, grants));
    assert_eq!(machine.read(&mut front, 0, 512), [1; 512]);
}

#[test]
fn a_disk_that_is_attached_elsewhere_is_followed() {
    let mut machine = Machine::new(BlkBackConfig::default());
    let mut front = machine.connect(8).unwrap();
    assert_eq!(front.backend_domid(), DomId(0));
    machine.back.reattach(DomId(9));
    machine.xen.run_peers(100);
    assert_eq!(front.refresh(&mut machine.xs), Ok(WatchOutcome::Lost));
    let mut way = front.reconnect();
    let front = reconnect(&mut machine, &mut way, A_WHILE_NS).unwrap();
    assert_eq!(
        (front.backend_domid(), front.backend_path()),
        (DomId(9), "/local/domain/9/backend/vbd/5/51712")
    );
    let mut watches: Vec<_> = machine.store.watches().into_iter().map(|(path, _)| path).collect();
    watches.sort();
    assert_eq!(watches, ["/local/domain/9/backend/vbd/5/51712/state", "device/vbd/51712/backend"]);
}

#[test]
fn a_directory_made_anew_behind_the_same_name_is_noticed() {
    let mut machine = Machine::new(BlkBackConfig::default());
    let mut front = machine.connect(8).unwrap();
    // Blkback's state is the only node that looks as it did.
    machine.back.unbind();
    machine.store.write(&format!("/local/domain/5/device/vbd/{VDEV}/state"), "1");
    let path = format!("device/vbd/{VDEV}/backend");
    assert_eq!(front.on_watch(&mut machine.xs, &path), Ok(WatchOutcome::Lost));
    assert_eq!(front.health(), Health::Broken(PeerFault::Replaced));
}

#[test]
fn a_disk_that_is_being_taken_away_is_closed_and_not_begun_anew() {
    let mut machine = Machine::new(BlkBackConfig::default());
    let front = machine.connect(8).unwrap();
    machine.back.detach();
    let mut way = front.reconnect();
    assert!(reconnect(&mut machine, &mut way, A_WHILE_NS).is_none());
    assert_eq!((machine.front_node("state"), machine.back.state()), (None, 0), "the toolstack is done");
    assert_eq!(machine.back.connections(), 1);
    machine.back.reattach(DomId(0));
    // At once: nobody failed.
    assert!(reconnect(&mut machine, &mut way, 100_000_000).is_some());
}

#[test]
fn a_reconnection_without_memory_or_grants_is_tried_again() {
    let mut machine = Machine::new(BlkBackConfig::default());
    let front = machine.connect(64).unwrap();
    machine.back.set_node("state", "5");
    let mut way = front.reconnect();
    machine.xen.limit_grants(40);
    assert!(reconnect(&mut machine, &mut way, A_WHILE_NS).is_none());
    assert!(machine.xen.live_grants() <= 40);
    machine.xen.limit_grants(1000);
    assert!(reconnect(&mut machine, &mut way, A_WHILE_NS).is_some());
}
