//! What a stub needs to be allowed before it can serve, as Xen numbers it.
//!
//! The numbers are places in Xen's lists of classes (`security_classes`, from 1) and of the permissions of
//! a class (`access_vectors`, from 0). They are the same from Xen 4.17 to 4.22; a test compares.

use crate::label::Pair;
use crate::module::Reach;

/// `hvm`, `domain2`, `mmu`, `event` and `grant` of `security_classes`.
const DOMAIN2: (u16, &str) = (4, "domain2");
const HVM: (u16, &str) = (5, "hvm");
const MMU: (u16, &str) = (6, "mmu");
const EVENT: (u16, &str) = (9, "event");
const GRANT: (u16, &str) = (10, "grant");

/// Whom a right concerns.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Object {
    /// The guest.
    Guest,
    /// An event channel of the guest.
    GuestChannel,
    /// The stub.
    Stub,
    /// An event channel of the stub.
    StubChannel,
}

impl Object {
    /// Its label.
    #[must_use]
    pub fn label(self, pair: &Pair) -> String {
        match self {
            Self::Guest => pair.guest(),
            Self::GuestChannel => pair.guest_channel(),
            Self::Stub => pair.stub(),
            Self::StubChannel => pair.stub_channel(),
        }
    }
}

/// One permission.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Right {
    /// Who has it.
    pub subject: Object,
    /// Over whom.
    pub object: Object,
    /// The class, by number and name.
    pub class: (u16, &'static str),
    /// The permission, by its place in the class and its name.
    pub permission: (u8, &'static str),
}

/// All that must be allowed for a stub that gets at its guest's memory by `reach`, beyond what every
/// domain of the policy has.
pub fn rights(reach: Reach) -> impl Iterator<Item = Right> {
    use Object::{Guest, GuestChannel, Stub, StubChannel};
    let right = |subject, object, class, permission| Right { subject, object, class, permission };
    let server = [
        right(Stub, Guest, HVM, (11, "dm")),
        right(Stub, Guest, DOMAIN2, (21, "resource_map")),
        right(Stub, GuestChannel, EVENT, (3, "create")),
        right(GuestChannel, Stub, EVENT, (0, "bind")),
        right(StubChannel, Guest, EVENT, (0, "bind")),
    ];
    let memory = match reach {
        Reach::Mappings => {
            vec![right(Stub, Guest, MMU, (0, "map_read")), right(Stub, Guest, MMU, (1, "map_write"))]
        }
        Reach::Grants => vec![
            right(Stub, Guest, GRANT, (0, "map_read")),
            right(Stub, Guest, GRANT, (1, "map_write")),
            right(Stub, Guest, GRANT, (2, "unmap")),
            right(Stub, Guest, GRANT, (5, "copy")),
            right(Guest, Stub, GRANT, (5, "copy")),
        ],
    };
    server.into_iter().chain(memory)
}
