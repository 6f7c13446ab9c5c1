//! Loop devices for images, and the record of each. libxl runs no script to detach a device if blkback
//! does not close within its 10 s, and the process that attaches one may be killed at any time.
//!
//! So the record comes first: it says which device is about to lead to which image. A record whose
//! device leads elsewhere, or nowhere, does no harm. A loop device of ours without a record does not
//! exist. (`LO_FLAGS_AUTOCLEAR` would need no record, but then a blkback that is unbound and bound
//! again would find the device gone.)

use std::ffi::OsString;
use std::fmt::{self, Display, Formatter};
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::makedev;

use super::data::{Data, DataId, Number};
use crate::command;
use crate::xenstore::Store;

/// How many free loop devices others may take before us.
const TRIES: u32 = 16;
/// How losetup of util-linux lists the files behind loop devices. busybox's knows no `-O`, and no inodes.
const LIST: [&str; 4] = ["-l", "-n", "-O", "NAME,BACK-MAJ:MIN,BACK-INO"];

/// What is recorded of a loop device.
#[derive(Clone, Copy)]
struct Record<'a> {
    device: &'a str,
    /// What it leads to, wherever that is renamed to.
    file: DataId,
    /// The path it had.
    image: &'a str,
}

impl Display for Record<'_> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let Record { device, file, image } = self;
        let (of, inode) = match *file {
            DataId::File(of, inode) => (of, inode),
            // An image is never a device.
            DataId::Device(_) => (0, 0),
        };
        write!(out, "{device} {of}:{inode} {image}")
    }
}

impl Record<'_> {
    fn read(text: &str) -> Option<Record<'_>> {
        let mut words = text.splitn(3, ' ');
        let device = words.next()?;
        let (of, inode) = words.next()?.split_once(':')?;
        let file = DataId::File(of.parse().ok()?, inode.parse().ok()?);
        Some(Record { device, file, image: words.next()? })
    }
}

/// The loop devices of a host.
pub struct Loops {
    losetup: fn(&Path, &[&str]) -> Result<String>,
    /// sysfs's directory of block devices.
    sys_block: PathBuf,
}

impl Loops {
    /// The loop devices of this host.
    pub fn host() -> Loops {
        Loops { losetup, sys_block: "/sys/block".into() }
    }

    /// Attaches a loop device to an image, and keeps `record` of it.
    ///
    /// # Errors
    /// losetup fails, others took every free device first, or the image was replaced. Then neither a
    /// device nor the record is left.
    pub fn attach(&self, store: &dyn Store, record: &str, image: &Data, write: bool) -> Result<PathBuf> {
        let path = image.path.to_str().context("its real path is not UTF-8")?;
        let mut refused = None;
        for _ in 0..TRIES {
            let free = self.losetup(&["-f"])?;
            let device = free.trim();
            ensure!(device.starts_with("/dev/"), "losetup -f: no free loop device");
            // Before the device is attached: whoever is killed in between leaves a record that leads nowhere,
            // never a device without one.
            store.write(record, &Record { device, file: image.identity, image: path }.to_string())?;
            let how: &[&str] = if write { &[] } else { &["-r"] };
            let done = self.losetup(&[how, &[device, path]].concat());
            let leads_to = self.leads_to(device);
            let is_there = || fs::metadata(&image.path).is_ok_and(|m| DataId::of(&m) == image.identity);
            if let Err(e) = done {
                refused = Some(e);
                // A device that leads somewhere was taken by another process between the two commands.
                // One that leads nowhere may have been taken and released; that is worth another try
                // only while the image is there, for losetup also fails without it.
                if leads_to.is_some() || is_there() {
                    continue;
                }
                break;
            }
            let identity = leads_to.and_then(|path| fs::metadata(path).ok()).map(|m| DataId::of(&m));
            // losetup opened the path again. What was checked is the open file, so the two must agree.
            if identity == Some(image.identity) {
                return Ok(device.into());
            }
            self.losetup(&["-d", device])?;
            forget(store, record)?;
            bail!("was replaced while it was attached");
        }
        forget(store, record)?;
        let why = refused.context("no loop device")?;
        Err(why.context("no free loop device could be had, or others took each before we could"))
    }

    /// Detaches the device of `record` if it leads to its image, and forgets it. A device
    /// that blkback still has open is detached when blkback closes it.
    ///
    /// # Errors
    /// losetup or xenstore fails.
    pub fn detach(&self, store: &dyn Store, record: &str) -> Result<()> {
        if let Some(record) = store.read(record)?.as_deref().and_then(Record::read) {
            self.detach_from(record)?;
        }
        forget(store, record)
    }

