//! The words of a network, and of disks on it.

use super::{Config, NbdStore, Net, NetConfig, Store, error};
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use core::net::{Ipv4Addr, SocketAddr};

const GOOD: &str = "target=5 net=ip=10.0.0.6/24,gateway=10.0.0.1 \
     disk=id=51712,mmio=0x2000000,irq=33,mode=rw,store=nbd:10.0.0.5:10809/guests/root-1";

fn with(from: &str, to: &str) -> String {
    GOOD.replace(from, to)
}

fn store(line: &str) -> NbdStore {
    let config = Config::parse(line).expect(line);
    let Store::Nbd(store) = &config.disks[0].store else { panic!("{line}") };
    store.clone()
}

#[test]
fn a_good_line_gives_every_value() {
    let config = Config::parse(GOOD).expect("good");
    let gateway = Some(Ipv4Addr::new(10, 0, 0, 1).into());
    let net = NetConfig { ours: Ipv4Addr::new(10, 0, 0, 6).into(), prefix_bits: 24, gateway };
    assert_eq!(config.net, Some(Net::Given(net)));
    let server = SocketAddr::new(Ipv4Addr::new(10, 0, 0, 5).into(), 10809);
    assert_eq!(store(GOOD), NbdStore { server, export: "guests/root-1".to_owned() });
    let config = Config::parse(&with(",gateway=10.0.0.1", "")).expect("good");
    assert_eq!(config.net, Some(Net::Given(NetConfig { gateway: None, ..net })));
}

#[test]
fn an_address_may_be_leased() {
    let line = with("ip=10.0.0.6/24,gateway=10.0.0.1", "dhcp");
    assert_eq!(Config::parse(&line).expect("good").net, Some(Net::Leased));
    assert!(error(&line.replace("10.0.0.5:", "[fd00::5]:")).contains("no route"));
    for bad in ["net=dhcp4", "net=", "net=dhcp,gateway=10.0.0.1", "net=dhcp net=dhcp"] {
        let said = error(&line.replace("net=dhcp", bad));
        assert!(said.starts_with("net"), "{said}");
    }
}

#[test]
fn an_export_has_a_name_of_any_text() {
    let export = |name: &str| store(&with("guests/root-1", name)).export;
    assert_eq!(export(""), "");
    assert_eq!(export("a%20b%2c%3D%25%C3%a9~._-/Z9"), "a b,=%\u{e9}~._-/Z9");
    assert_eq!(export(&"x".repeat(255)).len(), 255);
    for bad in ["%", "%4", "%4g", "%+4", "%ff", "%00", "a:b", "a+b", "\u{e9}", &"x".repeat(256)] {
        let said = error(&with("guests/root-1", bad));
        assert!(said.starts_with("disk[0].store=nbd:") && said.contains("0 to 255 bytes"), "{bad}: {said}");
    }
}

#[test]
fn an_error_names_key_and_value() {
    let said = |from: &str, to: &str| error(&with(from, to));
    assert_eq!(said("10.0.0.6/24", "10.0.0.6"), "net.ip=10.0.0.6: not of the form <address>/<prefix>");
    for prefix in ["0", "33", "x", "", "+1"] {
        let said = said("10.0.0.6/24", &format!("10.0.0.6/{prefix}"));
        assert_eq!(said, format!("net.ip=10.0.0.6/{prefix}: not a prefix of 1 to 32"));
    }
    for ip in [
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "127.0.0.1",
        "10.0.0",
        "host",
        "::1",
        "::",
        "ff02::1",
        "::ffff:10.0.0.6",
        "10.0.0.256",
    ] {
        let rule = "not the address of a host";
        assert_eq!(said("10.0.0.6/24", &format!("{ip}/24")), format!("net.ip={ip}/24: {rule}"));
        assert_eq!(said("gateway=10.0.0.1", &format!("gateway={ip}")), format!("net.gateway={ip}: {rule}"));
    }
    for ip in ["10.0.1.1", "10.0.0.6"] {
        let said = said("gateway=10.0.0.1", &format!("gateway={ip}"));
        assert_eq!(said, format!("net.gateway={ip}: not another host of the network that net.ip names"));
    }
    assert_eq!(said("ip=10.0.0.6/24,", ""), "net.ip=: is missing");
    assert_eq!(said("gateway=", "mtu="), "net.mtu=10.0.0.1: unknown key");
    assert_eq!(said("net=ip=", "net=ip=10.0.0.7/24,ip="), "net.ip=10.0.0.6/24: given twice");
    assert!(said("target=5", "target=5 net=ip=10.0.0.7/24").starts_with("net=ip=10.0.0.6/24"));
    for server in ["10.0.0.5", "10.0.0.5:0", "10.0.0.5:65536", "10.0.0.5:", "0.0.0.0:1", "storage:10809"] {
        let said = said("10.0.0.5:10809", server);
        assert!(said.starts_with(&format!("disk[0].store=nbd:{server}/guests")), "{said}");
    }
    assert!(said("10.0.0.5:10809/guests/root-1", "10.0.0.5:10809").contains("<address>:<port>/<export>"));
    for server in ["[10.0.0.5]:10809", "fd00::5:10809", "fd00::5", "[fd00::5]"] {
        let said = said("10.0.0.5:10809", server);
        assert!(said.starts_with(&format!("disk[0].store=nbd:{server}/guests")), "{said}");
    }
}

