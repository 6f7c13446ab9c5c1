//! A host that is none: it answers ARP, and the stub's connection with another `SYN` than a host would send.

use std::time::{Duration, Instant};

use super::build::{ACK, ARP, IPV4, PSH, Packet, SYN, Segment, TCP, arp, frame};
use super::{Seen, Site};

/// The greeting of an NBD server.
const GREETING: &[u8] = b"NBDMAGICIHAVEOPT\x00\x03";
/// Where its numbers begin.
const FIRST: u32 = 0xffff_fff0;

/// What it offers with its `SYN`, by the name of the attack.
fn options(name: &str) -> Option<&'static [u8]> {
    match name {
        "mss-0" => Some(&[2, 4, 0, 0]),
        "mss-1" => Some(&[2, 4, 0, 1]),
        "scale-255" => Some(&[2, 4, 5, 0xb4, 3, 3, 255, 0]),
        "options-without-end" => Some(&[2, 0, 3, 0, 254, 0, 0, 1]),
        _ => None,
    }
}

/// Is the server for as long as that, with the answer that the name says.
///
/// # Errors
/// There is no such name.
pub fn impostor(site: &mut Site, name: &str, time: Duration) -> Result<(), String> {
    let options = options(name).ok_or_else(|| format!("no impostor {name}"))?;
    let until = Instant::now() + time;
    while Instant::now() < until {
        match site.receive() {
            Some(seen) => answer(site, &seen, options),
            None => std::thread::sleep(Duration::from_micros(200)),
        }
    }
    Ok(())
}

fn answer(site: &mut Site, seen: &[u8], options: &[u8]) {
    let asks = seen.get(12..14) == Some(&ARP.to_be_bytes()[..])
        && seen.get(38..42) == Some(&site.server.address.octets()[..])
        && seen.get(20..22) == Some(&[0, 1][..]);
    if asks {
        let packet = arp(2, (site.server.mac, site.server.address), (site.stub.mac, site.stub.address));
        site.send(&frame(site.stub.mac, site.server.mac, ARP, &packet));
    }
    let Some(segment) = Seen::parse(seen, site.stub.address, site.port) else { return };
    let ports = (site.port, segment.port);
    let reply = if segment.flags & SYN != 0 {
        let ack = segment.seq.wrapping_add(1);
        println!("PF syn={}", segment.port);
        Segment { ports, seq: FIRST, ack, flags: SYN | ACK, window: u16::MAX, options, data: &[] }
    } else if segment.flags == ACK && segment.len == 0 {
        let seq = FIRST.wrapping_add(1);
        Segment {
            ports,
            seq,
            ack: segment.seq,
            flags: ACK | PSH,
            window: u16::MAX,
            options: &[],
            data: GREETING,
        }
    } else {
        return;
    };
    let (from, to) = (site.server.address, site.stub.address);
    let packet = Packet { from, to, protocol: TCP, fragment: 0, id: 0 }.bytes(&reply.bytes(from, to));
    site.send(&frame(site.stub.mac, site.server.mac, IPV4, &packet));
}
