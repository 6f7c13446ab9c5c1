//! Event channel ports that close themselves.

use kernel::{DomId, Errno, Hypervisor, Port};

/// A port of ours, closed when dropped.
#[derive(Debug)]
pub struct OwnedPort<H: Hypervisor> {
    hv: H,
    port: Port,
}

impl<H: Hypervisor> OwnedPort<H> {
    /// Allocates a port that `remote` may bind to.
    ///
    /// # Errors
    /// What Xen answers; `ENOSPC` if no port is free.
    pub fn alloc(hv: &H, remote: DomId) -> Result<Self, Errno> {
        let port = hv.evtchn_alloc_unbound(remote)?;
        Ok(OwnedPort { hv: hv.clone(), port })
    }

    /// The port's number in this domain.
    #[must_use]
    pub fn port(&self) -> Port {
        self.port
    }

    /// Notifies the other end.
    ///
    /// # Errors
    /// What Xen answers.
    pub fn notify(&self) -> Result<(), Errno> {
        self.hv.evtchn_send(self.port)
    }
}

impl<H: Hypervisor> Drop for OwnedPort<H> {
    fn drop(&mut self) {
        if let Err(errno) = self.hv.evtchn_close(self.port) {
            log::warn!("closing port {}: {errno}", self.port);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kernel::fake::FakeXen;

    #[test]
    fn a_dropped_port_is_closed() {
        let xen = FakeXen::new(DomId(3));
        let port = OwnedPort::alloc(&xen, DomId(0)).unwrap();
        assert_eq!(xen.open_ports(), 1);
        assert_eq!(port.notify(), Ok(()));
        drop(port);
        assert_eq!(xen.open_ports(), 0);
    }
}
