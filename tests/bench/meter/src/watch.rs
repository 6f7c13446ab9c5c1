//! Spans that guests mark on their consoles.
//!
//! Each guest's console (its pty, so without delay or polling) says, in lines with `PF `:
//!
//! | line | answer |
//! |---|---|
//! | `ready` | one line, once every guest is ready, however often a guest says so |
//! | `turn` | a line, when the guest that had the turn has given it back by its own `turn` or its end, and every guest waits for one: in turns, so that they never measure at once |
//! | `begin WORDS`, `end LABEL WORDS` | none: at both, Xen is asked for the CPU time of that guest's domains. The span is told as the fact `m.LABEL`: the words of both marks, and what each domain has run in between, in nanoseconds |
//! | `stats LABEL` | a line, once the domain named `stub` has told its counters: the fact `s.LABEL` |
//! | `done` | none: when all are done, so is the meter |
//! | `error WORDS` | none: ends it |
//!
//! So do guests that say nothing for two minutes: then the counters tell what hangs.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use xen_privcmd::Privcmd;

use crate::mark::{Domain, Mark, fact};
use crate::stats;

/// Guests that say nothing for so long have hung: a span of a fixed amount of work may take its time.
const SILENCE: Duration = Duration::from_secs(120);

/// A guest and those that work for it.
struct Guest {
    answers: File,
    domains: Vec<Domain>,
    begun: Option<Mark>,
    ready: bool,
    started: bool,
    done: bool,
}

impl Guest {
    fn answer(&mut self) -> Result<()> {
        Ok(self.answers.write_all(b"go\n")?)
    }

    fn domid(&self, name: &str) -> Option<u16> {
        self.domains.iter().find(|domain| domain.name == name).map(|domain| domain.domid)
    }
}

/// The guest says that it is ready; whether it is to be told now that all are. A guest that waits says it again and again,
/// and a second answer would be taken for that to something else.
fn starts(guests: &mut [Guest], from: usize) -> bool {
    if let Some(guest) = guests.get_mut(from) {
        guest.ready = true;
    }
    let all = guests.iter().all(|guest| guest.ready);
    let guest = guests.get_mut(from).filter(|guest| all && !guest.started);
    guest.is_some_and(|guest| {
        guest.started = true;
        true
    })
}

/// Who may measure.
#[derive(Default)]
struct Turns {
    waiting: VecDeque<usize>,
    holder: Option<usize>,
}

impl Turns {
    /// The guest wants a turn, and so gives back the one it has.
    fn ask(&mut self, guest: usize) {
        self.end(guest);
        self.waiting.push_back(guest);
    }

    fn end(&mut self, guest: usize) {
        self.holder.take_if(|holder| *holder == guest);
    }

    /// Who gets the turn now, of this many guests that still measure.
    fn next(&mut self, guests: usize) -> Option<usize> {
        if self.holder.is_none() && self.waiting.len() == guests {
            self.holder = self.waiting.pop_front();
            return self.holder;
        }
        None
    }
}

type Line = (usize, std::io::Result<Vec<u8>>);

/// Sends a console's lines, from a thread of its own, so that one can wait for a time.
fn read_lines(guest: usize, console: File, to: Sender<Line>) {
    thread::spawn(move || {
        for line in BufReader::new(console).split(b'\n') {
            if to.send((guest, line)).is_err() {
                break;
            }
        }
    });
}

fn open(arguments: &[String]) -> Result<(Vec<Guest>, Receiver<Line>)> {
    let (sender, lines) = mpsc::channel();
    let mut guests: Vec<Guest> = Vec::new();
    for argument in arguments {
        if argument.contains('=') {
            let guest = guests.last_mut().context("NAME=DOMID before any TTY")?;
            guest.domains.push(Domain::parse(argument)?);
            continue;
        }
        let console = File::options().read(true).write(true).open(argument);
        let console = console.with_context(|| argument.clone())?;
        let answers = console.try_clone()?;
        read_lines(guests.len(), console, sender.clone());
        guests.push(Guest {
            answers,
            domains: Vec::new(),
            begun: None,
            ready: false,
            started: false,
            done: false,
        });
    }
    ensure!(!guests.is_empty(), "usage: meter [unpause] TTY NAME=DOMID... [TTY NAME=DOMID...]");
    Ok((guests, lines))
}

/// The consoles that are watched, and what they have said.
struct Watch {
    xen: Privcmd,
    guests: Vec<Guest>,
    turns: Turns,
    /// How many questions stubs were asked.
    questions: u32,
}

