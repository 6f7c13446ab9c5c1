//! What a disk's target stands for: a PV disk of the stub, or memory of the stub.

use std::os::unix::fs::FileTypeExt;

use anyhow::{Context, Result, bail, ensure};

use crate::config::fit_for_xl;
use crate::disk_file::{DiskFile, DiskStorage, SUFFIX};
use crate::node::DiskNode;
use crate::text::printable;

/// Bytes in a sector; an image is a whole number of them.
const SECTOR: u64 = 512;
/// Longer paths are refused.
const PATH_MAX: usize = 1024;

/// A disk and where its data lives.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Disk {
    /// As libxl wrote it.
    pub node: DiskNode,
    /// A checked path, or bytes of RAM.
    pub storage: DiskStorage,
    /// The serial number the guest reads; `None`: the stub's default.
    pub serial: Option<String>,
    /// How long requests wait for a backend, 0: for ever; `None`: as the configuration says.
    pub backend_timeout_ms: Option<u64>,
}

/// Follows a disk's target.
///
/// # Errors
/// One line that names the file, and the key and value where it is a disk file.
pub fn resolve(node: DiskNode) -> Result<Disk> {
    let file = if node.target.ends_with(SUFFIX) {
        check_path(&node.target).context("target")?;
        DiskFile::load(&node.target)?
    } else {
        let storage = DiskStorage::Pv { target: node.target.clone(), backend: None };
        DiskFile { storage, serial: None, backend_timeout_ms: None }
    };
    if let DiskStorage::Pv { target: path, backend } = &file.storage {
        // What another domain has, only that domain can look at.
        let checked = if backend.is_some() { check_path(path) } else { check_data(path) };
        if path == &node.target {
            checked.context("target")
        } else {
            checked.with_context(|| format!("{}: target", node.target))
        }?;
    }
    Ok(Disk { node, storage: file.storage, serial: file.serial, backend_timeout_ms: file.backend_timeout_ms })
}

/// What the target at `path` stands for, in words.
///
/// # Errors
/// As [`resolve`].
pub fn describe(path: &str) -> Result<String> {
    let node = DiskNode { disk: 0, target: path.to_owned(), read_only: false, mmio: 0, irq: 0 };
    let disk = resolve(node)?;
    let storage = match &disk.storage {
        DiskStorage::Ram(bytes) => format!("RAM disk of {}", bytesize::ByteSize(*bytes)),
        DiskStorage::Pv { target, backend: None } => format!("PV disk of {target}"),
        DiskStorage::Pv { target, backend: Some(domain) } => {
            format!("PV disk of {target} in domain {domain}")
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

/// A block device, or an image of whole sectors.
fn check_data(path: &str) -> Result<()> {
    check_path(path)?;
    ensure!(!path.ends_with(SUFFIX), "{path}: a disk file cannot lead to another");
    let meta = std::fs::metadata(path).with_context(|| path.to_owned())?;
    if meta.file_type().is_block_device() {
        return Ok(());
    }
    ensure!(meta.is_file(), "{path}: neither a block device nor a raw image");
    let bytes = meta.len();
    ensure!(
        bytes > 0 && bytes % SECTOR == 0,
        "{path}: {bytes} bytes: not a whole number of {SECTOR}-byte sectors"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(target: &str) -> DiskNode {
        DiskNode { disk: 51712, target: target.to_owned(), read_only: false, mmio: 0x0200_0000, irq: 33 }
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
        assert_eq!(resolve(node(&at("d.img"))).unwrap().storage, here);
        let ram = resolve(node(&at("ram.pilotfish"))).unwrap();
        assert_eq!((ram.storage, ram.serial.as_deref()), (DiskStorage::Ram(1 << 20), Some("s1")));
        assert_eq!(resolve(node(&at("pv.pilotfish"))).unwrap().storage, here);
        let far = "storage = \"pv\"\ntarget = \"/not/in/this/domain\"\nbackend = \"store\"";
        std::fs::write(at("far.pilotfish"), far).unwrap();
        let storage = resolve(node(&at("far.pilotfish"))).unwrap().storage;
        let expected =
            DiskStorage::Pv { target: "/not/in/this/domain".into(), backend: Some("store".into()) };
        assert_eq!(storage, expected);
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
            let error = format!("{:#}", resolve(node(&target)).unwrap_err());
            assert!(error.contains(what) && !error.contains('\n'), "{target}: {error}");
        }
    }
}
