//! Facts about this host. Errors are kept as text, because they become a line's text.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{Access, access};

use super::found::Found;
use super::network::Network;
use crate::command;
use crate::config::Config;
use crate::driver::Driver;
use crate::image::{Image, image};
use crate::instance::{self, LOCK_FILE};
use crate::preflight::{self, XEN_RUN_DIR};
use crate::xenstore::{Client, Store};
use crate::xl::find_xl;

/// xl's own configuration.
pub const XL_CONF: &str = "/etc/xen/xl.conf";
/// The library that every xl is linked with; its name ends with the version of Xen that xl belongs to.
const XL_LIBRARY: &[u8] = b"libxenlight.so.";
/// Devices of dom0's kernel, and the modules that make them.
const DEVICES: [(&str, &str); 2] = [("/dev/xen/evtchn", "xen-evtchn"), ("/dev/xen/gntdev", "xen-gntdev")];
/// A program that takes longer hangs.
const PROGRAM_TIMEOUT: Duration = Duration::from_secs(10);

/// The loop driver's own device.
const LOOP_CONTROL: &str = "/dev/loop-control";

/// All that is judged.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Xen's version, from the kernel; `None`: the kernel does not run on Xen.
    pub xen: Option<Version>,
    /// What Xen says.
    pub asked: Found<Asked>,
    /// The xl in use.
    pub xl: Found<Xl>,
    /// Xen's command line, by `xl info`.
    pub commandline: Found<String>,
    /// The content of `xl.conf`; empty if there is none.
    pub xl_conf: String,
    /// What Xen was built with (Kconfig), if it says so.
    pub built_with: Option<String>,
    /// Whether dom0 has its number in xenstore.
    pub xenstore: Found<bool>,
    /// Modules of [`DEVICES`] that are missing.
    pub missing_modules: Vec<&'static str>,
    /// xen-blkback.
    pub blkback: Driver,
    /// A free loop device.
    pub free_loop: Found<String>,
    /// The stub's image and its length.
    pub image: Found<(PathBuf, u64)>,
    /// For NBD disks.
    pub network: Network,
    /// `run-dir`.
    pub run_dir: Found<PathBuf>,
    /// libxl's directory.
    pub xen_run_dir: Found<PathBuf>,
    /// Another daemon.
    pub daemon: Found<Option<String>>,
}

/// Major and minor version, and what follows them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Version {
    pub major: u32,
    pub minor: u32,
    pub extra: String,
}

/// Xen's answers.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The interface version of domctls.
    pub domctl: u32,
    /// Whether it has IOREQ servers.
    pub ioreq: Found<bool>,
    /// Whether FLASK is in use, and then whether it enforces.
    pub flask: Found<Option<bool>>,
}

/// A usable xl.
#[derive(Clone, Debug)]
pub struct Xl {
    pub path: PathBuf,
    /// The version of Xen that it was made for, if that is known.
    pub version: Option<(u32, u32)>,
}

impl Facts {
    /// Gathers all facts.
    pub fn gather(config: &Config) -> Facts {
        let found_xl = find_xl(&config.xl).map_err(|e| format!("{e:#}"));
        let commandline = found_xl.clone().and_then(|xl| commandline(&xl));
        // xl's neighbour, needed only where the command line does not say.
        let silent = commandline.as_ref().is_ok_and(|line| super::xsm::on_commandline(line).is_none());
        let neighbour = found_xl.as_ref().ok().filter(|_| silent).map(|xl| xl.with_file_name("xenhypfs"));
        let xen = version(Path::new("/sys/hypervisor"));
        Facts {
            xen: xen.clone(),
            asked: ask(),
            xl: found_xl.map(|path| {
                let program = behind_wrapper(&path, xen.as_ref(), Path::new("/usr/lib"));
                let version = fs::read(program).ok().and_then(|program| version_of_xl(&program));
                Xl { path, version }
            }),
            commandline,
            xl_conf: fs::read(XL_CONF)
                .map_or(String::new(), |text| String::from_utf8_lossy(&text).into_owned()),
            built_with: neighbour.and_then(|tool| output(&tool, &["cat", "/buildinfo/config"]).ok()),
            xenstore: dom0_in_xenstore(),
            missing_modules: DEVICES
                .iter()
                .filter(|(d, _)| !Path::new(d).exists())
                .map(|(_, m)| *m)
                .collect(),
            blkback: Driver::of("vbd"),
            free_loop: free_loop(),
            image: image(config, Image::Usual)
                .map(|bytes| (config.stub_image.clone(), bytes))
                .map_err(|e| format!("{e:#}")),
            network: Network::of(config),
            run_dir: usable_dir(&config.run_dir),
            xen_run_dir: usable_dir(Path::new(XEN_RUN_DIR)),
            daemon: instance::running(Path::new(LOCK_FILE)).map_err(|e| format!("{e:#}")),
        }
    }
}

