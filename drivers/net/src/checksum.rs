//! Checksums of TCP and UDP: those that are left to netback, and those that it does not answer for.
//!
//! smoltcp makes and verifies either all of a protocol's checksums or none, so it is told to leave them alone,
//! and they are looked after here, frame by frame. Those of IP headers, ICMP and of UDP that we send are
//! smoltcp's as ever.

use smoltcp::wire::checksum::{combine, data};

/// Numbers of protocols (IANA).
const HOP_BY_HOP: u8 = 0;
const TCP: u8 = 6;
const UDP: u8 = 17;
/// Bytes before the IP header.
const ETHERNET_BYTES: usize = 14;
/// Where in their headers the checksums are.
const TCP_CHECKSUM: usize = 16;
const UDP_CHECKSUM: usize = 6;

/// The frame breaks a rule of IP's, or nobody could say whether it is good.
#[derive(Debug, Eq, PartialEq)]
struct Unsound;

/// What an IP packet carries.
struct Content {
    protocol: u8,
    /// Bytes of the frame before it, and to its end.
    range: core::ops::Range<usize>,
    /// The sum of the addresses.
    addresses: u16,
    is_v4: bool,
}

fn byte(bytes: &[u8], at: usize) -> Result<u8, Unsound> {
    bytes.get(at).copied().ok_or(Unsound)
}

fn word(bytes: &[u8], at: usize) -> Result<u16, Unsound> {
    Ok(u16::from_be_bytes([byte(bytes, at)?, byte(bytes, at.saturating_add(1))?]))
}

/// What is in the frame, if that is IP.
fn content(frame: &[u8]) -> Result<Option<Content>, Unsound> {
    let ip = frame.get(ETHERNET_BYTES..).ok_or(Unsound)?;
    let (protocol, header, total, addresses) = match word(frame, 12)? {
        0x0800 => {
            let header = usize::from(byte(ip, 0)? & 0xf).saturating_mul(4);
            // smoltcp takes a fragment for a whole packet.
            if header < 20 || word(ip, 6)? & 0x3fff != 0 {
                return Err(Unsound);
            }
            (byte(ip, 9)?, header, usize::from(word(ip, 2)?), 12..20)
        }
        0x86dd => {
            let total = usize::from(word(ip, 4)?).saturating_add(40);
            match byte(ip, 6)? {
                HOP_BY_HOP => {
                    let more = usize::from(byte(ip, 41)?).saturating_add(1).saturating_mul(8);
                    (byte(ip, 40)?, more.saturating_add(40), total, 8..40)
                }
                protocol => (protocol, 40, total, 8..40),
            }
        }
        _ => return Ok(None),
    };
    let addresses = data(ip.get(addresses).ok_or(Unsound)?);
    if total < header || total > ip.len() {
        return Err(Unsound);
    }
    let range = ETHERNET_BYTES.saturating_add(header)..ETHERNET_BYTES.saturating_add(total);
    Ok(Some(Content { protocol, range, addresses, is_v4: word(frame, 12)? == 0x0800 }))
}

/// The sum of what TCP and UDP have in their checksums besides their own bytes (RFC 9293, 3.1; RFC 8200, 8.1).
fn pseudo_header(content: &Content, len: usize) -> u16 {
    // A frame is no longer than IP's length field can say.
    let len = u16::try_from(len).unwrap_or(u16::MAX);
    combine(&[content.addresses, content.protocol.into(), len])
}

/// Whether a frame may be handed to smoltcp, which does not look at the checksums. `is_verified`: netback
/// answers for them.
pub(crate) fn is_sound(frame: &[u8], is_verified: bool) -> bool {
    judge(frame, is_verified) == Ok(true)
}

fn judge(frame: &[u8], is_verified: bool) -> Result<bool, Unsound> {
    let Some(content) = content(frame)? else { return Ok(true) };
    // What is behind a second header of options smoltcp does not look at either.
    if is_verified || !matches!(content.protocol, TCP | UDP) {
        return Ok(true);
    }
    let mut bytes = frame.get(content.range.clone()).ok_or(Unsound)?;
    if content.protocol == UDP {
        // It has a length of its own, and with IPv4 it need not have a checksum.
        bytes = bytes.get(..word(bytes, 4)?.into()).ok_or(Unsound)?;
        if content.is_v4 && word(bytes, UDP_CHECKSUM)? == 0 {
            return Ok(true);
        }
    }
    Ok(combine(&[pseudo_header(&content, bytes.len()), data(bytes)]) == 0xffff)
}

/// Bytes that a frame carries for a TCP connection.
pub(crate) fn tcp_payload_bytes(frame: &[u8]) -> usize {
    let Ok(Some(content)) = content(frame) else { return 0 };
    let header = byte(frame, content.range.start.saturating_add(12)).map_or(0, |byte| byte >> 4);
    if content.protocol == TCP {
        content.range.len().saturating_sub(usize::from(header).saturating_mul(4))
    } else {
        0
    }
}

/// Prepares the checksum of a TCP packet that is to be sent, for netback to finish. False if it is not one.
pub(crate) fn leave_to_netback(frame: &mut [u8]) -> bool {
    let Ok(Some(content)) = content(frame) else { return false };
    if content.protocol != TCP {
        return false;
    }
    let sum = pseudo_header(&content, content.range.len()).to_be_bytes();
    let at = content.range.start.saturating_add(TCP_CHECKSUM);
    let Some(place) = frame.get_mut(at..at.saturating_add(sum.len())) else { return false };
    place.copy_from_slice(&sum);
    true
}

