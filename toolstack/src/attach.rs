//! pilotfishd as the hotplug script of its stubs' PV disks: libxl runs it as
//! `pilotfishd add|remove` with `XENBUS_PATH` in the environment.
//!
//! It does what the `block` script of the Xen tools does (loop device for an image, no device
//! or image used twice for writing, `physical-device` for blkback) without that script's
//! hundred processes, which on a slow machine take most of the 10 s that libxl gives us. Both
//! hold the same lock and understand each other's traces.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{FlockOperation, flock, major, minor};

use crate::host::Host;
use crate::identity::find_stubs;
use crate::xenstore::{Client, Store, paths};

/// The lock of the `block` script: a file that is locked by flock and removed by its holder.
const LOCK_DIR: &str = "/var/run/xen-hotplug";
/// All PV disks that dom0 serves.
const VBDS: &str = "/local/domain/0/backend/vbd";

/// A device number as blkback reads it: major and minor, hexadecimal.
type DeviceNumber = String;

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
    let _lock = Lock::take_default()?;
    if command == "remove" {
        return detach(&store, &dir);
    }
    let done = attach(&store, &dir);
    // Where libxl has removed the disk meanwhile, nothing must bring its nodes back.
    if let Err(e) = &done
        && store.read(&format!("{dir}/state"))?.is_some()
    {
        store.write(&format!("{dir}/hotplug-error"), &format!("{e:#}"))?;
        store.write(&format!("{dir}/hotplug-status"), "error")?;
    }
    done
}

fn attach(store: &dyn Store, dir: &str) -> Result<()> {
    let value =
        |key: &str| store.read(&format!("{dir}/{key}"))?.with_context(|| format!("{dir}/{key}: missing"));
    if store.read(&format!("{dir}/physical-device"))?.is_some() {
        return Ok(());
    }
    // libxl may have given up meanwhile.
    ensure!(value("state")? == "2", "{dir}: closed");
    let (path, write) = (value("params")?, value("mode")?.starts_with('w'));
    let path = fs::canonicalize(&path).with_context(|| path.clone())?;
    let meta = fs::metadata(&path).with_context(|| path.display().to_string())?;
    let used = devices_of(&path, &meta, Path::new("/sys/block"))?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("/proc/self/mountinfo")?;
    if let Some(by) = conflict(store, &used, write, &mounts)? {
        bail!("{}: in use {by}", path.display());
    }
    let (device, number) = if meta.file_type().is_block_device() {
        (path, number_of(&meta))
    } else {
        let device = make_loop(&path, write)?;
        if store.read(&format!("{dir}/state"))?.as_deref() != Some("2") {
            losetup([OsStr::new("-d"), device.as_os_str()])?;
            bail!("{dir}: closed");
        }
        store.write(&record(dir), &format!("{} {}", device.display(), path.display()))?;
        store.write(&format!("{dir}/node"), &device.display().to_string())?;
        let number = number_of(&fs::metadata(&device)?);
        (device, number)
    };
    store.write(&format!("{dir}/physical-device-path"), &device.display().to_string())?;
    store.write(&format!("{dir}/physical-device"), &number)?;
    store.write(&format!("{dir}/hotplug-status"), "connected")
}

fn detach(store: &dyn Store, dir: &str) -> Result<()> {
    match store.read(&format!("{dir}/node"))? {
        Some(node) if node.starts_with("/dev/loop") => {
            losetup([OsStr::new("-d"), OsStr::new(&node)])?;
            forget(store, &record(dir))
        }
        _ => Ok(()),
    }
}

/// Where the loop device of the backend in `dir` is written down. libxl runs nobody to detach
/// it if the backend does not close within its 10 s, and removes `dir`: this record stays.
fn record(dir: &str) -> String {
    format!("{}{}", paths::LOOPS, dir.strip_prefix(VBDS).unwrap_or_default())
}

/// Removes a record, and the directories that are empty without it.
fn forget(store: &dyn Store, record: &str) -> Result<()> {
    store.remove(record)?;
    for dir in Path::new(record).ancestors().skip(1).take(2).filter_map(Path::to_str) {
        if !store.remove_if_empty(dir)? {
            break;
        }
    }
    Ok(())
}