/// The loop device that the next image would get. The driver's own device is opened first, which loads the
/// driver if possible: busybox's losetup names a device whatever the kernel says.
fn free_loop() -> Found<String> {
    fs::File::open(LOOP_CONTROL).map_err(|e| format!("{LOOP_CONTROL}: {e}"))?;
    output(Path::new("losetup"), &["-f"]).map(|device| device.trim().to_owned())
}

/// What a program prints.
fn output(program: &Path, args: &[&str]) -> Found<String> {
    let give_up = Instant::now() + PROGRAM_TIMEOUT;
    command::run(program, args, || (Instant::now() >= give_up).then_some("no answer"))
        .map_err(|e| format!("{e:#}"))
}

/// Xen's version, from the kernel's directory `dir`.
fn version(dir: &Path) -> Option<Version> {
    let value = |name: &str| fs::read_to_string(dir.join(name)).ok().map(|text| text.trim().to_owned());
    let number = |name: &str| value(name)?.parse().ok();
    (value("type")? == "xen").then_some(())?;
    Some(Version {
        major: number("version/major")?,
        minor: number("version/minor")?,
        extra: value("version/extra").unwrap_or_default(),
    })
}

fn ask() -> Found<Asked> {
    let privcmd = preflight::open_xen().map_err(|e| format!("{e:#}"))?;
    Ok(Asked {
        domctl: privcmd.interface_version(),
        ioreq: privcmd.has_ioreq_servers().map_err(|e| e.to_string()),
        flask: privcmd.flask().map_err(|e| e.to_string()),
    })
}

/// The program that an xl is. Debian's is a script, which runs that of the running Xen's version.
fn behind_wrapper(xl: &Path, xen: Option<&Version>, lib: &Path) -> PathBuf {
    // A script is linked with nothing, so it would show no version.
    let is_script = fs::read(xl).is_ok_and(|program| program.starts_with(b"#!"));
    let real = xen
        .filter(|_| is_script)
        .map(|Version { major, minor, .. }| lib.join(format!("xen-{major}.{minor}/bin/xl")));
    real.filter(|real| real.is_file()).unwrap_or_else(|| xl.to_owned())
}

