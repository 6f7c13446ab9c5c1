//! What the toolstack writes into xenstore for a device, whatever its class.

use super::xenstored::XenStored;
use alloc::format;
use alloc::string::{String, ToString};
use kernel::DomId;

/// A device that is made.
pub(super) struct Device<'a> {
    pub(super) store: &'a XenStored,
    pub(super) front_dir: &'a str,
    /// `vbd`, `vif`.
    pub(super) class: &'a str,
    pub(super) number: u32,
    pub(super) stub: DomId,
    pub(super) backend: DomId,
}

impl Device<'_> {
    /// Removes what was there before, and makes both directories with `front` and `back` beside what each
    /// device has. Returns the other end's directory.
    pub(super) fn make(&self, old_back_dir: &str, front: &[(&str, &str)], back: &[(&str, &str)]) -> String {
        let Device { store, front_dir, class, number, stub, backend } = *self;
        store.rm(front_dir);
        if !old_back_dir.is_empty() {
            store.rm(old_back_dir);
        }
        let back_dir = format!("/local/domain/{backend}/backend/{class}/{stub}/{number}");
        let (backend, stub) = (backend.to_string(), stub.to_string());
        let write = |dir: &str, nodes: &[(&str, &str)]| {
            for (key, value) in nodes {
                store.write(&format!("{dir}/{key}"), value);
            }
        };
        write(front_dir, &[("backend", &back_dir), ("backend-id", &backend)]);
        write(front_dir, front);
        write(front_dir, &[("state", "1")]);
        write(&back_dir, &[("frontend-id", &stub), ("online", "1")]);
        write(&back_dir, back);
        write(&back_dir, &[("state", "1")]);
        back_dir
    }
}
