//! Command lines, good and bad.

mod network;

use super::*;

const GOOD: &str = "target=5 disk=id=51712,mmio=0x2000000,irq=33,mode=rw,store=pv:51712 \
     disk=id=51728,mmio=0x2000200,irq=34,mode=ro,discard=off,serial=second,store=ram:8388608 log=debug";

fn error(line: &str) -> String {
    format!("{}", Config::parse(line).expect_err(line))
}

#[test]
fn a_good_line_gives_every_value() {
    let config = Config::parse(GOOD).expect("good");
    assert_eq!(config.target, DomId(5));
    assert_eq!(config.log, log::LevelFilter::Debug);
    let first = DiskConfig {
        id: 51712,
        mmio: 0x0200_0000,
        irq: 33,
        read_only: false,
        discard: true,
        serial: "pf-51712".to_owned(),
        store: Store::Pv(51712),
        backend_timeout_ns: Some(60_000_000_000),
        tls: false,
    };
    let second = DiskConfig {
        id: 51728,
        mmio: 0x0200_0200,
        irq: 34,
        read_only: true,
        discard: false,
        serial: "second".to_owned(),
        store: Store::Ram(8_388_608),
        backend_timeout_ns: Some(60_000_000_000),
        tls: false,
    };
    assert_eq!(config.disks, [first, second]);
}

#[test]
fn an_error_names_key_and_value() {
    let with = |from: &str, to: &str| error(&GOOD.replace(from, to));
    assert_eq!(with("irq=34", "irq=44"), "disk[1].irq=44: not an interrupt from 33 to 43");
    assert_eq!(with("irq=34", "irq=33"), "disk[1].irq=33: another disk has the same");
    assert_eq!(with("irq=34", "irq=+34"), "disk[1].irq=+34: not an interrupt from 33 to 43");
    assert_eq!(with("0x2000200", "0x2000100"), "disk[1].mmio=0x2000100: not a multiple of 0x200");
    assert!(with("0x2000200", "0x2100000").contains("outside the virtio-mmio region"));
    assert!(with("0x2000200", "2000200").contains("not a hexadecimal number"));
    assert!(with("0x2000200", "0x2000000").contains("disk[1].mmio=0x2000000: another disk"));
    assert!(with("id=51728", "id=51712").contains("disk[1].id=51712: another disk"));
    assert!(with("ram:8388608", "pv:51712").contains("disk[1].store=pv:51712: another disk"));
    assert!(with("ram:8388608", "ram:100").contains("disk[1].store=ram:100: ram: needs"));
    assert!(with("ram:8388608", "iscsi:x").contains("neither pv:<number> nor ram:<bytes>"));
    assert!(with("serial=second", "serial=a-serial-that-is-too-long").contains("1 to 20"));
    assert!(with("serial=second", "serial=a=b").contains("disk[1].serial=a=b"));
    assert!(with("mode=ro", "mode=r").contains("disk[1].mode=r: neither rw nor ro"));
    assert!(with("mode=ro,", "").contains("disk[1].mode=: is missing"));
    assert!(with("mode=ro", "mode=ro,mode=rw").contains("disk[1].mode=rw: given twice"));
    assert_eq!(with("discard=off", "discard=no"), "disk[1].discard=no: neither on nor off");
    assert!(with("mode=ro", "colour=blue").contains("disk[1].colour=blue: unknown key"));
    assert!(with("target=5", "").contains("target=: is missing"));
    assert!(with("target=5", "target=0").contains("target=0: not a guest's domid"));
    assert!(with("target=5", "target=32752").contains("not a guest's domid"));
    assert!(with("target=5", "target=5 target=6").contains("target=6: given twice"));
    assert!(with("log=debug", "log=loud").contains("log=loud"));
    assert!(with("log=debug", "verbose").contains("verbose=: not of the form key=value"));
    assert!(with("mode=ro,", "mode=ro,,").contains("disk[1].=: not of the form key=value"));
    assert_eq!(error("target=5"), "disk=: is missing");
    assert!(error("").contains("target"));
}

#[test]
fn a_backend_timeout_is_in_milliseconds_and_0_is_none() {
    let with = |value: &str| GOOD.replace("mode=ro", &format!("mode=ro,backend-timeout-ms={value}"));
    for (value, ns) in [("5000", Some(5_000_000_000)), ("0", None), ("86400000", Some(86_400_000_000_000))] {
        let config = Config::parse(&with(value)).expect("good");
        assert_eq!(config.disks[1].backend_timeout_ns, ns, "{value}");
    }
    for value in ["86400001", "-1", "5s", "", "never"] {
        let said = error(&with(value));
        assert!(said.contains("disk[1].backend-timeout-ms") && said.contains("0 to 86400000"), "{said}");
    }
}

#[test]
fn the_window_has_a_size_in_mib() {
    assert_eq!(Config::parse(GOOD).expect("good").map_mib, 128);
    let with = |mib: &str| format!("{GOOD} map-mib={mib}");
    for mib in [2u32, 4096, 65536] {
        assert_eq!(Config::parse(&with(&format!("{mib}"))).expect("good").map_mib, mib);
    }
    for mib in ["0", "1", "65537", "4GiB"] {
        assert_eq!(error(&with(mib)), format!("map-mib={mib}: not 2 to 65536 MiB"));
    }
}

#[test]
fn a_guest_has_at_most_eleven_disks() {
    let disk = |n: u32| {
        format!(" disk=id={n},mmio={:#x},irq={},mode=rw,store=ram:512", 0x0200_0000 + n * 0x200, 33 + n)
    };
    let eleven: String = (0..11).map(disk).collect();
    let line = format!("target=1{eleven}");
    assert_eq!(Config::parse(&line).expect("good").disks.len(), 11);
    assert!(error(&format!("{line} disk=id=99")).contains("more disks than"));
}

#[test]
fn an_error_repeats_a_long_value_only_in_part() {
    let line = GOOD.replace("mode=ro", &format!("mode={}", "x".repeat(1000)));
    assert!(error(&line).len() < 150);
}

proptest::proptest! {
    #[test]
    fn no_line_makes_the_parser_panic(line in "[a-z0-9=,:. x]{0,80}") {
        let _ = Config::parse(&line);
    }
}

#[test]
fn what_a_restart_would_lose_cannot_be_asked_for_together_with_one() {
    const PV: &str = "target=5 disk=id=51712,mmio=0x2000000,irq=33,mode=rw,store=pv:51712";
    assert!(!Config::parse(PV).expect("good").grants);
    assert!(Config::parse(&format!("{PV} grants=on")).expect("good").grants);
    assert!(!Config::parse(&format!("{PV} grants=off restarts=3")).expect("good").grants);
    assert_eq!(error(&format!("{PV} grants=yes")), "grants=yes: neither on nor off");
    let refused = error(&format!("{PV} grants=on restarts=3"));
    assert!(refused.starts_with("restarts=3: the rings"), "{refused}");
    assert!(Config::parse(&format!("{PV} grants=on restarts=0")).is_ok());
    let refused = error(&format!("{GOOD} restarts=1"));
    assert!(refused.starts_with("restarts=1: a RAM disk"), "{refused}");
}
