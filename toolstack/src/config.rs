//! The daemon's configuration file. The commented defaults are `pilotfishd.toml` beside the
//! sources, which `--print-config` prints and the parser itself reads the defaults from.

mod grant_stub;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytesize::ByteSize;
use serde::Deserialize;

pub use self::grant_stub::GrantStubEntry;
use crate::text::{printable, toml_error};

/// The default configuration, with an explanation of every key.
pub const DEFAULTS: &str = include_str!("../pilotfishd.toml");
/// The configuration that is read if no other file is named.
pub const DEFAULT_PATH: &str = "/etc/pilotfish/pilotfishd.toml";

/// The least RAM of a stub: below it the loader finds no room for image and device tree.
const MIN_STUB_MEMORY: u64 = 4 << 20;

/// The most RAM of a stub that waits: its RAM disks are in it.
const GRANT_STUB_MEMORY_MAX: u64 = 64 << 30;
/// Smallest and largest window of a stub, in bytes: the image numbers its chunks of 2 MiB with 16 bits.
const MAP_WINDOW_MIN: u64 = 2 << 20;
const MAP_WINDOW_LIMIT: u64 = 64 << 30;

/// The longest time to wait for a storage backend, unless without a limit: a day.
pub const BACKEND_TIMEOUT_MAX_MS: u64 = 86_400_000;

/// The longest that a stub may poll before it blocks.
const POLL_MAX_US: u64 = 100_000;

/// The smallest MTU that IPv6 allows (RFC 8200), and the largest that a stub uses
/// (`MTU_MAX_BYTES` of `drivers/src/netfront`).
const MTU_MIN: u16 = 1280;
const MTU_MAX: u16 = 9000;

/// A network interface's name in Linux (`IFNAMSIZ`, without the end mark).
const BRIDGE_MAX: usize = 15;

/// What happens to a guest whose stub died.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum OnStubCrash {
    /// End it as crashed: its own `on_crash` decides.
    CrashGuest,
    /// Destroy it.
    DestroyGuest,
    /// Pause it.
    PauseGuest,
    /// Leave it.
    Ignore,
    /// The stub starts again in place after a panic; if that is not possible, the guest ends as
    /// crashed.
    Restart,
}

/// Who attaches the stubs' PV disks.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum BlockScript {
    /// This program.
    Builtin,
    /// The Xen tools' own script.
    Xen,
}

/// How much of its guest's memory a stub may have mapped at once.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub enum MapWindow {
    /// All of it, up to `map-window-max`.
    Auto,
    /// This many bytes.
    Bytes(u64),
}

impl TryFrom<String> for MapWindow {
    type Error = String;

    fn try_from(text: String) -> Result<MapWindow, String> {
        if text == "auto" {
            return Ok(MapWindow::Auto);
        }
        let size = text.parse::<ByteSize>();
        if size.as_ref().is_ok_and(|size| size.as_u64() == 0) {
            return Err("for all of the guest's memory write \"auto\"".to_owned());
        }
        size.map(|size| MapWindow::Bytes(size.as_u64()))
            .map_err(|why| format!("`{text}`: auto or a size: {why}"))
    }
}

/// A log level, of the daemon or of a stub.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// All keys, as they are in the file.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct File {
    stub_image: Option<PathBuf>,
    stub_net_image: Option<PathBuf>,
    stub_bridge: Option<String>,
    stub_mtu: Option<u16>,
    image_sha256: Option<String>,
    net_image_sha256: Option<String>,
    stub_memory: Option<ByteSize>,
    map_window: Option<MapWindow>,
    map_window_max: Option<ByteSize>,
    ram_disk_limit: Option<ByteSize>,
    stub_log: Option<Level>,
    poll_us: Option<u64>,
    stub_seclabel: Option<String>,
    grant_stubs: Option<Vec<GrantStubEntry>>,
    grant_stub_memory: Option<ByteSize>,
    block_script: Option<BlockScript>,
    backend_timeout_ms: Option<u64>,
    on_stub_crash: Option<OnStubCrash>,
    quiet_ms: Option<u64>,
    launch_timeout_ms: Option<u64>,
    destroy_timeout_ms: Option<u64>,
    tidy_ms: Option<u64>,
    xl: Option<PathBuf>,
    run_dir: Option<PathBuf>,
    log: Option<Level>,
}

