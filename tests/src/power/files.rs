//! Files on a file system: each record replaces one file (write another, sync it, rename it over,
//! sync the directory), so that after any end each is whole, old or new.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::thread;

use anyhow::{Context, Result};

use super::ack::{self, Ack};
use super::plan::{self, FILE_SLOTS, FILE_WRITERS};
use super::stamp::{self, SECTOR_BYTES};
use super::{Verdict, Version, remember, remembered};

/// A file's first sector as its place: files of different names hold different sectors.
fn place(writer: u32, slot: u32) -> u64 {
    u64::from(writer * FILE_SLOTS + slot) << 32
}

fn path(dir: &Path, writer: u32, slot: u32) -> PathBuf {
    dir.join(format!("{writer}-{slot}"))
}

/// Replaces files in `dir` until that fails; tells on the console what is safe, as `PF files=`.
///
/// # Errors
/// When the console cannot be written.
pub fn write(dir: &Path, epoch: u32) -> Result<()> {
    let (tell, acks) = ack::acks();
    thread::scope(|scope| {
        for writer in 0..FILE_WRITERS {
            let tell = tell.clone();
            scope.spawn(move || {
                if let Err(error) = replace_files(dir, writer, epoch, &tell) {
                    println!("PF files_stopped={writer} {error:#}");
                }
            });
        }
        drop(tell);
        ack::tell("files", FILE_WRITERS, &acks).context("cannot tell what is safe")
    })
}

fn replace_files(dir: &Path, writer: u32, epoch: u32, tell: &Sender<Ack>) -> Result<()> {
    for seq in 1.. {
        replace(dir, writer, Version { epoch, seq })?;
        tell.send((writer, seq))?;
    }
    Ok(())
}

fn replace(dir: &Path, writer: u32, version: Version) -> Result<()> {
    let (slot, sectors) = plan::file(writer, version);
    let first = place(writer, slot);
    let content: Vec<u8> =
        (first..first + u64::from(sectors)).flat_map(|place| stamp::sector(place, version)).collect();
    let new = dir.join(format!("new-{writer}"));
    let mut file = File::create(&new).context("create")?;
    file.write_all(&content).context("write")?;
    file.sync_all().context("sync")?;
    fs::rename(&new, path(dir, writer, slot)).context("rename")?;
    File::open(dir)?.sync_all().context("sync of the directory")
}

/// Checks the files of epoch `epoch`, as [`super::raw::check`] does the disk.
///
/// # Errors
/// When something cannot be read or written.
pub fn check(dir: &Path, memory: &Path, epoch: u32, acked: &[u32]) -> Result<Verdict> {
    let mut required = remembered(memory, (FILE_WRITERS * FILE_SLOTS) as usize)?;
    for (writer, &newest) in (0..).zip(acked) {
        for version in (1..=newest).map(|seq| Version { epoch, seq }) {
            let (slot, _) = plan::file(writer, version);
            let entry = required.get_mut((writer * FILE_SLOTS + slot) as usize);
            *entry.context("more writers than there are")? = version;
        }
    }
    let mut verdict = Verdict::default();
    for (index, required) in (0..).zip(&mut required) {
        let (writer, slot) = (index / FILE_SLOTS, index % FILE_SLOTS);
        let path = path(dir, writer, slot);
        let name = path.display().to_string();
        match read(&path, writer, slot)? {
            Ok(found) => {
                verdict.judge(&name, *required, found, epoch);
                *required = found;
            }
            Err(why) => verdict.violations.push(format!("{name}: {why}")),
        }
    }
    remember(memory, &required)?;
    Ok(verdict)
}

/// When the file was written; `NEVER` where there is none; or what is wrong with it.
fn read(path: &Path, writer: u32, slot: u32) -> Result<Result<Version, String>> {
    let content = match fs::read(path) {
        Ok(content) => content,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Ok(Version::NEVER)),
        Err(error) => return Ok(Err(format!("damaged: {error}"))),
    };
    let mut versions = Vec::new();
    for (place, sector) in (place(writer, slot)..).zip(content.chunks(SECTOR_BYTES)) {
        match stamp::read(place, sector) {
            Ok(version) => versions.push(version),
            Err(why) => return Ok(Err(why)),
        }
    }
    versions.dedup();
    Ok(match versions.as_slice() {
        [version] if *version != Version::NEVER => {
            let planned = plan::file(writer, *version);
            if planned == (slot, u32::try_from(content.len() / SECTOR_BYTES)?) {
                Ok(*version)
            } else {
                Err(format!("torn: {version} has another length or another name"))
            }
        }
        [] => Err("torn: it is empty".to_owned()),
        _ => Err("torn: it holds several versions, or zeros".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Record 1 of epoch 1 of writer 0: the name of its file.
    fn first_file(dir: &Path) -> PathBuf {
        let version = Version { epoch: 1, seq: 1 };
        replace(dir, 0, version).unwrap();
        path(dir, 0, plan::file(0, version).0)
    }

    fn checked(dir: &Path, epoch: u32, acked: &[u32]) -> Vec<String> {
        let memory = dir.join("memory");
        check(dir, &memory, epoch, acked).unwrap().violations
    }

    #[test]
    fn whole_files_are_well() {
        let dir = tempfile::tempdir().unwrap();
        first_file(dir.path());
        let memory = dir.path().join("memory");
        let verdict = check(dir.path(), &memory, 1, &[1, 0, 0, 0]).unwrap();
        assert_eq!((verdict.checked, verdict.acked, verdict.newer), (1, 1, 0));
        assert_eq!(verdict.violations, Vec::<String>::new());
    }

    #[test]
    fn a_missing_a_short_and_a_torn_file_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let file = first_file(dir.path());
        let whole = fs::read(&file).unwrap();
        fs::remove_file(&file).unwrap();
        assert!(checked(dir.path(), 1, &[1, 0, 0, 0])[0].contains("lost"));
        let (_, short) = whole.split_at(SECTOR_BYTES);
        for content in [short, b"", &whole[..whole.len() - SECTOR_BYTES], &whole[..whole.len() - 1]] {
            fs::write(&file, content).unwrap();
            assert_eq!(checked(dir.path(), 1, &[1, 0, 0, 0]).len(), 1);
        }
        let mut holed = whole.clone();
        holed[..SECTOR_BYTES].fill(0);
        fs::write(&file, holed).unwrap();
        assert_eq!(checked(dir.path(), 1, &[1, 0, 0, 0]).len(), 1);
        fs::write(&file, whole).unwrap();
        assert_eq!(checked(dir.path(), 1, &[1, 0, 0, 0]), Vec::<String>::new());
    }
}
