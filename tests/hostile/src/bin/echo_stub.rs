//! Not hostile: the yardstick of the benchmark's bare round trips. It answers each access of
//! vCPU 0 at once, has no device behind, never blocks and never yields, so what a round trip
//! takes with it is what Xen and the CPU take.
//!
//! Command line: `target=`.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

#[cfg(target_os = "none")]
mod echo_stub {
    use kernel::{BootInfo, ShutdownReason, Xen};
    use pilotfish_hostile::server::Server;
    use pilotfish_hostile::{domain, report};

    kernel::main!(run);

    fn run(xen: Xen, boot: &'static BootInfo) -> ShutdownReason {
        let Some(target) = domain(boot, "target") else {
            report("error", "target= is needed");
            return ShutdownReason::Crash;
        };
        match Server::new(&xen, target) {
            Ok(server) => {
                report("serving", 1);
                while server.answer(&xen).is_ok() {}
            }
            Err(errno) => report("error", format_args!("no server: {errno:?}")),
        }
        ShutdownReason::Crash
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this is a Xen domain's kernel: build it for aarch64-unknown-none");
}
