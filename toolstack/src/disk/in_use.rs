//! Who already uses a disk's data in a way that forbids our use: writing forbids every other use, reading
//! forbids others to write.

use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::data::{Data, DataId, Number};
use super::node;
use super::stack::{self, Block, Related};
use crate::text::printable;
use crate::xenstore::{Store, paths};

/// What dom0 serves to others.
const BACKENDS: &str = "/local/domain/0/backend";
/// The PV disks of blkback among it.
const VBD: &str = "vbd";
/// All PV disks among it: of blkback, of QEMU, of blktap.
const KINDS: [&str; 3] = [VBD, "qdisk", "vbd3"];
/// Other programs open a device exclusively for a moment, as this one does: it counts as held if it is
/// so this many times, with this pause between them.
const HELD_CHECKS: u32 = 5;
const HELD_CHECK_EVERY: Duration = Duration::from_millis(50);

/// Whether Xen has a domain, dying or not.
pub type Exists<'a> = &'a dyn Fn(u16) -> bool;

/// Makes sure that nobody uses `data` in a way that forbids this use; `blocks` are the host's.
///
/// # Errors
/// Who does, after the path, or what could not be asked.
pub fn check(
    store: &dyn Store,
    exists: Exists<'_>,
    blocks: &[Block],
    data: &Data,
    write: bool,
) -> Result<()> {
    // A file has no device of its own that could be opened exclusively.
    let is_device = matches!(data.identity, DataId::Device(_));
    let itself = is_device.then_some(data.path.as_path());
    if let Some(by) = used(store, exists, &stack::related(blocks, data.identity), itself, write)? {
        bail!("{}: in use by {by}", data.asked);
    }
    // A loop device whose file is unknown may lead to this very file.
    for lost in blocks.iter().filter(|block| block.is_lost && !is_device) {
        if let Some(by) = used(store, exists, &stack::related(blocks, lost.identity()), None, write)? {
            bail!(
                "{}: may be in use by {by}: {} leads to a file that its path does not lead to any more; remedy: \
                 install losetup of util-linux, which knows files by their inodes",
                data.asked,
                lost.name
            );
        }
    }
    Ok(())
}

/// Who uses the data, if that forbids our use; `itself` is the path of the data's own device.
fn used(
    store: &dyn Store,
    exists: Exists<'_>,
    related: &Related<'_>,
    itself: Option<&Path>,
    write: bool,
) -> Result<Option<String>> {
    let mounts = read_lossy(Path::new("/proc/self/mountinfo"))?;
    if let Some(at) = mounted(related, write, &mounts, &|path| Number::of_node(Path::new(path))) {
        return Ok(Some(format!("dom0, mounted at {at}")));
    }
    if let Some(by) = attached(store, exists, related, write)? {
        return Ok(Some(by));
    }
    // Last, for it opens devices, where the checks above only read what is known. Who holds a device may
    // only read it, so that alone does not forbid reading.
    Ok(if write { held(related, itself) } else { None })
}

/// A file's text; what is not UTF-8, as a path may be, is replaced.
fn read_lossy(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| path.display().to_string())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Where dom0 has it mounted, if that forbids our use.
fn mounted(
    related: &Related<'_>,
    write: bool,
    mounts: &str,
    number_of: &dyn Fn(&str) -> Option<Number>,
) -> Option<String> {
    mounts.lines().find_map(|line| {
        // proc(5): id, parent, major:minor, root, mount point, options, tags..., -, type, source, options.
        let (mount, file_system) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(2);
        let (number, at) = (mount.next()?, mount.nth(1)?);
        let mut file_system = file_system.split(' ').skip(1);
        let source = unescape(file_system.next()?);
        // The file system's, not the mount's: another mount of it may write.
        let is_read_only = file_system.next()?.split(',').any(|option| option == "ro");
        // btrfs has a number that is no device's.
        let named = source.starts_with("/dev/").then(|| number_of(&source)).flatten();
        let is_ours = [Number::decimal(number), named]
            .into_iter()
            .flatten()
            .any(|n| related.contains(DataId::Device(n)));
        // Two readers do each other no harm; any other pair does.
        (is_ours && (write || !is_read_only)).then(|| unescape(at))
    })
}

/// What stands for a space, tab, newline or backslash in the files of proc: `\` and three octal digits.
fn unescape(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        match part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                bytes.extend(part.bytes().skip(3));
            }
            None => bytes.extend([b"\\", part.as_bytes()].concat()),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The domain that has it as a PV disk, if that forbids our use.
