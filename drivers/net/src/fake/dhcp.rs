//! A DHCP server, as honest as its [`Offer`].
#![expect(clippy::expect_used, reason = "a fake that cannot go on ends its test")]
#![expect(clippy::arithmetic_side_effects, reason = "test support: a panic is a verdict")]

use alloc::vec;
use alloc::vec::Vec;
use core::net::Ipv4Addr;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    DhcpMessageType, DhcpPacket, DhcpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr,
    IpProtocol, Ipv4Packet, Ipv4Repr, UdpPacket, UdpRepr,
};

const SERVER_MAC: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 0x44]);

/// What the server offers. Its first answer is always an offer, the next what the client asks for, or a refusal.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    /// The server's address.
    pub from: Ipv4Addr,
    /// The client's.
    pub ours: Ipv4Addr,
    /// The mask of their network.
    pub mask: Option<Ipv4Addr>,
    /// The way to others.
    pub router: Option<Ipv4Addr>,
    /// Seconds of the lease.
    pub lease_s: Option<u32>,
    /// It refuses what it offered.
    pub refuses: bool,
    /// It says something at all: for those who ask [`answer`].
    pub answers: bool,
}

/// An honest one: 10.0.0.7 of 24 bits, by 10.0.0.2.
pub const GOOD: Offer = Offer {
    from: Ipv4Addr::new(10, 0, 0, 2),
    ours: Ipv4Addr::new(10, 0, 0, 7),
    mask: Some(Ipv4Addr::new(255, 255, 255, 0)),
    router: None,
    lease_s: Some(600),
    refuses: false,
    answers: true,
};

/// The server's answer to a frame, if that asks a DHCP server.
///
/// # Panics
/// If it asks in no form that there is.
#[must_use]
pub fn answer(frame: &[u8], offer: &Offer) -> Option<Vec<u8>> {
    let frame = EthernetFrame::new_checked(frame).ok()?;
    let ip = Ipv4Packet::new_checked(frame.payload()).ok()?;
    if frame.ethertype() != EthernetProtocol::Ipv4 || ip.next_header() != IpProtocol::Udp {
        return None;
    }
    let udp = UdpPacket::new_checked(ip.payload()).expect("a datagram");
    assert_eq!((udp.src_port(), udp.dst_port()), (68, 67));
    let packet = DhcpPacket::new_checked(udp.payload()).expect("a packet of DHCP");
    Some(answered(&DhcpRepr::parse(&packet).expect("a message of DHCP"), offer))
}

fn answered(to: &DhcpRepr<'_>, offer: &Offer) -> Vec<u8> {
    let kind = match to.message_type {
        DhcpMessageType::Discover => DhcpMessageType::Offer,
        _ if offer.refuses => DhcpMessageType::Nak,
        _ => DhcpMessageType::Ack,
    };
    let repr = DhcpRepr {
        message_type: kind,
        your_ip: offer.ours,
        client_ip: Ipv4Addr::UNSPECIFIED,
        router: offer.router,
        subnet_mask: offer.mask,
        server_identifier: Some(offer.from),
        lease_duration: offer.lease_s,
        requested_ip: None,
        client_identifier: None,
        parameter_request_list: None,
        max_size: None,
        ..to.clone()
    };
    let udp = UdpRepr { src_port: 67, dst_port: 68 };
    let payload_len = 8 + repr.buffer_len();
    let (src_addr, dst_addr) = (offer.from, Ipv4Addr::BROADCAST);
    let ip = Ipv4Repr { src_addr, dst_addr, next_header: IpProtocol::Udp, payload_len, hop_limit: 64 };
    let mut bytes = vec![0; 14 + 20 + payload_len];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes);
    let ethertype = EthernetProtocol::Ipv4;
    EthernetRepr { src_addr: SERVER_MAC, dst_addr: EthernetAddress::BROADCAST, ethertype }.emit(&mut frame);
    let checksums = ChecksumCapabilities::default();
    let mut packet = Ipv4Packet::new_unchecked(frame.payload_mut());
    ip.emit(&mut packet, &checksums);
    let mut datagram = UdpPacket::new_unchecked(packet.payload_mut());
    let emit = |payload: &mut [u8]| repr.emit(&mut DhcpPacket::new_unchecked(payload)).expect("room");
    udp.emit(&mut datagram, &src_addr.into(), &dst_addr.into(), repr.buffer_len(), emit, &checksums);
    bytes
}
