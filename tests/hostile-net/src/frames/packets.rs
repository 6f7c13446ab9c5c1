//! Attacks by packets of IPv4 and messages of ICMP.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::build::{ICMP, Packet, Segment, TCP, UDP, icmp, with_byte};
use super::{Attack, Flow, Site};

/// The flag of a fragment that is not the last.
const MORE: u16 = 0x2000;

/// The attacks.
pub const PACKETS: &[Attack] = &[
    Attack { name: "fragments-endless", tries: "first fragments of packets that never end", run: fragments },
    Attack {
        name: "fragments-overlapping",
        tries: "fragments that overlap, and lie beyond 64 KiB",
        run: teardrop,
    },
    Attack { name: "ip-lengths", tries: "every length of a packet but its own", run: lengths },
    Attack {
        name: "ip-headers",
        tries: "every first byte of a packet: versions and header lengths",
        run: versions,
    },
    Attack { name: "ip-wrong-sum", tries: "packets whose header has a wrong checksum", run: wrong_sum },
    Attack {
        name: "ip-addresses",
        tries: "packets from and to nobody, everybody and the stub itself",
        run: addresses,
    },
    Attack { name: "ip-protocols", tries: "every protocol of IPv4", run: protocols },
    Attack { name: "icmp-redirect", tries: "another way to the server", run: redirect },
    Attack { name: "icmp-unreachable", tries: "the server is said to be out of reach", run: unreachable },
    Attack {
        name: "icmp-too-big",
        tries: "packets are said to be too long for a network of 0 bytes",
        run: too_big,
    },
    Attack { name: "icmp-nonsense", tries: "every type and code of ICMP, whole and cut", run: nonsense },
    Attack { name: "ping-flood", tries: "pings of full length as fast as they go", run: ping_flood },
    Attack { name: "udp-flood", tries: "datagrams to every port as fast as they go", run: udp_flood },
];

fn fragments(site: &mut Site) -> Result<(), String> {
    site.flood(Duration::from_secs(1), |site, n| {
        let id = u16::try_from(n % 65_536).unwrap_or(0);
        let packet = Packet { fragment: MORE, id, ..site.packet(TCP) }.bytes(&[0x5a; 1400]);
        site.send_packet(&packet);
    });
    Ok(())
}

fn teardrop(site: &mut Site) -> Result<(), String> {
    for id in 0..500 {
        for fragment in [MORE, MORE | 1, 3, MORE | 0x1fff, 0x1fff, 0] {
            let packet = Packet { fragment, id, ..site.packet(TCP) }.bytes(&[0x5a; 64]);
            site.send_packet(&packet);
        }
    }
    Ok(())
}

/// A segment of the connection that carries nothing, as a whole packet.
fn ack(site: &Site, flow: &Flow) -> Vec<u8> {
    let segment = site.segment(flow).bytes(site.server.address, site.stub.address);
    site.packet(TCP).bytes(&segment)
}

fn lengths(site: &mut Site) -> Result<(), String> {
    let flow = site.flow()?;
    for len in (0..200).chain([255, 256, 1500, 1501, 4096, 65_535_u16]) {
        let mut packet = ack(site, &flow);
        let [high, low] = len.to_be_bytes();
        with_byte(&mut packet, 2, high);
        with_byte(&mut packet, 3, low);
        site.send_packet(&packet);
    }
    for len in 0..40 {
        let packet = ack(site, &flow);
        site.send_packet(packet.get(..len).unwrap_or_default());
    }
    Ok(())
}

fn versions(site: &mut Site) -> Result<(), String> {
    let flow = site.flow()?;
    for first in 0..=u8::MAX {
        let mut packet = ack(site, &flow);
        with_byte(&mut packet, 0, first);
        site.send_packet(&packet);
    }
    Ok(())
}

fn wrong_sum(site: &mut Site) -> Result<(), String> {
    let before = site.flow()?;
    for n in 1..=100_u8 {
        let flow = site.flow()?;
        let reset = Segment { flags: super::build::RST, ..site.segment(&flow) };
        let mut packet = site.packet(TCP).bytes(&reset.bytes(site.server.address, site.stub.address));
        if let Some(byte) = packet.get_mut(11) {
            *byte ^= n;
        }
        site.send_packet(&packet);
    }
    let after = site.flow()?;
    if after.port == before.port { Ok(()) } else { Err("the connection was reset".to_owned()) }
}

