//! Paths in xenstore.

/// The backend directories of every guest's standalone virtio disks in dom0.
pub const BACKENDS: &str = "/local/domain/0/backend/virtio_disk";
/// The daemon's own records; readable by dom0 alone.
pub const RECORDS: &str = "/tool/pilotfish";
/// The last reason why a guest was refused its disks; for people, never read back.
pub const LAST_ERROR: &str = "/tool/pilotfish/last-error";
/// The loop devices that were made for stubs. For each stub and disk: the device, and the image's device
/// number, inode and path.
pub const LOOPS: &str = "/tool/pilotfish/loops";
/// The backend directories of every domain's PV network interfaces in dom0.
pub const VIFS: &str = "/local/domain/0/backend/vif";
/// Every domain's directory.
pub const DOMAINS: &str = "/local/domain";

/// Where the backend directories of a guest's disks are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Place {
    /// The domain that the disk lines name as `backend`: dom0, or a stub to which the guest grants its
    /// memory.
    pub owner: u16,
    /// The guest.
    pub guest: u16,
}

impl Place {
    /// In dom0.
    #[must_use]
    pub const fn dom0(guest: u16) -> Place {
        Place { owner: 0, guest }
    }

    /// Whether the guest grants its memory to the owner.
    #[must_use]
    pub const fn is_granted(self) -> bool {
        self.owner != 0
    }

    /// The directory that holds all disks of the guest.
    #[must_use]
    pub fn dir(self) -> String {
        format!("{}/{}", backends(self.owner), self.guest)
    }

    /// The directory of one disk.
    #[must_use]
    pub fn disk(self, disk: u32) -> String {
        format!("{}/{disk}", self.dir())
    }
}

/// The backend directories of the guests' standalone virtio disks with `owner` as their backend domain.
#[must_use]
pub fn backends(owner: u16) -> String {
    format!("{DOMAINS}/{owner}/backend/virtio_disk")
}

/// libxl's own copy of what it wrote for the disks of `guest`; no guest can write there.
#[must_use]
pub fn libxl_disks(guest: u16) -> String {
    format!("/libxl/{guest}/device/virtio_disk")
}

/// A domain's directory.
#[must_use]
pub fn domain(domid: u16) -> String {
    format!("{DOMAINS}/{domid}")
}

/// A domain's name; libxl writes it, the domain cannot.
#[must_use]
pub fn domain_name(domid: u16) -> String {
    format!("{}/name", domain(domid))
}

/// How much memory a domain can have at most, in KiB.
#[must_use]
pub fn memory_max(domid: u16) -> String {
    format!("{DOMAINS}/{domid}/memory/static-max")
}

/// A node in which the stub reports its state; written by the stub, so not to be trusted.
#[must_use]
pub fn stub_says(stub: u16, what: &str) -> String {
    format!("{DOMAINS}/{stub}/data/pilotfish/{what}")
}

/// A node with the UUID of a stub that was made before its guest. It is written when the stub has been made to its
/// end; no stub can write there.
#[must_use]
pub fn waits(stub: u16) -> String {
    format!("{DOMAINS}/{stub}/pilotfish-waits")
}

/// A number for a stub with a network interface that others cannot know. No stub can write there.
#[must_use]
pub fn net_seed(stub: u16) -> String {
    format!("{DOMAINS}/{stub}/pilotfish-net-seed")
}

/// The keys of TLS of a stub's disks, for as long as it has not taken them. No stub can write there.
#[must_use]
pub fn tls_keys(stub: u16) -> String {
    format!("{DOMAINS}/{stub}/pilotfish-tls")
}

/// The key of one disk.
#[must_use]
pub fn tls_key(stub: u16, disk: u32) -> String {
    format!("{}/{disk}", tls_keys(stub))
}

/// The record of `guest`.
#[must_use]
pub fn record(guest: u16) -> String {
    format!("{RECORDS}/{guest}")
}

/// The UUID of the stub of `guest`, in its record.
#[must_use]
pub fn record_uuid(guest: u16) -> String {
    format!("{}/uuid", record(guest))
}

/// The guest to whose backend directories `path` belongs, if it names one.
#[must_use]
pub fn guest_of(path: &str) -> Option<u16> {
    let (owner, rest) = path.strip_prefix(DOMAINS)?.strip_prefix('/')?.split_once('/')?;
    owner.parse::<u16>().ok()?;
    rest.strip_prefix("backend/virtio_disk/")?.split('/').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_is_found_in_any_path_below_its_backends() {
        assert_eq!(guest_of("/local/domain/0/backend/virtio_disk/7/51712/state"), Some(7));
        assert_eq!(guest_of(&Place::dom0(7).dir()), Some(7));
        assert_eq!(guest_of(&Place { owner: 9, guest: 7 }.disk(51712)), Some(7));
        assert_eq!(guest_of(BACKENDS), None);
        assert_eq!(guest_of(&backends(0)), None);
        assert_eq!(guest_of("/local/domain/0/backend/vbd/7/51712"), None);
        assert_eq!(guest_of("/local/domain/0/backend/virtio_disk/70000"), None);
    }
}
