//! The syntax of shell scripts: those of dom0 and of guests run hours after they were written.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::process;

/// What the shell that runs a script says of its syntax; `None` when nothing is wrong.
///
/// # Errors
/// When the file cannot be read.
pub fn fault(script: &Path) -> Result<Option<String>> {
    let text = fs::read_to_string(script)?;
    let checked = process::output(Command::new(shell_of(script, &text)).arg("-n").arg(script));
    Ok(checked.err().map(|error| error.to_string()))
}

/// Guests have busybox's sh only, and so has what says so; dom0 has bash.
fn shell_of(script: &Path, text: &str) -> &'static str {
    let is_guests = script.parent().is_some_and(|dir| dir.ends_with("guest"));
    let is_posix = |line: &str| line.starts_with("#!/bin/sh") || line.contains("shellcheck shell=sh");
    let says_so = text.lines().take_while(|line| line.starts_with('#')).any(is_posix);
    if is_guests || says_so { "sh" } else { "bash" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lint::files;

    #[test]
    fn a_script_is_read_by_the_shell_that_will_run_it() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let below = dir.path().join("guest");
        fs::create_dir(&below)?;
        let arrays = "names=(a b)\n";
        fs::write(dir.path().join("dom0.sh"), arrays)?;
        fs::write(dir.path().join("init.sh"), format!("# A guest's.\n# shellcheck shell=sh\n{arrays}"))?;
        fs::write(below.join("one.sh"), arrays)?;
        fs::write(below.join("notes.txt"), "(")?;
        let scripts = files::below(dir.path(), "sh")?;
        assert_eq!(scripts, [dir.path().join("dom0.sh"), below.join("one.sh"), dir.path().join("init.sh")]);
        assert_eq!(fault(&scripts[0])?, None);
        for script in &scripts[1..] {
            assert!(fault(script)?.is_some_and(|why| why.contains("yntax error")), "{}", script.display());
        }
        Ok(())
    }
}
