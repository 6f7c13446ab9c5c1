//! Attacks by event channels, and by the console and the store as far as they are events.

use super::site::{done, not_made, until_refused};
use super::{Attack, Outcome, Site, Wrong};
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use kernel::walk::Answer;
use kernel::{DomId, Errno, Hypervisor, Order, Port, SharedPage, misuse};
use xen_pv_sys::hvm::{HVM_PARAM_CONSOLE_EVTCHN, HVM_PARAM_CONSOLE_PFN};
use xen_pv_sys::io::console;

/// The attacks.
pub(super) const ATTACKS: &[Attack] = &[
    Attack {
        name: "ports-to-limit",
        tries: "event channels without end, for dom0 to bind",
        run: ports_to_limit,
    },
    Attack {
        name: "ports-of-strangers",
        tries: "to bind to every port of dom0 and of another guest",
        run: ports_of_strangers,
    },
    Attack {
        name: "store-event-storm",
        tries: "xenstored woken at full rate, with nothing to read",
        run: |site| storm(site, site.store.port),
    },
    Attack {
        name: "console-event-storm",
        tries: "xenconsoled woken at full rate, with nothing to read",
        run: console_event_storm,
    },
    Attack {
        name: "console-flood",
        tries: "lines on the console at full rate: dom0 keeps them",
        run: console_flood,
    },
    Attack {
        name: "console-indices",
        tries: "console indices that name more than the ring holds",
        run: console_indices,
    },
    Attack { name: "polls", tries: "to sleep on ports that there are not, and on too many", run: polls },
];

/// Attacks that spoil the guest's own event channels.
pub(super) const OF_THE_GUEST: &[Attack] = &[
    Attack {
        name: "guest-ports-to-limit",
        tries: "event channels without end in the guest's name",
        run: guest_ports_to_limit,
    },
    Attack {
        name: "guest-ports-reset",
        tries: "all event channels of the guest closed, over and over",
        run: guest_ports_reset,
    },
];

/// More ports than libxl allows a domain.
const PORTS: u32 = 1200;
/// Bytes that the console's ring holds.
const RING_BYTES: u32 = 2048;
const _: () = assert!(RING_BYTES as usize == console::OUT_SIZE);
/// `EVTCHNOP_reset`.
const RESET: u64 = 10;

fn ports_to_limit(site: &mut Site) -> Outcome {
    let xen = site.xen;
    let mut made = Vec::new();
    let limit = until_refused(PORTS, |_| {
        made.push(xen.evtchn_alloc_unbound(DomId(0))?);
        Ok(())
    });
    for port in made {
        xen.evtchn_close(port).map_err(not_made("to close one"))?;
    }
    limit.map(|(count, errno)| format!("{count}, then {errno:?}"))
}

fn ports_of_strangers(site: &mut Site) -> Outcome {
    let mut answer = None;
    for domain in [DomId(0), site.other] {
        for port in 0..PORTS {
            match site.xen.evtchn_bind_interdomain(domain, port) {
                Ok(_) => return Err(Wrong::Passed(format!("port {port} of domain {domain}"))),
                Err(errno) => answer = Some(errno),
            }
        }
    }
    Ok(format!("{answer:?}"))
}

/// Notifies at full rate.
fn storm(site: &mut Site, port: Port) -> Outcome {
    let mut failed = None;
    let sent = site.flood(|site, _| failed = failed.or(site.xen.evtchn_send(port).err()));
    failed.map_or_else(|| Ok(format!("{sent} sent")), |errno| Err(not_made("to send")(errno)))
}

fn console_port(site: &Site) -> Result<Port, Wrong> {
    let port = site.xen.hvm_param(HVM_PARAM_CONSOLE_EVTCHN).map_err(not_made("the console's port"))?;
    Ok(Port(u32::try_from(port).unwrap_or(0)))
}

fn console_page(site: &Site) -> Result<SharedPage, Wrong> {
    let gfn = site.xen.hvm_param(HVM_PARAM_CONSOLE_PFN).map_err(not_made("the console's page"))?;
    site.xen.magic_page(gfn).map_err(not_made("the console's page"))
}