/// Makes the checksum that [`leave_to_netback`] has prepared, as netback does.
#[cfg(any(test, feature = "fake"))]
pub(crate) fn finish(frame: &mut [u8]) {
    let Ok(Some(content)) = content(frame) else { return };
    let sum = frame.get(content.range.clone()).map_or(0, data);
    let at = content.range.start.saturating_add(TCP_CHECKSUM);
    if let Some(place) = frame.get_mut(at..at.saturating_add(2)) {
        place.copy_from_slice(&(!sum).to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::{finish, is_sound, leave_to_netback, tcp_payload_bytes};
    use std::vec;
    use std::vec::Vec;

    /// A frame of IPv4 with 8 bytes of payload behind the header of that protocol, without a checksum.
    fn v4(protocol: u8) -> Vec<u8> {
        let header: &[u8] = if protocol == 6 { &TCP_HEADER } else { &[1, 2, 3, 4, 0, 16, 0, 0] };
        let mut frame = vec![0; 12];
        frame.extend([8, 0, 0x45, 0, 0, 28 + u8::try_from(header.len()).unwrap()]);
        frame.extend([0, 0, 0x40, 0, 64, protocol, 0, 0, 10, 0, 0, 5, 10, 0, 0, 6]);
        frame.extend_from_slice(header);
        frame.extend([0xde, 0xad, 0xbe, 0xef, 0xff, 0xff, 0x12, 0x34]);
        frame
    }

    /// The same of IPv6, with that many headers of options between.
    fn v6(protocol: u8, options: usize) -> Vec<u8> {
        let v4 = v4(protocol);
        let mut frame = vec![0; 12];
        let len = u8::try_from(v4.len() - 34 + options * 16).unwrap();
        let next = |left: usize| if left > 0 { 0 } else { protocol };
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, len, next(options), 64]);
        frame.extend((0..32).map(|at| at * 7));
        for left in (0..options).rev() {
            frame.extend([next(left), 1, 1, 12]);
            frame.extend([0; 12]);
        }
        frame.extend_from_slice(&v4[34..]);
        frame
    }

    const TCP_HEADER: [u8; 20] = [1, 2, 3, 4, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0];

    #[test]
    fn a_checksum_that_netback_finishes_is_good() {
        for mut frame in [v4(6), v6(6, 0), v6(6, 1)] {
            assert!(!is_sound(&frame, false), "it has none");
            assert!(leave_to_netback(&mut frame));
            finish(&mut frame);
            assert!(is_sound(&frame, false));
            for at in frame.len() - 28..frame.len() {
                let mut spoilt = frame.clone();
                spoilt[at] ^= 0x10;
                assert!(!is_sound(&spoilt, false) && is_sound(&spoilt, true), "{at}");
            }
        }
    }

    #[test]
    fn the_payload_is_behind_all_headers() {
        for (frame, expected) in
            [(v4(6), 8), (v6(6, 0), 8), (v6(6, 1), 8), (v4(17), 0), (v4(6)[..40].into(), 0)]
        {
            assert_eq!(tcp_payload_bytes(&frame), expected);
        }
        // Options, here in its place.
        let mut longer = v4(6);
        longer[46] = 0x70;
        assert_eq!(tcp_payload_bytes(&longer), 0);
    }

    #[test]
    fn the_sum_is_that_of_the_standard() {
        // By hand: 0a00 + 0005 + 0a00 + 0006 + 0006 + 001c.
        let mut frame = v4(6);
        assert!(leave_to_netback(&mut frame));
        assert_eq!(frame[50..52], [0x14, 0x2d]);
    }

    #[test]
    fn checksums_of_udp_are_verified_if_there_are_any() {
        assert!(is_sound(&v4(17), false), "it need not have one");
        assert!(!is_sound(&v6(17, 0), false), "it has to");
        for mut frame in [v4(17), v6(17, 0)] {
            let at = frame.len() - 10;
            let good: Vec<_> = (0..=u16::MAX)
                .filter(|sum| {
                    frame[at..at + 2].copy_from_slice(&sum.to_be_bytes());
                    is_sound(&frame, false) && *sum != 0
                })
                .collect();
            assert_eq!(good.len(), 1);
            // Bytes behind its own length are nobody's.
            let mut longer = frame.clone();
            longer[at - 2..at].copy_from_slice(&17u16.to_be_bytes());
            assert!(!is_sound(&longer, false));
        }
    }

    #[test]
    fn what_is_neither_goes_through() {
        let arp: Vec<u8> = [vec![0; 12], vec![8, 6], vec![0; 46]].concat();
        for frame in [arp, v4(1), v6(58, 0), v6(58, 1), v6(6, 2)] {
            assert!(is_sound(&frame, false));
            assert!(!leave_to_netback(&mut frame.clone()));
        }
    }

    #[test]
    fn broken_headers_and_fragments_do_not() {
        let change = |at: usize, value: u8| {
            let mut frame = v4(6);
            frame[at] = value;
            frame
        };
        let mut cases = vec![
            change(14, 0x44),
            change(14, 0x4f),
            change(16, 1),
            change(17, 19),
            change(17, 49),
            // More fragments, and one from further on.
            change(20, 0x20),
            change(21, 1),
        ];
        cases.extend(
            [(0..34).map(|len| v4(6)[..len].to_vec()).collect::<Vec<_>>(), vec![v6(6, 0)[..53].into()]]
                .concat(),
        );
        let mut long_options = v6(6, 1);
        long_options[55] = 255;
        cases.push(long_options);
        for frame in cases {
            // Too short to say that it is IP.
            let is_ip = frame.len() >= 14;
            assert!(!is_sound(&frame, true) && !leave_to_netback(&mut frame.clone()), "{is_ip} {frame:x?}");
        }
    }
}
