//! The lines that dom0's agent prints, told apart from everything else on the console.
//!
//! Xen, the kernel and the agent share one serial line. The agent's own lines carry a
//! marker; whatever stands before the marker in a line was cut off by another writer.

use std::fmt;

/// What every line of the agent holds.
pub const MARKER: &str = "@@PF ";

/// What came of an attack, in the words of the Xen Test Framework.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Verdict {
    /// Nobody was harmed who must not be.
    Success,
    /// The same, since the machine's security policy refused the operations that the attack consists of.
    Refused,
    /// Somebody was.
    Failure,
    /// The attack could not be made.
    Error,
    /// This machine lacks what the attack needs.
    Skip,
}

impl Verdict {
    /// Every verdict.
    pub const ALL: [Self; 5] = [Self::Success, Self::Refused, Self::Failure, Self::Error, Self::Skip];

    /// Its word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Refused => "refused",
            Self::Failure => "failure",
            Self::Error => "error",
            Self::Skip => "skip",
        }
    }

    /// The verdict of that word.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verdict| verdict.word() == word)
    }

    /// Whether it says that somebody was harmed, or that the attack was not made though it could have been.
    #[must_use]
    pub const fn is_bad(self) -> bool {
        matches!(self, Self::Failure | Self::Error)
    }
}

/// How long others were held up at worst during an attack, in milliseconds, as far as that was measured.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Stalls {
    /// How late a short sleep of dom0's ended.
    pub dom0_ms: Option<u64>,
    /// The longest round of the bystander's verified I/O that ended in that time.
    pub bystander_ms: Option<u64>,
}

impl Stalls {
    /// Reads `DOM0/BYSTANDER`; `-` is not measured.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (dom0, bystander) = text.split_once('/')?;
        let of = |text: &str| if text == "-" { Some(None) } else { text.parse().ok().map(Some) };
        Some(Self { dom0_ms: of(dom0)?, bystander_ms: of(bystander)? })
    }
}

impl fmt::Display for Stalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |ms: Option<u64>| ms.map_or("-".to_owned(), |ms| ms.to_string());
        write!(f, "{}/{}", text(self.dom0_ms), text(self.bystander_ms))
    }
}

/// One attack of a scenario.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Attack {
    /// Its name.
    pub name: String,
    /// What came of it.
    pub verdict: Verdict,
    /// How long it took, in milliseconds.
    pub ms: u64,
    /// Whom it held up, and for how long.
    pub stalls: Stalls,
    /// Why it is no success; empty if it is one.
    pub why: String,
}

/// One line of the agent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// The agent waits for a command.
    Ready,
    /// A scenario has begun.
    Begin(String),
    /// A scenario has ended.
    End {
        /// Its name.
        name: String,
        /// Its exit status; 124 after a timeout, as timeout(1) has it.
        status: i32,
        /// How long it took, in milliseconds of dom0's clock.
        ms: u64,
    },
    /// A measured value.
    Fact {
        /// What was measured.
        key: String,
        /// Its value, verbatim.
        value: String,
    },
    /// A check of the scenario.
    Check {
        /// Whether it held.
        passed: bool,
        /// What was checked.
        what: String,
    },
    /// An attack of the scenario.
    Attack(Attack),
    /// A line of the scenario's own output.
    Text(String),
}

/// Reads one line of the console; `None` when it is not the agent's.
#[must_use]
pub fn parse(line: &str) -> Option<Event> {
    let (_, rest) = line.split_once(MARKER)?;
    let rest = rest.trim_end();
    let (word, argument) = rest.split_once(' ').unwrap_or((rest, ""));
    match word {
        "ready" => Some(Event::Ready),
        "begin" => Some(Event::Begin(argument.to_owned())),
        "end" => end(argument),
        "fact" => argument
            .split_once('=')
            .map(|(key, value)| Event::Fact { key: key.to_owned(), value: value.to_owned() }),
        "pass" | "fail" => Some(Event::Check { passed: word == "pass", what: argument.to_owned() }),
        "attack" => attack(argument).map(Event::Attack),
        "|" => Some(Event::Text(argument.to_owned())),
        _ => None,
    }
}

