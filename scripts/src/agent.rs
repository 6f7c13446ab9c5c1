//! The conversation with dom0's agent (`tests/dom0/agent.sh`) over the console.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::protocol::{self, Attack, Event};
use crate::qemu::{Machine, Qemu};

/// How long a boot to the agent's prompt may take.
const BOOT_LIMIT: Duration = Duration::from_secs(150);
/// How much longer than the scenario's own limit we wait for its end marker.
const END_GRACE: Duration = Duration::from_secs(30);
/// How often a machine that is to be kept awake gets a key on its console.
const KEY_INTERVAL: Duration = Duration::from_secs(5);
/// The key: XON, which dom0's terminal swallows, so that no command is spoilt.
const KEY: &[u8] = b"\x11";
/// How long dom0 may take to power the machine off.
const POWEROFF_LIMIT: Duration = Duration::from_secs(20);

/// A check that a scenario made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Check {
    /// Whether it held.
    pub passed: bool,
    /// What was checked.
    pub what: String,
}

/// What came of a scenario.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Exit status; 124 after a timeout. `None` when the machine died or went silent.
    pub status: Option<i32>,
    /// Milliseconds of dom0's clock.
    pub ms: u64,
    /// Every check, in order.
    pub checks: Vec<Check>,
    /// Every attack, in order. What they must not harm is among the checks too.
    pub attacks: Vec<Attack>,
    /// Every measured value; the last one wins.
    pub facts: BTreeMap<String, String>,
    /// The scenario's own output.
    pub lines: Vec<String>,
}

impl Outcome {
    /// Whether the scenario ran to its end, checked something, and every check held.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.status == Some(0) && !self.checks.is_empty() && self.checks.iter().all(|check| check.passed)
    }

    /// Takes in one event; true when it ends the scenario `name`.
    fn take(&mut self, event: Event, name: &str) -> bool {
        match event {
            Event::End { name: ended, status, ms } if ended == name => {
                self.status = Some(status);
                self.ms = ms;
                return true;
            }
            Event::Fact { key, value } => {
                self.facts.insert(key, value);
            }
            Event::Check { passed, what } => self.checks.push(Check { passed, what }),
            Event::Attack(attack) => self.attacks.push(attack),
            Event::Text(line) => self.lines.push(line),
            Event::Ready | Event::Begin(_) | Event::End { .. } => {}
        }
        false
    }
}

/// How long a scenario may take, and how the machine is treated meanwhile.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Of dom0's clock, for all of it.
    pub limit: Duration,
    /// Of ours, between two lines of the agent. A machine that is silent for longer has ended.
    pub silence: Duration,
    /// A key goes to the console every 5 s. A physical CPU of the emulated machine sometimes loses its
    /// timer's interrupt and sleeps until another one comes, so a long run needs the keys. A short run
    /// gets none, since they would hide such a fault of our own.
    pub keep_awake: bool,
}

impl Patience {
    /// No more than that, silent or not, and no keys.
    #[must_use]
    pub const fn of(limit: Duration) -> Self {
        Self { limit, silence: limit.saturating_add(END_GRACE), keep_awake: false }
    }
}

/// A booted machine whose agent waits for commands.
#[derive(Debug)]
pub struct Agent {
    qemu: Qemu,
}

impl Agent {
    /// Starts `machine` and waits for the agent's prompt; `on_line` sees every line.
    ///
    /// # Errors
    /// When the machine does not come up: the message names the log.
    pub fn boot(machine: &Machine, mut on_line: impl FnMut(&str)) -> Result<Self> {
        let agent = Self { qemu: Qemu::start(machine)? };
        agent.wait_ready(BOOT_LIMIT, &mut on_line).context("dom0 did not come up")?;
        Ok(agent)
    }

