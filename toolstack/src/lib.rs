//! The dom0 daemon that gives each guest with standalone virtio disks a stub domain which serves them:
//! all of `pilotfishd` but its `main`, so that the fuzz targets reach it.
//!
//! libxl writes a guest's disks to xenstore and waits (`disk::node`). The daemon sees them, settles
//! what they stand for (`disk`), makes a stub for all of the guest's disks (`stub`, `xl`), and
//! tells libxl when it serves. When the guest goes, so does the stub. `guest` decides what to do
//! when, `daemon` has it done, `instance` sees to it that only one daemon runs, and `check`
//! tells what a host lacks. libxl calls the same program to attach the stub's PV disks
//! (`disk::script`).
#![forbid(unsafe_code)]

mod check;
mod command;
mod config;
mod daemon;
mod disk;
mod driver;
mod env;
#[cfg(any(test, feature = "testkit"))]
#[cfg_attr(not(test), expect(dead_code, reason = "the testkit needs a part of it"))]
mod fake;
mod guest;
mod host;
mod image;
mod instance;
mod logger;
mod network;
mod preflight;
mod run;
mod stub;
#[cfg(feature = "testkit")]
pub mod testkit;
mod text;
mod worker;
mod xenstore;
mod xl;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use pilotfish_flask::{Module, Reach};
use pilotfishd_cli::Args;

use crate::config::Config;

/// What `pilotfishd` does.
#[must_use]
pub fn main() -> ExitCode {
    let done = match disk::script::asked() {
        Some((command, path)) => disk::script::run(&command, &path).map(|()| ExitCode::SUCCESS),
        None => start(&Args::parse()),
    };
    match done {
        Ok(status) => status,
        Err(e) => {
            eprintln!("pilotfishd: {}", text::one_line(&format!("{e:#}")));
            ExitCode::FAILURE
        }
    }
}

fn start(args: &Args) -> Result<ExitCode> {
    if args.print_config {
        print!("{}", config::DEFAULTS);
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(file) = &args.check_config {
        Config::load(Some(file))?;
        println!("{}: good", file.display());
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(path) = &args.check_disk {
        println!("{path}: {}", disk::target::describe(path)?);
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(guest) = &args.policy {
        let reach = if args.grants { Reach::Grants } else { Reach::Mappings };
        print!("{}", Module::new(guest, reach)?.text);
        return Ok(ExitCode::SUCCESS);
    }
    let config = Config::load(args.config.as_deref())?;
    if args.check_host {
        return Ok(check::print(&config));
    }
    logger::start(config.log);
    run::run(config)?;
    Ok(ExitCode::SUCCESS)
}
