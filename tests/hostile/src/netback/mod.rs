//! A network back end of our own, honest until it is told otherwise (`public/io/netif.h`).
//!
//! It serves one frontend, and has a host with an NBD server behind it. It follows the frontend's xenbus states, so
//! that a connection that one of them broke is made again.

mod attacks;
mod link;
mod server;

use crate::back_end::{BackEnd, failed};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
pub use attacks::{ALL, Attack};
use kernel::{Delay, DelayNs, Hypervisor, Xen};
pub use link::Link;
use server::Host;
use xen_pv_sys::io::xenbus::XenbusState;

/// Where the toolstack writes what this domain is the back end of.
const BACKENDS: &str = "backend/vif";
/// Between two looks at a frontend that does nothing.
const IDLE_US: u32 = 300;
/// Looks at the rings between two looks at the frontend's state, each a request to xenstored.
const LOOKS: u32 = 20;

/// The back end.
pub struct Netback {
    /// Our place in xenstore, and the frontend's memory.
    pub end: BackEnd,
    host: Host,
    /// The connection, while there is one.
    pub link: Option<Link>,
    /// Nodes that are told beside the honest ones, or in their place.
    pub lies: Vec<(&'static str, &'static str)>,
    looks: u32,
    /// Connections made so far.
    pub connections: u32,
}

impl Netback {
    /// Waits for the toolstack to name a frontend.
    pub fn wait(xen: Xen) -> Result<Netback, String> {
        let (end, host, lies) = (BackEnd::wait(xen, BACKENDS)?, Host::new(), Vec::new());
        Ok(Netback { end, host, link: None, lies, looks: 0, connections: 0 })
    }

    /// Ends the connection, if there is one, on our side.
    pub fn unlink(&mut self) {
        if let Some(link) = self.link.take() {
            link.end();
        }
    }

    /// Does what an honest back end does with the frontend's state.
    fn follow(&mut self) -> Result<(), String> {
        use XenbusState as S;
        let (front, ours) = self.end.states()?;
        match (front, ours) {
            (S::Initialising, S::InitWait) => Ok(()),
            (S::Initialising, _) => {
                self.unlink();
                self.offer()?;
                self.end.set_state(S::InitWait)
            }
            (S::Connected, S::InitWait) => self.connect(),
            // A connection of ours that the frontend does not know of, or the other way round.
            (S::Connected, S::Connected) if self.link.is_some() => Ok(()),
            (S::Connected, S::Closing) => Ok(()),
            (S::Connected, _) => self.end.set_state(S::Closing),
            (S::Closed | S::Closing | S::Unknown, S::Closed) => Ok(()),
            (S::Closing | S::Closed | S::Unknown, _) => {
                self.unlink();
                self.end.set_state(S::Closed)
            }
            _ => Ok(()),
        }
    }

    fn write(&mut self, key: &str, value: &str) -> Result<(), String> {
        self.end.store.write(&format!("{}/{key}", self.end.dir), value.as_bytes()).map_err(failed("a node"))
    }

    fn offer(&mut self) -> Result<(), String> {
        self.write("feature-rx-copy", "1")?;
        for (key, value) in self.lies.clone() {
            self.write(key, value)?;
        }
        Ok(())
    }

    fn connect(&mut self) -> Result<(), String> {
        let mut numbers = [0; 3];
        for (number, key) in numbers.iter_mut().zip(["tx-ring-ref", "rx-ring-ref", "event-channel"]) {
            let path = format!("{}/{key}", self.end.frontend);
            let read = self.end.store.read_number(&path).map_err(failed("the frontend's offer"))?;
            *number = u32::try_from(read).map_err(failed("the frontend's offer"))?;
        }
        self.link = Some(Link::new(self.end.xen, self.end.grants, self.end.peer, numbers)?);
        self.connections = self.connections.wrapping_add(1);
        self.end.set_state(XenbusState::Connected)
    }

    /// Looks at the frontend's state now and then.
    fn look(&mut self) -> Result<(), String> {
        self.looks = self.looks.wrapping_add(1);
        if self.looks.is_multiple_of(LOOKS) {
            self.follow()?;
        }
        Ok(())
    }

    /// Is honest until `done`, or for so long; whether it was done.
    fn honest_until(&mut self, for_ns: u64, done: impl Fn(&Netback) -> bool) -> Result<bool, String> {
        let until_ns = self.end.xen.now_ns().saturating_add(for_ns);
        while self.end.xen.now_ns() < until_ns {
            self.look()?;
            if let Some(link) = &mut self.link {
                self.host.step(link, self.end.xen.now_ns());
            }
            if done(self) {
                return Ok(true);
            }
            Delay::new(&self.end.xen).delay_us(IDLE_US);
        }
        Ok(false)
    }

    /// Is honest until the server has answered `count` requests. Fails if it has not within that time.
    pub fn honest(&mut self, count: u64, for_ns: u64) -> Result<(), String> {
        let from = self.host.replies();
        let goal = from.saturating_add(count);
        if self.honest_until(for_ns, |back| back.host.replies() >= goal)? {
            return Ok(());
        }
        Err(format!("{} of {count} requests came", self.host.replies().saturating_sub(from)))
    }

    /// Is honest for that long.
    pub fn honest_for(&mut self, for_ns: u64) -> Result<(), String> {
        self.honest_until(for_ns, |_| false).map(drop)
    }

    /// Looks until the link has what is asked for: a request that an attack is to answer.
    pub fn victim<R>(&mut self, for_ns: u64, take: impl Fn(&mut Link) -> Option<R>) -> Result<R, String> {
        let until_ns = self.end.xen.now_ns().saturating_add(for_ns);
        while self.end.xen.now_ns() < until_ns {
            self.look()?;
            if let Some(request) = self.link.as_mut().and_then(&take) {
                return Ok(request);
            }
            Delay::new(&self.end.xen).delay_us(IDLE_US);
        }
        Err(String::from("no request came"))
    }
}
