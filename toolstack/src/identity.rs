//! How a stub domain is recognised as ours: by its name, and by a UUID that begins like no
//! other. Both stand in xenstore where only dom0 can write, before the domain first runs, so
//! a stub is found again even if the daemon died while it was being made.

use anyhow::{Context, Result};

use crate::xenstore::{Store, paths};

/// "pilotf" in ASCII, and UUID version 8 (free for the maker's use, RFC 9562).
const UUID_PREFIX: &str = "70696c6f-7466-8000-";
/// Stub domains are called this and the number of their guest.
const NAME_PREFIX: &str = "pilotfish-";

/// Name and UUID of a guest's stub.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Identity {
    /// The guest's domain id.
    pub guest: u16,
    /// Ours by its prefix, different for each stub.
    pub uuid: String,
}

impl Identity {
    /// A new one for a stub of `guest`.
    ///
    /// # Errors
    /// The system has no randomness to give.
    pub fn new(guest: u16) -> Result<Identity> {
        let mut random = [0; 5];
        let mut source = std::fs::File::open("/dev/urandom").context("/dev/urandom")?;
        std::io::Read::read_exact(&mut source, &mut random).context("/dev/urandom")?;
        let [a, b, c, d, e] = random;
        let uuid = format!("{UUID_PREFIX}80{a:02x}-{guest:04x}{b:02x}{c:02x}{d:02x}{e:02x}");
        Ok(Identity { guest, uuid })
    }

    /// The stub domain's name.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{NAME_PREFIX}{}", self.guest)
    }
}

/// A stub domain that exists.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StubDomain {
    /// Its domain id.
    pub domid: u16,
    /// Whose it is.
    pub identity: Identity,
}

/// All stub domains that exist, whoever made them.
///
/// # Errors
/// xenstore cannot be read.
pub fn find_stubs(store: &dyn Store) -> Result<Vec<StubDomain>> {
    let mut found = Vec::new();
    for name in store.list(paths::DOMAINS)? {
        let Ok(domid) = name.parse::<u16>() else { continue };
        if let Some(identity) = identity_of(store, domid)? {
            found.push(StubDomain { domid, identity });
        }
    }
    Ok(found)
}

/// The identity of domain `domid`, if it is one of our stubs.
///
/// # Errors
/// xenstore cannot be read.
pub fn identity_of(store: &dyn Store, domid: u16) -> Result<Option<Identity>> {
    let dir = paths::domain(domid);
    let Some(name) = store.read(&format!("{dir}/name"))? else { return Ok(None) };
    let guest = name.strip_prefix(NAME_PREFIX).and_then(|g| g.parse().ok());
    let Some(guest) = guest else { return Ok(None) };
    let vm = store.read(&format!("{dir}/vm"))?.unwrap_or_default();
    Ok(vm
        .strip_prefix("/vm/")
        .filter(|uuid| uuid.starts_with(UUID_PREFIX))
        .map(|uuid| Identity { guest, uuid: uuid.to_owned() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::World;

    #[test]
    fn a_uuid_is_well_formed_and_never_the_same() {
        let (a, b) = (Identity::new(5).unwrap(), Identity::new(5).unwrap());
        assert_ne!(a.uuid, b.uuid);
        let lengths: Vec<usize> = a.uuid.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
        assert!(a.uuid.contains("-0005"));
        assert_eq!(a.name(), "pilotfish-5");
    }

    #[test]
    fn only_name_and_uuid_together_make_a_stub() {
        let world = World::new();
        let ours = Identity::new(5).unwrap().uuid;
        for (domid, name, vm) in [
            (6, "pilotfish-5", format!("/vm/{ours}")),
            (7, "pilotfish-5", "/vm/11111111-2222-3333-4444-555555555555".to_owned()),
            (8, "guest", format!("/vm/{ours}")),
            (9, "pilotfish-x", format!("/vm/{ours}")),
        ] {
            world.set(&format!("/local/domain/{domid}/name"), name);
            world.set(&format!("/local/domain/{domid}/vm"), &vm);
        }
        let found = find_stubs(&world.store()).unwrap();
        assert_eq!(found.iter().map(|s| s.domid).collect::<Vec<_>>(), [6]);
    }
}