/// Detaches the loop devices of stubs that are gone: those that libxl left.
///
/// A stub that is being made writes its records while this runs. So the records are listed
/// first and the stubs after them: whoever has a record had its domain before. And they are
/// read under the lock that `run` holds while it makes one, for another worker may sweep too,
/// and the device may serve somebody else by now.
///
/// # Errors
/// xenstore or Xen cannot be asked. A device that cannot be detached is logged.
pub fn sweep_loops(store: &dyn Store, host: &dyn Host) -> Result<()> {
    let recorded = store.list(paths::LOOPS)?;
    if recorded.is_empty() {
        return Ok(());
    }
    let alive: Vec<String> = find_stubs(store, host)?.iter().map(|stub| stub.domid.to_string()).collect();
    let gone: Vec<String> = recorded.into_iter().filter(|stub| !alive.contains(stub)).collect();
    if gone.is_empty() {
        return Ok(());
    }
    let _lock = host.lock_hotplug()?;
    for stub in gone {
        for disk in store.list(&format!("{}/{stub}", paths::LOOPS))? {
            let record = format!("{}/{stub}/{disk}", paths::LOOPS);
            let value = store.read(&record)?.unwrap_or_default();
            if let Some((device, image)) = value.split_once(' ')
                && let Err(e) = host.detach_loop(device, image)
            {
                log::warn!("{device}, left by stub domain {stub}: {e:#}");
            }
            forget(store, &record)?;
        }
    }
    Ok(())
}

/// Detaches `device` if it leads to `image`. One that blkback still holds goes when blkback lets
/// it go. The caller holds the [`Lock`].
///
/// # Errors
/// losetup's.
pub fn detach_loop(device: &str, image: &str) -> Result<()> {
    let name = device.strip_prefix("/dev/").unwrap_or_default();
    let backing = fs::read_to_string(format!("/sys/block/{name}/loop/backing_file")).unwrap_or_default();
    if backing.trim_end() == image {
        log::info!("{device}: detaching it from {image}; nobody uses it any more");
        losetup([OsStr::new("-d"), OsStr::new(device)])?;
    }
    Ok(())
}

fn number_of(device: &Metadata) -> DeviceNumber {
    format!("{:x}:{:x}", major(device.rdev()), minor(device.rdev()))
}

