//! The command line of `pilotfishd`. It is a crate of its own so that `cargo xtask build` can make
//! the manual page and the shell completions from it, and the daemon need not carry the code for
//! that.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use clap::{Parser, ValueHint};

/// The sections of the manual page that do not follow from the command line, in roff.
pub const MANUAL_SECTIONS: &str = include_str!("../manual.roff");

/// Serves the standalone virtio disks of Xen guests from stub domains.
///
/// Runs in dom0, in the foreground, and logs to stderr. SIGTERM or SIGINT ends it; stubs and
/// guests go on, and the next pilotfishd takes them over.
#[derive(Debug, Parser)]
#[command(name = "pilotfishd", version)]
pub struct Args {
    /// Configuration file [default: /etc/pilotfish/pilotfishd.toml if it exists]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Print the default configuration with an explanation of every key, and exit
    #[arg(long)]
    pub print_config: bool,

    /// Check a configuration file and exit
    #[arg(long, value_name = "FILE", conflicts_with = "print_config")]
    pub check_config: Option<PathBuf>,

    /// Check a disk's target (a disk file, image or block device) and exit
    #[arg(long, value_name = "PATH", conflicts_with_all = ["print_config", "check_config"], value_hint = ValueHint::FilePath)]
    pub check_disk: Option<String>,

    /// Check whether this host can serve guests: a line each, `ok` or what to do. The status is
    /// 0 if all is well, 1 if guests cannot be served, 3 if there are only warnings
    #[arg(long, conflicts_with_all = ["print_config", "check_config", "check_disk"])]
    pub check_host: bool,

    /// Print a FLASK policy module for a guest, by its name, and its stub, and exit
    #[arg(long, value_name = "GUEST", conflicts_with_all = ["print_config", "check_config", "check_disk", "check_host"])]
    pub policy: Option<String>,

    /// With --policy: the stub may reach what its guest grants to it, in place of all of its memory
    #[arg(long, requires = "policy", conflicts_with_all = ["print_config", "check_config", "check_disk", "check_host"])]
    pub grants: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    #[test]
    fn the_command_line_fits_together() {
        Args::command().debug_assert();
    }

    #[test]
    fn the_document_has_each_option_and_no_other() {
        let document = include_str!("../../../docs/configuration.md");
        let (_, section) = document.split_once("## The daemon's command line").unwrap();
        let (section, _) = section.split_once("\n## ").unwrap();
        let rows = section.lines().filter_map(|line| line.strip_prefix("| `--")?.split_once(" |"));
        let told =
            rows.flat_map(|(names, _)| names.split("`, `--").map(str::to_owned).collect::<Vec<String>>());
        let mut told: Vec<String> = told.map(|name| name.trim_end_matches('`').to_owned()).collect();
        let mut command = Args::command();
        command.build();
        let mut options: Vec<String> = Vec::new();
        for argument in command.get_arguments() {
            let value = argument.get_action().takes_values().then(|| argument.get_value_names()).flatten();
            let value = value.map_or(String::new(), |names| format!(" {}", names[0]));
            options.push(format!("{}{value}", argument.get_long().unwrap()));
        }
        told.sort();
        options.sort();
        assert_eq!(told, options);
    }

    #[test]
    fn only_one_thing_is_checked_or_printed_at_a_time() {
        let parse = |args: &[&str]| Args::try_parse_from([&["pilotfishd"], args].concat());
        let all = [
            &["--print-config"] as &[&str],
            &["--check-config", "/a.toml"],
            &["--check-disk", "/a.img"],
            &["--check-host"],
            &["--policy", "a"],
        ];
        for (first, args) in all.iter().enumerate() {
            parse(args).unwrap();
            parse(&[args, &["--config", "/c.toml"] as &[&str]].concat()).unwrap();
            assert_eq!(parse(&[args, &["--grants"] as &[&str]].concat()).is_ok(), args[0] == "--policy");
            for other in &all[first + 1..] {
                let both = parse(&[*args, *other].concat());
                assert_eq!(both.unwrap_err().kind(), ErrorKind::ArgumentConflict, "{args:?} {other:?}");
            }
        }
    }
}