/// The configuration in use. `pilotfishd.toml` explains each value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// The image every stub boots, but one with an NBD disk.
    pub stub_image: PathBuf,
    /// The image of a stub with an NBD disk.
    pub stub_net_image: PathBuf,
    /// dom0's bridge that the stubs' network interfaces join, where a disk file names no other.
    pub stub_bridge: String,
    /// Bytes of the payload of a frame on such an interface; 0: as on the bridge.
    pub stub_mtu: u16,
    /// SHA-256 of `stub_image` in hexadecimal digits; empty: any image.
    pub image_sha256: String,
    /// The same of `stub_net_image`.
    pub net_image_sha256: String,
    /// RAM of a stub without its RAM disks, bytes.
    pub stub_memory: u64,
    /// Guest memory a stub may map at once.
    pub map_window: MapWindow,
    /// The same in bytes at most, where the guest's size decides.
    pub map_window_max: u64,
    /// All RAM disks of a guest together, bytes.
    pub ram_disk_limit: u64,
    /// The stub's log level.
    pub stub_log: Level,
    /// How long a stub polls for more work before it gives its CPU away, at most; 0: not at all.
    pub poll_us: u64,
    /// The stub's FLASK label; empty: none.
    pub stub_seclabel: String,
    /// The stubs that wait for guests which grant their memory.
    pub grant_stubs: Vec<GrantStubEntry>,
    /// RAM of each of them with its RAM disks, bytes.
    pub grant_stub_memory: u64,
    /// Who attaches the stub's PV disks.
    pub block_script: BlockScript,
    /// How long requests of a disk wait for its storage backend; 0: without a limit.
    pub backend_timeout_ms: u64,
    /// What happens to a guest whose stub died.
    pub on_stub_crash: OnStubCrash,
    /// No new disk for this long: the guest is complete.
    pub quiet: Duration,
    /// From the first disk to a stub that serves.
    pub launch_timeout: Duration,
    /// For one `xl destroy`.
    pub destroy_timeout: Duration,
    /// How long closed nodes are left to libxl.
    pub tidy: Duration,
    /// The xl command; empty: searched.
    pub xl: PathBuf,
    /// For temporary files.
    pub run_dir: PathBuf,
    /// The daemon's log level.
    pub log: Level,
}

impl Config {
    /// Reads `path`; without one, the default file if it exists, or else the defaults.
    ///
    /// # Errors
    /// One line that names file, key and value.
    pub fn load(path: Option<&Path>) -> Result<Config> {
        let file = path.unwrap_or(Path::new(DEFAULT_PATH));
        // A file that was named must exist; the default one need not.
        if path.is_none() && !file.exists() {
            return Config::parse("built-in defaults", "");
        }
        let source =
            std::fs::read_to_string(file).with_context(|| format!("configuration {}", file.display()))?;
        Config::parse(&file.display().to_string(), &source)
    }

    /// Parses `source`; `name` stands for it in messages.
    fn parse(name: &str, source: &str) -> Result<Config> {
        let read = |name: &str, source: &str| -> Result<File> {
            toml::from_str(source).map_err(|e| anyhow::Error::msg(toml_error(name, source, &e)))
        };
        // The defaults are read from the printed file, so that the two cannot differ.
        let (file, default) = (read(name, source)?, read("built-in defaults", DEFAULTS)?);
        macro_rules! value {
            ($key:ident) => {
                file.$key.or(default.$key).context(concat!("no default for ", stringify!($key)))?
            };
        }
        let config = Config {
            stub_image: value!(stub_image),
            stub_net_image: value!(stub_net_image),
            stub_bridge: value!(stub_bridge),
            stub_mtu: value!(stub_mtu),
            image_sha256: value!(image_sha256),
            net_image_sha256: value!(net_image_sha256),
            stub_memory: value!(stub_memory).as_u64(),
            map_window: value!(map_window),
            map_window_max: value!(map_window_max).as_u64(),
            ram_disk_limit: value!(ram_disk_limit).as_u64(),
            stub_log: value!(stub_log),
            poll_us: value!(poll_us),
            stub_seclabel: value!(stub_seclabel),
            grant_stubs: value!(grant_stubs),
            grant_stub_memory: value!(grant_stub_memory).as_u64(),
            block_script: value!(block_script),
            backend_timeout_ms: value!(backend_timeout_ms),
            on_stub_crash: value!(on_stub_crash),
            quiet: Duration::from_millis(value!(quiet_ms)),
            launch_timeout: Duration::from_millis(value!(launch_timeout_ms)),
            destroy_timeout: Duration::from_millis(value!(destroy_timeout_ms)),
            tidy: Duration::from_millis(value!(tidy_ms)),
            xl: value!(xl),
            run_dir: value!(run_dir),
            log: value!(log),
        };
        config.check().with_context(|| name.to_owned())?;
        Ok(config)
    }

