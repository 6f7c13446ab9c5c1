//! The list agrees with the scripts, and each script with the list.

use super::*;
use std::collections::BTreeSet;
use std::path::Path;

#[test]
fn every_scenario_has_a_script_and_every_script_is_listed() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("qemu");
    let scripts: BTreeSet<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "sh"))
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .filter(|name| !["checks", "driver-domains", "nbd-disks", "steady"].contains(&name.as_str()))
        .collect();
    let listed: BTreeSet<String> = SCENARIOS.iter().map(|scenario| scenario.name.to_owned()).collect();
    assert_eq!(scripts, listed);
    assert!(ONCE.iter().chain(CORE).all(|name| listed.contains(*name)));
    assert_eq!(listed.len(), SCENARIOS.len(), "a name is listed twice");
}

/// What `guest_config` in `tests/dom0/lib.sh` takes from the environment. Set on a line of its own, it
/// would be every later guest's, also of a scenario that meant something else by the name.
#[test]
fn no_scenario_sets_a_guests_settings_but_before_a_call() {
    let settings = ["kernel=", "memory=", "vcpus=", "extra=", "on_reboot=", "on_crash="];
    for scenario in SCENARIOS {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("qemu/{}.sh", scenario.name));
        for line in std::fs::read_to_string(script).unwrap().lines().map(str::trim) {
            let sets = settings.iter().any(|setting| line.starts_with(setting));
            let calls = line.ends_with('\\') || line.contains("start_guest") || line.contains("guest_config");
            assert!(!sets || calls, "{}: {line}", scenario.name);
        }
    }
}

#[test]
fn the_core_is_of_scenarios_that_a_usual_run_may_have() {
    for name in CORE {
        let scenario = SCENARIOS.iter().find(|scenario| scenario.name == *name);
        assert!(scenario.is_some_and(|s| s.is_usual(XenVersion::V4_22)), "{name}");
    }
}
