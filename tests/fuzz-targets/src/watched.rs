//! Guest memory that panics as soon as the device writes where it may not.

use backend::testkit::{Observed, Observer, TestMemory, Touch};
use std::cell::RefCell;
use std::ops::Range;

/// What of the memory is the device's to write.
#[derive(Default)]
pub struct Writable(RefCell<Vec<Range<u64>>>);

impl Observer for Writable {
    fn touch(&self, Touch { write, start, len }: Touch) {
        let end = start.saturating_add(len);
        let holds = |place: &Range<u64>| place.start <= start && end <= place.end;
        assert!(
            !write || len == 0 || self.0.borrow().iter().any(holds),
            "{len} bytes at {start:#x} were not the device's to write"
        );
    }
}

/// The memory with that rule.
pub type Watched = Observed<Writable>;

/// Nothing is writable at first.
pub fn watched(mem: TestMemory) -> Watched {
    Observed { inner: mem, observer: Writable::default() }
}

impl Writable {
    /// Gives the device these places, and no others.
    pub fn set(&self, places: impl Iterator<Item = Range<u64>>) {
        let mut writable = self.0.borrow_mut();
        writable.clear();
        writable.extend(places);
    }
}
