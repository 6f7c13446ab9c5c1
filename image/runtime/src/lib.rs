//! A stub around its event loop: it reads its configuration, connects the disks' storage, starts
//! the ioreq server or takes it over from the incarnation before, tells the daemon through
//! xenstore, does the housekeeping, and ends in order.
//!
//! A crate of its own because all this runs seldom and is compiled for size, and the event loop
//! for speed: generic code is compiled in the crate that uses it. So nothing here is generic to
//! its caller.
#![cfg(any(target_os = "none", test))]
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod disks;
#[cfg(feature = "failpoints")]
mod failpoint;
#[cfg(feature = "nbd")]
mod network;
mod platform;
mod report;
mod start;
mod stats;
#[cfg(test)]
mod tests;

use alloc::format;
use alloc::string::{String, ToString};
use backend::event_loop::housekeeping;
use backend::stats::LoopStats;
use config::Config;
use core::fmt::Display;
use drivers::xenstore::{WatchEvent, Xenstore};
use kernel::{BootInfo, Errno, ShutdownReason};
use log::{error, info};
use platform::Xen;

pub use start::ImageStub;

/// The command line of a stub that is made before its guest.
const CONFIG_IN_STORE: &str = "config=xenstore";
/// Where it finds its configuration then.
const CONFIG_NODE: &str = "data/pilotfish/config";

/// A stub that is ready to serve.
pub struct Running {
    /// Its way to xenstore.
    pub xs: Xenstore<Xen>,
    /// The server and its devices.
    pub stub: ImageStub,
    /// How long to poll for more work before blocking, at most.
    pub busy_poll_ns: u64,
}

/// Does all that comes before serving; `None` if it cannot, which has been reported then.
#[cold]
#[inline(never)]
pub fn begin(xen: &Xen, boot: &BootInfo) -> Option<Running> {
    info!("Pilotfish {} with \"{}\"", env!("CARGO_PKG_VERSION"), boot.cmdline);
    let running = if platform::incarnation() == 0 { first(xen, boot) } else { recover(xen, boot) };
    let mut running = running.inspect_err(|why| error!("cannot serve: {why}")).ok()?;
    #[cfg(feature = "failpoints")]
    failpoint::watch(&mut running.xs);
    stats::watch(&mut running.xs);
    start::allow_restart(xen);
    report::serving(&mut running.xs, boot);
    Some(running)
}

/// At boot: everything up to the enabled ioreq server; the error is one line for the daemon's
/// log.
fn first(xen: &Xen, boot: &BootInfo) -> Result<Running, String> {
    let mut xs = Xenstore::new(xen).map_err(text)?;
    let stub = command_line(&mut xs, boot).and_then(|words| {
        let config = parse_config(&words)?;
        Ok((start::first(xen, &mut xs, &config)?, config.busy_poll_ns))
    });
    report(xs, stub)
}

/// The words that configure the stub. One that was made before its guest has them in xenstore, where
/// nobody but dom0 and the stub itself can write.
fn command_line(xs: &mut Xenstore<Xen>, boot: &BootInfo) -> Result<String, String> {
    if boot.cmdline != CONFIG_IN_STORE {
        return Ok(boot.cmdline.to_string());
    }
    let words = xs.read_string(CONFIG_NODE).map_err(|error| format!("{CONFIG_NODE}: {error}"))?;
    info!("{CONFIG_NODE}: \"{words}\"");
    Ok(words)
}

/// The same after a panic.
fn recover(xen: &Xen, boot: &BootInfo) -> Result<Running, String> {
    info!("incarnation {} after: {}", platform::incarnation(), platform::last_panic());
    let config = parse_config(boot.cmdline)?;
    // Before all else: whatever fails from here on, the guest's vCPUs are let go.
    let server = start::take_over(xen, &config)?;
    let mut xs = Xenstore::resume(xen).map_err(text)?;
    report::restarted(&mut xs);
    let stub = start::recover(xen, &mut xs, &config, server);
    report(xs, stub.map(|stub| (stub, config.busy_poll_ns)))
}

fn parse_config(words: &str) -> Result<Config, String> {
    let config = Config::parse(words).map_err(text)?;
    log::set_max_level(config.log);
    Ok(config)
}

/// Reports a failure to the daemon.
fn report(mut xs: Xenstore<Xen>, stub: Result<(ImageStub, u64), String>) -> Result<Running, String> {
    match stub {
        Ok((stub, busy_poll_ns)) => Ok(Running { xs, stub, busy_poll_ns }),
        Err(why) => {
            report::failed(&mut xs, &why);
            Err(why)
        }
    }
}

/// What the event loop does besides serving: see [`housekeeping::housekeep`]. Answers questions for
/// statistics, too.
#[cold]
#[inline(never)]
pub fn housekeep(xs: &mut Xenstore<Xen>, stub: &mut ImageStub, loop_stats: &LoopStats) -> bool {
    let mut asked = false;
    let changed = housekeeping::housekeep(xs, stub, |_xs, event: &WatchEvent| {
        asked |= stats::is_asked(event);
        #[cfg(feature = "failpoints")]
        failpoint::on_event(_xs, event);
    });
    if asked {
        stats::answer(xs, stub, loop_stats);
    }
    changed
}

/// Ends the ioreq server because serving cannot go on.
#[cold]
#[inline(never)]
pub fn end(stub: &mut ImageStub, why: Errno) -> ShutdownReason {
    let teardown = stub.end();
    error!("cannot wait for events: {why}; ioreq server ended: {teardown}");
    ShutdownReason::Crash
}

fn text(error: impl Display) -> String {
    error.to_string()
}
