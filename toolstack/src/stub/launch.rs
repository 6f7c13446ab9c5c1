//! From a guest's disks to a stub that serves them.
//!
//! A guest's disks are settled when libxl's nodes have not changed for a while; they are
//! listed again when the stub exists but has not run, and if they changed after all, the stub is
//! made again. libxl hears of it (state 2) only when the stub says that it serves.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, bail, ensure};
use pilotfish_flask::Reach;

use super::health;
use super::identity::{Identity, find_stubs};
use super::plan::{Guest, Plan};
use super::privilege::Privilege;
use super::record::{self, Stub};
use super::seed;
use super::sweep::sweep;
use super::tls;
use super::waiting::{GrantStub, grant_stubs};
use crate::disk::answer;
use crate::disk::node::{self, DiskNode};
use crate::disk::target::{self, Disk};
use crate::env::Env;
use crate::image::{self, Image};
use crate::text::{printable, short_number};
use crate::xenstore::paths::{self, Place};

/// How often the stub's state is read until it serves.
const POLL_EVERY: Duration = Duration::from_millis(20);
/// How often a stub is made because a disk was added late.
const TRIES: u32 = 3;

/// A stub to be launched.
#[derive(Clone, Debug)]
pub struct Job {
    /// For this guest, with this name and UUID.
    pub identity: Identity,
    /// Where the guest's disks are. Their owner, if it is not dom0, is the stub itself: it has waited.
    pub place: Place,
    /// libxl does not wait longer.
    pub deadline: Instant,
    /// Set when the guest is gone and nobody needs the stub any more.
    pub cancel: Arc<AtomicBool>,
}

/// Launches a stub and tells libxl. On an error nothing is left but the nodes; a cancelled
/// launch is an error too.
///
/// # Errors
/// One line why there is no stub.
pub fn launch(env: &Env<'_>, job: &Job) -> Result<Stub> {
    let guest = job.identity.guest;
    let started = env.host.now();
    if job.place.is_granted() {
        return launch_granted(env, job, started);
    }
    for attempt in 1..=TRIES {
        // The domain of the last attempt goes here, and with it the loop devices of its disks. A
        // killed predecessor may have left one too, and two stubs must never write one disk.
        sweep(env, guest).context("a stub left over from before cannot be removed")?;
        let nodes = settled(env, job.place)?;
        let disks = target::resolve(env.store, env.host, &nodes)?;
        let privilege = Privilege::of(env, guest, Reach::Mappings)?;
        let plan = plan(env, job, &privilege, &disks)?;
        let _claim = plan.interface.as_ref().map(|interface| interface.claim(env.host)).transpose()?;
        check_address(env, &plan, None)?;
        // Before the domain: a daemon that takes over must know of every stub there can be.
        record::launching(env.store, &job.identity)?;
        match make(env, job, &plan, &privilege, &nodes) {
            Ok(Some(domid)) => {
                let stub = Stub { domid, identity: job.identity.clone(), disks: plan.disks };
                // Before libxl is told: from then on the guest runs, and its stub must be found.
                record::serving(env.store, &stub)?;
                answer::ready(env.store, job.place, &stub.disks)?;
                report(env, &stub, &nodes, env.host.now().duration_since(started));
                return Ok(stub);
            }
            Ok(None) => log::info!("guest {guest}: its disks changed: the stub is made again ({attempt})"),
            Err(error) => return Err(given_up(env, job, target::name_disk(error, &disks))),
        }
    }
    bail!("its disks keep changing")
}

/// The same with the stub that has waited for the guest.
fn launch_granted(env: &Env<'_>, job: &Job, started: Instant) -> Result<Stub> {
    let (guest, domid) = (job.identity.guest, job.place.owner);
    // From now on it is the guest's, whatever happens, and never anybody else's.
    record::launching(env.store, &job.identity)?;
    record::made(env.store, guest, domid)?;
    match take(env, job) {
        Ok((disks, nodes)) => {
            let stub = Stub { domid, identity: job.identity.clone(), disks };
            record::serving(env.store, &stub)?;
            answer::ready(env.store, job.place, &stub.disks)?;
            report(env, &stub, &nodes, env.host.now().duration_since(started));
            Ok(stub)
        }
        Err(error) => {
            // Before the stub goes: the nodes that libxl watches go with it, and the guest's start has to
            // fail for a reason.
            answer::refuse_new(env.store, job.place, &format!("{error:#}"))?;
            Err(given_up(env, job, error))
        }
    }
}