    /// What the types alone do not say.
    fn check(&self) -> Result<()> {
        self.check_sizes()?;
        self.check_words()?;
        self.check_times()
    }

    fn check_sizes(&self) -> Result<()> {
        if self.stub_memory < MIN_STUB_MEMORY || self.stub_memory > 1 << 30 {
            bail!("stub-memory = \"{}\": must be 4MiB to 1GiB", ByteSize(self.stub_memory));
        }
        if self.grant_stub_memory < MIN_STUB_MEMORY || self.grant_stub_memory > GRANT_STUB_MEMORY_MAX {
            bail!("grant-stub-memory = \"{}\": must be 4MiB to 64GiB", ByteSize(self.grant_stub_memory));
        }
        let window = match self.map_window {
            MapWindow::Auto => None,
            MapWindow::Bytes(bytes) => Some(("map-window", bytes)),
        };
        for (key, bytes) in [("map-window-max", self.map_window_max)].into_iter().chain(window) {
            if !(MAP_WINDOW_MIN..=MAP_WINDOW_LIMIT).contains(&bytes) {
                bail!("{key} = \"{}\": must be 2MiB to 64GiB", ByteSize(bytes));
            }
        }
        Ok(())
    }

    fn check_words(&self) -> Result<()> {
        // A stub has no such level.
        if self.stub_log == Level::Trace {
            bail!("stub-log = \"trace\": must be error, warn, info or debug");
        }
        let paths = [
            ("stub-image", &self.stub_image),
            ("stub-net-image", &self.stub_net_image),
            ("run-dir", &self.run_dir),
        ];
        for (key, path) in paths {
            if !path.is_absolute() || path.to_str().is_none_or(|p| !fit_for_xl(p)) {
                bail!("{key} = \"{}\": must be an absolute path, without quotes", path.display());
            }
        }
        check_bridge(&self.stub_bridge)
            .with_context(|| format!("stub-bridge = \"{}\"", printable(&self.stub_bridge, 60)))?;
        if self.stub_mtu != 0 {
            check_mtu(self.stub_mtu)
                .with_context(|| format!("stub-mtu = {}, which is not 0", self.stub_mtu))?;
        }
        for (key, hash) in
            [("image-sha256", &self.image_sha256), ("net-image-sha256", &self.net_image_sha256)]
        {
            if !hash.is_empty() && !is_sha256(hash) {
                bail!("{key} = \"{}\": must be 64 hexadecimal digits, or empty", printable(hash, 80));
            }
        }
        grant_stub::check(&self.grant_stubs)?;
        if !fit_for_xl(&self.stub_seclabel) {
            bail!("stub-seclabel: must hold neither quotes nor control characters");
        }
        Ok(())
    }

    fn check_times(&self) -> Result<()> {
        if self.poll_us > POLL_MAX_US {
            bail!("poll-us = {}: must be at most {POLL_MAX_US}", self.poll_us);
        }
        for (key, time) in [
            ("quiet-ms", self.quiet),
            ("launch-timeout-ms", self.launch_timeout),
            ("destroy-timeout-ms", self.destroy_timeout),
            ("tidy-ms", self.tidy),
        ] {
            if time > Duration::from_secs(600) {
                bail!("{key} = {}: must be at most 600000", time.as_millis());
            }
        }
        if self.backend_timeout_ms > BACKEND_TIMEOUT_MAX_MS {
            bail!(
                "backend-timeout-ms = {}: must be at most {BACKEND_TIMEOUT_MAX_MS}, or 0 for no limit",
                self.backend_timeout_ms
            );
        }
        // Otherwise no stub would ever be launched.
        if self.quiet >= self.launch_timeout {
            bail!("quiet-ms = {}: must be less than launch-timeout-ms", self.quiet.as_millis());
        }
        Ok(())
    }
}

