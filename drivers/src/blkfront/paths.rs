//! Where the two halves of a disk live in xenstore, and which domain the other one is.

use super::ConnectError;
use crate::xenbus;
use crate::xenstore::{StoreError, Xenstore, number};
use alloc::string::String;
use alloc::{format, vec};
use kernel::{DomId, Hypervisor};
use xen_pv_sys::io::xenbus::XenbusState;
use xen_pv_sys::io::xs_wire::ABS_PATH_MAX;
use xen_pv_sys::xen::DOMID_FIRST_RESERVED;

/// Our nodes and blkback's.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Paths {
    /// Our directory, relative to our domain's.
    pub(super) frontend: String,
    /// Blkback's, absolute.
    pub(super) backend: String,
    pub(super) domid: DomId,
    /// Of the watches on our `backend` node and on blkback's state.
    pub(super) token: String,
}

/// What xenstore says of the disk now.
pub(super) struct Found {
    pub(super) paths: Paths,
    /// Our state.
    pub(super) ours: XenbusState,
    /// Blkback's; not read if it is another one than was known.
    pub(super) theirs: Option<XenbusState>,
}

impl Paths {
    /// Reads what the toolstack wrote for the disk, and the states of both ends.
    ///
    /// # Errors
    /// [`ConnectError::Missing`] if there is no such disk now.
    pub(super) fn find<H: Hypervisor>(
        xs: &mut Xenstore<H>,
        vdev: u32,
        known: Option<&Paths>,
    ) -> Result<Found, ConnectError> {
        let frontend = frontend(vdev);
        let mut nodes = vec![pointer(vdev), format!("{frontend}/backend-id"), xenbus::state_path(&frontend)];
        nodes.extend(known.map(|paths| xenbus::state_path(&paths.backend)));
        let mut answers = xs.read_all(nodes)?.into_iter();
        let mut node = || answers.next().unwrap_or(Err(StoreError::TimedOut));
        let backend = node().map_err(|error| missing("backend", error))?;
        let backend = String::from_utf8(backend).map_err(|_| ConnectError::BadValue("backend"))?;
        // It becomes a part of longer paths, and of lines of the log.
        let plain = |byte: &u8| byte.is_ascii_graphic();
        if !backend.starts_with('/')
            || backend.len() > ABS_PATH_MAX / 2
            || !backend.as_bytes().iter().all(plain)
        {
            return Err(ConnectError::BadValue("backend"));
        }
        let domid = node().and_then(|value| number(&value)).map_err(|error| missing("backend-id", error))?;
        let domid = u16::try_from(domid).ok().filter(|&domid| domid < DOMID_FIRST_RESERVED);
        let domid = DomId(domid.ok_or(ConnectError::BadValue("backend-id"))?);
        let ours = xenbus::state_in(node())?;
        let theirs = match known {
            // What was read is the state in the directory that was known before.
            Some(known) if known.backend == backend => Some(xenbus::state_in(node())?),
            _ => None,
        };
        Ok(Found { paths: Paths { frontend, backend, domid, token: token(vdev) }, ours, theirs })
    }

    /// Whether an event at `path` is about blkback.
    pub(super) fn is_backend(&self, path: &str) -> bool {
        is_below(path, &self.backend)
    }
}

fn missing(key: &'static str, error: StoreError) -> ConnectError {
    if error.is_not_found() { ConnectError::Missing(key) } else { ConnectError::Store(error) }
}

/// Our directory.
#[inline(never)]
pub(super) fn frontend(vdev: u32) -> String {
    format!("device/vbd/{vdev}")
}

/// Our node that names blkback: the toolstack writes it again when it attaches the disk
/// again.
#[inline(never)]
pub(super) fn pointer(vdev: u32) -> String {
    format!("device/vbd/{vdev}/backend")
}

/// Of all the disk's watches.
#[inline(never)]
pub(super) fn token(vdev: u32) -> String {
    format!("vbd-{vdev}")
}

/// Whether `path` is `ancestor` or lies below it.
pub(super) fn is_below(path: &str, ancestor: &str) -> bool {
    path.strip_prefix(ancestor).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
