//! Connection, its loss, and the next one.

use super::*;

#[test]
fn a_connection_offers_what_netback_needs() {
    let mut machine = Machine::new();
    let net = machine.connect().unwrap();
    assert_eq!(net.mac(), [0, 0x16, 0x3e, 1, 2, 3]);
    assert_eq!((net.mtu_bytes(), net.backend_domid(), net.health()), (1500, DomId(0), Health::Connected));
    for key in [
        "request-rx-copy",
        "feature-rx-notify",
        "feature-sg",
        "feature-gso-tcpv4",
        "feature-gso-tcpv6",
        "feature-ipv6-csum-offload",
    ] {
        assert_eq!(machine.back.front_node(key).as_deref(), Some("1"), "{key}");
    }
    assert_eq!(machine.back.front_node("feature-no-csum-offload"), None, "it would forbid the offloads");
    assert_eq!(machine.back.front_node("state").as_deref(), Some("4"));
    assert_eq!(machine.xen.live_grants(), usize::from(TX_PAGES + RX_PAGES) + 2);
    assert_eq!(net.backend_path(), "/local/domain/0/backend/vif/5/0");
}

#[test]
fn bad_properties_are_refused_and_nothing_stays() {
    let front = "/local/domain/5/device/vif/0";
    let cases = [
        ("mac", "00:16:3e", ConnectError::BadValue("mac")),
        ("mac", "ff:ff:ff:ff:ff:ff", ConnectError::BadValue("mac")),
        ("mtu", "575", ConnectError::BadValue("mtu")),
        ("mtu", "many", ConnectError::BadValue("mtu")),
        ("backend-id", "70000", ConnectError::BadValue("backend-id")),
    ];
    for (key, value, expected) in cases {
        let mut machine = Machine::new();
        machine.store.write(&alloc::format!("{front}/{key}"), value);
        assert_eq!(machine.connect().err(), Some(expected), "{key} = {value}");
        assert_eq!((machine.xen.live_grants(), machine.xen.open_ports()), (0, 1), "xenstore's own port");
        assert!(machine.store.watches().is_empty());
    }
    let mut machine = Machine::new();
    machine.store.rm(&alloc::format!("{front}/mac"));
    assert_eq!(machine.connect().err(), Some(ConnectError::Missing("mac")));
    let mut machine = Machine::new();
    machine.back.set_node("feature-rx-copy", "0");
    assert_eq!(machine.connect().err(), Some(ConnectError::Missing("feature-rx-copy")));
    let mut machine = Machine::new();
    let missing = NetFront::connect(&machine.xen, &mut machine.xs, 1).err();
    assert_eq!(missing, Some(ConnectError::Missing("backend")));
}

#[test]
fn the_toolstacks_mtu_holds_as_far_as_netback_takes_it() {
    let cases = [
        ("576", "1", 576),
        ("1400", "1", 1400),
        ("1400", "0", 1400),
        ("9000", "1", 9000),
        ("9001", "1", 9000),
        ("70000", "1", 9000),
        // It would take several parts.
        ("9000", "0", 1500),
    ];
    for (text, takes_parts, expected) in cases {
        let mut machine = Machine::new();
        machine.store.write("/local/domain/5/device/vif/0/mtu", text);
        machine.back.set_node("feature-sg", takes_parts);
        let mut net = machine.connect().unwrap();
        assert_eq!(net.mtu_bytes(), expected);
        let longest = HEADER_BYTES + usize::from(expected);
        assert_eq!(send(&mut net, &frame(1, longest)), Ok(()));
        assert_eq!(send(&mut net, &frame(1, longest + 1)), Err(SendError::BadLength));
        machine.wait(&mut net);
        assert!(machine.back.take_sent() == [frame(1, longest)]);
        machine.back.deliver(&frame(2, longest));
        machine.back.deliver(&frame(3, longest + 1));
        assert!(machine.receive_all(&mut net) == [frame(2, longest)]);
    }
}

#[test]
fn nothing_is_cut_by_a_netback_that_cannot() {
    let cases =
        [("feature-sg", "0"), ("feature-gso-tcpv4", "0"), ("feature-gso-tcpv4", "2"), ("feature-sg", "")];
    for (key, value) in cases {
        let mut machine = Machine::new();
        machine.back.set_node(key, value);
        let Ok(mut net) = machine.connect() else {
            assert_eq!(value, "");
            continue;
        };
        assert_eq!(net.uncut_max_bytes(), None, "{key} = {value}");
        let cut = Offload { checksum: true, segment_bytes: NonZeroU16::new(1000) };
        assert_eq!(net.send(&frame(1, 1200), cut), Err(SendError::BadLength));
    }
}

#[test]
fn without_grants_there_is_no_connection_and_nothing_stays() {
    let mut machine = Machine::new();
    machine.xen.limit_grants(100);
    assert_eq!(machine.connect().err(), Some(ConnectError::Xen(Errno::ENOSPC)));
    assert_eq!((machine.xen.live_grants(), machine.xen.open_ports()), (0, 1));
}

