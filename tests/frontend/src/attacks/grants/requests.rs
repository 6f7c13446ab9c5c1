//! Attacks by the grants of requests, which Xen copies by.

use super::Attack;
use super::site::{Address, Granting};
use crate::attacks::site::{HEADER, IN, NO_STATUS, OUT, SECTOR, Settled};
use crate::virtio::{DESC_NEXT, DESC_WRITE, Descriptor, outside};
use alloc::format;
use alloc::string::String;
use kernel::granted::GRANT_BIT;
use kernel::{DomId, Order};
use xen_pv_sys::grant_table::GTF_PERMIT_ACCESS;

pub(super) const ATTACKS: &[Attack] = &[
    Attack {
        name: "data-revoked",
        tries: "data whose grant is taken back before the request",
        run: data_revoked,
    },
    Attack { name: "header-revoked", tries: "a header whose grant is taken back", run: header_revoked },
    Attack { name: "status-revoked", tries: "a status byte whose grant is taken back", run: status_revoked },
    Attack {
        name: "revoked-amid-requests",
        tries: "data whose grant is taken back while the request is done, over and over",
        run: revoked_amid_requests,
    },
    Attack {
        name: "granted-to-dom0",
        tries: "data that are granted to dom0, not to the stub",
        run: granted_to_dom0,
    },
    Attack {
        name: "data-read-only",
        tries: "a read into a page that is granted for reading",
        run: data_read_only,
    },
    Attack {
        name: "status-read-only",
        tries: "a status byte that is granted for reading",
        run: status_read_only,
    },
    Attack {
        name: "grants-of-other-kinds",
        tries: "data by entries that are invalid, transfers, transitive or for a part of a page",
        run: other_kinds,
    },
    Attack {
        name: "grants-that-are-none",
        tries: "data by numbers without a grant, up to the last one, and by addresses with all bits set",
        run: that_are_none,
    },
    Attack {
        name: "over-the-page",
        tries: "data that begin in a grant and end in the next one, which is dom0's",
        run: over_the_page,
    },
    Attack {
        name: "address-without-grant",
        tries: "addresses of RAM in place of grants",
        run: without_grant,
    },
    Attack {
        name: "one-grant-for-all",
        tries: "header, data and status in one page by one grant, apart and one over the other",
        run: one_for_all,
    },
    Attack {
        name: "reset-amid-requests",
        tries: "resets with a read under way, after which the driver uses the page for itself",
        run: reset_amid_requests,
    },
];

/// A word that no disk here holds.
const MARK: u32 = 0xa5c3_0f1e;

/// A read and a write of one sector there, neither of which may succeed.
fn both_refused(site: &mut Granting<'_>, data: Address) -> Result<(), String> {
    for kind in [IN, OUT] {
        site.request(kind, 0, data)?;
        site.refused().map_err(|why| format!("address {:#x}, type {kind}: {why}", data.0))?;
    }
    Ok(())
}

/// Marks the page of the data, makes a read with its data there, which may not succeed, and sees that the mark stays.
fn not_written(site: &mut Granting<'_>, data: Address) -> Result<(), String> {
    site.data.page.store(0, MARK, Order::Relaxed).map_err(outside)?;
    site.request(IN, 0, data)?;
    site.refused().map_err(|why| format!("address {:#x}: {why}", data.0))?;
    is_marked(site)
}

/// Where there may be no status, either.
fn no_success(site: &Granting<'_>) -> Result<(), String> {
    match site.settled()? {
        Settled::Answered(0) => Err(String::from("it succeeded")),
        _ => Ok(()),
    }
}

fn is_marked(site: &Granting<'_>) -> Result<(), String> {
    match site.data.page.load::<u32>(0, Order::AcqRel) {
        Ok(MARK) => Ok(()),
        found => Err(format!("the page was written: {found:x?}")),
    }
}

fn data_revoked(site: &mut Granting<'_>) -> Result<(), String> {
    site.data.revoke()?;
    both_refused(site, site.data.address())?;
    not_written(site, site.data.address())
}

fn header_revoked(site: &mut Granting<'_>) -> Result<(), String> {
    site.header.revoke()?;
    site.request(IN, 0, site.data.address())?;
    no_success(site)
}

fn status_revoked(site: &mut Granting<'_>) -> Result<(), String> {
    site.status.revoke()?;
    site.request(IN, 0, site.data.address())?;
    no_success(site)
}

fn revoked_amid_requests(site: &mut Granting<'_>) -> Result<(), String> {
    for n in 0..200 {
        let kind = if n % 2 == 0 { IN } else { OUT };
        site.request(kind, n % 16, site.data.address())?;
        // Xen says that it is in use, or takes it back.
        let is_taken = site.data.revoke().is_ok();
        site.settled()?;
        if is_taken {
            site.data.grant_again()?;
        }
    }
    Ok(())
}

