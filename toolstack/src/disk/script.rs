//! pilotfishd as the hotplug script of its stubs' PV disks: libxl runs it as
//! `pilotfishd add|remove` with `XENBUS_PATH` in the environment.
//!
//! It does what the `block` script of the Xen tools does (loop device for an image, no device
//! or image used twice for writing, `physical-device` for blkback) without that script's
//! hundred processes, which on a slow machine take most of the 10 s that libxl gives us. Both
//! hold the same lock and understand each other's traces.

use anyhow::{Context, Result, ensure};

use super::data::{Data, Identity, Number};
use super::in_use::{self, VBDS};
use super::lock::Lock;
use super::loops::Loops;
use crate::xenstore::{Client, Store, paths};

/// What libxl asks for, if this process was started by it.
#[must_use]
pub fn asked() -> Option<(String, String)> {
    let mut args = std::env::args().skip(1);
    let (command, end) = (args.next()?, args.next());
    let path = std::env::var("XENBUS_PATH").ok()?;
    (end.is_none() && matches!(command.as_str(), "add" | "remove")).then_some((command, path))
}

/// Attaches or detaches the disk whose backend is at `path` (relative, as libxl says it).
///
/// # Errors
/// The reason, which also stands in the backend for libxl to tell.
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
    // Where libxl has removed the disk meanwhile, nothing must bring its nodes back.
    if let Err(e) = &done
        && command != "remove"
        && store.read(&format!("{dir}/state"))?.is_some()
    {
        store.write(&format!("{dir}/hotplug-error"), &format!("{e:#}"))?;
        store.write(&format!("{dir}/hotplug-status"), "error")?;
    }
    done
}

fn attach(store: &dyn Store, dir: &str, loops: &Loops) -> Result<()> {
    let value =
        |key: &str| store.read(&format!("{dir}/{key}"))?.with_context(|| format!("{dir}/{key}: missing"));
    // libxl may have given up meanwhile.
    let check_open = || -> Result<()> {
        ensure!(store.read(&format!("{dir}/state"))?.as_deref() == Some("2"), "{dir}: closed");
        Ok(())
    };
    if store.read(&format!("{dir}/physical-device"))?.is_some() {
        return Ok(());
    }
    check_open()?;
    let (path, write) = (value("params")?, value("mode")?.starts_with('w'));
    let data = Data::open(&path, write)?;
    in_use::check(store, &data, write)?;
    let tell = |device: &str, number: Number| {
        store.write(&format!("{dir}/physical-device-path"), device)?;
        store.write(&format!("{dir}/physical-device"), &number.to_hex())?;
        store.write(&format!("{dir}/hotplug-status"), "connected")
    };
    if let Identity::Device(number) = data.identity {
        return tell(&data.path.display().to_string(), number);
    }
    let record = record(dir);
    let device = loops.attach(store, &record, &data, write).context(path)?;
    let done = check_open().and_then(|()| {
        let number = Number::of_node(&device).with_context(|| format!("{}: no device", device.display()))?;
        store.write(&format!("{dir}/node"), &device.display().to_string())?;
        tell(&device.display().to_string(), number)
    });
    if done.is_err()
        && let Err(e) = loops.detach(store, &record)
    {
        // The daemon finds it by its record.
        eprintln!("pilotfishd: {}: {e:#}", device.display());
    }
    done
}

fn detach(store: &dyn Store, dir: &str) -> Result<()> {
    // A device has none, nor has one that was never attached.
    Loops::host().detach(store, &record(dir))
}

/// Where the loop device of the backend in `dir` is written down.
fn record(dir: &str) -> String {
    format!("{}{}", paths::LOOPS, dir.strip_prefix(VBDS).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::World;

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