#[test]
fn closing_in_order_gives_everything_back() {
    let mut machine = Machine::new();
    let net = machine.connect().unwrap();
    net.close(&mut machine.xs).unwrap();
    assert_eq!((machine.xen.live_grants(), machine.xen.open_ports()), (0, 1));
    assert!(machine.store.watches().is_empty());
    let mut net = machine.connect().unwrap();
    machine.back.deliver(&frame(4, 60));
    assert_eq!(machine.receive_all(&mut net), [frame(4, 60)]);
}

#[test]
fn what_an_earlier_life_left_is_closed_before_connecting() {
    let mut machine = Machine::new();
    // A stub that panicked gives nothing back and says nothing.
    core::mem::forget(machine.connect().unwrap());
    let mut net = machine.connect().unwrap();
    assert_eq!(machine.back.connections(), 2);
    machine.back.deliver(&frame(4, 60));
    assert_eq!(machine.receive_all(&mut net), [frame(4, 60)]);
}

#[test]
fn a_netback_that_leaves_is_noticed() {
    let mut machine = Machine::new();
    let mut net = machine.connect().unwrap();
    let path = "/local/domain/0/backend/vif/5/0/state";
    assert_eq!(net.on_watch(&mut machine.xs, path), Ok(false), "nothing changed");
    assert_eq!(net.on_watch(&mut machine.xs, "/local/domain/0/backend/vif/5/01/state"), Ok(false));
    machine.back.set_node("state", "5");
    assert_eq!(net.on_watch(&mut machine.xs, path), Ok(true));
    assert_eq!(net.health(), Health::Broken(PeerFault::Left(XenbusState::Closing)));
    assert_eq!(net.on_watch(&mut machine.xs, path), Ok(false), "it was told before");
    assert_eq!(send(&mut net, &frame(1, 60)), Err(SendError::NotConnected));
    assert!(!net.enable_events() && net.received() == 0 && !net.can_send());
}

#[test]
fn a_directory_made_anew_is_noticed() {
    let mut machine = Machine::new();
    let mut net = machine.connect().unwrap();
    machine.back.unbind();
    machine.store.write("/local/domain/5/device/vif/0/state", "1");
    assert_eq!(net.on_watch(&mut machine.xs, "device/vif/0/backend"), Ok(true));
    assert_eq!(net.health(), Health::Broken(PeerFault::Replaced));
}

#[test]
fn a_netback_that_cannot_be_notified_is_lost() {
    let mut machine = Machine::new();
    let mut net = machine.connect().unwrap();
    send(&mut net, &frame(1, 60)).unwrap();
    machine.xen.fail_next("evtchn_send", Errno::EINVAL);
    net.kick();
    assert_eq!(net.health(), Health::Broken(PeerFault::Unreachable(Errno::EINVAL)));
}

/// Steps until a connection stands or this much time has passed.
fn reconnect(machine: &mut Machine, way: &mut Reconnect<FakeXen>) -> Option<NetFront<FakeXen>> {
    let end_ns = machine.xen.now_ns() + 15_000_000_000;
    while machine.xen.now_ns() < end_ns {
        machine.xs.poll_events().unwrap();
        while let Some(event) = machine.xs.next_event() {
            way.on_watch(&event.path);
        }
        if let Some(net) = way.step(&mut machine.xs) {
            return Some(net);
        }
        machine.xen.poll(&[machine.xs.port()], Some(way.due_ns().min(end_ns))).unwrap();
    }
    None
}

#[test]
fn the_next_connection_waits_for_every_page_of_the_last() {
    let mut machine = Machine::new();
    let net = machine.connect().unwrap();
    let grants = machine.xen.live_grants();
    machine.back.keep_rings(true);
    machine.back.set_node("state", "5");
    let mut way = net.reconnect();
    assert!(reconnect(&mut machine, &mut way).is_none());
    assert_eq!(way.pages_out(), 2, "both rings");
    assert_eq!(machine.xen.live_grants(), 2, "and no other was granted");
    machine.back.keep_rings(false);
    let mut net = reconnect(&mut machine, &mut way).unwrap();
    assert_eq!((way.pages_out(), machine.xen.live_grants()), (0, grants));
    machine.back.deliver(&frame(9, 100));
    assert_eq!(machine.receive_all(&mut net), [frame(9, 100)]);
}

#[test]
fn a_restarted_netback_and_one_elsewhere_are_followed() {
    for domid in [DomId(0), DomId(9)] {
        let mut machine = Machine::new();
        let mut net = machine.connect().unwrap();
        machine.back.reattach(domid);
        machine.xen.run_peers(100);
        assert_eq!(net.refresh(&mut machine.xs), Ok(true));
        let mut way = net.reconnect();
        let mut net = reconnect(&mut machine, &mut way).unwrap();
        assert_eq!(net.backend_domid(), domid);
        machine.back.deliver(&frame(9, 100));
        send(&mut net, &frame(8, 100)).unwrap();
        assert_eq!(machine.receive_all(&mut net), [frame(9, 100)]);
        assert_eq!(machine.back.take_sent(), [frame(8, 100)]);
    }
}
