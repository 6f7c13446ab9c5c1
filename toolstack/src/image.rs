//! The stubs' images.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

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

    /// The SHA-256 that it must have, and the key that says so; empty: any.
    fn sha256(self, config: &Config) -> (&str, &'static str) {
        match self {
            Image::Usual => (&config.image_sha256, "image-sha256"),
            Image::Net => (&config.net_image_sha256, "net-image-sha256"),
        }
    }
}

/// Checks that the image is the one whose hash the configuration has, if it has one. Asked before each stub is made: an
/// image that was replaced is told from the old one when it would first run.
///
/// # Errors
/// It is another image, or cannot be read.
pub fn verify(config: &Config, which: Image) -> Result<()> {
    let (path, key) = which.path(config);
    if which.sha256(config).0.is_empty() {
        return Ok(());
    }
    let content = read(path, config).with_context(|| format!("{key} = \"{}\"", path.display()))?;
    check_hash(config, which, &content)
}

/// The same of an image that was read.
fn check_hash(config: &Config, which: Image, content: &[u8]) -> Result<()> {
    let (path, key) = which.path(config);
    let (wanted, hash_key) = which.sha256(config);
    if wanted.is_empty() {
        return Ok(());
    }
    let found = hex(&Sha256::digest(content));
    ensure!(
        found.eq_ignore_ascii_case(wanted),
        "{key} = \"{}\": its SHA-256 is {found}, but {hash_key} says {wanted}; remedy: install the image that was \
         verified, or change the key",
        path.display()
    );
    Ok(())
}

/// Its bytes, up to the size of a stub's RAM.
fn read(path: &Path, config: &Config) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(path)?.take(config.stub_memory).read_to_end(&mut content)?;
    Ok(content)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The length of a stub's image.
///
/// # Errors
/// It cannot be read, or it is not a stub's image, or not the one whose hash the configuration has.
pub fn image(config: &Config, which: Image) -> Result<u64> {
    let (path, key) = which.path(config);
    let judged = || -> Result<Vec<u8>> {
        let length = fs::metadata(path)?.len();
        // The loader puts the image into the stub's RAM, beside a device tree.
        ensure!(length < config.stub_memory, "{length} bytes do not fit into stub-memory");
        let content = read(path, config)?;
        let (at, magic) = BOOT_MAGIC;
        // Xen's loader would refuse anything else, but only with the first guest.
        let boots = content.get(at..).is_some_and(|rest| rest.starts_with(magic));
        ensure!(boots, "not an image that boots on arm64");
        // A Linux image boots as well, and then says nothing until the launch times out.
        let ours = content.windows(STUB_WORDS.len()).any(|words| words == STUB_WORDS);
        ensure!(ours, "an image that boots, but not a stub's");
        Ok(content)
    };
    let content = judged().with_context(|| {
        format!("{key} = \"{}\": install the stub's image there, or change the key", path.display())
    })?;
    check_hash(config, which, &content)?;
    Ok(content.len() as u64)
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

    /// Of the three bytes `abc`, by FIPS 180-2.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn only_the_image_with_the_hash_that_is_asked_for_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stub.img");
        std::fs::write(&path, "abc").unwrap();
        let of = |which: Image, hash: &str| {
            let mut config = Config::default_for_tests();
            let (image, wanted) = match which {
                Image::Usual => (&mut config.stub_image, &mut config.image_sha256),
                Image::Net => (&mut config.stub_net_image, &mut config.net_image_sha256),
            };
            (*image, *wanted) = (path.clone(), hash.to_owned());
            config
        };
        for which in [Image::Usual, Image::Net] {
            for good in ["", ABC, &ABC.to_uppercase()] {
                verify(&of(which, good), which).unwrap();
            }
            let bad = of(which, &ABC.replace('b', "c"));
            let error = format!("{:#}", verify(&bad, which).unwrap_err());
            assert!(error.contains("stub.img") && error.contains(ABC) && error.contains("remedy"), "{error}");
            let missing = Config { stub_image: "/no".into(), stub_net_image: "/no".into(), ..bad };
            assert!(verify(&missing, which).is_err());
        }
    }
}
