//! IPv6, and that nothing else is spoken beside it.

use super::{ADDRESS, ADDRESS_6, Machine, SECOND_NS, SERVER, SERVER_6, pattern};
use crate::device::NetDevice;
use crate::{Address, Ipv6Addr, SocketAddr, TcpState};
use drivers::NetFront;
use drivers::fake::{NetBack, XenStored};
use drivers::xenstore::Xenstore;
use kernel::DomId;
use kernel::fake::FakeXen;
use proptest::prelude::*;
use smoltcp::phy::{Device, RxToken};
use smoltcp::time::Instant;

#[test]
fn ipv6_is_spoken_as_ipv4_is() {
    for mtu in [1280, 1500, 9000] {
        let mut machine = Machine::with_mtu(ADDRESS_6, SERVER_6, mtu);
        machine.open();
        let bytes = pattern(300_000);
        assert!(machine.echo(&bytes, 10 * SECOND_NS).unwrap() == bytes);
        assert_eq!(machine.host.longest_frame(), 14 + usize::from(mtu));
    }
    // The neighbour is asked for again after a while, and answers us and is answered.
    let mut machine = Machine::new(ADDRESS_6, SERVER_6);
    machine.open();
    assert!(!machine.run(300 * SECOND_NS, |client| client.state() != TcpState::Open));
    assert!(machine.echo(b"still here", SECOND_NS).is_some());
    machine.host.listen(false);
    assert!(machine.run(SECOND_NS, |client| client.state() == TcpState::Closed));
    let nobody = SocketAddr::new("fd00::99".parse().unwrap(), 10809);
    let mut machine = Machine::new(ADDRESS_6, nobody);
    machine.client.open();
    assert!(machine.run(20 * SECOND_NS, |client| client.state() == TcpState::Closed));
    let far = SocketAddr::new("fd01::5".parse().unwrap(), 10809);
    for (gateway, frames) in [(None, 0), (Some("fe80::1"), 1), (Some("fd00::5"), 3)] {
        let gateway = gateway.map(|text| text.parse().unwrap());
        let mut machine = Machine::new(Address { gateway, ..ADDRESS_6 }, far);
        machine.client.open();
        machine.run(SECOND_NS / 2, |_| false);
        assert!(machine.host.frames() >= frames && (frames > 0 || machine.host.frames() == 0), "{gateway:?}");
    }
}

#[test]
fn frames_of_the_other_ip_are_dropped_and_the_rest_goes_on() {
    for (address, server, foreign) in [(ADDRESS, SERVER, [0x86, 0xdd]), (ADDRESS_6, SERVER_6, [8, 6])] {
        let mut machine = Machine::new(address, server);
        machine.open();
        let mut frame = std::vec![0xff; 60];
        frame[12..14].copy_from_slice(&foreign);
        for _ in 0..300 {
            machine.back.deliver(&frame);
        }
        assert!(machine.echo(b"still here", SECOND_NS).unwrap() == b"still here");
        assert_eq!(machine.client.network().frames(), 0, "none stays");
    }
}

/// Frames of another kind of IP never reach smoltcp, whatever is in them.
#[test]
fn frames_that_are_not_spoken_are_passed_over() {
    let frame = |kind: [u8; 2], seed: u8| {
        let mut frame = std::vec![seed; 60];
        frame[12..14].copy_from_slice(&kind);
        // Sound headers, so that nothing but the kind of IP is judged: whole packets, of neither TCP nor UDP.
        match kind {
            [8, 0] => frame[14..24].copy_from_slice(&[0x45, 0, 0, 46, 0, 0, 0, 0, 64, 1]),
            [0x86, _] => frame[14..22].copy_from_slice(&[0x60, 0, 0, 0, 0, 0, 59, 64]),
            _ => {}
        }
        frame
    };
    let (v4, arp, v6, other) = ([8, 0], [8, 6], [0x86, 0xdd], [0x81, 0]);
    for (is_v6, good, bad) in [(false, [v4, arp], [v6, other]), (true, [v6, v6], [v4, arp])] {
        let xen = FakeXen::new(DomId(5));
        let store = XenStored::start(&xen);
        let back = NetBack::attach(&xen, &store, 0);
        let front = NetFront::connect(&xen, &mut Xenstore::new(&xen).unwrap(), 0).unwrap();
        let mut device = NetDevice::new(front, is_v6);
        let mut next = || Some(device.receive(Instant::ZERO)?.0.consume(<[u8]>::to_vec));
        for kind in good {
            (0..64).for_each(|seed| back.deliver(&frame(bad[usize::from(seed) % 2], seed)));
            back.deliver(&frame(kind, 1));
            xen.run_peers(10);
            assert_eq!(next(), Some(frame(kind, 1)), "behind as many as are passed over at once");
        }
        // The next turn takes the rest.
        (0..65).for_each(|seed| back.deliver(&frame(bad[0], seed)));
        back.deliver(&frame(good[0], 2));
        xen.run_peers(10);
        assert_eq!((next(), next()), (None, Some(frame(good[0], 2))));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// Whatever stands behind a good header of IPv6: extension headers, ICMPv6, neighbours, TCP.
    #[test]
    fn ipv6_of_any_content_is_survived(
        next_header in prop::sample::select(std::vec![0u8, 6, 17, 43, 44, 58, 59, 60, 255]),
        to in prop::sample::select(std::vec!["fd00::7", "ff02::1", "ff02::1:ff00:7", "fd00::8", "::1"]),
        from in prop::sample::select(std::vec!["fd00::5", "fe80::1", "::", "::1", "fd00::7", "fd01::1"]),
        icmp_type in prop::sample::select(std::vec![1u8, 2, 3, 4, 128, 129, 130, 133, 134, 135, 136, 137, 143]),
        mut payload in prop::collection::vec(any::<u8>(), 0..120),
        hop_limit in prop::sample::select(std::vec![1u8, 64, 255]),
        cut in 0usize..4,
    ) {
        let mut machine = Machine::new(ADDRESS_6, SERVER_6);
        machine.open();
        let [from, to] = [from, to].map(|text| text.parse::<Ipv6Addr>().unwrap().octets());
        let len = u16::try_from(payload.len()).unwrap().to_be_bytes();
        if next_header == 58 && payload.len() >= 8 {
            payload[0] = icmp_type;
            payload[2..4].fill(0);
            let all = [&from[..], &to[..], &[0, 0], &len, &[0, 0, 0, 58], &payload].concat();
            let mut sum = all.chunks(2).fold(0u32, |sum, pair| {
                sum + u32::from(pair[0]) * 256 + u32::from(*pair.get(1).unwrap_or(&0))
            });
            while sum > 0xffff {
                sum = (sum & 0xffff) + (sum >> 16);
            }
            payload[2..4].copy_from_slice(&(!u16::try_from(sum).unwrap()).to_be_bytes());
        }
        let mac = [0, 0x16, 0x3e, 1, 2, 3];
        let header = [&mac[..], &[2, 0, 0, 0, 0, 7], &[0x86, 0xdd, 0x60, 0, 0, 0], &len, &[next_header, hop_limit]];
        let mut frame = [&header.concat()[..], &from, &to, &payload].concat();
        frame.truncate(frame.len() - cut.min(frame.len() - 14));
        machine.back.deliver(&frame);
        machine.run(SECOND_NS / 100, |_| false);
        prop_assert_eq!(machine.client.network().frames(), 0);
    }
}
