//! Attacks by segments of TCP, in the name of the stub's server.

use std::net::Ipv4Addr;
use std::thread::sleep;
use std::time::Duration;

use super::build::{ACK, FIN, PSH, RST, SYN, Segment, TCP, frame, resum};
use super::{Attack, Site};

/// A step by which no window of the stub is missed.
const WINDOW: u32 = 200_000;

/// The attacks.
pub const SEGMENTS: &[Attack] = &[
    Attack { name: "no-connection", tries: "segments for ports that have no connection", run: no_connection },
    Attack { name: "syn-flood", tries: "connections from everywhere to every port", run: syn_flood },
    Attack { name: "syn-blind", tries: "a connection that begins again where one is", run: syn_blind },
    Attack {
        name: "syn-exact",
        tries: "the same at the number that is due",
        run: |site| exact(site, SYN | ACK),
    },
    Attack { name: "rst-blind", tries: "resets at numbers all over, of which one must fit", run: rst_blind },
    Attack { name: "rst-exact", tries: "a reset at the number that is due", run: |site| exact(site, RST) },
    Attack {
        name: "fin-exact",
        tries: "the server's end at the number that is due",
        run: |site| exact(site, FIN | ACK),
    },
    Attack { name: "rst-wrong-sum", tries: "resets that fit, with wrong checksums", run: rst_wrong_sum },
    Attack { name: "every-flag", tries: "all 256 sets of flags at the number that is due", run: every_flag },
    Attack {
        name: "acks-ahead",
        tries: "acknowledgements of what was not sent",
        run: |site| acks(site, 1_000_000),
    },
    Attack {
        name: "acks-behind",
        tries: "thousands of acknowledgements of what was sent long ago",
        run: |site| acks(site, 100_000_u32.wrapping_neg()),
    },
    Attack {
        name: "acks-the-same",
        tries: "thousands of acknowledgements of the same",
        run: |site| acks(site, 0),
    },
    Attack { name: "data-again", tries: "old data once more, with another content", run: data_again },
    Attack { name: "data-ahead", tries: "data beyond every window", run: |site| data_at(site, 2_000_000) },
    Attack { name: "data-with-gaps", tries: "more pieces with gaps than can be kept", run: data_with_gaps },
    Attack {
        name: "data-overlapping",
        tries: "pieces that overlap, each with another content",
        run: overlapping,
    },
    Attack {
        name: "data-exact",
        tries: "data of another at the number that is due",
        run: |site| data_at(site, 0),
    },
    Attack { name: "window-0", tries: "a window of no bytes, over and over", run: |site| window(site, 0) },
    Attack { name: "window-1", tries: "a window of one byte, over and over", run: |site| window(site, 1) },
    Attack {
        name: "header-lengths",
        tries: "segments whose header is none, or longer than they are",
        run: headers,
    },
    Attack { name: "options", tries: "options of no length, too long, and without end", run: options },
];

fn no_connection(site: &mut Site) -> Result<(), String> {
    for port in (0..u16::MAX).step_by(13) {
        let flags = [ACK, ACK | PSH, FIN, RST, 0][usize::from(port) % 5];
        let segment = Segment {
            ports: (site.port, port),
            seq: 1,
            ack: 2,
            flags,
            window: 9,
            options: &[],
            data: b"junk",
        };
        site.send_segment(&segment);
    }
    Ok(())
}

fn syn_flood(site: &mut Site) -> Result<(), String> {
    site.flood(Duration::from_secs(2), |site, n| {
        let from = Ipv4Addr::from(0x0a00_0100_u32.wrapping_add(n % 60_000));
        let port = u16::try_from(n % 65_536).unwrap_or(1);
        let segment =
            Segment { ports: (port, !port), seq: n, ack: 0, flags: SYN, window: 9, options: &[], data: &[] };
        let packet = super::build::Packet { from, ..site.packet(TCP) };
        let bytes = packet.bytes(&segment.bytes(from, site.stub.address));
        site.send_packet(&bytes);
    });
    Ok(())
}

fn syn_blind(site: &mut Site) -> Result<(), String> {
    let flow = site.flow()?;
    for n in 0..2000_u32 {
        let segment = Segment { seq: n.wrapping_mul(0x9e37_79b9), flags: SYN, ..site.segment(&flow) };
        site.send_segment(&segment);
    }
    Ok(())
}

/// A segment with those flags at the number that is due, a few times: each time the connection goes on meanwhile.
fn exact(site: &mut Site, flags: u8) -> Result<(), String> {
    for _ in 0..3 {
        let flow = site.flow()?;
        let segment = Segment { flags, ..site.segment(&flow) };
        site.send_segment(&segment);
        sleep(Duration::from_millis(300));
    }
    Ok(())
}

fn rst_blind(site: &mut Site) -> Result<(), String> {
    let flow = site.flow()?;
    let mut seq = 0_u32;
    loop {
        let segment = Segment { seq, flags: RST, ..site.segment(&flow) };
        site.send_segment(&segment);
        match seq.checked_add(WINDOW) {
            Some(next) => seq = next,
            None => return Ok(()),
        }
    }
}

