//! What the FLASK policy of `pilotfishd --policy` allows, as compiled with the policy of each Xen in the
//! cache of `cargo xtask setup`. Without one there is nothing to compile, and the tests say so.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use pilotfish_flask::{Module, Object, Pair, Reach, rights};
use xtask::setup::flask;

/// Rules as `SUBJECT OBJECT:CLASS PERMISSION`.
type Rules = BTreeSet<String>;

/// Guests that are compiled together: names that m4 or the policy's language might take amiss among them.
const GUESTS: [(&str, Reach); 6] = [
    ("one", Reach::Mappings),
    ("two", Reach::Mappings),
    ("define", Reach::Mappings),
    ("a-b_t", Reach::Grants),
    ("`it's #1", Reach::Mappings),
    ("grants", Reach::Grants),
];
/// A guest of each kind: its type and its stub's.
const KINDS: [(Reach, &str, &str); 2] = [
    (Reach::Mappings, "pf_guest_one_t", "pf_stub_one_t"),
    (Reach::Grants, "pf_guest_grants_t", "pf_stub_grants_t"),
];

/// What the stub may do to its guest, without the domain itself: event channels are objects of their own.
fn stub_on_guest(reach: Reach) -> Rules {
    let memory: &[&str] = match reach {
        Reach::Mappings => &["mmu map_read", "mmu map_write"],
        Reach::Grants => &["grant map_read", "grant map_write", "grant unmap", "grant copy"],
    };
    let server: &[&str] = match reach {
        Reach::Mappings => &["domain2 resource_map", "hvm dm"],
        Reach::Grants => &["hvm dm"],
    };
    set(&DOMAIN_ON_DOMAIN).into_iter().chain(set(server)).chain(set(memory)).collect()
}
/// The type of the stub that uses grants, until it is set up.
const BUILDING: &str = "pf_stub_grants_t_building";
/// What it may do to its guest.
const BUILDING_ON_GUEST: [&str; 2] = ["domain2 resource_map", "hvm dm"];
/// What the guest may do to its stub.
fn guest_on_stub(reach: Reach) -> Rules {
    let copy: &[&str] = if reach == Reach::Grants { &["grant copy"] } else { &[] };
    set(&DOMAIN_ON_DOMAIN).into_iter().chain(set(copy)).collect()
}
/// What any domain may do to any domain, by Xen's own policy.
const DOMAIN_ON_DOMAIN: [&str; 2] = ["argo send", "argo register_single_source"];

#[test]
fn the_stub_has_exactly_its_rights_on_its_guest() {
    for (policy, (reach, guest, stub)) in each() {
        assert_eq!(policy.rights(stub, guest), stub_on_guest(reach), "{}", policy.name);
        let (theirs, ours) = (format!("{guest}_channel"), format!("{stub}_channel"));
        let first = if reach == Reach::Grants { BUILDING } else { stub };
        assert_eq!(policy.rights(first, &theirs), set(&["event create"]), "{}", policy.name);
        assert_eq!(policy.rights(&theirs, first), set(&["event bind"]), "{}", policy.name);
        assert_eq!(policy.rights(&ours, guest), set(&["event bind"]), "{}", policy.name);
        let own = set(&["event create", "event send", "event status"]);
        assert_eq!(policy.rights(stub, &ours), own, "{}", policy.name);
    }
}

/// The right to map resources is one to write the guest's grant table.
#[test]
fn no_label_may_map_its_guests_resources_and_use_its_grants() {
    const SERVING: &str = "pf_stub_grants_t";
    const GUEST: &str = "pf_guest_grants_t";
    for policy in policies() {
        let building = set(&DOMAIN_ON_DOMAIN).into_iter().chain(set(&BUILDING_ON_GUEST)).collect();
        assert_eq!(policy.rights(BUILDING, GUEST), building, "{}", policy.name);
        assert_eq!(policy.rights(SERVING, &format!("{GUEST}_channel")), Rules::new(), "{}", policy.name);
        let all = policy.subject(SERVING);
        assert!(!all.iter().any(|(_, right)| right == "domain2 resource_map"), "{}", policy.name);
        let relabels = |subject: &str, object: &str| -> Rules {
            let rights = policy.rights(subject, object).into_iter();
            rights.filter(|right| right.contains("relabel") || right == "domain transition").collect()
        };
        assert_eq!(relabels("dom0_t", BUILDING), set(&["domain2 relabelfrom"]), "{}", policy.name);
        assert_eq!(relabels("dom0_t", SERVING), set(&["domain2 relabelto"]), "{}", policy.name);
        assert_eq!(relabels(BUILDING, SERVING), set(&["domain transition"]), "{}", policy.name);
        for (from, to) in [(SERVING, BUILDING), (SERVING, GUEST), (SERVING, SERVING), (BUILDING, BUILDING)] {
            assert_eq!(relabels(from, to), Rules::new(), "{}: {from} {to}", policy.name);
        }
    }
}

