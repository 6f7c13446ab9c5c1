//! Cross-builds of what is configured by Kconfig: a configuration to begin with, ours over it, an image.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::process;
use crate::setup::xen;
use crate::ui;

/// What to build of a source.
#[derive(Clone, Copy, Debug)]
pub struct Recipe {
    /// What it is, for people.
    pub what: &'static str,
    /// `ARCH` of its build.
    pub arch: &'static str,
    /// The make target that writes the configuration to begin with.
    pub base: &'static str,
    /// Lines that are added to that.
    pub config: &'static str,
    /// Lines that the configuration must have in the end.
    pub wanted: &'static [&'static str],
    /// The make target of the image.
    pub target: &'static str,
    /// The image, in the source.
    pub image: &'static str,
}

impl Recipe {
    /// Unpacks `tarball` to `source` and builds there; `out` gets the image, under its own name, and
    /// `build.log`.
    ///
    /// # Errors
    /// When a command fails, or the configuration lacks what is wanted.
    pub fn build(&self, source: &Path, tarball: &Path, out: &Path, step: &ui::Step) -> Result<()> {
        let log = out.join("build.log");
        step.say("unpack");
        xen::unpack(tarball, source, &log)?;
        let make = |target: &str| {
            let mut command = Command::new("make");
            command
                .arg("-C")
                .arg(source)
                .arg(format!("ARCH={}", self.arch))
                .arg(format!("CROSS_COMPILE={}", xen::CROSS))
                .arg(target);
            process::without_job_server(&mut command);
            command
        };
        step.say("configure");
        process::run_logged(&mut make(self.base), &log)?;
        let config = source.join(".config");
        let begun = fs::read_to_string(&config)?;
        fs::write(&config, format!("{begun}{}", self.config))?;
        process::run_logged(&mut make("olddefconfig"), &log)?;
        let resolved = fs::read_to_string(&config)?;
        for wanted in self.wanted {
            let what = self.what;
            ensure!(resolved.lines().any(|line| line == *wanted), "{what}'s configuration refused {wanted}");
        }
        step.say("compile");
        process::run_logged(make(self.target).arg(xen::parallel()), &log)?;
        let image = source.join(self.image);
        let name = image.file_name().context("an image without a name")?;
        fs::copy(&image, out.join(name)).context("the build left no image")?;
        Ok(())
    }
}
