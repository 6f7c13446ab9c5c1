//! The operations: argument layouts of `public/domctl.h` and `public/sched.h`.
//!
//! A domctl's interface version changes with Xen's minor version. The structures used here
//! are laid out alike in all versions listed in [`INTERFACE_VERSIONS`] (compared: Xen 4.17.0,
//! 4.18.0, 4.19.0, 4.20.0, 4.21.0 and 4.22.0), so one layout serves all and the version is found
//! by trying.

pub mod ask;
pub mod label;
pub mod list;

use std::io;
use std::sync::Mutex;

use xen_pv_sys::sched::SHUTDOWN_CRASH;
use xen_pv_sys::xen::{DOMID_FIRST_RESERVED, HYPERVISOR_DOMCTL, HYPERVISOR_SCHED_OP};

use crate::device::{ArgPage, Device};

/// `XEN_DOMCTL_INTERFACE_VERSION` of Xen 4.19 to 4.21, 4.18, 4.17, and 4.22.
pub const INTERFACE_VERSIONS: [u32; 4] = [0x17, 0x16, 0x15, 0x18];

/// `XEN_DOMCTL_pausedomain`.
pub const DOMCTL_PAUSE: u32 = 3;
/// `XEN_DOMCTL_unpausedomain`.
pub const DOMCTL_UNPAUSE: u32 = 4;
/// `XEN_DOMCTL_getdomaininfo`.
pub const DOMCTL_GETDOMAININFO: u32 = 5;
/// `XEN_DOMCTL_set_target`.
pub const DOMCTL_SET_TARGET: u32 = 46;
/// Offset of the union `u` in `struct xen_domctl`: cmd, interface_version, domain, padding.
pub const DOMCTL_UNION: usize = 16;
/// Offset of `tot_pages` in `struct xen_domctl_getdomaininfo`.
pub const INFO_TOT_PAGES: usize = 8;
/// Offset of `cpu_time` in it.
pub const INFO_CPU_TIME: usize = 56;
/// Offset of `handle` in it.
pub const INFO_HANDLE: usize = 76;
/// `SCHEDOP_remote_shutdown`.
pub const SCHEDOP_REMOTE_SHUTDOWN: u64 = 4;

/// `XEN_DOMINF_dying`.
pub const DOMINF_DYING: u32 = 1 << 0;
/// `XEN_DOMINF_shutdown`.
pub const DOMINF_SHUTDOWN: u32 = 1 << 2;
/// `XEN_DOMINF_paused`.
pub const DOMINF_PAUSED: u32 = 1 << 3;
/// `XEN_DOMINF_shutdownshift`; the code has 8 bits.
pub const DOMINF_SHUTDOWN_SHIFT: u32 = 16;

/// Why Xen could not be asked, or what it answered.
#[derive(Debug)]
pub enum Error {
    /// A device of the kernel could not be opened or mapped.
    Device(io::Error),
    /// This Xen has none of the domctl interface versions known here.
    UnknownInterface,
    /// Xen refused the operation named.
    Refused(&'static str, io::Error),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::Device(e) => write!(f, "/dev/xen/privcmd: {e}"),
            Error::UnknownInterface => f.write_str(
                "Xen refuses every domctl interface version known here (Xen 4.17 to 4.22), or this is not dom0",
            ),
            Error::Refused(what, e) => write!(f, "Xen refuses {what}: {e}"),
        }
    }
}

impl std::error::Error for Error {}

/// What Xen says about a domain.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DomainState {
    /// It is being destroyed; it may stay so (a zombie) while others hold its pages.
    pub dying: bool,
    /// It has shut down, for this reason (`SHUTDOWN_*`; 3 is a crash).
    pub shutdown: Option<u8>,
    /// Its vCPUs are paused by the toolstack.
    pub paused: bool,
    /// The UUID that its maker gave it (`xen_domain_handle_t`), as it was when it was made.
    pub handle: [u8; 16],
}

/// What a domain has used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DomainUsage {
    /// Time that its vCPUs have run, in nanoseconds.
    pub cpu_ns: u64,
    /// Pages of memory that belong to it.
    pub pages: u64,
}

/// Access to Xen for a privileged process of dom0.
#[derive(Debug)]
pub struct Privcmd {
    device: Device,
    page: Mutex<ArgPage>,
    interface_version: u32,
}

