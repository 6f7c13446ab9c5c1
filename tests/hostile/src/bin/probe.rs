//! Asks Xen for what a stub must not have, and for what it may, and prints each answer.
//!
//! Command line: `target=` the guest that dom0 gave it, `other=` one that it did not,
//! `domctl=` the domctl interface version of this Xen (a wrong one would be refused before
//! the privilege is looked at).
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

#[cfg(target_os = "none")]
mod probe {
    use kernel::{BootInfo, DomId, Hypervisor, IoservId, ShutdownReason, Xen, hostile};
    use pilotfish_hostile::{attempt, domain, idle, number, report};
    use xen_pv_sys::arch_arm::GUEST_RAM0_BASE;
    use xen_pv_sys::dm_op::HVM_IOREQSRV_BUFIOREQ_LEGACY;

    /// Domctls of `public/domctl.h`, one that only looks and three that act.
    const DOMCTLS: [(&str, u32); 4] =
        [("getdomaininfo", 5), ("pausedomain", 3), ("destroydomain", 2), ("set_target", 46)];

    kernel::main!(run);

    fn run(xen: Xen, boot: &'static BootInfo) -> ShutdownReason {
        let known = (domain(boot, "target"), domain(boot, "other"), number(boot, "domctl"));
        let (Some(target), Some(other), Some(version)) = known else {
            report("error", "target=, other= and domctl= are needed");
            return ShutdownReason::Crash;
        };
        for (whose, domain) in [("other", other), ("dom0", DomId(0)), ("target", target)] {
            device_model(&xen, whose, domain);
            // What any two domains may do that agree to, if the security module lets them.
            let port = xen.evtchn_alloc_unbound(domain).and_then(|port| xen.evtchn_close(port));
            attempt(&xen, "port", whose, port);
            for (name, command) in DOMCTLS {
                attempt(&xen, name, whose, hostile::domctl(command, domain, u32::from(version)));
            }
        }
        report("done", 1);
        idle(&xen)
    }

    /// What a device model can ask of its guest, asked of `domain`.
    fn device_model(xen: &Xen, whose: &str, domain: DomId) {
        // Before the server that is to succeed, so that a refusal is none for want of room.
        attempt(
            xen,
            "buffered_server",
            whose,
            hostile::create_ioreq_server(domain, HVM_IOREQSRV_BUFIOREQ_LEGACY),
        );
        let server = xen.ioreq_server_create(domain);
        attempt(xen, "server", whose, server);
        // The bystander has an honest server, and a number is all that one needs to know.
        let id = server.unwrap_or(IoservId(0));
        attempt(xen, "server_page", whose, xen.ioreq_server_page(domain, id));
        attempt(xen, "server_range", whose, xen.ioreq_server_map_mmio(domain, id, 0x0200_0000, 0x0200_01ff));
        attempt(xen, "server_off", whose, xen.ioreq_server_set_state(domain, id, false));
        attempt(xen, "nr_vcpus", whose, xen.nr_vcpus(domain));
        attempt(xen, "irq", whose, xen.set_irq_level(domain, 33, true));
        attempt(xen, "map", whose, hostile::foreign_map(xen, domain, GUEST_RAM0_BASE >> 12));
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this is a Xen domain's kernel: build it for aarch64-unknown-none");
}