#[test]
fn the_guest_has_no_right_on_its_stub_but_to_have_its_grants_copied() {
    for (policy, (reach, guest, stub)) in each() {
        assert_eq!(policy.rights(guest, stub), guest_on_stub(reach), "{}", policy.name);
    }
}

/// Whatever types there are, Xen's own and those of other guests.
#[test]
fn the_stub_has_no_right_elsewhere_that_an_ordinary_guest_lacks() {
    let firsts = policies().iter().map(|policy| (policy, ("pf_guest_grants_t", BUILDING)));
    let all = each().map(|(policy, (_, guest, stub))| (policy, (guest, stub))).chain(firsts);
    for (policy, (guest, subject)) in all {
        let stub = subject.trim_end_matches("_building");
        let types = [
            guest.to_owned(),
            stub.to_owned(),
            format!("{guest}_channel"),
            format!("{stub}_channel"),
            format!("{stub}_self"),
            subject.to_owned(),
        ];
        let others: Rules = policy
            .subject(subject)
            .into_iter()
            .filter(|(object, _)| !types.contains(object))
            .map(|(object, right)| format!("{object}:{right}"))
            .collect();
        let ordinary: Rules =
            policy.subject("domU_t").into_iter().map(|(object, right)| format!("{object}:{right}")).collect();
        let more: Vec<&String> = others.difference(&ordinary).collect();
        assert!(more.is_empty(), "{}: {more:?}", policy.name);
        let own_self = format!("{guest}_self");
        for object in ["domU_t", "dm_dom_t", &own_self, "pf_guest_two_t", "pf_stub_two_t"] {
            assert_eq!(policy.rights(subject, object), set(&DOMAIN_ON_DOMAIN), "{}: {object}", policy.name);
        }
    }
}

/// Netback in dom0 maps and copies what the stub of an NBD disk grants. Xen's own policy has a type for a xenstored
/// that is a domain, and no domain has that type here.
#[test]
fn a_stub_grants_pages_to_dom0_and_xenstore_alone() {
    const STUB: &str = "pf_stub_one_t";
    for policy in policies() {
        let rules =
            policy.rules.iter().filter(|(_, object, right)| object == STUB && right.starts_with("grant "));
        let users: BTreeSet<&str> = rules.map(|(subject, ..)| subject.as_str()).collect();
        assert_eq!(users, BTreeSet::from(["dom0_t", "xenstore_t"]), "{}", policy.name);
        assert_eq!(
            policy.rights(&format!("{STUB}_channel"), "dom0_t"),
            set(&["event bind"]),
            "{}",
            policy.name
        );
        assert_eq!(policy.rights("dom0_t_channel", STUB), set(&["event bind"]), "{}", policy.name);
    }
}

#[test]
fn two_guests_have_nothing_to_do_with_each_other() {
    for policy in policies() {
        for (subject, object) in [("pf_guest_one_t", "pf_guest_two_t"), ("pf_stub_two_t", "pf_guest_one_t")] {
            assert_eq!(policy.rights(subject, object), set(&DOMAIN_ON_DOMAIN), "{}", policy.name);
            let channels = policy.rights(&format!("{subject}_channel"), object);
            assert_eq!(channels, Rules::new(), "{}: {subject} {object}", policy.name);
        }
    }
}

#[test]
fn nobody_may_make_the_stub_a_device_model() {
    for (policy, (_, guest, stub)) in each() {
        for subject in ["dom0_t", stub] {
            for object in [guest, stub] {
                let rights = policy.rights(subject, object);
                for right in ["domain set_target", "domain2 make_priv_for", "domain2 set_as_target"] {
                    assert!(!rights.contains(right), "{}: {subject} {object} {right}", policy.name);
                }
            }
        }
    }
}

