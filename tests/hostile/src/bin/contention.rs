//! Contends for the memory that Xen uses while it serves this domain and its guest: the ioreq page,
//! which Xen writes at each access of the guest, and this domain's shared_info page, whose
//! event bits Xen changes by atomic operations. That Xen's own atomics cannot be starved in
//! this way without end is the fix of XSA-295.
//!
//! Runs through phases, told on the console with the guest's accesses answered in each. At
//! first the contention leaves values as they are, so that the guest lives and Xen keeps coming
//! to the page; then, with no vCPU in it, the slot is rewritten with nonsense; at last an
//! access's state goes backwards, for which Xen crashes the guest.
//!
//! Command line: `target=`, `seconds=` for each phase.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

#[cfg(target_os = "none")]
mod contention {
    use kernel::{BootInfo, Hypervisor, OutOfPage, SharedPage, ShutdownReason, Xen, hostile};
    use pilotfish_hostile::server::Server;
    use pilotfish_hostile::{domain, idle, number, report};
    use xen_pv_sys::dm_op::ioreq;
    use xen_pv_sys::xen::shared_info::EVTCHN_PENDING;

    /// Operations on one word before the next one, and before a look at the slot.
    const BURST: u64 = 200;

    type Contend = fn(&SharedPage, usize, u32, u64) -> Result<(), OutOfPage>;

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
        report("lse", u8::from(hostile::has_lse()));
        let for_ns = u64::from(number(boot, "seconds").unwrap_or(5)) * 1_000_000_000;
        if phases(&xen, &server, for_ns).is_err() {
            report("error", "an offset outside the page");
        }
        report("phase", "idle");
        report("done", 1);
        idle(&xen)
    }

    fn phases(xen: &Xen, server: &Server, for_ns: u64) -> Result<(), OutOfPage> {
        let events = hostile::shared_info(xen);
        // The word of the event bits that holds our port.
        let bits = EVTCHN_PENDING + usize::try_from(server.port.0 / 32).unwrap_or(0) * 4;
        honest(xen, server)?;
        for (name, way) in ways() {
            // Adding nothing is a write all the same. An LSE swap is unconditional, though, and
            // would now and then undo what Xen or this stub wrote in between, so the word of
            // the state and its neighbour are left out here.
            let words = ioreq::VP_EPORT / 4;
            phase(xen, server, (name, "slot"), for_ns, |n| way(&server.page, n % words * 4, 0, BURST))?;
            phase(xen, server, (name, "events"), for_ns, |_| way(&events, bits, 0, BURST))?;
        }
        report("phase", "rewrite");
        // Nonsense in a slot in which a vCPU waits would end the guest before its time.
        server.withdraw(xen)?;
        let until = xen.now_ns().saturating_add(for_ns);
        let mut n: u32 = 0;
        while xen.now_ns() < until {
            n = n.wrapping_add(1);
            let offset = usize::try_from(n).unwrap_or(0) * 4 % ioreq::SIZE;
            hostile::contend_by_stores(&server.page, offset, n.wrapping_mul(0x9e37_79b9), BURST)?;
            for (_, way) in ways() {
                way(&server.page, offset, 0x0101_0101, BURST)?;
            }
            // A port that is gone means that the guest is.
            let _ = xen.evtchn_send(server.port);
        }
        report("phase", "backwards");
        server.restore(xen)?;
        let until = xen.now_ns().saturating_add(20_000_000_000);
        report("went_backwards", u8::from(server.go_backwards(xen, until)?));
        Ok(())
    }

    /// The ways to contend that this CPU has.
    fn ways() -> impl Iterator<Item = (&'static str, Contend)> {
        let lse = hostile::has_lse().then_some(("lse", hostile::contend_by_lse as Contend));
        core::iter::once(("exclusives", hostile::contend_by_exclusives as Contend)).chain(lse)
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
        (way, place): (&str, &str),
        for_ns: u64,
        blow: impl Fn(usize) -> Result<(), OutOfPage>,
    ) -> Result<(), OutOfPage> {
        report("phase", format_args!("{way}_{place}"));
        let until = xen.now_ns().saturating_add(for_ns);
        let (mut blows, mut answered) = (0_usize, 0_u32);
        while xen.now_ns() < until {
            blow(blows)?;
            blows = blows.wrapping_add(1);
            answered = answered.wrapping_add(u32::from(server.answer(xen)?));
        }
        report(format_args!("answered_{way}_{place}"), answered);
        report(format_args!("blows_{way}_{place}"), blows);
        Ok(())
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this is a Xen domain's kernel: build it for aarch64-unknown-none");
}