    /// Detaches the device if it leads to the image; whether it did.
    fn detach_from(&self, Record { device, file, image }: Record<'_>) -> Result<bool> {
        // The record outlives its device, which may be free by now or lead to another's image.
        let Some(at) = self.leads_to(device) else { return Ok(false) };
        let entry = self.entry(device);
        let ours = match self.files().into_iter().find(|(name, _)| entry.ends_with(name)) {
            // The inode decides where losetup knows it: an image may be renamed while it is attached.
            Some((_, leads_to)) => leads_to == file,
            None => {
                // The kernel's mark of an image that was removed.
                let removed = format!("{image} (deleted)");
                at == Path::new(image) || at == Path::new(&removed) || backing(&entry, None) == Some(file)
            }
        };
        if ours {
            self.losetup(&["-d", device])?;
        }
        Ok(ours)
    }

    /// The files behind loop devices, by the devices' names, as far as losetup knows them.
    pub fn files(&self) -> Vec<(String, DataId)> {
        // busybox's losetup fails here; then paths have to do.
        let listed = self.losetup(&LIST).unwrap_or_default();
        let file = |line: &str| {
            let mut words = line.split_whitespace();
            let device = words.next()?.strip_prefix("/dev/")?.to_owned();
            let Number(major, minor) = Number::decimal(words.next()?)?;
            Some((device, DataId::File(makedev(major, minor), words.next()?.parse().ok()?)))
        };
        listed.lines().filter_map(file).collect()
    }

    /// What a loop device leads to, by its path in `/dev`.
    fn leads_to(&self, device: &str) -> Option<PathBuf> {
        backing_file(&self.entry(device))
    }

    /// Its entry in sysfs.
    fn entry(&self, device: &str) -> PathBuf {
        self.sys_block.join(Path::new(device).file_name().unwrap_or_default())
    }

    fn losetup(&self, args: &[&str]) -> Result<String> {
        (self.losetup)(&self.sys_block, args)
    }
}

/// The path that a loop device leads to, from its entry in sysfs; none if it is free.
pub fn backing_file(entry: &Path) -> Option<PathBuf> {
    let mut path = fs::read(entry.join("loop/backing_file")).ok()?;
    path.pop_if(|last| *last == b'\n');
    Some(OsString::from_vec(path).into())
}

/// What the loop device with this entry in sysfs leads to, if that is known; `file` is losetup's answer.
/// A path alone may lead to another file by now, or nowhere: a file can be removed, or covered by a
/// mount.
pub fn backing(entry: &Path, file: Option<DataId>) -> Option<DataId> {
    let found = fs::metadata(backing_file(entry)?).ok();
    // Where the path leads to another file than losetup says, the path is out of date.
    let leads_there = |meta: &fs::Metadata| file.is_none_or(|f| f == DataId::File(meta.dev(), meta.ino()));
    found.filter(leads_there).as_ref().map(DataId::of).or(file)
}

/// losetup, of util-linux or busybox.
fn losetup(_: &Path, args: &[&str]) -> Result<String> {
    let output =
        Command::new("losetup").env("PATH", command::path()).args(args).output().context("losetup")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "losetup {args:?}: {}", crate::text::printable(&said, 200));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Removes a record, and the directories that are empty without it.
///
/// # Errors
/// xenstore cannot be written.
pub fn forget(store: &dyn Store, record: &str) -> Result<()> {
    store.remove(record)?;
    // The stub's directory, then that of all records. A sibling's record ends the walk.
    for dir in Path::new(record).ancestors().skip(1).take(2).filter_map(Path::to_str) {
        if !store.remove_if_empty(dir)? {
            break;
        }
    }
    Ok(())
}

