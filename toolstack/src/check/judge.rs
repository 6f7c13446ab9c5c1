//! What the facts mean: a line for each, with the remedy if something is wrong.

use super::autoballoon::autoballoons;
use super::facts::{Asked, Facts, Version, XL_CONF, Xl};
use super::found::{Found, Verdict, fault, ok, warning};
use super::line::Line;
use super::network;
use super::xsm::{Module, built_in, on_commandline};
use crate::driver::Driver;

/// The oldest Xen that is served.
const OLDEST: (u32, u32) = (4, 17);
/// What is said of everything that only Xen knows, if Xen cannot be asked.
const NO_XEN: &str = "not known: Xen could not be asked";

/// Judges everything.
pub fn judge(facts: &Facts) -> Vec<Line> {
    let asked = facts.asked.as_ref();
    let line = |what, (level, text)| Line { level, what, text };
    vec![
        line("Xen", xen(facts.xen.as_ref())),
        line("privcmd", privcmd(asked)),
        line("IOREQ servers", ioreq(asked)),
        line("XSM", xsm(facts)),
        line("autoballoon", autoballoon(facts)),
        line("xl", xl(facts)),
        line("xenstore", xenstore(&facts.xenstore)),
        line("xen-evtchn, xen-gntdev", modules(&facts.missing_modules)),
        line("xen-blkback", blkback(facts.blkback)),
        line("loop devices", loops(&facts.free_loop)),
        line("stub image", image(facts)),
        line("NBD disks", network::judge(&facts.network)),
        line("run-dir", dir(facts.run_dir.as_ref(), "change the key run-dir")),
        line(
            "libxl's directory",
            dir(facts.xen_run_dir.as_ref(), "without it no domain can be destroyed: make it"),
        ),
        line("pilotfishd", daemon(&facts.daemon)),
    ]
}

fn xen(version: Option<&Version>) -> Verdict {
    match version {
        None => fault("this machine does not run under Xen; remedy: boot Xen, with this Linux as its dom0"),
        Some(Version { major, minor, extra }) if (*major, *minor) < OLDEST => {
            fault(format!("{major}.{minor}{extra} is too old; remedy: Xen 4.17 or later"))
        }
        Some(Version { major, minor, extra }) => ok(format!("{major}.{minor}{extra}")),
    }
}

fn privcmd(asked: Result<&Asked, &String>) -> Verdict {
    match asked {
        Ok(asked) => ok(format!("domctl interface {:#x}", asked.domctl)),
        Err(why) => fault(why),
    }
}

fn ioreq(asked: Result<&Asked, &String>) -> Verdict {
    match asked.map(|asked| &asked.ioreq) {
        Ok(Ok(true)) => ok("Xen has them"),
        Ok(Ok(false)) => fault(
            "Xen was built without them; remedy: build it with CONFIG_IOREQ_SERVER=y (docs/deployment.md)",
        ),
        Ok(Err(why)) => warning(format!("cannot tell: {why}")),
        Err(_) => warning(NO_XEN),
    }
}

fn xsm(facts: &Facts) -> Verdict {
    let flask = match &facts.asked {
        Ok(Asked { flask: Ok(flask), .. }) => *flask,
        // Not ENOSYS, which a Xen without FLASK answers: something is odd, and nothing follows from it.
        Ok(Asked { flask: Err(why), .. }) => return warning(format!("cannot tell: {why}")),
        Err(_) => return warning(NO_XEN),
    };
    match flask {
        // Xen's classic rules are not in force either.
        Some(false) => return warning("flask, permissive: it refuses nobody; remedy: xl setenforce 1"),
        Some(true) if facts.xen.as_ref().is_some_and(|xen| (xen.major, xen.minor) < (4, 20)) => {
            return fault(
                "flask, enforcing: with FLASK any guest can end a Xen before 4.20 (vm_event_op for a domain that \
                 does not exist); remedy: Xen 4.20, or boot this one with xsm=dummy",
            );
        }
        Some(true) => {
            return ok(
                "flask, enforcing: a guest needs a label of `pilotfishd --policy` (docs/deployment.md)",
            );
        }
        None => {}
    }
    let line = match &facts.commandline {
        Ok(line) => line,
        Err(_) => return warning("cannot tell: Xen's command line is not known"),
    };
    // The command line decides over what Xen was built with.
    let (module, source) = match (on_commandline(line), facts.built_with.as_deref().and_then(built_in)) {
        (Some(module), _) => (module, "by Xen's command line"),
        (None, Some(module)) => (module, "as Xen was built"),
        (None, None) => {
            return warning(
                "cannot tell: no xsm= on Xen's command line, and Xen does not say how it was built. On Arm the \
                 default is silo, which forbids stubs; remedy: boot Xen with xsm=dummy",
            );
        }
    };
    match module {
        Module::Dummy => ok(format!("dummy, {source}")),
        Module::Silo => fault(format!(
            "silo, {source}: it forbids the event channel between a stub and its guest; remedy: boot Xen with \
             xsm=dummy"
        )),
        // With FLASK in charge its operation would have been known above.
        Module::Flask => {
            warning(format!("cannot tell: flask {source}, but Xen knows no operation of FLASK's"))
        }
    }
}

