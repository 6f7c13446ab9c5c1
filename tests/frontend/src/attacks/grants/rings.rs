//! Attacks by the grants of rings, which the stub maps.

use super::Attack;
use super::site::{Address, Granting};
use crate::attacks::site::{IN, Settled};
use crate::virtio::outside;
use alloc::format;
use alloc::string::String;
use kernel::granted::GRANT_BIT;
use kernel::{DomId, Order};

pub(super) const ATTACKS: &[Attack] = &[
    Attack {
        name: "rings-revoked",
        tries: "the grants of the rings taken back in use, as a driver does and by force",
        run: revoked,
    },
    Attack {
        name: "rings-of-nobody",
        tries: "rings that are no grants, or by numbers without one",
        run: of_nobody,
    },
    Attack {
        name: "rings-of-others",
        tries: "rings that are granted to dom0, or for reading",
        run: of_others,
    },
    Attack {
        name: "rings-over-the-page",
        tries: "rings that begin in a grant and end in the next one, which is dom0's",
        run: over_the_page,
    },
    Attack {
        name: "rings-in-one-grant",
        tries: "all three rings at one place, by one grant",
        run: in_one_grant,
    },
    Attack {
        name: "rings-to-and-fro",
        tries: "a queue made ready and not ready, by good and bad grants in turn",
        run: to_and_fro,
    },
];

fn revoked(site: &mut Granting<'_>) -> Result<(), String> {
    for which in 0..3 {
        if site.ring(which).revoke().is_ok() {
            return Err(format!("the grant of ring {which} was taken back in use"));
        }
    }
    site.request(IN, 0, site.data.address())?;
    site.done()?;
    // Xen keeps the mapping, and with it the page.
    for which in 0..3 {
        site.ring(which).store_flags(0)?;
    }
    site.request(IN, 0, site.data.address())?;
    site.settled().map(drop)
}

/// A queue with its rings there is not used.
fn not_used(site: &mut Granting<'_>, rings: [Address; 3]) -> Result<(), String> {
    site.start(rings)?;
    site.request(IN, 0, site.data.address())?;
    match site.settled()? {
        Settled::NeedsReset => Ok(()),
        Settled::Answered(status) => {
            Err(format!("rings at {:x?}: status {status}", rings.map(|Address(address)| address)))
        }
    }
}

/// The rings as they should be, but for this one.
fn but(site: &Granting<'_>, which: usize, address: u64) -> [Address; 3] {
    let mut rings = site.rings();
    if let Some(ring) = rings.get_mut(which) {
        *ring = Address(address);
    }
    rings
}

fn of_nobody(site: &mut Granting<'_>) -> Result<(), String> {
    for which in 0..3 {
        for address in [GRANT_BIT, GRANT_BIT | 500 << 12, GRANT_BIT | 0xffff_ffff << 12, 0x4000_0000, !0xfff]
        {
            site.prepare()?;
            not_used(site, but(site, which, address))?;
        }
    }
    Ok(())
}

fn of_others(site: &mut Granting<'_>) -> Result<(), String> {
    for which in 0..3 {
        for (domain, is_read_only) in [(DomId(0), false), (site.stub, true)] {
            site.prepare()?;
            site.ring(which).grant_to(domain, is_read_only)?;
            not_used(site, site.rings())?;
        }
    }
    Ok(())
}

fn over_the_page(site: &mut Granting<'_>) -> Result<(), String> {
    let Address(data) = site.data.address();
    for which in 0..3 {
        site.prepare()?;
        not_used(site, but(site, which, data + 4096 - 16))?;
        // The first page was let go as well.
        site.data.revoke()?;
    }
    Ok(())
}

/// What the device makes of it is its own affair: each ring is read from, or written over, the others.
fn in_one_grant(site: &mut Granting<'_>) -> Result<(), String> {
    site.prepare()?;
    let [desc, ..] = site.rings();
    site.start([desc; 3])?;
    for n in 1..=16_u16 {
        site.request(IN, n.into(), site.data.address())?;
        // The first descriptor is the available ring's index as well.
        site.desc.page.store(2, n, Order::AcqRel).map_err(outside)?;
        site.device.notify();
    }
    site.device.sleep_ms(100);
    Ok(())
}

fn to_and_fro(site: &mut Granting<'_>) -> Result<(), String> {
    for n in 0..30 {
        site.prepare()?;
        if n % 2 == 0 {
            not_used(site, but(site, n % 3, GRANT_BIT | 500 << 12))?;
        } else {
            site.start(site.rings())?;
            site.request(IN, 0, site.data.address())?;
            site.done()?;
        }
    }
    Ok(())
}
