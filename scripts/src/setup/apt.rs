//! apt with a private state directory: packages and sources of any suite and
//! architecture, without root and without touching the machine's configuration.

use std::cell::OnceCell;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;
use crate::setup::mirror;
use crate::ui;

/// Debian's name of the architecture of dom0 and guests.
pub const ARCH: &str = "arm64";

/// A private apt for one suite.
#[derive(Debug)]
pub struct Apt {
    dir: PathBuf,
    suite: &'static str,
}

/// A private apt that reads the mirror's indexes when first asked for, and whose state
/// goes when it is dropped.
#[derive(Debug)]
pub struct LazyApt {
    dir: PathBuf,
    suite: &'static str,
    apt: OnceCell<Apt>,
}

impl LazyApt {
    /// Describes the apt for `suite` with its state in `dir`.
    #[must_use]
    pub fn new(dir: PathBuf, suite: &'static str) -> Self {
        Self { dir, suite, apt: OnceCell::new() }
    }

    /// The apt, set up if it was not yet.
    ///
    /// # Errors
    /// As [`Apt::new`].
    pub fn get(&self) -> Result<&Apt> {
        if let Some(apt) = self.apt.get() {
            return Ok(apt);
        }
        let apt = ui::step(format!("read Debian {}'s package indexes", self.suite), |_| {
            Apt::new(&self.dir, self.suite)
        })?;
        Ok(self.apt.get_or_init(|| apt))
    }
}

impl Drop for LazyApt {
    fn drop(&mut self) {
        if self.apt.get().is_some() {
            // What cannot be removed now is removed when the cache is next opened.
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// The mirror's index names a file that the mirror does not have: it was superseded a
/// moment ago, or has not arrived yet.
#[derive(Debug)]
pub struct NotOnMirror {
    /// The file's address.
    pub uri: String,
}

impl fmt::Display for NotOnMirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the mirror's index names {}, but the mirror does not have it", self.uri)
    }
}

impl std::error::Error for NotOnMirror {}

/// A file of a source package, as apt's signed index describes it.
#[derive(Debug, Eq, PartialEq)]
pub struct SourceFile {
    /// Address.
    pub uri: String,
    /// File name.
    pub name: String,
    /// `SHA256:<hex>`.
    pub hash: String,
}

impl Apt {
    /// Sets up the state in `dir` and downloads the suite's indexes.
    ///
    /// # Errors
    /// When the mirror does not answer or its signature is not known.
    pub fn new(dir: &Path, suite: &'static str) -> Result<Self> {
        for sub in ["lists/partial", "archives/partial"] {
            fs::create_dir_all(dir.join(sub))?;
        }
        let apt = Self { dir: dir.to_path_buf(), suite };
        let mirror = mirror::debian()?;
        let keyring = mirror::keyring()?;
        fs::write(apt.dir.join("status"), "")?;
        fs::write(
            apt.dir.join("apt.sources"),
            format!(
                "Types: deb deb-src\nURIs: {mirror}\nSuites: {suite}\nComponents: main\n\
                 Architectures: {ARCH}\nSigned-By: {}\n",
                keyring.display()
            ),
        )?;
        // Proxies, timeouts and the like of this machine, but none of its hooks.
        let machine = process::output(Command::new("apt-config").arg("dump"))?;
        let acquire: String = machine
            .lines()
            .filter(|line| line.starts_with("Acquire::") && !line.contains("IndexTargets"))
            .fold(String::new(), |text, line| text + line + "\n");
        let dir = apt.dir.display();
        fs::write(
            apt.dir.join("apt.conf"),
            format!(
                "{acquire}\
                 Dir::Etc::parts \"/dev/null\";\nDir::Etc::main \"/dev/null\";\n\
                 Dir::Etc::sourcelist \"{dir}/apt.sources\";\nDir::Etc::sourceparts \"/dev/null\";\n\
                 Dir::Etc::preferences \"/dev/null\";\nDir::Etc::preferencesparts \"/dev/null\";\n\
                 Dir::State \"{dir}\";\nDir::State::lists \"{dir}/lists\";\n\
                 Dir::State::status \"{dir}/status\";\nDir::Cache \"{dir}\";\n\
                 Dir::Cache::archives \"{dir}/archives\";\n\
                 APT::Architecture \"{ARCH}\";\nAPT::Architectures {{ \"{ARCH}\"; }};\n\
                 APT::Sandbox::User \"root\";\nAPT::Install-Recommends \"false\";\n\
                 Acquire::Languages \"none\";\nAcquire::Retries \"3\";\n"
            ),
        )?;
        process::run_logged(apt.get().arg("update"), &apt.log()).with_context(|| {
            format!(
                "cannot read {suite} from the mirror; check the network, set {} to another \
                 mirror, or upgrade debian-archive-keyring if a key is missing",
                mirror::MIRROR_ENV
            )
        })?;
        Ok(apt)
    }

    fn log(&self) -> PathBuf {
        self.dir.join("apt.log")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("APT_CONFIG", self.dir.join("apt.conf"))
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("LC_ALL", "C.UTF-8");
        command
    }

