//! Where the two halves of a device live in xenstore, and which domain the other one is.

use super::ConnectError;
use crate::xenbus;
use crate::xenstore::{StoreError, Xenstore, number};
use alloc::string::String;
use alloc::{format, vec};
use kernel::{DomId, Hypervisor};
use xen_pv_sys::io::xenbus::XenbusState;
use xen_pv_sys::io::xs_wire::ABS_PATH_MAX;
use xen_pv_sys::xen::DOMID_FIRST_RESERVED;

/// Our nodes and those of the other end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Paths {
    /// Our directory, relative to our domain's.
    pub(crate) frontend: String,
    /// The other end's, absolute.
    pub(crate) backend: String,
    pub(crate) domid: DomId,
    /// Of the watches on our `backend` node and on the other end's state.
    pub(crate) token: String,
}

/// What xenstore says of the device now.
pub(crate) struct Found {
    pub(crate) paths: Paths,
    /// Our state.
    pub(crate) ours: XenbusState,
    /// The other end's; not read if it is another one than was known.
    pub(crate) theirs: Option<XenbusState>,
}

impl Paths {
    /// Reads what the toolstack wrote for the device, and the states of both ends.
    ///
    /// # Errors
    /// [`ConnectError::Missing`] if there is no such device now.
    pub(crate) fn find<H: Hypervisor>(
        xs: &mut Xenstore<H>,
        name: Name,
        known: Option<&Paths>,
    ) -> Result<Found, ConnectError> {
        let frontend = name.frontend();
        let mut nodes = vec![name.pointer(), format!("{frontend}/backend-id"), xenbus::state_path(&frontend)];
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
        Ok(Found { paths: Paths { frontend, backend, domid, token: name.token() }, ours, theirs })
    }

    /// Whether an event at `path` is about the other end.
    pub(crate) fn is_backend(&self, path: &str) -> bool {
        is_below(path, &self.backend)
    }
}

fn missing(key: &'static str, error: StoreError) -> ConnectError {
    if error.is_not_found() { ConnectError::Missing(key) } else { ConnectError::Store(error) }
}

/// Class and number of a device.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Name {
    pub(crate) class: &'static str,
    pub(crate) number: u32,
}

impl Name {
    /// Our directory.
    #[inline(never)]
    pub(crate) fn frontend(self) -> String {
        format!("device/{}/{}", self.class, self.number)
    }

    /// Our node that names the other end: the toolstack writes it again when it attaches the device
    /// again.
    #[inline(never)]
    pub(crate) fn pointer(self) -> String {
        format!("device/{}/{}/backend", self.class, self.number)
    }

    /// Of all the device's watches.
    #[inline(never)]
    pub(crate) fn token(self) -> String {
        format!("{}-{}", self.class, self.number)
    }
}

/// Whether `path` is `ancestor` or lies below it.
pub(crate) fn is_below(path: &str, ancestor: &str) -> bool {
    path.strip_prefix(ancestor).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
