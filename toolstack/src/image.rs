//! The stubs' images.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::config::Config;

/// Offset and value of the magic number of a Linux/arm64 boot image, by which Xen's loader knows it.
const BOOT_MAGIC: (usize, &[u8]) = (0x38, b"ARM\x64");
/// What every stub's image contains: a part of the path where it writes its state (`paths::stub_says`).
const STUB_WORDS: &[u8] = b"data/pilotfish/";

/// One of the stubs' images.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Image {
    /// Without a network.
    Usual,
    /// For NBD disks.
    Net,
}

impl Image {
    /// Its path, and the key that says so.
    #[must_use]
    pub fn path(self, config: &Config) -> (&Path, &'static str) {
        match self {
            Image::Usual => (&config.stub_image, "stub-image"),
            Image::Net => (&config.stub_net_image, "stub-net-image"),
        }
    }
}

/// The length of a stub's image.
///
/// # Errors
/// It cannot be read, or it is not a stub's image.
pub fn image(config: &Config, which: Image) -> Result<u64> {
    let (path, key) = which.path(config);
    let read = || -> Result<u64> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        // The loader puts the image into the stub's RAM, beside a device tree.
        ensure!(length < config.stub_memory, "{length} bytes do not fit into stub-memory");
        let mut content = Vec::new();
        file.take(config.stub_memory).read_to_end(&mut content)?;
        let (at, magic) = BOOT_MAGIC;
        // Xen's loader would refuse anything else, but only with the first guest.
        let boots = content.get(at..).is_some_and(|rest| rest.starts_with(magic));
        ensure!(boots, "not an image that boots on arm64");
        // A Linux image boots as well, and then says nothing until the launch times out.
        let ours = content.windows(STUB_WORDS.len()).any(|words| words == STUB_WORDS);
        ensure!(ours, "an image that boots, but not a stub's");
        Ok(length)
    };
    read().with_context(|| {
        format!("{key} = \"{}\": install the stub's image there, or change the key", path.display())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_told_from_what_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stub.img");
        let config = Config { stub_image: path.clone(), ..Config::default_for_tests() };
        let missing = format!("{:#}", image(&config, Image::Usual).unwrap_err());
        assert!(missing.contains("stub.img") && missing.contains("install") && missing.contains("No such"));
        let mut good = vec![0; 4096];
        good[56..60].copy_from_slice(b"ARM\x64");
        let kernel = good.clone();
        good[3000..3015].copy_from_slice(STUB_WORDS);
        let mut long = good.clone();
        long.resize(8 << 20, 0);
        for (content, why) in [
            (&good[..59], "not an image that boots"),
            (&[0; 4096], "not an image that boots"),
            (&kernel, "not a stub's"),
            (&long, "stub-memory"),
        ] {
            std::fs::write(&path, content).unwrap();
            let error = format!("{:#}", image(&config, Image::Usual).unwrap_err());
            assert!(error.contains("stub.img") && error.contains(why), "{error}");
        }
        std::fs::write(&path, &good).unwrap();
        assert_eq!(image(&config, Image::Usual).unwrap(), 4096);
        let config = Config { stub_net_image: path, stub_image: "/no/such".into(), ..config };
        assert_eq!(image(&config, Image::Net).unwrap(), 4096);
    }
}
