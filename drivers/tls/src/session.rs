//! One connection: the handshake, then data both ways.

use crate::bytes::Writer;
use crate::error::Fault;
use crate::hello::{HELLO_MAX_BYTES, client_hello, server_hello};
use crate::messages::{
    ENCRYPTED_EXTENSIONS, FINISHED, KEY_UPDATE, KIND_AND_LENGTH_BYTES, Messages, NEW_SESSION_TICKET,
    SERVER_HELLO,
};
use crate::record::{
    DATA_MAX_BYTES, Direction, HEADER_BYTES, RECORD_OVERHEAD_BYTES, SEALED_MAX_BYTES, TAG_BYTES, TYPE_ALERT,
    TYPE_CHANGE_CIPHER_SPEC, TYPE_DATA, TYPE_HANDSHAKE, UPDATE_BYTES, header,
};
use crate::schedule::{Early, HASH_BYTES, Master, Transcript, is_proof, proof};
use crate::secrets::Secrets;
use alloc::boxed::Box;
use core::fmt;
use core::ops::Range;
use zeroize::Zeroizing;

/// Records without data that may come one after the other: hellos, tickets, key updates, empty ones.
const NO_DATA_MAX: u32 = 32;
/// Bytes of a record of ours before there is data, at most.
const OUTGOING_MAX_BYTES: usize = HEADER_BYTES + HELLO_MAX_BYTES;
/// The level of every alert that ends a connection, but `close_notify`, is of no meaning.
const CLOSE_NOTIFY: u8 = 0;

enum State {
    /// For the server's hello, with the private half of our share.
    Greeting(Early, Zeroizing<[u8; 32]>),
    /// For the server's extensions; both directions' keys of the handshake.
    Extensions(Box<Keys>),
    /// For its `Finished`.
    Finish(Box<Keys>),
    Open(Box<Directions>),
    Over(Fault),
}

struct Keys {
    directions: Directions,
    master: Master,
}

struct Directions {
    ours: Direction,
    theirs: Direction,
    /// The server wants our keys changed before we send more.
    update_due: bool,
}

/// A client's side of a TLS connection.
///
/// What it wants sent is [`Session::outgoing`], before anything else and after each [`Session::take`]. Once it is open,
/// data to be sent go through [`Session::seal`], and those that came are [`Session::data`].
pub struct Session {
    state: State,
    transcript: Transcript,
    messages: Messages,
    /// A record that has not come to its end, or its opened content.
    input: Box<[u8]>,
    filled: usize,
    data: Range<usize>,
    outgoing: heapless::Vec<u8, OUTGOING_MAX_BYTES>,
    output: Box<[u8]>,
    /// How many records without data may still come.
    patience: u32,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Session(..)")
    }
}

impl Session {
    /// Begins a handshake.
    ///
    /// # Errors
    /// None that the server or the network brings about.
    pub fn new(secrets: &mut Secrets) -> Result<Session, Fault> {
        let early = Early::new(&secrets.key);
        let (hello, private) = client_hello(secrets, &early)?;
        let mut transcript = Transcript::new();
        transcript.add(&hello);
        let mut outgoing = Writer::<OUTGOING_MAX_BYTES>::new();
        outgoing.put(&header(TYPE_HANDSHAKE, hello.len()));
        outgoing.put(&hello);
        Ok(Session {
            state: State::Greeting(early, private),
            transcript,
            messages: Messages::default(),
            input: alloc::vec![0; HEADER_BYTES + SEALED_MAX_BYTES].into(),
            filled: 0,
            data: 0..0,
            outgoing: outgoing.end()?,
            output: alloc::vec![0; UPDATE_BYTES + DATA_MAX_BYTES + RECORD_OVERHEAD_BYTES].into(),
            patience: NO_DATA_MAX,
        })
    }

    /// Whether the server has proved that it has the key, and data may be sent.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// What has to be sent now, once.
    #[must_use]
    pub fn outgoing(&mut self) -> impl AsRef<[u8]> + use<> {
        core::mem::take(&mut self.outgoing)
    }

