//! Tests with a world that changes between two of the daemon's reads: whatever the moment is,
//! nothing of somebody else's is taken away, and nothing new is overlooked.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Result;

use super::identity::Identity;
use super::launch::{Job, launch};
use super::sweep::sweep;
use crate::config::Config;
use crate::env::Env;
use crate::fake::{Handle, Manner, World};
use crate::host::Host;
use crate::xenstore::Store;
use crate::xenstore::paths::{self, Place};

/// A world's xenstore that has something done to the world just before the request number `n`
/// that only reads.
struct Meanwhile<'a> {
    inner: Handle,
    left: std::sync::Mutex<Cell<u32>>,
    act: &'a (dyn Fn() + Sync),
}

impl<'a> Meanwhile<'a> {
    fn new(world: &World, n: u32, act: &'a (dyn Fn() + Sync)) -> Meanwhile<'a> {
        Meanwhile { inner: world.store(), left: Cell::new(n).into(), act }
    }

    fn read_begins(&self) {
        let left = self.left.lock().unwrap();
        left.set(left.get().wrapping_sub(1));
        if left.get() == 0 {
            (self.act)();
        }
    }

    /// Whether there was a request with that number.
    fn acted(&self) -> bool {
        self.left.lock().unwrap().get().cast_signed() <= 0
    }
}

impl Store for Meanwhile<'_> {
    fn watch(&self, path: &str) -> Result<()> {
        self.inner.watch(path)
    }

    fn unwatch(&self, path: &str) -> Result<()> {
        self.inner.unwatch(path)
    }

    fn read(&self, path: &str) -> Result<Option<String>> {
        self.read_begins();
        self.inner.read(path)
    }
    fn list(&self, path: &str) -> Result<Vec<String>> {
        self.read_begins();
        self.inner.list(path)
    }
    fn write(&self, path: &str, value: &str) -> Result<()> {
        self.inner.write(path, value)
    }
    fn write_for(&self, reader: u16, path: &str, value: &str) -> Result<()> {
        self.inner.write_for(reader, path, value)
    }
    fn remove(&self, path: &str) -> Result<()> {
        self.inner.remove(path)
    }
    fn remove_if_empty(&self, path: &str) -> Result<bool> {
        self.inner.remove_if_empty(path)
    }
    fn write_if(&self, guard: (&str, &str), nodes: &[(&str, &str)]) -> Result<bool> {
        self.inner.write_if(guard, nodes)
    }
    fn update(&self, path: &str, new: &dyn Fn(&str) -> Option<&'static str>) -> Result<bool> {
        self.inner.update(path, new)
    }
}

#[test]
fn a_stub_that_is_made_during_a_sweep_keeps_its_loop_device() {
    let (old, new) = (format!("{}/8/51712", paths::LOOPS), format!("{}/10/51712", paths::LOOPS));
    let config = Config::default_for_tests();
    for n in 1.. {
        let world = World::new();
        world.set(&old, "/dev/loop2 /disks/old.img");
        // Another worker's `xl create` gets so far as to attach its first disk.
        let act = || {
            world.domain_appears(10, Some("pilotfish-9"), &Identity::new(9).unwrap().uuid);
            world.set(&new, "/dev/loop3 /disks/nine.img");
        };
        let store = Meanwhile::new(&world, n, &act);
        sweep(&Env { config: &config, store: &store, host: &world.host() }, 5).unwrap();
        assert_eq!(world.state().detached, ["/dev/loop2 /disks/old.img"], "read {n}");
        assert_eq!(world.get(&old), None, "read {n}");
        if !store.acted() {
            assert!(n > 3, "only {n} reads: nothing was tested");
            return;
        }
        assert!(world.get(&new).is_some(), "read {n}: its record");
    }
}

#[test]
fn a_loop_device_that_another_worker_detaches_during_a_sweep_is_not_detached_again() {
    let old = format!("{}/8/51712", paths::LOOPS);
    let config = Config::default_for_tests();
    let world = World::new();
    world.set(&old, "/dev/loop2 /disks/a.img");
    // Between the list of records and what is done under the lock, all of which one worker does at a time.
    let taken = world.clone();
    world.state().before_lock = Some(Box::new(move |_| taken.clear(&old)));
    sweep(&Env { config: &config, store: &world.store(), host: &world.host() }, 5).unwrap();
    assert_eq!(world.state().detached, Vec::<String>::new(), "the device may have a new user");
}

#[test]
fn a_disk_that_libxl_adds_between_any_two_reads_of_a_launch_is_served_too() {
    let dir = tempfile::tempdir().unwrap();
    let [first, second] = ["a.img", "b.img"].map(|name| dir.path().join(name).to_str().unwrap().to_owned());
    for target in [&first, &second] {
        std::fs::write(target, [0; 1024]).unwrap();
    }
    let mut served = 0;
    for n in 1.. {
        let world = World::new();
        let guest = world.xl_create(&[&first]);
        let act = || world.add_disk(guest, 1, &second);
        let store = Meanwhile::new(&world, n, &act);
        let stub = launched(&world, &store, guest).unwrap();
        if !store.acted() {
            break;
        }
        if stub.disks.len() == 1 {
            // It came after the last look; the main loop refuses it.
            break;
        }
        assert_eq!(stub.disks, [51712, 51728], "read {n}");
        served = n;
    }
    assert!(served >= 20, "only {served} reads, of both looks at the disks");
}

