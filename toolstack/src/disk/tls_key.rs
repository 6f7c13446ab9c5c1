//! The key of a disk's TLS: where it is, and its words for the stub.
//!
//! The file is GnuTLS': `psktool` writes it, and so does whoever sets up the server. Its words never get into a
//! log, a command line or an error.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::OFlags;
use zeroize::Zeroizing;

use crate::text::printable;

/// A longer file is something else.
const FILE_MAX: usize = 64 << 10;
/// The stub takes no longer identity.
const IDENTITY_MAX: usize = 128;
/// Bytes of a key: as the stub takes them.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 16..=64;
/// Permissions of others than the owner.
const OTHERS: u32 = 0o077;

/// Where a disk's key is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TlsKey {
    /// The file, as the disk file names it.
    pub file: String,
    /// Whose key in it; `None`: there is one.
    pub identity: Option<String>,
}

impl TlsKey {
    /// Reads the keys of a disk file.
    ///
    /// # Errors
    /// One line that names the key.
    pub fn parse(file: Option<String>, identity: Option<String>) -> Result<Option<TlsKey>> {
        let Some(file) = file else {
            ensure!(identity.is_none(), "tls-psk-identity: needs tls-psk-file = \"...\"");
            return Ok(None);
        };
        ensure!(
            file.starts_with('/'),
            "tls-psk-file = \"{}\": must be an absolute path",
            printable(&file, 120)
        );
        Ok(Some(TlsKey { file, identity }))
    }

    /// The key in hexadecimal digits, a space and its identity.
    ///
    /// # Errors
    /// One line that names the file and never its content: it is not there, others than root can read it, or it has
    /// not just one such key.
    pub fn read(&self) -> Result<Zeroizing<String>> {
        let place = || format!("tls-psk-file = \"{}\"", printable(&self.file, 120));
        let text = private_text(&self.file).with_context(place)?;
        self.find(&text).with_context(place)
    }

    fn find(&self, text: &str) -> Result<Zeroizing<String>> {
        let mut found = None;
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty()) {
            let number = number + 1;
            let rule = || format!("line {number}: must be identity:key, as psktool writes it");
            let (identity, key) = line.split_once(':').with_context(rule)?;
            if self.identity.as_ref().is_some_and(|ours| ours != identity) {
                continue;
            }
            ensure!(found.is_none(), "has several keys; name one by tls-psk-identity");
            let bytes = key.len() / 2;
            let is_hex = key.len() % 2 == 0 && key.bytes().all(|digit| digit.is_ascii_hexdigit());
            if !is_hex || !KEY_BYTES.contains(&bytes) {
                bail!(
                    "line {number}: its key must be {} to {} bytes in hexadecimal digits",
                    KEY_BYTES.start(),
                    KEY_BYTES.end()
                );
            }
            ensure!(
                fits(identity),
                "line {number}: its identity must be 1 to {IDENTITY_MAX} bytes, without control characters, not \
                 beginning with #"
            );
            let mut words = Zeroizing::new(String::with_capacity(key.len() + 1 + identity.len()));
            words.push_str(key);
            words.push(' ');
            words.push_str(identity);
            found = Some(words);
        }
        match &self.identity {
            Some(identity) => {
                let shown = printable(identity, 60);
                found.with_context(|| format!("has no key of tls-psk-identity = \"{shown}\""))
            }
            None => found.context("has no key"),
        }
    }
}

/// GnuTLS takes what follows a # for hexadecimal digits.
fn fits(identity: &str) -> bool {
    !identity.is_empty()
        && identity.len() <= IDENTITY_MAX
        && !identity.starts_with('#')
        && !identity.chars().any(char::is_control)
}

