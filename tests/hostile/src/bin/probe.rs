//! Asks Xen for what a stub must not have, and for what it may, and prints each answer.
//!
//! Command line: `target=` the guest that dom0 gave it, `other=` one that it did not,
//! `domctl=` the domctl interface version of this Xen (a wrong one would be refused before
//! the privilege is looked at).
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

#[cfg(target_os = "none")]
mod probe {
    use kernel::{BootInfo, DomId, Hypervisor, IoservId, Order, ShutdownReason, Xen, hostile};
    use pilotfish_hostile::{attempt, domain, idle, number, report};
    use xen_pv_sys::arch_arm::GUEST_RAM0_BASE;
    use xen_pv_sys::dm_op::HVM_IOREQSRV_BUFIOREQ_LEGACY;

    /// Domctls of `public/domctl.h`, one that only looks and three that act.
    const DOMCTLS: [(&str, u32); 4] =
        [("getdomaininfo", 5), ("pausedomain", 3), ("destroydomain", 2), ("set_target", 46)];

    /// Grants that nobody has made: the victim has not run, and libxl takes the first few.
    const FORGED: u16 = 100;
    /// A domain is numbered after those that were there before it: how many numbers are tried.
    const DOMAINS: u16 = 40;
    /// `grant_entry_v1_t`: its size, and where its domain and its frame are.
    const GRANT_ENTRY_BYTES: usize = 8;
    const GRANT_DOMID: usize = 2;
    const GRANT_FRAME: usize = 4;
    /// `GTF_permit_access`, for reading and writing.
    const GTF_PERMIT_ACCESS: u16 = 1;
    /// The bit of an address that stands for a grant, as virtio devices are given it.
    const GRANT_ADDRESS: u64 = 1 << 63;

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
        report("forged", forge(&xen, target));
        report("done", 1);
        idle(&xen)
    }

    /// Writes grants of a page of `victim`, to each domain that this one may be, into the grant table of `victim`,
    /// and reads through them.
    fn forge(xen: &Xen, victim: DomId) -> &'static str {
        let Ok(table) = hostile::grant_table(xen, victim) else { return "no table" };
        let Ok(map) = xen.grant_map(victim) else { return "not tried" };
        let frame = u32::try_from(GUEST_RAM0_BASE >> 12).unwrap_or(0);
        for n in 1..=DOMAINS {
            let at = usize::from(FORGED + n) * GRANT_ENTRY_BYTES;
            let written = table
                .store(at + GRANT_FRAME, frame, Order::Relaxed)
                .and_then(|()| table.store(at + GRANT_DOMID, victim.0 + n, Order::Relaxed))
                .and_then(|()| table.store(at, GTF_PERMIT_ACCESS, Order::AcqRel));
            let address = GRANT_ADDRESS | u64::from(FORGED + n) << 12;
            if written.is_ok() && map.read(address, &mut [0]).is_ok() {
                return "read";
            }
        }
        "refused"
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
        attempt(xen, "grant_table", whose, hostile::grant_table(xen, domain));
        attempt(xen, "map", whose, hostile::foreign_map(xen, domain, GUEST_RAM0_BASE >> 12));
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this is a Xen domain's kernel: build it for aarch64-unknown-none");
}
