//! Statistics for whoever asks: dom0 writes a word to `data/pilotfish/ask`, and
//! `data/pilotfish/stats` holds that word and all counters a moment later.
//!
//! One line of `key=value`: first `asked=WORD` and what concerns the whole stub, then for each
//! disk, in the order of their windows, `disk=N` and what concerns it. A word that begins with
//! `rings` asks for the state of rings and interrupts instead.

use crate::platform::{self, GrantUse, Xen};
use crate::start::ImageStub;
use alloc::format;
use alloc::string::String;
use backend::stats::LoopStats;
use core::fmt::Write as _;
use drivers::xenstore::{WatchEvent, Xenstore};
use log::warn;

const ASK: &str = "data/pilotfish/ask";
const STATS: &str = "data/pilotfish/stats";
const TOKEN: &str = "ask";
/// How a word begins that asks for the state of the rings.
const RINGS: &str = "rings";
/// How much of that is told: path and value have to fit into a message of 4096 bytes.
const RINGS_BYTES: usize = 4000;
/// The longest word that is given back.
const WORD_BYTES: usize = 20;

/// Lets dom0 ask. Without xenstore nobody can, and the disks work all the same.
pub fn watch(xs: &mut Xenstore<Xen>) {
    if let Err(error) = xs.watch(ASK, TOKEN) {
        warn!("{ASK}: {error}");
    }
}

/// Whether this event is a question.
pub fn is_asked(event: &WatchEvent) -> bool {
    event.token == TOKEN
}

/// Answers.
pub fn answer(xs: &mut Xenstore<Xen>, stub: &ImageStub, loop_stats: &LoopStats) {
    // The first event of a watch comes without any question.
    let Ok(mut word) = xs.read_string(ASK) else { return };
    word.retain(|character| character.is_ascii_alphanumeric());
    word.truncate(WORD_BYTES);
    let line = if word.starts_with(RINGS) { rings(&word, stub) } else { line(&word, stub, loop_stats) };
    if let Err(error) = xs.write(STATS, line.as_bytes()) {
        warn!("{STATS}: {error}");
    }
}

fn rings(word: &str, stub: &ImageStub) -> String {
    let mut line = format!("asked={word}");
    for (index, disk) in stub.inspect().enumerate() {
        // Writing into a String cannot fail.
        let _ = write!(line, " disk={index} {disk}");
    }
    // ASCII: every byte is a character.
    line.truncate(RINGS_BYTES);
    line
}

fn line(word: &str, stub: &ImageStub, loop_stats: &LoopStats) -> String {
    let LoopStats { polls, worked, blocks } = loop_stats;
    let (answers, (misses, mapped)) = (stub.answers(), platform::map_use(stub.memory()));
    let mut line = format!(
        "asked={word} answers={answers} polls={polls} worked={worked} blocks={blocks} map_misses={misses} \
         map_pages={} map_stale={}",
        mapped.pages, mapped.stale
    );
    if let Some(GrantUse { ring_pages, copies, calls }) = platform::grant_use(stub.memory()) {
        // Writing into a String cannot fail.
        let _ = write!(line, " ring_pages={ring_pages} grant_copies={copies} grant_calls={calls}");
    }
    for (index, (disk, storage)) in stub.stats().enumerate() {
        let sends = storage.pv().map_or(0, |pv| pv.sends());
        // Writing into a String cannot fail.
        let _ = write!(line, " disk={index} {disk} sends={sends}");
    }
    line
}