/// Detaches the device of a record with this text if it leads to its image. The caller holds the lock.
///
/// # Errors
/// losetup fails, or the text is not a record.
pub fn detach_loop(record: &str) -> Result<()> {
    let record = Record::read(record).context("no record of a loop device")?;
    if Loops::host().detach_from(record)? {
        log::info!("{}: detached from {}; nobody uses it any more", record.device, record.image);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::World;

    const RECORD: &str = "/tool/pilotfish/loops/9/51712";

    /// As losetup, on a directory in the place of sysfs. Devices whose directory holds a file `taken`
    /// are taken by another just before they would be ours.
    fn fake_losetup(sys_block: &Path, args: &[&str]) -> Result<String> {
        let at = |device: &str| sys_block.join(device.strip_prefix("/dev/").unwrap());
        match *args {
            ["-f"] => {
                let free = |n: &u32| !sys_block.join(format!("loop{n}/loop")).exists();
                Ok(format!("/dev/loop{}\n", (0..).find(free).unwrap()))
            }
            ["-l", ..] => Ok(fs::read_to_string(sys_block.join("listed"))?),
            ["-d", device] => Ok(fs::remove_dir_all(at(device).join("loop")).map(|()| String::new())?),
            // Taken, and let go before anybody checks.
            [device, _] if fs::remove_file(at(device).join("snatched")).is_ok() => {
                bail!("losetup: {device}: Device or resource busy")
            }
            [device, path] | ["-r", device, path] => {
                let taken = at(device).join("taken").exists();
                lead(sys_block, device, if taken { "/elsewhere" } else { path });
                ensure!(!taken, "losetup: {device}: Device or resource busy");
                Ok(String::new())
            }
            _ => bail!("{args:?}"),
        }
    }

    /// Makes a device of the fake sysfs lead somewhere.
    fn lead(sys_block: &Path, device: &str, to: &str) {
        let dir = sys_block.join(device.strip_prefix("/dev/").unwrap()).join("loop");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("backing_file"), format!("{to}\n")).unwrap();
    }

    /// Another process takes the first `taken` devices.
    fn loops(dir: &Path, taken: u32) -> Loops {
        for n in 0..taken {
            fs::create_dir_all(dir.join(format!("loop{n}"))).unwrap();
            fs::write(dir.join(format!("loop{n}/taken")), []).unwrap();
        }
        Loops { losetup: fake_losetup, sys_block: dir.to_owned() }
    }

    /// What is recorded when `device` is about to lead to the file at `path`.
    fn recorded(device: &str, path: &str) -> String {
        Record { device, file: DataId::of(&fs::metadata(path).unwrap()), image: path }.to_string()
    }

    fn image(dir: &Path) -> (String, Data) {
        let path = dir.join("a b.img");
        fs::write(&path, [0; 512]).unwrap();
        let path = fs::canonicalize(&path).unwrap().to_str().unwrap().to_owned();
        let data = Data::open(&path, true).unwrap();
        (path, data)
    }

    #[test]
    fn a_device_that_another_took_first_is_not_ours_and_the_next_one_is() {
        let dir = tempfile::tempdir().unwrap();
        let (world, (path, data)) = (World::new(), image(dir.path()));
        let loops = loops(dir.path(), 3);
        let device = loops.attach(&world.store(), RECORD, &data, false).unwrap();
        assert_eq!(device, Path::new("/dev/loop3"));
        assert_eq!(world.get(RECORD).unwrap(), recorded("/dev/loop3", &path));
        loops.detach(&world.store(), RECORD).unwrap();
        assert_eq!(loops.leads_to("/dev/loop3"), None);
        assert!(world.state().nodes.is_empty());
        assert_eq!(loops.leads_to("/dev/loop2"), Some("/elsewhere".into()), "another's stays");
    }

    #[test]
    fn where_every_device_is_taken_nothing_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let (world, (_, data)) = (World::new(), image(dir.path()));
        let error = loops(dir.path(), 99).attach(&world.store(), RECORD, &data, true).unwrap_err();
        let error = format!("{error:#}");
        assert!(error.contains("others took each") && error.ends_with("Device or resource busy"), "{error}");
        assert!(world.state().nodes.is_empty());
    }

    #[test]
    fn a_device_that_another_has_let_go_again_is_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let (world, (path, data)) = (World::new(), image(dir.path()));
        let loops = loops(dir.path(), 0);
        let snatch = || {
            fs::create_dir_all(dir.path().join("loop0")).unwrap();
            fs::write(dir.path().join("loop0/snatched"), []).unwrap();
        };
        snatch();
        assert_eq!(loops.attach(&world.store(), RECORD, &data, true).unwrap(), Path::new("/dev/loop0"));
        loops.detach(&world.store(), RECORD).unwrap();
        // Not if the image is gone: then losetup's word is the last.
        snatch();
        fs::remove_file(&path).unwrap();
        let error = format!("{:#}", loops.attach(&world.store(), RECORD, &data, true).unwrap_err());
        assert!(error.ends_with("Device or resource busy") && world.state().nodes.is_empty(), "{error}");
    }

    #[test]
    fn an_image_that_was_replaced_is_let_go() {
        let dir = tempfile::tempdir().unwrap();
        let (world, (path, data)) = (World::new(), image(dir.path()));
        fs::write(dir.path().join("new.img"), [0; 512]).unwrap();
        fs::rename(dir.path().join("new.img"), &path).unwrap();
        let loops = loops(dir.path(), 0);
        let error = loops.attach(&world.store(), RECORD, &data, true).unwrap_err();
        assert!(error.to_string().contains("replaced"), "{error}");
        assert_eq!((loops.leads_to("/dev/loop0"), world.state().nodes.len()), (None, 0));
    }

    #[test]
    fn the_files_behind_loop_devices_are_told_by_losetup_where_it_can() {
        let dir = tempfile::tempdir().unwrap();
        let loops = loops(dir.path(), 0);
        assert_eq!(loops.files(), [], "busybox's losetup fails");
        fs::write(
            dir.path().join("listed"),
            "/dev/loop0       254:1   12\n/dev/loop1 \n/dev/loop12  0:44   99\n",
        )
        .unwrap();
        let file = |dev, inode| DataId::File(dev, inode);
        let told = [("loop0".to_owned(), file(0xfe01, 12)), ("loop12".to_owned(), file(44, 99))];
        assert_eq!(loops.files(), told);
    }

    /// Whoever attaches is killed after any of its steps: what it left is found by the record.
    #[test]
    fn no_loop_device_is_ever_without_its_record() {
        for steps in 1..4 {
            let dir = tempfile::tempdir().unwrap();
            let (world, (path, data)) = (World::new(), image(dir.path()));
            let loops = loops(dir.path(), 1);
            world.kill_after(steps);
            // xenstore answers nothing after the step that is the last.
            drop(loops.attach(&world.store(), RECORD, &data, true));
            let found = world.get(RECORD);
            for n in 0..4 {
                let device = format!("/dev/loop{n}");
                let ours = loops.leads_to(&device).is_some_and(|at| at == path);
                assert!(!ours || found == Some(recorded(&device, &path)), "{found:?}");
            }
        }
    }

    #[test]
    fn only_what_leads_to_the_image_is_detached_removed_or_not() {
        let dir = tempfile::tempdir().unwrap();
        let loops = loops(dir.path(), 0);
        lead(dir.path(), "/dev/loop1", "/disks/a.img (deleted)");
        lead(dir.path(), "/dev/loop2", "/disks/other.img");
        let detach = |device: &str| {
            let text = format!("{device} 2049:12 /disks/a.img");
            loops.detach_from(Record::read(&text).unwrap()).unwrap()
        };
        assert!(detach("/dev/loop1"));
        assert!(!detach("/dev/loop2"));
        assert!(!detach("/dev/loop3"));
        assert!(loops.leads_to("/dev/loop1").is_none() && loops.leads_to("/dev/loop2").is_some());
    }

    #[test]
    fn an_image_that_was_renamed_while_it_was_attached_is_detached() {
        for (removed, listed) in [(false, false), (false, true), (true, true)] {
            let dir = tempfile::tempdir().unwrap();
            let (world, (path, data)) = (World::new(), image(dir.path()));
            let loops = loops(dir.path(), 0);
            loops.attach(&world.store(), RECORD, &data, true).unwrap();
            if listed {
                let meta = fs::metadata(&path).unwrap();
                let (of, inode) = (meta.dev(), meta.ino());
                let line =
                    format!("/dev/loop0 {}:{} {inode}\n", rustix::fs::major(of), rustix::fs::minor(of));
                fs::write(dir.path().join("listed"), line).unwrap();
            }
            // sysfs follows a rename.
            let new = format!("{}/new.img", dir.path().display());
            fs::rename(&path, &new).unwrap();
            lead(dir.path(), "/dev/loop0", &if removed { format!("{new} (deleted)") } else { new.clone() });
            if removed {
                fs::remove_file(&new).unwrap();
            }
            // Another file in its place is nothing of ours.
            fs::write(&path, [0; 512]).unwrap();
            lead(dir.path(), "/dev/loop9", &new);
            loops.detach(&world.store(), RECORD).unwrap();
            assert_eq!(loops.leads_to("/dev/loop0"), None, "removed: {removed}, listed: {listed}");
            assert!(world.state().nodes.is_empty() && loops.leads_to("/dev/loop9").is_some());
        }
    }
}
