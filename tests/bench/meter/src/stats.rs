//! Asking a stub for its counters: `ask` and `stats` in `data/pilotfish` of its xenstore directory.

use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;

/// How long the stub may take to answer, in steps.
const STEP: Duration = Duration::from_millis(20);
const STEPS: u32 = 100;

/// Has the stub write its counters, and returns them; `word` tells this question from others.
///
/// # Errors
/// When xenstore's programs do not start.
pub fn ask(stub: u16, word: u32) -> Result<Option<String>> {
    let node = |name: &str| format!("/local/domain/{stub}/data/pilotfish/{name}");
    Command::new("xenstore-write").args([node("ask"), word.to_string()]).status()?;
    let answered = format!("asked={word} ");
    for _ in 0..STEPS {
        let output = Command::new("xenstore-read").arg(node("stats")).output()?;
        let line = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
        if line.starts_with(&answered) {
            return Ok(Some(line));
        }
        sleep(STEP);
    }
    Ok(None)
}
