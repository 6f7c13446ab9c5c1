//! What is told to netback and by it, and the end of that.

use super::{Health, NetFront, PeerFault};
use crate::ring::ResponseOverrun;
use kernel::Hypervisor;

impl<H: Hypervisor> NetFront<H> {
    /// Shows queued frames and emptied places to netback; notifies it if it asked for that.
    pub fn kick(&mut self) {
        if self.health != Health::Connected {
            return;
        }
        // Both, whatever the first says: each ring has its own index.
        let (tx, rx) = (self.tx.publish(), self.rx.publish());
        if (tx || rx)
            && let Err(errno) = self.port.notify()
        {
            self.break_off(PeerFault::Unreachable(errno));
        }
    }

    /// Asks for an event with the next frame that comes, or when there may be room for another one to send,
    /// if there is none. True if there is something now: look again before sleeping.
    pub fn enable_events(&mut self) -> bool {
        self.enable_events_for(1, 1)
    }

    /// As [`NetFront::enable_events`], if room for that many frames is wanted, and the event for what comes only once
    /// it is so many parts of frames.
    pub fn enable_events_for(&mut self, frames: usize, parts: u32) -> bool {
        if self.health != Health::Connected {
            return false;
        }
        let tx = self.await_room(frames);
        let rx = self.rx.final_check(parts);
        match (tx, rx) {
            (Ok(tx), Ok(rx)) => tx || rx,
            (Err(overrun), _) | (_, Err(overrun)) => self.on_overrun(overrun),
        }
    }

    /// Asks for an event when there may be room, if there is none. True if there is by now.
    fn await_room(&mut self, frames: usize) -> Result<bool, ResponseOverrun> {
        let mut came = false;
        // Each turn takes answers. They may not be enough, and no event was asked for then.
        while self.health == Health::Connected && self.wanted(frames) > 0 {
            let wanted = u32::try_from(self.wanted(frames)).unwrap_or(1);
            if !self.tx.final_check(wanted)? {
                return Ok(false);
            }
            self.reap();
            came = true;
        }
        Ok(came)
    }

    /// There is something to look at.
    fn on_overrun(&mut self, overrun: ResponseOverrun) -> bool {
        self.break_off(PeerFault::ResponseOverrun(overrun));
        true
    }

    /// Ends the use of the rings. Frames under way keep their pages: netback may still read and write them.
    pub fn break_off(&mut self, fault: PeerFault) {
        // The first fault is the one that explains the others.
        if self.health == Health::Connected {
            log::error!("netfront {}: {fault}; the connection is given up", self.session.paths.frontend);
            self.health = Health::Broken(fault);
        }
    }
}
