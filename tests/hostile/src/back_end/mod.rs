//! What a back end of our own has, whatever it serves: the frontend that the toolstack names for it, its own directory
//! in xenstore, the frontend's memory; and the attacks that need no more than these.

mod ring;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use core::fmt::Debug;
use drivers::Xenstore;
use drivers::xenbus;
use kernel::granted::{GRANT_BIT, GrantMap};
use kernel::{Delay, DelayNs, DomId, Xen};
pub use ring::Ring;
use xen_pv_sys::PAGE_SHIFT;
use xen_pv_sys::io::xenbus::XenbusState;

/// Nodes of a flood.
const FLOOD: u32 = 600;

/// One back end.
pub struct BackEnd {
    /// Hypercalls and time.
    pub xen: Xen,
    /// The store.
    pub store: Xenstore<Xen>,
    /// Our directory in it.
    pub dir: String,
    /// The frontend's directory.
    pub frontend: String,
    /// The frontend's domain.
    pub peer: DomId,
    /// The frontend's memory.
    pub grants: &'static GrantMap,
}

/// An error of a step that has a name.
pub fn failed<E: Debug>(what: &'static str) -> impl Fn(E) -> String {
    move |why| format!("{what}: {why:?}")
}

/// Where a granted page is, for [`GrantMap`].
pub fn address(gref: u32) -> u64 {
    GRANT_BIT | u64::from(gref) << PAGE_SHIFT
}

impl BackEnd {
    /// Waits for the toolstack to name a frontend in `backends`, where it writes what this domain is the back end of.
    pub fn wait(xen: Xen, backends: &str) -> Result<BackEnd, String> {
        let mut store = Xenstore::new(&xen).map_err(failed("xenstore"))?;
        loop {
            if let Some((dir, peer)) = named(&mut store, backends) {
                let frontend = store.read_string(&format!("{dir}/frontend")).map_err(failed("frontend"))?;
                // One for the life of this domain.
                let grants = Box::leak(Box::new(xen.grant_map(peer).map_err(failed("grants"))?));
                return Ok(BackEnd { xen, store, dir, frontend, peer, grants });
            }
            Delay::new(&xen).delay_ms(20);
        }
    }

    /// The frontend's state, and ours.
    pub fn states(&mut self) -> Result<(XenbusState, XenbusState), String> {
        let read = |store: &mut _, dir: &str| xenbus::read_state(store, dir).map_err(failed("a state"));
        Ok((read(&mut self.store, &self.frontend)?, read(&mut self.store, &self.dir)?))
    }

    /// Sets our state.
    pub fn set_state(&mut self, state: XenbusState) -> Result<(), String> {
        xenbus::write_state(&mut self.store, &self.dir, state).map_err(failed("our state"))
    }

    /// Sets every state, in orders that no back end has.
    pub fn states_flap(&mut self) -> Result<(), String> {
        for _ in 0..5 {
            for number in [5, 4, 6, 4, 2, 4, 1, 3, 7, 8, 0, 4, 6, 2] {
                self.set_state(XenbusState::from_number(number))?;
                Delay::new(&self.xen).delay_ms(10);
            }
        }
        Ok(())
    }

    /// Writes states that are none.
    pub fn states_nonsense(&mut self) -> Result<(), String> {
        let path = format!("{}/state", self.dir);
        let long = [b'4'; 2000];
        let short = ["", "-1", "9", "4294967300", "18446744073709551620", "4 ", "four", "\u{0}4"];
        for value in short.iter().map(|value| value.as_bytes()).chain([long.as_slice()]) {
            self.store.write(&path, value).map_err(failed("a state"))?;
            Delay::new(&self.xen).delay_ms(50);
        }
        self.set_state(XenbusState::Closing)
    }

    /// Writes long nodes into our directory; how many it could.
    pub fn flood_nodes(&mut self) -> u32 {
        let value = [b'x'; 1500];
        let write = |n| self.store.write(&format!("{}/flood-{n}", self.dir), &value).is_ok();
        (0..FLOOD).map(write).map(u32::from).sum()
    }

    /// Removes them.
    pub fn clear_nodes(&mut self) {
        for n in 0..FLOOD {
            let _ = self.store.rm(&format!("{}/flood-{n}", self.dir));
        }
    }
}

/// The first frontend that the toolstack names there, and our directory for it.
fn named(store: &mut Xenstore<Xen>, backends: &str) -> Option<(String, DomId)> {
    let peer = store.directory(backends).ok()?.first()?.to_string();
    let device = store.directory(&format!("{backends}/{peer}")).ok()?.first()?.to_string();
    let dir = format!("{backends}/{peer}/{device}");
    // The last node that libxl writes before it waits.
    store.read(&format!("{dir}/state")).ok()?;
    Some((dir, DomId(peer.parse().ok()?)))
}