    /// Data that came and was not consumed yet.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        self.input.get(self.data.clone()).unwrap_or_default()
    }

    /// The first `len` bytes of [`Session::data`] are done with.
    pub fn consume(&mut self, len: usize) {
        self.data.start = self.data.start.saturating_add(len).min(self.data.end);
    }

    /// Why it is over, if it is.
    #[must_use]
    pub fn fault(&self) -> Option<Fault> {
        if let State::Over(fault) = self.state { Some(fault) } else { None }
    }

    /// Takes received bytes off the front of `bytes`, up to the end of a record; how many. None while there is
    /// [`Session::data`].
    ///
    /// # Errors
    /// [`Fault`], now and ever after.
    pub fn take(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        if let Some(fault) = self.fault() {
            return Err(fault);
        }
        if !self.data.is_empty() {
            return Ok(0);
        }
        let taken = self.fill(bytes).and_then(|(taken, is_whole)| {
            if is_whole {
                self.record()?;
            }
            Ok(taken)
        });
        // The keys go with the state.
        taken.inspect_err(|fault| self.state = State::Over(*fault))
    }

    /// Puts bytes together to a record: how many of them belong to it, and whether it is whole.
    fn fill(&mut self, bytes: &[u8]) -> Result<(usize, bool), Fault> {
        let mut rest = bytes;
        self.fill_up_to(HEADER_BYTES, &mut rest);
        let mut is_whole = false;
        if self.filled >= HEADER_BYTES {
            let end = HEADER_BYTES.saturating_add(self.content_bytes()?);
            self.fill_up_to(end, &mut rest);
            is_whole = self.filled == end;
        }
        Ok((bytes.len().saturating_sub(rest.len()), is_whole))
    }

    fn fill_up_to(&mut self, end: usize, rest: &mut &[u8]) {
        let missing = end.saturating_sub(self.filled).min(rest.len());
        let place = self.input.get_mut(self.filled..self.filled.saturating_add(missing));
        if let (Some(place), Some((now, later))) = (place, rest.split_at_checked(missing)) {
            place.copy_from_slice(now);
            *rest = later;
            self.filled = self.filled.saturating_add(missing);
        }
    }

    /// Bytes behind the header that has come.
    fn content_bytes(&self) -> Result<usize, Fault> {
        let Some(&[kind, 3, _, high, low]) = self.input.first_chunk() else {
            return Err(Fault::Unexpected("record"));
        };
        let len = usize::from(u16::from_be_bytes([high, low]));
        let max = if kind == TYPE_DATA { SEALED_MAX_BYTES } else { DATA_MAX_BYTES };
        if len == 0 || len > max {
            return Err(Fault::Unexpected("length of a record"));
        }
        Ok(len)
    }

    /// A record has come.
    fn record(&mut self) -> Result<(), Fault> {
        let len = core::mem::take(&mut self.filled);
        self.patience = self.patience.checked_sub(1).ok_or(Fault::NoData)?;
        let is_open = self.is_open();
        let record = self.input.get_mut(..len).unwrap_or_default();
        let theirs = match &mut self.state {
            State::Greeting(..) => None,
            State::Extensions(keys) | State::Finish(keys) => Some(&mut keys.directions.theirs),
            State::Open(directions) => Some(&mut directions.theirs),
            State::Over(fault) => return Err(*fault),
        };
        let (kind, content) = match (record.first().copied(), theirs) {
            // Without meaning since TLS 1.3, but servers send it for the sake of old firewalls.
            (Some(TYPE_CHANGE_CIPHER_SPEC), _) if !is_open => {
                return if record.get(HEADER_BYTES..) == Some(&[1]) {
                    Ok(())
                } else {
                    Err(Fault::Unexpected("record"))
                };
            }
            (Some(TYPE_DATA), Some(theirs)) => theirs.open(record)?,
            (Some(kind @ (TYPE_HANDSHAKE | TYPE_ALERT)), None) => {
                (kind, record.get(HEADER_BYTES..).unwrap_or_default())
            }
            // What is not sealed may be anybody's.
            (_, Some(_)) => return Err(Fault::Forged),
            (_, None) => return Err(Fault::Unexpected("record")),
        };
        match kind {
            TYPE_HANDSHAKE => {
                self.messages.add(content)?;
                self.read_messages()
            }
            TYPE_ALERT => Err(alert(content)),
            TYPE_DATA if is_open && self.messages.is_empty() => {
                self.data = HEADER_BYTES..HEADER_BYTES.saturating_add(content.len());
                if !content.is_empty() {
                    self.patience = NO_DATA_MAX;
                }
                Ok(())
            }
            _ => Err(Fault::Unexpected("record")),
        }
    }

    fn read_messages(&mut self) -> Result<(), Fault> {
        while let Some((kind, message)) = self.messages.next()? {
            // Each has its turn, so the state has to be taken apart; a fault leaves none.
            let state = core::mem::replace(&mut self.state, State::Over(Fault::Unexpected("message")));
            self.state = match (state, kind) {
                (State::Greeting(early, private), SERVER_HELLO) => {
                    self.greeted(&message, &early, &private)?
                }
                (State::Extensions(keys), ENCRYPTED_EXTENSIONS) => {
                    // Nothing was asked for that would be answered there.
                    self.transcript.add(&message);
                    State::Finish(keys)
                }
                (State::Finish(keys), FINISHED) => self.finished(&message, *keys)?,
                // Nothing is resumed.
                (State::Open(directions), NEW_SESSION_TICKET) => State::Open(directions),
                (State::Open(directions), KEY_UPDATE) => self.updated(&message, directions)?,
                _ => return Err(Fault::Unexpected("message")),
            };
        }
        Ok(())
    }

    /// Nothing that was sealed with the old keys is behind their change.
    fn at_change_of_keys(&self) -> Result<(), Fault> {
        if self.messages.is_empty() { Ok(()) } else { Err(Fault::Unexpected("record where keys change")) }
    }

    fn greeted(&mut self, message: &[u8], early: &Early, private: &[u8; 32]) -> Result<State, Fault> {
        self.at_change_of_keys()?;
        let shared = server_hello(message, private)?;
        self.transcript.add(message);
        let (ours, theirs, master) = early.handshake(&shared, &self.transcript.hash());
        let directions =
            Directions { ours: Direction::new(ours), theirs: Direction::new(theirs), update_due: false };
        Ok(State::Extensions(Box::new(Keys { directions, master })))
    }

    fn finished(&mut self, message: &[u8], keys: Keys) -> Result<State, Fault> {
        self.at_change_of_keys()?;
        let Keys { directions: Directions { mut ours, theirs, .. }, master } = keys;
        let claimed = message.get(KIND_AND_LENGTH_BYTES..).unwrap_or_default();
        if !is_proof(theirs.secret(), &self.transcript.hash(), claimed) {
            return Err(Fault::NotTheServer);
        }
        self.transcript.add(message);
        let hash = self.transcript.hash();
        self.answer(&proof(ours.secret(), &hash), &mut ours)?;
        let (ours, theirs) = master.traffic(&hash);
        let directions =
            Directions { ours: Direction::new(ours), theirs: Direction::new(theirs), update_due: false };
        Ok(State::Open(Box::new(directions)))
    }

    /// Our own `Finished`.
    fn answer(&mut self, proof: &[u8; HASH_BYTES], ours: &mut Direction) -> Result<(), Fault> {
        let mut record = Writer::<OUTGOING_MAX_BYTES>::new();
        record.put(&[0; HEADER_BYTES]);
        record.put(&[FINISHED]);
        record.counted::<3>(|record| record.put(proof));
        record.put(&[TYPE_HANDSHAKE]);
        record.put(&[0; TAG_BYTES]);
        let mut record = record.end()?;
        ours.seal(&mut record).ok_or(Fault::Unexpected("number of records"))?;
        self.outgoing = record;
        Ok(())
    }

    fn updated(&self, message: &[u8], mut directions: Box<Directions>) -> Result<State, Fault> {
        self.at_change_of_keys()?;
        directions.update_due |= match message.get(KIND_AND_LENGTH_BYTES..) {
            Some([0]) => false,
            Some([1]) => true,
            _ => return Err(Fault::Unexpected("key update")),
        };
        directions.theirs.update();
        Ok(State::Open(directions))
    }

    /// Seals `data`, of [`DATA_MAX_BYTES`] at most, into what has to be sent now: [`RECORD_OVERHEAD_BYTES`] more, and
    /// sometimes [`UPDATE_BYTES`] before it. `None` if it is not open, or there is too much.
    #[must_use]
    pub fn seal(&mut self, data: &[u8]) -> Option<&[u8]> {
        let State::Open(directions) = &mut self.state else { return None };
        if data.len() > DATA_MAX_BYTES {
            return None;
        }
        let mut start = UPDATE_BYTES;
        if core::mem::take(&mut directions.update_due) {
            start = 0;
            let update = self.output.get_mut(..UPDATE_BYTES)?;
            seal(&mut directions.ours, update, TYPE_HANDSHAKE, &[KEY_UPDATE, 0, 0, 1, 0])?;
            directions.ours.update();
        }
        let end = UPDATE_BYTES.checked_add(data.len())?.checked_add(RECORD_OVERHEAD_BYTES)?;
        seal(&mut directions.ours, self.output.get_mut(UPDATE_BYTES..end)?, TYPE_DATA, data)?;
        self.output.get(start..end)
    }
}

fn seal(ours: &mut Direction, record: &mut [u8], kind: u8, content: &[u8]) -> Option<()> {
    let (_, rest) = record.split_at_mut_checked(HEADER_BYTES)?;
    let (place, rest) = rest.split_at_mut_checked(content.len())?;
    place.copy_from_slice(content);
    *rest.first_mut()? = kind;
    ours.seal(record)
}

fn alert(content: &[u8]) -> Fault {
    match content {
        [_, CLOSE_NOTIFY] => Fault::Closed,
        [_, kind] => Fault::Alert(*kind),
        _ => Fault::Unexpected("alert"),
    }
}
