//! Which block devices hold the same data: partitions and the whole, what device mapper and md make
//! of others, loop devices. From sysfs, where each device names its neighbours.

use std::fs;
use std::path::Path;

use super::data::{DataId, Number};
use super::loops::{Loops, backing, backing_file};

/// All block devices, partitions too.
const CLASS: &str = "/sys/class/block";

/// A block device.
#[derive(Debug)]
pub struct Block {
    /// Its name, as in `/dev`.
    pub name: String,
    /// Its number.
    pub number: Number,
    /// The name of the disk that it is a partition of.
    whole: Option<String>,
    /// The names of those that stand on it: device mapper's, md's.
    pub holders: Vec<String>,
    /// What a loop device leads to.
    backing: Option<DataId>,
    /// A loop device that leads to a file which cannot be identified.
    pub is_lost: bool,
}

impl Block {
    /// One that nothing stands on.
    #[cfg(test)]
    pub fn alone(name: &str, number: Number) -> Block {
        Block {
            name: name.to_owned(),
            number,
            whole: None,
            holders: Vec::new(),
            backing: None,
            is_lost: false,
        }
    }

    /// One that is a partition.
    #[cfg(test)]
    pub fn part(name: &str, number: Number, whole: &str) -> Block {
        Block { whole: Some(whole.to_owned()), ..Block::alone(name, number) }
    }

    /// What it is.
    pub const fn identity(&self) -> DataId {
        DataId::Device(self.number)
    }

    /// A loop device that leads to something.
    pub const fn is_loop(&self) -> bool {
        self.backing.is_some() || self.is_lost
    }

    /// Whether it is a part of `other`, or made of it.
    fn stands_on(&self, other: &Block) -> bool {
        self.whole.as_ref() == Some(&other.name)
            || other.holders.contains(&self.name)
            || self.backing == Some(other.identity())
    }
}

/// All block devices of this host.
pub fn host_blocks() -> Vec<Block> {
    let class = Path::new(CLASS);
    let has_loops = names(class).iter().any(|name| backing_file(&class.join(name)).is_some());
    blocks(class, &if has_loops { Loops::host().files() } else { Vec::new() })
}

/// All block devices there are, with the `files` behind loop devices that losetup knows. A device that
/// disappears during the call is left out.
fn blocks(class: &Path, files: &[(String, DataId)]) -> Vec<Block> {
    let read = |name: String| {
        let entry = fs::canonicalize(class.join(&name)).ok()?;
        let number = Number::decimal(&fs::read_to_string(entry.join("dev")).ok()?)?;
        // Only a partition has this file, and its entry is inside that of its disk.
        let whole = if entry.join("partition").exists() {
            entry.parent()?.file_name()?.to_str().map(str::to_owned)
        } else {
            None
        };
        let file = files.iter().find(|(device, _)| *device == name).map(|(_, file)| *file);
        let backing = backing(&entry, file);
        let is_lost = backing.is_none() && backing_file(&entry).is_some();
        Some(Block { name, number, whole, holders: names(&entry.join("holders")), backing, is_lost })
    };
    names(class).into_iter().filter_map(read).collect()
}

fn names(dir: &Path) -> Vec<String> {
    fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|e| e.file_name().into_string().ok())
        .collect()
}

/// The devices through which data can be read or written.
pub struct Related<'a> {
    /// The data itself, under each name: what a loop device leads to is the same data.
    pub same: Vec<DataId>,
    /// Those that hold it or a part of it, itself included if it is a device.
    pub parts: Vec<&'a Block>,
    /// Those of which it is only a part.
    pub wholes: Vec<&'a Block>,
}

impl Related<'_> {
    /// Data on a device of its own.
    #[cfg(test)]
    pub fn alone(block: &Block) -> Related<'_> {
        Related { same: vec![block.identity()], parts: vec![block], wholes: Vec::new() }
    }

    /// Whether that is one of them.
    pub fn contains(&self, other: DataId) -> bool {
        self.same.contains(&other) || self.parts.iter().chain(&self.wholes).any(|b| b.identity() == other)
    }
}

