//! What engines share whose disk is elsewhere: the requests that they own, what becomes of these without a
//! connection, and what a flush means after one was lost.
//!
//! - [`Requests`]: the requests, their pieces, the order in which they are submitted again
//! - [`Cache`]: what may be in a volatile cache at the other end
//! - [`Timeout`]: how long nobody has answered

mod cache;
mod requests;
mod timeout;

pub(super) use cache::Cache;
pub(super) use requests::{InFlight, Progress, Refusal, Requests, piece};
pub(super) use timeout::Timeout;
