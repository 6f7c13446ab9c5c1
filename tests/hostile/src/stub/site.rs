//! Where attacks are made: a stub with an ioreq server over its guest.

use super::store::Store;
use super::{Attack, Outcome, Wrong};
use crate::server::Server;
use crate::{domain, number, report};
use alloc::format;
use alloc::string::{String, ToString};
use core::fmt::{Debug, Display};
use kernel::walk::{Answer, Versions, Walker};
use kernel::{BootInfo, Delay, DelayNs, DomId, Errno, Hypervisor, Xen};
use xen_pv_sys::dm_op::ioreq;

/// Where dom0 tells how many attacks it has seen and judged.
const GO: &str = "data/go";
/// How long dom0 may look at those who may not be harmed.
const PATIENCE_NS: u64 = 90_000_000_000;
/// How long the guest may take to come to its registers.
const HOLD_NS: u64 = 20_000_000_000;
/// How long an attack goes on that is a flood.
const FLOOD_NS: u64 = 1_500_000_000;

/// The stub.
pub struct Site {
    /// Hypercalls and time.
    pub xen: Xen,
    /// Its guest.
    pub target: DomId,
    /// A domain that is not its own: a guest with a stub of its own, or dom0.
    pub other: DomId,
    /// The store. Lost to the attacks that end the connection.
    pub store: Store,
    /// Its server, for the registers that the guest reads.
    pub server: Server,
    /// Any other hypercall.
    pub walker: Walker,
}

impl Site {
    /// Does what a stub does before its guest runs.
    ///
    /// # Errors
    /// What cannot be done.
    pub fn new(xen: Xen, boot: &BootInfo) -> Result<Site, String> {
        let target = domain(boot, "target").ok_or_else(|| "target= is needed".to_string())?;
        // A stub that the daemon makes is told of nobody else.
        let other = domain(boot, "other").unwrap_or(DomId(0));
        let version = |key| u32::from(number(boot, key).unwrap_or(0));
        let versions = Versions { domctl: version("domctl"), sysctl: version("sysctl"), is_fragile: false };
        let walker = Walker::new(&xen, versions).map_err(|why| format!("no walker: {why:?}"))?;
        let server = Server::new(&xen, target).map_err(|why| format!("no server: {why:?}"))?;
        let store = Store::new(xen)?;
        Ok(Site { xen, target, other, store, server, walker })
    }

    /// Makes the attacks, tells of each, and waits for dom0. How many there were.
    ///
    /// # Errors
    /// That dom0 is silent.
    pub fn make<'a>(&mut self, attacks: impl Iterator<Item = &'a Attack>) -> Result<u32, String> {
        let mut made = 0_u32;
        let mut attacks = attacks.peekable();
        while let Some(attack) = attacks.next() {
            let from_ns = self.xen.now_ns();
            let (verdict, why) = match (attack.run)(self) {
                Ok(answer) => ("success", answer),
                Err(wrong) => wrong.verdict(),
            };
            let ms = self.xen.now_ns().saturating_sub(from_ns) / 1_000_000;
            // What is in the way of a flood comes through first.
            self.rest(300);
            report("attack", format_args!("{} {verdict} {ms} {why} [{}]", attack.name, attack.tries));
            made = made.saturating_add(1);
            // The last one may have ended what this would be heard by.
            if attacks.peek().is_some() {
                self.wait_for_dom0(made)?;
            }
        }
        Ok(made)
    }

    /// Waits until dom0 has seen and judged so many attacks.
    ///
    /// # Errors
    /// That dom0 is silent.
    pub fn wait_for_dom0(&mut self, made: u32) -> Result<(), String> {
        let until = self.xen.now_ns().saturating_add(PATIENCE_NS);
        while self.xen.now_ns() < until {
            if self.store.read(GO).and_then(|told| told.parse().ok()) == Some(made) {
                return Ok(());
            }
            self.rest(100);
        }
        Err(format!("dom0 does not go on after {made} attacks"))
    }

    /// Sleeps.
    pub fn rest(&self, ms: u32) {
        Delay::new(&self.xen).delay_ms(ms);
    }

    /// Does that over and over for as long as a flood goes on, with a running number; how often.
    pub fn flood(&mut self, mut blow: impl FnMut(&mut Site, u32)) -> u32 {
        let until = self.xen.now_ns().saturating_add(FLOOD_NS);
        let mut blows = 0_u32;
        while self.xen.now_ns() < until {
            blow(self, blows);
            blows = blows.wrapping_add(1);
        }
        blows
    }

    /// Waits until an access of the guest is in the slot: as long as nobody answers, its vCPU makes no other.
    ///
    /// # Errors
    /// That the guest makes none.
    pub fn hold(&self) -> Result<(), Wrong> {
        let until = self.xen.now_ns().saturating_add(HOLD_NS);
        while self.server.state() != Ok(ioreq::STATE_READY) {
            if self.xen.now_ns() > until {
                return Err(Wrong::NotMade("the guest makes no access".to_string()));
            }
            self.xen.yield_cpu();
        }
        Ok(())
    }

    /// Asks for an operation of the walk's tables on the guest.
    pub fn ask(&mut self, group: &str, op: &str) -> Answer {
        let target = self.target;
        self.walker.ask(group, op, target)
    }

    /// Answers the guest for that long; how often.
    pub fn serve(&self, for_ns: u64) -> u32 {
        let until = self.xen.now_ns().saturating_add(for_ns);
        let mut answered = 0_u32;
        while self.xen.now_ns() < until {
            answered = answered.wrapping_add(u32::from(self.server.answer(&self.xen) == Ok(true)));
        }
        answered
    }
}

/// That an attempt must not succeed; its answer.
///
/// # Errors
/// That it did.
pub fn refused<T>(what: impl Display, result: Result<T, Errno>) -> Outcome {
    match result {
        Err(errno) => Ok(format!("{errno:?}")),
        Ok(_) => Err(Wrong::Passed(format!("{what} is allowed"))),
    }
}

/// An error of something without which there is no attack.
pub fn not_made<E: Debug>(what: &'static str) -> impl Fn(E) -> Wrong {
    move |why| {
        let text = format!("{what}: {why:?}");
        if is_by_policy(&text) { Wrong::Refused(text) } else { Wrong::NotMade(text) }
    }
}

/// Whether answers of Xen's, as text, end as FLASK's do. Without a policy Xen says `EPERM` in its place, and more than
/// nothing of a reservation is changed.
fn is_by_policy(answers: &str) -> bool {
    answers.ends_with("EACCES") || answers.ends_with("nothing")
}

/// The outcome of operations of which so many were done, with the last answer. If none was done for FLASK's sake,
/// the attack was refused.
///
/// # Errors
/// That it was.
pub fn done(count: u32, answer: impl Display, more: impl Display) -> Outcome {
    let text = format!("{count} done, at last {answer}");
    if count == 0 && is_by_policy(&text) { Err(Wrong::Refused(text)) } else { Ok(format!("{text}{more}")) }
}

/// Does `step` with 0, 1, ... until it fails; how often it did not, and the error.
///
/// # Errors
/// That it did not fail `most` times.
pub fn until_refused(
    most: u32,
    mut step: impl FnMut(u32) -> Result<(), Errno>,
) -> Result<(u32, Errno), Wrong> {
    for n in 0..most {
        if let Err(errno) = step(n) {
            return Ok((n, errno));
        }
    }
    Err(Wrong::Passed(format!("no limit in {most}")))
}
