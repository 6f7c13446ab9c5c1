//! What the FLASK policy of `pilotfishd --policy` allows, as compiled with the policy of each Xen that
//! `cargo xtask setup` has the source of. Without a source or the tools there is nothing to compile, and
//! the tests say so.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Rules as `SUBJECT OBJECT:CLASS PERMISSION`.
type Rules = BTreeSet<String>;

/// Guests that are compiled together: names that m4 or the policy's language might take amiss among them.
const GUESTS: [&str; 5] = ["one", "two", "define", "a-b_t", "`it's #1\""];
const GUEST: &str = "pf_guest_one_t";
const STUB: &str = "pf_stub_one_t";

/// What the stub may do to its guest, without the domain itself: event channels are objects of their own.
const STUB_ON_GUEST: [&str; 6] = [
    "domain2 resource_map",
    "hvm dm",
    "mmu map_read",
    "mmu map_write",
    "argo send",
    "argo register_single_source",
];
/// What the stub may do to its guest's event channels.
const STUB_ON_GUEST_CHANNEL: [&str; 1] = ["event create"];
/// What any domain may do to any domain, by Xen's own policy.
const DOMAIN_ON_DOMAIN: [&str; 2] = ["argo send", "argo register_single_source"];

#[test]
fn the_stub_has_exactly_its_rights_on_its_guest() {
    for policy in policies() {
        assert_eq!(policy.rights(STUB, GUEST), set(&STUB_ON_GUEST), "{}", policy.name);
        let channel = format!("{GUEST}_channel");
        assert_eq!(policy.rights(STUB, &channel), set(&STUB_ON_GUEST_CHANNEL), "{}", policy.name);
        assert_eq!(policy.rights(&channel, STUB), set(&["event bind"]), "{}", policy.name);
        assert_eq!(policy.rights(&format!("{STUB}_channel"), GUEST), set(&["event bind"]), "{}", policy.name);
        let own = set(&["event create", "event send", "event status"]);
        assert_eq!(policy.rights(STUB, &format!("{STUB}_channel")), own, "{}", policy.name);
    }
}

#[test]
fn the_guest_has_no_right_on_its_stub() {
    for policy in policies() {
        assert_eq!(policy.rights(GUEST, STUB), set(&DOMAIN_ON_DOMAIN), "{}", policy.name);
    }
}

/// Whatever types there are, Xen's own and those of other guests.
#[test]
fn the_stub_has_no_right_elsewhere_that_an_ordinary_guest_lacks() {
    for policy in policies() {
        let types =
            [GUEST, STUB, &format!("{GUEST}_channel"), &format!("{STUB}_channel"), &format!("{STUB}_self")];
        let own = |object: &str| types.contains(&object);
        let others: Rules = policy
            .subject(STUB)
            .into_iter()
            .filter(|(object, _)| !own(object))
            .map(|(object, right)| format!("{object}:{right}"))
            .collect();
        let ordinary: Rules =
            policy.subject("domU_t").into_iter().map(|(object, right)| format!("{object}:{right}")).collect();
        let more: Vec<&String> = others.difference(&ordinary).collect();
        assert!(more.is_empty(), "{}: {more:?}", policy.name);
        for object in ["domU_t", "dm_dom_t", "pf_guest_one_t_self", "pf_guest_two_t", "pf_stub_two_t"] {
            assert_eq!(policy.rights(STUB, object), set(&DOMAIN_ON_DOMAIN), "{}: {object}", policy.name);
        }
    }
}

#[test]
fn nobody_may_make_the_stub_a_device_model() {
    for policy in policies() {
        for subject in ["dom0_t", STUB] {
            for object in [GUEST, STUB] {
                let rights = policy.rights(subject, object);
                for right in ["domain set_target", "domain2 make_priv_for", "domain2 set_as_target"] {
                    assert!(!rights.contains(right), "{}: {subject} {object} {right}", policy.name);
                }
            }
        }
    }
}

/// A compiled policy.
struct Policy {
    /// The Xen it is for.
    name: String,
    rules: Vec<(String, String, String)>,
}

impl Policy {
    /// What `subject` may do to `object`, as `CLASS PERMISSION`.
    fn rights(&self, subject: &str, object: &str) -> Rules {
        let fits = |rule: &&(String, String, String)| rule.0 == subject && rule.1 == object;
        self.rules.iter().filter(fits).map(|rule| rule.2.clone()).collect()
    }