fn autoballoon(facts: &Facts) -> Verdict {
    match &facts.commandline {
        Ok(line) if !autoballoons(&facts.xl_conf, line) => ok("off"),
        Ok(_) => fault(format!(
            "xl's autoballoon is on: `xl create` of a guest will wait for its stub, and that for the guest, \
             until libxl gives up; remedy: boot Xen with dom0_mem=SIZE, or set autoballoon=\"off\" in {XL_CONF}"
        )),
        Err(_) => warning("cannot tell: Xen's command line is not known"),
    }
}

fn xl(facts: &Facts) -> Verdict {
    let Xl { path, version } = match &facts.xl {
        Ok(xl) => xl,
        Err(why) => return fault(why),
    };
    let path = path.display();
    let xen = facts.xen.as_ref().map(|xen| (xen.major, xen.minor));
    // Domctls change with Xen's minor version, so xl must be of the same.
    if let (Some((a, b)), Some((c, d))) = (*version, xen)
        && (a, b) != (c, d)
    {
        return fault(format!(
            "{path} is of Xen {a}.{b}, and Xen is {c}.{d}; remedy: install the tools of Xen {c}.{d}, or set the \
             key xl"
        ));
    }
    match (&facts.commandline, version) {
        (Err(why), _) => fault(format!("{path} does not work: {why}")),
        (Ok(_), Some((major, minor))) => ok(format!("{path}, of Xen {major}.{minor}")),
        (Ok(_), None) => ok(format!("{path}, which works; for which Xen it was made cannot be told")),
    }
}

fn xenstore(found: &Found<bool>) -> Verdict {
    match found {
        Ok(true) => ok("xenstored answers"),
        Ok(false) => fault("dom0 is not in it; remedy: run xen-init-dom0 (xen-init-dom0.service)"),
        Err(why) => fault(why),
    }
}

