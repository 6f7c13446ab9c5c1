//! What a device model in a Linux domain runs, as far as this machine has it: sizes of files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cpio::newc;

use crate::{elf, paths};

/// Modules of the tests' dom0 that a disk from the host's own storage does not need.
const NETWORK: [&str; 6] = ["bridge", "llc", "nbd", "stp", "xen_netback", "xen_netfront"];

/// A kernel with the modules that a domain loads.
#[derive(Clone, Debug, Default)]
pub struct Kernel {
    /// Its release.
    pub release: String,
    /// Bytes of its image.
    pub image_bytes: u64,
    /// Bytes of the modules in memory's file system, by name.
    pub modules: BTreeMap<String, u64>,
}

/// A program with its libraries.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its path.
    pub path: PathBuf,
    /// Bytes of its file.
    pub bytes: u64,
    /// How many libraries it is linked to, and their bytes.
    pub libraries: (u64, u64),
}

/// What was found here.
#[derive(Clone, Debug, Default)]
pub struct Others {
    /// dom0 of the tests: Debian's kernel with the modules of a storage domain.
    pub kernel: Option<Kernel>,
    /// QEMU's device models, as Debian has them for this machine.
    pub qemu: Option<Program>,
}

/// Looks for them: in the cache of the set-up, and where Debian installs QEMU.
#[must_use]
pub fn find() -> Others {
    Others { kernel: kernel().ok(), qemu: qemu().ok() }
}

fn kernel() -> Result<Kernel> {
    let entries = fs::read_dir(paths::cache()?)?.filter_map(|entry| Some(entry.ok()?.path()));
    let is_userland = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("userland-4.20"))
            && path.join("dom0.cpio").exists()
    };
    let newest =
        entries.filter(is_userland).max_by_key(|path| fs::metadata(path).and_then(|m| m.modified()).ok());
    let dir = newest.context("the set-up has made no dom0 yet")?;
    Ok(Kernel {
        release: fs::read_to_string(dir.join("kernel"))?.trim().to_owned(),
        image_bytes: fs::metadata(dir.join("Image"))?.len(),
        modules: modules(&dir.join("dom0.cpio"))?,
    })
}

/// The modules in an archive of cpio.
fn modules(archive: &Path) -> Result<BTreeMap<String, u64>> {
    let mut found = BTreeMap::new();
    let mut file = std::io::BufReader::new(fs::File::open(archive)?);
    loop {
        let reader = newc::Reader::new(file)?;
        let entry = reader.entry();
        if entry.is_trailer() {
            return Ok(found);
        }
        if let Some(name) =
            Path::new(entry.name()).file_name().and_then(|name| name.to_str()?.strip_suffix(".ko"))
            && !NETWORK.contains(&name)
        {
            found.insert(name.to_owned(), u64::from(entry.file_size()));
        }
        file = reader.finish()?;
    }
}

fn qemu() -> Result<Program> {
    let path = PathBuf::from("/usr/bin/qemu-system-aarch64");
    let dirs =
        ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib", "/lib64"].map(PathBuf::from);
    let libraries = elf::closure(std::slice::from_ref(&path), &dirs)?;
    let bytes = |path: &PathBuf| fs::metadata(path).map_or(0, |metadata| metadata.len());
    let sizes = libraries.values().map(bytes);
    Ok(Program { bytes: bytes(&path), libraries: (libraries.len() as u64, sizes.sum()), path })
}
