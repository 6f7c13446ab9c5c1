//! pilotfishd as the hotplug script of its stubs' PV disks: libxl runs it as
//! `pilotfishd add|remove` with `XENBUS_PATH` in the environment.
//!
//! It does what the `block` script of the Xen tools does (loop device for an image, no device
//! or image used twice for writing, `physical-device` for blkback) without that script's
//! hundred processes, which on a slow machine take most of the 10 s that libxl gives us. Both
//! hold the same lock and understand each other's traces.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use xen_privcmd::Privcmd;

use super::data::{Data, DataId, Number};
use super::in_use;
use super::lock::Lock;
use super::loops::Loops;
use super::stack;
use crate::xenstore::{Client, Store, paths};

/// All disks that blkback serves from dom0.
const VBDS: &str = "/local/domain/0/backend/vbd";

/// What libxl asks for, if this process was started by it.
#[must_use]
pub fn asked() -> Option<(String, String)> {
    let mut args = std::env::args().skip(1);
    let (command, end) = (args.next()?, args.next());
    let path = std::env::var("XENBUS_PATH").ok()?;
    (end.is_none() && matches!(command.as_str(), "add" | "remove")).then_some((command, path))
}

/// Attaches or detaches the disk whose backend directory is `path` (relative, as libxl says it).
///
/// # Errors
/// The reason, which is also written to the backend directory, where libxl reads it.
pub fn run(command: &str, path: &str) -> Result<()> {
    let words: Vec<&str> = path.split('/').collect();
    let sane = matches!(words.as_slice(), ["backend", "vbd", guest, disk]
        if guest.parse::<u16>().is_ok() && disk.parse::<u32>().is_ok());
    ensure!(sane, "XENBUS_PATH={path}: no PV disk");
    let dir = format!("/local/domain/0/{path}");
    let store = Client::connect(|_| ())?;
    let done = Lock::take().and_then(|_lock| match command {
        "remove" => detach(&store, &dir),
        _ => attach(&store, &dir, &Loops::host()),
    });
    if let Err(e) = &done
        && command != "remove"
    {
        let why = format!("{e:#}");
        write_open(&store, &dir, &[("hotplug-error", &why), ("hotplug-status", "error")])?;
    }
    done
}

/// Writes nodes into the backend directory `dir` if libxl still waits for it; returns whether it did.
/// libxl may give up and remove it at any moment, and then nothing may create it again.
fn write_open(store: &dyn Store, dir: &str, nodes: &[(&str, &str)]) -> Result<bool> {
    let paths: Vec<String> = nodes.iter().map(|(key, _)| format!("{dir}/{key}")).collect();
    let nodes: Vec<(&str, &str)> =
        paths.iter().zip(nodes).map(|(path, (_, value))| (path.as_str(), *value)).collect();
    store.write_if((&format!("{dir}/state"), "2"), &nodes)
}

fn attach(store: &dyn Store, dir: &str, loops: &Loops) -> Result<()> {
    let value =
        |key: &str| store.read(&format!("{dir}/{key}"))?.with_context(|| format!("{dir}/{key}: missing"));
    // Done before: blkback has opened its device, and another one would not be taken.
    if store.read(&format!("{dir}/physical-device"))?.is_some() {
        return Ok(());
    }
    ensure!(value("state")? == "2", "{dir}: closed");
    let (path, write) = (value("params")?, value("mode")?.starts_with('w'));
    // The daemon has checked all that, but before xl began: the host may have changed.
    let data = Data::open(&path, write)?;
    in_use::check(store, &exists, &stack::host_blocks(), &data, write)?;
    if let DataId::Device(number) = data.identity {
        return connect(store, dir, &data.path, number, false);
    }
    let record = record(dir);
    let device = loops.attach(store, &record, &data, write).context(path)?;
    let number = Number::of_node(&device).with_context(|| format!("{}: no device", device.display()));
    let done = number.and_then(|number| connect(store, dir, &device, number, true));
    if done.is_err()
        && let Err(e) = loops.detach(store, &record)
    {
        // The daemon finds it by its record.
        eprintln!("pilotfishd: {}: {e:#}", device.display());
    }
    done
}

/// Whether Xen has a domain; true if Xen does not answer.
fn exists(domid: u16) -> bool {
    let found = Privcmd::open().and_then(|xen| xen.domain_state(domid));
    found.map_or(true, |found| found.is_some())
}

/// Tells blkback which device to open, and libxl that this was done.
fn connect(store: &dyn Store, dir: &str, device: &Path, number: Number, is_loop: bool) -> Result<()> {
    let (device, number) = (device.display().to_string(), number.to_hex());
    let mut nodes = vec![
        ("physical-device-path", device.as_str()),
        ("physical-device", &number),
        ("hotplug-status", "connected"),
    ];
    if is_loop {
        nodes.insert(0, ("node", &device));
    }
    ensure!(write_open(store, dir, &nodes)?, "{dir}: closed");
    Ok(())
}

fn detach(store: &dyn Store, dir: &str) -> Result<()> {
    // There is no record for a block device, or for a disk that was never attached.
    Loops::host().detach(store, &record(dir))
}

/// The record of the loop device of the disk with the backend directory `dir`.
fn record(dir: &str) -> String {
    format!("{}{}", paths::LOOPS, dir.strip_prefix(VBDS).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::World;

    #[test]
    fn nothing_is_written_where_libxl_has_given_up() {
        let world = World::new();
        let (dir, device) = (format!("{VBDS}/6/51712"), Path::new("/dev/loop3"));
        for state in [None, Some("5")] {
            if let Some(state) = state {
                world.set(&format!("{dir}/state"), state);
            }
            let before = world.state().nodes.clone();
            let error = connect(&world.store(), &dir, device, Number(7, 3), true).unwrap_err();
            assert!(error.to_string().contains("closed"), "{error}");
            assert_eq!(world.state().nodes, before);
        }
        world.set(&format!("{dir}/state"), "2");
        connect(&world.store(), &dir, device, Number(7, 27), true).unwrap();
        for (key, value) in
            [("node", "/dev/loop3"), ("physical-device", "7:1b"), ("hotplug-status", "connected")]
        {
            assert_eq!(world.get(&format!("{dir}/{key}")).as_deref(), Some(value));
        }
    }

    #[test]
    fn a_disk_that_was_closed_or_attached_before_is_left_alone() {
        let world = World::new();
        let dir = format!("{VBDS}/6/51712");
        for (key, value) in [("state", "5"), ("params", "/dev/null"), ("mode", "w")] {
            world.set(&format!("{dir}/{key}"), value);
        }
        let error = attach(&world.store(), &dir, &Loops::host()).unwrap_err();
        assert!(error.to_string().contains("closed"), "{error}");
        world.set(&format!("{dir}/physical-device"), "7:0");
        attach(&world.store(), &dir, &Loops::host()).unwrap();
        assert_eq!(world.get(&format!("{dir}/hotplug-status")), None);
    }
}
