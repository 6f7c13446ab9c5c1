//! How a stub domain is recognised as ours: by a UUID that has a prefix of its own and holds the
//! guest's number. Xen keeps it with the domain from the domain's first moment. So a stub is found
//! again, whichever program died while it made or destroyed the stub.

use anyhow::{Context, Result};

use crate::host::Host;
use crate::xenstore::{Store, paths};

/// "pilotf" in ASCII, and UUID version 8 (free for the maker's use, RFC 9562).
const UUID_PREFIX: &str = "70696c6f-7466-8000-";
/// The number in the UUID of a stub that was made before its guest. No guest is domain 0.
pub const NO_GUEST: u16 = 0;
/// Stub domains are called this and the number of their guest.
const NAME_PREFIX: &str = "pilotfish-";

/// Name and UUID of a guest's stub.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Identity {
    /// The guest's domain id.
    pub guest: u16,
    /// Ours by its prefix, different for each stub.
    pub uuid: String,
    /// The name that it was made under, if that was another one.
    pub made_as: Option<String>,
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
        Ok(Identity { guest, uuid, made_as: None })
    }

    /// A new one for a stub that is to wait under the name `name`.
    ///
    /// # Errors
    /// As [`Identity::new`].
    pub fn waiting(name: &str) -> Result<Identity> {
        Ok(Identity { made_as: Some(name.to_owned()), ..Identity::new(NO_GUEST)? })
    }

    /// The identity in a domain's handle, if it is that of a stub.
    #[must_use]
    pub fn of(handle: &[u8; 16]) -> Option<Identity> {
        let uuid = uuid_of(handle);
        uuid.starts_with(UUID_PREFIX).then_some(())?;
        let [.., g0, g1, _, _, _, _] = *handle;
        Some(Identity { guest: u16::from_be_bytes([g0, g1]), uuid, made_as: None })
    }

    /// The name in that of its console's log: xenconsoled takes the first it had.
    #[must_use]
    pub fn console_name(&self) -> String {
        self.made_as.clone().unwrap_or_else(|| self.name())
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
    /// Its guest, name and UUID.
    pub identity: Identity,
}

/// All stub domains that exist and are not being destroyed, whoever made them. Xen's own list counts,
/// not xenstore's: a domain is in Xen's list with its UUID from its first moment to its last. In
/// xenstore it has no name if an `xl` was killed between making and naming it, or between removing the
/// name and destroying the domain.
///
/// # Errors
/// Xen or xenstore cannot be asked.
pub fn find_stubs(store: &dyn Store, host: &dyn Host) -> Result<Vec<StubDomain>> {
    let mut found = Vec::new();
    for (domid, state) in host.domains()? {
        let Some(mut identity) = Identity::of(&state.handle).filter(|_| !state.dying) else { continue };
        if identity.guest == NO_GUEST {
            // Made before its guest: our record says whose it has become.
            let Some(guest) = recorded_guest(store, &identity.uuid)? else { continue };
            identity.guest = guest;
        }
        // Somebody may have given a domain such a UUID, under another name: it is not ours. A stub that
        // was renamed is: it is in our records.
        let name = store.read(&paths::domain_name(domid))?;
        if name.is_none_or(|name| name == identity.name())
            || store.read(&paths::record_uuid(identity.guest))?.as_ref() == Some(&identity.uuid)
        {
            found.push(StubDomain { domid, identity });
        }
    }
    Ok(found)
}

/// The guest whose record names the stub with this UUID.
///
/// # Errors
/// xenstore cannot be read.
pub fn recorded_guest(store: &dyn Store, uuid: &str) -> Result<Option<u16>> {
    for name in store.list(paths::RECORDS)? {
        let Ok(guest) = name.parse::<u16>() else { continue };
        if store.read(&paths::record_uuid(guest))?.as_deref() == Some(uuid) {
            return Ok(Some(guest));
        }
    }
    Ok(None)
}

/// A domain's handle as text, as xl writes UUIDs.
#[must_use]
pub fn uuid_of(handle: &[u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (at, byte) in handle.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{World, handle_of};

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
    fn a_uuid_tells_the_guest_again_and_another_one_nothing() {
        let identity = Identity::new(0x1234).unwrap();
        let handle = handle_of(&identity.uuid);
        assert_eq!(Identity::of(&handle), Some(identity));
        for at in 0..9 {
            let mut other = handle;
            other[at] ^= 1;
            let found = Identity::of(&other);
            assert_eq!(found.is_none(), at < 8, "byte {at}: {found:?}");
        }
    }

    #[test]
    fn a_stub_is_known_by_its_uuid_unless_its_name_is_anothers_and_while_it_lives() {
        let world = World::new();
        let ours = Identity::new(5).unwrap().uuid;
        for (domid, uuid, name) in [
            (6, ours.as_str(), Some("pilotfish-5")),
            (7, "11111111-2222-3333-4444-555555555555", Some("pilotfish-5")),
            (8, ours.as_str(), Some("guest")),
            (9, ours.as_str(), Some("pilotfish-6")),
            (10, ours.as_str(), None),
            (11, ours.as_str(), None),
        ] {
            world.domain_appears(domid, name, uuid);
        }
        world.state().domains.get_mut(&11).unwrap().dying = true;
        let found = find_stubs(&world.store(), &world.host()).unwrap();
        assert_eq!(found.iter().map(|s| s.domid).collect::<Vec<_>>(), [6, 10]);
    }

    #[test]
    fn a_stub_that_was_renamed_is_known_by_our_record_of_it() {
        let world = World::new();
        let (ours, other) = (Identity::new(5).unwrap(), Identity::new(5).unwrap());
        crate::stub::record::launching(&world.store(), &ours).unwrap();
        world.domain_appears(6, Some("renamed"), &ours.uuid);
        world.domain_appears(7, Some("renamed-too"), &other.uuid);
        let found = find_stubs(&world.store(), &world.host()).unwrap();
        assert_eq!(found, [StubDomain { domid: 6, identity: ours }]);
    }
}