/// A launch of that guest, by a daemon with that connection to xenstore.
fn launched(world: &World, store: &dyn Store, guest: u16) -> Result<super::record::Stub> {
    let (config, host) = (Config::default_for_tests(), world.host());
    let job = Job {
        identity: Identity::new(guest).unwrap(),
        place: Place::dom0(guest),
        deadline: host.now() + Duration::from_secs(9),
        cancel: Arc::new(AtomicBool::new(false)),
    };
    launch(&Env { config: &config, store, host: &host }, &job)
}

/// A launch of a guest whose only disk has the file `file`.
fn launch_of(world: &World, file: &str) -> Result<super::record::Stub> {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("d.pilotfish").to_str().unwrap().to_owned();
    std::fs::write(&target, file).unwrap();
    let guest = world.xl_create(&[&target]);
    launched(world, &world.store(), guest)
}

#[test]
fn a_stub_with_an_nbd_disk_is_made_where_there_is_a_network_with_a_free_address() {
    let file =
        "storage = \"nbd\"\nserver = \"nbd://10.0.0.5/x\"\naddress = \"10.0.0.6/24\"\nbridge = \"br7\"";
    let world = World::new();
    let stub = launch_of(&world, file).unwrap();
    let made = world.stubs()[0].1.config.clone().unwrap();
    assert!(made.contains("vif = [ \"mac=02:50:0a:00:00:06,bridge=br7,ip=10.0.0.6\" ]"), "{made}");

    let error = format!("{:#}", launch_of(&world, file).unwrap_err());
    assert_eq!(error, format!("address = \"10.0.0.6\": domain {} has it already", stub.domid));

    let world = World::new();
    world.state().no_network = Some("no bridge".to_owned());
    let error = format!("{:#}", launch_of(&world, file).unwrap_err());
    assert_eq!(error, "/usr/lib/pilotfish/pilotfish-net.img, br7: no bridge");
    assert!(world.stubs().is_empty());
}

