//! Contends for the memory of its guest in which Xen tells the guest of events, the open end of
//! XSA-295: Xen changes these words by load- and store-exclusive loops in the name of whoever sends
//! the event, and what it can pause is the guest, not this stub.
//!
//! Only the upper half of a word is changed, which has no event of anybody's: so the guest goes on, and
//! Xen keeps coming. Each time to another value: an emulator of exclusives sees a value that has
//! changed, and no more than that.
//!
//! Command line: `target=`, `shared-info=` and `vcpu-info=` the guest's frames, `seconds=` for each
//! phase.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

#[cfg(target_os = "none")]
mod shared_page {
    use kernel::{
        BootInfo, Delay, DelayNs, DomId, Errno, Hypervisor, Order, OutOfPage, SharedPage, ShutdownReason,
        Xen, hostile,
    };
    use pilotfish_hostile::{domain, frame, idle, number, report};
    use xen_pv_sys::xen::shared_info::{EVTCHN_PENDING, EVTCHN_UPCALL_PENDING};

    /// Operations between two looks at the clock.
    const BURST: u16 = 2000;
    /// For dom0 to hear of a phase before it begins, and to come to itself before it hears of the end.
    const LEAD_MS: u32 = 400;
    /// As above.
    const REST_MS: u32 = 600;
    /// Before the first phase, for as long as dom0 may take to begin to look.
    const QUIET_MS: u32 = 4000;
    /// One, in the upper half of a word.
    const UPPER: u32 = 1 << 16;

    type Contend = fn(&SharedPage, usize) -> Result<(), OutOfPage>;

    /// A page of the guest, and the word that is contended for.
    struct Place {
        name: &'static str,
        page: SharedPage,
        word: usize,
    }

    kernel::main!(run);

    fn run(xen: Xen, boot: &'static BootInfo) -> ShutdownReason {
        let known = (domain(boot, "target"), frame(boot, "shared-info"), frame(boot, "vcpu-info"));
        let (Some(target), Some(shared_info), Some(vcpu_info)) = known else {
            report("error", "target=, shared-info= and vcpu-info= are needed");
            return ShutdownReason::Crash;
        };
        report("lse", u8::from(hostile::has_lse()));
        match places(&xen, target, shared_info, vcpu_info) {
            Ok(places) => {
                report("mapped", "ok");
                let seconds = u64::from(number(boot, "seconds").unwrap_or(2));
                if phases(&xen, &places, seconds * 1_000_000_000).is_err() {
                    report("error", "an offset outside the page");
                }
            }
            Err(errno) => report("mapped", format_args!("{errno:?}")),
        }
        report("phase", "idle");
        report("done", 1);
        idle(&xen)
    }

    fn places(xen: &Xen, target: DomId, shared_info: u64, vcpu_info: u64) -> Result<[Place; 3], Errno> {
        let own = SharedPage::alloc().ok_or(Errno::ENOMEM)?;
        let map = |gfn| hostile::foreign_map(xen, target, gfn);
        Ok([
            // The measure: as busy, and in nobody's way.
            Place { name: "own", page: own, word: 0 },
            Place { name: "pending", page: map(shared_info)?, word: EVTCHN_PENDING },
            Place { name: "upcall", page: map(vcpu_info)?, word: EVTCHN_UPCALL_PENDING },
        ])
    }

    /// The ways to contend that this CPU has.
    fn ways() -> impl Iterator<Item = (&'static str, Contend)> {
        let lse = hostile::has_lse().then_some(("lse", by_lse as Contend));
        [("stores", by_stores as Contend), ("exclusives", by_exclusives)].into_iter().chain(lse)
    }

    fn by_stores(page: &SharedPage, word: usize) -> Result<(), OutOfPage> {
        for value in 0..BURST {
            page.store(word + 2, value, Order::Relaxed)?;
        }
        Ok(())
    }

    fn by_exclusives(page: &SharedPage, word: usize) -> Result<(), OutOfPage> {
        hostile::contend_by_exclusives(page, word, UPPER, BURST.into())
    }

    fn by_lse(page: &SharedPage, word: usize) -> Result<(), OutOfPage> {
        hostile::contend_by_lse(page, word, UPPER, BURST.into())
    }

    fn phases(xen: &Xen, places: &[Place], for_ns: u64) -> Result<(), OutOfPage> {
        report("phase", "quiet");
        Delay::new(xen).delay_ms(QUIET_MS);
        for (nr, place) in places.iter().enumerate() {
            // Where nobody else is, one way is enough.
            for (way, contend) in ways().take(if nr == 0 { 1 } else { usize::MAX }) {
                report("phase", format_args!("{way}_{}", place.name));
                Delay::new(xen).delay_ms(LEAD_MS);
                let changes = contend_for(xen, place, contend, for_ns)?;
                Delay::new(xen).delay_ms(REST_MS);
                report(format_args!("changes_{way}_{}", place.name), changes);
            }
        }
        Ok(())
    }

    /// Contends without a pause; returns how often the half of the word that Xen and the guest write
    /// was another than before.
    fn contend_for(xen: &Xen, place: &Place, contend: Contend, for_ns: u64) -> Result<u64, OutOfPage> {
        let until = xen.now_ns().saturating_add(for_ns);
        let (mut changes, mut last) = (0_u64, 0_u16);
        while xen.now_ns() < until {
            contend(&place.page, place.word)?;
            let now = place.page.load(place.word, Order::Relaxed)?;
            changes = changes.wrapping_add(u64::from(now != last));
            last = now;
        }
        Ok(changes)
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this is a Xen domain's kernel: build it for aarch64-unknown-none");
}