fn end(argument: &str) -> Option<Event> {
    let mut fields = argument.split(' ');
    let name = fields.next()?.to_owned();
    let status = fields.next()?.strip_prefix("rc=")?.parse().ok()?;
    let ms = fields.next()?.strip_prefix("ms=")?.parse().ok()?;
    Some(Event::End { name, status, ms })
}

fn attack(argument: &str) -> Option<Attack> {
    let mut fields = argument.splitn(4, ' ');
    let name = fields.next()?.to_owned();
    let verdict = Verdict::of(fields.next()?)?;
    let ms = fields.next()?.parse().ok()?;
    let rest = fields.next().unwrap_or("").trim();
    let (stalls, why) = match rest.strip_prefix("stalls=") {
        Some(rest) => rest.split_once(' ').unwrap_or((rest, "")),
        None => ("-/-", rest),
    };
    Some(Attack { name, verdict, ms, stalls: Stalls::parse(stalls)?, why: why.trim().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_others_are_not_the_agents() {
        assert_eq!(parse("(XEN) end demo rc=0 ms=1"), None);
        assert_eq!(parse("[    1.0] xen: something"), None);
        assert_eq!(parse("@@PF unknown words"), None);
    }

    #[test]
    fn a_begin_and_an_end_are_read() {
        assert_eq!(parse("@@PF begin demo"), Some(Event::Begin("demo".into())));
        let end = Event::End { name: "demo".into(), status: 124, ms: 1200 };
        assert_eq!(parse("@@PF end demo rc=124 ms=1200\r"), Some(end));
        assert_eq!(parse("@@PF end demo rc=x ms=1"), None);
    }

    #[test]
    fn what_another_writer_left_before_the_marker_is_dropped() {
        assert_eq!(parse("[    3.1] xen@@PF ready"), Some(Event::Ready));
    }

    #[test]
    fn a_fact_keeps_its_value_verbatim() {
        let fact = Event::Fact { key: "args".into(), value: "a=b c".into() };
        assert_eq!(parse("@@PF fact args=a=b c"), Some(fact));
        assert_eq!(parse("@@PF fact novalue"), None);
    }

    #[test]
    fn checks_and_text_are_read() {
        let check = |passed| Event::Check { passed, what: "no stub is left".into() };
        assert_eq!(parse("@@PF pass no stub is left"), Some(check(true)));
        assert_eq!(parse("@@PF fail no stub is left"), Some(check(false)));
        assert_eq!(parse("@@PF | x  y"), Some(Event::Text("x  y".into())));
        assert_eq!(parse("@@PF |"), Some(Event::Text(String::new())));
    }

    #[test]
    fn an_attack_has_a_name_a_verdict_a_time_and_perhaps_a_reason() {
        let attack = |verdict, why: &str| {
            let stalls = Stalls::default();
            Attack { name: "a-b".into(), verdict, ms: 12, stalls, why: why.into() }
        };
        assert_eq!(parse("@@PF attack a-b success 12 "), Some(Event::Attack(attack(Verdict::Success, ""))));
        assert_eq!(
            parse("@@PF attack a-b failure 12 a page was written"),
            Some(Event::Attack(attack(Verdict::Failure, "a page was written")))
        );
        for (text, dom0_ms, bystander_ms, why) in [
            ("stalls=40/900", Some(40), Some(900), ""),
            ("stalls=-/900 a page", None, Some(900), "a page"),
            ("stalls=0/- ", Some(0), None, ""),
        ] {
            let stalls = Stalls { dom0_ms, bystander_ms };
            let expected = Attack { stalls, ..attack(Verdict::Refused, why) };
            assert_eq!(parse(&format!("@@PF attack a-b refused 12 {text}")), Some(Event::Attack(expected)));
            assert_eq!(Stalls::parse(&stalls.to_string()), Some(stalls));
        }
        for broken in ["a-b fine 12", "a-b success soon", "a-b success 1 stalls=x/1", "a-b", ""] {
            assert_eq!(parse(&format!("@@PF attack {broken}")), None, "{broken}");
        }
    }
}
