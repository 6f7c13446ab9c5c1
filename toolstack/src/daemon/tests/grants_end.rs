//! Stubs that waited for their guests and end before them.

use super::grants::{guest_at, rig, waiting};
use super::*;
use crate::fake::Domain;

#[test]
fn a_guest_whose_stub_is_destroyed_with_its_nodes_is_dealt_with_as_configured() {
    let mut rig = rig();
    let (domid, _) = waiting(&rig);
    let place = guest_at(&rig, domid);
    rig.settle();
    rig.world.state().domains.remove(&domid);
    rig.world.clear(&paths::domain(domid));
    rig.settle();
    assert_eq!(rig.world.state().domains[&place.guest].shutdown, Some(3));
    rig.world.state().domains.remove(&place.guest);
    rig.world.clear(&format!("/libxl/{}", place.guest));
    rig.settle();
    rig.assert_nothing_left(place.guest);
    waiting(&rig);
}

/// A guest that is served and runs, and its stub.
fn running() -> (Rig, Place, u16) {
    let mut rig = rig();
    let (stub, _) = waiting(&rig);
    let place = guest_at(&rig, stub);
    rig.settle();
    assert_eq!(rig.world.disk_states_at(place), ["2", "2"]);
    rig.world.state().domains.get_mut(&place.guest).unwrap().paused = false;
    (rig, place, stub)
}

fn shutdown(rig: &Rig, guest: u16) -> Option<u8> {
    rig.world.state().domains[&guest].shutdown
}

#[test]
fn a_stub_that_xl_has_begun_to_destroy_has_failed_before_xen_says_so() {
    // libxl pauses a domain and removes its directory; it has Xen destroy it later.
    let begins = |rig: &Rig, stub: u16| {
        rig.world.state().domains.get_mut(&stub).unwrap().paused = true;
        rig.world.clear(&paths::domain(stub));
    };
    let (mut rig, place, stub) = running();
    begins(&rig, stub);
    rig.settle();
    assert_eq!(shutdown(&rig, place.guest), Some(3), "it would run on without disks");
    rig.world.state().domains.remove(&stub);
    rig.world.state().domains.remove(&place.guest);
    rig.world.clear(&format!("/libxl/{}", place.guest));
    rig.settle();
    rig.assert_nothing_left(place.guest);

    let mut rig = Rig::new();
    let guest = rig.guest();
    rig.settle();
    begins(&rig, rig.world.stubs()[0].0);
    rig.settle();
    assert_eq!(shutdown(&rig, guest), Some(3), "the disks' nodes are in dom0");
    assert_eq!(rig.world.disk_states(guest), ["2", "2"]);
}

#[test]
fn a_stub_that_closes_or_removes_its_guests_disks_is_dealt_with_as_configured() {
    let closes: [fn(&Rig, Place); 2] = [
        |rig, place| rig.world.set(&format!("{}/state", place.disk(51712)), "6"),
        |rig, place| rig.world.clear(&place.dir()),
    ];
    for close in closes {
        let (mut rig, place, stub) = running();
        close(&rig, place);
        rig.settle();
        assert_eq!(shutdown(&rig, place.guest), Some(3), "it would run on without disks");
        assert!(!rig.world.state().domains.contains_key(&stub), "it has its guest's pages");
    }
}

#[test]
fn a_guest_that_libxl_ends_or_that_has_shut_down_gets_no_policy() {
    let ends: [fn(&mut Domain); 2] = [|guest| guest.paused = true, |guest| guest.shutdown = Some(1)];
    for end in ends {
        let (mut rig, place, stub) = running();
        end(rig.world.state().domains.get_mut(&place.guest).unwrap());
        rig.world.xl_destroy_at(place);
        rig.settle();
        assert_ne!(shutdown(&rig, place.guest), Some(3));
        assert!(!rig.world.state().domains.contains_key(&stub));
    }
}
