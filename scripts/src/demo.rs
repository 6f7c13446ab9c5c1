//! `cargo xtask demo`: the main job, shown and measured.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde_json::{Map, Value, json};

use crate::agent::{Check, Outcome, Patience};
use crate::build;
use crate::protocol::Event;
use crate::setup::{self, Fixture};
use crate::system::{self, Options};
use crate::{paths, ui};

const SCENARIO: &str = "demo";
/// Limit of the scenario itself; the machine's own is longer.
const LIMIT: Duration = Duration::from_secs(240);

/// Where the data of the guest's first disk is.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum Storage {
    /// An image file, by a PV disk.
    #[default]
    Pv,
    /// The same file, by an NBD server in dom0.
    Nbd,
}

/// Runs the demonstration; true when everything held.
///
/// # Errors
/// When set-up, build or boot fail.
pub fn run(options: &Options, storage: Storage) -> Result<bool> {
    ui::heading("Set-up");
    setup::packages::ensure()?;
    let toolchain = setup::toolchain()?;
    let fixture = setup::fixture(options.xen)?;
    ui::heading("Build");
    let products = build::stub(&toolchain)?;
    ui::heading("Run");
    let started = Instant::now();
    let mut options = options.clone();
    let image = match storage {
        Storage::Pv => &products.image,
        Storage::Nbd => {
            options.files.push(("pf/storage", "nbd".to_owned()));
            &products.net_image
        }
    };
    let image_bytes = image.as_deref().map_or(0, build::bytes_of);
    let mut agent = system::boot(&fixture, &products, &options)?;
    let outcome = ui::step("a guest with two disks: write, verify, reboot, verify", |step| {
        agent.run(SCENARIO, Patience::of(LIMIT), |event| match event {
            Event::Check { passed: true, what } => step.note(format!("✓ {what}")),
            Event::Check { what, .. } => step.note(format!("✗ {what}")),
            _ => {}
        })
    })?;
    if outcome.status.is_some() {
        agent.poweroff()?;
    }
    let report = report(&outcome, &fixture, image_bytes, started.elapsed());
    let path = paths::target().join("demo.json");
    fs::write(&path, format!("{:#}\n", Value::Object(report.clone())))
        .with_context(|| format!("cannot write {}", path.display()))?;
    print(&report, &outcome);
    println!("\n  {}", path.display());
    println!("  {}", paths::logs().join(format!("{}.log", options.name)).display());
    Ok(report.get("ok") == Some(&Value::Bool(true)))
}

/// The report's fields, all measured in this run; a value that did not arrive is null.
fn report(outcome: &Outcome, fixture: &Fixture, image_bytes: u64, wall: Duration) -> Map<String, Value> {
    let facts = &outcome.facts;
    let held = |key: &str| Value::Bool(facts.get(key).is_some_and(|value| value == "1"));
    let in_backend = number(facts, "files_in_backend").is_some_and(|files| files > 0)
        && outcome
            .checks
            .iter()
            .filter(|check| check.what.contains("backing image"))
            .all(|check| check.passed);
    let mut fields = vec![
        ("xen_version", text(facts, "xen_version")),
        ("dom0_kernel", text(facts, "dom0_kernel")),
        ("guest_kernel", text(facts, "guest_kernel")),
        ("stub_image_bytes", json!(image_bytes)),
        ("stub_memory_kib", json!(number(facts, "stub_memory_mib").map(|mib| mib * 1024))),
        ("stub_ready_ms", json!(milliseconds(facts, "stub_ready_us"))),
        ("guest_saw_disk_ms", json!(number(facts, "guest_seen_ms"))),
        ("written_bytes", json!(number(facts, "guest_written_bytes"))),
        ("verified_after_remount", held("guest_verified_after_remount")),
        ("verified_after_reboot", held("guest_verified_after_reboot")),
        ("verified_in_backend", Value::Bool(in_backend)),
        ("stubs_left_after_poweroff", json!(number(facts, "stubs_left_after_poweroff"))),
        ("wall_s", json!((wall.as_secs_f64() * 10.0).round() / 10.0)),
    ];
    // Tools and hypervisor are one minor version, and it is the one that was asked for.
    let right_xen =
        facts.get("xen_version").is_some_and(|version| version.starts_with(fixture.version.as_str()));
    let ok = outcome.passed()
        && right_xen
        && fields.iter().all(|(_, value)| !value.is_null() && *value != Value::Bool(false));
    fields.insert(0, ("ok", Value::Bool(ok)));
    fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn text(facts: &BTreeMap<String, String>, key: &str) -> Value {
    let value = facts.get(key).filter(|value| !value.is_empty());
    value.map_or(Value::Null, |value| json!(value))
}

fn number(facts: &BTreeMap<String, String>, key: &str) -> Option<u64> {
    facts.get(key)?.parse().ok()
}

/// Microseconds as milliseconds with one decimal.
fn milliseconds(facts: &BTreeMap<String, String>, key: &str) -> Option<f64> {
    let us: u32 = facts.get(key)?.parse().ok()?;
    Some(f64::from(us / 100) / 10.0)
}

fn print(report: &Map<String, Value>, outcome: &Outcome) {
    let get = |key: &str| match report.get(key) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Bool(true)) => "yes".to_owned(),
        Some(Value::Bool(false)) => "NO".to_owned(),
        Some(Value::Null) | None => "not measured".to_owned(),
        Some(other) => other.to_string(),
    };
    if report.get("ok") == Some(&Value::Bool(true)) {
        println!("\nPilotfish served the guest's disks.\n");
    } else {
        println!("\nThe demonstration failed.\n");
        for line in &outcome.lines {
            println!("    {line}");
        }
        for Check { what, .. } in outcome.checks.iter().filter(|check| !check.passed) {
            println!("  ✗ {what}");
        }
        if outcome.status.is_none() {
            println!("  ✗ the machine died or went silent");
        }
        if too_slow(&outcome.lines) {
            println!(
                "\n  The stub was not up within the 10 s that xl waits: this machine is busy or\n  \
                 slow at emulation. End what else runs on it and try again."
            );
        }
        println!();
    }
    println!("  Xen {}, dom0 Linux {}", get("xen_version"), get("dom0_kernel"));
    println!("  guest            Linux {}, unmodified", get("guest_kernel"));
    println!("  stub image       {} bytes", get("stub_image_bytes"));
    println!("  stub memory      {} KiB", get("stub_memory_kib"));
    println!("  stub ready       {} ms after its first instruction", get("stub_ready_ms"));
    println!("  guest saw /dev/vda  {} ms after its boot", get("guest_saw_disk_ms"));
    println!("  written          {} bytes in files, checksums verified", get("written_bytes"));
    println!("    after remount  {}", get("verified_after_remount"));
    println!("    after reboot   {}", get("verified_after_reboot"));
    println!("    in the backing image, by dom0  {}", get("verified_in_backend"));
    println!("  stubs left       {}", get("stubs_left_after_poweroff"));
    println!("  took             {} s", get("wall_s"));
}

