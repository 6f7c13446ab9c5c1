//! The stub domain image: composition only.
//!
//! Reads its orders from the command line ([`backend::Config`]), connects the disks' storage,
//! starts the ioreq server, tells the daemon through xenstore, and serves until it is
//! destroyed. After a panic of its own it may start again in place (`life.rs`).
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(all(target_os = "none", feature = "crash-on-demand"))]
mod crash;
#[cfg(target_os = "none")]
mod disks;
#[cfg(target_os = "none")]
mod life;
#[cfg(target_os = "none")]
mod report;
#[cfg(target_os = "none")]
mod serve;
#[cfg(target_os = "none")]
mod stats;

#[cfg(target_os = "none")]
mod stub {
    use crate::{life, report, serve};
    use alloc::string::{String, ToString};
    use backend::Config;
    use drivers::xenstore::Xenstore;
    use kernel::{BootInfo, ShutdownReason, Xen, restart};
    use log::{error, info};

    kernel::main!(run);

    fn run(xen: Xen, boot: &'static BootInfo) -> ShutdownReason {
        info!("Pilotfish {} with \"{}\"", env!("CARGO_PKG_VERSION"), boot.cmdline);
        let started = if restart::life() == 0 { begin(&xen, boot) } else { go_on(&xen, boot) };
        match started {
            Ok((mut xs, stub)) => {
                #[cfg(feature = "crash-on-demand")]
                crate::crash::watch(&mut xs);
                life::arm(&xen);
                serve::run(&xen, boot, &mut xs, stub)
            }
            Err(why) => {
                error!("cannot serve: {why}");
                ShutdownReason::Crash
            }
        }
    }

    /// Everything up to the enabled ioreq server; the error is one line for the daemon's log.
    fn begin(xen: &Xen, boot: &'static BootInfo) -> Result<(Xenstore<Xen>, life::ImageStub), String> {
        let mut xs = Xenstore::new(xen).map_err(|error| error.to_string())?;
        let stub = orders(boot).and_then(|config| life::first(xen, &mut xs, &config));
        told(xs, stub)
    }

    /// The same after a panic.
    fn go_on(xen: &Xen, boot: &'static BootInfo) -> Result<(Xenstore<Xen>, life::ImageStub), String> {
        info!("life {} after: {}", restart::life(), restart::last_panic());
        let config = orders(boot)?;
        // Before all else: whatever fails from here on, the guest's vCPUs are let go.
        let server = life::take_over(xen, &config)?;
        let mut xs = Xenstore::resume(xen).map_err(|error| error.to_string())?;
        report::restarted(&mut xs);
        let stub = life::again(xen, &mut xs, &config, server);
        told(xs, stub)
    }

    fn orders(boot: &'static BootInfo) -> Result<Config, String> {
        let config = Config::parse(boot.cmdline).map_err(|error| error.to_string())?;
        log::set_max_level(config.log);
        Ok(config)
    }

    /// Tells the daemon of a failure.
    fn told(
        mut xs: Xenstore<Xen>,
        stub: Result<life::ImageStub, String>,
    ) -> Result<(Xenstore<Xen>, life::ImageStub), String> {
        match stub {
            Ok(stub) => Ok((xs, stub)),
            Err(why) => {
                report::failed(&mut xs, &why);
                Err(why)
            }
        }
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this is a Xen domain's kernel: build it with `cargo xtask build`");
}
