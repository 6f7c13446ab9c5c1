//! The whole daemon, without threads, in a fake world: every task runs to its end at once.

use std::collections::VecDeque;
use std::time::Duration;

use super::*;
use crate::env::Env;
use crate::fake::World;
use crate::worker::perform;

mod grants;
mod grants_end;
mod names;
mod nodes;
mod serving;
mod takeover;

/// A daemon in a world, and a directory with targets.
struct Rig {
    world: World,
    config: Arc<Config>,
    daemon: Option<Daemon>,
    dir: tempfile::TempDir,
}

impl Rig {
    fn new() -> Rig {
        Rig::with(Config::default_for_tests())
    }

    fn with(config: Config) -> Rig {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.img"), [0; 1024]).unwrap();
        std::fs::write(dir.path().join("ram.pilotfish"), "storage = \"ram\"\nsize = \"1MiB\"").unwrap();
        std::fs::write(dir.path().join("bad.pilotfish"), "storage = \"ram\"\nsiez = \"1MiB\"").unwrap();
        let mut rig = Rig { world: World::new(), config: Arc::new(config), daemon: None, dir };
        rig.restart();
        rig
    }

    fn target(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    /// A guest with an image and a RAM disk, as libxl leaves it waiting.
    fn guest(&self) -> u16 {
        self.world.xl_create(&[&self.target("a.img"), &self.target("ram.pilotfish")])
    }

    /// The daemon of before is dead; a new one takes over.
    fn restart(&mut self) {
        self.world.next_process();
        let (store, host) = (Arc::new(self.world.store()), Arc::new(self.world.host()));
        self.daemon = Daemon::new(&self.config, store, host).ok();
    }

    /// Lets the daemon work until there is nothing to do and nothing to wait for.
    fn settle(&mut self) {
        let Some(daemon) = &mut self.daemon else { return };
        let (store, host) = (self.world.store(), self.world.host());
        for _ in 0..50 {
            let mut tasks: VecDeque<Task> = daemon.reconcile_all().into();
            tasks.extend(daemon.reconcile_due(host.now()));
            let mut idle = tasks.is_empty();
            let env = Env { config: &self.config, store: &store, host: &host };
            while let Some(task) = tasks.pop_front() {
                tasks.extend(daemon.finish(perform(&env, &task)));
            }
            if let Some(at) = daemon.wake_at() {
                self.world.advance(at.saturating_duration_since(host.now()));
                idle = false;
            }
            if idle {
                return;
            }
        }
    }

    /// As [`Rig::settle`], but libxl takes its nodes away as soon as the disks are closed.
    fn settle_destroy(&mut self, guest: u16) {
        self.world.xl_destroy(guest);
        self.settle();
        self.world.xl_destroyed(guest);
        self.settle();
    }

    fn assert_served(&self, guest: u16) {
        assert_eq!(self.world.disk_states(guest), ["2", "2"]);
        let stubs = self.world.stubs();
        let mine: Vec<_> = stubs.iter().filter(|(_, d)| d.target == Some(guest)).collect();
        assert_eq!(mine.len(), 1);
        assert!(!mine[0].1.paused);
        assert_eq!(mine[0].1.name, format!("pilotfish-{guest}"));
        let known = self.daemon.as_ref().and_then(|daemon| daemon.guests.get(&guest)?.stub_domid());
        assert_eq!(known, Some(mine[0].0), "a stub that the daemon does not know may die unseen");
    }

    /// No stub, no node, no record of `guest`.
    fn assert_nothing_left(&self, guest: u16) {
        assert!(self.world.stubs().iter().all(|(_, d)| d.name != format!("pilotfish-{guest}")));
        let state = self.world.state();
        let left: Vec<_> = state
            .nodes
            .keys()
            .filter(|k| k.starts_with(&paths::record(guest)) || k.starts_with(&Place::dom0(guest).dir()))
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}
