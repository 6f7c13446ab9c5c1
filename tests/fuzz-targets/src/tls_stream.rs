//! Our TLS client against a server that has the key and sends anything, and a network that changes what it sends.

use crate::Input;
use tls::fake::{Misdeed, Server};
use tls::{DATA_MAX_BYTES, Fault, Secrets, Session};

const STEPS: u32 = 40;
const MISDEEDS: [Misdeed; 10] = [
    Misdeed::Retry,
    Misdeed::NoKey,
    Misdeed::OtherKey,
    Misdeed::OtherCipher,
    Misdeed::OldVersion,
    Misdeed::ZeroShare,
    Misdeed::OddExtension,
    Misdeed::BadProof,
    Misdeed::Trailing,
    Misdeed::TrailingPlain,
];

struct Driven {
    client: Session,
    server: Server,
    /// What the server has sent as data, and the client has not got.
    due: Vec<u8>,
    fault: Option<Fault>,
    got: bool,
}

/// Runs a hostile server. Returns whether data came through.
///
/// # Panics
/// If the client takes for data what the server did not send as such, or goes on after a fault.
pub fn tls_stream(data: &[u8]) -> bool {
    let mut input = Input::new(data);
    let words = format!("{} {} web", "5a".repeat(32), "11".repeat(32));
    let mut secrets = Secrets::parse(&words).expect("good words");
    let client = Session::new(&mut secrets).expect("a short identity");
    let mut server = Server::new("web", &[0x11; 32]);
    // Seldom: without an open connection nothing else can be reached.
    let twist = input.u8();
    if twist >= 224 {
        server.set_misdeed(input.choose(&MISDEEDS));
    }
    let mut driven = Driven { client, server, due: Vec::new(), fault: None, got: false };
    driven.server.receive(driven.client.outgoing().as_ref());
    let mut flight = driven.server.output();
    if (160..224).contains(&twist) {
        for _ in 0..=input.u8() % 4 {
            let at = usize::from(input.u16()) % flight.len();
            flight[at] = input.u8();
        }
    }
    driven.feed(&flight, 1 + usize::from(input.u8()));
    if driven.client.is_open() {
        driven.server.receive(driven.client.outgoing().as_ref());
        assert!(driven.server.is_open(), "a proof that the server takes");
        for _ in 0..STEPS {
            if input.is_empty() {
                break;
            }
            driven.step(&mut input);
        }
    }
    driven.got
}

impl Driven {
    fn step(&mut self, input: &mut Input<'_>) {
        let len = usize::from(input.u8()) * usize::from(input.u8() % 80);
        match input.u8() % 6 {
            0 | 1 => {
                let data = vec![input.u8() | 1; len.min(DATA_MAX_BYTES)];
                self.server.send(&data);
                self.due.extend(&data);
            }
            2 => {
                let kind = input.choose(&[20, 21, 22, 22, 22, 24, 0]);
                let len = input.below(64);
                self.server.send_record(kind, input.bytes(len));
            }
            3 => self.server.update(input.u8() & 1 == 1),
            4 => {
                let data = vec![input.u8(); len.min(DATA_MAX_BYTES)];
                if let Some(sealed) = self.client.seal(&data) {
                    assert!(self.server.receive(sealed) == data, "what was sent");
                }
            }
            _ => {
                let len = input.below(40);
                let raw = input.bytes(len).to_vec();
                self.feed(&raw, usize::MAX);
            }
        }
        let said = self.server.output();
        self.feed(&said, 1 + usize::from(input.u8()) * 8);
    }

    fn feed(&mut self, bytes: &[u8], cut: usize) {
        for mut part in bytes.chunks(cut) {
            while !part.is_empty() {
                match self.client.take(part) {
                    Ok(taken) => part = &part[taken..],
                    Err(fault) => {
                        assert_eq!(*self.fault.get_or_insert(fault), fault, "the first one stays");
                        assert!(self.client.data().is_empty() && self.client.seal(b"x").is_none());
                        return;
                    }
                }
                assert_eq!(self.fault, None, "a connection that is over does nothing");
                let data = self.client.data();
                assert!(data.len() <= DATA_MAX_BYTES && self.due.starts_with(data), "what the server sent");
                self.got |= !data.is_empty();
                self.due.drain(..data.len());
                self.client.consume(self.client.data().len());
            }
        }
    }
}
