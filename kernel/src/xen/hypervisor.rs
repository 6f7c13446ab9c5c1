//! The typed seam to Xen: what the stub may ask for, one method per hypercall used.

use crate::mem::shared::SharedPage;
use core::fmt;
use xen_pv_sys::errno::Errno;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(/// A domain identifier (`domid_t`).
    DomId(u16));
number!(/// An event channel of this domain (`evtchn_port_t`).
    Port(u32));
number!(/// A reference into this domain's grant table (`grant_ref_t`).
    GrantRef(u32));
number!(/// An ioreq server of the guest (`ioservid_t`).
    IoservId(u16));

/// Why a domain ends (`SHUTDOWN_*` of `public/sched.h`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ShutdownReason {
    /// Done; nothing went wrong.
    Poweroff,
    /// A bug of ours, or a peer that cannot be served.
    Crash,
}

/// Xen, as a device model sees it.
///
/// A cheap handle: clones reach the same domain. Methods take `&self`, because Xen keeps the
/// state. Errors are Xen's own numbers.
///
/// # Examples
/// Two domains signal each other, over the in-memory Xen of the tests:
///
/// ```
/// use kernel::fake::FakeXen;
/// use kernel::{DomId, Hypervisor};
///
/// let stub = FakeXen::new(DomId(5));
/// let peer = stub.domain(DomId(0));
/// let offered = peer.evtchn_alloc_unbound(DomId(5))?;
/// let port = stub.evtchn_bind_interdomain(DomId(0), offered.0)?;
/// stub.evtchn_take_pending(port); // a new port is pending at once
///
/// peer.evtchn_send(offered)?;
/// stub.poll(&[port], None)?;
/// assert!(stub.evtchn_take_pending(port));
/// # Ok::<(), kernel::Errno>(())
/// ```
pub trait Hypervisor: Clone {
    // Event channels (public/event_channel.h). All ports stay masked: nothing interrupts.

    /// Allocates a port that `remote` may bind to.
    ///
    /// # Errors
    /// `ENOSPC` if no port is free, or what XSM answers.
    fn evtchn_alloc_unbound(&self, remote: DomId) -> Result<Port, Errno>;

    /// Binds to `remote_port` of `remote`. The new port is pending at once.
    ///
    /// # Errors
    /// `EINVAL` if it is not offered to us, `EPERM` if XSM says so.
    fn evtchn_bind_interdomain(&self, remote: DomId, remote_port: u32) -> Result<Port, Errno>;

    /// Notifies the other end.
    ///
    /// # Errors
    /// `EINVAL` for a port that is not connected.
    fn evtchn_send(&self, port: Port) -> Result<(), Errno>;

    /// Closes our end.
    ///
    /// # Errors
    /// `EINVAL` for a port that is not open.
    fn evtchn_close(&self, port: Port) -> Result<(), Errno>;

    /// Clears the port's pending bit and tells whether it was set. Full barrier after it:
    /// clear first, then look for work.
    fn evtchn_take_pending(&self, port: Port) -> bool;

    /// Blocks until one of `ports` is pending, or `deadline_ns` (on [`Hypervisor::now_ns`]'s
    /// clock) has passed. At most [`xen_pv_sys::sched::POLL_MAX_PORTS`] ports.
    ///
    /// # Errors
    /// `EINVAL` for a bad port or too many.
    fn poll(&self, ports: &[Port], deadline_ns: Option<u64>) -> Result<(), Errno>;

    // Grants (version 1 table).

    /// Lets `remote` map `page`, one of our own.
    ///
    /// # Errors
    /// `ENOSPC` if the grant table is full.
    fn grant_access(&self, remote: DomId, page: &SharedPage, read_only: bool) -> Result<GrantRef, Errno>;

    /// Takes a grant back.
    ///
    /// # Errors
    /// `EBUSY` while the peer still has the page mapped: the page must not be reused.
    fn grant_end(&self, gref: GrantRef) -> Result<(), Errno>;

    // Device model (public/hvm/dm_op.h), on the target domain only.

    /// Creates an ioreq server without a buffered page.
    ///
    /// # Errors
    /// `EPERM` if we have no privilege over `target`, `ESRCH` if it does not exist.
    fn ioreq_server_create(&self, target: DomId) -> Result<IoservId, Errno>;

    /// Maps the server's synchronous page. Do this before enabling the server.
    ///
    /// # Errors
    /// What Xen answers.
    fn ioreq_server_page(&self, target: DomId, id: IoservId) -> Result<SharedPage, Errno>;

    /// Claims guest physical addresses `first..=last`.
    ///
    /// # Errors
    /// `EEXIST` on overlap in this server.
    fn ioreq_server_map_mmio(&self, target: DomId, id: IoservId, first: u64, last: u64) -> Result<(), Errno>;

    /// Enables or disables the server. While disabled, Xen sends it no new access.
    ///
    /// # Errors
    /// `ENOENT` if there is no such server of ours.
    fn ioreq_server_set_state(&self, target: DomId, id: IoservId, enabled: bool) -> Result<(), Errno>;

    /// Destroys the server. Drain it first.
    ///
    /// # Errors
    /// `ENOENT` if there is no such server of ours.
    fn ioreq_server_destroy(&self, target: DomId, id: IoservId) -> Result<(), Errno>;

    /// Sets the level of the guest's SPI `irq` (INTID). On Arm each `true` injects once.
    ///
    /// # Errors
    /// `EINVAL` for an interrupt that the guest does not have.
    fn set_irq_level(&self, target: DomId, irq: u32, level: bool) -> Result<(), Errno>;

    /// vCPUs of the target.
    ///
    /// # Errors
    /// `EPERM`, `ESRCH`.
    fn nr_vcpus(&self, target: DomId) -> Result<u32, Errno>;

    // Our own domain.

    /// An `HVM_PARAM_*` of this domain.
    ///
    /// # Errors
    /// `EINVAL` for an unknown parameter.
    fn hvm_param(&self, index: u32) -> Result<u64, Errno>;

    /// The page at `gfn` that the toolstack prepared for us (console ring, xenstore ring).
    ///
    /// # Errors
    /// `EFAULT` if `gfn` lies outside the magic pages.
    fn magic_page(&self, gfn: u64) -> Result<SharedPage, Errno>;

    /// Nanoseconds on a monotonic clock.
    fn now_ns(&self) -> u64;

    /// Gives the CPU away for a moment.
    fn yield_cpu(&self);

    /// Nanoseconds for which this domain wanted a CPU that others had, as of the last time that
    /// it got one back. It grows while [`Hypervisor::yield_cpu`] lets somebody else run. 0 if Xen
    /// does not tell.
    fn waited_ns(&self) -> u64;

    /// Ends this domain. On the host's fake it returns.
    fn shutdown(&self, reason: ShutdownReason);
}