/// Whether the daemon says that a launch took longer than libxl waits.
fn too_slow(lines: &[String]) -> bool {
    lines.iter().any(|line| line.contains("launch-timeout-ms"))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::setup::XenVersion;

    fn fixture() -> Fixture {
        Fixture {
            version: XenVersion::V4_20,
            xen: PathBuf::new(),
            policy: PathBuf::new(),
            xen_version: String::new(),
            kernel: PathBuf::new(),
            kernel_release: String::new(),
            dom0_cpio: PathBuf::new(),
            guest_cpio: PathBuf::new(),
        }
    }

    fn good() -> Outcome {
        let facts = [
            ("xen_version", "4.20.3"),
            ("dom0_kernel", "6.12"),
            ("guest_kernel", "6.12"),
            ("stub_memory_mib", "16"),
            ("stub_ready_us", "1234"),
            ("guest_seen_ms", "900"),
            ("guest_written_bytes", "12"),
            ("guest_verified_after_remount", "1"),
            ("guest_verified_after_reboot", "1"),
            ("files_in_backend", "11"),
            ("stubs_left_after_poweroff", "0"),
        ];
        let facts = facts.map(|(key, value)| (key.to_owned(), value.to_owned()));
        Outcome {
            status: Some(0),
            checks: vec![Check {
                passed: true,
                what: "dom0 finds the same files in the backing image".to_owned(),
            }],
            facts: facts.into(),
            ..Outcome::default()
        }
    }

    fn made(outcome: &Outcome) -> Map<String, Value> {
        report(outcome, &fixture(), 1, Duration::from_secs(1))
    }

    #[test]
    fn every_measured_field_is_in_the_report() {
        let report = made(&good());
        assert_eq!(report["ok"], json!(true));
        assert_eq!(report["stub_memory_kib"], json!(16384));
        assert_eq!(report["stub_ready_ms"], json!(1.2));
        assert_eq!(report["stubs_left_after_poweroff"], json!(0));
        assert_eq!(report.len(), 14);
    }

    #[test]
    fn what_was_not_measured_is_no_success() {
        for key in good().facts.keys() {
            let mut outcome = good();
            outcome.facts.remove(key);
            assert_eq!(made(&outcome)["ok"], json!(false), "without {key}");
        }
    }

    #[test]
    fn a_failed_check_is_no_success() {
        let mut outcome = good();
        outcome.checks[0].passed = false;
        let report = made(&outcome);
        assert_eq!(report["ok"], json!(false));
        assert_eq!(report["verified_in_backend"], json!(false));
    }

    #[test]
    fn a_slow_machine_is_told_from_a_broken_one() {
        let line = "ERROR pilotfishd: guest 1: no stub within launch-timeout-ms = 9000";
        assert!(too_slow(&[line.to_owned()]));
        assert!(!too_slow(&["ERROR pilotfishd: guest 1: no such file".to_owned()]));
    }

    #[test]
    fn tools_of_another_xen_are_no_success() {
        let mut outcome = good();
        outcome.facts.insert("xen_version".to_owned(), "4.17.5".to_owned());
        assert_eq!(made(&outcome)["ok"], json!(false));
    }
}
