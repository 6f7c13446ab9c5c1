//! What Xen can do, asked by operations that fail before they change anything.

use xen_pv_sys::xen::HYPERVISOR_DM_OP;

use super::{Error, Privcmd};

/// `__HYPERVISOR_xsm_op`.
pub const HYPERVISOR_XSM_OP: u64 = 27;
/// `FLASK_GETENFORCE`.
pub const FLASK_GETENFORCE: u32 = 2;
/// `XEN_FLASK_INTERFACE_VERSION`.
pub const FLASK_INTERFACE_VERSION: u32 = 1;
/// More buffers than any dm_op takes.
const TOO_MANY_BUFFERS: u64 = 1 << 16;

impl Privcmd {
    /// Whether Xen was built with IOREQ servers (`CONFIG_IOREQ_SERVER`). Without them Xen on
    /// Arm has no dm_op at all and says `ENOSYS`; with them a dm_op of too many buffers is
    /// refused (`E2BIG`) before domain and operation are examined.
    ///
    /// # Errors
    /// Xen gives another answer.
    pub fn has_ioreq_servers(&self) -> Result<bool, Error> {
        let mut page = self.lock();
        page.set(&[]);
        match self.device.hypercall(HYPERVISOR_DM_OP, [0, TOO_MANY_BUFFERS, 0, 0, 0], 2, &mut page) {
            Err(e) if e.raw_os_error() == Some(libc::E2BIG) => Ok(true),
            Err(e) if e.raw_os_error() == Some(libc::ENOSYS) => Ok(false),
            Err(e) => Err(Error::Refused("dm_op", e)),
            Ok(_) => Err(Error::Refused("nothing of a dm_op", std::io::Error::other("accepted"))),
        }
    }

    /// Whether FLASK is Xen's security module, and then whether it enforces its policy.
    ///
    /// # Errors
    /// Xen fails with another error than `ENOSYS`, which a module without operations of its own gives.
    pub fn flask(&self) -> Result<Option<bool>, Error> {
        let mut args = [0; 8];
        args[..4].copy_from_slice(&FLASK_GETENFORCE.to_le_bytes());
        args[4..].copy_from_slice(&FLASK_INTERFACE_VERSION.to_le_bytes());
        let mut page = self.lock();
        page.set(&args);
        match self.device.hypercall(HYPERVISOR_XSM_OP, [0; 5], 0, &mut page) {
            Ok(enforcing) => Ok(Some(enforcing != 0)),
            Err(e) if e.raw_os_error() == Some(libc::ENOSYS) => Ok(None),
            Err(e) => Err(Error::Refused("xsm_op", e)),
        }
    }
}
