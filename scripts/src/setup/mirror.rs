//! Which Debian mirror this machine uses, asked of apt's own configuration.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;

/// Overrides the mirror found in apt's configuration.
pub const MIRROR_ENV: &str = "PILOTFISH_MIRROR";

/// The fields of one apt index target that we look at.
const FORMAT: &str = "$(CREATED_BY)|$(ORIGIN)|$(LABEL)|$(RELEASE)|$(REPO_URI)";

/// The base address of the Debian archive: the one whose `dists/` has the suites.
///
/// # Errors
/// When apt has no Debian archive configured and [`MIRROR_ENV`] is not set.
pub fn debian() -> Result<String> {
    if let Ok(mirror) = env::var(MIRROR_ENV)
        && !mirror.is_empty()
    {
        return Ok(mirror);
    }
    let targets = process::output(Command::new("apt-get").args(["indextargets", "--format", FORMAT]))
        .context("cannot ask apt for its mirrors; this set-up needs Debian 12 or 13")?;
    match choose(&targets, &codename()?) {
        Some(mirror) => Ok(mirror),
        None => bail!("apt has no Debian archive configured; set {MIRROR_ENV} to the base address of one"),
    }
}

/// Picks the archive of the release `codename` out of apt's list of index targets.
fn choose(targets: &str, codename: &str) -> Option<String> {
    let candidates = || {
        targets.lines().filter_map(|line| {
            let mut fields = line.split('|');
            let created_by = fields.next()?;
            let origin = fields.next()?;
            let label = fields.next()?;
            let release = fields.next()?;
            let uri = fields.next()?;
            // Origin and label are empty until the first `apt-get update`.
            let debian = matches!(origin, "Debian" | "") && matches!(label, "Debian" | "");
            (created_by == "Packages" && debian && !uri.is_empty()).then_some((release, uri))
        })
    };
    let of =
        |wanted: &str| candidates().find(|(release, _)| *release == wanted).map(|(_, uri)| uri.to_owned());
    of(codename).or_else(|| of("stable")).or_else(|| of("oldstable"))
}

/// The code name of the Debian release this machine runs.
///
/// # Errors
/// When this is not Debian.
pub fn codename() -> Result<String> {
    let text = std::fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
            .map(|value| value.trim_matches('"').to_owned())
    };
    if field("ID").as_deref() != Some("debian") {
        bail!("the set-up supports Debian 12 and 13 only; this is {:?}", field("PRETTY_NAME"));
    }
    field("VERSION_CODENAME").context("/etc/os-release names no VERSION_CODENAME")
}

/// The keyring that signs Debian's archives.
///
/// # Errors
/// When the package `debian-archive-keyring` is not installed.
pub fn keyring() -> Result<PathBuf> {
    ["gpg", "pgp"]
        .iter()
        .map(|ext| Path::new("/usr/share/keyrings").join(format!("debian-archive-keyring.{ext}")))
        .find(|path| path.exists())
        .context("no Debian keyring; install the package debian-archive-keyring")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGETS: &str = "\
Packages|Other|Other|bookworm|http://other.example/
Packages|Debian|Debian-Security|bookworm-security|http://security.example/
Sources|Debian|Debian|bookworm|http://sources.example/
Packages|Debian|Debian|bookworm-updates|http://updates.example/
Packages|Debian|Debian|bookworm|http://main.example/debian/
";

    #[test]
    fn the_archive_of_this_release_is_chosen() {
        let main = Some("http://main.example/debian/".to_owned());
        assert_eq!(choose(TARGETS, "bookworm"), main);
    }

    #[test]
    fn before_the_first_update_the_suite_name_decides() {
        let targets = "Packages|||trixie-security|http://s/\nPackages|||trixie|http://m/\n";
        assert_eq!(choose(targets, "trixie"), Some("http://m/".to_owned()));
    }

    #[test]
    fn stable_stands_for_the_release() {
        let targets = "Packages|Debian|Debian|stable|http://m/\n";
        assert_eq!(choose(targets, "trixie"), Some("http://m/".to_owned()));
        assert_eq!(choose("", "trixie"), None);
    }
}
