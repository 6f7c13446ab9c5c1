//! A hostile driver: what a guest can do to the device of its stub, one attack after the other.
//!
//! The first disk is abused. The second one belongs to an honest driver of the same guest, which the same
//! stub serves. After each attack the honest driver writes and reads what it wrote; the abused device is
//! reset and has to serve again; and no page that was not given to the device may have changed.
//!
//! Each attack is told by one line, `PF attack=NAME VERDICT MS ...`, with the verdicts of the Xen Test
//! Framework: `success` (nothing was harmed), `failure` (with what was), `error` (the attack could not be
//! made).

mod by_register;
mod chains;
pub mod grants;
mod memory;
mod races;
mod requests;
mod rings;
mod site;
mod vcpus;

use crate::firmware::{FRAMINGS, Live};
use crate::registers::map;
use crate::say::say;
use crate::virtio::{Bytes, Device};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;
use kernel::{Hypervisor, Xen};
use site::Site;

/// What the honest driver writes.
const HONEST: &str = "honest";
/// What the abused device gets once it serves again.
const AFTER: &str = "after";
/// Sectors that the honest driver writes and reads between two attacks.
const HONEST_SECTORS: u64 = 32;
/// Sectors of the abused device that are used to see whether it serves.
const SERVED_SECTORS: u64 = 16;
/// Pages that are nobody's, beside those that the device gets.
const FENCE_PAGES: usize = 8;
/// What they hold.
const FENCE: u8 = 0x5a;
const PAGE: usize = 4096;

/// One attack.
pub struct Attack {
    /// As the report names it.
    pub name: &'static str,
    /// What it tries.
    pub tries: &'static str,
    /// Makes it. An error says what the device did that it must not.
    pub run: fn(&mut Site<'_>) -> Result<(), String>,
}

/// Every attack, by what it abuses.
pub const ALL: &[&[Attack]] = &[
    by_register::ATTACKS,
    rings::ATTACKS,
    chains::ATTACKS,
    requests::ATTACKS,
    memory::ATTACKS,
    races::ATTACKS,
];

/// Those that need four vCPUs.
pub const BY_VCPUS: &[&[Attack]] = &[vcpus::ATTACKS];

/// Makes these attacks on the first device while the second one is used honestly; `only` names one of them.
pub fn run(
    xen: &Xen,
    windows: &[Range<u64>],
    attacks: &[&[Attack]],
    only: Option<&str>,
) -> Result<(), String> {
    let [abused, honest] = windows else { return Err(format!("{} disks in place of two", windows.len())) };
    let (abused, honest) = (map(abused)?, map(honest)?);
    let (abused_device, honest_device) = (Device::new(xen, &abused)?, Device::new(xen, &honest)?);
    let mut witness = Witness::new(&honest_device)?;
    let mut site = Site::new(&abused_device, &abused)?;
    let fence = Bytes::new(FENCE_PAGES)?;
    fence.write(0, &[FENCE; FENCE_PAGES * PAGE])?;
    let mut made = 0_u32;
    for attack in
        attacks.iter().copied().flatten().filter(|attack| only.is_none_or(|only| only == attack.name))
    {
        let from_ns = xen.now_ns();
        let verdict = (attack.run)(&mut site)
            .and_then(|()| untouched(&fence))
            .and_then(|()| witness.goes_on())
            .and_then(|()| serves(&abused_device));
        let ms = xen.now_ns().saturating_sub(from_ns) / 1_000_000;
        let verdict = verdict.map_or_else(|why| format!("failure {ms} {why}"), |()| format!("success {ms}"));
        say(xen, "attack", format_args!("{} {verdict} [{}]", attack.name, attack.tries));
        made = made.saturating_add(1);
    }
    abused_device.reset()?;
    say(xen, "attacks", made);
    say(xen, "honest_requests", witness.requests);
    witness.fill()
}

/// Whether the pages that no device was given are as they were.
fn untouched(fence: &Bytes) -> Result<(), String> {
    let mut found: Vec<u8> = vec![0; FENCE_PAGES * PAGE];
    fence.read(0, &mut found)?;
    match found.iter().position(|&byte| byte != FENCE) {
        None => Ok(()),
        Some(at) => Err(format!("byte {at} of the fence was written")),
    }
}

/// Whether the abused device serves its next driver.
fn serves(device: &Device<'_>) -> Result<(), String> {
    let mut live = Live::start(device, &FRAMINGS[1]).map_err(|why| format!("abused: {why}"))?;
    live.write_and_verify(&(0..SERVED_SECTORS), AFTER).map_err(|why| format!("abused: {why}"))?;
    Ok(())
}

/// The honest driver.
struct Witness<'a> {
    live: Live<'a>,
    sectors: u64,
    next: u64,
    requests: u64,
}

impl<'a> Witness<'a> {
    fn new(device: &'a Device<'a>) -> Result<Witness<'a>, String> {
        Ok(Witness {
            live: Live::start(device, &FRAMINGS[1])?,
            sectors: device.capacity(),
            next: 0,
            requests: 0,
        })
    }

    /// Writes and reads the next sectors, with the queue that it has had all the time.
    fn goes_on(&mut self) -> Result<(), String> {
        let end = self.next.saturating_add(HONEST_SECTORS).min(self.sectors);
        let done = self.live.write_and_verify(&(self.next..end), HONEST);
        self.requests = self.requests.saturating_add(done.map_err(|why| format!("honest: {why}"))?);
        self.next = if end == self.sectors { 0 } else { end };
        Ok(())
    }

    /// Writes all of the disk, for dom0 to compare.
    fn fill(&mut self) -> Result<(), String> {
        self.live.write_and_verify(&(0..self.sectors), HONEST).map(|_| ())
    }
}
