//! The main loop: waits for xenstore, for workers and for the time, and tells the [`Daemon`].

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::check;
use crate::config::Config;
use crate::daemon::{Daemon, Outcome, Task, perform};
use crate::host::Host;
use crate::instance::{Instance, LOCK_FILE};
use crate::stub::launch::panicked;
use crate::preflight;
use crate::xenstore::{Client, Event, Store, paths};

/// Everything is looked at this often even if no event comes: a stub that only says `failed`
/// causes none.
const LOOK_AT_ALL_EVERY: Duration = Duration::from_secs(5);

/// What the main loop waits for.
enum Message {
    Store(Event),
    Worker(Outcome),
    Signal(i32),
}

/// What to look at after a batch of messages.
#[derive(Default)]
struct Todo {
    all: bool,
    guests: Vec<u16>,
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
    let daemon = Daemon::new(Arc::clone(&config), Arc::clone(&store), Arc::clone(&host))?;
    log::info!("pilotfishd {} watches {}", env!("CARGO_PKG_VERSION"), paths::BACKENDS);
    let workers = Workers { config, store, host, sender };
    serve(daemon, &workers, &messages)
}

fn serve(mut daemon: Daemon, workers: &Workers, messages: &Receiver<Message>) -> Result<()> {
    let mut look_at_all = Instant::now();
    loop {
        let now = Instant::now();
        let wake = daemon.wake_at().map_or(look_at_all, |at| at.min(look_at_all));
        let mut todo = Todo::default();
        // One wait, then all that has come meanwhile: libxl writes a disk as some 20 nodes,
        // each with its event.
        let mut next = match messages.recv_timeout(wake.saturating_duration_since(now)) {
            Ok(message) => Some(message),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => bail!("internal error: no more messages"),
        };
        while let Some(message) = next {
            match message {
                Message::Store(Event::Lost(why)) => bail!("lost xenstored: {why}"),
                Message::Store(Event::Changed { path, token }) => {
                    log::trace!("event {path} {token}");
                    match paths::guest_of(&path) {
                        Some(guest) => todo.guests.push(guest),
                        None => todo.all = true,
                    }
                }
                Message::Worker(outcome) => daemon.finish(outcome).into_iter().for_each(|t| workers.start(t)),
                Message::Signal(signal) => {
                    log::info!("signal {signal}: ending; stubs and guests go on");
                    return Ok(());
                }
            }
            next = messages.try_recv().ok();
        }
        let now = Instant::now();
        if todo.all || now >= look_at_all {
            look_at_all = now + LOOK_AT_ALL_EVERY;
            daemon.look_at_all().into_iter().for_each(|t| workers.start(t));
        } else {
            todo.guests.sort_unstable();
            todo.guests.dedup();
            for guest in todo.guests {
                daemon.look_at(guest).into_iter().for_each(|t| workers.start(t));
            }
        }
        daemon.look_at_due(now).into_iter().for_each(|t| workers.start(t));
    }
}

/// What a worker thread is given.
struct Workers {
    config: Arc<Config>,
    store: Arc<dyn Store>,
    host: Arc<dyn Host>,
    sender: Sender<Message>,
}

impl Workers {
    /// Does `task` on a thread of its own and reports to the main loop, whatever happens.
    fn start(&self, task: Task) {
        let (config, store, host) =
            (Arc::clone(&self.config), Arc::clone(&self.store), Arc::clone(&self.host));
        let sender = self.sender.clone();
        std::thread::spawn(move || {
            let work = || perform(&config, &*store, &*host, &task);
            let outcome =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or_else(|_| match task {
                    Task::Launch(job) => Outcome::Launched(job.identity.guest, Err(panicked())),
                    Task::Stop(guest) => Outcome::Stopped(guest, Err(panicked())),
                    Task::Mourn(..) => Outcome::Done,
                });
            // The loop has ended: so does the process.
            drop(sender.send(Message::Worker(outcome)));
        });
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
