//! The stub domain image: composition only.
//!
//! Reads its orders from the command line ([`backend::Config`]), connects the disks' storage,
//! starts the ioreq server, tells the daemon through xenstore, and serves until it is
//! destroyed.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod disks;
#[cfg(target_os = "none")]
mod report;
#[cfg(target_os = "none")]
mod serve;

#[cfg(target_os = "none")]
mod stub {
    use crate::{disks, report, serve};
    use alloc::string::{String, ToString};
    use backend::{Config, Stub};
    use drivers::xenstore::Xenstore;
    use kernel::{BootInfo, ForeignMap, ShutdownReason, Xen};
    use log::{error, info};

    /// Chunks of 2 MiB of the guest's RAM that are mapped at once.
    const MAP_CHUNKS: u16 = 64;

    kernel::main!(run);

    fn run(xen: Xen, boot: &'static BootInfo) -> ShutdownReason {
        info!("Pilotfish {} with \"{}\"", env!("CARGO_PKG_VERSION"), boot.cmdline);
        let mut xs = match Xenstore::new(&xen) {
            Ok(xs) => xs,
            Err(error) => {
                error!("no connection to xenstore: {error}");
                return ShutdownReason::Crash;
            }
        };
        match start(&xen, boot, &mut xs) {
            Ok(stub) => serve::run(&xen, boot, &mut xs, stub),
            Err(why) => {
                error!("cannot serve: {why}");
                report::failed(&mut xs, &why);
                ShutdownReason::Crash
            }
        }
    }

    /// Everything up to the enabled ioreq server; the error is one line for the daemon's log.
    fn start(
        xen: &Xen,
        boot: &'static BootInfo,
        xs: &mut Xenstore<Xen>,
    ) -> Result<Stub<Xen, ForeignMap, disks::Engine>, String> {
        let config = Config::parse(boot.cmdline).map_err(|error| error.to_string())?;
        log::set_max_level(config.log);
        let devices = disks::connect(xen, xs, &config)?;
        let memory = xen
            .foreign_map(config.target, MAP_CHUNKS)
            .map_err(|errno| alloc::format!("no room to map the guest's memory: {errno}"))?;
        let stub = Stub::start(xen, config.target, memory, devices).map_err(|error| error.to_string())?;
        let rescue = stub.rescue();
        kernel::on_panic(move || {
            let _teardown = rescue.run();
        });
        Ok(stub)
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this is a Xen domain's kernel: build it with `cargo xtask build`");
}