    /// What `subject` may do to anybody.
    fn subject(&self, subject: &str) -> BTreeSet<(String, String)> {
        let own = self.rules.iter().filter(|rule| rule.0 == subject);
        own.map(|rule| (rule.1.clone(), rule.2.clone())).collect()
    }
}

fn set(rights: &[&str]) -> Rules {
    rights.iter().map(|&right| right.to_owned()).collect()
}

fn policies() -> Vec<Policy> {
    let sources = sources();
    if sources.is_empty() {
        eprintln!("skipped: no policy source of a Xen in the cache (cargo xtask setup)");
    }
    sources.iter().map(|source| compile(source)).collect()
}

/// The trees in the set-up's cache.
fn sources() -> Vec<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| {
        let home = std::env::var_os("HOME")?;
        Some(Path::new(&home).join(".cache"))
    });
    let entries = base.and_then(|base| fs::read_dir(base.join("pilotfish")).ok());
    let paths = entries.into_iter().flatten().flatten().map(|entry| entry.path());
    let ours =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("flask-"));
    paths.filter(ours).collect()
}

/// Compiles Xen's policy in `source` with the modules of [`GUESTS`].
fn compile(source: &Path) -> Policy {
    let name = source.file_name().unwrap().to_string_lossy().into_owned();
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    run(Command::new("cp").arg("-r").arg(source).arg(&tree));
    let modules = tree.join("tools/flask/policy/modules");
    let mut list = fs::read_to_string(modules.join("modules.conf")).unwrap();
    for guest in GUESTS {
        let text = run(Command::new(env!("CARGO_BIN_EXE_pilotfishd")).args(["--policy", guest]));
        // The file name and the line are those that the module itself tells.
        let line = text.split('"').find(|part| part.ends_with(" = on")).unwrap();
        let module = line.strip_suffix(" = on").unwrap();
        fs::write(modules.join(format!("{module}.te")), &text).unwrap();
        list.push_str(&format!("{line}\n"));
    }
    fs::write(modules.join("modules.conf"), list).unwrap();
    let out = dir.path().join("out");
    fs::create_dir(&out).unwrap();
    let build = format!("FLASK_BUILD_DIR={}", out.display());
    run(Command::new("make")
        .env_remove("MAKEFLAGS")
        .env_remove("CARGO_MAKEFLAGS")
        .arg("-C")
        .arg(tree.join("tools/flask/policy"))
        .args(["-f", "Makefile.common", &build, "XEN_FULLVERSION=test"]));
    Policy { name, rules: rules(&out.join("xenpolicy-test")) }
}

/// All that the policy allows, with the attributes of types resolved.
fn rules(policy: &Path) -> Vec<(String, String, String)> {
    let attributes = attributes(policy);
    let resolved = |name: &str| {
        attributes.iter().find(|(a, _)| a == name).map_or(vec![name.to_owned()], |a| a.1.clone())
    };
    let mut rules = Vec::new();
    for line in run(Command::new("sesearch").arg("-A").arg(policy)).lines() {
        // allow SUBJECT OBJECT:CLASS PERMISSION; or { PERMISSION ... }; and then [ BOOLEAN ]:True.
        let Some((head, permissions)) = line.strip_prefix("allow ").and_then(|rest| rest.split_once(':'))
        else {
            continue;
        };
        let (subject, object) = head.split_once(' ').unwrap();
        let (class, permissions) = permissions.split_once(' ').unwrap();
        let permissions = permissions.split_once(';').unwrap().0;
        let permissions = permissions.trim_matches(['{', '}', ' ']).split_whitespace();
        for permission in permissions {
            for subject in resolved(subject) {
                for object in resolved(object) {
                    rules.push((subject.clone(), object, format!("{class} {permission}")));
                }
            }
        }
    }
    assert!(rules.len() > 100, "sesearch printed {} rules", rules.len());
    rules
}

/// Each attribute with its types.
fn attributes(policy: &Path) -> Vec<(String, Vec<String>)> {
    let text = run(Command::new("seinfo").args(["-a", "-x"]).arg(policy));
    let mut attributes: Vec<(String, Vec<String>)> = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("attribute ") {
            attributes.push((name.trim_end_matches(';').to_owned(), Vec::new()));
        } else if let Some((_, types)) = attributes.last_mut()
            && !line.is_empty()
        {
            types.push(line.to_owned());
        }
    }
    attributes
}

/// What a program prints; it must succeed.
fn run(command: &mut Command) -> String {
    let out = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}
