//! Attacks by grants: the table, what Xen keeps for each mapping, and the grants of others.

use super::site::{not_made, until_refused};
use super::{Attack, Outcome, Site, Wrong};
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use kernel::granted::GRANT_BIT;
use kernel::walk::Answer;
use kernel::{DomId, Hypervisor, SharedPage};
use xen_pv_sys::PAGE_SHIFT;

/// The attacks.
pub(super) const ATTACKS: &[Attack] = &[
    Attack {
        name: "grants-to-limit",
        tries: "grants without end: the table grows by pages of Xen's",
        run: grants_to_limit,
    },
    Attack {
        name: "grants-of-strangers",
        tries: "what dom0 and another guest may have granted to somebody",
        run: grants_of_strangers,
    },
    Attack {
        name: "grants-mapped-again",
        tries: "one grant mapped over and over: Xen keeps a record of each",
        run: grants_mapped_again,
    },
    Attack {
        name: "grant-operations",
        tries: "handles that are none, versions, exchanges, at full rate",
        run: grant_operations,
    },
];

/// More than the largest table has.
const GRANTS: u32 = 70_000;

fn grants_to_limit(site: &mut Site) -> Outcome {
    let xen = site.xen;
    let page = SharedPage::alloc().ok_or_else(|| Wrong::NotMade("no page".to_string()))?;
    let mut made = Vec::new();
    let limit = until_refused(GRANTS, |_| {
        made.push(xen.grant_access(DomId(0), &page, true)?);
        Ok(())
    });
    for gref in made {
        xen.grant_end(gref).map_err(not_made("to end one"))?;
    }
    limit.map(|(count, errno)| format!("{count}, then {errno:?}"))
}

fn grants_of_strangers(site: &mut Site) -> Outcome {
    let mut asked = 0_u32;
    for domain in [DomId(0), site.other] {
        let map = site.xen.grant_map(domain).map_err(not_made("addresses"))?;
        for gref in (0..1500_u64).chain([0x7fff_ffff, u64::from(u32::MAX)]) {
            asked = asked.wrapping_add(1);
            if map.read(GRANT_BIT | gref << PAGE_SHIFT, &mut [0; 8]).is_ok() {
                return Err(Wrong::Passed(format!("grant {gref} of domain {domain}")));
            }
        }
    }
    Ok(format!("{asked} refused"))
}

/// Asks for each of these on this domain, at full rate; how often, how often done, and the last answer.
fn over_and_over(site: &mut Site, ops: &[&str]) -> Outcome {
    let own = site.walker.own();
    let (mut done, mut last) = (0_u32, Answer::LeftOut);
    let times = site.flood(|site, n| {
        if let Some(op) = ops.get(n as usize % ops.len()) {
            last = site.walker.ask("grant_table_op", op, own);
            done = done.wrapping_add(u32::from(last == Answer::Done));
        }
    });
    Ok(format!("{done} of {times} done, at last {last}"))
}

fn grants_mapped_again(site: &mut Site) -> Outcome {
    over_and_over(site, &["map_grant_ref"])
}

fn grant_operations(site: &mut Site) -> Outcome {
    over_and_over(
        site,
        &[
            "unmap_grant_ref",
            "unmap_and_replace",
            "set_version",
            "swap_grant_ref",
            "dump_table",
            "get_status_frames",
            "query_size",
            "13",
        ],
    )
}
