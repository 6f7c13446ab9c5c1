//! Keeps the table of what Xen answers to each hypercall, and the document that is made from it:
//!
//! - `privileges take LOG...`: takes what `hostile-walk` saw, from its logs;
//! - `privileges document`: makes the document anew.
#![forbid(unsafe_code)]

use std::fs;

use anyhow::{Context, Result, bail, ensure};
use pilotfish_tests::privileges::table::Table;
use pilotfish_tests::privileges::{document, document_path, table_path};

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mut table = Table::parse(&fs::read_to_string(table_path()).context("cannot read the table")?)?;
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["take", logs @ ..] if !logs.is_empty() => {
            for log in logs {
                let runs =
                    table.take(&fs::read_to_string(log).with_context(|| format!("cannot read {log}"))?)?;
                ensure!(runs > 0, "{log} has no walk in it");
                println!("{log}: {runs} runs");
            }
            fs::write(table_path(), table.to_string())?;
        }
        ["document"] => {}
        _ => bail!("usage: privileges take LOG... | privileges document"),
    }
    let path = document_path();
    let before = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    fs::write(&path, document::update(&before, &table)?)?;
    Ok(())
}
