//! Labels of domains, and what the policy allows them: questions to FLASK.
//!
//! `struct xen_flask_op` is a command, the interface version, and from [`FLASK_UNION`] on the arguments.

use std::io;

use super::ask::{FLASK_INTERFACE_VERSION, HYPERVISOR_XSM_OP};
use super::{DOMCTL_GETDOMAININFO, Error, Privcmd, decode_info};
use crate::device::PAGE;

/// `FLASK_CONTEXT_TO_SID`.
pub const FLASK_CONTEXT_TO_SID: u32 = 4;
/// `FLASK_SID_TO_CONTEXT`.
pub const FLASK_SID_TO_CONTEXT: u32 = 5;
/// `FLASK_ACCESS`.
pub const FLASK_ACCESS: u32 = 6;
/// `FLASK_RELABEL_DOMAIN`.
pub const FLASK_RELABEL_DOMAIN: u32 = 24;
/// Offset of the union `u` in `struct xen_flask_op`.
pub const FLASK_UNION: usize = 8;
/// Offset of `context` in `struct xen_flask_sid_context`; before it: `sid` and `size`.
pub const SID_CONTEXT_POINTER: usize = 8;
/// Offset of `allowed` in `struct xen_flask_access`; before it: the SIDs, the class, what is asked for.
pub const ACCESS_ALLOWED: usize = 16;
/// Offset of `ssidref` in `struct xen_domctl_getdomaininfo`.
pub const INFO_SSIDREF: usize = 72;

/// The longest label, in bytes: half of the argument page.
const LABEL_MAX: usize = PAGE / 2;

impl Privcmd {
    /// The FLASK label of a domain; `None` if there is no such domain, or FLASK is not in use.
    ///
    /// # Errors
    /// What Xen says.
    pub fn label(&self, domid: u16) -> Result<Option<String>, Error> {
        let info = match self.domctl(DOMCTL_GETDOMAININFO, domid, &[]) {
            Ok(info) => info,
            Err(e) if e.raw_os_error() == Some(libc::ESRCH) => return Ok(None),
            Err(e) => return Err(Error::Refused("getdomaininfo", e)),
        };
        let sid = info.get(INFO_SSIDREF..).and_then(|rest| rest.first_chunk()).copied();
        let Some(sid) = sid.filter(|_| decode_info(domid, info).is_some()) else { return Ok(None) };
        match self.context(u32::from_le_bytes(sid)) {
            Err(e) if e.raw_os_error() == Some(libc::ENOSYS) => Ok(None),
            label => label.map(Some).map_err(|e| Error::Refused("the label of a domain", e)),
        }
    }

    /// What the policy allows `subject` over `object`, both labels, in the class of that number: a bit for
    /// each permission. `None` if it has no such label.
    ///
    /// # Errors
    /// What Xen says.
    pub fn allowed(&self, subject: &str, object: &str, class: u16) -> Result<Option<u32>, Error> {
        let sid = |label| match self.sid(label) {
            // The policy has no such user, role or type, or does not allow them together.
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => Ok(None),
            sid => sid.map(Some).map_err(|e| Error::Refused("a label", e)),
        };
        let (Some(subject), Some(object)) = (sid(subject)?, sid(object)?) else { return Ok(None) };
        let mut args = Vec::new();
        for word in [subject, object, class.into(), u32::MAX, 0, 0, 0, 0] {
            args.extend_from_slice(&word.to_le_bytes());
        }
        let mut page = self.lock();
        page.set(&operation(FLASK_ACCESS, &args));
        self.device
            .hypercall(HYPERVISOR_XSM_OP, [0; 5], 0, &mut page)
            .map_err(|e| Error::Refused("a question to the policy", e))?;
        Ok(page.get(FLASK_UNION + ACCESS_ALLOWED).map(u32::from_le_bytes))
    }

    /// Gives a domain another label.
    ///
    /// # Errors
    /// What Xen says: the policy has no such label, or does not allow the change.
    pub fn relabel(&self, domid: u16, label: &str) -> Result<(), Error> {
        let sid = self.sid(label).map_err(|e| Error::Refused("a label", e))?;
        let mut page = self.lock();
        page.set(&operation(FLASK_RELABEL_DOMAIN, &relabel_arguments(domid, sid)));
        self.device
            .hypercall(HYPERVISOR_XSM_OP, [0; 5], 0, &mut page)
            .map(|_| ())
            .map_err(|e| Error::Refused("another label for a domain", e))
    }

    /// The label behind a number of Xen's.
    fn context(&self, sid: u32) -> io::Result<String> {
        let mut page = self.lock();
        page.set(&operation(FLASK_SID_TO_CONTEXT, &sid_context(sid, LABEL_MAX)));
        page.set_pointer_to_half(FLASK_UNION + SID_CONTEXT_POINTER);
        self.device.hypercall(HYPERVISOR_XSM_OP, [0; 5], 0, &mut page)?;
        let bytes: [u8; LABEL_MAX] = page.get(PAGE / 2).ok_or_else(|| io::Error::other("no answer"))?;
        let label = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        String::from_utf8(label.to_vec()).map_err(io::Error::other)
    }

    /// The number of a label.
    fn sid(&self, label: &str) -> io::Result<u32> {
        if label.len() >= LABEL_MAX {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let mut args = operation(FLASK_CONTEXT_TO_SID, &sid_context(0, label.len()));
        args.resize(PAGE / 2, 0);
        args.extend_from_slice(label.as_bytes());
        let mut page = self.lock();
        page.set(&args);
        page.set_pointer_to_half(FLASK_UNION + SID_CONTEXT_POINTER);
        self.device.hypercall(HYPERVISOR_XSM_OP, [0; 5], 0, &mut page)?;
        page.get(FLASK_UNION).map(u32::from_le_bytes).ok_or_else(|| io::Error::other("no answer"))
    }
}

/// An operation with these arguments.
fn operation(command: u32, args: &[u8]) -> Vec<u8> {
    let head = [command, FLASK_INTERFACE_VERSION];
    head.iter().flat_map(|word| word.to_le_bytes()).chain(args.iter().copied()).collect()
}

/// `struct xen_flask_relabel`.
fn relabel_arguments(domid: u16, sid: u32) -> Vec<u8> {
    [u32::from(domid), sid].iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// `struct xen_flask_sid_context` without its pointer.
fn sid_context(sid: u32, bytes: usize) -> Vec<u8> {
    let size = u32::try_from(bytes).unwrap_or(0);
    [sid, size].iter().flat_map(|word| word.to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_about_a_label_is_laid_out_as_xen_reads_it() {
        let args = operation(FLASK_CONTEXT_TO_SID, &sid_context(0x0102_0304, 0x0506));
        assert_eq!(args, [4, 0, 0, 0, 1, 0, 0, 0, 4, 3, 2, 1, 6, 5, 0, 0]);
        assert_eq!(args.len(), FLASK_UNION + SID_CONTEXT_POINTER);
        let args = operation(FLASK_RELABEL_DOMAIN, &relabel_arguments(0x0102, 0x0304_0506));
        assert_eq!(args, [24, 0, 0, 0, 1, 0, 0, 0, 2, 1, 0, 0, 6, 5, 4, 3]);
    }
}
