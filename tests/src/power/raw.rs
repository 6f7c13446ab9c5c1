//! The raw disk: writers that write with `O_DIRECT` and flush with `fdatasync`, and the check of
//! the image that they leave.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::mpsc::Sender;
use std::thread;

use anyhow::{Context, Result};

use super::ack::{self, Ack};
use super::plan::{self, Extent, RAW_SECTORS, RAW_WRITERS, SLOT_SECTORS};
use super::stamp::{self, SECTOR_BYTES};
use super::{Verdict, Version, remember, remembered};

/// Past the page cache, so that only the flush is between a write and its loss. Linux gives it
/// another number on each architecture.
const O_DIRECT: i32 = if cfg!(target_arch = "aarch64") { 0o200_000 } else { 0o40_000 };
/// What `O_DIRECT` wants of a buffer's address.
const ALIGN: usize = 4096;

/// Writes to `device` until it fails; tells on the console what is safe, as `PF raw=`.
///
/// # Errors
/// When the device cannot be opened or the console not be written.
pub fn write(device: &Path, epoch: u32) -> Result<()> {
    let (tell, acks) = ack::acks();
    let disk = OpenOptions::new()
        .write(true)
        .custom_flags(O_DIRECT)
        .open(device)
        .with_context(|| format!("cannot open {}", device.display()))?;
    thread::scope(|scope| {
        for writer in 0..RAW_WRITERS {
            let tell = tell.clone();
            let disk = &disk;
            scope.spawn(move || {
                if let Err(error) = write_records(disk, writer, epoch, &tell) {
                    println!("PF raw_stopped={writer} {error}");
                }
            });
        }
        // The last writer's end ends the telling.
        drop(tell);
        ack::tell("raw", RAW_WRITERS, &acks).context("cannot tell what is safe")
    })
}

fn write_records(disk: &File, writer: u32, epoch: u32, tell: &Sender<Ack>) -> Result<()> {
    let mut buffer = vec![0; SLOT_SECTORS as usize * SECTOR_BYTES + ALIGN];
    let skip = buffer.as_ptr().align_offset(ALIGN);
    for seq in 1.. {
        let version = Version { epoch, seq };
        for Extent { first, count } in plan::record(writer, version) {
            let bytes = buffer
                .get_mut(skip..skip + count as usize * SECTOR_BYTES)
                .context("the buffer is too short")?;
            for (place, sector) in (u64::from(first)..).zip(bytes.chunks_exact_mut(SECTOR_BYTES)) {
                sector.copy_from_slice(&stamp::sector(place, version));
            }
            disk.write_all_at(bytes, u64::from(first) * SECTOR_BYTES as u64)?;
        }
        disk.sync_data()?;
        tell.send((writer, seq))?;
    }
    Ok(())
}

/// Checks the image of epoch `epoch`, whose last told records are `acked`, against what
/// `memory` remembers of the epochs before, and lets it remember this one.
///
/// # Errors
/// When something cannot be read or written. What is wrong with the image is in the verdict.
pub fn check(image: &Path, memory: &Path, epoch: u32, acked: &[u32]) -> Result<Verdict> {
    let mut required = remembered(memory, RAW_SECTORS as usize)?;
    for (writer, &newest) in (0..).zip(acked) {
        for seq in 1..=newest {
            let version = Version { epoch, seq };
            for Extent { first, count } in plan::record(writer, version) {
                let sectors = required.get_mut(first as usize..(first + count) as usize);
                sectors.context("a record beyond the disk")?.fill(version);
            }
        }
    }
    let mut bytes = vec![0; RAW_SECTORS as usize * SECTOR_BYTES];
    File::open(image)
        .and_then(|mut file| file.read_exact(&mut bytes))
        .with_context(|| format!("cannot read {}", image.display()))?;
    let mut verdict = Verdict::default();
    let mut found = Vec::with_capacity(required.len());
    for ((place, sector), &required) in (0u64..).zip(bytes.chunks_exact(SECTOR_BYTES)).zip(&required) {
        let name = format!("sector {place}");
        match stamp::read(place, sector) {
            Ok(version) => {
                verdict.judge(&name, required, version, epoch);
                if version > required && !planned(place, version) {
                    verdict.violations.push(format!("{name}: {version} was not to be written here"));
                }
                found.push(version);
            }
            Err(why) => {
                verdict.violations.push(format!("{name}: {why}"));
                found.push(required);
            }
        }
    }
    remember(memory, &found)?;
    Ok(verdict)
}

