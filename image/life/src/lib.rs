//! A stub's life around serving: it reads its orders, connects the disks' storage, starts the
//! ioreq server or takes it over from a former life, tells the daemon through xenstore, looks
//! after the disks' backends, and ends in order.
//!
//! A crate of its own because all this runs seldom and is compiled for size, and the loop that
//! serves (`image/src/serve.rs`) for speed: generic code is compiled in the crate that uses it.
//! So nothing here is generic to its caller, and the loop calls nothing of this kind directly.
#![cfg(target_os = "none")]
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

#[cfg(feature = "crash-on-demand")]
mod crash;
mod disks;
mod report;
mod start;
mod stats;

use alloc::string::{String, ToString};
use backend::upkeep;
use config::Config;
use core::fmt::Display;
use drivers::xenstore::{WatchEvent, Xenstore};
use kernel::{BootInfo, ShutdownReason, Xen, restart};
use log::{error, info};

pub use report::serving;
pub use start::ImageStub;
pub use stats::Rounds;

/// A stub that is ready to serve.
pub struct Begun {
    /// Its way to xenstore.
    pub xs: Xenstore<Xen>,
    /// The server and its devices.
    pub stub: ImageStub,
    /// How long to look for more work before blocking, at most.
    pub poll_ns: u64,
}

/// Does all that comes before serving; `None` if it cannot, which has been told then.
#[cold]
#[inline(never)]
pub fn begin(xen: &Xen, boot: &'static BootInfo) -> Option<Begun> {
    info!("Pilotfish {} with \"{}\"", env!("CARGO_PKG_VERSION"), boot.cmdline);
    let begun = if restart::incarnation() == 0 { first(xen, boot) } else { again(xen, boot) };
    let mut begun = begun.inspect_err(|why| error!("cannot serve: {why}")).ok()?;
    #[cfg(feature = "crash-on-demand")]
    crash::watch(&mut begun.xs);
    stats::watch(&mut begun.xs);
    start::arm(xen);
    Some(begun)
}

/// At boot: everything up to the enabled ioreq server; the error is one line for the daemon's
/// log.
fn first(xen: &Xen, boot: &'static BootInfo) -> Result<Begun, String> {
    let mut xs = Xenstore::new(xen).map_err(text)?;
    let stub = orders(boot).and_then(|config| Ok((start::first(xen, &mut xs, &config)?, config.poll_ns)));
    told(xs, stub)
}

/// The same after a panic.
fn again(xen: &Xen, boot: &'static BootInfo) -> Result<Begun, String> {
    info!("life {} after: {}", restart::incarnation(), restart::last_panic());
    let config = orders(boot)?;
    // Before all else: whatever fails from here on, the guest's vCPUs are let go.
    let server = start::take_over(xen, &config)?;
    let mut xs = Xenstore::resume(xen).map_err(text)?;
    report::restarted(&mut xs);
    let stub = start::again(xen, &mut xs, &config, server);
    told(xs, stub.map(|stub| (stub, config.poll_ns)))
}

fn orders(boot: &'static BootInfo) -> Result<Config, String> {
    let config = Config::parse(boot.cmdline).map_err(text)?;
    log::set_max_level(config.log);
    Ok(config)
}

/// Tells the daemon of a failure.
fn told(mut xs: Xenstore<Xen>, stub: Result<(ImageStub, u64), String>) -> Result<Begun, String> {
    match stub {
        Ok((stub, poll_ns)) => Ok(Begun { xs, stub, poll_ns }),
        Err(why) => {
            report::failed(&mut xs, &why);
            Err(why)
        }
    }
}

/// What the event loop does besides serving: see [`upkeep::look_after`]. Answers questions for
/// statistics, too.
#[cold]
#[inline(never)]
pub fn look_after(xs: &mut Xenstore<Xen>, stub: &mut ImageStub, rounds: &Rounds) -> bool {
    let mut asked = false;
    let changed = upkeep::look_after(xs, stub, |_xs, event: &WatchEvent| {
        asked |= stats::is_asked(event);
        #[cfg(feature = "crash-on-demand")]
        crash::on_event(_xs, event);
    });
    if asked {
        stats::tell(xs, stub, rounds);
    }
    changed
}

/// Ends the ioreq server because serving cannot go on.
#[cold]
#[inline(never)]
pub fn end(stub: ImageStub, why: kernel::Errno) -> ShutdownReason {
    let (teardown, _) = stub.stop();
    error!("cannot wait for events: {why}; ioreq server ended: {teardown}");
    ShutdownReason::Crash
}

fn text(error: impl Display) -> String {
    error.to_string()
}
