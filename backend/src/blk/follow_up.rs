//! What of a request comes after its present operation: more ranges, or a flush.
//!
//! An engine knows of one operation at a time, so this stays with the device, in a table with a
//! place for each chain that can be in flight.

use super::ranges::Ranges;
use crate::virtq::Chain;
use alloc::boxed::Box;

/// What is left to do.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FollowUp {
    /// Ranges, if the request has an array of them.
    pub(super) ranges: Option<Ranges>,
    /// A flush at the end: what the request writes must be durable before it is answered.
    pub(super) flush: bool,
}

/// One for each chain in flight.
#[derive(Debug)]
pub(super) struct FollowUps {
    by_chain: Box<[FollowUp]>,
}

impl FollowUps {
    /// A table for the chains of a pool of `count` segments.
    pub(super) fn new(count: u16) -> FollowUps {
        FollowUps { by_chain: core::iter::repeat_n(FollowUp::default(), usize::from(count)).collect() }
    }

    /// Notes what follows a chain's first operation. What its place held was of a chain that is over.
    pub(super) fn set(&mut self, chain: &Chain, follow_up: FollowUp) {
        if let Some(place) = self.by_chain.get_mut(usize::from(chain.id())) {
            *place = follow_up;
        }
    }

    /// What is left to do for a chain.
    pub(super) fn get_mut(&mut self, chain: &Chain) -> Option<&mut FollowUp> {
        self.by_chain.get_mut(usize::from(chain.id()))
    }
}
