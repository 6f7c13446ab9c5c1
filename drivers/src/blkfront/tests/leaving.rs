//! Watching the storage backend, and leaving it.

use super::*;

#[test]
fn a_resize_is_taken_over_and_nonsense_is_not() {
    let mut machine = Machine::new(BlkBackConfig::default());
    let mut front = machine.connect(8).unwrap();
    let path = format!("{}/state", front.backend_path());
    assert_eq!(front.on_watch(&mut machine.xs, &path), Ok(WatchOutcome::Unchanged));
    assert_eq!(
        front.on_watch(&mut machine.xs, "/local/domain/0/backend/vbd/5/517120/state"),
        Ok(WatchOutcome::NotOurs)
    );
    machine.back.set_node("sectors", "4096");
    machine.back.set_node("state", "4");
    assert_eq!(front.on_watch(&mut machine.xs, &path), Ok(WatchOutcome::Resized));
    assert_eq!(front.geometry().sectors, 4096);
    for nonsense in ["99999999999999999999", "18446744073709551615", "0", "many"] {
        machine.back.set_node("sectors", nonsense);
        assert_eq!(front.on_watch(&mut machine.xs, &path), Ok(WatchOutcome::Unchanged));
        assert_eq!(front.geometry().sectors, 4096);
    }
}

#[test]
fn a_fault_seen_while_going_to_sleep_is_looked_at() {
    let mut machine = Machine::new(BlkBackConfig::default());
    let mut front = machine.connect(8).unwrap();
    assert!(!front.enable_events(1));
    front.ring_pages[0].page().store(8, 1u32, kernel::Order::AcqRel).unwrap();
    assert!(front.enable_events(1), "there is something to look at");
    assert!(matches!(front.health(), Health::Broken(PeerFault::ResponseOverrun(_))));
    assert!(!front.enable_events(1), "once");
}

#[test]
fn a_back_end_that_cannot_be_notified_is_lost() {
    let mut machine = Machine::new(BlkBackConfig::default());
    let mut front = machine.connect(8).unwrap();
    front.submit(1, Op::Flush).unwrap();
    machine.xen.fail_next("evtchn_send", Errno::EINVAL);
    front.kick();
    assert_eq!(front.health(), Health::Broken(PeerFault::Unreachable(Errno::EINVAL)));
}

#[test]
fn a_removed_back_end_is_a_lost_one() {
    let mut machine = Machine::new(BlkBackConfig::default());
    let mut front = machine.connect(8).unwrap();
    while machine.xs.next_event().is_some() {}
    machine.store.rm("/local/domain/0/backend/vbd/5/51712");
    machine.xen.run_peers(10);
    assert!(machine.xs.poll_events().unwrap());
    let event = machine.xs.next_event().unwrap();
    assert_eq!(front.on_watch(&mut machine.xs, &event.path), Ok(WatchOutcome::Lost));
    assert_eq!(front.health(), Health::Broken(PeerFault::Left(XenbusState::Unknown)));
}

#[test]
fn closing_in_order_gives_everything_back() {
    let mut machine = Machine::new(BlkBackConfig::default());
    let mut front = machine.connect(8).unwrap();
    machine.write(&mut front, 0, &[1; 4096]).unwrap();
    assert!(machine.back.mapped_pages() > 0);
    front.close(&mut machine.xs).unwrap();
    assert_eq!(front.health(), Health::Closed);
    assert_eq!(machine.back.state(), 6);
    assert_eq!(front.disconnect(), Disconnected { revoked_pages: 9, busy_pages: 0, unfinished: vec![] });
    assert_eq!((machine.xen.live_grants(), machine.xen.open_ports()), (0, 1));
    assert!(machine.store.watches().is_empty());
    // Blkback is online still: a new frontend can connect.
    let mut front = machine.connect(8).unwrap();
    assert_eq!(machine.read(&mut front, 0, 512), [1; 512]);
}

#[test]
fn pages_that_the_back_end_keeps_are_leaked_and_reported() {
    let mut machine = Machine::new(BlkBackConfig::default());
    let mut front = machine.connect(8).unwrap();
    machine.write(&mut front, 0, &[1; 4096]).unwrap();
    let mapped = machine.back.mapped_pages();
    machine.back.set_faults(Faults { keep_grants: true, ..Faults::default() });
    front.close(&mut machine.xs).unwrap();
    let leaked = crate::gnttab::leaked_pages();
    let left = front.disconnect();
    // The ring's page and the data pages.
    assert_eq!((left.busy_pages, left.revoked_pages), (mapped + 1, 9 - mapped - 1));
    assert!(crate::gnttab::leaked_pages() >= leaked + left.busy_pages);
    assert_eq!(machine.xen.live_grants(), left.busy_pages);
}

#[test]
fn a_dead_xenstore_does_not_stop_the_disk() {
    let mut machine = Machine::new(BlkBackConfig::default());
    let mut front = machine.connect(8).unwrap();
    machine.store.knobs(|knobs| knobs.silent = true);
    let path = format!("{}/state", front.backend_path());
    assert_eq!(front.on_watch(&mut machine.xs, &path), Err(StoreError::TimedOut));
    assert_eq!(front.health(), Health::Connected);
    machine.write(&mut front, 0, &[1; 512]).unwrap();
}
