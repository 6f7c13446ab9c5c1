//! Long packets and checksums that nobody has made, in both directions, and hosts that know nothing of them.

use super::*;

/// A host on the same machine, as dom0 is.
fn near(mtu_bytes: u16) -> Machine {
    Machine::at(ADDRESS, SERVER, |store, back| {
        store.write("/local/domain/5/device/vif/0/mtu", &std::format!("{mtu_bytes}"));
        Link::near(back, mtu_bytes.into())
    })
}

#[test]
fn a_host_of_the_same_machine_gets_long_packets() {
    for mtu_bytes in [576, 1500, 9000] {
        let mut machine = near(mtu_bytes);
        machine.open();
        let bytes = pattern(3_000_000);
        let first = machine.host.frames();
        assert!(machine.echo(&bytes, 60 * SECOND_NS).unwrap() == bytes);
        let frames = machine.host.frames() - first;
        let (uncut, longest) = machine.host.uncut();
        assert!(uncut > 40 && longest > 30_000 && longest <= 65_535, "{uncut}, up to {longest} bytes");
        // 3 MB each way, and an answer to some of it.
        assert!(frames < 600, "{frames} frames at {mtu_bytes}");
    }
}

#[test]
fn an_interface_that_cuts_nothing_carries_the_same_bytes() {
    for key in ["feature-sg", "feature-gso-tcpv4"] {
        let mut machine = Machine::at(ADDRESS, SERVER, |_, back| {
            back.set_node(key, "0");
            Link::near(back, 1500)
        });
        machine.open();
        let bytes = pattern(500_000);
        assert!(machine.echo(&bytes, 60 * SECOND_NS).unwrap() == bytes);
        assert_eq!(machine.host.uncut(), (0, 1514));
    }
}

#[test]
fn the_next_netback_need_not_cut() {
    let mut machine = near(1500);
    machine.open();
    assert!(machine.echo(&pattern(200_000), 10 * SECOND_NS).is_some());
    let (before, _) = machine.host.uncut();
    assert!(before > 0);
    machine.back.unbind();
    machine.back.set_node("state", "5");
    machine.run(SECOND_NS / 10, |client| client.network().port().is_none());
    machine.back.set_node("feature-gso-tcpv4", "0");
    machine.back.bind();
    machine.back.set_node("state", "6");
    let bytes = pattern(200_000);
    assert!(machine.echo(&bytes, 10 * SECOND_NS).unwrap() == bytes);
    assert_eq!((machine.host.uncut().0, machine.host.connections()), (before, 1));
}

#[test]
fn a_gateway_is_known_to_the_next_interface_too() {
    let far = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 9, 0, 5)), 10809);
    let mut machine = Machine::new(Address { gateway: Some(SERVER.ip()), ..ADDRESS }, far);
    machine.run(SECOND_NS / 100, |_| false);
    machine.back.unbind();
    machine.back.set_node("state", "5");
    machine.run(SECOND_NS / 10, |client| client.network().port().is_none());
    machine.back.bind();
    machine.back.set_node("state", "6");
    machine.run(SECOND_NS, |client| client.network().port().is_some());
    machine.client.open();
    machine.run(SECOND_NS, |_| false);
    assert!(machine.host.frames() >= 3, "the gateway's address, and a frame for it");
}

#[test]
fn a_spoilt_frame_of_the_network_is_sent_again() {
    let mut machine = Machine::new(ADDRESS, SERVER);
    machine.open();
    machine.host.set_faults(Faults { spoil_every: Some(7), ..Faults::default() });
    let bytes = pattern(200_000);
    assert!(machine.echo(&bytes, 3000 * SECOND_NS).unwrap() == bytes);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    /// As with short packets: whatever is lost, the bytes are the same.
    #[test]
    fn bytes_survive_losses_of_long_packets(
        lose_every in 8u64..40,
        reads_at_once in prop::option::of(100usize..50_000),
        len in 1usize..400_000,
        mtu_bytes in 576u16..9000,
    ) {
        let mut machine = near(mtu_bytes);
        machine.open();
        machine.host.set_faults(Faults { lose_every: Some(lose_every), reads_at_once, ..Faults::default() });
        let bytes = pattern(len);
        let back = machine.echo(&bytes, 3000 * SECOND_NS);
        prop_assert!(back.is_some_and(|back| back == bytes));
    }
}
