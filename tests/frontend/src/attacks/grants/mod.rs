//! Attacks by a driver that grants its memory to its stub: grants that it takes back, that are of others, that are none.
//!
//! The command line's `stub=` names the stub. After each attack the honest driver of the second disk, which grants too,
//! writes and reads; the abused disk is reset, has to let go of every grant, and serves again; and no page that is not
//! granted to the stub may have changed.

mod requests;
mod rings;
mod site;

use super::{FENCE, FENCE_PAGES, PAGE, untouched};
use crate::say::say;
use crate::virtio::{Bytes, Device};
use alloc::format;
use alloc::string::String;
use core::ops::Range;
use kernel::{DomId, Hypervisor, Xen};
use site::Granting;

/// Sectors of the abused disk before those that are used to see whether it serves.
const ABUSED_SECTORS: u64 = 1024;

/// One attack.
struct Attack {
    name: &'static str,
    tries: &'static str,
    run: fn(&mut Granting<'_>) -> Result<(), String>,
}

const ATTACKS: [&[Attack]; 2] = [requests::ATTACKS, rings::ATTACKS];

/// Makes all attacks on the first device while the second one is used honestly; `only` names one of them.
pub fn run(xen: &Xen, windows: &[Range<u64>], stub: DomId, only: Option<&str>) -> Result<(), String> {
    let [abused, honest] = windows else { return Err(format!("{} disks in place of two", windows.len())) };
    let (abused, honest) = (crate::registers::map(abused)?, crate::registers::map(honest)?);
    let (abused, honest) = (Device::new(xen, &abused)?, Device::new(xen, &honest)?);
    let mut site = Granting::new(&abused, stub, "abused")?;
    let mut witness = Granting::new(&honest, stub, "honest")?;
    let fence = Bytes::new(FENCE_PAGES)?;
    fence.write(0, &[FENCE; FENCE_PAGES * PAGE])?;
    let mut made = 0_u32;
    for attack in ATTACKS.into_iter().flatten().filter(|attack| only.is_none_or(|only| only == attack.name)) {
        let from_ns = xen.now_ns();
        let sector = u64::from(made);
        let verdict = (attack.run)(&mut site)
            .and_then(|()| untouched(&fence))
            .and_then(|()| site.is_gap_untouched())
            .and_then(|()| witness.writes_and_reads(sector).map_err(|why| format!("honest: {why}")))
            .and_then(|()| site.renew())
            .and_then(|()| {
                site.writes_and_reads(ABUSED_SECTORS + sector).map_err(|why| format!("abused: {why}"))
            });
        let ms = xen.now_ns().saturating_sub(from_ns) / 1_000_000;
        let verdict = verdict.map_or_else(|why| format!("failure {ms} {why}"), |()| format!("success {ms}"));
        say(xen, "attack", format_args!("{} {verdict} [{}]", attack.name, attack.tries));
        made = made.saturating_add(1);
    }
    site.end()?;
    witness.end()?;
    say(xen, "attacks", made);
    Ok(())
}