fn console_event_storm(site: &mut Site) -> Outcome {
    let port = console_port(site)?;
    storm(site, port)
}

fn console_flood(site: &mut Site) -> Outcome {
    let (page, port) = (console_page(site)?, console_port(site)?);
    let load = |at| page.load::<u32>(at, Order::AcqRel).unwrap_or(0);
    let mut written = 0_u64;
    site.flood(|site, _| {
        let (cons, prod) = (load(console::OUT_CONS), load(console::OUT_PROD));
        let free = console::OUT_SIZE.saturating_sub(prod.wrapping_sub(cons) as usize);
        for n in 0..u32::try_from(free).unwrap_or(0) {
            let at = prod.wrapping_add(n) as usize % console::OUT_SIZE;
            let byte = if n.is_multiple_of(64) { b'\n' } else { b'~' };
            let _ = page.store(console::OUT + at, byte, Order::Relaxed);
        }
        written = written.wrapping_add(free as u64);
        let _ = page.store(console::OUT_PROD, cons.wrapping_add(RING_BYTES), Order::AcqRel);
        let _ = site.xen.evtchn_send(port);
    });
    site.rest(500);
    log::info!("the flood is over");
    Ok(format!("{written} bytes"))
}

fn console_indices(site: &mut Site) -> Outcome {
    let (page, port) = (console_page(site)?, console_port(site)?);
    for ahead in [RING_BYTES + 1, 1 << 20, 1 << 31, u32::MAX] {
        let cons = page.load::<u32>(console::OUT_CONS, Order::AcqRel).unwrap_or(0);
        let _ = page.store(console::OUT_PROD, cons.wrapping_add(ahead), Order::AcqRel);
        let _ = site.xen.evtchn_send(port);
        site.rest(300);
    }
    // What it takes for read is where an honest writer goes on.
    let cons = page.load::<u32>(console::OUT_CONS, Order::AcqRel).unwrap_or(0);
    let _ = page.store(console::OUT_PROD, cons, Order::AcqRel);
    log::info!("the indices are right again");
    Ok("4 written".to_string())
}

fn polls(site: &mut Site) -> Outcome {
    let lists: [&[u32]; 5] = [&[0], &[u32::MAX], &[4096, 1], &[1023; 128], &[1; 129]];
    let mut answers = Vec::new();
    for list in lists {
        // A time that has passed: what does not fail returns.
        answers.push(misuse::poll(list, 1).err());
    }
    let times = site.flood(|_, n| {
        let _ = misuse::poll(&[1; 128], u64::from(n) + 1);
    });
    Ok(format!("{answers:?}, {times} of 128 ports"))
}

fn guest_ports_to_limit(site: &mut Site) -> Outcome {
    let mut made = 0_u32;
    let mut last = Answer::Done;
    while made < PORTS && last == Answer::Done {
        last = site.ask("event_channel_op", "alloc_unbound_of");
        made = made.wrapping_add(1);
    }
    if made >= PORTS {
        Err(Wrong::Passed(format!("no limit in {PORTS}")))
    } else {
        done(made.saturating_sub(1), last, "")
    }
}

/// Closes all event channels of a domain.
///
/// # Errors
/// What Xen answers.
pub(super) fn reset_ports(domain: u32) -> Result<u64, Errno> {
    misuse::event_op(RESET, &mut [domain, 0, 0, 0, 0, 0, 0, 0])
}

fn guest_ports_reset(site: &mut Site) -> Outcome {
    let (target, other) = (u32::from(site.target.0), u32::from(site.other.0));
    for (domain, whose) in [(0, "dom0's"), (other, "another guest's")] {
        if reset_ports(domain).is_ok() {
            return Err(Wrong::Passed(format!("{whose} ports are reset")));
        }
    }
    let (mut count, mut last) = (0_u32, Answer::LeftOut);
    let times = site.flood(|_, _| {
        last = reset_ports(target).into();
        count = count.wrapping_add(u32::from(last == Answer::Done));
    });
    done(count, last, format_args!(" in {times} times"))
}