fn modules(missing: &[&'static str]) -> Verdict {
    if missing.is_empty() {
        return ok("loaded");
    }
    let (all, each) = (missing.join(" and "), missing.join("; modprobe "));
    fault(format!("no {all}, which xenstored and xenconsoled need; remedy: modprobe {each}"))
}

fn blkback(driver: Driver) -> Verdict {
    match driver {
        Driver::Loaded => ok("loaded"),
        Driver::OnDemand => ok("not loaded yet: udev does it when the first disk comes"),
        Driver::Absent => warning(
            "not loaded, and nothing would load it: only disks in RAM or of a driver domain work; remedy: \
             modprobe xen-blkback, and a line in /etc/modules-load.d",
        ),
    }
}

fn loops(free: &Found<String>) -> Verdict {
    match free {
        Ok(device) => ok(format!("{device} is free")),
        Err(why) => warning(format!(
            "{why}: raw images cannot be attached (block devices can); remedy: modprobe loop, and losetup of \
             util-linux"
        )),
    }
}

fn image(facts: &Facts) -> Verdict {
    match &facts.image {
        Ok((path, bytes)) => ok(format!("{}, {bytes} bytes", path.display())),
        Err(why) => fault(why),
    }
}

fn dir(found: Result<&std::path::PathBuf, &String>, remedy: &str) -> Verdict {
    match found {
        Ok(path) => ok(path.display().to_string()),
        Err(why) => fault(format!("{why}; remedy: {remedy}")),
    }
}

fn daemon(found: &Found<Option<String>>) -> Verdict {
    match found {
        Ok(Some(holder)) => ok(format!("runs, {holder}")),
        Ok(None) => ok("none runs yet"),
        Err(why) => warning(format!("cannot tell whether one runs: {why}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::line::{Level, worst};
    use super::super::network::Network;
    use super::*;

    /// A host on which nothing is missing.
    fn good() -> Facts {
        Facts {
            xen: Some(Version { major: 4, minor: 20, extra: ".4".to_owned() }),
            asked: Ok(Asked { domctl: 0x17, ioreq: Ok(true), flask: Ok(None) }),
            xl: Ok(Xl { path: "/usr/sbin/xl".into(), version: Some((4, 20)) }),
            commandline: Ok("console=dtuart dom0_mem=1536M xsm=dummy".to_owned()),
            xl_conf: String::new(),
            built_with: None,
            xenstore: Ok(true),
            missing_modules: Vec::new(),
            blkback: Driver::Loaded,
            free_loop: Ok("/dev/loop0".to_owned()),
            image: Ok(("/usr/lib/pilotfish/pilotfish.img".into(), 160_000)),
            network: Network {
                wanted: true,
                image: Ok(300_000),
                netback: Driver::Loaded,
                bridge: "xenbr0".to_owned(),
                found: crate::network::Bridge::There,
            },
            run_dir: Ok("/run/pilotfish".into()),
            xen_run_dir: Ok("/var/run/xen".into()),
            daemon: Ok(None),
        }
    }

    /// Lines that are not `ok`, of a good host with one change.
    fn bad(change: impl Fn(&mut Facts)) -> Vec<Line> {
        let mut facts = good();
        change(&mut facts);
        let lines = judge(&facts);
        assert!(lines.iter().all(|line| !line.text.contains('\n') && !line.text.is_empty()));
        lines.into_iter().filter(|line| line.level != Level::Ok).collect()
    }

    /// The one such line: its level, what it is about, and whether it has these words.
    fn one(level: Level, what: &str, words: &[&str], change: impl Fn(&mut Facts)) {
        let lines = bad(change);
        let [line] = lines.as_slice() else { panic!("{what}: {lines:#?}") };
        assert_eq!((line.level, line.what), (level, what), "{line}");
        for word in words {
            assert!(line.text.contains(word), "`{word}` in: {line}");
        }
    }

    #[test]
    fn a_good_host_is_ok_line_by_line() {
        assert_eq!(bad(|_| ()), []);
        assert_eq!(worst(&judge(&good())), Level::Ok);
        for change in [
            (|f| f.blkback = Driver::OnDemand) as fn(&mut Facts),
            |f| f.daemon = Ok(Some("process 812".to_owned())),
            |f| f.xl = Ok(Xl { path: "/usr/sbin/xl".into(), version: None }),
            |f| f.commandline = Ok("xsm=dummy dom0_mem=1G".to_owned()),
            |f| {
                f.commandline = Ok("dom0_mem=1G".to_owned());
                f.built_with = Some("CONFIG_XSM_DUMMY_DEFAULT=y".to_owned());
            },
            |f| f.asked.as_mut().unwrap().flask = Ok(Some(true)),
        ] {
            assert_eq!(bad(change), []);
        }
    }

    #[test]
    fn each_thing_that_is_missing_is_told_with_its_remedy() {
        use Level::{Fault, Warning};
        one(Fault, "Xen", &["4.16.2", "4.17"], |f| {
            f.xen = Some(Version { major: 4, minor: 16, extra: ".2".to_owned() });
            f.xl.as_mut().unwrap().version = Some((4, 16));
        });
        one(Fault, "XSM", &["flask", "4.20", "xsm=dummy"], |f| {
            f.xen = Some(Version { major: 4, minor: 17, extra: ".7".to_owned() });
            f.xl.as_mut().unwrap().version = Some((4, 17));
            f.asked.as_mut().unwrap().flask = Ok(Some(true));
        });
        one(Fault, "IOREQ servers", &["CONFIG_IOREQ_SERVER=y"], |f| {
            f.asked.as_mut().unwrap().ioreq = Ok(false)
        });
        one(Warning, "IOREQ servers", &["cannot tell", "EPERM"], |f| {
            f.asked.as_mut().unwrap().ioreq = Err("EPERM".to_owned());
        });
        one(Fault, "XSM", &["silo", "xsm=dummy"], |f| f.commandline = Ok("dom0_mem=1G xsm=silo".to_owned()));
        one(Fault, "XSM", &["silo", "as Xen was built"], |f| {
            f.commandline = Ok("dom0_mem=1G".to_owned());
            f.built_with = Some("CONFIG_XSM_SILO_DEFAULT=y".to_owned());
        });
        one(Warning, "XSM", &["cannot tell", "xsm=dummy"], |f| f.commandline = Ok("dom0_mem=1G".to_owned()));
        one(Warning, "XSM", &["permissive", "xl setenforce 1"], |f| {
            f.asked.as_mut().unwrap().flask = Ok(Some(false))
        });
        one(Warning, "XSM", &["flask", "cannot tell"], |f| {
            f.commandline = Ok("dom0_mem=1G xsm=flask".to_owned())
        });
        one(Fault, "autoballoon", &["dom0_mem="], |f| f.commandline = Ok("xsm=dummy".to_owned()));
        one(Fault, "xl", &["4.17", "tools of Xen 4.20"], |f| f.xl.as_mut().unwrap().version = Some((4, 17)));
        one(Fault, "xl", &["no xl in PATH"], |f| f.xl = Err("no xl in PATH; remedy: ...".to_owned()));
        one(Fault, "xenstore", &["xen-init-dom0"], |f| f.xenstore = Ok(false));
        one(Fault, "xenstore", &["cannot reach"], |f| f.xenstore = Err("cannot reach xenstored".to_owned()));
        one(Fault, "xen-evtchn, xen-gntdev", &["modprobe xen-gntdev"], |f| {
            f.missing_modules = vec!["xen-gntdev"]
        });
        one(Warning, "xen-blkback", &["modprobe xen-blkback"], |f| f.blkback = Driver::Absent);
        one(Warning, "loop devices", &["no room", "modprobe loop"], |f| {
            f.free_loop = Err("no room".to_owned())
        });
        one(Fault, "stub image", &["install"], |f| f.image = Err("install it".to_owned()));
        one(Warning, "NBD disks", &["dom0 has none of that name"], |f| {
            f.network.found = crate::network::Bridge::Absent
        });
        one(Fault, "run-dir", &["/x is no directory", "run-dir"], |f| {
            f.run_dir = Err("/x is no directory".to_owned());
        });
        one(Fault, "libxl's directory", &["read-only", "destroyed"], |f| {
            f.xen_run_dir = Err("read-only".to_owned())
        });
        one(Warning, "pilotfishd", &["cannot tell"], |f| f.daemon = Err("permission".to_owned()));
    }

    #[test]
    fn an_xl_that_does_not_work_leaves_what_it_would_tell_unknown() {
        let lines = bad(|f| f.commandline = Err("xl info: exit status: 1: no libxenlight.so".to_owned()));
        let found: Vec<_> = lines.iter().map(|line| (line.level, line.what)).collect();
        assert_eq!(found, [(Level::Warning, "XSM"), (Level::Warning, "autoballoon"), (Level::Fault, "xl")]);
        assert!(lines[2].text.contains("no libxenlight.so"), "{}", lines[2]);
    }

    #[test]
    fn a_machine_without_xen_is_told_so_and_the_rest_still_judged() {
        let lines = bad(|f| {
            f.xen = None;
            f.asked = Err("no way to Xen".to_owned());
            f.xl = Err("no xl".to_owned());
            f.commandline = Err("no xl".to_owned());
            f.xenstore = Err("cannot reach xenstored".to_owned());
        });
        let faults: Vec<_> = lines.iter().filter(|l| l.level == Level::Fault).map(|l| l.what).collect();
        assert_eq!(faults, ["Xen", "privcmd", "xl", "xenstore"]);
        assert_eq!(worst(&lines), Level::Fault);
        assert_eq!(lines[0].to_string().split(':').next(), Some("FAULT    Xen"));
    }
}
