//! The steps of `cargo xtask test`, which are those of `.ci/` too.

use std::fmt;

use clap::ValueEnum;

/// A kind of check.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Step {
    /// Format, clippy, documentation, circles of modules, sizes, the syntax of scripts.
    Lint,
    /// Unit, property, whole-stack and conformance tests.
    Host,
    /// The fuzz targets, a fixed set of cases each.
    Fuzz,
    /// The scenarios on Xen in QEMU.
    Qemu,
}

impl Step {
    /// All of them, from the quickest to the longest.
    pub const ALL: [Self; 4] = [Self::Lint, Self::Host, Self::Fuzz, Self::Qemu];

    /// Its name, on the command line and in `.ci/`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lint => "lint",
            Self::Host => "host",
            Self::Fuzz => "fuzz",
            Self::Qemu => "qemu",
        }
    }

    /// What it does, for people.
    #[must_use]
    pub const fn what(self) -> &'static str {
        match self {
            Self::Lint => "format, lints, documentation, structure",
            Self::Host => "tests on the host",
            Self::Fuzz => "fuzz targets, fixed cases",
            Self::Qemu => "scenarios on Xen in QEMU",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use super::*;
    use crate::paths;

    #[test]
    fn the_command_line_knows_each_step_by_its_name_in_this_order() {
        let names = Step::value_variants().iter().filter_map(Step::to_possible_value);
        let names: Vec<String> = names.map(|value| value.get_name().to_owned()).collect();
        assert_eq!(names, Step::ALL.map(Step::name));
    }

    /// The list of steps is here alone: `.ci/run` runs them all, and each has a script that runs it.
    #[test]
    fn ci_has_a_script_for_each_step_and_one_for_all() {
        let scripts: BTreeMap<String, String> = fs::read_dir(paths::root().join(".ci"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| {
                (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read_to_string(path).unwrap())
            })
            .collect();
        let all = [("run".to_owned(), "cargo xtask test".to_owned())].into_iter();
        let each =
            Step::ALL.into_iter().map(|step| (step.name().to_owned(), format!("cargo xtask test {step}")));
        let wanted: BTreeMap<String, String> = all.chain(each).collect();
        assert_eq!(scripts.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>());
        for (name, command) in wanted {
            assert_eq!(scripts[&name].lines().last(), Some(&*format!("exec {command}")), ".ci/{name}");
        }
    }
}
