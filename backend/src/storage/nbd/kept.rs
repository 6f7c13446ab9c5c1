//! The data of writes, from the guest's memory on: kept until they are sent and done, and where the server has a
//! volatile cache until a flush, so that they can be done again over another connection.
//!
//! Data lie in a ring, in the order of their pieces. What is done with leaves at its front, so a slow write holds
//! up those behind it. When the ring is full, writes wait: for those before them, or for a flush, which the engine
//! makes in time.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use nbd::Command;

/// Bytes of data that can be kept: the engine makes a flush for half of it.
const KEPT_BYTES: usize = 2 << 20;
/// Pieces of requests that can be kept.
const ENTRIES_MAX: usize = 1024;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// The piece with that id, which is not over.
    UnderWay(u64),
    /// The piece was that many-th that was completed.
    Completed(u64),
    /// It is flushed, or it failed.
    Free,
}

struct Entry {
    command: Command,
    /// Where its data begin, and how many there are.
    start: usize,
    len: usize,
    state: State,
}

/// How far the writes have been done again.
#[derive(Clone, Copy, Default)]
struct Replay {
    /// The entry whose turn it is.
    at: usize,
    /// Bytes of it that are done, and how many are under way.
    done: usize,
    part: usize,
}

/// The writes.
pub(super) struct Kept {
    ring: Box<[u8]>,
    entries: VecDeque<Entry>,
    /// Where the next data go.
    next: usize,
    /// Bytes of data that are kept.
    bytes: usize,
    has_cache: bool,
    /// What is to be done again next, if there is a connection that has not all of them.
    replay: Option<Replay>,
}

impl Kept {
    /// `has_cache`: the server may lose what is not flushed.
    pub(super) fn new(has_cache: bool) -> Kept {
        Kept {
            ring: alloc::vec![0; KEPT_BYTES].into(),
            entries: VecDeque::with_capacity(ENTRIES_MAX),
            next: 0,
            bytes: 0,
            has_cache,
            replay: None,
        }
    }

    /// Where `len` bytes can be put, if there is room for them and an entry.
    fn place(&self, len: usize) -> Option<usize> {
        if self.entries.len() >= ENTRIES_MAX || len > self.ring.len() {
            return None;
        }
        // Those without data have no place.
        let Some(first) = self.entries.iter().find(|entry| entry.len > 0) else { return Some(0) };
        let end = self.next.checked_add(len)?;
        if self.next > first.start {
            // The rest of the ring, or its beginning.
            let at_end = end <= self.ring.len();
            if at_end { Some(self.next) } else { Some(0).filter(|_| len <= first.start) }
        } else {
            Some(self.next).filter(|_| end <= first.start)
        }
    }

    /// Whether a write with so much data has room.
    pub(super) fn has_room(&self, len: usize) -> bool {
        self.place(len).is_some()
    }

    /// Keeps the piece with that id; `gather` writes its data. False: it could not, and nothing is kept. There has
    /// to be room.
    pub(super) fn keep(
        &mut self,
        id: u64,
        command: Command,
        len: usize,
        gather: impl FnOnce(&mut [u8]) -> bool,
    ) -> bool {
        let Some(start) = self.place(len) else { return false };
        let end = start.saturating_add(len);
        if !self.ring.get_mut(start..end).is_some_and(gather) {
            return false;
        }
        if len > 0 {
            self.next = end;
            self.bytes = self.bytes.saturating_add(len);
        }
        self.entries.push_back(Entry { command, start, len, state: State::UnderWay(id) });
        true
    }

    /// The data of the piece that was kept last.
    pub(super) fn last_data(&self) -> &[u8] {
        self.entries.back().map_or(&[], |entry| self.data(entry))
    }

    fn data(&self, entry: &Entry) -> &[u8] {
        self.ring.get(entry.start..entry.start.saturating_add(entry.len)).unwrap_or_default()
    }

