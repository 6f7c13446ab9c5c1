//! One emulated machine: Xen, dom0's kernel and initramfs, a serial console on pipes.
//!
//! QEMU ends with this process whatever happens: on drop, on Ctrl-C, at its time limit,
//! and, should we be killed ourselves, by the kernel (`setpriv --pdeathsig`).

use std::fs::{self, File};
use std::io::{Read, Write, stdout};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use crate::interrupt::{self, Group};

/// A core without LSE atomics, which every QEMU that Debian ships can emulate.
pub const DEFAULT_CPU: &str = "cortex-a57";
/// A core with LSE atomics.
pub const LSE_CPU: &str = "neoverse-n1";

/// An older core, as the boards with a GIC-400 have it.
pub const OLD_CPU: &str = "cortex-a72";
/// All that QEMU can emulate: pointer authentication, branch targets, SVE, long addresses.
pub const MAX_CPU: &str = "max";

/// The architecture version of the interrupt controller.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Gic {
    /// GICv2, as in a GIC-400.
    V2,
    /// GICv3.
    V3,
}

/// Guest-physical addresses at which QEMU's guest loader puts dom0's kernel and initrd.
const KERNEL_ADDR: u64 = 0x5000_0000;
const INITRD_ADDR: u64 = 0x5800_0000;

/// The serial input of Xen holds few characters: send this many, then pause.
const SEND_CHUNK: usize = 8;
const SEND_PAUSE: Duration = Duration::from_millis(15);

/// What to emulate.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Xen's raw image.
    pub xen: PathBuf,
    /// Xen's command line.
    pub xen_args: String,
    /// dom0's kernel.
    pub kernel: PathBuf,
    /// dom0's command line.
    pub dom0_args: String,
    /// dom0's initramfs.
    pub initrd: PathBuf,
    /// QEMU's name of the CPU model.
    pub cpu: String,
    /// Interrupt controller.
    pub gic: Gic,
    /// Physical CPUs.
    pub smp: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Where the console is logged.
    pub log: PathBuf,
    /// The run is ended after this time.
    pub timeout: Duration,
}

impl Machine {
    fn command(&self) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", "qemu-system-aarch64"]);
        let gic = match self.gic {
            Gic::V2 => 2,
            Gic::V3 => 3,
        };
        command.args(["-machine", &format!("virt,virtualization=on,gic-version={gic}")]);
        command.args(["-cpu", &self.cpu, "-accel", "tcg,thread=multi"]);
        command.args(["-smp", &self.smp.to_string(), "-m", &self.memory_mib.to_string()]);
        command.args(["-display", "none", "-serial", "stdio", "-monitor", "none"]);
        command.args(["-no-reboot", "-nic", "none"]);
        command.arg("-kernel").arg(&self.xen);
        command.args(["-append", &self.xen_args]);
        command.arg("-device").arg(format!(
            "guest-loader,addr={KERNEL_ADDR:#x},kernel={},bootargs={}",
            option(&self.kernel),
            self.dom0_args.replace(',', ",,")
        ));
        command
            .arg("-device")
            .arg(format!("guest-loader,addr={INITRD_ADDR:#x},initrd={}", option(&self.initrd)));
        command
    }
}

