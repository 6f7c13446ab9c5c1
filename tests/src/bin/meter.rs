//! dom0's side of the benchmark: CPU time of each domain in the spans that a guest marks.
//!
//! `meter TTY NAME=DOMID...` reads the guest's console (its pty, so without delay or polling).
//! It answers `PF ready` with a line, on which the guest begins. At `PF begin WORDS` and at
//! `PF end LABEL WORDS` it asks Xen for the CPU time of the domains named, in nanoseconds, and
//! tells the span as the fact `m.LABEL`: the words of both marks and what each domain has run
//! in between. At `PF stats LABEL` it asks the stub (the domain named `stub`) for its counters,
//! tells them as the fact `s.LABEL` and answers with a line. `PF done` and `PF error` end it, and
//! so does a guest that says nothing for a minute: then the counters tell what hangs. It runs through the whole measurement, so that
//! no process starts within a span.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::process::Command;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use xen_privcmd::Privcmd;

/// A domain and what the benchmark calls it.
struct Domain {
    name: String,
    domid: u16,
}

/// What was seen at a mark.
struct Mark {
    at: Instant,
    words: String,
    cpu_ns: Vec<u64>,
}

impl Mark {
    fn take(xen: &Privcmd, domains: &[Domain], words: &str) -> Result<Mark> {
        let usage = |domain: &Domain| -> Result<u64> {
            let usage = xen.domain_usage(domain.domid)?;
            Ok(usage.with_context(|| format!("domain {} is gone", domain.name))?.cpu_ns)
        };
        let cpu_ns = domains.iter().map(usage).collect::<Result<_>>()?;
        Ok(Mark { at: Instant::now(), words: words.to_owned(), cpu_ns })
    }
}

fn domain(argument: &str) -> Result<Domain> {
    let (name, domid) = argument.split_once('=').context("NAME=DOMID")?;
    let domid = domid.parse().with_context(|| format!("bad domid in {argument:?}"))?;
    Ok(Domain { name: name.to_owned(), domid })
}

/// The fact that tells of a span; each number has its unit in its name.
fn fact(label: &str, domains: &[Domain], from: &Mark, to: &Mark) -> String {
    let ns = to.at.duration_since(from.at).as_nanos();
    let mut fact = format!("@@PF fact m.{label}=ns={ns} from={} to={}", from.words, to.words);
    for (domain, (from, to)) in domains.iter().zip(from.cpu_ns.iter().zip(&to.cpu_ns)) {
        fact += &format!(" {}_ns={}", domain.name, to.saturating_sub(*from));
    }
    fact
}

/// A guest that says nothing for so long has hung.
const SILENCE: Duration = Duration::from_secs(60);
/// How long the stub may take to answer, in steps.
const STEP: Duration = Duration::from_millis(20);
const STEPS: u32 = 100;

/// Has the stub write its counters, and returns them; see `image/life/src/stats.rs`.
fn counters(stub: u16, word: u32) -> Result<Option<String>> {
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

/// The lines of the console, read by a thread of their own, so that one can wait for a time.
fn lines_of(console: File) -> Receiver<std::io::Result<Vec<u8>>> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(console).split(b'\n') {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    lines
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((tty, domains)) = arguments.split_first() else {
        bail!("usage: meter TTY NAME=DOMID...");
    };
    let domains = domains.iter().map(|argument| domain(argument)).collect::<Result<Vec<_>>>()?;
    let xen = Privcmd::open()?;
    // Pages, once: they do not change.
    for domain in &domains {
        let usage = xen.domain_usage(domain.domid)?.with_context(|| format!("no domain {}", domain.name))?;
        println!("@@PF fact memory_kib_{}={}", domain.name, usage.pages * 4);
    }
    let console = File::options().read(true).write(true).open(tty).with_context(|| tty.clone())?;
    let mut answers = console.try_clone()?;
    let mut begun: Option<Mark> = None;
    let stub = domains.iter().find(|domain| domain.name == "stub").map(|domain| domain.domid);
    let mut questions = 0;
    let lines = lines_of(console);
    loop {
        let line = match lines.recv_timeout(SILENCE) {
            Ok(line) => line?,
            Err(RecvTimeoutError::Timeout) => {
                questions += 1;
                let told = stub.map(|stub| counters(stub, questions)).transpose()?.flatten();
                bail!("the guest is silent; the stub says: {}", told.as_deref().unwrap_or("nothing"));
            }
            Err(RecvTimeoutError::Disconnected) => bail!("the console ended before the guest was done"),
        };
        let line = String::from_utf8_lossy(&line);
        let Some((_, said)) = line.split_once("PF ") else { continue };
        let said = said.trim_end();
        let (word, rest) = said.split_once([' ', '=']).unwrap_or((said, ""));
        match word {
            "ready" => answers.write_all(b"go\n")?,
            "begin" => begun = Some(Mark::take(&xen, &domains, rest)?),
            "end" => {
                let (label, words) = rest.split_once(' ').context("an end without words")?;
                let to = Mark::take(&xen, &domains, words)?;
                let from = begun.take().context("an end without a begin")?;
                println!("{}", fact(label, &domains, &from, &to));
            }
            "stats" => {
                questions += 1;
                if let Some(line) = stub.map(|stub| counters(stub, questions)).transpose()?.flatten() {
                    println!("@@PF fact s.{rest}={line}");
                }
                answers.write_all(b"go\n")?;
            }
            "done" => return Ok(()),
            "error" => bail!("the guest says: {rest}"),
            _ => println!("@@PF fact guest_{word}={rest}"),
        }
    }
}