/// The version of Xen that an xl was made for: that of the library it is linked with.
fn version_of_xl(program: &[u8]) -> Option<(u32, u32)> {
    let at = program.windows(XL_LIBRARY.len()).position(|window| window == XL_LIBRARY)?;
    let digits = program.get(at + XL_LIBRARY.len()..)?.split(|byte| *byte == 0).next()?;
    let mut numbers = std::str::from_utf8(digits).ok()?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn commandline(xl: &Path) -> Found<String> {
    let info = output(xl, &["info"])?;
    let line = info.lines().find_map(|line| line.strip_prefix("xen_commandline")?.trim().strip_prefix(':'));
    line.map(|line| line.trim().to_owned()).ok_or_else(|| "xl info does not tell it".to_owned())
}

fn dom0_in_xenstore() -> Found<bool> {
    let store = Client::connect(|_| ()).map_err(|e| format!("{e:#}"))?;
    let domid = store.read("/local/domain/0/domid").map_err(|e| format!("{e:#}"))?;
    Ok(domid.is_some())
}

/// A directory that can be written to, or can be made.
fn usable_dir(dir: &Path) -> Found<PathBuf> {
    for at in dir.ancestors() {
        match fs::metadata(at) {
            Ok(meta) if meta.is_dir() => {
                let done = access(at, Access::WRITE_OK | Access::EXEC_OK);
                return done.map(|()| dir.to_owned()).map_err(|e| format!("{}: {e}", at.display()));
            }
            Ok(_) => return Err(format!("{} is no directory", at.display())),
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(format!("{}: {e}", at.display())),
        }
    }
    Err(format!("{}: no such directory", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_xl_tells_its_version_by_its_library() {
        let of = |text: &str| version_of_xl(text.as_bytes());
        assert_eq!(of("\x7fELF..\0libxlutil.so.4.17\0libxenlight.so.4.20\0libc.so.6\0"), Some((4, 20)));
        assert_eq!(of("libxenlight.so.4.22"), Some((4, 22)));
        for none in ["#!/bin/sh\nexec xl", "libxenlight.so.", "libxenlight.so.4\0.20", "libxenlight.so.x.y\0"]
        {
            assert_eq!(of(none), None, "{none}");
        }
    }

    #[test]
    fn debians_xl_is_the_one_that_its_script_runs() {
        let lib = tempfile::tempdir().unwrap();
        let at = |name: &str| lib.path().join(name);
        fs::create_dir_all(at("xen-4.20/bin")).unwrap();
        fs::write(at("xen-4.20/bin/xl"), "\x7fELF..\0libxenlight.so.4.20\0").unwrap();
        fs::write(at("wrapper"), "#!/bin/sh -e\nexec /usr/lib/xen-$version/bin/xl \"$@\"\n").unwrap();
        fs::write(at("binary"), "\x7fELF..").unwrap();
        std::os::unix::fs::symlink(at("wrapper"), at("xl")).unwrap();
        let xen = |minor| Version { major: 4, minor, extra: String::new() };
        let of = |name: &str, xen: Option<&Version>| behind_wrapper(&at(name), xen, lib.path());
        assert_eq!(of("xl", Some(&xen(20))), at("xen-4.20/bin/xl"));
        for (name, xen) in [("xl", Some(&xen(19))), ("xl", None), ("binary", Some(&xen(20))), ("none", None)]
        {
            assert_eq!(of(name, xen), at(name), "{xen:?}");
        }
    }

    #[test]
    fn xens_version_is_what_the_kernel_tells_of_xen_only() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(version(dir.path()), None);
        std::fs::create_dir(dir.path().join("version")).unwrap();
        for (name, text) in [
            ("type", "xen\n"),
            ("version/major", "4\n"),
            ("version/minor", "20\n"),
            ("version/extra", ".4\n"),
        ] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let expected = Version { major: 4, minor: 20, extra: ".4".to_owned() };
        assert_eq!(version(dir.path()), Some(expected));
        std::fs::write(dir.path().join("type"), "kvm\n").unwrap();
        assert_eq!(version(dir.path()), None);
    }

    #[test]
    fn a_directory_is_usable_if_it_can_be_written_to_or_made() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let new = dir.path().join("a/b");
        assert_eq!(usable_dir(&new), Ok(new.clone()));
        assert!(!new.exists(), "a check changes nothing");
        for bad in [&file, &file.join("c")] {
            let error = usable_dir(bad).unwrap_err();
            assert!(error.contains("file"), "{error}");
        }
    }

    #[test]
    fn on_any_machine_the_facts_are_gathered() {
        // What they are depends on the machine; that this ends without a panic does not.
        let facts = Facts::gather(&Config { run_dir: "/dev/null/no".into(), ..Config::default_for_tests() });
        assert!(facts.run_dir.is_err());
    }
}
