//! Attacks by the operations of a device model: ioreq servers, ranges, interrupt lines.
//!
//! No server is destroyed with an access in a slot of it: an honest stub drains first, and so does this one.

pub(super) mod answers;

use super::site::{done, not_made, refused, until_refused};
use super::{Attack, Outcome, Site, Wrong};
use crate::server::Server;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use kernel::walk::Answer;
use kernel::{Errno, Hypervisor, IoservId, hostile, misuse};
use xen_pv_sys::dm_op::{DMOP_IO_RANGE_MEMORY, DMOP_MAP_IO_RANGE, ioreq};

/// The attacks.
pub(super) const ATTACKS: &[Attack] = &[
    Attack {
        name: "servers-to-limit",
        tries: "ioreq servers without end: each takes memory and ports",
        run: servers_to_limit,
    },
    Attack {
        name: "servers-made-and-ended",
        tries: "servers at full rate: Xen pauses the guest for each",
        run: servers_made_and_ended,
    },
    Attack {
        name: "servers-switched",
        tries: "a server on and off at full rate while an access waits",
        run: servers_switched,
    },
    Attack { name: "ranges-to-limit", tries: "address ranges without end", run: ranges_to_limit },
    Attack {
        name: "ranges-overlap",
        tries: "ranges that overlap in one server and in two",
        run: ranges_overlap,
    },
    Attack { name: "range-inverted", tries: "a range whose end is before its start", run: range_inverted },
    Attack {
        name: "range-kinds",
        tries: "ranges of ports, PCI devices and kinds that are none",
        run: range_kinds,
    },
    Attack {
        name: "range-enormous",
        tries: "all addresses that there are",
        run: |site| claim(site, 0, u64::MAX),
    },
    Attack {
        name: "range-on-ram",
        tries: "the guest's RAM as registers",
        run: |site| claim(site, 0x4000_0000, 0x4fff_ffff),
    },
    Attack {
        name: "range-on-gic",
        tries: "the registers of the guest's interrupt controller",
        run: |site| claim(site, 0x0300_1000, 0x0302_ffff),
    },
    Attack {
        name: "range-on-vuart",
        tries: "the registers of the guest's serial port",
        run: |site| claim(site, 0x2200_0000, 0x2200_0fff),
    },
    Attack {
        name: "ids-of-none",
        tries: "servers that there are not, and those of another guest",
        run: ids_of_none,
    },
    Attack { name: "irq-storm", tries: "every interrupt line of the guest, at full rate", run: irq_storm },
    Attack {
        name: "irq-numbers",
        tries: "interrupts that are not the guest's, and numbers that are none",
        run: irq_numbers,
    },
    Attack {
        name: "dm-op-bytes",
        tries: "every operation with buffers that are too short, too many or nonsense",
        run: dm_op_bytes,
    },
    Attack {
        name: "guest-parameters",
        tries: "the guest's parameters, which the toolstack sets",
        run: guest_parameters,
    },
];

/// Xen's limit of servers for a guest.
const SERVERS: u32 = 8;
/// Xen's limit of ranges for a server.
const RANGES: u32 = 256;
/// Where nothing of a guest's is.
const NOWHERE: u64 = 0x0a00_0000;
/// The first interrupt that belongs to devices, and the number behind the last.
const FIRST_SPI: u32 = 32;
const LAST_SPI: u32 = 1019;

/// `XEN_DMOP_map_io_range_to_ioreq_server` with any kind.
fn map_range(site: &Site, id: IoservId, kind: u32, first: u64, last: u64) -> Result<(), Errno> {
    let mut request = [0_u8; 32];
    let fields: [(usize, &[u8]); 5] = [
        (0, &DMOP_MAP_IO_RANGE.to_le_bytes()),
        (8, &id.0.to_le_bytes()),
        (12, &kind.to_le_bytes()),
        (16, &first.to_le_bytes()),
        (24, &last.to_le_bytes()),
    ];
    for (at, field) in fields {
        request[at..at + field.len()].copy_from_slice(field);
    }
    hostile::dm_op(site.target, &mut request).map(|_| ())
}

