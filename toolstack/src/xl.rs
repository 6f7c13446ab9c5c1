//! The real [`Host`]: `xl` where libxl's work is needed, hypercalls for the rest.

use std::fs::{self, File};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use xen_privcmd::Privcmd;

use crate::command::{self, tail};
use crate::config::Config;
use crate::disk::lock::Lock;
use crate::disk::{loops, names};
use crate::host::{Claim, Claims, DomainState, Host, HotplugLock};
use crate::network;

/// How long a new name may take.
const RENAME_TIMEOUT: Duration = Duration::from_secs(5);

/// xl and Xen.
pub struct XlHost {
    xl: PathBuf,
    run_dir: PathBuf,
    destroy_timeout: Duration,
    privcmd: Privcmd,
    claims: Claims,
}

/// Finds xl: the configured one, or in PATH and the usual places.
///
/// # Errors
/// No xl is found.
pub fn find_xl(configured: &Path) -> Result<PathBuf> {
    if !configured.as_os_str().is_empty() {
        fs::metadata(configured).with_context(|| format!("xl = \"{}\"", configured.display()))?;
        return Ok(configured.to_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut dirs: Vec<PathBuf> = std::env::split_paths(&path).collect();
    dirs.push(PathBuf::from("/usr/sbin"));
    // Debian keeps each Xen version's xl in a directory of its own.
    for entry in fs::read_dir("/usr/lib").into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with("xen-") {
            dirs.push(entry.path().join("bin"));
        }
    }
    let found = dirs.iter().map(|dir| dir.join("xl")).find(|xl| xl.is_file());
    found.context(
        "no xl in PATH, /usr/sbin or /usr/lib/xen-*/bin; remedy: install the Xen tools, or set the key `xl`",
    )
}

impl XlHost {
    /// A host that uses this xl.
    #[must_use]
    pub fn new(config: &Config, xl: PathBuf, privcmd: Privcmd) -> XlHost {
        XlHost {
            xl,
            run_dir: config.run_dir.clone(),
            destroy_timeout: config.destroy_timeout,
            privcmd,
            claims: Claims::default(),
        }
    }

    /// Runs xl. `stop` is asked every few milliseconds.
    fn run(&self, args: &[&str], stop: impl Fn() -> Option<&'static str>) -> Result<()> {
        command::run(&self.xl, args, stop)?;
        Ok(())
    }
}

/// Why what is done for a launch is of no use any more.
fn in_vain(deadline: Instant, cancel: &AtomicBool) -> Option<&'static str> {
    if cancel.load(Ordering::Relaxed) {
        return Some("the guest has gone");
    }
    (Instant::now() >= deadline).then_some("not done within launch-timeout-ms")
}

impl Host for XlHost {
    fn create_paused(
        &self,
        name: &str,
        xl_config: &str,
        deadline: Instant,
        cancel: &AtomicBool,
    ) -> Result<()> {
        let mut file = Scratch::create(self.run_dir.join(format!("{name}.cfg")))?;
        std::io::Write::write_all(&mut file.file, xl_config.as_bytes())?;
        let path = file.path.to_str().context("run-dir")?;
        // Paused: it gets its rights before it runs. -e: no xl stays in the background to watch it.
        self.run(&["create", "-p", "-e", path], || in_vain(deadline, cancel))
    }

    fn check_network(&self, config: &Config, bridge: &str) -> Result<()> {
        network::check(config, bridge)
    }

    fn look_up(&self, name: &str) -> Result<Vec<IpAddr>> {
        names::look_up(name)
    }

    fn claim(&self, address: &str) -> Result<Option<Claim>> {
        Ok(self.claims.take(address))
    }

    fn attach_disk(&self, domid: u16, disk: &str, deadline: Instant, cancel: &AtomicBool) -> Result<()> {
        self.run(&["block-attach", &domid.to_string(), disk], || in_vain(deadline, cancel))
    }

    fn rename(&self, domid: u16, name: &str) -> Result<()> {
        let give_up = Instant::now() + RENAME_TIMEOUT;
        self.run(&["rename", &domid.to_string(), name], || {
            (Instant::now() >= give_up).then_some("not done in time")
        })
    }

    fn destroy(&self, domid: u16) -> Result<()> {
        // Not cancelled with the guest: without it the stub would stay.
        let give_up = Instant::now() + self.destroy_timeout;
        self.run(&["destroy", &domid.to_string()], || {
            (Instant::now() >= give_up).then_some("not done within destroy-timeout-ms")
        })
    }

    fn lock_hotplug(&self) -> Result<HotplugLock> {
        Ok(Box::new(Lock::take()?))
    }

    fn detach_loop(&self, record: &str) -> Result<()> {
        loops::detach_loop(record)
    }

    fn set_target(&self, stub: u16, guest: u16) -> Result<()> {
        Ok(self.privcmd.set_target(stub, guest)?)
    }

    fn label(&self, domid: u16) -> Result<Option<String>> {
        Ok(self.privcmd.label(domid)?)
    }

    fn relabel(&self, domid: u16, label: &str) -> Result<()> {
        Ok(self.privcmd.relabel(domid, label)?)
    }

    fn allowed(&self, subject: &str, object: &str, class: u16) -> Result<Option<u32>> {
        Ok(self.privcmd.allowed(subject, object, class)?)
    }

    fn enforces_policy(&self) -> Result<bool> {
        Ok(self.privcmd.flask()?.unwrap_or(false))
    }

    fn unpause(&self, domid: u16) -> Result<()> {
        Ok(self.privcmd.unpause(domid)?)
    }

    fn pause(&self, domid: u16) -> Result<()> {
        Ok(self.privcmd.pause(domid)?)
    }

    fn crash(&self, domid: u16) -> Result<()> {
        Ok(self.privcmd.crash(domid)?)
    }

    fn domain(&self, domid: u16) -> Result<Option<DomainState>> {
        Ok(self.privcmd.domain_state(domid)?)
    }

    fn domains(&self) -> Result<Vec<(u16, DomainState)>> {
        Ok(self.privcmd.domains()?)
    }

    fn console_tail(&self, name: &str) -> Vec<String> {
        // xenconsoled keeps it where XENCONSOLED_TRACE=guest.
        let path = format!("/var/log/xen/console/guest-{name}.log");
        let Ok(mut file) = File::open(&path) else {
            return vec![format!("not kept (xenconsoled --log=guest would keep it in {path})")];
        };
        let text = tail(&mut file);
        let lines: Vec<String> = text.lines().filter(|l| !l.trim().is_empty()).map(str::to_owned).collect();
        lines.iter().skip(lines.len().saturating_sub(6)).cloned().collect()
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wait(&self, time: Duration) {
        std::thread::sleep(time);
    }
}

/// A temporary file, removed when dropped.
struct Scratch {
    path: PathBuf,
    file: File,
}

impl Scratch {
    fn create(path: PathBuf) -> Result<Scratch> {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(true).mode(0o600);
        let file = options.open(&path).with_context(|| path.display().to_string())?;
        Ok(Scratch { path, file })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Not there any more is what is wanted.
        let _ = fs::remove_file(&self.path);
    }
}
