//! What the daemon records for its successor: `/tool/pilotfish/<guest>/`.
//!
//! `uuid` is written before the stub is made, `stub` when it exists, `disks` and `state` =
//! `serving` before libxl is told. So its successor knows of every stub there can be, at
//! whatever moment the daemon dies. When the host goes down, xenstore's content and the stubs end together.

use anyhow::Result;

use super::identity::Identity;
use crate::xenstore::{Store, paths};

/// The stub that serves a guest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Stub {
    /// Its domain id.
    pub domid: u16,
    /// Name and UUID.
    pub identity: Identity,
    /// The virtual device numbers it serves.
    pub disks: Vec<u32>,
}

/// What a predecessor left.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Record {
    /// It was about to make a stub, or to remove one.
    Interrupted,
    /// A stub served.
    Serving(Stub),
}

/// Notes that a stub with this identity is about to be made.
pub fn launching(store: &dyn Store, identity: &Identity) -> Result<()> {
    let dir = paths::record(identity.guest);
    // Before the UUID: with the last stub's state, the record would say that this one serves.
    store.write(&format!("{dir}/state"), "launching")?;
    if let Some(name) = &identity.made_as {
        store.write(&format!("{dir}/made-as"), name)?;
    }
    store.write(&paths::record_uuid(identity.guest), &identity.uuid)
}

/// Notes the domain id of the stub.
pub fn made(store: &dyn Store, guest: u16, stub: u16) -> Result<()> {
    store.write(&format!("{}/stub", paths::record(guest)), &stub.to_string())
}

/// Notes that the stub serves.
pub fn serving(store: &dyn Store, stub: &Stub) -> Result<()> {
    let dir = paths::record(stub.identity.guest);
    let disks: Vec<String> = stub.disks.iter().map(u32::to_string).collect();
    // The state comes last: a record that says `serving` is complete.
    store.write(&format!("{dir}/disks"), &disks.join(" "))?;
    store.write(&format!("{dir}/state"), "serving")
}

/// Notes that the stub is about to be removed.
pub fn stopping(store: &dyn Store, guest: u16) -> Result<()> {
    // Not written where there is no record: a stub without one needs none to be removed.
    store.update(&format!("{}/state", paths::record(guest)), &|_| Some("stopping"))?;
    Ok(())
}

/// Forgets a guest.
pub fn remove(store: &dyn Store, guest: u16) -> Result<()> {
    store.remove(&paths::record(guest))
}

/// Reads all that a predecessor left. A record that makes no sense counts as interrupted.
pub fn read_all(store: &dyn Store) -> Result<Vec<(u16, Record)>> {
    let mut records = Vec::new();
    for name in store.list(paths::RECORDS)? {
        let Ok(guest) = name.parse::<u16>() else { continue };
        let dir = paths::record(guest);
        let value =
            |key: &str| -> Result<String> { Ok(store.read(&format!("{dir}/{key}"))?.unwrap_or_default()) };
        let disks: Option<Vec<u32>> = value("disks")?.split_whitespace().map(|d| d.parse().ok()).collect();
        let record = match (value("state")?.as_str(), value("stub")?.parse(), disks) {
            ("serving", Ok(domid), Some(disks)) => {
                let made_as = Some(value("made-as")?).filter(|name| !name.is_empty());
                Record::Serving(Stub {
                    domid,
                    identity: Identity { guest, uuid: value("uuid")?, made_as },
                    disks,
                })
            }
            _ => Record::Interrupted,
        };
        records.push((guest, record));
    }
    Ok(records)
}
