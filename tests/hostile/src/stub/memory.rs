//! Attacks by memory: mappings of the guest's pages, its physical map, and what Xen keeps for all that.

use super::site::{done, not_made, refused};
use super::{Attack, Outcome, Site, Wrong};
use alloc::format;
use alloc::string::{String, ToString};
use kernel::misuse::Places;
use kernel::walk::Answer;
use kernel::{DomId, Errno, misuse};
use xen_pv_sys::PAGE_SHIFT;
use xen_pv_sys::arch_arm::GUEST_RAM0_BASE;

/// The attacks.
pub(super) const ATTACKS: &[Attack] = &[
    Attack {
        name: "all-of-the-guest",
        tries: "every page of the guest mapped at once",
        run: all_of_the_guest,
    },
    Attack {
        name: "mapped-and-unmapped",
        tries: "a page mapped and unmapped at full rate: Xen flushes each time",
        run: mapped_and_unmapped,
    },
    Attack { name: "mapped-over", tries: "one page mapped over another at full rate", run: mapped_over },
    Attack {
        name: "one-page-everywhere",
        tries: "a thousand mappings of one page of the guest",
        run: one_page_everywhere,
    },
    Attack {
        name: "frames-of-nothing",
        tries: "frames that are registers, rings, grants or nothing",
        run: frames_of_nothing,
    },
    Attack {
        name: "frames-of-strangers",
        tries: "pages of dom0, of another guest and of Xen",
        run: frames_of_strangers,
    },
    Attack {
        name: "resources-again",
        tries: "the grant table and the ioreq page mapped at full rate",
        run: resources_again,
    },
    Attack {
        name: "guest-memory-to-limit",
        tries: "memory for the guest until Xen has none",
        run: guest_memory_to_limit,
    },
    Attack {
        name: "own-memory-to-limit",
        tries: "memory for the stub until Xen has none",
        run: own_memory_to_limit,
    },
    Attack {
        name: "guest-frames-moved",
        tries: "the guest's physical map changed at full rate",
        run: guest_frames_moved,
    },
    Attack {
        name: "guest-memory-taken",
        tries: "pages of the guest given back to Xen while it runs",
        run: guest_memory_taken,
    },
    Attack {
        name: "pool-exhausted",
        tries: "mappings until there is no memory for page tables",
        run: pool_exhausted,
    },
    Attack {
        name: "shutdown-reasons",
        tries: "the guest shut down for every reason, and for none",
        run: shutdown_reasons,
    },
];

/// One frame of the guest's RAM, and more pages than it has.
const RAM: u64 = GUEST_RAM0_BASE >> PAGE_SHIFT;
const PAGES: u64 = 0x4000;
/// Pages that are taken out of the guest's physical map. Others are left for the attacks that follow.
const REMOVED: u32 = 500;
/// Pages of a place.
const PLACE: u64 = 512;

fn places(site: &Site, count: usize) -> Result<Places, Wrong> {
    Places::take(&site.xen, count).map_err(not_made("addresses"))
}

/// Unmaps what was mapped at the first `count` pages of these places.
fn unmap(places: &Places, count: u64) -> Result<(), Wrong> {
    for page in 0..count {
        let block = usize::try_from(page / PLACE).unwrap_or(0);
        places.unmap(block, page % PLACE).map_err(not_made("to unmap"))?;
    }
    Ok(())
}

fn all_of_the_guest(site: &mut Site) -> Outcome {
    let places = places(site, 32)?;
    let mut mapped = 0;
    let mut answer = Errno::ENOSPC;
    while mapped < PAGES {
        let block = usize::try_from(mapped / PLACE).unwrap_or(0);
        match places.map(site.target, RAM + mapped, block, mapped % PLACE) {
            Ok(()) => mapped += 1,
            Err(errno) => {
                answer = errno;
                break;
            }
        }
    }
    unmap(&places, mapped)?;
    done(small(mapped), format_args!("{answer:?}"), "")
}

fn mapped_and_unmapped(site: &mut Site) -> Outcome {
    let places = places(site, 1)?;
    mapped_at_full_rate(site, |site, n| {
        places.map(site.target, RAM + u64::from(n % 1024), 0, 0).and_then(|()| places.unmap(0, 0))
    })
}

fn mapped_over(site: &mut Site) -> Outcome {
    let places = places(site, 1)?;
    let outcome = mapped_at_full_rate(site, |site, n| {
        places.map(site.target, RAM + u64::from(n % 1024), 0, u64::from(n % 3))
    });
    for page in 0..3 {
        let _ = places.unmap(0, page);
    }
    outcome
}

/// Does that over and over; how often it went well.
fn mapped_at_full_rate(site: &mut Site, mut map: impl FnMut(&mut Site, u32) -> Result<(), Errno>) -> Outcome {
    let (mut count, mut answer) = (0_u32, None);
    let times = site.flood(|site, n| {
        let errno = map(site, n).err();
        count = count.wrapping_add(u32::from(errno.is_none()));
        answer = errno.or(answer);
    });
    done(count, word(answer), format_args!(" in {times} times"))
}

/// An answer as one word.
fn word(answer: Option<Errno>) -> String {
    answer.map_or_else(|| "ok".to_string(), |errno| format!("{errno:?}"))
}

