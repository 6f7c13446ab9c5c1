//! From a guest's disks to a stub that serves them.
//!
//! A guest's disks are settled when libxl's nodes have not changed for a while; they are
//! listed again when the stub exists but has not run, and if they changed after all, it is
//! made anew. libxl hears of it (state 2) only when the stub says that it serves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use crate::config::Config;
use crate::disk::target;
use crate::host::{DomainState, Host};
use super::identity::{Identity, find_stubs, uuid_of};
use crate::disk::node::{self, DiskNode, state};
use super::plan::Plan;
use super::record::{self, Stub};
use super::stop;
use crate::text::{printable, short_number};
use crate::xenstore::{Store, paths};

/// How often the daemon looks whether the stub serves.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// xenconsoled writes down a dead domain's last words somewhat later than it dies.
const CONSOLE_DELAY: Duration = Duration::from_millis(300);
/// What is said of a stub that is no more.
const GONE: &str = "domain has gone";
/// How often a stub is made anew because a disk was added late.
const TRIES: u32 = 3;

/// All a worker needs.
pub struct Env<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// xenstore.
    pub store: &'a dyn Store,
    /// Domains.
    pub host: &'a dyn Host,
}

/// A stub to be launched.
#[derive(Clone, Debug)]
pub struct Job {
    /// For this guest, with this name and UUID.
    pub identity: Identity,
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
pub fn launch(cx: &Env<'_>, job: &Job) -> Result<Stub> {
    let guest = job.identity.guest;
    let started = cx.host.now();
    for attempt in 1..=TRIES {
        stop::sweep(cx, guest).context("a stub left over from before cannot be removed")?;
        let nodes = settled(cx, guest)?;
        let disks = target::resolve(cx.store, cx.host, &nodes)?;
        let plan = Plan::new(cx.config, job.identity.clone(), guest_memory(cx, guest)?, &disks)?;
        log::debug!("guest {guest}: stub: {}", plan.command_line);
        if let Some(why) = &plan.no_restart {
            log::warn!("guest {guest}: its stub cannot be restarted: {why}; crash-guest applies");
        }
        record::launching(cx.store, &job.identity)?;
        match run(cx, job, &plan, &nodes) {
            Ok(Some(domid)) => {
                let stub = Stub { domid, identity: job.identity.clone(), disks: plan.disks };
                record::serving(cx.store, &stub)?;
                serve(cx.store, guest, &stub.disks)?;
                report(cx, &stub, &nodes, cx.host.now().duration_since(started));
                return Ok(stub);
            }
            Ok(None) => log::info!("guest {guest}: its disks changed: the stub is made anew ({attempt})"),
            Err(error) => {
                let error = target::name_disk(error, &disks);
                if cx.host.now() >= job.deadline {
                    // xl destroy may take long, and libxl waits no longer than this.
                    refuse_new(cx.store, guest, &format!("{error:#}"))?;
                }
                if let Err(left) = stop::sweep(cx, guest) {
                    return Err(
                        error.context(format!("{left:#}; remedy: xl destroy {}", job.identity.name()))
                    );
                }
                record::remove(cx.store, guest)?;
                return Err(error);
            }
        }
    }
    bail!("its disks keep changing")
}

/// The guest's disks that wait for a stub; all must be new and agree with libxl's list. That is
/// read first: libxl may add a disk meanwhile, to both at once.
fn settled(cx: &Env<'_>, guest: u16) -> Result<Vec<DiskNode>> {
    let listed = cx.store.list(&paths::libxl_disks(guest))?;
    let states = node::states(cx.store, guest)?;
    if states.is_empty() || states.iter().any(node::NodeState::is_closing) {
        bail!("its disks are gone");
    }
    let disks: Vec<u32> = states.iter().map(|s| s.disk).collect();
    for name in listed {
        let copy = format!("{}/{name}", paths::libxl_disks(guest));
        let backend = cx.store.read(&format!("{copy}/backend"))?.unwrap_or_default();
        let ours = backend.starts_with(&format!("{}/", paths::guest_backends(guest)));
        if ours && !disks.iter().any(|d| d.to_string() == name) {
            let label = node::label(cx.store, &copy, &name)?;
            bail!("libxl lists disk {label}, which is not among its backends");
        }
    }
    node::read_disks(cx.store, guest, &disks)
}

/// The most memory that the guest can have, in bytes, as libxl tells it; no guest can write there.
fn guest_memory(cx: &Env<'_>, guest: u16) -> Result<Option<u64>> {
    let kib = cx.store.read(&paths::memory_max(guest))?;
    let kib = kib.and_then(|kib| kib.trim().parse::<u64>().ok());
    if kib.is_none() {
        log::warn!("guest {guest}: {} does not tell its size", paths::memory_max(guest));
    }
    Ok(kib.map(|kib| kib.saturating_mul(1024)))
}

/// Makes and starts the stub; `None` if the guest's disks turned out to be others.
fn run(cx: &Env<'_>, job: &Job, plan: &Plan, nodes: &[DiskNode]) -> Result<Option<u16>> {
    let guest = job.identity.guest;
    check(cx, job)?;
    let from = cx.host.now();
    cx.host.create_paused(plan, job.deadline, &job.cancel)?;
    log::debug!("guest {guest}: stub made in {} ms", cx.host.now().duration_since(from).as_millis());
    let domid = find_stubs(cx.store, cx.host)?
        .into_iter()
        .find(|s| s.identity == job.identity)
        .map(|s| s.domid)
        .context("xl made the stub, but Xen knows no such domain")?;
    record::made(cx.store, guest, domid)?;
    if settled(cx, guest)? != nodes {
        return Ok(None);
    }
    check(cx, job)?;
    cx.host.set_target(domid, guest)?;
    cx.host.unpause(domid)?;
    wait_until_serving(cx, job, domid)?;
    Ok(Some(domid))
}

/// Whether it is still worth going on.
fn check(cx: &Env<'_>, job: &Job) -> Result<()> {
    if job.cancel.load(Ordering::Relaxed) {
        bail!("the guest has gone");
    }
    if cx.host.now() >= job.deadline {
        bail!("no stub within launch-timeout-ms = {}", cx.config.launch_timeout.as_millis());
    }
    Ok(())
}

fn wait_until_serving(cx: &Env<'_>, job: &Job, stub: u16) -> Result<()> {
    let mut odd = None;
    loop {
        match cx.store.read(&paths::stub_says(stub, "state"))?.as_deref() {
            Some("serving") => return Ok(()),
            Some("failed") => bail!("the stub says: {}", failure(cx.store, stub)),
            None => {}
            Some(other) => odd = Some(printable(other, 40)),
        }
        if let Some(why) = death(cx, stub)? {
            let console = last_words(cx, &job.identity).join(" | ");
            bail!("the stub {why} before it served; its console: {}", printable(&console, 400));
        }
        let waited = check(cx, job);
        if let Some(odd) = &odd {
            waited.with_context(|| format!("the stub's state is `{odd}`"))?;
        } else {
            waited?;
        }
        cx.host.wait(LOOK_EVERY);
    }
}

/// How the stub domain ended, if it did.
pub fn death(cx: &Env<'_>, stub: u16) -> Result<Option<String>> {
    Ok(match cx.host.domain(stub)? {
        None => Some(GONE.to_owned()),
        Some(s) if s.dying => Some("domain is being destroyed".to_owned()),
        Some(s) => match s.shutdown {
            Some(3) => Some("crashed".to_owned()),
            Some(code) => Some(format!("shut down (reason {code})")),
            None => None,
        },
    })
}

/// What a dead stub had printed last, fit for a log.
pub fn last_words(cx: &Env<'_>, stub: &Identity) -> Vec<String> {
    cx.host.wait(CONSOLE_DELAY);
    let lines = cx.host.console_tail(&stub.name());
    lines.iter().filter(|l| !l.trim().is_empty()).map(|l| printable(l, 200)).collect()
}

/// The reason that a stub gives for its failure.
pub fn failure(store: &dyn Store, stub: u16) -> String {
    match store.read(&paths::stub_says(stub, "error")) {
        Ok(Some(text)) if !text.trim().is_empty() => printable(&text, 200),
        _ => "failed, without a reason".to_owned(),
    }
}

/// Tells libxl that these disks are served. A node that has changed meanwhile stays as it is:
/// whoever changed it wants something else, and the main loop will see it.
pub fn serve(store: &dyn Store, guest: u16, disks: &[u32]) -> Result<()> {
    for disk in disks {
        let path = format!("{}/state", paths::backend(guest, *disk));
        store.update(&path, &|old| (old == state::INITIALISING).then_some(state::READY))?;
    }
    Ok(())
}

/// Refuses a guest's disks: removing a node ends libxl's wait for it at once
/// (`devstate_callback` in libxl_event.c), and the guest's start fails.
pub fn refuse(store: &dyn Store, guest: u16, disks: &[u32], why: &str) -> Result<()> {
    if disks.is_empty() {
        return Ok(());
    }
    let why = printable(why, 700);
    log::error!("guest {guest}: cannot start: {why}");
    store.write(paths::LAST_ERROR, &format!("guest {guest}: {why}"))?;
    for disk in disks {
        store.remove(&paths::backend(guest, *disk))?;
    }
    Ok(())
}

/// Refuses disks that came when the stub had been made for others.
pub fn refuse_late(store: &dyn Store, guest: u16, disks: &[u32]) -> Result<()> {
    let label = |disk: &u32| node::label(store, &paths::backend(guest, *disk), &disk.to_string());
    let labels: Vec<String> = disks.iter().map(label).collect::<Result<_>>()?;
    let why = format!("disk {}: came after the stub had been made; raise quiet-ms", labels.join(", "));
    refuse(store, guest, disks, &why)
}

/// Refuses whatever disks of the guest still wait.
pub fn refuse_new(store: &dyn Store, guest: u16, why: &str) -> Result<()> {
    let nodes = node::states(store, guest)?;
    let new: Vec<u32> = nodes.iter().filter(|n| n.is_new()).map(|n| n.disk).collect();
    refuse(store, guest, &new, why)
}

/// Logs what the stub says about itself.
fn report(cx: &Env<'_>, stub: &Stub, disks: &[DiskNode], took: Duration) {
    let number = |what: &str| {
        let text = cx.store.read(&paths::stub_says(stub.domid, what)).ok().flatten()?;
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

/// Why a stub that served does so no more, if that is so.
pub fn illness(cx: &Env<'_>, stub: &Stub) -> Result<Option<String>> {
    let same = |d: DomainState| !d.dying && uuid_of(&d.handle) == stub.identity.uuid;
    if !cx.host.domain(stub.domid)?.is_some_and(same) {
        return Ok(Some(GONE.to_owned()));
    }
    if let Some(why) = death(cx, stub.domid)? {
        let said = cx.store.read(&paths::stub_says(stub.domid, "error"))?;
        let said = said.map_or(String::new(), |text| format!("; it said: {}", printable(&text, 200)));
        return Ok(Some(format!("{why}{said}")));
    }
    let state = cx.store.read(&paths::stub_says(stub.domid, "state"))?;
    if state.as_deref() == Some("failed") {
        return Ok(Some(format!("failed: {}", failure(cx.store, stub.domid))));
    }
    Ok(None)
}

/// How often a stub was restarted in place, by its own account.
pub fn restarts(store: &dyn Store, stub: u16) -> Result<u32> {
    let said = store.read(&paths::stub_says(stub, "restarts"))?;
    Ok(said.and_then(|text| text.parse().ok()).unwrap_or(0))
}

/// What the stub says of the panic before its last restart.
pub fn last_panic(store: &dyn Store, stub: u16) -> String {
    match store.read(&paths::stub_says(stub, "last_panic")) {
        Ok(Some(text)) if !text.trim().is_empty() => printable(&text, 200),
        _ => "no reason is given".to_owned(),
    }
}

/// Why a stub that has ended is not restarted.
pub fn why_no_restart(why: &str) -> &'static str {
    if why.starts_with(GONE) {
        "a stub domain that is gone cannot be replaced under a running guest: its ioreq server stays \
         enabled in Xen, and only the guest's end removes it"
    } else {
        "it ended for good: too many panics, or one from which it could not restart (see its console)"
    }
}

/// `anyhow` for a thread that ended badly.
#[must_use]
pub fn panicked() -> anyhow::Error {
    anyhow!("internal error: a worker panicked")
}
