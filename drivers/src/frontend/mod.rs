//! What the frontends of PV devices share: a device's nodes in xenstore, the way to a connection, and
//! its end. A frontend is a [`Device`]; [`Reconnect`] leads to it.

mod connect;
mod error;
mod nodes;
mod numbers;
mod paths;
mod reconnect;

pub(crate) use connect::{CONNECT_TIMEOUT_NS, connect};
pub use error::ConnectError;
pub(crate) use nodes::{close, is_ours, wait_for_within, write_nodes};
pub(crate) use numbers::Numbers;
pub(crate) use paths::{Found, Name, Paths, is_below};
pub use reconnect::Reconnect;

use crate::gnttab::GrantedPage;
use crate::xenstore::Xenstore;
use alloc::vec::Vec;
use core::fmt;
use kernel::Hypervisor;
use xen_pv_sys::io::xenbus::XenbusState;

/// A frontend: what is its own of the handshake.
pub trait Device<H: Hypervisor>: Sized {
    /// Its directory in xenstore (`vbd`).
    const CLASS: &'static str;
    /// Its name in messages.
    const NAME: &'static str;
    /// Our state once everything is offered.
    const OFFERED: XenbusState;
    /// What it is made with, each time anew.
    type Options: Copy + fmt::Debug;

    /// Reads the limits of the other end, and does everything that needs memory, before that end sees any
    /// of it.
    ///
    /// # Errors
    /// Why not, and the pages that were granted: the other end might have mapped them.
    fn prepare(
        hv: &H,
        xs: &mut Xenstore<H>,
        session: Session<Self::Options>,
    ) -> Result<Self, (ConnectError, Vec<GrantedPage<H>>)>;

    /// Writes rings, port and features into our directory. The other end reads them once our state,
    /// which is written after that, says that they are there.
    ///
    /// # Errors
    /// What xenstore says.
    fn offer(&self, xs: &mut Xenstore<H>) -> Result<(), ConnectError>;

    /// The other end is Connected: reads the device's properties.
    ///
    /// # Errors
    /// What it says is of no use, or xenstore failed.
    fn complete(&mut self, xs: &mut Xenstore<H>) -> Result<(), ConnectError>;

    /// The connection's place and time.
    fn session(&self) -> &Session<Self::Options>;

    /// The same, to be changed.
    fn session_mut(&mut self) -> &mut Session<Self::Options>;

    /// Closes the port and gives up the rings; what is left are the pages, still granted.
    fn into_pages(self) -> Vec<GrantedPage<H>>;
}

/// A connection's place and time.
#[derive(Clone, Debug)]
pub struct Session<O> {
    /// The device's number (`device/<class>/<number>`).
    pub(crate) number: u32,
    pub(crate) options: O,
    pub(crate) paths: Paths,
    /// The pause before this connection, and its beginning.
    pub(crate) pause_ns: u64,
    pub(crate) connected_at_ns: u64,
}
