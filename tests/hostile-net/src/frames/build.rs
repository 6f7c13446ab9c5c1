//! Frames, byte by byte, so that each field can be wrong.

use std::net::Ipv4Addr;

/// Six bytes of an interface.
pub type Mac = [u8; 6];

/// Everybody.
pub const BROADCAST: Mac = [0xff; 6];
/// The type of frames with IPv4.
pub const IPV4: u16 = 0x0800;
/// That of ARP.
pub const ARP: u16 = 0x0806;
/// IPv4's number of ICMP.
pub const ICMP: u8 = 1;
/// That of TCP.
pub const TCP: u8 = 6;
/// That of UDP.
pub const UDP: u8 = 17;

/// TCP's flags.
pub const FIN: u8 = 1;
/// A connection begins.
pub const SYN: u8 = 2;
/// A connection is over.
pub const RST: u8 = 4;
/// There are data.
pub const PSH: u8 = 8;
/// The acknowledgement number holds.
pub const ACK: u8 = 16;

/// A frame.
#[must_use]
pub fn frame(to: Mac, from: Mac, kind: u16, payload: &[u8]) -> Vec<u8> {
    [&to[..], &from, &kind.to_be_bytes(), payload].concat()
}

/// The sum that IPv4 and TCP have.
fn sum(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| {
        u32::from(pair.first().copied().unwrap_or(0)) << 8 | u32::from(pair.get(1).copied().unwrap_or(0))
    };
    let mut total: u32 = bytes.chunks(2).map(word).fold(0, u32::wrapping_add);
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    !u16::try_from(total).unwrap_or(0)
}

/// Puts a field into bytes.
fn put(bytes: &mut [u8], at: usize, field: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + field.len()) {
        place.copy_from_slice(field);
    }
}

/// A packet of IPv4, and what is unusual about it.
#[derive(Clone, Copy, Debug)]
pub struct Packet {
    /// Who sends it.
    pub from: Ipv4Addr,
    /// To whom.
    pub to: Ipv4Addr,
    /// What is in it.
    pub protocol: u8,
    /// Flags and place of a fragment.
    pub fragment: u16,
    /// Which packet a fragment is of.
    pub id: u16,
}

impl Packet {
    /// Its bytes, with sums that are right.
    #[must_use]
    pub fn bytes(&self, payload: &[u8]) -> Vec<u8> {
        let len = u16::try_from(20 + payload.len()).unwrap_or(u16::MAX);
        let mut header = vec![0x45, 0];
        for field in [len, self.id, self.fragment] {
            header.extend(field.to_be_bytes());
        }
        header.extend([64, self.protocol, 0, 0]);
        header.extend(self.from.octets());
        header.extend(self.to.octets());
        let checksum = sum(&header);
        put(&mut header, 10, &checksum.to_be_bytes());
        [header, payload.to_vec()].concat()
    }
}

/// Changes a byte of a packet's header and makes its sum right again.
pub fn with_byte(packet: &mut [u8], at: usize, value: u8) {
    put(packet, at, &[value]);
    put(packet, 10, &[0, 0]);
    let checksum = sum(packet.get(..20).unwrap_or_default());
    put(packet, 10, &checksum.to_be_bytes());
}

/// A segment of TCP.
#[derive(Clone, Debug)]
pub struct Segment<'a> {
    /// The ports of sender and receiver.
    pub ports: (u16, u16),
    /// Where its data begin.
    pub seq: u32,
    /// What is expected next.
    pub ack: u32,
    /// [`SYN`] and others.
    pub flags: u8,
    /// Bytes that the sender has room for.
    pub window: u16,
    /// Whole words of options.
    pub options: &'a [u8],
    /// The data.
    pub data: &'a [u8],
}

impl Segment<'_> {
    /// Its bytes between those two, with a sum that is right.
    #[must_use]
    pub fn bytes(&self, from: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(self.ports.0.to_be_bytes());
        bytes.extend(self.ports.1.to_be_bytes());
        bytes.extend(self.seq.to_be_bytes());
        bytes.extend(self.ack.to_be_bytes());
        let words = u8::try_from(5 + self.options.len() / 4).unwrap_or(15);
        bytes.extend([words << 4, self.flags]);
        bytes.extend(self.window.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(self.options);
        bytes.extend(self.data);
        resum(&mut bytes, from, to);
        bytes
    }
}

/// Makes the sum of a segment right.
pub fn resum(segment: &mut [u8], from: Ipv4Addr, to: Ipv4Addr) {
    put(segment, 16, &[0, 0]);
    let len = u16::try_from(segment.len()).unwrap_or(u16::MAX).to_be_bytes();
    let pseudo = [&from.octets()[..], &to.octets(), &[0, TCP], &len, segment].concat();
    let checksum = sum(&pseudo);
    put(segment, 16, &checksum.to_be_bytes());
}

/// An ICMP message.
#[must_use]
pub fn icmp(kind: u8, code: u8, rest: [u8; 4], data: &[u8]) -> Vec<u8> {
    let mut bytes = [&[kind, code, 0, 0][..], &rest, data].concat();
    let checksum = sum(&bytes);
    put(&mut bytes, 2, &checksum.to_be_bytes());
    bytes
}

/// An ARP packet: 1 asks, 2 answers.
#[must_use]
pub fn arp(operation: u16, from: (Mac, Ipv4Addr), to: (Mac, Ipv4Addr)) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4];
    let operation = operation.to_be_bytes();
    [&head[..], &operation, &from.0, &from.1.octets(), &to.0, &to.1.octets()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use smoltcp::wire::{ArpPacket, ArpRepr, Icmpv4Packet, IpAddress, Ipv4Packet, TcpPacket};

    #[test]
    fn what_is_not_made_wrong_is_right() {
        let (us, them) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 6));
        let options = [2, 4, 5, 0xb4];
        let segment = Segment {
            ports: (10809, 49152),
            seq: 7,
            ack: 9,
            flags: SYN | ACK,
            window: 1000,
            options: &options,
            data: b"abc",
        };
        let segment = segment.bytes(us, them);
        let packet = Packet { from: us, to: them, protocol: TCP, fragment: 0, id: 3 }.bytes(&segment);
        let packet = Ipv4Packet::new_checked(&packet[..]).unwrap();
        assert!(packet.verify_checksum() && packet.payload() == segment);
        let read = TcpPacket::new_checked(&segment[..]).unwrap();
        assert!(read.verify_checksum(&IpAddress::Ipv4(us), &IpAddress::Ipv4(them)));
        assert_eq!((read.payload(), read.options(), read.syn()), (&b"abc"[..], &options[..], true));
        let echo = icmp(8, 0, [0; 4], b"x");
        assert!(Icmpv4Packet::new_checked(&echo[..]).unwrap().verify_checksum());
        let arp = arp(1, ([2; 6], us), ([0; 6], them));
        let arp = ArpRepr::parse(&ArpPacket::new_checked(&arp[..]).unwrap()).unwrap();
        assert!(
            matches!(arp, ArpRepr::EthernetIpv4 { target_protocol_addr, .. } if target_protocol_addr == them)
        );
    }
}
