//! What the command lines of `cargo xtask` and of the benchmark have in common.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;

use crate::interrupt;
use crate::setup::XenVersion;
use crate::system::Options;

/// Which machine to boot.
#[derive(Clone, Debug, Args)]
pub struct Machine {
    /// Xen version to boot (default: the newest that Debian ships and whose source can be had).
    #[arg(long, value_name = "VERSION")]
    pub xen: Option<XenVersion>,
    /// QEMU's CPU model.
    #[arg(long, default_value = crate::qemu::DEFAULT_CPU)]
    pub cpu: String,
    /// Give up after this many seconds (the shell has no limit unless given).
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
}

impl Machine {
    /// The options of a run, whose log is called `log`.
    #[must_use]
    pub fn options(&self, log: &str, default_timeout: Duration) -> Options {
        let mut options = Options::new(self.xen, log);
        options.cpu.clone_from(&self.cpu);
        options.timeout = self.timeout.map_or(default_timeout, Duration::from_secs);
        options
    }
}

/// Does what a command line asks for, ended by Ctrl-C; `run` returns whether all went well.
#[must_use]
pub fn main(run: impl FnOnce() -> Result<bool>) -> ExitCode {
    let result = interrupt::install().and_then(|()| run());
    match result {
        _ if interrupt::seen() => {
            eprintln!("interrupted; what was finished stays in the cache");
            ExitCode::from(interrupt::EXIT_STATUS)
        }
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
