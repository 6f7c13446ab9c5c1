//! Our NBD client against a server that sends anything.

use crate::Input;
use nbd::wire::{
    FLAG_HAS_FLAGS, INFO_BLOCK_SIZE, INFO_EXPORT, INIT_MAGIC, OPT_GO, OPTION_MAGIC, OPTION_REPLY_MAGIC,
    REP_ACK, REP_INFO, SIMPLE_REPLY_MAGIC,
};
use nbd::{Client, Command, Event, Fault, REQUESTS_MAX, Security};
use std::collections::BTreeMap;

const STEPS: u64 = 200;

/// A request that is not over: how much a read wants, and has got.
struct UnderWay {
    cookie: u64,
    read_bytes: u32,
    got_bytes: u32,
}

/// The client, and what it was asked for and has not answered.
struct Driven {
    client: Client,
    under_way: BTreeMap<u64, UnderWay>,
    ready: bool,
    over: Option<Fault>,
    /// Whether a request was completed well.
    completed: bool,
}

/// Runs a hostile server. Returns whether a request was completed well.
///
/// # Panics
/// If a request completes that is not under way, or twice; if a read gets more or less than it asked
/// for; if a connection that is over does anything.
pub fn nbd_stream(data: &[u8]) -> bool {
    let mut input = Input::new(data);
    let client = Client::new("disk", Security::Plain, 0).expect("a short name");
    let mut driven =
        Driven { client, under_way: BTreeMap::new(), ready: false, over: None, completed: false };
    // Nearly always: without an export nothing else can be reached.
    if !input.u8().is_multiple_of(16) {
        let words = negotiation(&mut input);
        let cut = 1 + usize::from(input.u8());
        words.chunks(cut).for_each(|part| driven.receive(part));
    }
    for id in 0..STEPS {
        if input.is_empty() {
            break;
        }
        match input.u8() % 8 {
            0..=2 => driven.submit(id, &mut input),
            3..=5 => driven.reply(&mut input),
            6 => {
                let len = input.below(64);
                driven.receive(input.bytes(len));
            }
            _ => driven.pass_time(u64::from(input.u8()) << 26),
        }
        driven.check();
    }
    driven.completed
}

/// What a server says before there is an export, right in most ways.
fn negotiation(input: &mut Input<'_>) -> Vec<u8> {
    let twist = input.u8();
    let odd = |bit: u8| twist & 0xf0 == 0xf0 && twist & bit != 0;
    let mut words = Vec::new();
    words.extend((INIT_MAGIC ^ u64::from(odd(1))).to_be_bytes());
    words.extend((OPTION_MAGIC ^ u64::from(odd(2))).to_be_bytes());
    words.extend(1u16.to_be_bytes());
    for _ in 0..input.u8() % 4 {
        let kind = input.choose(&[INFO_BLOCK_SIZE, INFO_BLOCK_SIZE, 1, INFO_EXPORT]);
        let len = if kind == INFO_BLOCK_SIZE { 12 } else { input.below(20) };
        let mut data = kind.to_be_bytes().to_vec();
        if kind == INFO_BLOCK_SIZE && !odd(4) {
            let sizes = [1u32 << (input.u8() % 14), 4096, 1 << (12 + input.u8() % 20)];
            data.extend(sizes.map(u32::to_be_bytes).concat());
        } else {
            data.extend(input.bytes(len));
        }
        words.extend(reply(REP_INFO, &data));
    }
    let size = if odd(8) { input.u64() } else { 1 << (9 + input.u8() % 20) };
    let flags = FLAG_HAS_FLAGS | u16::from(input.u8());
    let export = [&INFO_EXPORT.to_be_bytes()[..], &size.to_be_bytes(), &flags.to_be_bytes()].concat();
    words.extend(reply(REP_INFO, &export));
    words.extend(reply(REP_ACK, &[]));
    words
}

fn reply(kind: u32, data: &[u8]) -> Vec<u8> {
    let len = u32::try_from(data.len()).expect("short");
    let numbers = [OPT_GO, kind, len].map(u32::to_be_bytes).concat();
    [&OPTION_REPLY_MAGIC.to_be_bytes()[..], &numbers, data].concat()
}

impl Driven {
    fn receive(&mut self, mut bytes: &[u8]) {
        loop {
            let before = bytes.len();
            let event = match self.client.receive(&mut bytes) {
                Ok(Some(event)) => event,
                Ok(None) => return assert!(bytes.is_empty(), "all is taken"),
                Err(fault) => {
                    assert_eq!(*self.over.get_or_insert(fault), fault, "the first one stays");
                    return;
                }
            };
            assert_eq!(self.over, None, "a connection that is over does nothing");
            assert!(bytes.len() <= before);
            self.take(&event);
        }
    }

