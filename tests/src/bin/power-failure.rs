//! The power failure test's program for guest and dom0; see `pilotfish_tests::power`.
#![forbid(unsafe_code)]

use std::path::Path;

use anyhow::{Context, Result, bail};
use pilotfish_tests::power::{Verdict, ack, files, plan, raw};

/// Violations shown; there may be one for every sector.
const SHOWN: usize = 10;

const USAGE: &str = "usage: power-failure write raw|files PATH EPOCH
       power-failure check raw|files PATH MEMORY EPOCH ACKED";

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (kind, verdict) = match *args.as_slice() {
        ["write", "raw", device, run] => return raw::write(Path::new(device), epoch(run)?),
        ["write", "files", dir, run] => return files::write(Path::new(dir), epoch(run)?),
        ["check", "raw", image, memory, run, acked] => {
            let acked = ack::parse(acked, plan::RAW_WRITERS)?;
            ("raw", raw::check(Path::new(image), Path::new(memory), epoch(run)?, &acked)?)
        }
        ["check", "files", dir, memory, run, acked] => {
            let acked = ack::parse(acked, plan::FILE_WRITERS)?;
            ("files", files::check(Path::new(dir), Path::new(memory), epoch(run)?, &acked)?)
        }
        _ => bail!(USAGE),
    };
    let Verdict { checked, acked, newer, violations } = verdict;
    println!("{kind} checked={checked} acked={acked} newer={newer} violations={}", violations.len());
    for violation in violations.iter().take(SHOWN) {
        println!("  {violation}");
    }
    if violations.is_empty() { Ok(()) } else { bail!("{} violations", violations.len()) }
}

fn epoch(text: &str) -> Result<u32> {
    text.parse().with_context(|| format!("bad epoch {text:?}"))
}