    fn get(&self) -> Command {
        let mut command = self.command("apt-get");
        command.args(["-q", "-y"]);
        command
    }

    /// Downloads `packages` with everything they depend on; returns the .deb files.
    ///
    /// # Errors
    /// When a package is not known or a download fails.
    pub fn download_with_dependencies(&self, packages: &[&str]) -> Result<Vec<PathBuf>> {
        process::run_logged(self.get().args(["--download-only", "install"]).args(packages), &self.log())?;
        debs(&self.dir.join("archives"))
    }

    /// Downloads one package without its dependencies into `to`; returns the .deb file.
    ///
    /// # Errors
    /// When the package is not known or the download fails.
    pub fn download(&self, package: &str, to: &Path) -> Result<PathBuf> {
        fs::create_dir_all(to)?;
        process::run_logged(self.get().args(["download", package]).current_dir(to), &self.log())?;
        match debs(to)?.as_slice() {
            [deb] => Ok(deb.clone()),
            other => bail!("one package was asked for, {} arrived", other.len()),
        }
    }

    /// The package names that `package` depends on directly.
    ///
    /// # Errors
    /// When the package is not known.
    pub fn depends(&self, package: &str) -> Result<Vec<String>> {
        let text = process::output(self.command("apt-cache").args(["depends", package]))?;
        Ok(text.lines().filter_map(|line| line.trim().strip_prefix("Depends: ")).map(str::to_owned).collect())
    }

    /// Downloads the upstream tarball of the source package `name`; returns its path
    /// and the package's version.
    ///
    /// Only the tarball: a mirror may already have dropped the `.dsc` of a superseded
    /// version while the tarball is still there, and Debian's patches do not concern us.
    ///
    /// # Errors
    /// [`NotOnMirror`] when the mirror answers that it has no such file; others when the
    /// source is not known, or the download or its checksum fails.
    pub fn download_source(&self, name: &str) -> Result<(PathBuf, String)> {
        let spec = format!("{name}/{}", self.suite);
        let listing = process::output(self.get().args(["--print-uris", "source", &spec]))?;
        let file =
            orig_tarball(&listing).with_context(|| format!("apt's index names no tarball of {name}"))?;
        let path = self.dir.join(&file.name);
        let log = self.dir.join("source.log");
        let fetched = process::run_logged(
            self.command("/usr/lib/apt/apt-helper")
                .args(["download-file", &file.uri])
                .arg(&path)
                .arg(&file.hash),
            &log,
        );
        if let Err(error) = fetched {
            let said = fs::read_to_string(&log).unwrap_or_default();
            return Err(if said.contains(" 404 ") { NotOnMirror { uri: file.uri }.into() } else { error });
        }
        let version = file
            .name
            .split_once('_')
            .and_then(|(_, rest)| rest.split_once(".orig"))
            .map_or(String::new(), |(version, _)| version.to_owned());
        Ok((path, version))
    }
}

fn debs(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut debs: Vec<PathBuf> = fs::read_dir(dir)?
        .flatten()
        .map(|file| file.path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "deb"))
        .collect();
    debs.sort();
    Ok(debs)
}

/// Unpacks .deb files into `to`, without running anything of theirs.
///
/// # Errors
/// When one is damaged.
pub fn extract(debs: &[PathBuf], to: &Path, log: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for deb in debs {
        process::run_logged(Command::new("dpkg-deb").arg("-x").arg(deb).arg(to), log)?;
    }
    Ok(())
}

/// Finds the upstream tarball in the output of `apt-get --print-uris source`.
fn orig_tarball(listing: &str) -> Option<SourceFile> {
    listing.lines().find_map(|line| {
        let mut fields = line.split_whitespace();
        let uri = fields.next()?.strip_prefix('\'')?.strip_suffix('\'')?;
        let name = fields.next()?;
        let hash = fields.nth(1)?;
        let wanted = name.contains(".orig.tar.")
            && !name.ends_with(".asc")
            && hash.starts_with("SHA256:")
            && !name.contains('/');
        wanted.then(|| SourceFile { uri: uri.to_owned(), name: name.to_owned(), hash: hash.to_owned() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tarball_is_found_among_the_files_of_a_source() {
        let listing = "\
Need to get 3 B of source archives.
'http://m.example/x_4.20-1.dsc' x_4.20-1.dsc 1 SHA256:aa
'http://m.example/x_4.20.orig.tar.xz.asc' x_4.20.orig.tar.xz.asc 1 SHA256:bb
'http://m.example/x_4.20.orig.tar.xz' x_4.20.orig.tar.xz 1 SHA256:cc
";
        let expected = SourceFile {
            uri: "http://m.example/x_4.20.orig.tar.xz".to_owned(),
            name: "x_4.20.orig.tar.xz".to_owned(),
            hash: "SHA256:cc".to_owned(),
        };
        assert_eq!(orig_tarball(listing), Some(expected));
        assert_eq!(orig_tarball("E: Unable to find a source package"), None);
    }
}
