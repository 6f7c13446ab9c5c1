//! What everything that acts for a guest is given.

use crate::config::Config;
use crate::host::Host;
use crate::xenstore::Store;

/// The configuration, and the ways to xenstore and to domains.
pub struct Env<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// xenstore.
    pub store: &'a dyn Store,
    /// Domains.
    pub host: &'a dyn Host,
}
