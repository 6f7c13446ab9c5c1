//! The main loop: waits for xenstore, for workers and for the time, and passes what happens to the [`Daemon`].

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::check;
use crate::config::Config;
use crate::daemon::Daemon;
use crate::host::Host;
use crate::instance::{Instance, LOCK_FILE};
use crate::preflight;
use crate::worker::{Outcome, Workers};
use crate::xenstore::{Client, Event, Store, paths};

/// Every guest is reconciled this often even if no event comes: a stub that only says `failed`
/// causes none.
const RECONCILE_ALL_EVERY: Duration = Duration::from_secs(5);

/// What the main loop waits for.
enum Message {
    Store(Event),
    Worker(Outcome),
    Signal(i32),
}

/// What to reconcile after the messages that came together.
#[derive(Default)]
struct Todo {
    all: bool,
    guests: BTreeSet<u16>,
}

impl Todo {
    /// Takes note that something changed at `path`.
    fn add(&mut self, path: &str) {
        match paths::guest_of(path) {
            Some(guest) => {
                self.guests.insert(guest);
            }
            // A domain came or went, or a guest's first disk: any guest may be concerned.
            None => self.all = true,
        }
    }
}

/// Runs until a signal or the end of xenstored.
///
/// # Errors
/// Another daemon runs, a precondition fails, or xenstored goes away.
pub fn run(config: Config) -> Result<()> {
    let _instance = Instance::claim(Path::new(LOCK_FILE))?;
    let config = Arc::new(config);
    let (sender, messages) = channel();
    let to_loop = sender.clone();
    let client = Client::connect(move |event| drop(to_loop.send(Message::Store(event))))?;
    let host: Arc<dyn Host> = Arc::new(preflight::run(&config)?);
    check::log_soon(&config);
    watch_signals(sender.clone())?;

    client.write(&format!("{}/version", paths::RECORDS), env!("CARGO_PKG_VERSION"))?;
    client.make_private(paths::RECORDS)?;
    for path in [paths::BACKENDS, "@introduceDomain", "@releaseDomain"] {
        client.watch(path, "").with_context(|| format!("watch {path}"))?;
    }
    let store: Arc<dyn Store> = Arc::new(client);
    let daemon = Daemon::new(&config, Arc::clone(&store), Arc::clone(&host))?;
    log::info!("pilotfishd {} watches {}", env!("CARGO_PKG_VERSION"), paths::BACKENDS);
    let on_outcome = Arc::new(move |outcome| drop(sender.send(Message::Worker(outcome))));
    let workers = Workers { config, store, host, on_outcome };
    serve(daemon, &workers, &messages)
}

fn serve(mut daemon: Daemon, workers: &Workers, messages: &Receiver<Message>) -> Result<()> {
    let mut all_due = Instant::now();
    loop {
        let wake = daemon.wake_at().map_or(all_due, |at| at.min(all_due));
        let mut todo = Todo::default();
        let first = wait(messages, wake)?;
        // One wait, then all that has come by then: libxl writes a disk as some 20 nodes, each with
        // its event, and the guest need not be observed for each.
        for message in first.into_iter().chain(messages.try_iter()) {
            match message {
                Message::Store(Event::Lost(why)) => bail!("lost xenstored: {why}"),
                Message::Store(Event::Changed { path, token }) => {
                    log::trace!("event {path} {token}");
                    todo.add(&path);
                }
                Message::Worker(outcome) => daemon.finish(outcome).into_iter().for_each(|t| workers.start(t)),
                Message::Signal(signal) => {
                    log::info!("signal {signal}: ending; stubs and guests go on");
                    return Ok(());
                }
            }
        }
        let now = Instant::now();
        let tasks = if todo.all || now >= all_due {
            all_due = now + RECONCILE_ALL_EVERY;
            daemon.reconcile_all()
        } else {
            todo.guests.into_iter().filter_map(|guest| daemon.reconcile(guest)).collect()
        };
        tasks.into_iter().chain(daemon.reconcile_due(now)).for_each(|t| workers.start(t));
    }
}

/// The next message, if one comes before `until`.
fn wait(messages: &Receiver<Message>, until: Instant) -> Result<Option<Message>> {
    match messages.recv_timeout(until.saturating_duration_since(Instant::now())) {
        Ok(message) => Ok(Some(message)),
        Err(RecvTimeoutError::Timeout) => Ok(None),
        // Not while this end holds a sender of its own, in `Workers`.
        Err(RecvTimeoutError::Disconnected) => bail!("internal error: no more messages"),
    }
}

/// Turns SIGTERM and SIGINT into messages.
fn watch_signals(sender: Sender<Message>) -> Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT]).context("signals")?;
    std::thread::spawn(move || {
        for signal in &mut signals {
            if sender.send(Message::Signal(signal)).is_err() {
                return;
            }
        }
    });
    Ok(())
}
