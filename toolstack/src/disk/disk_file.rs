//! Disk files (`NAME.pilotfish`): for what a guest's disk line cannot say.

use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;

use anyhow::{Context, Result, bail, ensure};
use bytesize::ByteSize;
use rustix::fs::OFlags;
use serde::Deserialize;

use super::names::LookUp;
use super::nbd::{Export, Network};
use super::tls_key::TlsKey;
use crate::config::{BACKEND_TIMEOUT_MAX_MS, check_mtu};
use crate::text::{printable, toml_error};

/// What a disk file's name ends with.
pub const SUFFIX: &str = ".pilotfish";
/// A disk file longer than this is something else.
const MAX_BYTES: u64 = 64 << 10;
/// virtio-blk's serial (`VIRTIO_BLK_ID_BYTES`).
const SERIAL_MAX: usize = 20;
/// Domain names longer than this are refused.
const NAME_MAX: usize = 64;
/// RAM disks come in pages.
const RAM_UNIT: u64 = 4096;

/// Where the disk's data is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Storage {
    Ram,
    Pv,
    Nbd,
}

impl Storage {
    /// As the file writes it.
    fn word(self) -> &'static str {
        match self {
            Storage::Ram => "ram",
            Storage::Pv => "pv",
            Storage::Nbd => "nbd",
        }
    }
}

/// The file as it stands.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    storage: Storage,
    size: Option<ByteSize>,
    target: Option<String>,
    backend: Option<String>,
    server: Option<String>,
    address: Option<String>,
    gateway: Option<String>,
    bridge: Option<String>,
    mtu: Option<u16>,
    #[serde(rename = "network-backend")]
    network_backend: Option<String>,
    #[serde(rename = "tls-psk-file")]
    tls_psk_file: Option<String>,
    #[serde(rename = "tls-psk-identity")]
    tls_psk_identity: Option<String>,
    serial: Option<String>,
    #[serde(rename = "backend-timeout-ms")]
    backend_timeout_ms: Option<u64>,
}

/// What a disk file says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DiskFile {
    /// Memory, a path or an export.
    pub storage: DiskStorage,
    /// The serial number the guest reads.
    pub serial: Option<String>,
    /// How long requests wait for a storage backend, ms; 0: no limit.
    pub backend_timeout_ms: Option<u64>,
}

/// Where the data is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum DiskStorage {
    /// In the stub's own memory; its size in bytes.
    Ram(u64),
    /// In an image or a block device.
    Pv {
        /// Its path.
        target: String,
        /// The domain that has it, by name; `None`: dom0.
        backend: Option<String>,
    },
    /// On an NBD server.
    Nbd {
        /// Which disk of which server.
        export: Export,
        /// The stub's own place on the network.
        network: Network,
        /// The way to it is TLS, with this key.
        tls: Option<TlsKey>,
    },
}

impl DiskFile {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    /// One line that names file, key and value.
    pub fn load(path: &str, look_up: LookUp<'_>) -> Result<DiskFile> {
        let flags = OFlags::NONBLOCK.bits().cast_signed(); // Nobody may ever write to a pipe.
        let mut options = std::fs::File::options();
        let file = options.read(true).custom_flags(flags).open(path).with_context(|| path.to_owned())?;
        ensure!(file.metadata().with_context(|| path.to_owned())?.is_file(), "{path}: not a file");
        let mut source = String::new();
        let length = file.take(MAX_BYTES + 1).read_to_string(&mut source).with_context(|| path.to_owned())?;
        ensure!(
            u64::try_from(length)? <= MAX_BYTES,
            "{path}: more than {MAX_BYTES} bytes: too long for a disk file"
        );
        DiskFile::parse(path, &source, look_up)
    }

    fn parse(name: &str, source: &str, look_up: LookUp<'_>) -> Result<DiskFile> {
        let file: File =
            toml::from_str(source).map_err(|e| anyhow::Error::msg(toml_error(name, source, &e)))?;
        let checked = file.checked(look_up);
        checked.map_err(|why| anyhow::Error::msg(format!("{name}: {why:#}")))
    }
}

impl File {
    /// What the file says, if its keys fit together.
    fn checked(self, look_up: LookUp<'_>) -> Result<DiskFile> {
        self.check_keys()?;
        self.check_serial()?;
        check_domain("backend", self.backend.as_deref())?;
        check_domain("network-backend", self.network_backend.as_deref())?;
        self.check_timeout()?;
        let (serial, backend_timeout_ms) = (self.serial.clone(), self.backend_timeout_ms);
        Ok(DiskFile { storage: self.storage(look_up)?, serial, backend_timeout_ms })
    }

