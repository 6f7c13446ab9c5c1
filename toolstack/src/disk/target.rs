//! What a disk's target stands for: a PV disk of the stub, memory of the stub, or an NBD server's export.

use std::cell::LazyCell;

use anyhow::{Context, Result, bail};

use super::data::{Data, DataId};
use super::disk_file::{DiskFile, DiskStorage, SUFFIX};
use super::in_use::{self, Exists};
use super::names::{LookUp, look_up};
use super::node::DiskNode;
use super::stack::{self, Block};
use crate::config::fit_for_xl;
use crate::host::Host;
use crate::text::printable;
use crate::xenstore::Store;

/// Longer paths are refused.
const PATH_MAX: usize = 1024;

/// A disk and where its data is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Disk {
    /// As libxl wrote it.
    pub node: DiskNode,
    /// A checked path, bytes of RAM, or an export.
    pub storage: DiskStorage,
    /// The serial number the guest reads; `None`: the stub's default.
    pub serial: Option<String>,
    /// How long requests wait for a storage backend, ms; 0: no limit; `None`: as the configuration says.
    pub backend_timeout_ms: Option<u64>,
}

/// Finds out what the disks of a guest lead to, and makes sure that it can be used: that the data can be
/// read, or written, and that nobody uses it in a way that forbids this.
///
/// # Errors
/// One line that names the disk, the path and the reason.
pub fn resolve(store: &dyn Store, host: &dyn Host, nodes: &[DiskNode]) -> Result<Vec<Disk>> {
    // If Xen does not answer, the domain may exist.
    let exists: Exists<'_> = &|domid| host.domain(domid).map_or(true, |found| found.is_some());
    let mut disks: Vec<Disk> = Vec::new();
    let mut seen: Vec<(&DiskNode, DataId)> = Vec::new();
    // Kept open until all are checked: while a file is open, its inode is given to no other.
    let mut open = Vec::new();
    // sysfs has a file for each: not read where all disks are in memory.
    let blocks = LazyCell::new(stack::host_blocks);
    for node in nodes {
        let label = node.label();
        let (disk, data) =
            follow(node, &|name| host.look_up(name)).with_context(|| format!("disk {label}"))?;
        if let Some(other) = same_export(&disks, &disk) {
            bail!("disk {label}: {}: is disk {} too", disk.node.target, other.node.label());
        }
        if let Some(data) = data {
            in_use::check(store, exists, &blocks, &data, !node.read_only)
                .with_context(|| format!("disk {label}"))?;
            // The stub is not made yet, so the check above cannot find two disks of this guest the same.
            if let Some((other, what)) = clash(&blocks, &seen, node, data.identity) {
                bail!("disk {label}: {}: {what} disk {} too", data.asked, other.label());
            }
            seen.push((node, data.identity));
            open.push(data);
        }
        disks.push(disk);
    }
    Ok(disks)
}

/// The disk among those `seen` whose data is that of `node`, or overlaps with it, and how the two are
/// related. None if both are only read.
fn clash<'a>(
    blocks: &[Block],
    seen: &[(&'a DiskNode, DataId)],
    node: &DiskNode,
    data: DataId,
) -> Option<(&'a DiskNode, &'static str)> {
    let related = stack::related(blocks, data);
    let (other, theirs) = seen
        .iter()
        .find(|(other, theirs)| related.contains(*theirs) && !(other.read_only && node.read_only))?;
    Some((other, if *theirs == data { "is" } else { "holds data of" }))
}

/// The disk among those `seen` that has the same export, unless both only read it.
fn same_export<'a>(seen: &'a [Disk], disk: &Disk) -> Option<&'a Disk> {
    let export = |disk: &Disk| match &disk.storage {
        DiskStorage::Nbd { export, .. } => Some(export.clone()),
        DiskStorage::Ram(_) | DiskStorage::Pv { .. } => None,
    };
    let ours = export(disk)?;
    seen.iter()
        .find(|other| export(other).as_ref() == Some(&ours) && !(other.node.read_only && disk.node.read_only))
}

