//! The stub's TCP (smoltcp over our network frontend) against a network that brings any frames.
//!
//! The far host is a few lines: it answers ARP, a connection's beginning and nothing else, so that the numbers of TCP
//! are known and hostile frames can come close to them.

use crate::Input;
use drivers::fake::{NetBack, XenStored};
use drivers::{NetFront, Xenstore};
use kernel::DomId;
use kernel::fake::FakeXen;
use net::{Address, Network, RX_BUFFER_BYTES, TX_BUFFER_BYTES, TcpClient, TcpState};
use pilotfish_hostile_net::frames::Seen;
use pilotfish_hostile_net::frames::build::{
    ACK, ARP, IPV4, Mac, PSH, Packet, SYN, Segment, TCP, arp, frame, icmp, resum, with_byte,
};
use std::net::{Ipv4Addr, SocketAddrV4};

const OURS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 6);
const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 5), 10809);
const OUR_MAC: Mac = [0, 0x16, 0x3e, 1, 2, 3];
const FAR_MAC: Mac = [2, 0, 0, 0, 0, 9];
const STEPS: usize = 120;
/// Turns in which a new connection has to be made and used at the end, of more than a second each.
const LAST_TURNS: usize = 40;

/// The far host, and what it has seen of the stub's connection.
struct Far {
    back: NetBack,
    /// The stub's port, the next number that it sends, and the next that it expects.
    port: u16,
    seq: u32,
    ack: u32,
}

impl Far {
    fn packet(protocol: u8) -> Packet {
        Packet { from: *SERVER.ip(), to: OURS, protocol, fragment: 0, id: 0 }
    }

    fn deliver(&self, kind: u16, payload: &[u8]) {
        self.back.deliver(&frame(OUR_MAC, FAR_MAC, kind, payload));
    }

    fn segment<'a>(&self) -> Segment<'a> {
        let ports = (SERVER.port(), self.port);
        Segment { ports, seq: self.ack, ack: self.seq, flags: ACK, window: 60_000, options: &[], data: &[] }
    }

    fn send(&self, segment: &Segment<'_>) {
        self.deliver(IPV4, &Far::packet(TCP).bytes(&segment.bytes(*SERVER.ip(), OURS)));
    }

    /// Looks at what the stub sent, and answers it as a host does.
    fn answer(&mut self) {
        for sent in self.back.take_sent() {
            if sent.get(12..14) == Some(&ARP.to_be_bytes()[..]) && sent.get(20..22) == Some(&[0, 1][..]) {
                self.deliver(ARP, &arp(2, (FAR_MAC, *SERVER.ip()), (OUR_MAC, OURS)));
            }
            let Some(seen) = Seen::parse(&sent, OURS, SERVER.port()) else { continue };
            self.port = seen.port;
            self.seq = seen.seq.wrapping_add(seen.len);
            if seen.flags & SYN != 0 {
                self.seq = seen.seq.wrapping_add(1);
                self.ack = 0xffff_f000;
                self.send(&Segment { flags: SYN | ACK, ..self.segment() });
            } else {
                self.ack = seen.ack;
                self.send(&self.segment());
            }
        }
    }
}

struct Stub {
    xen: FakeXen,
    client: TcpClient<FakeXen>,
}

impl Stub {
    /// A turn of its main loop, after that time.
    fn turn(&self, after_ns: u64) {
        self.xen.advance_ns(after_ns);
        self.xen.run_peers(10);
        self.client.network().poll();
        self.xen.run_peers(10);
        assert!(self.client.received() <= RX_BUFFER_BYTES, "more than was promised to be kept");
        assert!(self.client.send_room() <= TX_BUFFER_BYTES, "more room than there is");
    }

    fn take(&mut self) -> Vec<u8> {
        let mut taken = Vec::new();
        self.client.receive(|bytes| {
            taken.extend_from_slice(bytes);
            bytes.len()
        });
        taken
    }
}

/// Runs a hostile network. Returns whether a hostile frame met a connection.
///
/// # Panics
/// If smoltcp does; if buffers hold more than they have room for; if a new connection cannot be made and used afterwards, or
/// brings another byte than the far host sent over it.
pub fn net_frames(data: &[u8]) -> bool {
    let xen = FakeXen::new(DomId(5));
    let reached = drive(&xen, data);
    xen.forget_peers();
    reached
}

