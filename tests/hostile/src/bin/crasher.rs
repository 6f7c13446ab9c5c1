//! A stub with a bug: serves its guest's first accesses, then touches memory that is not there.
//!
//! Command line: that of an honest stub; only `target=` is looked at.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

#[cfg(target_os = "none")]
mod crasher {
    use kernel::{BootInfo, ShutdownReason, Xen, hostile};
    use pilotfish_hostile::server::Server;
    use pilotfish_hostile::{domain, report};

    /// Accesses that are answered: the invalidation at a Linux guest's boot, its driver's
    /// probing, and some of its own.
    const ACCESSES: u32 = 20;

    kernel::main!(run);

    fn run(xen: Xen, boot: &'static BootInfo) -> ShutdownReason {
        let Some(server) = domain(boot, "target").and_then(|target| Server::new(&xen, target).ok()) else {
            report("error", "no server");
            return ShutdownReason::Crash;
        };
        report("serving", 1);
        let mut answered = 0_u32;
        while answered < ACCESSES {
            answered = answered.saturating_add(u32::from(server.answer(&xen) == Ok(true)));
        }
        report("answered", answered);
        hostile::fault(hostile::Fault::Unmapped);
        report("error", "it lived on");
        ShutdownReason::Poweroff
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this is a Xen domain's kernel: build it for aarch64-unknown-none");
}
