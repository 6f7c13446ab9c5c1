//! Kept inputs for libFuzzer and back: `corpus unpack TARGET DIR` or `corpus pack TARGET DIR`.
//!
//! `pack` takes some of the shorter inputs of a directory that libFuzzer has filled.

use std::io::{Error, Result};
use std::path::Path;

use fuzz_targets::corpus::{KEPT_MAX, LEN_MAX, from_line, path, to_line};

fn unpack(target: &str, dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir)?;
    for (number, line) in std::fs::read_to_string(path(target))?.lines().enumerate() {
        let input =
            from_line(line).ok_or_else(|| Error::other(format!("line {}: not an input", number + 1)))?;
        std::fs::write(dir.join(format!("kept-{number}")), input)?;
    }
    Ok(())
}

fn pack(target: &str, dir: &Path) -> Result<()> {
    let files = std::fs::read_dir(dir)?.collect::<Result<Vec<_>>>()?;
    let mut inputs = files.iter().map(|file| std::fs::read(file.path())).collect::<Result<Vec<_>>>()?;
    inputs.retain(|input| !input.is_empty() && input.len() <= LEN_MAX);
    inputs.sort_by(|a, b| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
    // Long inputs reach what short ones cannot: of too many, every n-th.
    let step = inputs.len().div_ceil(KEPT_MAX).max(1);
    let lines: Vec<String> = inputs.iter().step_by(step).map(|input| to_line(input) + "\n").collect();
    std::fs::write(path(target), lines.concat())
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["unpack", target, dir] => unpack(target, Path::new(dir)),
        ["pack", target, dir] => pack(target, Path::new(dir)),
        _ => Err(Error::other("usage: corpus unpack|pack TARGET DIR")),
    }
}
