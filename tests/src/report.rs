//! What a run leaves: verdict lines while it runs, a log per scenario, `tests.json`.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::json;
use xtask::agent::Outcome;
use xtask::setup::XenVersion;

use crate::scenario::Scenario;

/// One scenario's verdict on one machine.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Which scenario.
    pub scenario: Scenario,
    /// On which Xen.
    pub xen: XenVersion,
    /// The releases of Xen and dom0's kernel.
    pub versions: String,
    /// On which machine.
    pub board: String,
    /// What came of it.
    pub outcome: Outcome,
    /// Why it could not run or end, if it could not.
    pub trouble: Option<String>,
    /// How long it took here, in milliseconds.
    pub wall_ms: u64,
}

impl Verdict {
    /// Whether it ran to its end and every check held.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.trouble.is_none() && self.outcome.passed()
    }

    /// The line printed for it, and below it what failed.
    #[must_use]
    pub fn line(&self) -> String {
        let Self { scenario, xen, board, outcome, wall_ms, .. } = self;
        let word = if self.passed() { "pass" } else { "FAIL" };
        let seconds = std::time::Duration::from_millis(*wall_ms).as_secs_f64();
        let held = outcome.checks.iter().filter(|check| check.passed).count();
        let mut line = format!(
            "{word}  {:<20} Xen {xen} {board:<12} {seconds:6.1} s  {held}/{} checks",
            scenario.name,
            outcome.checks.len()
        );
        for check in outcome.checks.iter().filter(|check| !check.passed) {
            // Writing into a String cannot fail.
            let _ = write!(line, "\n        failed: {}", check.what);
        }
        if !self.passed() {
            let why = match (&self.trouble, outcome.status) {
                (Some(trouble), _) => Some(trouble.clone()),
                (None, None) => Some("dom0 or Xen went silent".to_owned()),
                (None, Some(124 | 143)) => Some(format!("not done within {} s", scenario.limit_s)),
                (None, Some(0)) if outcome.checks.is_empty() => Some("it checked nothing".to_owned()),
                (None, Some(0)) => None,
                (None, Some(status)) => Some(format!("exit status {status}")),
            };
            if let Some(why) = why {
                let _ = write!(line, "\n        {why}");
            }
        }
        line
    }

    /// Writes everything that the scenario printed to `<dir>/<xen>-<board>-<name>.log`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_log(&self, dir: &Path) -> Result<PathBuf> {
        fs::create_dir_all(dir)?;
        let path = dir.join(format!("{}-{}-{}.log", self.xen, self.board, self.scenario.name));
        let mut text = format!("{}\nrule: {}\n\n", self.line(), self.scenario.rule);
        for check in &self.outcome.checks {
            let word = if check.passed { "pass" } else { "FAIL" };
            let _ = writeln!(text, "{word}: {}", check.what);
        }
        for (key, value) in &self.outcome.facts {
            let _ = writeln!(text, "fact: {key}={value}");
        }
        text.push('\n');
        for line in &self.outcome.lines {
            text.push_str(line);
            text.push('\n');
        }
        fs::write(&path, text)?;
        Ok(path)
    }
}

/// Writes all verdicts and facts as JSON.
///
/// # Errors
/// When the file cannot be written.
pub fn write_json(verdicts: &[Verdict], path: &Path) -> Result<()> {
    let list: Vec<_> = verdicts
        .iter()
        .map(|verdict| {
            json!({
                "scenario": verdict.scenario.name,
                "xen": verdict.xen.as_str(),
                "board": verdict.board,
                "passed": verdict.passed(),
                "wall_ms": verdict.wall_ms,
                "checks": verdict.outcome.checks.len(),
                "facts": verdict.outcome.facts,
            })
        })
        .collect();
    fs::write(path, serde_json::to_string_pretty(&list)?)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::SCENARIOS;
    use xtask::agent::Check;

    fn verdict(status: Option<i32>, checks: &[(bool, &str)]) -> Verdict {
        let checks = checks.iter().map(|&(passed, what)| Check { passed, what: what.to_owned() }).collect();
        Verdict {
            scenario: SCENARIOS[0],
            xen: XenVersion::V4_20,
            versions: String::new(),
            board: "cpu".to_owned(),
            outcome: Outcome { status, checks, ..Outcome::default() },
            trouble: None,
            wall_ms: 1500,
        }
    }

    #[test]
    fn a_failed_check_is_named_below_the_verdict() {
        let line = verdict(Some(0), &[(true, "a"), (false, "no stub: expected 0, saw 1")]).line();
        assert!(line.starts_with("FAIL") && line.contains("1/2 checks"), "{line}");
        assert!(line.contains("failed: no stub: expected 0, saw 1"), "{line}");
    }

    #[test]
    fn a_dead_machine_a_timeout_and_an_empty_scenario_fail_with_the_reason() {
        assert!(verdict(None, &[(true, "a")]).line().contains("went silent"));
        assert!(verdict(Some(124), &[(true, "a")]).line().contains("not done within"));
        assert!(verdict(Some(0), &[]).line().contains("checked nothing"));
        assert!(verdict(Some(0), &[(true, "a")]).line().starts_with("pass"));
    }
}