/// Whether the text is a SHA-256 in hexadecimal digits.
fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether `text` can stand between double quotes in an xl configuration.
#[must_use]
pub fn fit_for_xl(text: &str) -> bool {
    !text.chars().any(|c| c.is_control() || matches!(c, '"' | '\'' | '\\'))
}

/// Checks the name of a bridge, which becomes a part of the stub's xl configuration.
///
/// # Errors
/// The rule.
pub fn check_bridge(name: &str) -> Result<()> {
    let fit = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    ensure!(
        !name.is_empty() && name.len() <= BRIDGE_MAX && name.bytes().all(fit),
        "must be the name of a bridge: 1 to {BRIDGE_MAX} letters, digits, '.', '_', '-'"
    );
    Ok(())
}

/// Checks the MTU of a stub's network interface, in bytes.
///
/// # Errors
/// The rule.
pub fn check_mtu(mtu: u16) -> Result<()> {
    ensure!((MTU_MIN..=MTU_MAX).contains(&mtu), "must be {MTU_MIN} to {MTU_MAX}");
    Ok(())
}

#[cfg(any(test, feature = "testkit"))]
impl Config {
    /// The defaults, for tests.
    pub fn default_for_tests() -> Config {
        Config::parse("test", "").unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_gives_the_printed_defaults() {
        let from_nothing = Config::parse("x", "").unwrap();
        assert_eq!(from_nothing, Config::parse("x", DEFAULTS).unwrap());
        assert_eq!(from_nothing.stub_memory, 8 << 20);
        assert_eq!((from_nothing.map_window, from_nothing.map_window_max), (MapWindow::Auto, 32 << 30));
        let explicit = Config::parse("x", "map-window = \"64MiB\"").unwrap();
        assert_eq!(explicit.map_window, MapWindow::Bytes(64 << 20));
        assert_eq!(from_nothing.on_stub_crash, OnStubCrash::CrashGuest);
        assert_eq!(from_nothing.quiet, Duration::from_millis(150));
    }

    #[test]
    fn what_is_wrong_is_named_in_one_line() {
        for (source, file_line, what) in [
            ("log = \"info\"\nstub-memry = \"16MiB\"\n", "c.toml:2:", "stub-memry"),
            ("stub-memory = \"16 bananas\"\n", "c.toml:1:", "16 bananas"),
            ("quiet-ms = \"soon\"\n", "c.toml:1:", "soon"),
            ("quiet-ms = -1\n", "c.toml:1:", "-1"),
            ("on-stub-crash = \"cry\"\n", "c.toml:1:", "cry"),
            ("log = \n", "c.toml:1:", "log ="),
            ("stub-memory = \"2MiB\"\n", "c.toml", "stub-memory"),
            ("map-window = \"all\"\n", "c.toml:1:", "`all`: auto or a size"),
            ("map-window = \"0\"\n", "c.toml:1:", "write \"auto\""),
            ("map-window = \"1MiB\"\n", "c.toml", "map-window"),
            ("map-window-max = \"65GiB\"\n", "c.toml", "map-window-max"),
            ("stub-log = \"trace\"\n", "c.toml", "stub-log"),
            ("stub-image = \"stub.img\"\n", "c.toml", "stub.img"),
            ("stub-net-image = \"net.img\"\n", "c.toml", "net.img"),
            ("stub-bridge = \"a,b\"\n", "c.toml", "stub-bridge = \"a,b\""),
            ("stub-mtu = 1279\n", "c.toml", "stub-mtu = 1279, which is not 0: must be 1280 to 9000"),
            ("stub-mtu = 9001\n", "c.toml", "stub-mtu = 9001"),
            ("stub-mtu = 65536\n", "c.toml:1:", "65536"),
            (
                "image-sha256 = \"g123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\"\n",
                "c.toml",
                "image-sha256",
            ),
            ("image-sha256 = \"0123\"\n", "c.toml", "image-sha256 = \"0123\""),
            ("run-dir = '/run/a\"b'\n", "c.toml", "run-dir"),
            ("quiet-ms = 9000\n", "c.toml", "quiet-ms"),
            ("backend-timeout-ms = 86400001\n", "c.toml", "backend-timeout-ms"),
            ("tidy-ms = 600001\n", "c.toml", "tidy-ms"),
        ] {
            let error = format!("{:#}", Config::parse("c.toml", source).unwrap_err());
            assert!(error.starts_with(file_line), "{error}");
            assert!(error.contains(what), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
