//! Every way through a world that has choices, one after the other.
//!
//! A world is run from its start for each way: our objects own pages, ports and grants, so a state can
//! neither be copied nor compared. What a world does may depend on its choices only.

use std::cell::RefCell;
use std::rc::Rc;

/// The choices of one run, in order. Clones make the same choices.
#[derive(Clone, Debug, Default)]
pub struct Choices(Rc<RefCell<Way>>);

#[derive(Debug, Default)]
struct Way {
    /// What was chosen, of how many.
    taken: Vec<(usize, usize)>,
    next: usize,
}

impl Choices {
    /// One of `count` possibilities.
    ///
    /// # Panics
    /// If there is none, or another run had another number of them here.
    #[must_use]
    pub fn pick(&self, count: usize) -> usize {
        let mut way = self.0.borrow_mut();
        let at = way.next;
        way.next += 1;
        if let Some(&(chosen, of)) = way.taken.get(at) {
            assert_eq!(of, count, "choice {at}: the world depends on more than its choices");
            return chosen;
        }
        assert!(count > 0, "choice {at}: nothing to choose from");
        way.taken.push((0, count));
        0
    }

    /// Goes to the next way. False: that was the last.
    fn turn(&self) -> bool {
        let mut way = self.0.borrow_mut();
        way.next = 0;
        while let Some((chosen, of)) = way.taken.pop() {
            if chosen + 1 < of {
                way.taken.push((chosen + 1, of));
                return true;
            }
        }
        false
    }
}

/// Says which way failed, for whoever reads the test's output.
struct Witness<'a>(&'a Choices);

impl Drop for Witness<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let way = self.0.0.try_borrow();
            let taken = way.map(|way| way.taken.iter().map(|(chosen, _)| *chosen).collect::<Vec<_>>());
            eprintln!("the way that failed: {taken:?}");
        }
    }
}

/// Runs `world` once for each way through its choices; how many there were.
///
/// # Panics
/// If there are more than `limit`: a world that grew is to be noticed.
pub fn explore(limit: u32, mut world: impl FnMut(&Choices)) -> u32 {
    let choices = Choices::default();
    let witness = Witness(&choices);
    for runs in 1..=limit {
        world(&choices);
        if !choices.turn() {
            drop(witness);
            return runs;
        }
    }
    panic!("more than {limit} ways");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_is_gone_once() {
        let mut ways = Vec::new();
        let runs = explore(100, |choices| {
            let first = choices.pick(3);
            // Only one of them has a second choice.
            let second = if first == 1 { choices.pick(2) } else { 9 };
            ways.push((first, second));
        });
        assert_eq!(runs, 4);
        assert_eq!(ways, [(0, 9), (1, 0), (1, 1), (2, 9)]);
    }

    #[test]
    #[should_panic(expected = "more than 3 ways")]
    fn a_world_that_grew_is_noticed() {
        explore(3, |choices| {
            let _ = choices.pick(4);
        });
    }
}