/// A file that its owner, who is ours, alone can read.
fn private_text(path: &str) -> Result<Zeroizing<String>> {
    let flags = OFlags::NONBLOCK.bits().cast_signed(); // Nobody may ever write to a pipe.
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    // Of what is open: the path may lead elsewhere a moment later.
    let meta = file.metadata()?;
    ensure!(meta.is_file(), "not a file");
    let mode = meta.mode() & 0o7777;
    ensure!(mode & OTHERS == 0, "others than its owner can read it (mode {mode:04o}); remedy: chmod 600");
    let owner = meta.uid();
    ensure!(
        owner == 0 || owner == rustix::process::geteuid().as_raw(),
        "belongs to user {owner}, who can read it; remedy: chown root"
    );
    // All of it has room, so that no shorter copy stays somewhere.
    let mut text = Zeroizing::new(String::with_capacity(FILE_MAX + 1));
    let length = file.take(u64::try_from(FILE_MAX)? + 1).read_to_string(&mut text)?;
    ensure!(length <= FILE_MAX, "more than {FILE_MAX} bytes: too long for a file of keys");
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const HEX: &str = "00112233445566778899aabbccddeeff";

    fn key(dir: &tempfile::TempDir, text: &str, mode: u32, identity: Option<&str>) -> TlsKey {
        let path = dir.path().join("keys");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        TlsKey { file: path.to_str().unwrap().to_owned(), identity: identity.map(str::to_owned) }
    }

    #[test]
    fn the_one_key_is_found_or_the_one_that_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let one = key(&dir, &format!("web:{HEX}\n"), 0o600, None);
        assert_eq!(*one.read().unwrap(), format!("{HEX} web"));
        let two = format!("web:{HEX}\n\nmail box:{}\n", "Ab".repeat(64));
        let named = key(&dir, &two, 0o400, Some("mail box"));
        assert_eq!(*named.read().unwrap(), format!("{} mail box", "Ab".repeat(64)));
        // The stub takes what the daemon makes.
        assert!(tls::Secrets::parse(&format!("{} {}", "5a".repeat(32), *named.read().unwrap())).is_some());
    }

    #[test]
    fn what_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for mode in [0o640, 0o604, 0o610, 0o601, 0o620, 0o602, 0o644] {
            let key = key(&dir, &format!("web:{HEX}\n"), mode, None);
            let error = format!("{:#}", key.read().unwrap_err());
            let place = format!("tls-psk-file = \"{}\": others than its owner can read it", key.file);
            assert!(error.starts_with(&place) && error.contains(&format!("{mode:04o}")), "{error}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_and_no_key_is_told() {
        let dir = tempfile::tempdir().unwrap();
        for (text, identity, what) in [
            (String::new(), None, "has no key"),
            (format!("web {HEX}"), None, "line 1: must be identity:key"),
            (format!("a:{HEX}\nb:{HEX}"), None, "name one by tls-psk-identity"),
            (format!("a:{HEX}\na:{HEX}"), Some("a"), "name one"),
            (format!("a:{HEX}"), Some("b"), "has no key of tls-psk-identity = \"b\""),
            (format!("a:{}", &HEX[2..]), None, "line 1: its key must be 16 to 64 bytes"),
            (format!("a:{}", &HEX[1..]), None, "16 to 64"),
            (format!("a:{HEX}{HEX}{HEX}{HEX}00"), None, "16 to 64"),
            (format!("\na:x{HEX}1"), None, "line 2: its key"),
            (format!(":{HEX}"), None, "line 1: its identity"),
            (format!("#6162:{HEX}"), None, "beginning with #"),
            (format!("a\tb:{HEX}"), None, "control characters"),
            (format!("{}:{HEX}", "i".repeat(129)), None, "128"),
            ("x".repeat(FILE_MAX + 1), None, "too long"),
        ] {
            let key = key(&dir, &text, 0o600, identity);
            let error = format!("{:#}", key.read().unwrap_err());
            assert!(error.starts_with("tls-psk-file = \"/") && error.contains(what), "{error}");
            assert!(!error.contains('\n') && !error.contains(&HEX[2..20]), "{error}");
        }
        let none = TlsKey { file: "/no/such".into(), identity: None };
        let error = format!("{:#}", none.read().unwrap_err());
        assert!(error.starts_with("tls-psk-file = \"/no/such\": No such file"), "{error}");
        let none = TlsKey { file: dir.path().to_str().unwrap().into(), identity: None };
        assert!(format!("{:#}", none.read().unwrap_err()).contains("not a file"));
    }

    #[test]
    fn the_keys_of_a_disk_file_fit_together() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(TlsKey::parse(None, None).unwrap(), None);
        assert!(TlsKey::parse(some("/k"), None).unwrap().is_some());
        for (file, identity, what) in
            [(None, some("web"), "needs tls-psk-file"), (some("k"), None, "absolute")]
        {
            let error = TlsKey::parse(file, identity).unwrap_err().to_string();
            assert!(error.starts_with("tls-psk-") && error.contains(what), "{error}");
        }
    }
}