fn rst_wrong_sum(site: &mut Site) -> Result<(), String> {
    let before = site.flow()?;
    for n in 0..200_u8 {
        let flow = site.flow()?;
        let (from, to) = (site.server.address, site.stub.address);
        let mut bytes = Segment { flags: RST, ..site.segment(&flow) }.bytes(from, to);
        if let Some(byte) = bytes.get_mut(16) {
            *byte ^= n | 1;
        }
        site.send_as_server(TCP, &bytes);
    }
    let after = site.flow()?;
    if after.port == before.port { Ok(()) } else { Err("the connection was reset".to_owned()) }
}

fn every_flag(site: &mut Site) -> Result<(), String> {
    for flags in 0..=u8::MAX {
        // Those that end the connection have attacks of their own.
        if flags & (RST | FIN | SYN) != 0 && !flags.is_multiple_of(32) {
            continue;
        }
        let flow = site.flow()?;
        let segment = Segment { flags, ..site.segment(&flow) };
        site.send_segment(&segment);
    }
    Ok(())
}

fn acks(site: &mut Site, ahead: u32) -> Result<(), String> {
    let mut flow = site.flow()?;
    for n in 0..5000_u32 {
        if n.is_multiple_of(1000) {
            flow = site.flow()?;
        }
        let segment = Segment { ack: flow.seq.wrapping_add(ahead), ..site.segment(&flow) };
        site.send_segment(&segment);
    }
    Ok(())
}

fn data_again(site: &mut Site) -> Result<(), String> {
    let before = site.flow()?;
    for _ in 0..100 {
        let flow = site.flow()?;
        let segment = Segment {
            seq: flow.ack.wrapping_sub(1400),
            flags: ACK | PSH,
            data: &[0x5a; 1400],
            ..site.segment(&flow)
        };
        site.send_segment(&segment);
    }
    let after = site.flow()?;
    if after.port == before.port { Ok(()) } else { Err("the connection broke".to_owned()) }
}

fn data_at(site: &mut Site, ahead: u32) -> Result<(), String> {
    for _ in 0..5 {
        let flow = site.flow()?;
        let seq = flow.ack.wrapping_add(ahead);
        site.send_segment(&Segment { seq, flags: ACK | PSH, data: &[0x5a; 700], ..site.segment(&flow) });
        sleep(Duration::from_millis(100));
    }
    Ok(())
}

fn data_with_gaps(site: &mut Site) -> Result<(), String> {
    for _ in 0..5 {
        let flow = site.flow()?;
        for n in 1..200_u32 {
            let seq = flow.ack.wrapping_add(n * 1000);
            site.send_segment(&Segment { seq, flags: ACK, data: &[0x5a; 100], ..site.segment(&flow) });
        }
        sleep(Duration::from_millis(100));
    }
    Ok(())
}

fn overlapping(site: &mut Site) -> Result<(), String> {
    for _ in 0..5 {
        let flow = site.flow()?;
        for n in 1..100_u32 {
            let data = [u8::try_from(n).unwrap_or(0); 1200];
            let seq = flow.ack.wrapping_add(20_000).wrapping_sub(n * 191);
            site.send_segment(&Segment { seq, flags: ACK | PSH, data: &data, ..site.segment(&flow) });
        }
        sleep(Duration::from_millis(100));
    }
    Ok(())
}

fn window(site: &mut Site, window: u16) -> Result<(), String> {
    for _ in 0..300 {
        let flow = site.flow()?;
        let segment = Segment { window, ..site.segment(&flow) };
        site.send_segment(&segment);
    }
    Ok(())
}

fn headers(site: &mut Site) -> Result<(), String> {
    for words in 0..16_u8 {
        let flow = site.flow()?;
        let (from, to) = (site.server.address, site.stub.address);
        let whole = Segment { flags: ACK | PSH, data: b"1234", ..site.segment(&flow) }.bytes(from, to);
        for len in 0..=whole.len() {
            let mut bytes = whole.get(..len).unwrap_or_default().to_vec();
            if let Some(byte) = bytes.get_mut(12) {
                *byte = words << 4;
            }
            // A segment that reads as a whole one would be data.
            if words == 5 && len >= 20 {
                continue;
            }
            resum(&mut bytes, from, to);
            site.send_as_server(TCP, &bytes);
        }
    }
    Ok(())
}

fn options(site: &mut Site) -> Result<(), String> {
    let sets: [&[u8]; 8] = [
        &[2, 0, 0, 0],
        &[2, 4, 0, 0],
        &[3, 3, 255, 0],
        &[3, 255, 1, 1],
        &[1; 40],
        &[8, 2, 5, 2, 5, 1, 254, 0],
        &[5, 40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[253; 40],
    ];
    for flags in [ACK, SYN | ACK, SYN] {
        for set in sets {
            let flow = site.flow()?;
            let segment = Segment { flags, options: set, ..site.segment(&flow) };
            site.send_segment(&segment);
        }
    }
    // To everybody too.
    let bytes = frame(super::build::BROADCAST, site.server.mac, super::build::IPV4, &[0x45; 40]);
    site.send(&bytes);
    Ok(())
}
