//! Disks as libxl or somebody else may have written them.

use super::*;

#[test]
fn a_bad_target_ends_the_start_at_once_with_a_reason_and_leaves_nothing() {
    for (name, what) in [("bad.pilotfish", "siez"), ("missing.img", "missing.img")] {
        let mut rig = Rig::new();
        let guest = rig.world.xl_create(&[&rig.target("a.img"), &rig.target(name)]);
        let before = rig.world.host().now();
        rig.settle();
        let took = rig.world.host().now().duration_since(before);
        assert!(took < Duration::from_secs(1), "{took:?}");
        assert!(rig.world.disk_states(guest).is_empty(), "no node: libxl's wait ends");
        rig.assert_nothing_left(guest);
        let reason = rig.world.get(paths::LAST_ERROR).unwrap();
        assert!(reason.contains(what) && reason.contains("disk xvdb (51728): "), "{reason}");
    }
}

#[test]
fn nodes_that_make_no_sense_are_refused_with_key_and_value() {
    for (key, value) in [
        ("mode", "x"),
        ("base", "0x30000000"),
        ("base", "33554433"),
        ("base", "many"),
        ("irq", "5"),
        ("irq", "99999999999"),
        ("irq", "1020"),
        ("params", "relative"),
        ("grant_usage", "1"),
        ("grant_usage", "yes"),
        ("discard-enable", "no"),
    ] {
        let mut rig = Rig::new();
        let guest = rig.world.xl_create(&[&rig.target("a.img")]);
        rig.world.set(&format!("{}/{key}", Place::dom0(guest).disk(51712)), value);
        rig.world.set(&format!("{}/51712/{key}", paths::libxl_disks(guest)), value);
        rig.settle();
        rig.assert_nothing_left(guest);
        let reason = rig.world.get(paths::LAST_ERROR).unwrap();
        let named = reason.contains(key) || (key == "params" && reason.contains("target"));
        assert!(named, "{key}={value}: {reason}");
        if key == "irq" {
            assert!(reason.contains(&format!("irq = {value}: no shared interrupt")), "{reason}");
        }
    }
}

#[test]
fn a_disk_that_must_not_discard_does_not_and_a_libxl_that_knows_fewer_keys_is_good() {
    let mut rig = Rig::new();
    let guest = rig.guest();
    for (disk, key, value) in
        [(51728, "discard-enable", Some("0")), (51712, "discard-enable", None), (51712, "grant_usage", None)]
    {
        for dir in [Place::dom0(guest).disk(disk), format!("{}/{disk}", paths::libxl_disks(guest))] {
            match value {
                Some(value) => rig.world.set(&format!("{dir}/{key}"), value),
                None => rig.world.clear(&format!("{dir}/{key}")),
            }
        }
    }
    rig.settle();
    rig.assert_served(guest);
    let config = rig.world.stubs()[0].1.config.clone().unwrap();
    let disks: Vec<&str> = config.split("disk=id=").skip(1).collect();
    assert!(!disks[0].contains("discard") && disks[1].contains(",discard=off"), "{config}");
}

#[test]
fn a_node_that_differs_from_libxls_copy_is_refused() {
    let mut rig = Rig::new();
    let guest = rig.world.xl_create(&[&rig.target("a.img")]);
    rig.world.set(&format!("{}/params", Place::dom0(guest).disk(51712)), "/dev/sda");
    rig.settle();
    rig.assert_nothing_left(guest);
    assert!(rig.world.get(paths::LAST_ERROR).unwrap().contains("libxl's own copy"));
}

#[test]
fn other_kinds_of_nodes_are_left_alone() {
    let mut rig = Rig::new();
    let guest = rig.world.xl_create(&[&rig.target("a.img")]);
    rig.world.set(&format!("{}/transport", Place::dom0(guest).disk(51712)), "pci");
    rig.settle();
    assert_eq!(rig.world.disk_states(guest), ["1"]);
    assert!(rig.world.stubs().is_empty());
}