/// Adds the disk that an error of xl, its hotplug script or the stub is about, where the error names the
/// path of the disk's data or the disk's number.
pub fn name_disk(error: anyhow::Error, disks: &[Disk]) -> anyhow::Error {
    let text = format!("{error:#}");
    let concerns = |disk: &&Disk| {
        let by_path = match &disk.storage {
            DiskStorage::Pv { target, .. } => text.contains(&format!(" {target}: ")),
            DiskStorage::Ram(_) | DiskStorage::Nbd { .. } => false,
        };
        by_path || text.contains(&format!(": disk {}: ", disk.node.disk))
    };
    match disks.iter().find(concerns) {
        Some(disk) => error.context(format!("disk {}", disk.node.label())),
        None => error,
    }
}

/// Follows a disk's target. Its data is opened if it is in this domain.
fn follow(node: &DiskNode, look_up: LookUp<'_>) -> Result<(Disk, Option<Data>)> {
    let (target, named) = (&node.target, node.target.ends_with(SUFFIX));
    let file = if named {
        check_path(target).context("target")?;
        DiskFile::load(target, look_up)?
    } else {
        let storage = DiskStorage::Pv { target: target.clone(), backend: None };
        DiskFile { storage, serial: None, backend_timeout_ms: None }
    };
    let data = match &file.storage {
        DiskStorage::Nbd { tls: Some(key), .. } => {
            // Only judged here: it is read again when there is a stub to take it.
            key.read().with_context(|| target.clone())?;
            None
        }
        DiskStorage::Ram(_) | DiskStorage::Nbd { tls: None, .. } => None,
        DiskStorage::Pv { target: path, backend } => {
            let place = || if named { format!("{target}: target") } else { "target".to_owned() };
            check_path(path).with_context(place)?;
            match backend {
                // Only the other domain can check what it has.
                Some(_) => None,
                None if path.ends_with(SUFFIX) => {
                    bail!("{target}: target: {path}: a disk file cannot lead to another")
                }
                None => Some(Data::open(path, !node.read_only).with_context(place)?),
            }
        }
    };
    let disk = Disk {
        node: node.clone(),
        storage: file.storage,
        serial: file.serial,
        backend_timeout_ms: file.backend_timeout_ms,
    };
    Ok((disk, data))
}

/// What the target at `path` stands for, in words.
///
/// # Errors
/// One line that names the file, and the key and value where it is a disk file.
pub fn describe(path: &str) -> Result<String> {
    let node = DiskNode { target: path.to_owned(), read_only: true, ..DiskNode::default() };
    let (disk, _) = follow(&node, &look_up)?;
    let storage = match &disk.storage {
        DiskStorage::Ram(bytes) => format!("RAM disk of {}", bytesize::ByteSize(*bytes)),
        DiskStorage::Pv { target, backend: None } => format!("PV disk of {target}"),
        DiskStorage::Pv { target, backend: Some(domain) } => {
            format!("PV disk of {target} in domain {domain}")
        }
        DiskStorage::Nbd { export, network, tls } => {
            let over = if tls.is_some() { ", over TLS" } else { "" };
            let ours = network
                .address
                .map_or_else(|| "a leased address".to_owned(), |given| format!("the address {}", given.ours));
            format!("NBD disk of {export}{over}, by {ours}")
        }
    };
    Ok(disk.serial.map_or(storage.clone(), |serial| format!("{storage}, serial {serial}")))
}

