//! The options that `cargo xtask attack` shares with the tests' own program, to which it gives them on.

use clap::Args;

/// On which machine, and what to do with what comes of it.
#[derive(Args, Clone, Debug, Default, Eq, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct AttackOptions {
    /// Only on this CPU model of QEMU.
    #[arg(long)]
    pub cpu: Option<String>,
    /// On a machine whose Xen enforces a FLASK policy (deployment A+).
    #[arg(long)]
    pub flask: bool,
    /// With guests that grant their memory to stubs that wait for them (with --flask: deployment B).
    #[arg(long)]
    pub grants: bool,
    /// Take what comes of the attacks into tests/attacks.tsv and docs/attacks.md.
    #[arg(long)]
    pub write: bool,
    /// Tell what there is and what it tries, and run nothing.
    #[arg(long)]
    pub list: bool,
    /// Make docs/attacks.md anew, and run nothing.
    #[arg(long)]
    pub document: bool,
}

impl AttackOptions {
    /// The words of a command line that stand for them.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        let flags = [
            (self.flask, "--flask"),
            (self.grants, "--grants"),
            (self.write, "--write"),
            (self.list, "--list"),
            (self.document, "--document"),
        ];
        let cpu = self.cpu.iter().flat_map(|cpu| ["--cpu", cpu]);
        cpu.chain(flags.into_iter().filter(|(is_set, _)| *is_set).map(|(_, word)| word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        options: AttackOptions,
    }

    #[test]
    fn the_words_of_options_are_read_as_the_same_options() {
        let all = AttackOptions {
            cpu: Some("neoverse-n1".to_owned()),
            flask: true,
            grants: true,
            write: true,
            list: true,
            document: true,
        };
        for options in [AttackOptions::default(), all] {
            let words = ["program"].into_iter().chain(options.words());
            assert_eq!(Only::try_parse_from(words).unwrap().options, options);
        }
    }
}