impl Privcmd {
    /// Opens the kernel's device and finds the interface version by asking after dom0.
    ///
    /// # Errors
    /// The device is missing or may not be opened; Xen's version is unknown; not dom0.
    pub fn open() -> Result<Privcmd, Error> {
        let device = Device::open().map_err(Error::Device)?;
        let page = Mutex::new(ArgPage::new().map_err(Error::Device)?);
        let mut privcmd = Privcmd { device, page, interface_version: 0 };
        for version in INTERFACE_VERSIONS {
            privcmd.interface_version = version;
            match privcmd.domctl(DOMCTL_GETDOMAININFO, 0, &[]) {
                Ok(_) => return Ok(privcmd),
                // `do_domctl` compares the version before anything else and says EACCES.
                Err(e) if e.raw_os_error() == Some(libc::EACCES) => {}
                Err(e) => return Err(Error::Refused("getdomaininfo of dom0", e)),
            }
        }
        Err(Error::UnknownInterface)
    }

    /// The domctl interface version of this Xen.
    #[must_use]
    pub fn interface_version(&self) -> u32 {
        self.interface_version
    }

    /// Gives `stub` the privileges of a device model over `guest` (`XEN_DOMCTL_set_target`).
    /// It holds until the stub ends and can be done once.
    ///
    /// # Errors
    /// No such domain (`ESRCH`), target set before (`EINVAL`), or forbidden by the XSM policy.
    pub fn set_target(&self, stub: u16, guest: u16) -> Result<(), Error> {
        self.domctl(DOMCTL_SET_TARGET, stub, &guest.to_le_bytes())
            .map_err(|e| Error::Refused("set_target", e))?;
        Ok(())
    }

    /// Lets a paused domain run.
    ///
    /// # Errors
    /// What Xen says, e.g. `ESRCH` for no such domain.
    pub fn unpause(&self, domid: u16) -> Result<(), Error> {
        self.domctl(DOMCTL_UNPAUSE, domid, &[]).map_err(|e| Error::Refused("unpause", e))?;
        Ok(())
    }

    /// Pauses a domain until [`Privcmd::unpause`].
    ///
    /// # Errors
    /// What Xen says, e.g. `ESRCH` for no such domain.
    pub fn pause(&self, domid: u16) -> Result<(), Error> {
        self.domctl(DOMCTL_PAUSE, domid, &[]).map_err(|e| Error::Refused("pause", e))?;
        Ok(())
    }

    /// Ends a domain as crashed, so that its toolstack applies `on_crash`. Unlike any other
    /// shutdown, a crash does not wait for vCPUs that are stuck in an access to a device.
    ///
    /// # Errors
    /// What Xen says, e.g. `ESRCH` for no such domain.
    pub fn crash(&self, domid: u16) -> Result<(), Error> {
        let mut args = [0; 8];
        args[..2].copy_from_slice(&domid.to_le_bytes());
        args[4..].copy_from_slice(&SHUTDOWN_CRASH.to_le_bytes());
        let mut page = self.lock();
        page.set(&args);
        self.device
            .hypercall(HYPERVISOR_SCHED_OP, [SCHEDOP_REMOTE_SHUTDOWN, 0, 0, 0, 0], 1, &mut page)
            .map_err(|e| Error::Refused("remote_shutdown", e))?;
        Ok(())
    }

    /// The state of a domain; `None` if there is none.
    ///
    /// # Errors
    /// What Xen says, other than that there is no such domain.
    pub fn domain_state(&self, domid: u16) -> Result<Option<DomainState>, Error> {
        if domid >= DOMID_FIRST_RESERVED {
            return Ok(None);
        }
        match self.domctl(DOMCTL_GETDOMAININFO, domid, &[]) {
            Ok(info) => Ok(decode_info(domid, info)),
            Err(e) if e.raw_os_error() == Some(libc::ESRCH) => Ok(None),
            Err(e) => Err(Error::Refused("getdomaininfo", e)),
        }
    }

    /// What a domain has used up to now; `None` if there is none.
    ///
    /// # Errors
    /// What Xen says, other than that there is no such domain.
    pub fn domain_usage(&self, domid: u16) -> Result<Option<DomainUsage>, Error> {
        match self.domctl(DOMCTL_GETDOMAININFO, domid, &[]) {
            Ok(info) => Ok(decode_usage(domid, &info)),
            Err(e) if e.raw_os_error() == Some(libc::ESRCH) => Ok(None),
            Err(e) => Err(Error::Refused("getdomaininfo", e)),
        }
    }

