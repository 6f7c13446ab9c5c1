//! What the user sees: one line per step, with a spinner on a terminal.

use std::fmt::Display;
use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

/// A step under way.
#[derive(Debug)]
pub struct Step {
    what: String,
    bar: Option<ProgressBar>,
}

impl Step {
    /// Tells what the step is doing right now (only seen on a terminal).
    pub fn say(&self, detail: impl Display) {
        if let Some(bar) = &self.bar {
            let detail: String = detail.to_string().chars().take(60).collect();
            bar.set_message(format!("{}: {detail}", self.what));
        }
    }

    /// Prints a line that stays.
    pub fn note(&self, line: impl Display) {
        match &self.bar {
            Some(bar) => bar.println(format!("    {line}")),
            None => eprintln!("    {line}"),
        }
    }
}

/// Runs `work` as a named step: told before it starts, its duration told after it ends.
///
/// # Errors
/// Whatever `work` returns.
pub fn step<T>(what: impl Into<String>, work: impl FnOnce(&Step) -> Result<T>) -> Result<T> {
    let what = what.into();
    let bar = stderr().is_terminal().then(|| {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("  {spinner} {wide_msg} {elapsed}") {
            bar.set_style(style);
        }
        bar.set_message(what.clone());
        bar.enable_steady_tick(Duration::from_millis(100));
        bar
    });
    if bar.is_none() {
        eprintln!("  > {what}");
    }
    let step = Step { what, bar };
    let started = Instant::now();
    let result = work(&step);
    let mark = if result.is_ok() { "✓" } else { "✗" };
    let took = started.elapsed().as_secs_f64();
    if let Some(bar) = &step.bar {
        bar.finish_and_clear();
    }
    eprintln!("  {mark} {} ({took:.1} s)", step.what);
    result
}

/// Prints a heading.
pub fn heading(text: impl Display) {
    eprintln!("{text}");
}
