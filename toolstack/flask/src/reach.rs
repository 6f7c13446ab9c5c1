//! What a stub has of its guest's memory.

/// How a stub gets at its guest's memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reach {
    /// It maps any page of its guest.
    Mappings,
    /// It maps and copies what its guest grants to it.
    Grants,
}

impl Reach {
    /// The option that `pilotfishd --policy NAME` needs behind it to print them, with a space before it.
    #[must_use]
    pub const fn option(self) -> &'static str {
        match self {
            Self::Mappings => "",
            Self::Grants => " --grants",
        }
    }
}