/// A launch of a guest with a key of TLS, and how often the daemon saw the key while it waited.
fn launch_with_key(manner: Manner) -> (World, Result<super::record::Stub>, u32) {
    const HEX: &str = "00112233445566778899aabbccddeeff";
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(at("keys"), format!("web:{HEX}\n")).unwrap();
    std::fs::set_permissions(at("keys"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let server = "storage = \"nbd\"\nserver = \"nbd://10.0.0.5/x\"\naddress = \"10.0.0.6/24\"";
    std::fs::write(at("d.pilotfish"), format!("{server}\ntls-psk-file = \"{}\"", at("keys"))).unwrap();
    let mut seen = 0;
    for n in 1.. {
        let world = World::new();
        world.state().manner = manner.clone();
        let guest = world.xl_create(&[&at("d.pilotfish")]);
        let found = std::sync::Mutex::new(0);
        let act = || {
            let state = world.state();
            for (path, value) in state.nodes.iter().filter(|(_, value)| value.contains(HEX)) {
                assert!(path.ends_with("/pilotfish-tls/51712") && value.ends_with(&format!(" {HEX} web")));
                let stub: u16 = path.split('/').nth(3).unwrap().parse().unwrap();
                assert_eq!(
                    (state.readers.get(path), Identity::of(&state.domains[&stub].handle).is_some()),
                    (Some(&stub), true)
                );
                *found.lock().unwrap() += 1;
            }
        };
        let store = Meanwhile::new(&world, n, &act);
        let outcome = launched(&world, &store, guest);
        let acted = store.acted();
        seen += found.lock().unwrap().to_owned();
        let left = world
            .state()
            .nodes
            .iter()
            .any(|(path, value)| value.contains(HEX) || path.contains("pilotfish-tls"));
        assert!(!left, "read {n}: a key is left");
        let configs = world.stubs().into_iter().filter_map(|(_, stub)| stub.config);
        configs.for_each(|text| assert!(!text.contains(HEX) && text.contains("tls=on"), "{text}"));
        if !acted || n > 60 {
            return (world, outcome, seen);
        }
    }
    unreachable!()
}

#[test]
fn a_key_is_in_xenstore_only_while_a_stub_takes_it() {
    let (world, outcome, seen) = launch_with_key(Manner::Serves);
    let stub = outcome.unwrap().domid;
    assert!(seen > 0, "nobody could have read it");
    // What its connections begin with stays.
    let seed = paths::net_seed(stub);
    assert!(world.get(&seed).is_some());
    assert_eq!(world.state().readers.get(&seed), Some(&stub));
    for manner in [Manner::Fails("no".into()), Manner::Silent, Manner::Crashes] {
        let (world, outcome, seen) = launch_with_key(manner);
        let error = format!("{:#}", outcome.unwrap_err());
        assert!(seen > 0 && !error.contains("0011"), "{error}");
        assert!(world.stubs().is_empty());
    }
}

#[test]
fn a_key_that_others_can_read_ends_the_start_before_there_is_a_stub() {
    let dir = tempfile::tempdir().unwrap();
    let keys = dir.path().join("keys");
    std::fs::write(&keys, "web:00112233445566778899aabbccddeeff").unwrap();
    std::fs::set_permissions(&keys, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let server = "storage = \"nbd\"\nserver = \"nbd://10.0.0.5/x\"\naddress = \"10.0.0.6/24\"";
    let file = format!("{server}\ntls-psk-file = \"{}\"", keys.display());
    let world = World::new();
    let error = format!("{:#}", launch_of(&world, &file).unwrap_err());
    assert!(
        error.starts_with("disk xvda") && error.contains("others than its owner can read it (mode 0644)"),
        "{error}"
    );
    assert!(world.stubs().is_empty());
}

#[test]
fn the_name_of_a_server_is_looked_up_in_dom0() {
    let file = "storage = \"nbd\"\nserver = \"nbd://store.example/x\"\naddress = \"fd00::6/64\"";
    let world = World::new();
    let error = format!("{:#}", launch_of(&world, file).unwrap_err());
    assert!(
        error.ends_with("\"nbd://store.example/x\": the name store.example: there is no such name"),
        "{error}"
    );
    let addresses = ["10.0.0.5", "fd00::5"].map(|text| text.parse().unwrap());
    world.state().names.insert("store.example".to_owned(), addresses.into());
    launch_of(&world, file).unwrap();
    let made = world.stubs()[0].1.config.clone().unwrap();
    assert!(made.contains("net=ip=fd00::6/64 ") && made.contains("store=nbd:[fd00::5]:10809/x "), "{made}");
}

#[test]
fn of_two_guests_that_want_one_address_at_the_same_moment_one_starts() {
    let file = "storage = \"nbd\"\nserver = \"nbd://10.0.0.5/x\"\naddress = \"10.0.0.6/24\"";
    let world = World::new();
    // The second comes while xl makes the stub of the first: its domain and its nodes are not there yet.
    let (sender, second) = std::sync::mpsc::channel();
    world.state().before_create = Some(Box::new(move |world| {
        sender.send(launch_of(world, file).map_err(|error| format!("{error:#}"))).unwrap();
    }));
    let first = launch_of(&world, file).unwrap();
    let why = "address = \"10.0.0.6\": the stub of another guest that is being started has it already";
    assert_eq!(second.recv().unwrap().unwrap_err(), why);
    let stubs: Vec<u16> = world.stubs().into_iter().map(|(domid, _)| domid).collect();
    assert_eq!(stubs, [first.domid]);
    // Once the first is gone, the address is free.
    world.host().destroy(first.domid).unwrap();
    launch_of(&world, file).unwrap();
}

#[test]
fn a_stub_whose_address_another_domain_got_meanwhile_does_not_run() {
    let file = "storage = \"nbd\"\nserver = \"nbd://10.0.0.5/x\"\naddress = \"10.0.0.6/24\"";
    // Whichever of the two has the higher number.
    for other in [40, 4] {
        let world = World::new();
        world.set_next(20);
        world.after_create(move |world| {
            world.domain_appears(
                other,
                Some("other"),
                &Identity::new(9).unwrap().uuid.replace("7069", "0000"),
            );
            world.set(&format!("{}/{other}/0/ip", paths::VIFS), "10.0.0.6");
        });
        let error = format!("{:#}", launch_of(&world, file).unwrap_err());
        assert_eq!(error, format!("address = \"10.0.0.6\": domain {other} has it already"));
        assert!(world.stubs().is_empty());
        assert_eq!(world.get(&format!("{}/21/0/ip", paths::VIFS)), None);
    }
}

#[test]
fn a_stub_that_tells_its_reason_and_ends_between_two_questions_is_heard() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("a.img").to_str().unwrap().to_owned();
    std::fs::write(&target, [0; 1024]).unwrap();
    let mut heard = 0;
    for n in 1.. {
        let world = World::new();
        world.state().manner = Manner::Crashes;
        let guest = world.xl_create(&[&target]);
        let act = || {
            for (domid, stub) in world.stubs() {
                if stub.shutdown.is_some() {
                    world.set(&paths::stub_says(domid, "error"), "no room");
                    world.set(&paths::stub_says(domid, "state"), "failed");
                }
            }
        };
        let store = Meanwhile::new(&world, n, &act);
        let error = launched(&world, &store, guest).unwrap_err();
        heard += u32::from(format!("{error:#}").contains("the stub says: no room"));
        if !store.acted() {
            break;
        }
    }
    assert_eq!(heard, 2, "before the first question, and before it is asked whether the stub has ended");
}