/// Gives a stub that waits its guest's disks and lets it run; returns their numbers and what libxl says of them.
fn take(env: &Env<'_>, job: &Job) -> Result<(Vec<u32>, Vec<DiskNode>)> {
    let (guest, domid) = (job.identity.guest, job.place.owner);
    let nodes = settled(env, job.place)?;
    let disks = target::resolve(env.store, env.host, &nodes)?;
    let privilege = Privilege::of(env, guest, Reach::Grants)?;
    privilege.fits(env, domid, &job.identity.console_name())?;
    tell_label(guest, &privilege);
    let plan = Plan::granted(env.config, job.identity.clone(), &disks)?;
    tell_plan(guest, &plan);
    for vbd in &plan.vbds {
        check(env, job)?;
        let attached = env.host.attach_disk(domid, vbd, job.deadline, &job.cancel);
        attached.map_err(|error| target::name_disk(error, &disks))?;
    }
    env.store.write(&paths::stub_says(domid, "config"), &plan.command_line)?;
    ensure!(settled(env, job.place)? == nodes, "its disks have changed; raise quiet-ms");
    check(env, job)?;
    privilege.give(env, domid, guest)?;
    env.host.unpause(domid)?;
    wait_until_serving(env, job, domid).map_err(|error| target::name_disk(error, &disks))?;
    // Before libxl hears of it: the guest has not run yet, so the stub is what it was made as.
    privilege.confine(env, domid)?;
    // libxl has looked the name up for each disk by now. The next stub gets it.
    env.host.rename(domid, &job.identity.name())?;
    Ok((plan.disks, nodes))
}

/// Lays out the stub for these disks.
fn plan(env: &Env<'_>, job: &Job, privilege: &Privilege, disks: &[Disk]) -> Result<Plan> {
    let guest = job.identity.guest;
    let mut config = Cow::Borrowed(env.config);
    tell_label(guest, privilege);
    if let Some(label) = privilege.stub_label() {
        config.to_mut().stub_seclabel = label;
    }
    let known = Guest {
        name: env.store.read(&paths::domain_name(guest))?.unwrap_or_default(),
        memory_bytes: guest_memory(env, guest)?,
    };
    let plan = Plan::new(&config, job.identity.clone(), &known, disks)?;
    if let Some(interface) = plan.interface.as_ref().filter(|interface| interface.is_dom0s()) {
        env.host.check_network(env.config, &interface.bridge)?;
    }
    tell_plan(guest, &plan);
    Ok(plan)
}

/// Whether no domain but `own` has the stub's address.
fn check_address(env: &Env<'_>, plan: &Plan, own: Option<u16>) -> Result<()> {
    let Some(interface) = &plan.interface else { return Ok(()) };
    // If Xen does not answer, the domain may exist.
    let exists = |domid| env.host.domain(domid).map_or(true, |found| found.is_some());
    interface.check_alone(env.store, &exists, own)
}

fn tell_label(guest: u16, privilege: &Privilege) {
    if let Some(label) = privilege.stub_label() {
        log::info!("guest {guest}: its stub is {label}, and has what Xen's policy allows that");
    }
}

fn tell_plan(guest: u16, plan: &Plan) {
    log::debug!("guest {guest}: stub: {}", plan.command_line);
    if let Some(why) = &plan.no_restart {
        log::warn!("guest {guest}: its stub cannot be restarted: {why}; crash-guest applies");
    }
}

