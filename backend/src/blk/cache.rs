//! When a write is stable: the three write-cache modes (virtio 1.3, sections 5.2.5.2 and
//! 5.2.6.2).
//!
//! | negotiated           | `writeback` | a completed write is                |
//! |----------------------|-------------|-------------------------------------|
//! | neither              | means none  | stable: flushed before its answer   |
//! | FLUSH only           | means none  | volatile until the driver flushes   |
//! | CONFIG_WCE           | 0           | stable: flushed before its answer   |
//! | CONFIG_WCE and FLUSH | 1           | volatile until the driver flushes   |
//!
//! A disk without a cache offers neither feature, and all its writes are what they are.

use super::config::{F_CONFIG_WCE, F_FLUSH, WRITEBACK};
use super::device::Device;
use crate::access::Width;
use crate::storage::Storage;

impl<S: Storage> Device<S> {
    /// The features are agreed: with FLUSH the cache is used, without it it is not.
    pub(super) fn start_cache(&mut self) {
        self.use_cache(self.transport.negotiated(F_FLUSH));
    }

    /// Back to the state before the features were agreed.
    pub(super) fn reset_cache(&mut self) {
        self.use_cache(true);
    }

    /// The driver wrote to the configuration space. `writeback` is its only field that can
    /// be written; anything else, and a cache that the driver cannot flush, is ignored.
    pub(super) fn write_config(&mut self, offset: u64, width: Width, value: u64) {
        let is_writeback = usize::try_from(offset) == Ok(WRITEBACK) && width == Width::One;
        if !is_writeback || !self.transport.negotiated(F_CONFIG_WCE) {
            return;
        }
        match value {
            0 => self.use_cache(false),
            1 if self.transport.negotiated(F_FLUSH) => self.use_cache(true),
            _ => {}
        }
    }

    fn use_cache(&mut self, on: bool) {
        self.write_through = self.geometry.flush && !on;
        self.transport.set_config(WRITEBACK, &[u8::from(self.geometry.flush && on)]);
    }
}
