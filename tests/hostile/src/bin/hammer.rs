//! Hammers the memory that Xen uses while it serves this domain and its guest: the ioreq page,
//! which Xen writes at each access of the guest, and this domain's shared_info page, whose
//! event bits Xen changes by atomic operations. That Xen's own atomics cannot be starved in
//! this way for ever is the fix of XSA-295.
//!
//! Runs through phases, told on the console with the guest's accesses answered in each. In
//! all but the last one the hammering leaves values as they are, so that the guest lives and
//! Xen keeps coming to the page; in the last one the page is rewritten with nonsense and
//! nothing is answered: Xen may then crash the guest.
//!
//! Command line: `target=`, `seconds=` for each phase.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

#[cfg(target_os = "none")]
mod hammer {
    use kernel::{BootInfo, Hypervisor, OutOfPage, SharedPage, ShutdownReason, Xen, raw};
    use pilotfish_hostile::server::Server;
    use pilotfish_hostile::{domain, idle, number, report};
    use xen_pv_sys::dm_op::ioreq;
    use xen_pv_sys::xen::shared_info::EVTCHN_PENDING;

    /// Operations on one word before the next one, and before a look at the slot.
    const BURST: u64 = 200;

    type Hammer = fn(&SharedPage, usize, u32, u64) -> Result<(), OutOfPage>;

    kernel::main!(run);

    fn run(xen: Xen, boot: &'static BootInfo) -> ShutdownReason {
        let Some(target) = domain(boot, "target") else {
            report("error", "target= is needed");
            return ShutdownReason::Crash;
        };
        let server = match Server::new(&xen, target) {
            Ok(server) => server,
            Err(errno) => {
                report("error", format_args!("no server: {errno:?}"));
                return ShutdownReason::Crash;
            }
        };
        report("serving", 1);
        report("lse", u8::from(raw::has_lse()));
        let for_ns = u64::from(number(boot, "seconds").unwrap_or(5)) * 1_000_000_000;
        if phases(&xen, &server, for_ns).is_err() {
            report("error", "an offset outside the page");
        }
        report("phase", "idle");
        report("done", 1);
        idle(&xen)
    }

    fn phases(xen: &Xen, server: &Server, for_ns: u64) -> Result<(), OutOfPage> {
        let events = raw::shared_info(xen);
        // The word of the event bits that holds our port.
        let bits = EVTCHN_PENDING + usize::try_from(server.port.0 / 32).unwrap_or(0) * 4;
        honest(xen, server)?;
        let mut ways: [(&str, &str, Option<Hammer>); 2] = [
            ("exclusives_slot", "exclusives_events", Some(raw::hammer_exclusives)),
            ("lse_slot", "lse_events", None),
        ];
        if raw::has_lse() {
            ways[1].2 = Some(raw::hammer_lse);
        }
        for (slot_name, events_name, way) in ways {
            let Some(way) = way else { continue };
            // Adding nothing is a write all the same.
            phase(xen, server, slot_name, for_ns, |n| way(&server.page, n % ioreq::SIZE / 4 * 4, 0, BURST))?;
            phase(xen, server, events_name, for_ns, |_| way(&events, bits, 0, BURST))?;
        }
        report("phase", "rewrite");
        let until = xen.now_ns().saturating_add(for_ns);
        let mut n: u32 = 0;
        while xen.now_ns() < until {
            n = n.wrapping_add(1);
            let offset = usize::try_from(n).unwrap_or(0) * 4 % ioreq::SIZE;
            raw::hammer_stores(&server.page, offset, n.wrapping_mul(0x9e37_79b9), BURST)?;
            raw::hammer_exclusives(&server.page, offset, 0x0101_0101, BURST)?;
            // A port that is gone means that the guest is.
            let _ = xen.evtchn_send(server.port);
        }
        Ok(())
    }

    /// Answers and does nothing else until the guest is well at work, or a minute has passed.
    fn honest(xen: &Xen, server: &Server) -> Result<(), OutOfPage> {
        const ACCESSES: u32 = 100;
        report("phase", "honest");
        let until = xen.now_ns().saturating_add(60_000_000_000);
        let mut answered = 0_u32;
        while xen.now_ns() < until && answered < ACCESSES {
            answered = answered.wrapping_add(u32::from(server.answer(xen)?));
        }
        report("answered_honest", answered);
        Ok(())
    }

    /// Calls `blow` with a running number, over and over, and answers the guest in between.
    fn phase(
        xen: &Xen,
        server: &Server,
        name: &str,
        for_ns: u64,
        blow: impl Fn(usize) -> Result<(), OutOfPage>,
    ) -> Result<(), OutOfPage> {
        report("phase", name);
        let until = xen.now_ns().saturating_add(for_ns);
        let (mut blows, mut answered) = (0_usize, 0_u32);
        while xen.now_ns() < until {
            blow(blows)?;
            blows = blows.wrapping_add(1);
            answered = answered.wrapping_add(u32::from(server.answer(xen)?));
        }
        report(format_args!("answered_{name}"), answered);
        report(format_args!("blows_{name}"), blows);
        Ok(())
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this is a Xen domain's kernel: build it for aarch64-unknown-none");
}
