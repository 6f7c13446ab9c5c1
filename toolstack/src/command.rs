//! Running a program that may hang, for its output.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::fs::{MemfdFlags, memfd_create};

use crate::text::printable;

/// How often it is asked whether a program has ended.
const POLL_EVERY: Duration = Duration::from_millis(10);
/// At most this many bytes are read of what a program or a stub printed.
const OUTPUT_MAX: u64 = 16 << 10;

/// PATH, followed by the directories of system programs: libxl may call us from a shell without `sbin`.
pub fn path() -> OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    if !path.is_empty() {
        path.push(":");
    }
    path.push("/sbin:/usr/sbin:/bin:/usr/bin");
    path
}

/// Runs `program` and returns what it printed. `stop` is asked every few milliseconds.
///
/// # Errors
/// It cannot be run, fails, or `stop` gave a reason.
pub fn run(program: &Path, args: &[&str], stop: impl Fn() -> Option<&'static str>) -> Result<String> {
    // A file, not a pipe: whatever the program leaves behind may hold it open. One in memory, which
    // goes with its last user.
    let mut out = File::from(memfd_create("output", MemfdFlags::CLOEXEC).context("memfd_create")?);
    let mut child = Command::new(program)
        .args(args)
        .env("PATH", path())
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(out.try_clone()?)
        .process_group(0)
        .spawn()
        .with_context(|| format!("run {}", program.display()))?;
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if let Some(why) = stop() {
            // It may be gone by now; either way it is waited for.
            drop(child.kill());
            child.wait()?;
            bail!("{name} {}: {why}; it had said: {}", args.join(" "), summary(&tail(&mut out)));
        }
        std::thread::sleep(POLL_EVERY);
    };
    if !status.success() {
        bail!("{name} {}: {status}: {}", args.join(" "), summary(&tail(&mut out)));
    }
    Ok(tail(&mut out))
}

/// The last bytes of a file, as text.
pub fn tail(file: &mut File) -> String {
    let mut bytes = Vec::new();
    let length = file.metadata().map_or(0, |m| m.len());
    if file.seek(SeekFrom::Start(length.saturating_sub(OUTPUT_MAX))).is_ok() {
        // An unreadable rest is no worse than no rest: this is for people.
        let _ = file.take(OUTPUT_MAX).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What matters of a failed program's output, as one line: xl names the cause first, then its
/// consequences.
fn summary(text: &str) -> String {
    let telling = |l: &&str| !l.trim().is_empty() && !l.starts_with("Parsing config");
    let lines: Vec<String> = text.lines().filter(telling).take(3).map(|l| printable(l, 250)).collect();
    if lines.is_empty() { "nothing".to_owned() } else { lines.join(" | ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, stop: impl Fn() -> Option<&'static str>) -> Result<String> {
        run(Path::new("/bin/sh"), &["-c", script], stop)
    }

    #[test]
    fn what_a_program_prints_is_returned_and_why_it_failed_told() {
        assert_eq!(sh("echo out; echo err >&2", || None).unwrap(), "out\nerr\n");
        let error = sh("echo; echo \"no \u{7}room\" >&2; exit 3", || None).unwrap_err().to_string();
        assert!(error.ends_with("exit status: 3: no ?room"), "{error}");
        assert!(run(Path::new("/no/such"), &[], || None).unwrap_err().to_string().contains("/no/such"));
    }

    #[test]
    fn a_program_is_found_where_path_does_not_lead() {
        let first = std::env::var("PATH").unwrap_or_default();
        let said = sh("echo $PATH; command -v mount", || None).unwrap();
        assert!(said.starts_with(&first), "{said}");
        assert!(said.lines().next().unwrap().ends_with("/sbin:/usr/sbin:/bin:/usr/bin"), "{said}");
        assert!(said.trim().ends_with("/mount"), "{said}");
    }

    #[test]
    fn one_that_hangs_is_stopped_though_its_child_lives_on() {
        let error = sh("echo begun; sleep 30 & wait", || Some("enough")).unwrap_err().to_string();
        assert!(error.contains("enough"), "{error}");
    }
}