/// Removes what a launch that failed has left; returns the error to report.
fn given_up(env: &Env<'_>, job: &Job, error: Error) -> Error {
    let guest = job.identity.guest;
    // xl destroy may take longer than libxl waits. Where libxl's time is up, the guest's start has to
    // fail for our reason, not for a timeout of libxl's.
    if env.host.now() >= job.deadline
        && let Err(e) = answer::refuse_new(env.store, job.place, &format!("{error:#}"))
    {
        return e;
    }
    if let Err(left) = sweep(env, guest) {
        // The record stays: whoever comes next has to search for this domain.
        return error.context(format!("{left:#}; remedy: xl destroy {}", job.identity.name()));
    }
    record::remove(env.store, guest).err().unwrap_or(error)
}

/// The guest's disks that wait for a stub; all must be new and agree with libxl's list.
fn settled(env: &Env<'_>, place: Place) -> Result<Vec<DiskNode>> {
    let guest = place.guest;
    // libxl's list is read first: libxl may add a disk between the two, to both at once.
    let listed = env.store.list(&paths::libxl_disks(guest))?;
    let states = node::states(env.store, place)?;
    if states.is_empty() || states.iter().any(node::NodeState::is_closing) {
        bail!("its disks are gone");
    }
    let disks: Vec<u32> = states.iter().map(|s| s.disk).collect();
    for name in listed {
        let copy = format!("{}/{name}", paths::libxl_disks(guest));
        let backend = env.store.read(&format!("{copy}/backend"))?.unwrap_or_default();
        // The list may also name disks with another backend domain.
        let ours = backend.starts_with(&format!("{}/", place.dir()));
        if ours && !disks.iter().any(|d| d.to_string() == name) {
            let label = node::label(env.store, &copy, &name)?;
            bail!("libxl lists disk {label}, which is not among its backends");
        }
        // Nobody would answer libxl for it: a guest has one stub.
        let waits = |stub: &GrantStub| backend.starts_with(&format!("{}/", paths::backends(stub.domid)));
        if !ours && (place.is_granted() || grant_stubs(env.store, env.host)?.iter().any(waits)) {
            let label = node::label(env.store, &copy, &name)?;
            bail!("disk {label}: one guest has either all its disks at one name of grant-stubs or none");
        }
    }
    node::read_disks(env.store, place, &disks)
}

/// The most memory that the guest can have, in bytes, as libxl wrote it; no guest can write there.
fn guest_memory(env: &Env<'_>, guest: u16) -> Result<Option<u64>> {
    let kib = env.store.read(&paths::memory_max(guest))?;
    let kib = kib.and_then(|kib| kib.trim().parse::<u64>().ok());
    if kib.is_none() {
        // Not fatal: a smaller window onto the guest is slower, no more.
        log::warn!("guest {guest}: {} does not say its size", paths::memory_max(guest));
    }
    Ok(kib.map(|kib| kib.saturating_mul(1024)))
}

/// Makes and starts the stub; `None` if the guest's disks turned out to be others.
fn make(
    env: &Env<'_>,
    job: &Job,
    plan: &Plan,
    privilege: &Privilege,
    nodes: &[DiskNode],
) -> Result<Option<u16>> {
    let guest = job.identity.guest;
    check(env, job)?;
    let which = if plan.interface.is_some() { Image::Net } else { Image::Usual };
    image::verify(env.config, which)?;
    let from = env.host.now();
    env.host.create_paused(&job.identity.name(), &plan.xl_config, job.deadline, &job.cancel)?;
    log::debug!("guest {guest}: stub made in {} ms", env.host.now().duration_since(from).as_millis());
    // xl does not print the number of the domain that it made.
    let domid = find_stubs(env.store, env.host)?
        .into_iter()
        .find(|s| s.identity == job.identity)
        .map(|s| s.domid)
        .context("xl made the stub, but Xen knows no such domain")?;
    record::made(env.store, guest, domid)?;
    // xl took a while, in which a domain of somebody else's may have got the address: the stub goes.
    check_address(env, plan, Some(domid))?;
    // In the same while libxl may have added a disk. The stub has not run yet, so nothing is
    // lost if it is made again; once it runs, a late disk can only be refused.
    if settled(env, job.place)? != nodes {
        return Ok(None);
    }
    check(env, job)?;
    // Before it runs: at its start the stub asks Xen for what only the guest's device model gets.
    privilege.give(env, domid, guest)?;
    if plan.interface.is_some() {
        seed::hand_over(env.store, domid)?;
    }
    let served = tls::hand_over(env.store, domid, &plan.with_tls).and_then(|()| {
        env.host.unpause(domid)?;
        wait_until_serving(env, job, domid)
    });
    // Taken by now, or of no use any more.
    let withdrawn = tls::withdraw(env.store, domid);
    served.and(withdrawn)?;
    Ok(Some(domid))
}