/// Whether that record of the sector's writer writes the sector.
fn planned(place: u64, version: Version) -> bool {
    let place = u32::try_from(place).unwrap_or(u32::MAX);
    let writer = place / (plan::RAW_SLOTS * SLOT_SECTORS);
    plan::record(writer, version)
        .iter()
        .any(|extent| place >= extent.first && place - extent.first < extent.count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    struct Lab {
        dir: tempfile::TempDir,
        image: File,
    }

    impl Lab {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let image = File::create(dir.path().join("image")).unwrap();
            image.set_len(u64::from(RAW_SECTORS) * SECTOR_BYTES as u64).unwrap();
            Self { dir, image }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        fn put(&self, place: u32, sector: &[u8]) {
            self.image.write_all_at(sector, u64::from(place) * SECTOR_BYTES as u64).unwrap();
        }

        fn write(&self, writer: u32, version: Version) {
            for Extent { first, count } in plan::record(writer, version) {
                for place in first..first + count {
                    self.put(place, &stamp::sector(place.into(), version));
                }
            }
        }

        fn check(&self, epoch: u32, acked: &[u32]) -> Verdict {
            check(&self.path("image"), &self.path("memory"), epoch, acked).unwrap()
        }
    }

    /// A sector of the record that no later one of the two overwrites.
    fn place_of(writer: u32, version: Version) -> u32 {
        plan::record(writer, version).last().unwrap().first
    }

    #[test]
    fn what_was_acknowledged_or_is_newer_is_well() {
        let lab = Lab::new();
        for seq in 1..=3 {
            lab.write(5, Version { epoch: 1, seq });
        }
        let verdict = lab.check(1, &[0, 0, 0, 0, 0, 2, 0, 0]);
        assert_eq!(verdict.violations, Vec::<String>::new());
        assert!(verdict.checked > 0 && verdict.acked == verdict.checked && verdict.newer > 0);
        // The next epoch writes nothing: all of it has to stay.
        let verdict = lab.check(2, &[0; 8]);
        assert_eq!(verdict.violations, Vec::<String>::new());
        assert!(verdict.checked > 0 && verdict.acked == 0 && verdict.newer == 0);
    }

    #[test]
    fn a_lost_write_is_found() {
        let lab = Lab::new();
        lab.write(0, Version { epoch: 1, seq: 1 });
        let verdict = lab.check(1, &[2, 0, 0, 0, 0, 0, 0, 0]);
        assert!(verdict.violations.iter().all(|what| what.contains("lost")));
        assert!(!verdict.violations.is_empty());
    }

    #[test]
    fn what_an_earlier_life_left_may_not_vanish() {
        let lab = Lab::new();
        let version = Version { epoch: 1, seq: 1 };
        lab.write(3, version);
        assert!(lab.check(1, &[0; 8]).violations.is_empty());
        lab.put(place_of(3, version), &[0; SECTOR_BYTES]);
        assert_eq!(lab.check(2, &[0; 8]).violations.len(), 1);
    }

    #[test]
    fn a_torn_sector_is_found_acknowledged_or_not() {
        let lab = Lab::new();
        let (old, new) = (Version { epoch: 1, seq: 1 }, Version { epoch: 1, seq: 2 });
        lab.write(1, old);
        let place = place_of(1, old);
        let mut torn = stamp::sector(place.into(), old);
        let (_, tail) = torn.split_at_mut(256);
        tail.copy_from_slice(&stamp::sector(place.into(), new)[256..]);
        lab.put(place, &torn);
        for acked in [[0; 8], [0, 1, 0, 0, 0, 0, 0, 0]] {
            let violations = lab.check(1, &acked).violations;
            assert!(violations.len() == 1 && violations[0].contains("torn"), "{violations:?}");
        }
    }

    #[test]
    fn a_write_after_its_writers_end_is_found() {
        let lab = Lab::new();
        lab.write(2, Version { epoch: 1, seq: 1 });
        assert!(lab.check(1, &[0; 8]).violations.is_empty());
        lab.write(2, Version { epoch: 1, seq: 2 });
        let violations = lab.check(2, &[0; 8]).violations;
        assert!(!violations.is_empty() && violations.iter().all(|what| what.contains("late")));
    }

    #[test]
    fn a_write_to_the_wrong_place_is_found() {
        let lab = Lab::new();
        let version = Version { epoch: 1, seq: 1 };
        let place = place_of(4, version);
        lab.put(place + SLOT_SECTORS, &stamp::sector(place.into(), version));
        assert_eq!(lab.check(1, &[0; 8]).violations.len(), 1);
    }
}
