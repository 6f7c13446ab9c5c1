//! What a scenario does right now, as one short line.

use xtask::protocol::Event;

/// How far a scenario has come.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    checks: u32,
    attacks: u32,
}

impl Progress {
    /// Takes in an event; what to show for it.
    pub fn line(&mut self, event: &Event) -> String {
        let what = match event {
            Event::Check { passed, what } => {
                self.checks = self.checks.saturating_add(1);
                format!("{}{what}", if *passed { "" } else { "FAILED " })
            }
            Event::Attack(attack) => {
                self.attacks = self.attacks.saturating_add(1);
                format!("{} {}", attack.name, attack.verdict.word())
            }
            Event::Fact { key, value } => format!("{key}={value}"),
            Event::Text(line) => line.clone(),
            Event::Ready | Event::Begin(_) | Event::End { .. } => String::new(),
        };
        match self.attacks {
            0 => format!("{} checks: {what}", self.checks),
            attacks => format!("{attacks} attacks: {what}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xtask::protocol::parse;

    #[test]
    fn checks_and_attacks_are_counted() {
        let mut progress = Progress::default();
        let mut line = |text: &str| progress.line(&parse(text).unwrap());
        assert_eq!(line("@@PF pass a guest starts"), "1 checks: a guest starts");
        assert_eq!(line("@@PF fail it stops"), "2 checks: FAILED it stops");
        assert_eq!(line("@@PF attack a-b refused 12 "), "1 attacks: a-b refused");
        assert_eq!(line("@@PF | words"), "1 attacks: words");
    }
}