#[test]
fn a_server_needs_a_network_and_a_way_to_it() {
    let missing = error(&with("net=ip=10.0.0.6/24,gateway=10.0.0.1 ", ""));
    assert_eq!(missing, "net=: is missing, and an NBD disk needs it");
    let far = with("nbd:10.0.0.5", "nbd:10.9.0.5");
    assert!(Config::parse(&far).is_ok(), "by the gateway");
    let said = error(&far.replace(",gateway=10.0.0.1", ""));
    assert!(said.starts_with("disk[0].store=nbd:10.9.0.5:10809: no route"), "{said}");
}

#[test]
fn addresses_may_be_of_ipv6() {
    let good = GOOD
        .replace("10.0.0.6/24,gateway=10.0.0.1", "fd00::6/64,gateway=fd00::1")
        .replace("10.0.0.5:10809", "[fd00::5]:10809");
    let config = Config::parse(&good).expect("good");
    let [ours, gateway] = ["fd00::6", "fd00::1"].map(|text| text.parse().expect("an address"));
    assert_eq!(config.net, Some(Net::Given(NetConfig { ours, prefix_bits: 64, gateway: Some(gateway) })));
    assert_eq!(store(&good).server, "[fd00::5]:10809".parse().expect("an address"));
    // The router by its address on the link, as it says itself.
    assert!(Config::parse(&good.replace("gateway=fd00::1", "gateway=fe80::1")).is_ok());
    for (from, to, why) in [
        ("/64", "/129", "not a prefix of 1 to 128"),
        ("/64", "/0", "not a prefix of 1 to 128"),
        ("gateway=fd00::1", "gateway=fd01::1", "not another host of the network"),
        ("gateway=fd00::1", "gateway=10.0.0.1", "not another host of the network"),
        ("gateway=fd00::1", "gateway=fd00::6", "not another host of the network"),
        ("[fd00::5]:10809", "10.0.0.5:10809", "no route"),
        ("[fd00::5]:10809", "[fe80::5%1]:10809", "not the address of a host"),
    ] {
        let said = error(&good.replace(from, to));
        assert!(said.contains(why), "{to}: {said}");
    }
    let said = error(&with("10.0.0.5:10809", "[fd00::5]:10809"));
    assert!(said.contains("no route"), "a gateway of IPv4 leads to none of IPv6: {said}");
    let said = error(&with("gateway=10.0.0.1", "gateway=fe80::1"));
    assert!(said.starts_with("net.gateway=fe80::1: not another host"), "{said}");
}

#[test]
fn a_network_is_the_addresses_with_its_bits() {
    for (ours, near, far, bits, widest) in [
        ("10.0.0.6", "10.0.0.250", "10.0.1.5", 24, 32),
        ("fd00::6", "fd00::1:2:3:4", "fd00:0:0:1::5", 64, 128),
    ] {
        let [ours, near, far] = [ours, near, far].map(|text| text.parse().expect("an address"));
        let holds = |prefix_bits, other| NetConfig { ours, prefix_bits, gateway: None }.is_near(other);
        assert!(holds(bits, near) && !holds(bits, far) && holds(bits - 1, far));
        assert!(holds(0, far) && !holds(widest, near));
        let other = if ours.is_ipv4() { "fd00::6" } else { "10.0.0.6" };
        assert!(!holds(0, other.parse().expect("an address")), "of another kind");
    }
}

#[test]
fn two_disks_do_not_share_an_export() {
    let second = " disk=id=51728,mmio=0x2000200,irq=34,mode=ro,store=nbd:10.0.0.5:10809/";
    assert!(Config::parse(&format!("{GOOD}{second}guests/root-2")).is_ok());
    let said = error(&format!("{GOOD}{second}guests/root%2d1"));
    assert_eq!(said, "disk[1].store=nbd:10.0.0.5:10809/guests/root-1: another disk has the same");
}

#[test]
fn a_stub_with_an_nbd_disk_may_restart() {
    assert_eq!(Config::parse(&format!("{GOOD} restarts=1")).expect("good").restarts, 1);
}

#[test]
fn tls_is_asked_for_and_only_of_an_nbd_disk() {
    let has_tls = |line: &str| Config::parse(line).expect(line).disks[0].tls;
    assert!(!has_tls(GOOD) && !has_tls(&format!("{GOOD},tls=off")));
    assert!(has_tls(&format!("{GOOD},tls=on")));
    assert_eq!(error(&format!("{GOOD},tls=yes")), "disk[0].tls=yes: neither on nor off");
    assert_eq!(error(&format!("{GOOD},tls=on,tls=on")), "disk[0].tls=on: given twice");
    let pv = "target=5 disk=id=1,mmio=0x2000000,irq=33,mode=rw,store=pv:1,tls=on";
    assert_eq!(error(pv), "disk[0].tls=on: only an NBD disk has TLS");
    let restarts = error(&format!("{GOOD},tls=on restarts=1"));
    assert_eq!(restarts, "restarts=1: a key of TLS does not outlive a restart");
}
