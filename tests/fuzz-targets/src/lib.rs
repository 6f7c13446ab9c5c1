//! The fuzz targets' bodies: each takes bytes, makes a hostile peer out of them, and panics
//! if one of our rules is broken. It returns whether the case got as far as what the target
//! is about (a request served, a chain taken): tests count that, so that none can pass
//! because nothing happens.
//!
//! `tests/fuzz` (cargo-fuzz, nightly) calls them for as long as one likes;
//! `tests/short.rs` calls them for a fixed set of cases in every `cargo test`.
//!
//! - [`mmio_seq`]: register accesses in any order, with memory that changes in between
//! - [`virtq_mem`]: a queue over any memory, which may change while it is read
//! - [`blk_chain`]: well-offered chains of any content through a whole device
//! - [`xenstore_wire`]: our xenstore client against a hostile daemon
//! - [`blkif_ring`]: our block frontend against a hostile storage backend
//! - [`netif_rings`]: our network frontend against a hostile netback
//! - [`net_frames`]: the stub's TCP against a network that brings any frames
//! - [`nbd_stream`]: our NBD client against a hostile server
//! - [`tls_stream`]: our TLS client against a hostile server and a hostile network
//! - [`config_parse`]: the stub's command line
//! - [`daemon_nodes`]: the daemon, with a guest and its stub that write to xenstore whatever they may
//! - [`disk_lines`]: the daemon, with disk lines, image names and disk files of any bytes
//! - [`virtq_differential`]: our queue beside rust-vmm's, over the same memory
#![forbid(unsafe_code)]

mod blk_chain;
mod blkif_ring;
mod config_parse;
pub mod corpus;
mod daemon;
mod input;
mod mmio_seq;
mod nbd_stream;
mod net_frames;
mod netif_rings;
mod rig;
mod tls_stream;
mod virtq_differential;
mod virtq_mem;
mod watched;
mod xenstore_wire;

pub use blk_chain::blk_chain;
pub use blkif_ring::blkif_ring;
pub use config_parse::config_parse;
pub use daemon::{daemon_nodes, disk_lines};
pub use input::Input;
pub use mmio_seq::mmio_seq;
pub use nbd_stream::nbd_stream;
pub use net_frames::net_frames;
pub use netif_rings::netif_rings;
pub use tls_stream::tls_stream;
pub use virtq_differential::virtq_differential;
pub use virtq_mem::virtq_mem;
pub use xenstore_wire::xenstore_wire;

/// A target: whether the case got as far as what it is about.
pub type Target = fn(&[u8]) -> bool;

/// Every target by its name.
pub const TARGETS: [(&str, Target); 13] = [
    ("mmio_seq", mmio_seq),
    ("virtq_mem", virtq_mem),
    ("blk_chain", blk_chain),
    ("xenstore_wire", xenstore_wire),
    ("blkif_ring", blkif_ring),
    ("netif_rings", netif_rings),
    ("net_frames", net_frames),
    ("nbd_stream", nbd_stream),
    ("tls_stream", tls_stream),
    ("config_parse", config_parse),
    ("daemon_nodes", daemon_nodes),
    ("disk_lines", disk_lines),
    ("virtq_differential", virtq_differential),
];

/// The target called `name`.
#[must_use]
pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|&(_, target)| target)
}