/// A path that can be handed to xl and means the same there.
fn check_path(path: &str) -> Result<()> {
    let fit = fit_for_xl(path) && !path.ends_with([',', ' ']) && path.len() <= PATH_MAX;
    if !path.starts_with('/') || !fit {
        bail!(
            "`{}`: must be an absolute path of at most {PATH_MAX} bytes, without quotes, backslashes or control characters",
            printable(path, 120)
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::data::Number;
    use crate::fake::World;

    fn node(target: &str) -> DiskNode {
        DiskNode { disk: 51712, name: "xvda".to_owned(), target: target.to_owned(), ..DiskNode::default() }
    }

    fn resolve_one(target: &str) -> Result<Disk> {
        let world = World::new();
        Ok(resolve(&world.store(), &world.host(), &[node(target)])?.remove(0))
    }

    #[test]
    fn an_image_is_a_pv_disk_and_a_disk_file_what_it_says() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        std::fs::write(at("d.img"), [0; 1024]).unwrap();
        std::fs::write(at("ram.pilotfish"), "storage = \"ram\"\nsize = \"1MiB\"\nserial = \"s1\"").unwrap();
        std::fs::write(at("pv.pilotfish"), format!("storage = \"pv\"\ntarget = \"{}\"", at("d.img")))
            .unwrap();

        let here = DiskStorage::Pv { target: at("d.img"), backend: None };
        assert_eq!(resolve_one(&at("d.img")).unwrap().storage, here);
        let ram = resolve_one(&at("ram.pilotfish")).unwrap();
        assert_eq!((ram.storage, ram.serial.as_deref()), (DiskStorage::Ram(1 << 20), Some("s1")));
        assert_eq!(resolve_one(&at("pv.pilotfish")).unwrap().storage, here);
        let far = "storage = \"pv\"\ntarget = \"/not/in/this/domain\"\nbackend = \"store\"";
        std::fs::write(at("far.pilotfish"), far).unwrap();
        let storage = resolve_one(&at("far.pilotfish")).unwrap().storage;
        let expected =
            DiskStorage::Pv { target: "/not/in/this/domain".into(), backend: Some("store".into()) };
        assert_eq!(storage, expected);
    }

    #[test]
    fn an_export_is_one_disk_of_a_guest_unless_it_is_only_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let write = |name: &str, export: &str| {
            let source = "storage = \"nbd\"\naddress = \"10.0.0.6/24\"\nserver = \"nbd://10.0.0.5";
            std::fs::write(path(name), format!("{source}{export}\"")).unwrap();
        };
        write("a.pilotfish", "/x");
        write("b.pilotfish", ":10809/x");
        write("c.pilotfish", ":10810/x");
        let world = World::new();
        let resolved = |second: &str, read_only: bool| {
            let mut nodes = [node(&path("a.pilotfish")), node(&path(second))];
            nodes[1].disk = 51728;
            nodes.iter_mut().for_each(|node| node.read_only = read_only);
            resolve(&world.store(), &world.host(), &nodes)
        };
        let error = format!("{:#}", resolved("b.pilotfish", false).unwrap_err());
        assert!(error.ends_with("b.pilotfish: is disk xvda (51712) too"), "{error}");
        assert_eq!(resolved("b.pilotfish", true).unwrap().len(), 2);
        assert_eq!(resolved("c.pilotfish", false).unwrap().len(), 2);
        let told = describe(&path("a.pilotfish")).unwrap();
        assert_eq!(told, "NBD disk of nbd://10.0.0.5:10809/x, by the address 10.0.0.6");
    }

    #[test]
    fn disks_of_a_guest_share_data_only_for_reading() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        std::fs::write(path("a.img"), [0; 512]).unwrap();
        std::os::unix::fs::symlink(path("a.img"), path("b.img")).unwrap();
        let world = World::new();
        for (first, second, free) in
            [(true, true, true), (true, false, false), (false, true, false), (false, false, false)]
        {
            let mut nodes = [node(&path("a.img")), node(&path("b.img"))];
            (nodes[0].read_only, nodes[1].read_only) = (first, second);
            (nodes[1].disk, nodes[1].name) = (51728, "xvdb".to_owned());
            let done = resolve(&world.store(), &world.host(), &nodes);
            assert_eq!(done.is_ok(), free, "read-only: {first}, {second}");
            if let Err(e) = done {
                assert!(e.to_string().starts_with("disk xvdb (51728): "), "{e:#}");
                assert!(e.to_string().ends_with("b.img: is disk xvda (51712) too"), "{e:#}");
            }
        }
    }

    #[test]
    fn disks_of_a_guest_that_overlap_are_seen_whichever_comes_first() {
        let (disk, part, other) = (Number(8, 0), Number(8, 1), Number(8, 2));
        let blocks =
            [Block::alone("sda", disk), Block::part("sda1", part, "sda"), Block::part("sda2", other, "sda")];
        let (first, mut second) = (node("/a"), node("/b"));
        let clash = |a, b, second: &DiskNode| {
            let seen = [(&first, DataId::Device(a))];
            clash(&blocks, &seen, second, DataId::Device(b)).map(|(_, what)| what)
        };
        assert_eq!(clash(disk, disk, &second), Some("is"));
        assert_eq!(clash(disk, part, &second), Some("holds data of"));
        assert_eq!(clash(part, disk, &second), Some("holds data of"));
        assert_eq!(clash(part, other, &second), None);
        second.read_only = true;
        assert!(clash(disk, part, &second).is_some(), "the first one writes");
        let reader = DiskNode { read_only: true, ..node("/a") };
        let seen = [(&reader, DataId::Device(disk))];
        assert!(super::clash(&blocks, &seen, &second, DataId::Device(part)).is_none());
    }

    #[test]
    fn an_error_of_another_program_gets_the_disks_name() {
        let disk = |number, name: &str, target: &str| Disk {
            node: DiskNode { disk: number, name: name.to_owned(), ..DiskNode::default() },
            storage: DiskStorage::Pv { target: target.to_owned(), backend: None },
            serial: None,
            backend_timeout_ms: None,
        };
        let disks = [disk(51712, "xvda", "/a"), disk(2048, "sda", "/a.img")];
        for (text, label) in [
            ("xl create: Domain 9:script: /a.img: in use by domain 3", "disk sda (2048): xl"),
            ("xl create: Domain 9:script: /a: in use by domain 3", "disk xvda (51712): xl"),
            ("the stub says: disk 2048: PV disk 51728: no backend", "disk sda (2048): the stub"),
            ("the stub says: no memory", "the stub"),
        ] {
            let named = format!("{:#}", name_disk(anyhow::Error::msg(text), &disks));
            assert!(named.starts_with(label) && named.ends_with(text), "{named}");
        }
    }

    #[test]
    fn a_target_that_cannot_be_served_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        std::fs::write(at("odd.img"), [0; 1000]).unwrap();
        std::fs::write(at("empty.img"), []).unwrap();
        std::fs::write(
            at("loop.pilotfish"),
            format!("storage = \"pv\"\ntarget = \"{}\"", at("loop.pilotfish")),
        )
        .unwrap();
        std::fs::write(at("gone.pilotfish"), "storage = \"pv\"\ntarget = \"/nowhere/at/all\"").unwrap();
        for (target, what) in [
            (at("odd.img"), "1000 bytes"),
            (at("empty.img"), "0 bytes"),
            (at("no.img"), "no.img"),
            (at("no.pilotfish"), "no.pilotfish"),
            (at("loop.pilotfish"), "cannot lead to another"),
            (at("gone.pilotfish"), "/nowhere/at/all"),
            (dir.path().to_str().unwrap().to_owned(), "neither"),
            ("/dev/null".to_owned(), "neither"),
            ("disk.img".to_owned(), "absolute"),
            (String::new(), "absolute"),
            ("/a\"; b".to_owned(), "quotes"),
            ("/a\nb".to_owned(), "control"),
        ] {
            let error = format!("{:#}", resolve_one(&target).unwrap_err());
            assert!(error.starts_with("disk xvda (51712): target: ") || target.ends_with(SUFFIX), "{error}");
            assert!(error.contains(what) && !error.contains('\n'), "{target}: {error}");
        }
    }
}