/// A path inside a QEMU option, where a comma must be doubled.
fn option(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

/// A running QEMU.
#[derive(Debug)]
pub struct Qemu {
    lines: Receiver<String>,
    stdin: Option<ChildStdin>,
    group: Arc<Group>,
    reader: Option<JoinHandle<()>>,
    tee: Arc<AtomicBool>,
    deadline: Option<Instant>,
    log: PathBuf,
}

impl Qemu {
    /// Starts the machine.
    ///
    /// # Errors
    /// When QEMU or the log file cannot be started.
    pub fn start(machine: &Machine) -> Result<Self> {
        if let Some(dir) = machine.log.parent() {
            fs::create_dir_all(dir)?;
        }
        let mut log = File::create(&machine.log)?;
        let mut command = machine.command();
        writeln!(log, "# {}", crate::process::describe(&command))?;
        writeln!(log, "# xen: {}\n# dom0: {}", machine.xen_args, machine.dom0_args)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log.try_clone()?).process_group(0);
        let tee = Arc::new(AtomicBool::new(false));
        let (lines_in, lines) = mpsc::channel();
        let (started_in, started) = mpsc::channel();
        let thread_tee = Arc::clone(&tee);
        // The thread that starts QEMU must live as long as QEMU does: the kernel's
        // parent-death signal follows the thread, not the process.
        let reader = thread::spawn(move || match spawn(&mut command) {
            Ok((mut child, stdin, out)) => {
                let group = Arc::new(Group::of(&child));
                if started_in.send(Ok((Arc::clone(&group), stdin))).is_ok() {
                    relay(out, log, &lines_in, &thread_tee);
                }
                group.signal(Signal::KILL);
                // Its status says nothing: we may have killed it just now.
                let _ = child.wait();
            }
            Err(error) => {
                // A receiver that is gone needs no answer.
                let _ = started_in.send(Err(error));
            }
        });
        let (group, stdin) = started.recv().context("QEMU's thread ended")??;
        Ok(Self {
            lines,
            stdin: Some(stdin),
            group,
            reader: Some(reader),
            tee,
            deadline: Instant::now().checked_add(machine.timeout),
            log: machine.log.clone(),
        })
    }

    /// The next line of the console; `None` when QEMU has ended or `limit` has passed.
    ///
    /// # Errors
    /// When the run's time limit has passed, or on Ctrl-C.
    pub fn line(&self, limit: Option<Instant>) -> Result<Option<String>> {
        let mut quiet_until = Instant::now();
        loop {
            interrupt::check()?;
            match self.lines.recv_timeout(Duration::from_millis(100)) {
                Ok(line) => return Ok(Some(line)),
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) => quiet_until = quiet_until.max(Instant::now()),
            }
            if self.deadline.is_some_and(|deadline| quiet_until >= deadline) {
                bail!("QEMU ran into its time limit; see {}", self.log.display());
            }
            if limit.is_some_and(|limit| quiet_until >= limit) {
                return Ok(None);
            }
        }
    }

    /// Types `text` on the console, slowly enough for Xen.
    ///
    /// # Errors
    /// When QEMU has ended.
    pub fn send(&mut self, text: &[u8]) -> Result<()> {
        let stdin = self.stdin.as_mut().context("QEMU has ended")?;
        for chunk in text.chunks(SEND_CHUNK) {
            stdin.write_all(chunk).context("QEMU has ended")?;
            stdin.flush()?;
            thread::sleep(SEND_PAUSE);
        }
        Ok(())
    }

    /// Takes the console's input away, for a thread that relays the user's keys.
    pub fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.stdin.take()
    }

    /// Whether the console's output also goes to our own standard output.
    pub fn show_output(&self, on: bool) {
        self.tee.store(on, Ordering::Relaxed);
    }

    /// Whether QEMU has ended.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.reader.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// QEMU's process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.group.leader()
    }

    /// Where the console is logged.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        self.group.signal(Signal::KILL);
        if let Some(reader) = self.reader.take() {
            // A reader that panicked has nothing left to tell.
            let _ = reader.join();
        }
    }
}

fn spawn(command: &mut Command) -> Result<(Child, ChildStdin, ChildStdout)> {
    let mut child =
        command.spawn().context("cannot run setpriv and qemu-system-aarch64; try `cargo xtask setup`")?;
    let stdin = child.stdin.take().context("no pipe to QEMU")?;
    let stdout = child.stdout.take().context("no pipe from QEMU")?;
    Ok((child, stdin, stdout))
}

/// Copies the console to the log, to `lines`, and to our output when asked for.
fn relay(mut from: impl Read, mut log: File, lines: &Sender<String>, tee: &AtomicBool) {
    let started = Instant::now();
    let mut line = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let data = buffer.get(..count).unwrap_or_default();
        if tee.load(Ordering::Relaxed) {
            let mut out = stdout().lock();
            // A terminal that is gone takes nothing away from the run.
            let _ = out.write_all(data).and_then(|()| out.flush());
        }
        for &byte in data {
            match byte {
                b'\n' => {
                    let text = String::from_utf8_lossy(&line).into_owned();
                    line.clear();
                    let at = started.elapsed().as_secs_f64();
                    // A full disk must not end the run.
                    let _ = writeln!(log, "[{at:9.3}] {text}");
                    // Nobody may be listening any more.
                    let _ = lines.send(text);
                }
                b'\r' => {}
                other => line.push(other),
            }
        }
    }
    if !line.is_empty() {
        // As above.
        let _ = writeln!(log, "{}", String::from_utf8_lossy(&line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_console_is_split_into_lines_and_logged() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("log");
        let (sender, receiver) = mpsc::channel();
        let tee = AtomicBool::new(false);
        relay(&b"one\r\ntwo\nhalf"[..], File::create(&path)?, &sender, &tee);
        assert_eq!(receiver.try_iter().collect::<Vec<_>>(), ["one", "two"]);
        let log = fs::read_to_string(&path)?;
        assert!(log.contains("] one\n") && log.ends_with("half\n"));
        Ok(())
    }

    #[test]
    fn commas_of_a_path_are_doubled() {
        assert_eq!(option(Path::new("/a,b/c")), "/a,,b/c");
    }
}
