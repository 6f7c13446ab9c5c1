//! Domains that write to xenstore what their permissions allow, and try what these do not: a guest, and a stub that
//! the daemon itself has started.
//!
//! What comes of it in dom0 the scenario's script looks at: the daemon's log, what is left, other guests.

mod guest;
mod stub;

use alloc::format;
use alloc::string::String;
use drivers::Xenstore;
use drivers::xenstore::StoreError;
use kernel::{Errno, Xen};

pub use guest::ATTACKS as BY_A_GUEST;
pub use stub::{AT_THE_END, BEFORE_IT_SERVES, WHILE_IT_SERVES};

/// One attack.
pub struct Attack {
    /// As the report names it.
    pub name: &'static str,
    /// What it tries.
    pub tries: &'static str,
    /// Makes it. An error says what xenstored allowed that it must not.
    pub run: fn(&mut Site) -> Result<(), String>,
}

/// Values that mean something to somebody: a terminal, a log, xl's parser, a path, a number.
const VALUES: [&[u8]; 12] = [
    b"",
    b"6",
    b"-1",
    b"99999999999999999999",
    b"\x1b[2J\x07\x1b]0;owned\x07",
    b"\r\n<0>kernel: forged line",
    b"\"\nkernel = \"/evil\"\ndisk = [ 'target=/dev/sda' ]",
    b"../../../../etc/shadow",
    b"$(reboot)`reboot`;reboot",
    b"\xff\xfe\x80\0\x01",
    b"\xe2\x80\xaegnp.exe",
    &[b'A'; 2000],
];

/// Who attacks.
pub struct Site {
    /// xenstore.
    pub store: Xenstore<Xen>,
    /// Its own number.
    pub domain: String,
    /// Whom it may not touch: another guest's number.
    pub other: String,
}

impl Site {
    /// With xenstore, and the number of another guest.
    ///
    /// # Errors
    /// xenstored does not answer.
    pub fn new(xen: &Xen, other: &str) -> Result<Site, String> {
        let mut store = Xenstore::new(xen).map_err(|why| format!("xenstore: {why:?}"))?;
        let domain = store.read_string("domid").map_err(|why| format!("domid: {why:?}"))?;
        Ok(Site { store, domain, other: String::from(other) })
    }

    /// Writes a node of its own. A quota may be full.
    fn write(&mut self, path: &str, value: &[u8]) -> Result<(), String> {
        match self.store.write(path, value) {
            Ok(()) | Err(StoreError::Refused(_)) => Ok(()),
            Err(why) => Err(format!("{path}: {why:?}")),
        }
    }

    /// Each of the values to each of these nodes of its own.
    fn write_all(&mut self, dir: &str, keys: &[&str]) -> Result<(), String> {
        for value in VALUES {
            for key in keys {
                self.write(&format!("{dir}/{key}"), value)?;
            }
        }
        Ok(())
    }

    /// xenstored must refuse to have these written, made or removed.
    fn refused(&mut self, paths: &[String]) -> Result<(), String> {
        for path in paths {
            let done = [
                self.store.write(path, b"6"),
                self.store.mkdir(&format!("{path}/below")),
                self.store.rm(path),
            ];
            for answer in done {
                match answer {
                    Err(StoreError::Refused(Errno::EACCES | Errno::ENOENT)) => {}
                    answer => return Err(format!("{path}: {answer:?}")),
                }
            }
        }
        Ok(())
    }

    /// xenstored must refuse to have these read.
    fn unreadable(&mut self, paths: &[String]) -> Result<(), String> {
        for path in paths {
            match self.store.read(path) {
                Err(StoreError::Refused(Errno::EACCES | Errno::ENOENT)) => {}
                answer => return Err(format!("{path}: {answer:?}")),
            }
        }
        Ok(())
    }
}
