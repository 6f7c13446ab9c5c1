//! Child processes: in their own group, logged, ended by an interrupt.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};

use crate::interrupt::{self, Group};

/// Lines of a failed command's log shown in the error.
const TAIL_LINES: usize = 15;

/// Runs `command` to its end with its output in the file `log`.
///
/// # Errors
/// When it cannot start or fails: the message holds the end of the log and its path.
pub fn run_logged(command: &mut Command, log: &Path) -> Result<()> {
    if let Some(dir) = log.parent() {
        fs::create_dir_all(dir)?;
    }
    let mut file = File::options().create(true).append(true).open(log)?;
    let from = file.seek(SeekFrom::End(0))?;
    command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    let status = wait(command)?;
    if !status.success() {
        bail!("{} failed ({status}); the end of {}:\n{}", describe(command), log.display(), tail(log, from));
    }
    Ok(())
}

/// Runs `command` to its end with its output on our own.
///
/// # Errors
/// When it cannot start or fails.
pub fn run_shown(command: &mut Command) -> Result<()> {
    command.stdin(Stdio::null());
    let status = wait(command)?;
    if !status.success() {
        bail!("{} failed ({status})", describe(command));
    }
    Ok(())
}

/// Runs `command` and returns what it printed on standard output.
///
/// # Errors
/// When it cannot start or fails: the message holds its standard error.
pub fn output(command: &mut Command) -> Result<String> {
    interrupt::check()?;
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let child = command.spawn().with_context(|| format!("cannot run {}", describe(command)))?;
    let _group = Group::of(&child);
    let output = child.wait_with_output()?;
    interrupt::check()?;
    if !output.status.success() {
        bail!(
            "{} failed ({}): {}",
            describe(command),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs `command` in its own process group and waits.
///
/// # Errors
/// When it cannot start, or we were interrupted.
pub fn wait(command: &mut Command) -> Result<ExitStatus> {
    interrupt::check()?;
    let mut child =
        command.process_group(0).spawn().with_context(|| format!("cannot run {}", describe(command)))?;
    let _group = Group::of(&child);
    let status = child.wait()?;
    interrupt::check()?;
    Ok(status)
}

/// The command's program and first arguments, for messages.
#[must_use]
pub fn describe(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args().take(8) {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}

/// Whether `program` is found on `PATH`.
#[must_use]
pub fn on_path(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}

fn tail(log: &Path, from: u64) -> String {
    let mut text = Vec::new();
    if let Ok(mut file) = File::open(log)
        && file.seek(SeekFrom::Start(from)).is_ok()
    {
        // An unreadable log only shortens the message.
        let _ = file.read_to_end(&mut text);
    }
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

/// Cargo's own job server is not make's.
pub fn without_job_server(make: &mut Command) {
    make.env_remove("MAKEFLAGS").env_remove("CARGO_MAKEFLAGS");
}