fn addresses(site: &mut Site) -> Result<(), String> {
    let flow = site.flow()?;
    let some = [0, u32::MAX, 0x7f00_0001, 0xe000_0001, 0x0a00_00ff, site.stub.address.to_bits()];
    for (from, to) in some.iter().flat_map(|from| some.map(|to| (*from, to))) {
        let (from, to) = (Ipv4Addr::from(from), Ipv4Addr::from(to));
        let segment = site.segment(&flow).bytes(from, to);
        let packet = Packet { from, to, ..site.packet(TCP) }.bytes(&segment);
        site.send_packet(&packet);
        let ping = Packet { from, to, ..site.packet(ICMP) }.bytes(&icmp(8, 0, [0; 4], b"ping"));
        site.send_packet(&ping);
    }
    Ok(())
}

fn protocols(site: &mut Site) -> Result<(), String> {
    for protocol in 0..=u8::MAX {
        for len in [0, 1, 8, 64] {
            site.send_as_server(protocol, &vec![0x5a; len]);
        }
    }
    Ok(())
}

/// The beginning of the stub's own packet, as an error of ICMP quotes it.
fn quoted(site: &Site, flow: &Flow) -> Vec<u8> {
    let (from, to) = (site.stub.address, site.server.address);
    let segment =
        Segment { ports: (flow.port, site.port), seq: flow.seq, ack: flow.ack, ..site.segment(flow) };
    let packet = Packet { from, to, ..site.packet(TCP) }.bytes(&segment.bytes(from, to));
    packet.get(..28).unwrap_or_default().to_vec()
}

/// Messages about the stub's connection, which must outlive them.
fn messages(site: &mut Site, kind: u8, codes: &[u8], rest: [u8; 4]) -> Result<(), String> {
    let before = site.flow()?;
    for _ in 0..20 {
        let flow = site.flow()?;
        for &code in codes {
            let message = icmp(kind, code, rest, &quoted(site, &flow));
            site.send_as_server(ICMP, &message);
        }
    }
    let after = site.flow()?;
    if after.port == before.port { Ok(()) } else { Err("the connection was given up".to_owned()) }
}

fn redirect(site: &mut Site) -> Result<(), String> {
    messages(site, 5, &[0, 1, 2, 3], [10, 0, 0, 99])
}

fn unreachable(site: &mut Site) -> Result<(), String> {
    messages(site, 3, &[0, 1, 2, 3, 9, 10, 13], [0; 4])
}

fn too_big(site: &mut Site) -> Result<(), String> {
    messages(site, 3, &[4], [0, 0, 0, 0])?;
    messages(site, 3, &[4], [0, 0, 0, 68])
}

fn nonsense(site: &mut Site) -> Result<(), String> {
    for kind in 0..=u8::MAX {
        for code in [0, 1, 4, 255] {
            let message = icmp(kind, code, [0xff; 4], &[0x45; 32]);
            site.send_as_server(ICMP, &message);
            site.send_as_server(ICMP, message.get(..usize::from(kind % 12)).unwrap_or_default());
        }
    }
    Ok(())
}

fn ping_flood(site: &mut Site) -> Result<(), String> {
    let message = icmp(8, 0, [0; 4], &[0x5a; 1472]);
    site.flood(Duration::from_secs(3), |site, _| site.send_as_server(ICMP, &message));
    Ok(())
}

fn udp_flood(site: &mut Site) -> Result<(), String> {
    site.flood(Duration::from_secs(3), |site, n| {
        let port = u16::try_from(n % 65_536).unwrap_or(0).to_be_bytes();
        // Without a checksum, which UDP allows.
        let datagram = [&[4, 0][..], &port, &[0, 72, 0, 0], &[0x5a; 64]].concat();
        site.send_as_server(UDP, &datagram);
    });
    Ok(())
}
