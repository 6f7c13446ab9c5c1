//! A server for host tests. It keeps the protocol's rules unless a test asks it to break one, and it panics when the
//! client breaks one.
#![expect(clippy::expect_used, clippy::panic, reason = "a fake that cannot go on ends its test")]
#![expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "test support: a panic is a verdict"
)]

use crate::bytes::Reader;
use crate::hello::{
    BINDERS_BYTES, CIPHER, GROUP, KEY_SHARE, PRE_SHARED_KEY, PSK_KEY_EXCHANGE_MODES, RETRY, SUPPORTED_GROUPS,
    SUPPORTED_VERSIONS,
};
use crate::messages::{
    CLIENT_HELLO, ENCRYPTED_EXTENSIONS, FINISHED, KEY_UPDATE, NEW_SESSION_TICKET, SERVER_HELLO,
};
use crate::record::{
    Direction, HEADER_BYTES, TAG_BYTES, TYPE_ALERT, TYPE_CHANGE_CIPHER_SPEC, TYPE_DATA, TYPE_HANDSHAKE,
    header,
};
use crate::schedule::{Early, HASH_BYTES, Master, Transcript, is_proof, proof};
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use x25519_dalek::{X25519_BASEPOINT_BYTES, x25519};
use zeroize::Zeroizing;

/// A broken rule.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Misdeed {
    /// It asks for another group.
    Retry,
    /// It does not use the key: the extension is missing.
    NoKey,
    /// It names another key than the only one.
    OtherKey,
    /// Another cipher than the one that it was offered.
    OtherCipher,
    /// An older version.
    OldVersion,
    /// A share that makes the shared secret zero.
    ZeroShare,
    /// An extension that nobody asked for.
    OddExtension,
    /// Its proof is of something else.
    BadProof,
    /// A byte that is sealed with the keys of the handshake comes behind the proof.
    Trailing,
    /// The hello is followed by a message that is not sealed, in the same record.
    TrailingPlain,
}

enum Phase {
    Hello,
    /// The client's proof is of this hash.
    Finish(Direction, Direction, Master, [u8; HASH_BYTES]),
    Open(Direction, Direction),
    Over,
}

/// The server's side of one connection.
pub struct Server {
    identity: String,
    key: Vec<u8>,
    misdeed: Option<Misdeed>,
    phase: Phase,
    input: Vec<u8>,
    output: Vec<u8>,
    /// How often the client has changed its keys.
    pub updates: u32,
    /// The random number and share of the hello.
    pub hello_randoms: Vec<u8>,
}

impl Server {
    /// A server that knows one identity.
    #[must_use]
    pub fn new(identity: &str, key: &[u8]) -> Server {
        Server {
            identity: identity.to_string(),
            key: key.to_vec(),
            misdeed: None,
            phase: Phase::Hello,
            input: Vec::new(),
            output: Vec::new(),
            updates: 0,
            hello_randoms: Vec::new(),
        }
    }

    /// It will do this.
    pub fn set_misdeed(&mut self, misdeed: Misdeed) {
        self.misdeed = Some(misdeed);
    }

