//! Attacks by what any vCPU has: firmware calls, timers, caches, the scheduler. A stub shares the machine's CPUs
//! with everybody.

use super::site::{not_made, until_refused};
use super::{Attack, Outcome, Site, Wrong};
use alloc::format;
use alloc::string::ToString;
use kernel::{Hypervisor, SharedPage, misuse, xen_version};

/// The attacks.
pub(super) const ATTACKS: &[Attack] = &[
    Attack {
        name: "psci-calls",
        tries: "every PSCI function that neither ends nor starts a vCPU",
        run: psci_calls,
    },
    Attack {
        name: "firmware-calls",
        tries: "functions of every owner of the SMC Calling Convention",
        run: firmware_calls,
    },
    Attack {
        name: "timer-storm",
        tries: "both timers set at full rate to a time that has passed",
        run: |site| flood(site, |_| misuse::timers(0, 1)),
    },
    Attack { name: "timer-times", tries: "timers at every extreme, on, off and masked", run: timer_times },
    Attack {
        name: "cache-by-set-way",
        tries: "cache operations that make Xen flush all of the domain's memory",
        run: |site| flood(site, |_| misuse::clean_by_set_way()),
    },
    Attack {
        name: "cache-flush",
        tries: "cache maintenance by hypercall, at full rate, and of what is no range",
        run: cache_flush,
    },
    Attack {
        name: "yield-storm",
        tries: "the CPU given away at full rate",
        run: |site| flood(site, |site| site.xen.yield_cpu()),
    },
    Attack {
        name: "hypercall-storm",
        tries: "the cheapest hypercall at full rate",
        run: |site| {
            flood(site, |_| {
                let _ = xen_version();
            })
        },
    },
    Attack {
        name: "busy-loop",
        tries: "the CPU taken and never given away",
        run: |site| flood(site, |_| ()),
    },
    Attack { name: "watchdogs", tries: "watchdogs without end, and those of nobody", run: watchdogs },
];

/// Attacks after which the stub ends.
pub(super) const WATCHDOG: &[Attack] = &[Attack {
    name: "watchdog-bites",
    tries: "Xen ends the domain in the midst of its work",
    run: watchdog_bites,
}];

fn flood(site: &mut Site, blow: fn(&Site)) -> Outcome {
    let times = site.flood(|site, _| blow(site));
    misuse::timers(u64::MAX, 0);
    Ok(format!("{times} times"))
}

/// How many of these functions are answered with anything but "unknown", with these arguments.
fn answered(functions: impl Iterator<Item = u32>, args: [u64; 3]) -> usize {
    // `NOT_SUPPORTED`, in 32 and in 64 bits.
    let unknown = [u64::MAX, u64::from(u32::MAX)];
    functions
        .filter_map(|function| misuse::smccc(function, args))
        .filter(|answer| !unknown.contains(answer))
        .count()
}

fn psci_calls(_: &mut Site) -> Outcome {
    let functions = || [0x8400_0000_u32, 0xc400_0000].into_iter().flat_map(|base| base..base + 0x20);
    // Few times: Xen tells of each that it does not know.
    let known = [0, 1, u64::MAX].map(|value| answered(functions(), [0, value, u64::MAX]));
    Ok(format!("{known:?} of 64 known"))
}

fn firmware_calls(_: &mut Site) -> Outcome {
    // Once: Xen tells of each that it does not know.
    let numbers = [0, 1, 0x7fff, 0xff01, 0xffff];
    let owners = (0..64_u32).flat_map(|owner| [1 << 31, 3 << 30].map(|kind| kind | owner << 24));
    let functions = owners.flat_map(|base| numbers.map(|number| base | number));
    let known = answered(functions, [0, u64::MAX, u64::MAX]);
    Ok(format!("{known} of 640 known"))
}

fn timer_times(site: &mut Site) -> Outcome {
    let times = site.flood(|_, n| {
        let compare = [0, 1, 1 << 31, 1 << 32, 1 << 62, 1 << 63, u64::MAX - 1, u64::MAX];
        misuse::timers(compare[n as usize % compare.len()], u64::from(n / 8 % 8));
    });
    misuse::timers(u64::MAX, 0);
    Ok(format!("{times} set"))
}

fn cache_flush(site: &mut Site) -> Outcome {
    let page = SharedPage::alloc().ok_or(Wrong::NotMade("no page".to_string()))?;
    let mut allowed = 0_u32;
    let mut answer = None;
    let times = site.flood(|_, n| {
        // Good ones, and lengths, offsets and operations that are none.
        let (offset, length, op) = match n % 4 {
            0 => (0, 4096, 3),
            1 => (4095, 4096, 1),
            2 => (u16::MAX, u16::MAX, 2),
            _ => (0, 16, n),
        };
        let result = misuse::cache_flush(&page, offset, length, op);
        allowed = allowed.wrapping_add(u32::from(result.is_ok()));
        answer = answer.or(result.err());
    });
    Ok(format!("{allowed} of {times} done, {answer:?}"))
}

fn watchdogs(_: &mut Site) -> Outcome {
    let limit = until_refused(100, |_| misuse::watchdog(0, 3600).map(|_| ()))?;
    let strange = [limit.0 + 1, 99, u32::MAX].map(|id| misuse::watchdog(id, 3600).err());
    for id in 1..=limit.0 {
        misuse::watchdog(id, 0).map_err(not_made("to stop one"))?;
    }
    Ok(format!("{}, then {:?}; others {strange:?}", limit.0, limit.1))
}

fn watchdog_bites(_: &mut Site) -> Outcome {
    misuse::watchdog(0, 1).map_err(not_made("a watchdog"))?;
    Ok("in a second".to_string())
}