/// Watches until all are done. `unpause`: the guests named `guest` were paused until now.
///
/// # Errors
/// When a guest says so or is silent, and when a domain is gone.
pub fn run(arguments: &[String], unpause: bool) -> Result<()> {
    let (guests, lines) = open(arguments)?;
    let mut watch = Watch { xen: Privcmd::open()?, guests, turns: Turns::default(), questions: 0 };
    watch.tell_memory()?;
    for domid in watch.guests.iter().filter(|_| unpause).filter_map(|guest| guest.domid("guest")) {
        watch.xen.unpause(domid)?;
    }
    while watch.left() > 0 {
        let (from, line) = match lines.recv_timeout(SILENCE) {
            // The console of a guest that has gone.
            Ok((from, Err(_))) if watch.guests.get(from).is_some_and(|guest| guest.done) => continue,
            Ok((from, line)) => (from, line?),
            Err(RecvTimeoutError::Timeout) => {
                watch.tell_counters()?;
                bail!("no guest says anything");
            }
            Err(RecvTimeoutError::Disconnected) => bail!("the consoles ended before the guests were done"),
        };
        let line = String::from_utf8_lossy(&line);
        let Some((_, said)) = line.split_once("PF ") else { continue };
        watch.hear(from, said.trim_end())?;
        watch.give_turn()?;
    }
    Ok(())
}

impl Watch {
    /// Tells the domains' pages, once: they do not change.
    fn tell_memory(&self) -> Result<()> {
        for domain in self.guests.iter().flat_map(|guest| &guest.domains) {
            let usage = self.xen.domain_usage(domain.domid)?;
            let usage = usage.with_context(|| format!("no domain {}", domain.name))?;
            println!("@@PF fact memory_kib_{}={}", domain.name, usage.pages * 4);
        }
        Ok(())
    }

    /// Tells what the stubs have counted: that shows what hangs.
    fn tell_counters(&mut self) -> Result<()> {
        self.questions += 1;
        for stub in self.guests.iter().filter_map(|guest| guest.domid("stub")) {
            let told = stats::ask(stub, self.questions)?;
            eprintln!("stub {stub} says: {}", told.as_deref().unwrap_or("nothing"));
        }
        Ok(())
    }

    /// How many guests still measure.
    fn left(&self) -> usize {
        self.guests.iter().filter(|guest| !guest.done).count()
    }

    fn give_turn(&mut self) -> Result<()> {
        let next = self.turns.next(self.left());
        next.and_then(|next| self.guests.get_mut(next)).map_or(Ok(()), Guest::answer)
    }

    /// Does what a line of the guest `from` asks for.
    fn hear(&mut self, from: usize, said: &str) -> Result<()> {
        let (word, rest) = said.split_once([' ', '=']).unwrap_or((said, ""));
        let guest = self.guests.get_mut(from).context("a line of nobody")?;
        match word {
            "ready" => {
                if starts(&mut self.guests, from) {
                    self.guests.get_mut(from).context("nobody")?.answer()?;
                }
            }
            "turn" => self.turns.ask(from),
            "begin" => guest.begun = Some(Mark::take(&self.xen, &guest.domains, rest)?),
            "end" => {
                let (label, words) = rest.split_once(' ').context("an end without words")?;
                let to = Mark::take(&self.xen, &guest.domains, words)?;
                let begun = guest.begun.take().context("an end without a begin")?;
                println!("{}", fact(label, &guest.domains, &begun, &to));
            }
            "stats" => {
                self.questions += 1;
                let stub = guest.domid("stub");
                let told = stub.map(|stub| stats::ask(stub, self.questions)).transpose()?.flatten();
                if let Some(line) = told {
                    println!("@@PF fact s.{rest}={line}");
                }
                guest.answer()?;
            }
            "done" => {
                guest.done = true;
                self.turns.end(from);
            }
            "error" => bail!("a guest says: {rest}"),
            _ => println!("@@PF fact guest_{word}={rest}"),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_guest_is_told_once_that_all_are_ready() -> Result<()> {
        let guest = || -> Result<Guest> {
            let answers = File::open("/dev/null")?;
            Ok(Guest { answers, domains: Vec::new(), begun: None, ready: false, started: false, done: false })
        };
        let mut guests = [guest()?, guest()?];
        assert_eq!(
            [0, 0, 1, 0, 0, 1, 2].map(|from| starts(&mut guests, from)),
            [false, false, true, true, false, false, false]
        );
        Ok(())
    }

    #[test]
    fn guests_measure_in_turns_and_the_first_waits_for_the_last() {
        let mut turns = Turns::default();
        turns.ask(0);
        assert_eq!(turns.next(2), None);
        turns.ask(1);
        assert_eq!(turns.next(2), Some(0));
        assert_eq!(turns.next(2), None);
        turns.ask(0);
        assert_eq!(turns.next(2), Some(1));
        turns.end(1);
        assert_eq!(turns.next(1), Some(0));
    }
}
