//! What a stub needs to be allowed before it can serve, as Xen numbers it.
//!
//! The numbers are places in Xen's lists of classes (`security_classes`, from 1) and of the permissions of
//! a class (`access_vectors`, from 0). They are the same from Xen 4.17 to 4.22; a test compares.

use crate::label::Pair;
use crate::reach::Reach;

/// `domain`, `domain2`, `hvm`, `mmu`, `event` and `grant` of `security_classes`.
const DOMAIN: (u16, &str) = (3, "domain");
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
    /// The stub that uses grants, until it is set up.
    Building,
    /// dom0.
    Dom0,
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
            Self::Building => pair.building(),
            Self::Dom0 => pair.dom0(),
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
    use Object::{Building, Dom0, Guest, GuestChannel, Stub, StubChannel};
    let right = |subject, object, class, permission| Right { subject, object, class, permission };
    // Who sets the ioreq server up.
    let first = match reach {
        Reach::Mappings => Stub,
        Reach::Grants => Building,
    };
    let server = [
        right(first, Guest, HVM, (11, "dm")),
        right(first, Guest, DOMAIN2, (21, "resource_map")),
        right(first, GuestChannel, EVENT, (3, "create")),
        right(GuestChannel, first, EVENT, (0, "bind")),
        right(StubChannel, Guest, EVENT, (0, "bind")),
    ];
    let memory = match reach {
        Reach::Mappings => {
            vec![right(Stub, Guest, MMU, (0, "map_read")), right(Stub, Guest, MMU, (1, "map_write"))]
        }
        Reach::Grants => vec![
            right(Dom0, Building, DOMAIN2, (0, "relabelfrom")),
            right(Dom0, Stub, DOMAIN2, (1, "relabelto")),
            right(Building, Stub, DOMAIN, (5, "transition")),
            right(Stub, Guest, HVM, (11, "dm")),
            right(Stub, Guest, GRANT, (0, "map_read")),
            right(Stub, Guest, GRANT, (1, "map_write")),
            right(Stub, Guest, GRANT, (2, "unmap")),
            right(Stub, Guest, GRANT, (5, "copy")),
            right(Guest, Stub, GRANT, (5, "copy")),
        ],
    };
    server.into_iter().chain(memory)
}
