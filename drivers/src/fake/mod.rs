//! Stateful fakes of the peers, for host tests over [`kernel::fake::FakeXen`].
//!
//! Blkback and netback register with `on_idle`, so they run whenever the driver waits. They keep the
//! protocol's rules unless a test asks them to break one.
#![expect(clippy::expect_used, reason = "a fake that cannot go on ends its test")]
#![expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "test support: a panic is a verdict"
)]

mod backring;
pub mod blkback;
pub mod disk;
pub mod faults;
pub mod netback;
mod toolstack;
pub mod tree;
pub mod xenstored;

pub use blkback::{BlkBack, BlkBackConfig};
pub use disk::{Counts, Disk};
pub use faults::{Faults, Misdeed};
pub use netback::{NetBack, NetMisdeed, RxForm, SentFrame};
pub use xenstored::XenStored;