    fn take(&mut self, event: &Event<'_>) {
        match *event {
            Event::Greeted => assert!(!self.client.opening().is_empty()),
            Event::StartTls => unreachable!("nobody asked for it"),
            Event::Ready(export) => {
                assert!(!std::mem::replace(&mut self.ready, true), "once");
                let block = u64::from(export.block_bytes);
                assert!(block.is_power_of_two() && block >= 512, "a block");
                assert!(export.size_bytes >= block && export.size_bytes.is_multiple_of(block));
                assert!((export.block_bytes..=32 << 20).contains(&export.max_payload_bytes));
            }
            Event::Data { id, skip_bytes, bytes } => {
                let request = self.under_way.get_mut(&id).expect("under way");
                assert_eq!(skip_bytes, request.got_bytes, "in order, without gaps");
                request.got_bytes += u32::try_from(bytes.len()).expect("short");
                assert!(!bytes.is_empty() && request.got_bytes <= request.read_bytes, "not beyond its end");
            }
            Event::Done { id, outcome } => {
                let request = self.under_way.remove(&id).expect("under way, and once");
                let expected = if outcome.is_ok() { request.read_bytes } else { 0 };
                assert_eq!(request.got_bytes, expected, "all of it, or nothing");
                self.completed |= outcome.is_ok();
            }
        }
    }

    fn submit(&mut self, id: u64, input: &mut Input<'_>) {
        let kind = input.u8();
        let offset = if kind & 0x80 != 0 { input.u64() } else { u64::from(input.u8() % 4) * 512 };
        let len_bytes = if kind & 0x40 != 0 { input.u32() } else { 512 * u32::from(input.u8() % 4) };
        let durable = kind & 0x20 != 0;
        let command = match kind % 6 {
            0 | 1 => Command::Read { offset, len_bytes },
            2 => Command::Write { offset, len_bytes, durable },
            3 => Command::Flush,
            4 => Command::Trim { offset, len_bytes },
            _ => Command::WriteZeroes { offset, len_bytes, durable },
        };
        let Ok(header) = self.client.submit(id, command) else { return };
        assert!(self.ready && self.over.is_none());
        let cookie = u64::from_be_bytes(header[8..16].try_into().expect("eight bytes"));
        let read_bytes = if kind % 6 < 2 { len_bytes } else { 0 };
        assert!(self.under_way.values().all(|other| other.cookie != cookie), "no cookie is given twice");
        self.under_way.insert(id, UnderWay { cookie, read_bytes, got_bytes: 0 });
    }

    /// A reply to one of the requests, right in most ways.
    fn reply(&mut self, input: &mut Input<'_>) {
        let twist = input.u8();
        let which = input.below(8);
        let request = self.under_way.values().nth(which).or(self.under_way.values().next());
        let (mut cookie, read_bytes) = request.map_or((0, 0), |request| (request.cookie, request.read_bytes));
        let error = if twist & 3 == 3 { u32::from(input.u8()) } else { 0 };
        let mut len = if error == 0 { read_bytes } else { 0 };
        match twist >> 4 {
            0xf => cookie = cookie.wrapping_add(input.u64()),
            0xe => len = len.saturating_add(u32::from(input.u8())),
            0xd => len = len.min(u32::from(input.u8())),
            _ => {}
        }
        // A longer read stays without its end: what it costs in time shows nothing new.
        let data = vec![twist; len.min(1 << 11) as usize];
        let header = [&SIMPLE_REPLY_MAGIC.to_be_bytes()[..], &error.to_be_bytes(), &cookie.to_be_bytes()];
        self.receive(&header.concat());
        self.receive(&data);
    }

    fn pass_time(&mut self, now_ns: u64) {
        if let Err(fault) = self.client.check(now_ns) {
            assert_eq!(*self.over.get_or_insert(fault), fault, "the first one stays");
        }
    }

    /// What must hold after every step.
    fn check(&self) {
        let mut ids: Vec<u64> = self.client.in_flight_ids().collect();
        ids.sort_unstable();
        assert!(ids.iter().eq(self.under_way.keys()), "what is under way");
        assert!(ids.len() <= usize::from(REQUESTS_MAX));
        assert_eq!(self.client.export().is_some(), self.ready && self.over.is_none());
    }
}
