//! Workers: threads for what may take long, so that the main loop never waits.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow};

use crate::config::Config;
use crate::env::Env;
use crate::host::Host;
use crate::stub::identity::Identity;
use crate::stub::launch::{Job, launch};
use crate::stub::policy::apply_crash_policy;
use crate::stub::record::Stub;
use crate::stub::stop::stop;
use crate::stub::waiting::{discard, prepare};
use crate::xenstore::Store;

/// How long after a failure a stub that is to wait is made again, or a half-made one destroyed.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// What a worker does.
#[derive(Debug)]
pub enum Task {
    /// Makes a stub.
    Launch(Job),
    /// Makes a stub that waits for a guest, with this UUID and under the name in it.
    Prepare(Identity),
    /// Destroys the stub with this UUID, which was to wait and is half made.
    Discard(String),
    /// Removes the guest's stub and closes its disks.
    Stop(u16),
    /// Applies `on-stub-crash` to a guest whose stub died; with the stub's failure, for the log.
    ApplyCrashPolicy(Stub, String),
}

/// What a worker has done, for which guest.
#[derive(Debug)]
pub enum Outcome {
    /// There is a stub, or a reason why not.
    Launched(u16, Result<Stub>),
    /// There is a stub that waits under this name, or it is time to try again.
    Prepared(String),
    /// There is no stub with this UUID any more, or it is time to try again.
    Discarded(String),
    /// The stub has gone, or not.
    Stopped(u16, Result<()>),
    /// Nothing more to do.
    Done,
}

/// Does a task; this is what a worker runs.
pub fn perform(env: &Env<'_>, task: &Task) -> Outcome {
    match task {
        Task::Launch(job) => Outcome::Launched(job.identity.guest, launch(env, job)),
        Task::Prepare(identity) => {
            if let Err(e) = prepare(env, identity) {
                log::error!("{e:#}; trying again");
                env.host.wait(AGAIN_AFTER);
            }
            Outcome::Prepared(identity.console_name())
        }
        Task::Discard(uuid) => {
            if let Err(e) = discard(env, uuid) {
                log::error!("grant-stubs: {e:#}; trying again");
                env.host.wait(AGAIN_AFTER);
            }
            Outcome::Discarded(uuid.clone())
        }
        Task::Stop(guest) => Outcome::Stopped(*guest, stop(env, *guest)),
        Task::ApplyCrashPolicy(stub, failure) => {
            apply_crash_policy(env, stub, failure);
            Outcome::Done
        }
    }
}

/// What a worker thread is given.
pub struct Workers {
    /// The configuration.
    pub config: Arc<Config>,
    /// xenstore.
    pub store: Arc<dyn Store>,
    /// Domains.
    pub host: Arc<dyn Host>,
    /// Called on the worker's thread when its task has ended.
    pub on_outcome: Arc<dyn Fn(Outcome) + Send + Sync>,
}

impl Workers {
    /// Does `task` on a thread of its own and reports its outcome, whatever happens.
    pub fn start(&self, task: Task) {
        let (config, store, host) =
            (Arc::clone(&self.config), Arc::clone(&self.store), Arc::clone(&self.host));
        let on_outcome = Arc::clone(&self.on_outcome);
        std::thread::spawn(move || {
            let env = Env { config: &config, store: &*store, host: &*host };
            // A panic must not leave the guest in a phase that waits for this worker.
            let outcome = catch_unwind(AssertUnwindSafe(|| perform(&env, &task)));
            on_outcome(outcome.unwrap_or_else(|_| panicked(&task)));
        });
    }
}

/// The outcome of a task whose thread ended badly.
fn panicked(task: &Task) -> Outcome {
    let error = anyhow!("internal error: a worker panicked");
    match task {
        Task::Launch(job) => Outcome::Launched(job.identity.guest, Err(error)),
        Task::Prepare(identity) => {
            log::error!("grant-stubs: {}: {error:#}", identity.console_name());
            Outcome::Prepared(identity.console_name())
        }
        Task::Discard(uuid) => {
            log::error!("grant-stubs: {error:#}");
            Outcome::Discarded(uuid.clone())
        }
        Task::Stop(guest) => Outcome::Stopped(*guest, Err(error)),
        Task::ApplyCrashPolicy(..) => Outcome::Done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::World;
    use crate::stub::identity::Identity;
    use crate::xenstore::paths::Place;
    use std::sync::atomic::AtomicBool;
    use std::sync::mpsc::channel;

    #[test]
    fn a_task_that_panics_is_reported_as_failed() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("a.img");
        std::fs::write(&image, [0; 512]).unwrap();
        let world = World::new();
        let guest = world.xl_create(&[image.to_str().unwrap()]);
        world.after_create(|_| panic!("on purpose"));
        let (host, (sender, outcomes)) = (Arc::new(world.host()), channel());
        let job = Job {
            identity: Identity::new(guest).unwrap(),
            place: Place::dom0(guest),
            deadline: host.now() + Duration::from_secs(9),
            cancel: Arc::new(AtomicBool::new(false)),
        };
        let workers = Workers {
            config: Arc::new(Config::default_for_tests()),
            store: Arc::new(world.store()),
            host,
            on_outcome: Arc::new(move |outcome| sender.send(outcome).unwrap()),
        };
        workers.start(Task::Launch(job));
        let outcome = outcomes.recv_timeout(Duration::from_secs(20)).unwrap();
        let Outcome::Launched(whose, Err(error)) = outcome else { panic!("{outcome:?}") };
        assert_eq!((whose, error.to_string().as_str()), (guest, "internal error: a worker panicked"));
    }
}