fn attached(
    store: &dyn Store,
    exists: Exists<'_>,
    related: &Related<'_>,
    write: bool,
) -> Result<Option<String>> {
    for kind in KINDS {
        let served = format!("{BACKENDS}/{kind}");
        for domain in store.list(&served)? {
            for disk in store.list(&format!("{served}/{domain}"))? {
                let dir = format!("{served}/{domain}/{disk}");
                // Without a mode it may write.
                let writes = store.read(&format!("{dir}/mode"))?.is_none_or(|m| m.starts_with('w'));
                if !(write || writes) || !data_of(store, &dir)?.is_some_and(|data| related.contains(data)) {
                    continue;
                }
                // A domain that was killed may leave its nodes behind.
                let is_stale = domain.parse().is_ok_and(|domid| !exists(domid));
                if is_stale && kind == VBD {
                    // Xen has not even a dying domain of this number: blkback has none of its pages mapped,
                    // so no request of it is under way.
                    continue;
                }
                let name = store.read(&format!("{}/{domain}/name", paths::DOMAINS))?;
                let name = name.map_or(String::new(), |name| format!(" ({})", printable(&name, 60)));
                let disk = node::label(store, &dir, &disk)?;
                let remedy = if is_stale {
                    // A program that serves it may live on, with writes that it has not made yet.
                    format!(", which is gone; remedy: end its QEMU, if that runs, and then xenstore-rm {dir}")
                } else {
                    String::new()
                };
                return Ok(Some(format!("domain {domain}{name} as its disk {disk}{remedy}")));
            }
        }
    }
    Ok(None)
}

/// What the storage backend in `dir` has opened.
fn data_of(store: &dyn Store, dir: &str) -> Result<Option<DataId>> {
    if let Some(number) = store.read(&format!("{dir}/physical-device"))? {
        return Ok(Number::hex(&number).map(DataId::Device));
    }
    // QEMU and blktap open files themselves: `params` is the format, a colon and the path. A disk of
    // blkback without a device is being attached; the hotplug script checks it under the lock.
    let params = store.read(&format!("{dir}/params"))?.unwrap_or_default();
    let path = params.split_once(':').map(|(_, path)| path);
    Ok(path.and_then(|path| fs::metadata(path).ok()).as_ref().map(DataId::of))
}

/// Opens the data exclusively for a moment, as a file system, swap, LVM or md does. The kernel allows
/// that to only one user at a time of a disk and its partitions.
fn held(related: &Related<'_>, itself: Option<&Path>) -> Option<String> {
    let loops = related.parts.iter().filter(|b| b.is_loop());
    let loops = loops.map(|b| PathBuf::from(format!("/dev/{}", b.name)));
    itself.map(Path::to_owned).into_iter().chain(loops).find(|device| is_held(device)).map(|_| {
        let swaps = read_lossy(Path::new("/proc/swaps")).unwrap_or_default();
        format!("dom0, {}", holder(related, &swaps, &|path| Number::of_node(Path::new(path))))
    })
}

fn is_held(device: &Path) -> bool {
    // On a block device O_EXCL fails with EBUSY while the kernel has given it to somebody (open(2)).
    let flags = (OFlags::EXCL | OFlags::CLOEXEC).bits().cast_signed();
    (0..HELD_CHECKS).all(|check| {
        if check > 0 {
            std::thread::sleep(HELD_CHECK_EVERY);
        }
        // Any other error says nothing about use: a loop device may have disappeared by now.
        let opened = File::options().read(true).custom_flags(flags).open(device);
        opened.is_err_and(|e| e.raw_os_error() == Some(Errno::BUSY.raw_os_error()))
    })
}

/// What holds it, as far as that is known.
fn holder(related: &Related<'_>, swaps: &str, number_of: &dyn Fn(&str) -> Option<Number>) -> String {
    // proc(5): a line of titles, then the file and more.
    let mut files = swaps.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    if files.any(|file| number_of(&unescape(file)).is_some_and(|n| related.contains(DataId::Device(n)))) {
        return "as swap; remedy: swapoff".to_owned();
    }
    match related.parts.iter().flat_map(|block| &block.holders).next() {
        Some(above) => format!("where {above} stands on it; remedy: {}", remedy(above)),
        None => "held exclusively (by a mount elsewhere, LVM, md or their like); remedy: unmount it, or see \
            what `lsblk` and `fuser` tell of it"
            .to_owned(),
    }
}

