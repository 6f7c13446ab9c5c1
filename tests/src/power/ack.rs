//! How an acknowledgement gets out of the guest: a line on its console, after the flush.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, channel};

use anyhow::{Context, Result, bail};

/// A writer and the record whose flush has returned.
pub type Ack = (u32, u32);

/// A channel for the writers; [`tell`] reads its other end.
#[must_use]
pub fn acks() -> (Sender<Ack>, Receiver<Ack>) {
    channel()
}

/// Prints a line for each acknowledgement, or one for several where the console is slower:
/// `PF NAME=SEQ,SEQ,...;`, the newest record of every writer. The `;` tells whole lines from
/// those that a dying guest did not finish. Ends with the last writer.
///
/// # Errors
/// When the console cannot be written.
pub fn tell(name: &str, writers: u32, acks: &Receiver<Ack>) -> io::Result<()> {
    let mut newest = vec![0; usize::try_from(writers).unwrap_or(0)];
    while let Ok(first) = acks.recv() {
        for (writer, seq) in std::iter::once(first).chain(acks.try_iter()) {
            if let Some(slot) = usize::try_from(writer).ok().and_then(|writer| newest.get_mut(writer)) {
                *slot = seq;
            }
        }
        let numbers: Vec<String> = newest.iter().map(u32::to_string).collect();
        let line = format!("PF {name}={};\n", numbers.join(","));
        // One write, so that no other writer's line gets into the middle.
        io::stdout().write_all(line.as_bytes())?;
        io::stdout().flush()?;
    }
    Ok(())
}

/// Reads what [`tell`] printed, without the name: the newest record of each writer. Nothing for
/// a guest that acknowledged nothing.
///
/// # Errors
/// When it is not whole or not for that many writers.
pub fn parse(line: &str, writers: u32) -> Result<Vec<u32>> {
    if line.is_empty() {
        return Ok(vec![0; usize::try_from(writers)?]);
    }
    let numbers = line.strip_suffix(';').with_context(|| format!("{line:?} has no end"))?;
    let numbers: Vec<u32> = numbers
        .split(',')
        .map(|number| number.parse().with_context(|| format!("{number:?} in {line:?} is no number")))
        .collect::<Result<_>>()?;
    if numbers.len() != usize::try_from(writers)? {
        bail!("{line:?} is not about {writers} writers");
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_lines_count() {
        assert_eq!(parse("1,20,3;", 3).unwrap(), [1, 20, 3]);
        assert_eq!(parse("", 2).unwrap(), [0, 0]);
        assert!(parse("1,20,3", 3).is_err());
        assert!(parse("1,20;", 3).is_err());
        assert!(parse("1,2x,3;", 3).is_err());
    }
}
