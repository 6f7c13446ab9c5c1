//! The client of xenstored: blocking requests, watch events on the side.
//!
//! While a request waits for its answer, watch events go to a queue or stay in the ring: before
//! sleeping check [`Xenstore::has_pending`], since the port's pending bit may have been
//! consumed. `link.rs` moves the bytes over the ring.

use super::link::Xenstore;
use super::wire::{self, number, terminated};
use super::{StoreError, WatchEvent};
use alloc::string::String;
use alloc::vec::Vec;
use kernel::{Errno, Hypervisor};
use xen_pv_sys::io::xs_wire::{XS_DIRECTORY, XS_MKDIR, XS_READ, XS_RM, XS_UNWATCH, XS_WATCH, XS_WRITE};

impl<H: Hypervisor> Xenstore<H> {
    /// The node's value.
    ///
    /// # Errors
    /// `ENOENT` and what else xenstored answers.
    pub fn read(&mut self, path: &str) -> Result<Vec<u8>, StoreError> {
        self.read_in(0, path)
    }

    /// The node's value as text.
    ///
    /// # Errors
    /// As [`Xenstore::read`]; `EINVAL` if it is not UTF-8.
    pub fn read_string(&mut self, path: &str) -> Result<String, StoreError> {
        String::from_utf8(self.read(path)?).map_err(|_| StoreError::Refused(Errno::EINVAL))
    }

    /// The node's value as a decimal number.
    ///
    /// # Errors
    /// As [`Xenstore::read`]; `EINVAL` if it is anything else.
    pub fn read_number(&mut self, path: &str) -> Result<u64, StoreError> {
        number(&self.read(path)?)
    }

    /// Sets the node's value; creates it and its parents.
    ///
    /// # Errors
    /// `EACCES`, `ENOSPC` (quota) and what else xenstored answers.
    pub fn write(&mut self, path: &str, value: &[u8]) -> Result<(), StoreError> {
        self.write_in(0, path, value)
    }

    /// The names of the node's children.
    ///
    /// # Errors
    /// `ENOENT`; `E2BIG` if the list is longer than a message.
    pub fn directory(&mut self, path: &str) -> Result<Vec<String>, StoreError> {
        let answer = self.request(XS_DIRECTORY, 0, &[terminated(path)?, b"\0"])?;
        wire::strings(&answer).map_err(|fault| self.die(fault))
    }

    /// Creates an empty node, if there is none.
    ///
    /// # Errors
    /// What xenstored answers.
    pub fn mkdir(&mut self, path: &str) -> Result<(), StoreError> {
        self.request(XS_MKDIR, 0, &[terminated(path)?, b"\0"]).map(drop)
    }

    /// Removes the node and everything below it.
    ///
    /// # Errors
    /// `ENOENT` if its parent does not exist, and what else xenstored answers.
    pub fn rm(&mut self, path: &str) -> Result<(), StoreError> {
        self.rm_in(0, path)
    }

    /// Watches the node and everything below it. One event comes at once.
    ///
    /// # Errors
    /// `EEXIST` for the same path and token, and what else xenstored answers.
    pub fn watch(&mut self, path: &str, token: &str) -> Result<(), StoreError> {
        self.request(XS_WATCH, 0, &[terminated(path)?, b"\0", terminated(token)?, b"\0"]).map(drop)
    }

    /// Ends a watch. Events that were queued before stay in the queue.
    ///
    /// # Errors
    /// `ENOENT` if there is no such watch.
    pub fn unwatch(&mut self, path: &str, token: &str) -> Result<(), StoreError> {
        self.request(XS_UNWATCH, 0, &[terminated(path)?, b"\0", terminated(token)?, b"\0"]).map(drop)
    }

    pub(super) fn read_in(&mut self, tx_id: u32, path: &str) -> Result<Vec<u8>, StoreError> {
        self.request(XS_READ, tx_id, &[terminated(path)?, b"\0"])
    }

    pub(super) fn write_in(&mut self, tx_id: u32, path: &str, value: &[u8]) -> Result<(), StoreError> {
        self.request(XS_WRITE, tx_id, &[terminated(path)?, b"\0", value]).map(drop)
    }

    pub(super) fn rm_in(&mut self, tx_id: u32, path: &str) -> Result<(), StoreError> {
        self.request(XS_RM, tx_id, &[terminated(path)?, b"\0"]).map(drop)
    }

    /// Whether there is something for [`Xenstore::poll_events`] or [`Xenstore::next_event`]. Do not
    /// sleep then: the event channel's own event may have gone while an answer was waited for.
    #[must_use]
    pub fn has_pending(&self) -> bool {
        self.events.has_pending() || (self.fault.is_none() && self.has_unread())
    }

    /// Takes in what has arrived, without waiting. True if [`Xenstore::next_event`] has
    /// something.
    ///
    /// # Errors
    /// [`StoreError::Fault`] if xenstored broke the protocol.
    pub fn poll_events(&mut self) -> Result<bool, StoreError> {
        self.hv.evtchn_take_pending(self.port);
        while let Some(answer) = self.pump()? {
            self.keep(answer)?;
        }
        Ok(self.events.has_any())
    }

    /// The oldest watch event taken in so far.
    pub fn next_event(&mut self) -> Option<WatchEvent> {
        self.events.pop()
    }

    /// True, once, if events were dropped because too many came: read again everything
    /// that is watched.
    pub fn take_events_lost(&mut self) -> bool {
        self.events.take_lost()
    }

    /// Waits for an event with this token, at most until `deadline_ns`; further events with it
    /// that are there by then count as the same. Events of other watches stay queued. `None`:
    /// none came in time.
    ///
    /// # Errors
    /// [`StoreError::Fault`], [`StoreError::Xen`].
    pub fn wait_event(&mut self, token: &str, deadline_ns: u64) -> Result<Option<WatchEvent>, StoreError> {
        loop {
            self.poll_events()?;
            if let Some(event) = self.events.pop_token(token) {
                return Ok(Some(event));
            }
            match self.wait(deadline_ns) {
                Err(StoreError::TimedOut) => return Ok(None),
                other => other?,
            }
        }
    }
}