/// As a count for a report.
fn small(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn one_page_everywhere(site: &mut Site) -> Outcome {
    let places = places(site, 2)?;
    let mut mapped = 0;
    let mut answer = None;
    while mapped < 2 * PLACE && answer.is_none() {
        let block = usize::try_from(mapped / PLACE).unwrap_or(0);
        answer = places.map(site.target, RAM, block, mapped % PLACE).err();
        mapped += u64::from(answer.is_none());
    }
    unmap(&places, mapped)?;
    done(small(mapped), word(answer), "")
}

fn frames_of_nothing(site: &mut Site) -> Outcome {
    let places = places(site, 1)?;
    let frames = [
        0,
        1,
        0x2000,
        0x3001,
        0x3020,
        0x2_2000,
        0x3_8000,
        0x3_9000,
        0x3_9001,
        0x3_9003,
        RAM - 1,
        0x8_0000,
        0xf_ffff,
        0x20_0000,
        1 << 36,
        1 << 52,
        u64::MAX >> 12,
        u64::MAX,
    ];
    let (mut mapped, mut answer) = (0_u32, None);
    for frame in frames {
        match places.map(site.target, frame, 0, 1) {
            Ok(()) => {
                mapped = mapped.wrapping_add(1);
                places.unmap(0, 1).map_err(not_made("to unmap"))?;
            }
            Err(errno) => answer = Some(errno),
        }
    }
    done(mapped, word(answer), format_args!(" of {}", frames.len()))
}

fn frames_of_strangers(site: &mut Site) -> Outcome {
    let places = places(site, 1)?;
    let strangers = [DomId(0), site.other, DomId(0x7ff1), DomId(0x7ff2), DomId(0x7ff4)];
    let mut answers = String::new();
    for domain in strangers {
        for frame in [RAM, RAM + 0x100, 0x9000, 0x3_9000] {
            answers = refused(format_args!("frame {frame:#x} of {domain}"), places.map(domain, frame, 0, 0))?;
        }
    }
    let into = site.ask("memory_op", "add_to_physmap_batch/gmfn_foreign_into");
    if into == Answer::Done {
        Err(Wrong::Passed("dom0's page in the guest".to_string()))
    } else {
        Ok(format!("{answers}, {into}"))
    }
}

/// Asks for each of these at full rate; the last answers.
fn over_and_over(site: &mut Site, ops: &[&str]) -> Outcome {
    let (mut count, mut last) = (0_u32, Answer::LeftOut);
    let times = site.flood(|site, n| {
        if let Some(op) = ops.get(n as usize % ops.len()) {
            last = site.ask("memory_op", op);
            count = count.wrapping_add(u32::from(last == Answer::Done));
        }
    });
    done(count, last, format_args!(" in {times} times"))
}

fn resources_again(site: &mut Site) -> Outcome {
    over_and_over(
        site,
        &["acquire_resource/ioreq_server", "acquire_resource/grant_table", "acquire_resource/3"],
    )
}

fn guest_memory_taken(site: &mut Site) -> Outcome {
    // Xen has the guest's mappings dropped: its next access is a request for that.
    site.hold()?;
    let outcome = over_and_over(site, &["decrease_reservation"])?;
    Ok(format!("{outcome}, then {} accesses answered", site.serve(300_000_000)))
}

/// Memory for a domain until Xen gives none.
fn to_limit(site: &mut Site, domain: DomId) -> Outcome {
    let mut given = 0_u32;
    let mut last = Answer::Done;
    site.flood(|site, _| {
        if last == Answer::Done {
            last = site.walker.ask("memory_op", "populate_physmap", domain);
            given = given.wrapping_add(u32::from(last == Answer::Done));
        }
    });
    if last == Answer::Done {
        Err(Wrong::Passed(format!("{given} pages and no limit")))
    } else {
        done(given, last, "")
    }
}

fn guest_memory_to_limit(site: &mut Site) -> Outcome {
    let target = site.target;
    to_limit(site, target)
}

fn own_memory_to_limit(site: &mut Site) -> Outcome {
    let own = site.walker.own();
    to_limit(site, own)
}

fn guest_frames_moved(site: &mut Site) -> Outcome {
    site.hold()?;
    let (mut removed, mut last) = (0_u32, Answer::LeftOut);
    for _ in 0..REMOVED {
        last = site.ask("memory_op", "remove_from_physmap");
        removed = removed.wrapping_add(u32::from(last == Answer::Done));
        // Each of both takes the next page.
        let _ = site.ask("memory_op", "exchange");
    }
    let outcome = done(removed, last, "")?;
    let more = over_and_over(site, &["add_to_physmap/gmfn", "add_to_physmap/gmfn_range"])?;
    Ok(format!("{outcome}; others: {more}; then {} accesses answered", site.serve(300_000_000)))
}

fn pool_exhausted(site: &mut Site) -> Outcome {
    let places = places(site, 600)?;
    let mut used = 0;
    let mut answer = None;
    while used < places.count() && answer.is_none() {
        answer = places.map(site.target, RAM, used, 0).err();
        used += usize::from(answer.is_none());
    }
    // Again and again at the end of it.
    let times = site.flood(|site, n| {
        let block = n as usize % places.count();
        let _ = places.map(site.target, RAM, block, 1).and_then(|()| places.unmap(block, 1));
    });
    for block in 0..used {
        let _ = places.unmap(block, 0);
    }
    let used = u32::try_from(used).unwrap_or(u32::MAX);
    done(used, word(answer), format_args!(", {times} times more"))
}

fn shutdown_reasons(site: &mut Site) -> Outcome {
    for domain in [DomId(0), site.other] {
        refused(format_args!("the end of domain {domain}"), misuse::remote_shutdown(domain, 0))?;
    }
    let answers = [u32::MAX, 256, 255, 7, 6, 5, 4, 2, 1, 3, 0]
        .map(|reason| misuse::remote_shutdown(site.target, reason).err());
    let count = answers.iter().filter(|answer| answer.is_none()).count();
    done(small(count as u64), word(answers.into_iter().flatten().last()), "")
}