/// A server that is never switched on, and so never has an access.
fn with_server(site: &mut Site, attack: impl FnOnce(&mut Site, IoservId) -> Outcome) -> Outcome {
    let (xen, target) = (site.xen, site.target);
    let id = xen.ioreq_server_create(target).map_err(not_made("a server"))?;
    let outcome = attack(site, id);
    xen.ioreq_server_destroy(target, id).map_err(not_made("its end"))?;
    outcome
}

fn servers_to_limit(site: &mut Site) -> Outcome {
    let (xen, target) = (site.xen, site.target);
    let mut made = Vec::new();
    let limit = until_refused(SERVERS, |_| {
        made.push(xen.ioreq_server_create(target)?);
        Ok(())
    });
    for id in made {
        xen.ioreq_server_destroy(target, id).map_err(not_made("the end of one"))?;
    }
    limit.map(|(count, errno)| format!("{count} more, then {errno:?}"))
}

fn servers_made_and_ended(site: &mut Site) -> Outcome {
    site.hold()?;
    let mut failed = None;
    let times = site.flood(|site, _| {
        let (xen, target) = (site.xen, site.target);
        let ended = xen.ioreq_server_create(target).and_then(|id| {
            let mapped = map_range(site, id, DMOP_IO_RANGE_MEMORY, NOWHERE, NOWHERE + 0xfff);
            mapped.and(xen.ioreq_server_destroy(target, id))
        });
        failed = failed.or(ended.err());
    });
    failed.map_or_else(|| Ok(format!("{times} times")), |errno| Err(not_made("a server")(errno)))
}

fn servers_switched(site: &mut Site) -> Outcome {
    site.hold()?;
    let times = site.flood(|site, n| {
        let _ = site.xen.ioreq_server_set_state(site.target, site.server.id, !n.is_multiple_of(2));
    });
    site.xen.ioreq_server_set_state(site.target, site.server.id, true).map_err(not_made("on again"))?;
    Ok(format!("{times} times"))
}

fn ranges_to_limit(site: &mut Site) -> Outcome {
    with_server(site, |site, id| {
        let limit = until_refused(RANGES + 1, |n| {
            let first = NOWHERE + u64::from(n) * 0x2000;
            map_range(site, id, DMOP_IO_RANGE_MEMORY, first, first + 0xfff)
        })?;
        Ok(format!("{} ranges, then {:?}", limit.0, limit.1))
    })
}

fn ranges_overlap(site: &mut Site) -> Outcome {
    with_server(site, |site, id| {
        map_range(site, id, DMOP_IO_RANGE_MEMORY, NOWHERE, NOWHERE + 0x1fff).map_err(not_made("a range"))?;
        let inside = map_range(site, id, DMOP_IO_RANGE_MEMORY, NOWHERE + 0x1000, NOWHERE + 0x2fff);
        let outcome = refused("an overlap in one server", inside)?;
        // Two servers may have one range: the newer one is asked.
        let other = with_server(site, |site, id| {
            let result = map_range(site, id, DMOP_IO_RANGE_MEMORY, NOWHERE, NOWHERE + 0x1fff);
            Ok(format!("{result:?}"))
        })?;
        Ok(format!("{outcome}; in two servers {other}"))
    })
}

fn range_inverted(site: &mut Site) -> Outcome {
    with_server(site, |site, id| {
        let ends = [(NOWHERE + 1, NOWHERE), (u64::MAX, 0), (1 << 63, 1)];
        ends.iter().try_fold(String::new(), |_, &(first, last)| {
            refused(
                format_args!("{first:#x} to {last:#x}"),
                map_range(site, id, DMOP_IO_RANGE_MEMORY, first, last),
            )
        })
    })
}

fn range_kinds(site: &mut Site) -> Outcome {
    with_server(site, |site, id| {
        let known = [0, 2].map(|kind| map_range(site, id, kind, 0, u64::MAX));
        let unknown = [3, 4, 0x8000_0000, u32::MAX];
        let unknown = unknown.iter().try_fold(String::new(), |_, &kind| {
            refused(format_args!("kind {kind}"), map_range(site, id, kind, NOWHERE, NOWHERE))
        })?;
        Ok(format!("ports and PCI {known:?}; others {unknown}"))
    })
}

