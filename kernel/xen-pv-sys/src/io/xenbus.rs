//! `public/io/xenbus.h`: the state of a split driver's two ends.

/// `enum xenbus_state`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum XenbusState {
    /// No such node, or an unknown value.
    Unknown = 0,
    /// Initialising.
    Initialising = 1,
    /// Initialised early; waits for the peer or for hotplug.
    InitWait = 2,
    /// Set up; waits for the peer to connect.
    Initialised = 3,
    /// Connected.
    Connected = 4,
    /// Closing: due to an error or an unplug.
    Closing = 5,
    /// Closed.
    Closed = 6,
    /// Reconfiguring (PCI).
    Reconfiguring = 7,
    /// Reconfigured (PCI).
    Reconfigured = 8,
}

impl XenbusState {
    /// Decodes xenstore's decimal number; anything else is [`XenbusState::Unknown`].
    #[must_use]
    pub const fn from_number(number: u64) -> XenbusState {
        match number {
            1 => XenbusState::Initialising,
            2 => XenbusState::InitWait,
            3 => XenbusState::Initialised,
            4 => XenbusState::Connected,
            5 => XenbusState::Closing,
            6 => XenbusState::Closed,
            7 => XenbusState::Reconfiguring,
            8 => XenbusState::Reconfigured,
            _ => XenbusState::Unknown,
        }
    }
}
