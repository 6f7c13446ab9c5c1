//! Attacks by memory: requests and rings where no RAM is, and RAM that leaves while it is used.

use super::Attack;
use super::rings::NOWHERE;
use super::site::{IN, OUT, SECTOR, SIZE, Site};
use crate::virtio::{Descriptor, page};
use alloc::format;
use alloc::string::String;
use kernel::SharedPage;
use kernel::testing::balloon::Hole;

pub(super) const ATTACKS: &[Attack] = &[
    Attack {
        name: "data-nowhere",
        tries: "data where no memory is, on devices and Xen's own pages",
        run: data_nowhere,
    },
    Attack { name: "header-nowhere", tries: "headers in the same places", run: header_nowhere },
    Attack {
        name: "data-over-the-end",
        tries: "data that begin in RAM and end outside",
        run: data_over_the_end,
    },
    Attack {
        name: "data-ballooned",
        tries: "data in a page that was given back to Xen",
        run: data_ballooned,
    },
    Attack {
        name: "rings-ballooned",
        tries: "each part of a ready queue given back to Xen",
        run: rings_ballooned,
    },
    Attack {
        name: "ballooned-amid-requests",
        tries: "pages that leave and return right after a notification",
        run: ballooned_amid_requests,
    },
    Attack {
        name: "invalidations",
        tries: "a hundred pages that leave and return, with requests in between",
        run: invalidations,
    },
];

fn data_nowhere(site: &mut Site<'_>) -> Result<(), String> {
    for addr in NOWHERE {
        for kind in [IN, OUT] {
            site.live(0)?;
            let data = Descriptor { addr, ..site.data_desc(kind, SECTOR, 2) };
            site.request_with(kind, 0, data)?;
            site.refused().map_err(|why| format!("type {kind} at {addr:#x}: {why}"))?;
        }
    }
    Ok(())
}

fn header_nowhere(site: &mut Site<'_>) -> Result<(), String> {
    for addr in NOWHERE {
        site.live(0)?;
        let header = Descriptor { addr, ..site.header_desc(1) };
        site.offer(&[header, site.data_desc(IN, SECTOR, 2), site.status_desc()])?;
        site.refused().map_err(|why| format!("at {addr:#x}: {why}"))?;
    }
    Ok(())
}

fn data_over_the_end(site: &mut Site<'_>) -> Result<(), String> {
    let hole = take_away(page()?)?;
    let below = hole.addr() - 4096;
    // Reading the disk into what is below would overwrite what we have there.
    site.live(0)?;
    let data = Descriptor { addr: below, ..site.data_desc(OUT, 8192, 2) };
    site.request_with(OUT, 0, data)?;
    let refused = site.refused();
    bring_back(hole)?;
    refused
}

fn take_away(page: SharedPage) -> Result<Hole, String> {
    Hole::make(page).map_err(|why| format!("no page can be given back: {why:?}"))
}

fn bring_back(hole: Hole) -> Result<SharedPage, String> {
    hole.fill().map_err(|why| format!("no page comes back: {why:?}"))
}

fn data_ballooned(site: &mut Site<'_>) -> Result<(), String> {
    for kind in [IN, OUT] {
        site.live(0)?;
        let gone = page()?;
        let addr = gone.addr();
        // Used once, so that the stub knows it.
        site.request_with(kind, 0, Descriptor { addr, ..site.data_desc(kind, SECTOR, 2) })?;
        site.settled()?;
        let hole = take_away(gone)?;
        site.request_with(kind, 0, Descriptor { addr, ..site.data_desc(kind, SECTOR, 2) })?;
        let refused = site.refused();
        bring_back(hole)?;
        refused.map_err(|why| format!("type {kind}: {why}"))?;
    }
    Ok(())
}

fn rings_ballooned(site: &mut Site<'_>) -> Result<(), String> {
    for part in 0..3 {
        site.negotiated(0)?;
        let gone = page()?;
        let mut parts = site.parts();
        parts[part] = gone.addr();
        site.device.place_queue(SIZE.into(), parts);
        site.device.add_status(crate::virtio::DRIVER_OK);
        site.device.notify();
        let hole = take_away(gone)?;
        site.request(IN, 0)?;
        site.device.notify();
        site.device.sleep_ms(10);
        bring_back(hole)?;
        site.device.notify();
    }
    Ok(())
}

fn ballooned_amid_requests(site: &mut Site<'_>) -> Result<(), String> {
    let mut gone = page()?;
    for n in 0..50_u64 {
        site.live(0)?;
        let kind = if n % 2 == 0 { IN } else { OUT };
        let data = Descriptor { addr: gone.addr(), ..site.data_desc(kind, 4096, 2) };
        site.request_with(kind, n % 8, data)?;
        gone = bring_back(take_away(gone)?)?;
        site.settled()?;
        // A new page of Xen's is empty. What was read before the old one left may be in neither.
        gone.zero();
    }
    Ok(())
}

fn invalidations(site: &mut Site<'_>) -> Result<(), String> {
    site.live(0)?;
    let mut gone = page()?;
    for n in 0..100 {
        gone = bring_back(take_away(gone)?)?;
        site.request(IN, n % 16)?;
        site.settled()?;
    }
    Ok(())
}