fn granted_to_dom0(site: &mut Granting<'_>) -> Result<(), String> {
    site.data.grant_to(DomId(0), false)?;
    both_refused(site, site.data.address())?;
    not_written(site, site.data.address())
}

fn data_read_only(site: &mut Granting<'_>) -> Result<(), String> {
    site.data.grant_to(site.stub, true)?;
    not_written(site, site.data.address())?;
    // The device only reads it there.
    site.request(OUT, 0, site.data.address())?;
    site.done()
}

fn status_read_only(site: &mut Granting<'_>) -> Result<(), String> {
    site.status.grant_to(site.stub, true)?;
    site.request(IN, 0, site.data.address())?;
    no_success(site)
}

/// `GTF_*` of `public/grant_table.h`. The first three are no grants of a table of version 1.
fn other_kinds(site: &mut Granting<'_>) -> Result<(), String> {
    const INVALID: u16 = 0;
    const TRANSFER: u16 = 2;
    const TRANSITIVE: u16 = 3;
    const SUB_PAGE: u16 = 1 << 8;
    const CACHE_BITS: u16 = 7 << 5;
    for flags in [INVALID, TRANSFER, TRANSITIVE] {
        site.data.store_flags(flags)?;
        both_refused(site, site.data.address()).map_err(|why| format!("flags {flags:#x}: {why}"))?;
        not_written(site, site.data.address()).map_err(|why| format!("flags {flags:#x}: {why}"))?;
    }
    for flags in [
        GTF_PERMIT_ACCESS | SUB_PAGE,
        GTF_PERMIT_ACCESS | CACHE_BITS,
        GTF_PERMIT_ACCESS | 0xfe00,
        TRANSITIVE | SUB_PAGE,
    ] {
        site.data.store_flags(flags)?;
        site.request(IN, 0, site.data.address())?;
        site.settled().map_err(|why| format!("flags {flags:#x}: {why}"))?;
    }
    site.data.store_flags(GTF_PERMIT_ACCESS)
}

fn that_are_none(site: &mut Granting<'_>) -> Result<(), String> {
    let grefs = [0, 1, 7, 500, 511, 512, 32_767, 0xffff, 0x7fff_ffff, 0xffff_ffff, 1 << 32, (1 << 51) - 1];
    let addresses = grefs.map(|gref| GRANT_BIT | gref << 12);
    for address in addresses.into_iter().chain([u64::MAX, u64::MAX - 511, u64::MAX << 12]) {
        both_refused(site, Address(address))?;
        site.renew()?;
    }
    Ok(())
}

fn over_the_page(site: &mut Granting<'_>) -> Result<(), String> {
    let Address(base) = site.data.address();
    for offset in [4096 - 1, 4096 - u64::from(SECTOR) + 1] {
        both_refused(site, Address(base + offset)).map_err(|why| format!("offset {offset}: {why}"))?;
        site.renew()?;
    }
    Ok(())
}

fn without_grant(site: &mut Granting<'_>) -> Result<(), String> {
    let window = 0x0200_0000;
    for addr in [site.data.page.addr(), 0, window, GRANT_BIT - 1] {
        not_written(site, Address(addr))?;
        site.renew()?;
    }
    Ok(())
}

fn one_for_all(site: &mut Granting<'_>) -> Result<(), String> {
    let Address(page) = site.header.address();
    // Where data and status are: apart; data over the header; the status in the data; all of it at one place.
    for (n, [data, status]) in [[512, 4095], [0, 4095], [512, 600], [0, 0]].into_iter().enumerate() {
        site.write_header(IN, 0)?;
        site.header.page.store(4095, NO_STATUS, Order::Relaxed).map_err(outside)?;
        site.offer(&[
            Descriptor { addr: page, len: HEADER, flags: DESC_NEXT, next: 1 },
            Descriptor { addr: page + data, len: SECTOR, flags: DESC_NEXT | DESC_WRITE, next: 2 },
            Descriptor { addr: page + status, len: 1, flags: DESC_WRITE, next: 0 },
        ])?;
        let settled = site.settled()?;
        let written = site.header.page.load::<u8>(4095, Order::AcqRel).map_err(outside)?;
        if n == 0 && (matches!(settled, Settled::NeedsReset) || written != 0) {
            return Err(format!("a request in one page has status {written}"));
        }
        site.renew()?;
    }
    Ok(())
}

fn reset_amid_requests(site: &mut Granting<'_>) -> Result<(), String> {
    for n in 0..20 {
        site.request(IN, n % 16, site.data.address())?;
        site.device.reset()?;
        // The grant stays: nothing but the stub itself keeps the read from it.
        site.data.page.store(0, MARK, Order::AcqRel).map_err(outside)?;
        site.device.sleep_ms(20);
        is_marked(site)?;
        site.renew()?;
    }
    Ok(())
}
