//! All domains that Xen knows (`XEN_SYSCTL_getdomaininfolist`).
//!
//! One call gives one domain: how long its entry is depends on Xen's version, where its fields
//! of interest are does not.

use std::io;

use super::{Answer, DomainState, Error, Privcmd, decode_domain};
use crate::device::PAGE;

/// `__HYPERVISOR_sysctl`.
pub const HYPERVISOR_SYSCTL: u64 = 35;
/// `XEN_SYSCTL_INTERFACE_VERSION` of Xen 4.17 to 4.20, and of 4.21 and 4.22. The operation used
/// here is laid out alike in both.
pub const SYSCTL_VERSIONS: [u32; 2] = [0x15, 0x16];
/// `XEN_SYSCTL_getdomaininfolist`.
pub const SYSCTL_GETDOMAININFOLIST: u32 = 6;
/// Offset of the union `u` in `struct xen_sysctl`: command, interface version.
pub const SYSCTL_UNION: usize = 8;
/// Offset of `max_domains` in `struct xen_sysctl_getdomaininfolist`; before it: `first_domain`.
pub const LIST_MAX_DOMAINS: usize = 4;
/// Offset of `buffer` in it.
pub const LIST_BUFFER: usize = 8;
/// Offset of `num_domains` in it.
pub const LIST_NUM_DOMAINS: usize = 16;

impl Privcmd {
    /// Every domain that exists, dom0 and dying ones too, in order of domain id.
    ///
    /// # Errors
    /// What Xen says.
    pub fn domains(&self) -> Result<Vec<(u16, DomainState)>, Error> {
        let mut found = Vec::new();
        let mut from = Some(0);
        while let Some(first) = from
            && let Some((domid, state)) =
                self.next_domain(first).map_err(|e| Error::Refused("getdomaininfolist", e))?
        {
            // Xen counts upwards; an answer from below would never end.
            from = domid.max(first).checked_add(1);
            found.push((domid, state));
        }
        Ok(found)
    }

    /// The domain with the lowest id that is not below `first`.
    fn next_domain(&self, first: u16) -> io::Result<Option<(u16, DomainState)>> {
        let mut refused = io::Error::other("no interface version");
        for version in SYSCTL_VERSIONS {
            let mut page = self.lock();
            page.set(&request(version, first));
            page.set_pointer_to_half(SYSCTL_UNION + LIST_BUFFER);
            match self.device.hypercall(HYPERVISOR_SYSCTL, [0; 5], 0, &mut page) {
                Ok(_) => {
                    let count = page.get(SYSCTL_UNION + LIST_NUM_DOMAINS).map(u32::from_le_bytes);
                    let answer: Option<Answer> = page.get(PAGE / 2);
                    let found = answer.filter(|_| count == Some(1));
                    return Ok(found.and_then(|answer| decode_domain(&answer)));
                }
                // `do_sysctl` compares the version before anything else and says EACCES.
                Err(e) if e.raw_os_error() == Some(libc::EACCES) => refused = e,
                Err(e) => return Err(e),
            }
        }
        Err(refused)
    }
}

/// The arguments: one domain, from `first` on. The pointer to the buffer is not in them yet.
fn request(version: u32, first: u16) -> Vec<u8> {
    let mut args = Vec::new();
    args.extend_from_slice(&SYSCTL_GETDOMAININFOLIST.to_le_bytes());
    args.extend_from_slice(&version.to_le_bytes());
    args.extend_from_slice(&first.to_le_bytes());
    args.resize(SYSCTL_UNION + LIST_MAX_DOMAINS, 0);
    args.extend_from_slice(&1_u32.to_le_bytes());
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_laid_out_as_xen_reads_it() {
        assert_eq!(request(0x15, 0x0102), [6, 0, 0, 0, 0x15, 0, 0, 0, 2, 1, 0, 0, 1, 0, 0, 0]);
    }
}