/// Takes these addresses from whoever has them while the guest runs, and gives them back.
fn claim(site: &mut Site, first: u64, last: u64) -> Outcome {
    let (xen, target) = (site.xen, site.target);
    let claim = match Server::over(&xen, target, first, last) {
        Ok(claim) => claim,
        Err(errno) => return Ok(format!("refused: {errno:?}")),
    };
    let mut taken = 0_u32;
    let answered = site.flood(|site, _| {
        site.server.answer(&site.xen).unwrap_or(false);
        taken = taken.wrapping_add(u32::from(claim.answer(&site.xen) == Ok(true)));
    });
    xen.ioreq_server_set_state(target, claim.id, false).map_err(not_made("off"))?;
    let until = xen.now_ns().saturating_add(20_000_000_000);
    while claim.state() != Ok(ioreq::STATE_NONE) {
        if xen.now_ns() > until {
            return Err(Wrong::NotMade("an access stays in the slot".to_string()));
        }
        let _ = claim.answer(&xen);
        let _ = site.server.answer(&xen);
    }
    xen.ioreq_server_destroy(target, claim.id).map_err(not_made("its end"))?;
    let _ = xen.evtchn_close(claim.port);
    Ok(format!("{taken} accesses taken in {answered} looks"))
}

fn ids_of_none(site: &mut Site) -> Outcome {
    let (xen, target, other) = (site.xen, site.target, site.other);
    let mut last = String::new();
    for id in [1, 7, 8, 9, 255, 256, 0x7fff, u16::MAX].map(IoservId) {
        last = refused("a range for none", xen.ioreq_server_map_mmio(target, id, NOWHERE, NOWHERE))?;
        refused("to switch none", xen.ioreq_server_set_state(target, id, true))?;
        refused("the end of none", xen.ioreq_server_destroy(target, id))?;
        refused("the page of none", xen.ioreq_server_page(target, id))?;
    }
    let stranger = refused("the end of another guest's", xen.ioreq_server_destroy(other, IoservId(0)))?;
    Ok(format!("{last}; another guest's {stranger}"))
}

fn irq_storm(site: &mut Site) -> Outcome {
    let mut taken = 0_u32;
    let asked = site.flood(|site, n| {
        let irq = FIRST_SPI + n / 2 % (LAST_SPI + 1 - FIRST_SPI);
        // Those that the guest has, far more often.
        let irq = if n.is_multiple_of(16) { irq } else { FIRST_SPI + n / 2 % 16 };
        let done = site.xen.set_irq_level(site.target, irq, n.is_multiple_of(2));
        taken = taken.wrapping_add(u32::from(done.is_ok()));
    });
    Ok(format!("{asked} asked, {taken} taken"))
}

fn irq_numbers(site: &mut Site) -> Outcome {
    let (xen, target) = (site.xen, site.target);
    let strange = [1020, 1023, 1024, 4096, 0x7fff_ffff, u32::MAX];
    (0..FIRST_SPI).chain(strange).try_fold(String::new(), |_, irq| {
        refused(format_args!("interrupt {irq}"), xen.set_irq_level(target, irq, true))
    })
}

fn dm_op_bytes(site: &mut Site) -> Outcome {
    let mut done = 0_u32;
    let mut asked = 0_u32;
    for op in 0..=80_u32 {
        for size in [0_usize, 1, 4, 7, 8, 9, 12, 16, 24, 32, 64] {
            for buffers in 1..=4 {
                // No server has these bytes for its number.
                let mut request = [0xa5_u8; 64];
                request[..4].copy_from_slice(&op.to_le_bytes());
                request[4..8].fill(if op.is_multiple_of(2) { 0 } else { 0xff });
                let request = request.get_mut(..size).unwrap_or_default();
                let result = hostile::dm_op_buffers(site.target, request, buffers);
                asked = asked.wrapping_add(1);
                done = done.wrapping_add(u32::from(result.is_ok()));
            }
        }
    }
    Ok(format!("{asked} asked, {done} done"))
}

fn guest_parameters(site: &mut Site) -> Outcome {
    let (mut set, mut last) = (0_u32, Ok(0));
    for index in (0..80).chain([0xffff, u32::MAX]) {
        for value in [0, 1, 0x4000_0000, u64::MAX] {
            last = misuse::hvm_set_param(site.target, index, value).map(|_| 0);
            set = set.wrapping_add(u32::from(last.is_ok()));
        }
    }
    let other = refused("another guest's", misuse::hvm_set_param(site.other, 0, 0))?;
    done(set, Answer::from(last), format_args!("; another guest's {other}"))
}