/// The device numbers under which the data at `path` may already be in use: its own, or those
/// of the loop devices that lead to it.
fn devices_of(path: &Path, meta: &Metadata, sys_block: &Path) -> Result<Vec<DeviceNumber>> {
    if meta.file_type().is_block_device() {
        return Ok(vec![number_of(meta)]);
    }
    ensure!(meta.is_file(), "{}: neither a block device nor a raw image", path.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(sys_block).into_iter().flatten().flatten() {
        // An unused loop device has no backing file.
        let Ok(backing) = fs::read_to_string(entry.path().join("loop/backing_file")) else { continue };
        let same =
            fs::metadata(backing.trim_end()).is_ok_and(|m| (m.dev(), m.ino()) == (meta.dev(), meta.ino()));
        if same {
            let number = fs::read_to_string(entry.path().join("dev"))?;
            let (major, minor) = number.trim().split_once(':').context("sysfs dev")?;
            found.push(format!("{:x}:{:x}", major.parse::<u32>()?, minor.parse::<u32>()?));
        }
    }
    Ok(found)
}

/// Who uses one of the devices in a way that forbids ours: writing forbids every other use,
/// reading forbids another's writing.
fn conflict(
    store: &dyn Store,
    devices: &[DeviceNumber],
    write: bool,
    mounts: &str,
) -> Result<Option<String>> {
    if devices.is_empty() {
        return Ok(None);
    }
    for line in mounts.lines() {
        // proc(5): id, parent, major:minor, root, mount point, options...
        let fields: Vec<&str> = line.split(' ').collect();
        let (Some(number), Some(at), Some(options)) = (fields.get(2), fields.get(4), fields.get(5)) else {
            continue;
        };
        let Some((Ok(major), Ok(minor))) =
            number.split_once(':').map(|(a, b)| (a.parse::<u32>(), b.parse::<u32>()))
        else {
            continue;
        };
        let read_only = options.split(',').any(|o| o == "ro");
        if devices.contains(&format!("{major:x}:{minor:x}")) && (write || !read_only) {
            return Ok(Some(format!("by dom0, mounted at {at}")));
        }
    }
    for guest in store.list(VBDS)? {
        for disk in store.list(&format!("{VBDS}/{guest}"))? {
            let dir = format!("{VBDS}/{guest}/{disk}");
            let Some(number) = store.read(&format!("{dir}/physical-device"))? else { continue };
            let writes = store.read(&format!("{dir}/mode"))?.is_none_or(|m| m.starts_with('w'));
            if devices.contains(&number) && (write || writes) {
                return Ok(Some(format!("by domain {guest} as its disk {disk}")));
            }
        }
    }
    Ok(None)
}

/// A loop device on an image.
fn make_loop(image: &Path, write: bool) -> Result<PathBuf> {
    let free = losetup([OsStr::new("-f")])?;
    let device = PathBuf::from(free.trim());
    ensure!(device.starts_with("/dev"), "losetup -f: no free loop device");
    if write {
        losetup([device.as_os_str(), image.as_os_str()])?;
    } else {
        losetup([OsStr::new("-r"), device.as_os_str(), image.as_os_str()])?;
    }
    Ok(device)
}

/// losetup, of util-linux or busybox.
fn losetup<const N: usize>(args: [&OsStr; N]) -> Result<String> {
    let output = Command::new("losetup").args(args).output().context("losetup")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "losetup {args:?}: {}", crate::text::printable(&said, 200));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The lock, held until dropped.
pub struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// Takes the lock of the `block` script, when its holder lets it go.
    ///
    /// # Errors
    /// Its file cannot be made.
    pub fn take_default() -> Result<Lock> {
        Lock::take(Path::new(LOCK_DIR))
    }

    fn take(dir: &Path) -> Result<Lock> {
        fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
        let path = dir.join("block");
        loop {
            let file = File::options().read(true).write(true).create(true).truncate(false).open(&path)?;
            while let Err(e) = flock(&file, FlockOperation::LockExclusive) {
                if e != rustix::io::Errno::INTR {
                    return Err(io::Error::from(e)).with_context(|| path.display().to_string());
                }
            }
            // Its last holder may have removed the file between our open and our lock.
            let mine = file.metadata()?;
            if fs::metadata(&path).is_ok_and(|m| (m.dev(), m.ino()) == (mine.dev(), mine.ino())) {
                return Ok(Lock { path, _file: file });
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // If it cannot be removed, the next one locks the same file: as good.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::World;

    const MOUNTS: &str = "21 1 0:20 / /proc rw,nosuid - proc proc rw\n\
                          25 1 7:3 / /mnt ro,relatime shared:1 - ext4 /dev/loop3 ro\n\
                          26 1 254:16 / /data rw - ext4 /dev/vdb rw\n";

    fn world() -> World {
        let world = World::new();
        for (disk, number, mode) in
            [("6/51712", "7:0", "w"), ("8/51712", "7:1", "r"), ("9/51712", "fe:1", "w")]
        {
            world.set(&format!("{VBDS}/{disk}/physical-device"), number);
            world.set(&format!("{VBDS}/{disk}/mode"), mode);
        }
        world
    }

    #[test]
    fn writing_forbids_every_other_use_and_reading_anothers_writing() {
        let world = world();
        let is_free = |number: &str, write| {
            conflict(&world.store(), &[number.to_owned()], write, MOUNTS).unwrap().is_none()
        };
        assert!(is_free("7:2", true) && is_free("7:2", false));
        assert!(!is_free("7:0", true) && !is_free("7:0", false), "domain 6 writes");
        assert!(!is_free("7:1", true) && is_free("7:1", false), "domain 8 reads");
        assert!(!is_free("fe:1", true), "numbers are hexadecimal");
        assert!(!is_free("7:3", true) && is_free("7:3", false), "dom0 has it mounted for reading");
        assert!(!is_free("fe:10", true) && !is_free("fe:10", false), "dom0 has it mounted for writing");
    }

    #[test]
    fn an_image_is_known_by_any_loop_device_that_leads_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("a.img");
        std::fs::write(&image, [0; 512]).unwrap();
        std::fs::hard_link(&image, dir.path().join("same.img")).unwrap();
        let sys = dir.path().join("block");
        for (name, number, backing) in
            [("loop4", "7:4", "same.img"), ("loop17", "7:17", "a.img"), ("loop5", "7:5", "gone.img")]
        {
            let at = sys.join(name);
            std::fs::create_dir_all(at.join("loop")).unwrap();
            std::fs::write(at.join("dev"), format!("{number}\n")).unwrap();
            std::fs::write(at.join("loop/backing_file"), format!("{}\n", dir.path().join(backing).display()))
                .unwrap();
        }
        std::fs::create_dir_all(sys.join("loop0")).unwrap();
        let mut found = devices_of(&image, &std::fs::metadata(&image).unwrap(), &sys).unwrap();
        found.sort();
        assert_eq!(found, ["7:11", "7:4"]);
    }

    #[test]
    fn a_lock_excludes_and_goes_with_its_holder() {
        let dir = tempfile::tempdir().unwrap();
        let first = Lock::take(dir.path()).unwrap();
        let other = File::open(dir.path().join("block")).unwrap();
        assert!(flock(&other, FlockOperation::NonBlockingLockExclusive).is_err());
        drop(first);
        assert!(!dir.path().join("block").exists());
        drop(Lock::take(dir.path()).unwrap());
    }

    #[test]
    fn a_disk_that_was_closed_or_attached_before_is_left_alone() {
        let world = World::new();
        let dir = format!("{VBDS}/6/51712");
        for (key, value) in [("state", "5"), ("params", "/dev/null"), ("mode", "w")] {
            world.set(&format!("{dir}/{key}"), value);
        }
        let error = attach(&world.store(), &dir).unwrap_err();
        assert!(error.to_string().contains("closed"), "{error}");
        world.set(&format!("{dir}/physical-device"), "7:0");
        attach(&world.store(), &dir).unwrap();
        assert_eq!(world.get(&format!("{dir}/hotplug-status")), None);
    }
}