/// The daemon asks Xen for these before it makes a stub.
#[test]
fn what_the_daemon_asks_for_is_allowed_by_the_module_and_all_that_it_adds() {
    for (policy, (reach, guest, stub)) in each() {
        let pair = Pair::of_guest(&format!("system_u:system_r:{guest}")).unwrap();
        let kind = |object: Object| object.label(&pair).rsplit(':').next().unwrap().to_owned();
        let (mut asked, mut asked_first) = (Rules::new(), Rules::new());
        for right in rights(reach) {
            let (subject, object) = (kind(right.subject), kind(right.object));
            let right = format!("{} {}", right.class.1, right.permission.1);
            assert!(policy.rights(&subject, &object).contains(&right), "{}: {right}", policy.name);
            if (subject.as_str(), object.as_str()) == (stub, guest) {
                asked.insert(right);
            } else if subject == BUILDING && object == guest {
                asked_first.insert(right);
            }
        }
        let first = if reach == Reach::Grants { set(&BUILDING_ON_GUEST) } else { Rules::new() };
        assert_eq!(asked_first, first, "{}", policy.name);
        let added: Rules = stub_on_guest(reach).difference(&set(&DOMAIN_ON_DOMAIN)).cloned().collect();
        assert_eq!(asked, added, "{}", policy.name);
    }
}

#[test]
fn what_the_daemon_asks_for_has_xens_numbers() {
    for source in sources() {
        let (classes, vectors) = numbers(&source);
        for right in rights(Reach::Mappings).chain(rights(Reach::Grants)) {
            let ((class, name), (place, permission)) = (right.class, right.permission);
            let is = classes.iter().position(|known| known == name).map(|at| at + 1);
            assert_eq!(is, Some(usize::from(class)), "{}: {name}", source.display());
            let of_class = &vectors.iter().find(|(known, _)| known == name).unwrap().1;
            let is = of_class.iter().position(|known| known == permission);
            assert_eq!(is, Some(usize::from(place)), "{}: {name} {permission}", source.display());
        }
    }
}

/// Each kind of guest under each policy.
fn each() -> impl Iterator<Item = (&'static Policy, (Reach, &'static str, &'static str))> {
    policies().iter().flat_map(|policy| KINDS.map(|kind| (policy, kind)))
}

/// The names of the classes, and those of each class's permissions, in Xen's order.
fn numbers(source: &Path) -> (Vec<String>, Vec<(String, Vec<String>)>) {
    let read = |name: &str| {
        let text = fs::read_to_string(source.join("xen/xsm/flask/policy").join(name)).unwrap();
        let words = |line: &str| -> Vec<String> {
            line.split('#').next().unwrap_or_default().split_whitespace().map(str::to_owned).collect()
        };
        text.lines().flat_map(words).collect::<Vec<String>>()
    };
    let classes = read("security_classes").chunks(2).map(|pair| pair[1].clone()).collect();
    let mut vectors: Vec<(String, Vec<String>)> = Vec::new();
    let mut words = read("access_vectors").into_iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "class" => vectors.push((words.next().unwrap(), Vec::new())),
            "{" | "}" => {}
            _ => vectors.last_mut().unwrap().1.push(word),
        }
    }
    (classes, vectors)
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

fn policies() -> &'static [Policy] {
    static POLICIES: OnceLock<Vec<Policy>> = OnceLock::new();
    POLICIES.get_or_init(|| sources().iter().map(|source| compile(source)).collect())
}

/// The policy sources in the set-up's cache.
fn sources() -> Vec<PathBuf> {
    let entries = xtask::paths::cache().and_then(|cache| Ok(fs::read_dir(cache)?));
    let paths = entries.into_iter().flatten().flatten().map(|entry| flask::source(&entry.path()));
    let found: Vec<PathBuf> = paths.filter(|source| source.is_dir()).collect();
    if found.is_empty() {
        eprintln!("skipped: no policy source of a Xen in the cache (cargo xtask setup)");
    }
    found
}

/// Compiles Xen's policy in `source` with the modules of [`GUESTS`].
fn compile(source: &Path) -> Policy {
    let dir = tempfile::tempdir().unwrap();
    let modules = GUESTS.map(|(guest, reach)| Module::new(guest, reach).unwrap());
    let modules = modules.map(|Module { name, text, .. }| flask::Module { name, text });
    let policy = flask::compile(source, &modules, &dir.path().join("policy")).unwrap();
    Policy { name: source.display().to_string(), rules: rules(&policy) }
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