    /// Makes a domctl with `payload` in its union; returns the head of the union.
    fn domctl(&self, cmd: u32, domid: u16, payload: &[u8]) -> io::Result<Answer> {
        let mut args = Vec::with_capacity(DOMCTL_UNION + payload.len());
        args.extend_from_slice(&cmd.to_le_bytes());
        args.extend_from_slice(&self.interface_version.to_le_bytes());
        args.extend_from_slice(&domid.to_le_bytes());
        args.resize(DOMCTL_UNION, 0);
        args.extend_from_slice(payload);
        let mut page = self.lock();
        page.set(&args);
        self.device.hypercall(HYPERVISOR_DOMCTL, [0; 5], 0, &mut page)?;
        page.get(DOMCTL_UNION).ok_or_else(|| io::Error::other("no answer"))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, ArgPage> {
        // A thread that panicked cannot have left the page half valid: every use sets it again.
        self.page.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The part of a domctl's answer that is read.
type Answer = [u8; 96];

/// Decodes the head of `struct xen_domctl_getdomaininfo`.
/// Xen before 4.19 answers with the next higher domain where there is none with this number.
fn decode_info(asked: u16, answer: Answer) -> Option<DomainState> {
    let (domid, state) = decode_domain(&answer)?;
    (domid == asked).then_some(state)
}

/// The domain that `answer` is about, and its state: domain, padding, flags, and further on the handle.
fn decode_domain(answer: &Answer) -> Option<(u16, DomainState)> {
    let [d0, d1, _, _, f0, f1, f2, f3, ..] = *answer;
    let flags = u32::from_le_bytes([f0, f1, f2, f3]);
    let [code, ..] = (flags >> DOMINF_SHUTDOWN_SHIFT).to_le_bytes();
    let state = DomainState {
        dying: flags & DOMINF_DYING != 0,
        shutdown: (flags & DOMINF_SHUTDOWN != 0).then_some(code),
        paused: flags & DOMINF_PAUSED != 0,
        handle: *answer.get(INFO_HANDLE..)?.first_chunk()?,
    };
    Some((u16::from_le_bytes([d0, d1]), state))
}

/// As [`decode_info`]: `tot_pages` and `cpu_time`.
fn decode_usage(asked: u16, answer: &Answer) -> Option<DomainUsage> {
    decode_info(asked, *answer)?;
    let word = |at| Some(u64::from_le_bytes(*answer.get(at..)?.first_chunk()?));
    Some(DomainUsage { pages: word(INFO_TOT_PAGES)?, cpu_ns: word(INFO_CPU_TIME)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer that begins with `head`.
    fn answer(head: [u8; 8]) -> Answer {
        let mut answer = [0; 96];
        answer[..8].copy_from_slice(&head);
        answer[INFO_HANDLE..][..16].fill(0xa5);
        answer
    }

    #[test]
    fn the_time_and_the_pages_of_a_domain_are_found() {
        let mut info = answer([5, 0, 0, 0, 0b10_0010, 0, 0, 0]);
        info[INFO_TOT_PAGES..][..8].copy_from_slice(&4096_u64.to_le_bytes());
        info[INFO_CPU_TIME..][..8].copy_from_slice(&(1_u64 << 40).to_le_bytes());
        assert_eq!(decode_usage(5, &info), Some(DomainUsage { cpu_ns: 1 << 40, pages: 4096 }));
        assert_eq!(decode_usage(4, &info), None);
    }

    #[test]
    fn another_domain_in_the_answer_means_that_there_is_none() {
        assert_eq!(decode_info(4, answer([5, 0, 0, 0, 0, 0, 0, 0])), None);
    }

    #[test]
    fn a_crash_is_told_from_a_running_and_a_dying_domain() {
        let crashed = decode_info(5, answer([5, 0, 0, 0, 0b0100, 0, 3, 0])).unwrap();
        let handle = [0xa5; 16];
        assert_eq!(crashed, DomainState { dying: false, shutdown: Some(3), paused: false, handle });
        let running = decode_info(5, answer([5, 0, 0xff, 0xff, 0b10_0010, 0, 0, 0])).unwrap();
        assert_eq!(running, DomainState { dying: false, shutdown: None, paused: false, handle });
        let dying = decode_info(5, answer([5, 0, 0, 0, 0b1001, 0, 0, 0])).unwrap();
        assert_eq!(dying, DomainState { dying: true, shutdown: None, paused: true, handle });
    }
}