/// The command that makes dom0 release what this device stands on.
fn remedy(above: &str) -> &'static str {
    if above.starts_with("md") {
        "mdadm --stop"
    } else if above.starts_with("dm-") {
        "vgchange -an and a filter in lvm.conf, for LVM; kpartx -d, multipath -f or cryptsetup close for others"
    } else {
        "have its owner let go (bcache, drbd or their like)"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::World;

    /// A device of its own, with nothing on it.
    fn alone(number: Number) -> Block {
        Block::alone("disk", number)
    }

    #[test]
    fn writing_forbids_every_other_domains_use_and_reading_its_writing() {
        let world = World::new();
        for (disk, number, mode) in
            [("6/51712", "7:0", "w"), ("8/51712", "7:1", "r"), ("9/51712", "fe:1", "w")]
        {
            world.set(&format!("{BACKENDS}/vbd/{disk}/physical-device"), number);
            world.set(&format!("{BACKENDS}/vbd/{disk}/mode"), mode);
        }
        world.set(&format!("{BACKENDS}/vbd/6/51712/dev"), "xvda");
        world.set("/local/domain/6/name", "pilotfish-5");
        let by = |number, write| {
            let block = alone(number);
            attached(&world.store(), &|_| true, &Related::alone(&block), write).unwrap()
        };
        assert_eq!((by(Number(7, 2), true), by(Number(7, 2), false)), (None, None));
        let writer = Some("domain 6 (pilotfish-5) as its disk xvda (51712)".to_owned());
        assert_eq!((by(Number(7, 0), true), by(Number(7, 0), false)), (writer.clone(), writer));
        assert_eq!(by(Number(7, 1), true).as_deref(), Some("domain 8 as its disk 51712"));
        assert_eq!(by(Number(7, 1), false), None, "domain 8 reads");
        assert!(by(Number(254, 1), true).is_some(), "numbers are hexadecimal");
    }

    #[test]
    fn what_a_domain_that_is_gone_had_is_free_unless_a_program_serves_it() {
        let world = World::new();
        for (kind, disk) in [("vbd", "6/51712"), ("vbd", "x/51712"), ("qdisk", "6/51728")] {
            let dir = format!("{BACKENDS}/{kind}/{disk}");
            let number = if kind == "vbd" { "7:0" } else { "7:1" };
            world.set(&format!("{dir}/physical-device"), number);
        }
        let by = |minor, exists: bool| {
            let block = alone(Number(7, minor));
            attached(&world.store(), &|_| exists, &Related::alone(&block), true).unwrap()
        };
        assert_eq!(by(0, true).as_deref(), Some("domain 6 as its disk 51712"));
        assert_eq!(
            by(0, false).as_deref(),
            Some("domain x as its disk 51712"),
            "no domain that could be asked for"
        );
        world.clear(&format!("{BACKENDS}/vbd/x"));
        assert_eq!(by(0, false), None);
        assert_eq!(by(1, true).as_deref(), Some("domain 6 as its disk 51728"));
        let gone = by(1, false).unwrap();
        assert!(gone.contains("gone; remedy: ") && gone.ends_with("backend/qdisk/6/51728"), "{gone}");
    }

    #[test]
    fn a_loop_device_of_which_nobody_knows_the_file_may_lead_to_any() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.img");
        fs::write(&path, [0; 512]).unwrap();
        let data = Data::open(path.to_str().unwrap(), true).unwrap();
        let world = World::new();
        world.set(&format!("{BACKENDS}/vbd/6/51712/physical-device"), "7:62");
        world.set(&format!("{BACKENDS}/vbd/6/51712/mode"), "r");
        let lost = |is_lost| {
            let mut block = Block::alone("no-such-device", Number(7, 99));
            block.is_lost = is_lost;
            [block]
        };
        let check = |blocks: &[Block], write| check(&world.store(), &|_| true, blocks, &data, write);
        check(&lost(true), true).unwrap();
        world.set(&format!("{BACKENDS}/vbd/6/51712/physical-device"), "7:63");
        let error = check(&lost(true), true).unwrap_err().to_string();
        for words in ["a.img: may be in use by domain 6 as its disk 51712", "no-such-device", "remedy: "] {
            assert!(error.contains(words), "{error}");
        }
        check(&lost(true), false).expect("domain 6 reads");
        check(&lost(false), true).expect("it leads to something known");
    }

    #[test]
    fn a_file_that_qemu_has_opened_is_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.img");
        fs::write(&path, [0; 512]).unwrap();
        let world = World::new();
        world.set(&format!("{BACKENDS}/qdisk/4/51712/params"), &format!("aio:{}", path.display()));
        world.set(&format!("{BACKENDS}/qdisk/4/51712/mode"), "r");
        let data = DataId::of(&fs::metadata(&path).unwrap());
        let by = |write| attached(&world.store(), &|_| true, &stack::related(&[], data), write).unwrap();
        assert_eq!((by(true).as_deref(), by(false)), (Some("domain 4 as its disk 51712"), None));
    }

    #[test]
    fn a_mount_is_known_by_its_device_or_its_source_and_forbids_by_its_file_system() {
        let mounts = "21 1 0:20 / /proc rw,nosuid - proc proc rw\n\
            25 1 7:3 / /a\\040b ro,relatime shared:1 - ext4 /dev/loop3 ro\n\
            26 1 254:16 / /data rw - ext4 /dev/vdb rw\n\
            27 1 0:44 /@ /pool rw shared:2 master:1 - btrfs /dev/vd\\134c rw,subvol=/@\n\
            28 1 254:48 / /bound ro - xfs /dev/vdd rw\n\
            29 1 0:45 / /far rw - nfs4 server:/dev/vdb rw\nnonsense\n";
        let number_of = |path: &str| (path == "/dev/vd\\c").then_some(Number(254, 32));
        let at = |number, write| {
            let block = alone(number);
            mounted(&Related::alone(&block), write, mounts, &number_of)
        };
        let said = |text: &str| Some(text.to_owned());
        assert_eq!((at(Number(254, 1), true), at(Number(254, 1), false)), (None, None));
        assert_eq!((at(Number(7, 3), true), at(Number(7, 3), false)), (said("/a b"), None));
        assert_eq!((at(Number(254, 16), true), at(Number(254, 16), false)), (said("/data"), said("/data")));
        assert_eq!((at(Number(254, 32), true), at(Number(254, 32), false)), (said("/pool"), said("/pool")));
        assert_eq!(at(Number(254, 48), false), said("/bound"), "another mount of it may write");
    }

    #[test]
    fn a_mount_point_that_is_not_utf_8_hides_no_mount() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mountinfo");
        let text =
            b"25 1 7:4 / /\xff\xfe rw - ext4 /dev/\xff rw\n26 1 7:3 / /m\xe9 rw - ext4 /dev/loop3 rw\n";
        fs::write(&path, text).unwrap();
        let mounts = read_lossy(&path).unwrap();
        let at = |minor| mounted(&Related::alone(&alone(Number(7, minor))), true, &mounts, &|_| None);
        assert_eq!((at(3), at(4)), (Some("/m\u{fffd}".to_owned()), Some("/\u{fffd}\u{fffd}".to_owned())));
    }

    #[test]
    fn what_proc_escapes_is_read_and_what_it_does_not_stays() {
        assert_eq!(unescape(r"/a\040b\134\012"), "/a b\\\n");
        assert_eq!(unescape(r"\9\0"), r"\9\0");
        assert_eq!(unescape("/\u{fc}"), "/\u{fc}");
    }

    #[test]
    fn who_holds_a_device_is_told_as_far_as_it_can_be() {
        let swaps = "Filename\tType\tSize\tUsed\tPriority\n/dev/vd\\040b partition 1 0 -2\n";
        let number_of = |path: &str| (path == "/dev/vd b").then_some(Number(254, 16));
        let held = |block: &Block| holder(&Related::alone(block), swaps, &number_of);
        assert_eq!(held(&alone(Number(254, 16))), "as swap; remedy: swapoff");
        let mut block = alone(Number(8, 2));
        assert!(held(&block).contains("exclusively"));
        for (above, remedy) in [("dm-0", "vgchange -an"), ("md127", "mdadm --stop"), ("drbd1", "drbd")] {
            block.holders = vec![above.to_owned()];
            let said = held(&block);
            assert!(said.contains(&format!("where {above} stands on it; remedy: ")), "{said}");
            assert!(said.contains(remedy), "{said}");
        }
    }
}