    /// Each key belongs to the kind of storage.
    fn check_keys(&self) -> Result<()> {
        use Storage::{Nbd, Pv, Ram};
        let keys: [(&str, bool, &[Storage]); 12] = [
            ("size", self.size.is_some(), &[Ram]),
            ("target", self.target.is_some(), &[Pv]),
            ("backend", self.backend.is_some(), &[Pv]),
            ("backend-timeout-ms", self.backend_timeout_ms.is_some(), &[Pv, Nbd]),
            ("server", self.server.is_some(), &[Nbd]),
            ("address", self.address.is_some(), &[Nbd]),
            ("gateway", self.gateway.is_some(), &[Nbd]),
            ("bridge", self.bridge.is_some(), &[Nbd]),
            ("mtu", self.mtu.is_some(), &[Nbd]),
            ("network-backend", self.network_backend.is_some(), &[Nbd]),
            ("tls-psk-file", self.tls_psk_file.is_some(), &[Nbd]),
            ("tls-psk-identity", self.tls_psk_identity.is_some(), &[Nbd]),
        ];
        match keys.iter().find(|(_, given, of)| *given && !of.contains(&self.storage)) {
            Some((key, ..)) => bail!("{key}: storage = \"{}\" has no such key", self.storage.word()),
            None => Ok(()),
        }
    }

    fn storage(self, look_up: LookUp<'_>) -> Result<DiskStorage> {
        let needs = |key: &str| format!("storage = \"{}\": needs {key} = \"...\"", self.storage.word());
        match self.storage {
            Storage::Ram => Ok(DiskStorage::Ram(ram_bytes(self.size.with_context(|| needs("size"))?)?)),
            Storage::Pv => {
                let target = self.target.with_context(|| needs("target"))?;
                Ok(DiskStorage::Pv { target, backend: self.backend })
            }
            Storage::Nbd => {
                let server = self.server.with_context(|| needs("server"))?;
                let address = self.address.with_context(|| needs("address"))?;
                let mut network = Network::parse(&address, self.gateway.as_deref(), self.bridge)?;
                if let Some(mtu) = self.mtu {
                    check_mtu(mtu).with_context(|| format!("mtu = {mtu}"))?;
                }
                network.mtu = self.mtu;
                network.backend = self.network_backend;
                let export = Export::parse(&server, network.kind(), look_up)
                    .with_context(|| format!("server = \"{}\"", printable(&server, 120)))?;
                network.check_way(export.server.ip())?;
                let tls = TlsKey::parse(self.tls_psk_file, self.tls_psk_identity)?;
                Ok(DiskStorage::Nbd { export, network, tls })
            }
        }
    }

    fn check_timeout(&self) -> Result<()> {
        match self.backend_timeout_ms {
            Some(ms) if ms > BACKEND_TIMEOUT_MAX_MS => bail!(
                "backend-timeout-ms = {ms}: must be at most {BACKEND_TIMEOUT_MAX_MS}, or 0 for no limit"
            ),
            _ => Ok(()),
        }
    }

    fn check_serial(&self) -> Result<()> {
        let Some(serial) = &self.serial else { return Ok(()) };
        // Spaces, commas and '=' separate the words of the stub's command line. That stands between quotes in an xl
        // configuration, where a backslash begins an escape.
        let fit = |b: u8| b.is_ascii_graphic() && !matches!(b, b',' | b'=' | b'"' | b'\'' | b'\\');
        if serial.is_empty() || serial.len() > SERIAL_MAX || !serial.bytes().all(fit) {
            let shown = printable(serial, 60);
            bail!(
                "serial = \"{shown}\": must be 1 to {SERIAL_MAX} printable characters, no space, comma, '=', \
                 quote or backslash"
            );
        }
        Ok(())
    }
}

/// Whether a key names a domain.
fn check_domain(key: &str, name: Option<&str>) -> Result<()> {
    let Some(name) = name else { return Ok(()) };
    // It becomes a part of the stub's xl configuration, where a comma would begin another key.
    let fit = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if name.is_empty() || name.len() > NAME_MAX || !name.bytes().all(fit) {
        let shown = printable(name, 60);
        bail!("{key} = \"{shown}\": must be a domain's name: letters, digits, '.', '_', '-'");
    }
    Ok(())
}