    /// The piece that was kept last could not be sent.
    pub(super) fn drop_last(&mut self) {
        if let Some(entry) = self.entries.pop_back().filter(|entry| entry.len > 0) {
            self.next = entry.start;
            self.bytes = self.bytes.saturating_sub(entry.len);
        }
    }

    /// The piece with that id is over: as the `completed`-th of all, or it failed. It does not wait for the rest
    /// of its request, which may need its place.
    pub(super) fn end(&mut self, id: u64, completed: Option<u64>) {
        // A server without a cache loses nothing.
        let state = completed.filter(|_| self.has_cache).map_or(State::Free, State::Completed);
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.state == State::UnderWay(id)) {
            entry.state = state;
        }
        self.trim();
    }

    /// The first `completed` pieces need not be kept any longer.
    pub(super) fn free(&mut self, completed: u64) {
        for entry in &mut self.entries {
            if matches!(entry.state, State::Completed(number) if number <= completed) {
                entry.state = State::Free;
            }
        }
        self.trim();
    }

    /// The first `completed` pieces are not to be done again, whatever there was left.
    pub(super) fn give_up(&mut self, completed: u64) {
        self.free(completed);
        self.replay = None;
    }

    /// What is done with at the front leaves.
    fn trim(&mut self) {
        while self.entries.front().is_some_and(|entry| entry.state == State::Free) {
            let len = self.entries.pop_front().map_or(0, |entry| entry.len);
            self.bytes = self.bytes.saturating_sub(len);
            // The entries after it have moved up.
            if let Some(replay) = &mut self.replay {
                replay.at = replay.at.saturating_sub(1);
            }
        }
    }

    /// Whether so much is kept that a flush is worth it.
    pub(super) fn is_half_full(&self) -> bool {
        self.bytes > self.ring.len() / 2 || self.entries.len() > ENTRIES_MAX / 2
    }

    /// The connection broke. Requests that were under way are held, and bring their data again.
    pub(super) fn hold(&mut self) {
        self.replay = None;
        for entry in &mut self.entries {
            if let State::UnderWay(_) = entry.state {
                entry.state = State::Free;
            }
        }
        self.trim();
    }

    /// There is another connection: everything that is kept has to be done again.
    pub(super) fn begin_replay(&mut self) {
        self.replay = Some(Replay::default());
    }

    /// Whether there is still something to be done again.
    pub(super) fn is_replaying(&self) -> bool {
        self.replay.is_some()
    }

    /// What has to be done again next, with its data: at most so many bytes, since the connection may carry less at
    /// once than the one before.
    pub(super) fn next_replay(&mut self, most_bytes: usize) -> Option<(Command, &[u8])> {
        let Replay { mut at, done, .. } = self.replay?;
        while self.entries.get(at).is_some_and(|entry| !matches!(entry.state, State::Completed(_))) {
            at = at.saturating_add(1);
        }
        let Some(entry) = self.entries.get(at) else {
            self.replay = None;
            return None;
        };
        let part = entry.len.saturating_sub(done).min(most_bytes);
        let start = entry.start.saturating_add(done);
        let command = match entry.command {
            // They fit: they are smaller than its length, which does.
            Command::Write { offset, durable, .. } => Command::Write {
                offset: offset.saturating_add(u64::try_from(done).ok()?),
                len_bytes: u32::try_from(part).ok()?,
                durable,
            },
            whole => whole,
        };
        self.replay = Some(Replay { at, done, part });
        Some((command, self.ring.get(start..start.saturating_add(part)).unwrap_or_default()))
    }

    /// It was done again.
    pub(super) fn end_replay(&mut self) {
        let Some(Replay { at, done, part }) = self.replay else { return };
        let done = done.saturating_add(part);
        let is_whole = self.entries.get(at).is_none_or(|entry| done >= entry.len);
        self.replay = Some(if is_whole {
            Replay { at: at.saturating_add(1), ..Replay::default() }
        } else {
            Replay { at, done, part: 0 }
        });
    }
}