    /// Whether the client has proved that it has the key.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open(..))
    }

    /// What it sends.
    #[must_use]
    pub fn output(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.output)
    }

    /// Takes bytes of the client; the data in them.
    ///
    /// # Panics
    /// If the client breaks a rule of the protocol.
    pub fn receive(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.input.extend_from_slice(bytes);
        let mut data = Vec::new();
        while self.input.len() >= HEADER_BYTES {
            let end = HEADER_BYTES + usize::from(u16::from_be_bytes([self.input[3], self.input[4]]));
            if self.input.len() < end {
                break;
            }
            let record: Vec<u8> = self.input.drain(..end).collect();
            data.extend(self.record(record));
        }
        data
    }

    fn record(&mut self, mut record: Vec<u8>) -> Vec<u8> {
        match core::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Hello => {
                assert_eq!(record[0], TYPE_HANDSHAKE);
                self.hello(&record[HEADER_BYTES..]);
            }
            Phase::Finish(mut ours, mut theirs, master, hash) => {
                let (kind, message) = theirs.open(&mut record).expect("a record of the client");
                assert_eq!((kind, &message[..4]), (TYPE_HANDSHAKE, &[FINISHED, 0, 0, 32][..]));
                assert!(is_proof(theirs.secret(), &hash, &message[4..]), "the client's proof");
                let (client, server) = master.traffic(&hash);
                ours = if self.misdeed == Some(Misdeed::Trailing) { ours } else { Direction::new(server) };
                self.phase = Phase::Open(ours, Direction::new(client));
            }
            Phase::Open(ours, mut theirs) => {
                let (kind, content) = theirs.open(&mut record).expect("a record of the client");
                let content = content.to_vec();
                if kind == TYPE_HANDSHAKE {
                    assert_eq!(content, [KEY_UPDATE, 0, 0, 1, 0]);
                    theirs.update();
                    self.updates += 1;
                    self.phase = Phase::Open(ours, theirs);
                    return Vec::new();
                }
                assert_eq!(kind, TYPE_DATA);
                self.phase = Phase::Open(ours, theirs);
                return content;
            }
            Phase::Over => {}
        }
        Vec::new()
    }

    fn alert(&mut self, kind: u8) {
        self.output.extend(header(TYPE_ALERT, 2));
        self.output.extend([2, kind]);
    }

    fn hello(&mut self, message: &[u8]) {
        assert_eq!(message[0], CLIENT_HELLO);
        let mut hello = Reader(&message[4..]);
        assert_eq!(hello.array(), Some([3, 3]));
        self.hello_randoms = hello.take(32).expect("a random number").to_vec();
        assert_eq!(hello.short(), Some(&[][..]));
        assert_eq!(hello.long(), Some(&CIPHER[..]));
        assert_eq!(hello.short(), Some(&[0][..]));
        let mut extensions = Reader(hello.long().expect("extensions"));
        let mut take = |kind| {
            assert_eq!(extensions.u16(), Some(kind));
            extensions.long().expect("an extension")
        };
        assert_eq!(take(SUPPORTED_VERSIONS), [2, 3, 4]);
        assert_eq!(take(SUPPORTED_GROUPS), [0, 2, 0, 29]);
        let share = take(KEY_SHARE);
        assert_eq!(share[..6], [0, 36, 0, 29, 0, 32]);
        let share: [u8; 32] = share[6..].try_into().expect("a share");
        self.hello_randoms.extend(share);
        assert_eq!(take(PSK_KEY_EXCHANGE_MODES), [1, 1]);
        let mut keys = Reader(take(PRE_SHARED_KEY));
        let mut identities = Reader(keys.long().expect("identities"));
        let identity = identities.long().expect("an identity");
        assert_eq!(identities.0, [0; 4]);
        if identity != self.identity.as_bytes() {
            return self.alert(115);
        }
        let mut transcript = Transcript::new();
        transcript.add(&message[..message.len() - BINDERS_BYTES]);
        let early = Early::new(&self.key);
        if !is_proof(&early.binder_key(), &transcript.hash(), &message[message.len() - HASH_BYTES..]) {
            return self.alert(51);
        }
        let mut transcript = Transcript::new();
        transcript.add(message);
        self.answer(&early, transcript, share);
    }

    fn answer(&mut self, early: &Early, mut transcript: Transcript, share: [u8; 32]) {
        let private = [9; 32];
        let message = self.server_hello(x25519(private, X25519_BASEPOINT_BYTES));
        transcript.add(&message);
        let mut record = message;
        if self.misdeed == Some(Misdeed::TrailingPlain) {
            record.extend([ENCRYPTED_EXTENSIONS, 0, 0, 2, 0, 0]);
        }
        self.output.extend(header(TYPE_HANDSHAKE, record.len()));
        self.output.extend(record);
        // For old firewalls.
        self.output.extend([TYPE_CHANGE_CIPHER_SPEC, 3, 3, 0, 1, 1]);
        let shared = Zeroizing::new(x25519(private, share));
        let (client, server, master) = early.handshake(&shared, &transcript.hash());
        let mut ours = Direction::new(server);
        let extensions = [ENCRYPTED_EXTENSIONS, 0, 0, 2, 0, 0];
        transcript.add(&extensions);
        let mut proof = proof(ours.secret(), &transcript.hash());
        if self.misdeed == Some(Misdeed::BadProof) {
            proof[31] ^= 1;
        }
        let mut finished = [&[FINISHED, 0, 0, 32][..], &proof].concat();
        transcript.add(&finished);
        if self.misdeed == Some(Misdeed::Trailing) {
            finished.extend([NEW_SESSION_TICKET]);
        }
        // Two messages, cut where it is odd.
        let messages = [&extensions[..], &finished].concat();
        for part in [&messages[..7], &messages[7..]] {
            let record = seal(&mut ours, TYPE_HANDSHAKE, part, 3);
            self.output.extend(record);
        }
        self.phase = Phase::Finish(ours, Direction::new(client), master, transcript.hash());
    }

    fn server_hello(&self, public: [u8; 32]) -> Vec<u8> {
        let is = |misdeed| self.misdeed == Some(misdeed);
        let mut extensions = Vec::new();
        let mut add = |kind: u16, content: &[u8]| {
            let len = u16::try_from(content.len()).expect("short");
            extensions.extend(
                kind.to_be_bytes().into_iter().chain(len.to_be_bytes()).chain(content.iter().copied()),
            );
        };
        if !is(Misdeed::NoKey) {
            add(PRE_SHARED_KEY, &[0, u8::from(is(Misdeed::OtherKey))]);
        }
        if is(Misdeed::OddExtension) {
            add(16, &[0, 0]);
        }
        let public = if is(Misdeed::ZeroShare) { [0; 32] } else { public };
        add(KEY_SHARE, &[&GROUP[..], &[0, 32], &public].concat());
        add(SUPPORTED_VERSIONS, &[3, if is(Misdeed::OldVersion) { 3 } else { 4 }]);
        let random = if is(Misdeed::Retry) { RETRY } else { [7; 32] };
        let cipher = if is(Misdeed::OtherCipher) { [0x13, 1] } else { CIPHER };
        let len = u16::try_from(extensions.len()).expect("short").to_be_bytes();
        let body = [&[3, 3][..], &random, &[0], &cipher, &[0], &len, &extensions].concat();
        let [_, len @ ..] = u32::try_from(body.len()).expect("short").to_be_bytes();
        [&[SERVER_HELLO][..], &len, &body].concat()
    }

    /// Sends a record with content of that type, padded.
    ///
    /// # Panics
    /// If the connection is not open.
    pub fn send_record(&mut self, kind: u8, content: &[u8]) {
        let Phase::Open(ours, _) = &mut self.phase else { panic!("not open") };
        let record = seal(ours, kind, content, 0);
        self.output.extend(record);
    }

    /// Sends data.
    pub fn send(&mut self, data: &[u8]) {
        data.chunks(crate::DATA_MAX_BYTES).for_each(|data| self.send_record(TYPE_DATA, data));
    }

    /// Changes its keys, and may want the client's changed too.
    pub fn update(&mut self, client_too: bool) {
        self.send_record(TYPE_HANDSHAKE, &[KEY_UPDATE, 0, 0, 1, u8::from(client_too)]);
        if let Phase::Open(ours, _) = &mut self.phase {
            ours.update();
        }
    }

    /// Gives the client a ticket.
    pub fn ticket(&mut self) {
        self.send_record(TYPE_HANDSHAKE, &[&[NEW_SESSION_TICKET, 0, 0, 40][..], &[5; 40]].concat());
    }
}

fn seal(ours: &mut Direction, kind: u8, content: &[u8], padding: usize) -> Vec<u8> {
    let mut record = vec![0; HEADER_BYTES];
    record.extend_from_slice(content);
    record.push(kind);
    record.extend(vec![0; padding + TAG_BYTES]);
    ours.seal(&mut record).expect("room");
    record
}
