//! Whether a guest that is to grant its memory does. If its kernel cannot, its driver names addresses that are no
//! grants. Then the stub wants a reset, which no driver does, and the guest waits for its disk. The stub is asked until
//! a disk of it is in use.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::xenstore::{Store, paths};

/// The pause between two questions.
const PAUSE: Duration = Duration::from_secs(5);
/// How many are asked of one stub at most: a guest may stay in its firmware.
const QUESTIONS: u32 = 60;
/// The question, and how its answer begins.
const QUESTION: &str = "ringsdaemon";
/// Bits of the status of a virtio device: the driver uses it; it works no more before a reset.
const DRIVER_OK: u32 = 4;
const NEEDS_RESET: u32 = 64;

/// What the log says of such a guest.
pub const NO_GRANTS: &str = "a disk of it cannot be used: its driver named memory that it does not grant; remedy: a kernel \
                             that grants its memory (Linux: CONFIG_XEN_VIRTIO), or a disk without backend=NAME";

/// The stubs that are asked, by domain.
#[derive(Default)]
pub struct Granting(BTreeMap<u16, Asked>);

struct Asked {
    questions: u32,
    next: Instant,
}

impl Granting {
    /// Asks a stub that serves a guest that is to grant its memory, unless its answer is known or it was asked a moment
    /// ago. Returns whether the guest does not grant it, once.
    pub fn look(&mut self, store: &dyn Store, now: Instant, stub: u16) -> bool {
        let asked = self.0.entry(stub).or_insert(Asked { questions: 0, next: now + PAUSE });
        if now < asked.next || asked.questions >= QUESTIONS {
            return false;
        }
        asked.next = now + PAUSE;
        // Only for the log: where xenstore does not answer the next question comes in its time.
        let answer = store.read(&paths::stub_says(stub, "stats")).ok().flatten();
        let verdict = answer.as_deref().and_then(verdict);
        asked.questions = if verdict.is_some() { QUESTIONS } else { asked.questions.saturating_add(1) };
        if verdict.is_none() {
            // The stub looks at it when it changes.
            let question = format!("{QUESTION}{}", asked.questions);
            let _ = store.write(&paths::stub_says(stub, "ask"), &question);
        }
        verdict == Some(false)
    }

    /// Forgets all stubs but these: Xen gives a number to another domain later.
    pub fn keep(&mut self, stubs: impl Fn(u16) -> bool) {
        self.0.retain(|&stub, _| stubs(stub));
    }
}

/// Whether the driver can use its disks; `None`: it is not that far, or this is no answer.
fn verdict(answer: &str) -> Option<bool> {
    let words = answer.strip_prefix("asked=")?.strip_prefix(QUESTION)?.split_ascii_whitespace();
    let statuses = words.filter_map(|word| u32::from_str_radix(word.strip_prefix("status=0x")?, 16).ok());
    let all = statuses.fold(0, |all, status| all | status);
    match (all & NEEDS_RESET, all & DRIVER_OK) {
        (0, 0) => None,
        (needs_reset, _) => Some(needs_reset == 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::World;

    const USED: &str =
        "asked=ringsdaemon1 disk=0 status=0xf interrupt_status=0 queue=0 avail=1 disk=1 status=0x0";
    const FAILED: &str = "asked=ringsdaemon1 disk=0 status=0x4f interrupt_status=2";

    #[test]
    fn a_disk_that_needs_a_reset_is_told_from_one_in_use_and_one_without_a_driver() {
        assert_eq!(verdict(USED), Some(true));
        assert_eq!(verdict(FAILED), Some(false));
        for nothing in ["", "asked=ringsdaemon1 disk=0 status=0x3", "asked=ringsdaemon1 disk=0 status=0xzz"] {
            assert_eq!(verdict(nothing), None, "{nothing}");
        }
        assert_eq!(verdict(&FAILED.replace("daemon", "")), None, "somebody else's question");
    }

    /// What is told when the stub answers this, look by look, and the questions that it was asked.
    fn told(answer: &str, looks: u32) -> (Vec<bool>, Vec<String>) {
        let (world, mut granting) = (World::new(), Granting::default());
        let (store, start) = (world.store(), Instant::now());
        let mut questions = Vec::new();
        let told = (0..looks).map(|look| {
            let told = granting.look(&store, start + PAUSE * look, 9);
            if let Some(question) = world.get(&paths::stub_says(9, "ask")) {
                world.clear(&paths::stub_says(9, "ask"));
                world.set(&paths::stub_says(9, "stats"), answer);
                questions.push(question);
            }
            told
        });
        (told.collect(), questions)
    }

    #[test]
    fn a_stub_is_asked_until_its_disk_is_in_use_or_fails_which_is_told_once() {
        assert_eq!(
            told(FAILED, 5),
            (vec![false, false, true, false, false], vec!["ringsdaemon1".to_owned()])
        );
        assert_eq!(told(USED, 5), (vec![false; 5], vec!["ringsdaemon1".to_owned()]));
        let (never, questions) = told("nonsense", QUESTIONS + 20);
        assert!(never.iter().all(|told| !told));
        assert_eq!(questions.len(), QUESTIONS as usize);
    }

    #[test]
    fn a_number_that_is_given_again_is_asked_again() {
        let (world, mut granting, now) = (World::new(), Granting::default(), Instant::now());
        let asks = |granting: &mut Granting, at| {
            granting.look(&world.store(), at, 9);
            world.get(&paths::stub_says(9, "ask")).is_some()
        };
        assert!(!asks(&mut granting, now) && asks(&mut granting, now + PAUSE));
        world.clear(&paths::stub_says(9, "ask"));
        assert!(!asks(&mut granting, now + PAUSE), "not twice in a moment");
        granting.keep(|_| false);
        assert!(!asks(&mut granting, now + PAUSE) && asks(&mut granting, now + PAUSE * 2));
        assert_eq!(world.get(&paths::stub_says(9, "ask")).as_deref(), Some("ringsdaemon1"));
    }
}