/// Whether it is still worth going on.
fn check(env: &Env<'_>, job: &Job) -> Result<()> {
    // First: a guest that has gone is no failure, and is not reported as one.
    if job.cancel.load(Ordering::Relaxed) {
        bail!("the guest has gone");
    }
    // libxl waits 10 s. An answer of ours must come before that, or the guest fails without a reason.
    if env.host.now() >= job.deadline {
        bail!("no stub within launch-timeout-ms = {}", env.config.launch_timeout.as_millis());
    }
    Ok(())
}

/// Waits until the stub says that it serves, fails, dies, or its time is up.
fn wait_until_serving(env: &Env<'_>, job: &Job, stub: u16) -> Result<()> {
    let mut odd = None;
    loop {
        match env.store.read(&paths::stub_says(stub, "state"))?.as_deref() {
            Some("serving") => return Ok(()),
            Some("failed") => bail!("the stub says: {}", explained(health::stated_error(env.store, stub))),
            // It boots.
            None => {}
            // Not an error yet: a stub of another version may pass through other states.
            Some(other) => odd = Some(printable(other, 40)),
        }
        // A stub that panicked early says nothing in xenstore. Without this, its guest's start would
        // last until the deadline.
        if let Some(how) = health::ended(env.host, stub)? {
            // It may have told its reason since the question above, and ended then.
            if env.store.read(&paths::stub_says(stub, "state"))?.as_deref() == Some("failed") {
                bail!("the stub says: {}", explained(health::stated_error(env.store, stub)));
            }
            let console = health::console_tail(env.host, &job.identity).join(" | ");
            bail!("the stub {how} before it served; its console: {}", printable(&console, 400));
        }
        if let Err(mut over) = check(env, job) {
            if let Some(what) = health::waits_for(env.store, stub) {
                over = over.context(format!("the stub says: {what}"));
            }
            return Err(match odd {
                Some(odd) => over.context(format!("the stub's state is `{odd}`")),
                None => over,
            });
        }
        // Not by a watch: a stub that dies may write nothing any more, so Xen is asked as well.
        env.host.wait(POLL_EVERY);
    }
}

/// A stub's reason, with what to do where FLASK refused it something.
fn explained(mut reason: String) -> String {
    if reason.contains("EACCES") {
        reason += "; Xen's FLASK policy forbids it: `xl dmesg` names the permission (avc: denied), and `pilotfishd \
                   --policy GUEST` prints a policy with all that a stub needs";
    }
    reason
}

/// Logs what the stub says about itself.
fn report(env: &Env<'_>, stub: &Stub, disks: &[DiskNode], took: Duration) {
    let number = |what: &str| {
        let text = env.store.read(&paths::stub_says(stub.domid, what)).ok().flatten()?;
        // The stub wrote it: anything but a number stays out of the log.
        short_number(&text)
    };
    let ready =
        number("ready_us").map_or(String::new(), |us| format!(", {us} us after its first instruction"));
    let disks: Vec<String> = disks.iter().map(DiskNode::label).collect();
    log::info!(
        "guest {}: stub {} (domain {}) serves {} after {} ms{ready}",
        stub.identity.guest,
        stub.identity.name(),
        stub.domid,
        disks.join(", "),
        took.as_millis(),
    );
}
