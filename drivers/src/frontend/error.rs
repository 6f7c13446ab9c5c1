//! Why there is no connection.

use crate::xenstore::StoreError;
use core::fmt;
use kernel::Errno;
use xen_pv_sys::io::xenbus::XenbusState;

/// Why there is no connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ConnectError {
    /// xenstore failed.
    Store(StoreError),
    /// A node that must exist does not.
    Missing(&'static str),
    /// A node holds what it must not.
    BadValue(&'static str),
    /// The other end gave up, or was taken; its state.
    Refused(XenbusState),
    /// The other end stayed in this state.
    TimedOut(XenbusState),
    /// The other end goes back and forth.
    Restless,
    /// It still has this many pages of the last connection mapped.
    PagesOut(u32),
    /// Xen refused a grant or a port, or memory ran out.
    Xen(Errno),
    /// `pool_pages` is 0 or above [`crate::blkfront::MAX_POOL_PAGES`].
    PoolSize(u16),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectError::Store(error) => error.fmt(f),
            ConnectError::Missing(key) => write!(f, "xenstore node {key} is missing"),
            ConnectError::BadValue(key) => write!(f, "xenstore node {key} has a bad value"),
            ConnectError::Refused(state) => write!(f, "peer refused (state {state:?})"),
            ConnectError::TimedOut(state) => write!(f, "peer stayed in state {state:?}"),
            ConnectError::Restless => f.write_str("peer goes back and forth"),
            ConnectError::PagesOut(pages) => {
                write!(f, "peer still has {pages} pages of the last connection mapped")
            }
            ConnectError::Xen(errno) => write!(f, "setting up the ring: {errno}"),
            ConnectError::PoolSize(pages) => write!(f, "a pool of {pages} pages"),
        }
    }
}

impl core::error::Error for ConnectError {}

impl From<StoreError> for ConnectError {
    fn from(error: StoreError) -> ConnectError {
        ConnectError::Store(error)
    }
}
