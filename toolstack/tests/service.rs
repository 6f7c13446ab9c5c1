//! The systemd unit: what the daemon's rules ask of it.
#![forbid(unsafe_code)]

/// The settings of the unit, as `KEY=VALUE`.
fn settings() -> Vec<&'static str> {
    let unit = include_str!("../pilotfishd.service");
    unit.lines().filter(|line| line.contains('=') && !line.starts_with('#')).collect()
}

/// The words of a key's value.
fn words(key: &str) -> Vec<&'static str> {
    let value = |line: &'static str| line.strip_prefix(key)?.strip_prefix('=');
    settings().into_iter().filter_map(value).flat_map(str::split_whitespace).collect()
}

/// In one, an image might not be seen, or a mount of dom0's not be known to be one.
#[test]
fn the_daemon_gets_no_mount_namespace_of_its_own() {
    let settings = settings();
    assert!(settings.len() > 10, "{settings:?}");
    for key in [
        "BindPaths",
        "BindReadOnlyPaths",
        "DynamicUser",
        "ExecPaths",
        "InaccessiblePaths",
        "MountAPIVFS",
        "NoExecPaths",
        "PrivateDevices",
        "PrivateMounts",
        "PrivateNetwork",
        "PrivateTmp",
        "ProcSubset",
        "ProtectControlGroups",
        "ProtectHome",
        "ProtectKernelLogs",
        "ProtectKernelModules",
        "ProtectKernelTunables",
        "ProtectProc",
        "ProtectSystem",
        "ReadOnlyPaths",
        "ReadWritePaths",
        "RootDirectory",
        "RootImage",
        "TemporaryFileSystem",
    ] {
        assert_eq!(words(key), Vec::<&str>::new(), "{key}");
    }
    // Either would close /dev to it, which a disk line may name anything of.
    assert!(!settings.iter().any(|line| line.starts_with("Device") || line.starts_with("ProtectClock")));
}

#[test]
fn the_daemon_starts_after_xenstored_and_before_guests_and_ends_alone() {
    for before in ["xenstored.service", "xencommons.service", "xen.service"] {
        assert!(words("After").contains(&before), "{before}");
    }
    assert!(words("Before").contains(&"xendomains.service"));
    assert_eq!(words("KillMode"), ["process"]);
}