    /// Runs `/scenarios/<name>.sh` in dom0; `on_event` sees each of the agent's lines.
    /// Afterwards the agent has destroyed whatever domains the scenario left.
    ///
    /// # Errors
    /// On Ctrl-C and at the machine's time limit. A scenario that fails, hangs or takes
    /// the machine down is no error but an [`Outcome`]; after one without a status, boot again.
    pub fn run(
        &mut self,
        name: &str,
        patience: Patience,
        mut on_event: impl FnMut(&Event),
    ) -> Result<Outcome> {
        let Patience { limit, silence, keep_awake } = patience;
        let mut outcome = Outcome::default();
        let end = Instant::now() + limit + END_GRACE;
        let mut until = end.min(Instant::now() + silence);
        if self.qemu.send(format!("run {name} {}\n", limit.as_secs()).as_bytes()).is_err() {
            return Ok(outcome);
        }
        let mut next_key = keep_awake.then(Instant::now);
        while let Some(line) = self.next_line(until, &mut next_key)? {
            let Some(event) = protocol::parse(&line) else {
                continue;
            };
            until = end.min(Instant::now() + silence);
            on_event(&event);
            if outcome.take(event, name) {
                // Its leftovers are cleared before the next prompt.
                self.wait_ready(END_GRACE, &mut |_| {})?;
                return Ok(outcome);
            }
        }
        Ok(outcome)
    }

    /// Powers the machine off and waits for QEMU to end.
    ///
    /// # Errors
    /// On Ctrl-C and at the machine's time limit.
    pub fn poweroff(mut self) -> Result<()> {
        let until = Instant::now() + POWEROFF_LIMIT;
        if self.qemu.send(b"poweroff\n").is_ok() {
            while self.qemu.line(Some(until))?.is_some() {}
        }
        Ok(())
    }

    /// QEMU's process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.qemu.pid()
    }

    /// Gives the console away, for an interactive session.
    #[must_use]
    pub fn into_console(self) -> Qemu {
        self.qemu
    }

    /// The next line of the console; `None` when QEMU has ended or `until` has passed. Sends the
    /// keys that are due meanwhile.
    fn next_line(&mut self, until: Instant, next_key: &mut Option<Instant>) -> Result<Option<String>> {
        loop {
            let now = Instant::now();
            if next_key.is_some_and(|due| due <= now) {
                // A machine that has ended shows by its lines.
                let _ = self.qemu.send(KEY);
                *next_key = Some(now + KEY_INTERVAL);
            }
            let line = self.qemu.line(Some(next_key.map_or(until, |due| due.min(until))))?;
            if line.is_some() || self.qemu.ended() || Instant::now() >= until {
                return Ok(line);
            }
        }
    }

    fn wait_ready(&self, limit: Duration, on_line: &mut dyn FnMut(&str)) -> Result<()> {
        let until = Instant::now() + limit;
        while let Some(line) = self.qemu.line(Some(until))? {
            if protocol::parse(&line) == Some(Event::Ready) {
                return Ok(());
            }
            on_line(&line);
        }
        bail!("no prompt from dom0's agent within {} s; see {}", limit.as_secs(), self.qemu.log().display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(lines: &[&str]) -> Outcome {
        let mut outcome = Outcome::default();
        for event in lines.iter().filter_map(|line| protocol::parse(line)) {
            if outcome.take(event, "s") {
                break;
            }
        }
        outcome
    }

    #[test]
    fn a_scenario_passes_when_it_ends_well_and_every_check_held() {
        assert!(outcome(&["@@PF pass a", "@@PF end s rc=0 ms=1"]).passed());
        assert!(!outcome(&["@@PF pass a", "@@PF fail b", "@@PF end s rc=0 ms=1"]).passed());
        assert!(!outcome(&["@@PF pass a", "@@PF end s rc=1 ms=1"]).passed());
    }

    #[test]
    fn a_scenario_that_checked_nothing_or_never_ended_does_not_pass() {
        assert!(!outcome(&["@@PF end s rc=0 ms=1"]).passed());
        assert!(!outcome(&["@@PF pass a"]).passed());
        assert!(!outcome(&["@@PF pass a", "@@PF end other rc=0 ms=1"]).passed());
    }
}
