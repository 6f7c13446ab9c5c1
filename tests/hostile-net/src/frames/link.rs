//! Attacks by frames and by ARP.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::build::{ARP, BROADCAST, IPV4, Mac, arp, frame};
use super::{Attack, Site};

/// Nobody's interface.
const NOBODY: Mac = [2, 0, 0, 0, 0, 0x66];

/// The attacks.
pub const LINK: &[Attack] = &[
    Attack { name: "arp-server-elsewhere", tries: "the server's address is said to be nobody's", run: spoof },
    Attack {
        name: "arp-server-is-stub",
        tries: "the server's address is said to be the stub's own, or everybody's",
        run: strange_spoof,
    },
    Attack { name: "arp-our-address", tries: "another claims the stub's address", run: claim },
    Attack { name: "arp-flood", tries: "questions from everybody as fast as they go", run: arp_flood },
    Attack {
        name: "arp-nonsense",
        tries: "ARP of other lengths, kinds and operations, and cut",
        run: arp_nonsense,
    },
    Attack {
        name: "frame-types",
        tries: "every 17th type of frame, IPv6 and lengths among them",
        run: types,
    },
    Attack { name: "frames-short", tries: "frames of 14 to 60 bytes", run: short },
    Attack { name: "frames-long", tries: "frames of 1514 bytes and four more", run: long },
    Attack {
        name: "broadcast-flood",
        tries: "frames to everybody as fast as they go",
        run: |site| {
            let bytes = frame(BROADCAST, NOBODY, IPV4, &[0x45; 1500]);
            site.flood(Duration::from_secs(4), |site, _| site.send(&bytes));
            Ok(())
        },
    },
    Attack {
        name: "multicast-flood",
        tries: "frames to groups as fast as they go",
        run: |site| {
            let bytes = frame([1, 0, 0x5e, 0, 0, 1], NOBODY, IPV4, &[0x45; 100]);
            site.flood(Duration::from_secs(3), |site, _| site.send(&bytes));
            Ok(())
        },
    },
    Attack {
        name: "full-rate",
        tries: "frames for the stub alone, as fast as they go",
        run: |site| {
            let bytes = frame(site.stub.mac, site.server.mac, IPV4, &[0x45; 1500]);
            let sent = site.flood(Duration::from_secs(6), |site, _| site.send(&bytes));
            println!("PF full_rate_frames_per_s={}", sent / 6);
            Ok(())
        },
    },
    Attack {
        name: "full-rate-short",
        tries: "the shortest frames for the stub alone, as fast as they go",
        run: |site| {
            let bytes = frame(site.stub.mac, site.server.mac, 0x88b5, &[0; 46]);
            let sent = site.flood(Duration::from_secs(6), |site, _| site.send(&bytes));
            println!("PF full_rate_short_frames_per_s={}", sent / 6);
            Ok(())
        },
    },
];

/// Tells the stub that the server's address is at that interface, by an answer and by a question.
fn tell(site: &mut Site, mac: Mac) {
    let (server, stub) = ((mac, site.server.address), (site.stub.mac, site.stub.address));
    for operation in [2, 1] {
        let packet = arp(operation, server, stub);
        site.send(&frame(site.stub.mac, NOBODY, ARP, &packet));
    }
}

fn spoof(site: &mut Site) -> Result<(), String> {
    for _ in 0..20 {
        tell(site, NOBODY);
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

fn strange_spoof(site: &mut Site) -> Result<(), String> {
    for mac in [BROADCAST, [0; 6], [1, 0, 0x5e, 0, 0, 1], site.stub.mac] {
        for _ in 0..5 {
            tell(site, mac);
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    Ok(())
}

fn claim(site: &mut Site) -> Result<(), String> {
    let stub = site.stub.address;
    for n in 0..200_u16 {
        let packet = arp(1 + n % 2, (NOBODY, stub), (if n % 2 == 0 { [0; 6] } else { BROADCAST }, stub));
        site.send(&frame(site.stub.mac, NOBODY, ARP, &packet));
    }
    Ok(())
}

fn arp_flood(site: &mut Site) -> Result<(), String> {
    site.flood(Duration::from_secs(3), |site, n| {
        let [_, _, low, lowest] = n.to_be_bytes();
        let from = ([2, 0, 0, 1, low, lowest], Ipv4Addr::new(10, 0, 0, lowest.clamp(10, 250)));
        let packet = arp(1, from, ([0; 6], site.stub.address));
        site.send(&frame(site.stub.mac, from.0, ARP, &packet));
    });
    Ok(())
}

fn arp_nonsense(site: &mut Site) -> Result<(), String> {
    let whole = arp(1, (site.server.mac, site.server.address), (site.stub.mac, site.stub.address));
    for at in 0..8 {
        for value in [0, 1, 7, 16, 255] {
            let mut packet = whole.clone();
            if let Some(byte) = packet.get_mut(at) {
                *byte = value;
            }
            site.send(&frame(site.stub.mac, site.server.mac, ARP, &packet));
        }
    }
    for len in 0..whole.len() {
        site.send(&frame(site.stub.mac, site.server.mac, ARP, whole.get(..len).unwrap_or_default()));
    }
    Ok(())
}

fn types(site: &mut Site) -> Result<(), String> {
    for kind in (0..u16::MAX).step_by(17).chain([0x8100, 0x86dd, 0x88a8, 0x88cc, 0x8863]) {
        site.send(&frame(site.stub.mac, NOBODY, kind, &[0x60; 60]));
    }
    Ok(())
}

fn short(site: &mut Site) -> Result<(), String> {
    for len in 0..46 {
        for kind in [IPV4, ARP, 0x86dd] {
            site.send(&frame(site.stub.mac, site.server.mac, kind, &vec![0x45; len]));
        }
    }
    Ok(())
}

fn long(site: &mut Site) -> Result<(), String> {
    for _ in 0..500 {
        site.send(&frame(site.stub.mac, site.server.mac, IPV4, &[0x45; 1500]));
        // A tag more, which bridges let through.
        site.send(&frame(site.stub.mac, site.server.mac, 0x8100, &[0x45; 1504]));
    }
    Ok(())
}
