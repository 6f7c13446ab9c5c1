//! Where the two halves of a disk live in xenstore, and which domain the other one is.

use super::ConnectError;
use crate::xenstore::{StoreError, Xenstore};
use alloc::format;
use alloc::string::String;
use kernel::{DomId, Hypervisor};
use xen_pv_sys::io::xs_wire::ABS_PATH_MAX;
use xen_pv_sys::xen::DOMID_FIRST_RESERVED;

/// Our nodes and the back end's.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Names {
    /// Our directory, relative to our domain's.
    pub(super) frontend: String,
    /// The back end's, absolute.
    pub(super) backend: String,
    pub(super) domid: DomId,
    /// Of the watches on our `backend` node and on the back end's state.
    pub(super) token: String,
}

impl Names {
    /// Reads what the tool stack wrote for the disk.
    ///
    /// # Errors
    /// [`ConnectError::Missing`] if there is no such disk now.
    pub(super) fn find<H: Hypervisor>(xs: &mut Xenstore<H>, vdev: u32) -> Result<Names, ConnectError> {
        let frontend = frontend(vdev);
        let missing = |key| {
            move |error: StoreError| {
                if error.is_not_found() { ConnectError::Missing(key) } else { ConnectError::Store(error) }
            }
        };
        let backend = xs.read_string(&pointer(vdev)).map_err(missing("backend"))?;
        let plain = |byte: &u8| byte.is_ascii_graphic();
        if !backend.starts_with('/')
            || backend.len() > ABS_PATH_MAX / 2
            || !backend.as_bytes().iter().all(plain)
        {
            return Err(ConnectError::BadValue("backend"));
        }
        let domid = xs.read_number(&format!("{frontend}/backend-id")).map_err(missing("backend-id"))?;
        let domid = u16::try_from(domid).ok().filter(|&domid| domid < DOMID_FIRST_RESERVED);
        let domid = DomId(domid.ok_or(ConnectError::BadValue("backend-id"))?);
        Ok(Names { frontend, backend, domid, token: token(vdev) })
    }

    /// Whether an event at `path` is about the back end.
    pub(super) fn is_backend(&self, path: &str) -> bool {
        is_below(path, &self.backend)
    }
}

/// Our directory.
pub(super) fn frontend(vdev: u32) -> String {
    format!("device/vbd/{vdev}")
}

/// Our node that names the back end: the tool stack writes it anew when it attaches the disk
/// again.
pub(super) fn pointer(vdev: u32) -> String {
    format!("device/vbd/{vdev}/backend")
}

/// Of all the disk's watches.
pub(super) fn token(vdev: u32) -> String {
    format!("vbd-{vdev}")
}

/// Whether `path` is `ancestor` or lies below it.
pub(super) fn is_below(path: &str, ancestor: &str) -> bool {
    path.strip_prefix(ancestor).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
