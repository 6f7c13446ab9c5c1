//! Watch events that have arrived and not been asked for yet: a bounded queue.

use alloc::string::String;
use alloc::vec::Vec;

/// Events kept at most. A peer that can write watched nodes decides how many arrive.
pub const MAX_EVENTS: usize = 32;

/// A watched node, or one below it, may have changed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WatchEvent {
    /// The node, absolute or relative as it was watched.
    pub path: String,
    /// The token given to the watch.
    pub token: String,
}

/// A queue that drops its oldest event when full, and remembers that it did.
#[derive(Debug, Default)]
pub struct EventQueue {
    /// The oldest first. Few, so that moving them up costs nothing.
    events: Vec<WatchEvent>,
    lost: bool,
}

impl EventQueue {
    /// Adds an event. One that is queued already is not queued twice: an event says only
    /// that the node is to be read again.
    pub fn push(&mut self, event: WatchEvent) {
        if self.events.contains(&event) {
            return;
        }
        if self.events.len() >= MAX_EVENTS {
            self.events.remove(0);
            self.lost = true;
        }
        self.events.push(event);
    }

    /// The oldest event.
    pub fn pop(&mut self) -> Option<WatchEvent> {
        (!self.events.is_empty()).then(|| self.events.remove(0))
    }

    /// The oldest event with this token; the others with it go as well, since one reading of what
    /// is watched does for all.
    pub fn pop_token(&mut self, token: &str) -> Option<WatchEvent> {
        let at = self.events.iter().position(|event| event.token == token)?;
        let event = self.events.remove(at);
        while let Some(at) = self.events.iter().position(|other| other.token == token) {
            self.events.remove(at);
        }
        Some(event)
    }

    /// True if an event waits.
    #[must_use]
    pub fn has_any(&self) -> bool {
        !self.events.is_empty()
    }

    /// True if an event waits, or if it is to be told that some were dropped.
    #[must_use]
    pub fn has_pending(&self) -> bool {
        self.lost || self.has_any()
    }

    /// Has [`EventQueue::take_lost`] say that events were dropped.
    pub fn set_lost(&mut self) {
        self.lost = true;
    }

    /// True, once, if events were dropped: read again everything that is watched.
    pub fn take_lost(&mut self) -> bool {
        core::mem::take(&mut self.lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    fn event(number: usize) -> WatchEvent {
        WatchEvent { path: format!("/p/{number}"), token: format!("{}", number % 2) }
    }

    #[test]
    fn a_flood_drops_the_oldest_and_says_so() {
        let mut queue = EventQueue::default();
        (0..MAX_EVENTS + 3).for_each(|number| queue.push(event(number)));
        assert!(queue.take_lost());
        assert!(!queue.take_lost());
        assert_eq!(queue.pop(), Some(event(3)));
        assert_eq!(core::iter::from_fn(|| queue.pop()).count(), MAX_EVENTS - 1);
    }

    #[test]
    fn the_same_event_is_queued_once() {
        let mut queue = EventQueue::default();
        queue.push(event(1));
        queue.push(event(1));
        assert_eq!(queue.pop(), Some(event(1)));
        assert_eq!(queue.pop(), None);
    }

    #[test]
    fn events_of_other_tokens_stay() {
        let mut queue = EventQueue::default();
        (0..4).for_each(|number| queue.push(event(number)));
        assert_eq!(queue.pop_token("1"), Some(event(1)));
        assert_eq!(queue.pop_token("7"), None);
        assert_eq!(queue.pop(), Some(event(0)));
        assert_eq!(queue.pop(), Some(event(2)));
    }
}