/// All devices that hold the data, or some of it.
pub fn related(blocks: &[Block], data: DataId) -> Related<'_> {
    let is_new = |found: &[&Block], block: &Block| !found.iter().any(|b| b.number == block.number);
    // A loop device on a loop device: each leads to the next.
    let mut same = vec![data];
    while let Some(backing) = same.last().and_then(|of| blocks.iter().find(|b| b.identity() == *of))
        && let Some(backing) = backing.backing.filter(|backing| !same.contains(backing))
    {
        same.push(backing);
    }
    let leads_to = |of: &[DataId], block: &Block| {
        of.contains(&block.identity()) || block.backing.is_some_and(|backing| of.contains(&backing))
    };
    // Upwards: whoever writes to something that stands on the data writes to the data.
    let mut parts: Vec<&Block> = blocks.iter().filter(|block| leads_to(&same, block)).collect();
    let mut at = 0;
    while let Some(&below) = parts.get(at) {
        parts.extend(blocks.iter().filter(|b| b.stands_on(below) && is_new(&parts, b)).collect::<Vec<_>>());
        at += 1;
    }
    // Downwards: whoever writes to the whole writes to this part too. Other parts of the whole are
    // nobody's concern, so there is no way up again from here.
    let mut wholes: Vec<&Block> = Vec::new();
    let mut above: Vec<&Block> = blocks.iter().filter(|block| same.contains(&block.identity())).collect();
    while let Some(block) = above.pop() {
        // A part of a loop device is a part of its file, and of each other loop device that leads there.
        let file = block.backing.filter(|file| matches!(file, DataId::File(..)));
        for below in blocks.iter().filter(|b| block.stands_on(b) || (file.is_some() && b.backing == file)) {
            if is_new(&parts, below) && is_new(&wholes, below) {
                wholes.push(below);
                above.push(below);
            }
        }
    }
    Related { same, parts, wholes }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    /// A sysfs of a few devices.
    struct Sys(tempfile::TempDir);

    impl Sys {
        fn new() -> Sys {
            let sys = Sys(tempfile::tempdir().unwrap());
            for (name, number) in [("sda", "8:0"), ("sdb", "8:16"), ("dm-0", "253:0"), ("dm-1", "253:1")] {
                sys.disk(name, number);
            }
            for (disk, name, number) in [("sda", "sda1", "8:1"), ("sda", "sda2", "8:2")] {
                sys.partition(disk, name, number);
            }
            // Two volumes on sda2, one of them on sdb as well.
            for (below, above) in [("sda/sda2", "dm-0"), ("sda/sda2", "dm-1"), ("sdb", "dm-1")] {
                fs::write(sys.devices(&format!("{below}/holders/{above}")), []).unwrap();
            }
            sys
        }

        fn devices(&self, name: &str) -> PathBuf {
            self.0.path().join("devices").join(name)
        }

        fn add(&self, at: &str, name: &str, number: &str) {
            let class = self.0.path().join("class");
            fs::create_dir_all(&class).unwrap();
            fs::create_dir_all(self.devices(at).join("holders")).unwrap();
            fs::write(self.devices(at).join("dev"), format!("{number}\n")).unwrap();
            symlink(self.devices(at), class.join(name)).unwrap();
        }

        fn disk(&self, name: &str, number: &str) {
            self.add(name, name, number);
        }

        fn partition(&self, disk: &str, name: &str, number: &str) {
            self.add(&format!("{disk}/{name}"), name, number);
            fs::write(self.devices(&format!("{disk}/{name}")).join("partition"), "1\n").unwrap();
        }

        fn loop_device(&self, name: &str, number: &str, backing: &Path) {
            self.disk(name, number);
            fs::create_dir(self.devices(name).join("loop")).unwrap();
            let text = format!("{}\n", backing.display());
            fs::write(self.devices(name).join("loop/backing_file"), text).unwrap();
        }

        fn blocks(&self, files: &[(String, DataId)]) -> Vec<Block> {
            blocks(&self.0.path().join("class"), files)
        }

        fn related(&self, data: DataId) -> (String, String) {
            let blocks = self.blocks(&[]);
            let found = related(&blocks, data);
            let names = |blocks: &[&Block]| {
                let mut names: Vec<&str> = blocks.iter().map(|b| b.name.as_str()).collect();
                names.sort_unstable();
                names.join(" ")
            };
            (names(&found.parts), names(&found.wholes))
        }
    }

    fn device(major: u32, minor: u32) -> DataId {
        DataId::Device(Number(major, minor))
    }

    #[test]
    fn a_whole_disk_is_its_partitions_and_what_stands_on_them() {
        let sys = Sys::new();
        let of = |data| sys.related(data);
        let text = |parts: &str, wholes: &str| (parts.to_owned(), wholes.to_owned());
        assert_eq!(of(device(8, 0)), text("dm-0 dm-1 sda sda1 sda2", ""));
        assert_eq!(of(device(8, 1)), text("sda1", "sda"), "another partition is another's");
        assert_eq!(of(device(8, 2)), text("dm-0 dm-1 sda2", "sda"));
        assert_eq!(of(device(253, 0)), text("dm-0", "sda sda2"), "another volume is another's");
        assert_eq!(of(device(253, 1)), text("dm-1", "sda sda2 sdb"));
        assert_eq!(of(device(9, 9)), text("", ""));
    }

    #[test]
    fn an_image_is_known_by_every_loop_device_that_leads_to_it() {
        let sys = Sys::new();
        let (image, other) = (sys.0.path().join("a.img"), sys.0.path().join("same.img"));
        fs::write(&image, [0; 512]).unwrap();
        fs::hard_link(&image, &other).unwrap();
        sys.loop_device("loop4", "7:4", &image);
        sys.loop_device("loop5", "7:5", &sys.0.path().join("gone.img"));
        sys.loop_device("loop17", "7:17", &other);
        sys.partition("loop17", "loop17p1", "259:1");
        let file = DataId::of(&fs::metadata(&image).unwrap());
        let all = ("loop17 loop17p1 loop4".to_owned(), String::new());
        assert_eq!(sys.related(file), all);
        assert_eq!(sys.related(device(7, 4)), all, "one of them stands for the image");
        assert_eq!(sys.related(device(259, 1)), ("loop17p1".to_owned(), "loop17 loop4".to_owned()));
    }

    #[test]
    fn a_file_that_its_path_does_not_lead_to_is_known_by_losetup_or_by_nobody() {
        let sys = Sys::new();
        let at = |name: &str| sys.0.path().join(name);
        let identity = |name: &str| DataId::of(&fs::metadata(at(name)).unwrap());
        for name in ["left.img", "covered.img", "cover.img"] {
            fs::write(at(name), [0; 512]).unwrap();
        }
        sys.loop_device("loop1", "7:1", &at("removed.img (deleted)"));
        sys.loop_device("loop2", "7:2", &at("cover.img"));
        let told =
            [("loop1".to_owned(), identity("left.img")), ("loop2".to_owned(), identity("covered.img"))];
        for (files, left, covered) in [(told.as_slice(), Some(7), Some(7)), (&[], None, None)] {
            let blocks = sys.blocks(files);
            let first = |name: &str| related(&blocks, identity(name)).parts.first().map(|b| b.number.0);
            assert_eq!((first("left.img"), first("covered.img")), (left, covered));
            let lost: Vec<&str> = blocks.iter().filter(|b| b.is_lost).map(|b| b.name.as_str()).collect();
            assert_eq!(lost.is_empty(), left.is_some(), "{lost:?}");
            assert!(blocks.iter().find(|b| b.name == "loop1").unwrap().is_loop());
        }
    }
}
