//! Frames on the bridge of the stubs, as anybody there could send them. The attacker also sees what is sent there.

pub mod build;
mod impostor;
mod link;
mod packets;
mod segments;

use std::net::Ipv4Addr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use build::{ACK, IPV4, Mac, Packet, Segment, TCP, frame};
use smoltcp::phy::{Device, Medium, RawSocket, RxToken, TxToken};
use smoltcp::time::Instant as Moment;

pub use impostor::impostor;
pub use link::LINK;
pub use packets::PACKETS;
pub use segments::SEGMENTS;

/// How long to wait for a frame of the connection.
const SEEN: Duration = Duration::from_secs(30);

/// One attack.
#[derive(Debug)]
pub struct Attack {
    /// As the report names it.
    pub name: &'static str,
    /// What it tries.
    pub tries: &'static str,
    /// Makes it. An error says why it could not be made, or what was harmed.
    pub run: fn(&mut Site) -> Result<(), String>,
}

/// Every attack.
pub fn all() -> impl Iterator<Item = &'static Attack> {
    SEGMENTS.iter().chain(PACKETS).chain(LINK)
}

/// Somebody on the network.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    /// The interface.
    pub mac: Mac,
    /// The address.
    pub address: Ipv4Addr,
}

/// A connection of the stub's, as its last frame had it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Flow {
    /// The stub's port.
    pub port: u16,
    /// The next number that it will send.
    pub seq: u32,
    /// The next number that it expects.
    pub ack: u32,
}

/// The network, and whom to attack.
#[derive(Debug)]
pub struct Site {
    socket: RawSocket,
    /// The stub.
    pub stub: Host,
    /// Its server.
    pub server: Host,
    /// The server's port.
    pub port: u16,
    /// Frames that the kernel did not take.
    pub refused: u64,
}

impl Site {
    /// On that interface.
    ///
    /// # Errors
    /// There is no such interface, or no right to it.
    pub fn new(interface: &str, stub: Host, server: Host, port: u16) -> std::io::Result<Site> {
        let socket = RawSocket::new(interface, Medium::Ethernet)?;
        Ok(Site { socket, stub, server, port, refused: 0 })
    }

    /// Sends a frame. One that the kernel does not take is counted.
    pub fn send(&mut self, frame: &[u8]) {
        let Some(token) = self.socket.transmit(Moment::ZERO) else { return };
        // smoltcp's socket panics where the kernel refuses.
        let sent = catch_unwind(AssertUnwindSafe(|| {
            token.consume(frame.len(), |place| place.copy_from_slice(frame))
        }));
        self.refused += u64::from(sent.is_err());
    }

    /// The next frame that somebody sent, if there is one.
    pub fn receive(&mut self) -> Option<Vec<u8>> {
        self.socket.receive(Moment::ZERO).map(|(token, _)| token.consume(<[u8]>::to_vec))
    }

    /// Sends a payload of that protocol to the stub in the server's name.
    pub fn send_as_server(&mut self, protocol: u8, payload: &[u8]) {
        let packet = self.packet(protocol).bytes(payload);
        self.send_packet(&packet);
    }

    /// Sends a packet to the stub from the server's interface.
    pub fn send_packet(&mut self, packet: &[u8]) {
        self.send(&frame(self.stub.mac, self.server.mac, IPV4, packet));
    }

    /// A packet of the server's for the stub.
    #[must_use]
    pub fn packet(&self, protocol: u8) -> Packet {
        Packet { from: self.server.address, to: self.stub.address, protocol, fragment: 0, id: 0 }
    }

    /// A segment of the server's, as it would follow the stub's last frame.
    #[must_use]
    pub fn segment<'a>(&self, flow: &Flow) -> Segment<'a> {
        let ports = (self.port, flow.port);
        Segment { ports, seq: flow.ack, ack: flow.seq, flags: ACK, window: 500, options: &[], data: &[] }
    }

    /// Sends a segment in the server's name.
    pub fn send_segment(&mut self, segment: &Segment<'_>) {
        let bytes = segment.bytes(self.server.address, self.stub.address);
        self.send_as_server(TCP, &bytes);
    }

    /// The stub's connection, by the next frame that it sends.
    ///
    /// # Errors
    /// It sends none.
    pub fn flow(&mut self) -> Result<Flow, String> {
        // What waits is old.
        while self.receive().is_some() {}
        let until = Instant::now() + SEEN;
        while Instant::now() < until {
            match self.receive() {
                Some(frame) => {
                    if let Some(flow) = self.flow_of(&frame) {
                        return Ok(flow);
                    }
                }
                None => std::thread::sleep(Duration::from_micros(200)),
            }
        }
        Err("no frame of the stub's connection".to_owned())
    }

    fn flow_of(&self, frame: &[u8]) -> Option<Flow> {
        let seen = Seen::parse(frame, self.stub.address, self.port)?;
        (seen.flags == ACK || seen.flags == ACK | build::PSH).then_some(Flow {
            port: seen.port,
            seq: seen.seq.wrapping_add(seen.len),
            ack: seen.ack,
        })
    }

    /// Does it again and again for so long; how often.
    pub fn flood(&mut self, time: Duration, mut send: impl FnMut(&mut Site, u32)) -> u32 {
        let until = Instant::now() + time;
        let mut count = 0_u32;
        while Instant::now() < until {
            for _ in 0..32 {
                send(self, count);
                count = count.wrapping_add(1);
            }
        }
        count
    }
}

/// A segment that somebody sent.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// The sender's port.
    pub port: u16,
    /// Where its data begin.
    pub seq: u32,
    /// What it expects next.
    pub ack: u32,
    /// Its flags.
    pub flags: u8,
    /// Bytes of its data.
    pub len: u32,
}

impl Seen {
    /// Reads a frame that carries a segment from that address to that port.
    #[must_use]
    pub fn parse(frame: &[u8], from: Ipv4Addr, port: u16) -> Option<Seen> {
        let (head, packet) = frame.split_at_checked(14)?;
        if head.get(12..) != Some(&IPV4.to_be_bytes()) || packet.get(9) != Some(&TCP) {
            return None;
        }
        let total = usize::from(u16::from_be_bytes(*packet.get(2..)?.first_chunk()?));
        let header = usize::from(packet.first()? & 15) * 4;
        let segment = packet.get(header..total.min(packet.len()))?;
        let number = |at: usize| Some(u32::from_be_bytes(*segment.get(at..)?.first_chunk()?));
        let ports = number(0)?;
        if packet.get(12..16)? != from.octets() || ports & 0xffff != u32::from(port) {
            return None;
        }
        let data = total.saturating_sub(header).saturating_sub(usize::from(segment.get(12)? >> 4) * 4);
        Some(Seen {
            port: u16::try_from(ports >> 16).ok()?,
            seq: number(4)?,
            ack: number(8)?,
            flags: *segment.get(13)?,
            len: u32::try_from(data).ok()?,
        })
    }
}