/// The bytes of a RAM disk.
fn ram_bytes(size: ByteSize) -> Result<u64> {
    let bytes = size.as_u64();
    if bytes == 0 || !bytes.is_multiple_of(RAM_UNIT) {
        bail!("size = \"{size}\" ({bytes} bytes): must be a multiple of {RAM_UNIT} bytes, not 0");
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, mknodat};

    fn parse(name: &str, source: &str) -> Result<DiskFile> {
        DiskFile::parse(name, source, &|_| bail!("there is no such name"))
    }

    fn load(path: &str) -> Result<DiskFile> {
        DiskFile::load(path, &|_| bail!("there is no such name"))
    }

    #[test]
    fn ram_and_pv_disks_are_read() {
        let ram = parse("d", "storage = \"ram\"\nsize = \"64MiB\"\nserial = \"swap-0\"\n").unwrap();
        let expected = |storage, serial: Option<&str>, backend_timeout_ms| DiskFile {
            storage,
            serial: serial.map(str::to_owned),
            backend_timeout_ms,
        };
        assert_eq!(ram, expected(DiskStorage::Ram(64 << 20), Some("swap-0"), None));
        let source = "storage = \"pv\"\ntarget = \"/dev/vg/guest\"\nbackend-timeout-ms = 0\n";
        let target = "/dev/vg/guest".to_owned();
        let storage = DiskStorage::Pv { target: target.clone(), backend: None };
        assert_eq!(parse("d", source).unwrap(), expected(storage, None, Some(0)));
        let source = "storage = \"pv\"\ntarget = \"/dev/vg/guest\"\nbackend = \"store-1\"\n";
        let storage = DiskStorage::Pv { target, backend: Some("store-1".into()) };
        assert_eq!(parse("d", source).unwrap(), expected(storage, None, None));
    }

    #[test]
    fn an_nbd_disk_is_read() {
        let source = "storage = \"nbd\"\nserver = \"nbd://10.0.0.5/web1\"\naddress = \"10.0.0.6/24\"\n";
        let read = |more: &str| parse("d", &format!("{source}{more}")).unwrap();
        let DiskStorage::Nbd { export, network, tls: None } = read("").storage else { panic!() };
        assert_eq!(export.to_string(), "nbd://10.0.0.5:10809/web1");
        assert_eq!((network.kind().to_string(), network.bridge), ("10.0.0.6".to_owned(), None));
        let file = read("bridge = \"br-1\"\ngateway = \"10.0.0.1\"\nserial = \"s\"\nbackend-timeout-ms = 7");
        assert_eq!((file.serial.as_deref(), file.backend_timeout_ms), (Some("s"), Some(7)));
        let with_key = read("tls-psk-file = \"/k\"\ntls-psk-identity = \"web\"").storage;
        let DiskStorage::Nbd { tls: Some(TlsKey { file: path, identity }), .. } = with_key else { panic!() };
        assert_eq!((path.as_str(), identity.as_deref()), ("/k", Some("web")));
        let DiskStorage::Nbd { network, .. } = file.storage else { panic!() };
        assert_eq!(network.bridge.as_deref(), Some("br-1"));
        assert_eq!(network.address.unwrap().gateway, Some("10.0.0.1".parse().unwrap()));
    }

    #[test]
    fn what_is_no_file_or_too_long_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        mknodat(CWD, at("pipe"), FileType::Fifo, 0o600.into(), 0).unwrap();
        std::fs::write(at("long"), vec![b'#'; (64 << 10) + 1]).unwrap();
        std::fs::write(at("bytes"), [0xff; 8]).unwrap();
        for (name, what) in
            [("pipe", "not a file"), ("long", "too long"), ("none", "No such"), ("bytes", "UTF-8")]
        {
            let error = format!("{:#}", load(&at(name)).unwrap_err());
            assert!(error.starts_with(&at(name)) && error.contains(what), "{error}");
        }
        std::fs::write(at("good"), "storage = \"ram\"\nsize = \"4kiB\"").unwrap();
        load(&at("good")).unwrap();
    }

    #[test]
    fn what_is_wrong_is_named_in_one_line() {
        for (source, what) in [
            ("", "storage"),
            ("storage = \"tape\"", "tape"),
            ("storage = \"ram\"", "size"),
            ("storage = \"ram\"\nsize = \"64Mx\"", "64Mx"),
            ("storage = \"ram\"\nsize = \"0\"", "size"),
            ("storage = \"ram\"\nsize = \"1000\"", "1000"),
            ("storage = \"ram\"\nsize = -4096", "-4096"),
            ("storage = \"ram\"\nsize = \"1MiB\"\ntarget = \"/x\"", "target"),
            ("storage = \"pv\"", "target"),
            ("storage = \"pv\"\ntarget = \"/x\"\nsize = \"1MiB\"", "size"),
            ("storage = \"ram\"\nsize = \"1MiB\"\nbackend = \"x\"", "backend"),
            ("storage = \"pv\"\ntarget = \"/x\"\nbackend = \"\"", "backend"),
            ("storage = \"pv\"\ntarget = \"/x\"\nbackend = \"a,b\"", "a,b"),
            ("storage = \"pv\"\ntarget = \"/x\"\nnetwork-backend = \"x\"", "network-backend"),
            (
                "storage = \"nbd\"\nserver = \"nbd://10.0.0.5/x\"\naddress = \"10.0.0.6/24\"\nnetwork-backend = \"a,b\"",
                "network-backend = \"a,b\"",
            ),
            ("storage = \"ram\"\nsize = \"1MiB\"\nbackend-timeout-ms = 5", "backend-timeout-ms"),
            ("storage = \"pv\"\ntarget = \"/x\"\nbackend-timeout-ms = 86400001", "86400001"),
            ("storage = \"pv\"\ntarget = \"/x\"\nbackend-timeout-ms = -1", "-1"),
            ("storage = \"nbd\"\nserver = \"nbd://10.0.0.5/x\"", "needs address"),
            ("storage = \"nbd\"\naddress = \"10.0.0.6/24\"", "needs server"),
            (
                "storage = \"pv\"\ntarget = \"/x\"\ntls-psk-file = \"/k\"",
                "tls-psk-file: storage = \"pv\" has no",
            ),
            (
                "storage = \"nbd\"\nserver = \"nbd://10.0.0.5/x\"\naddress = \"10.0.0.6/24\"\ntls-psk-identity = \"x\"",
                "needs tls-psk-file",
            ),
            ("storage = \"nbd\"\ntarget = \"/x\"", "target: storage = \"nbd\" has no such key"),
            ("storage = \"pv\"\ntarget = \"/x\"\nbridge = \"b\"", "bridge: storage = \"pv\""),
            (
                "storage = \"nbd\"\nserver = \"nbd://h/x\"\naddress = \"10.0.0.6/24\"",
                "server = \"nbd://h/x\": the name h: there is no such name",
            ),
            ("storage = \"nbd\"\nserver = \"nbd://10.0.0.5/x\"\naddress = \"6\"", "address = \"6\""),
            ("storage = \"pv\"\ntarget = \"/x\"\nmtu = 9000", "mtu: storage = \"pv\""),
            (
                "storage = \"nbd\"\nserver = \"nbd://10.0.0.5/x\"\naddress = \"10.0.0.6/24\"\nmtu = 1279",
                "mtu = 1279: must be 1280 to 9000",
            ),
            (
                "storage = \"nbd\"\nserver = \"nbd://10.0.0.5/x\"\naddress = \"10.0.0.6/24\"\nmtu = 9001",
                "mtu = 9001: must be 1280 to 9000",
            ),
            ("storage = \"pv\"\ntarget = \"/x\"\nseriel = \"a\"", "seriel"),
            ("storage = \"pv\"\ntarget = \"/x\"\nserial = \"a b\"", "a b"),
            ("storage = \"pv\"\ntarget = \"/x\"\nserial = \"a\\\"b\"", "quote or backslash"),
            ("storage = \"pv\"\ntarget = \"/x\"\nserial = \"a'b\"", "a'b"),
            ("storage = \"pv\"\ntarget = \"/x\"\nserial = 'a\\b'", "a\\b"),
            ("storage = \"pv\"\ntarget = \"/x\"\nserial = \"123456789012345678901\"", "serial"),
            ("storage = \"pv\"\ntarget = \"/x\"\nserial = \"\"", "serial"),
            ("\u{0}\u{1}garbage", "garbage"),
        ] {
            let error = format!("{:#}", parse("d.pilotfish", source).unwrap_err());
            assert!(error.starts_with("d.pilotfish"), "{error}");
            assert!(error.contains(what), "{source}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