fn drive(xen: &FakeXen, data: &[u8]) -> bool {
    let mut input = Input::new(data);
    let store = XenStored::start(xen);
    let back = NetBack::attach(xen, &store, 0);
    let mut xs = Xenstore::new(xen).expect("a ring");
    let front = NetFront::connect(xen, &mut xs, 0).expect("an honest netback");
    let address = Address { ours: OURS.into(), prefix_bits: 24, gateway: None };
    let client = TcpClient::new(&Network::new(xen, front, Some(address), 0), SERVER.into());
    let mut stub = Stub { xen: xen.clone(), client };
    let mut far = Far { back, port: 0, seq: 0, ack: 0 };
    let mut reached = false;
    stub.client.open();
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        match input.u8() % 12 {
            0 => stub.client.open(),
            1..=3 => far.answer(),
            4 => {
                let len = usize::from(input.u16()) * 4;
                let _ = stub.client.send(&vec![7; len]);
            }
            5 => drop(stub.take()),
            _ => {
                reached |= stub.client.state() == TcpState::Open;
                hostile(&mut input, &far);
            }
        }
        let pauses = [1_000, 1_000_000, 20_000_000, 1_500_000_000];
        stub.turn(input.choose(&pauses));
    }
    works_again(&mut stub, &mut far);
    reached
}

/// Without another hostile frame, a new connection works.
fn works_again(stub: &mut Stub, far: &mut Far) {
    for _ in 0..4 {
        stub.turn(1_000_000);
    }
    drop(far.back.take_sent());
    stub.client.open();
    let mut told = false;
    for _ in 0..LAST_TURNS {
        stub.turn(1_100_000_000);
        far.answer();
        stub.turn(1_000_000);
        // What acknowledges the beginning tells where data begin.
        far.answer();
        if !told && stub.client.state() == TcpState::Open {
            told = true;
            far.send(&Segment { flags: ACK | PSH, data: b"abc", ..far.segment() });
        }
        if stub.client.received() > 0 {
            assert_eq!(stub.take(), b"abc");
            return;
        }
    }
    panic!("no connection can be used: {:?}", stub.client.state());
}

/// A number near that one, or any.
fn near(input: &mut Input<'_>, number: u32) -> u32 {
    match input.u8() % 8 {
        0 => input.u32(),
        1 | 2 => number.wrapping_add(input.u16().into()),
        3 | 4 => number.wrapping_sub(input.u16().into()),
        _ => number,
    }
}

/// A frame that is right in most ways.
fn hostile(input: &mut Input<'_>, far: &Far) {
    let kind = input.u8() % 16;
    let ip = match kind {
        0 => {
            let len = usize::from(input.u8());
            return far.back.deliver(input.bytes(len + 14));
        }
        1 | 2 => {
            let mut packet = arp(input.u16(), (FAR_MAC, *SERVER.ip()), (OUR_MAC, OURS));
            scribble(input, &mut packet);
            return far.deliver(ARP, &packet);
        }
        3 => Far::packet(1).bytes(&icmp(input.u8(), input.u8(), input.u32().to_be_bytes(), input.bytes(60))),
        4 => Far::packet(input.u8()).bytes(input.bytes(60)),
        5 => Packet { fragment: input.u16(), id: input.u16(), ..Far::packet(TCP) }.bytes(input.bytes(60)),
        _ => segment(input, far),
    };
    let mut ip = ip;
    match input.u8() % 8 {
        0 => scribble(input, &mut ip),
        1 => with_byte(&mut ip, input.below(20), input.u8()),
        2 => ip.truncate(input.below(64)),
        _ => {}
    }
    far.deliver(IPV4, &ip);
}

/// A segment of the connection, as a packet.
fn segment(input: &mut Input<'_>, far: &Far) -> Vec<u8> {
    let data = vec![input.u8(); usize::from(input.u16() % 1400)];
    let words = input.below(11);
    let options = input.bytes(words * 4).to_vec();
    let whole = options.len() / 4 * 4;
    let segment = Segment {
        seq: near(input, far.ack),
        ack: near(input, far.seq),
        flags: if input.u8().is_multiple_of(2) { ACK } else { input.u8() },
        window: input.u16(),
        options: &options[..whole],
        data: &data,
        ..far.segment()
    };
    let mut bytes = segment.bytes(*SERVER.ip(), OURS);
    match input.u8() % 8 {
        0 => scribble(input, &mut bytes),
        1 => {
            bytes.truncate(input.below(40));
            resum(&mut bytes, *SERVER.ip(), OURS);
        }
        2 => {
            scribble(input, &mut bytes);
            resum(&mut bytes, *SERVER.ip(), OURS);
        }
        _ => {}
    }
    Far::packet(TCP).bytes(&bytes)
}

/// Changes a byte.
fn scribble(input: &mut Input<'_>, bytes: &mut [u8]) {
    let at = usize::from(input.u8()) % bytes.len().max(1);
    if let Some(byte) = bytes.get_mut(at) {
        *byte = input.u8();
    }
}
