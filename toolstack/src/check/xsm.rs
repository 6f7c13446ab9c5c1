//! Which security module Xen runs with. No operation asks Xen for that. FLASK has an operation of its own,
//! the others do not; and dom0 cannot try what SILO forbids, because dom0 is exempt. So the module is read
//! from what decided it: Xen's command line, or Xen's build configuration.

/// A security module of Xen (`xsm=`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Module {
    /// What dom0 allows is allowed.
    Dummy,
    /// Nothing between two domains of which neither is dom0.
    Silo,
    /// A policy decides.
    Flask,
}

/// The module that a command line asks for: the last word that Xen understands.
#[must_use]
pub fn on_commandline(line: &str) -> Option<Module> {
    line.split_whitespace().rev().find_map(|word| match word.strip_prefix("xsm=")? {
        "dummy" => Some(Module::Dummy),
        "silo" => Some(Module::Silo),
        "flask" => Some(Module::Flask),
        _ => None,
    })
}

/// The module of a Xen with this build configuration and no `xsm=` on its command line.
#[must_use]
pub fn built_in(config: &str) -> Option<Module> {
    let set = |key: &str| config.lines().any(|line| line.strip_prefix(key) == Some("=y"));
    let builtin_line =
        config.lines().find_map(|line| line.strip_prefix("CONFIG_CMDLINE=")).unwrap_or_default();
    if let Some(module) = on_commandline(builtin_line.trim_matches('"')) {
        return Some(module);
    }
    if set("CONFIG_XSM_SILO_DEFAULT") {
        Some(Module::Silo)
    } else if set("CONFIG_XSM_FLASK_DEFAULT") {
        Some(Module::Flask)
    } else if set("CONFIG_XSM_DUMMY_DEFAULT") || config.contains("# CONFIG_XSM is not set") {
        Some(Module::Dummy)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_that_xen_understands_counts() {
        for (line, module) in [
            ("console=dtuart xsm=dummy dom0_mem=1G", Some(Module::Dummy)),
            ("xsm=dummy xsm=silo", Some(Module::Silo)),
            ("xsm=flask xsm=nonsense", Some(Module::Flask)),
            ("noxsm=dummy xsm", None),
            ("", None),
        ] {
            assert_eq!(on_commandline(line), module, "{line}");
        }
    }

    #[test]
    fn what_xen_was_built_with_decides_where_the_command_line_is_silent() {
        let silo = "CONFIG_XSM=y\n# CONFIG_XSM_DUMMY_DEFAULT is not set\nCONFIG_XSM_SILO_DEFAULT=y\n";
        assert_eq!(built_in(&format!("{silo}CONFIG_CMDLINE=\"\"\n")), Some(Module::Silo));
        assert_eq!(
            built_in(&format!("{silo}CONFIG_CMDLINE=\"loglvl=all xsm=dummy\"\n")),
            Some(Module::Dummy)
        );
        assert_eq!(built_in("# CONFIG_XSM is not set\n"), Some(Module::Dummy));
        assert_eq!(built_in("CONFIG_XSM_DUMMY_DEFAULT=y"), Some(Module::Dummy));
        assert_eq!(built_in("CONFIG_XSM_FLASK_DEFAULT=y"), Some(Module::Flask));
        assert_eq!(built_in("no such entry"), None);
    }
}
