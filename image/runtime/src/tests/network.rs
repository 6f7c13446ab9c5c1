//! A stub whose disk is an export of an NBD server.

use super::*;
use alloc::boxed::Box;
use alloc::string::ToString;
use drivers::fake::NetBack;
use nbd::fake::{Server, ServerConfig};
use net::fake::FarHost;
use net::fake::dhcp::{GOOD, Offer, answer};
use net::{IpAddr, Ipv4Addr, SocketAddr};

pub const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 5)), 10809);
pub const NBD: &str = "target=5 poll-us=0 net=ip=10.0.0.6/24 \
     disk=id=51712,mmio=0x2000000,irq=33,mode=rw,store=nbd:10.0.0.5:10809/a%20disk";
/// What libxl allows, less what the rest of the start may take.
const START_MAX_NS: u64 = 5_000_000_000;
/// The stub's memory with one NBD disk (`toolstack/src/stub/plan.rs`), and what it has beside its heap.
const PLAN_BYTES: usize = 12 << 20;
const IMAGE_BYTES: usize = 1 << 20;
/// The same if it may restart, for two incarnations.
const RESTART_PLAN_BYTES: usize = 14 << 20;

/// A world with a network, and the server on it.
pub fn world() -> (Rc<RefCell<World>>, FarHost<Server>) {
    world_of(SERVER, 1500)
}

fn world_of(server: SocketAddr, mtu: u16) -> (Rc<RefCell<World>>, FarHost<Server>) {
    let world = World::new();
    let host = {
        let World { xen, store, .. } = &*world.borrow();
        let back = NetBack::attach(xen, store, 0);
        back.set_mtu(mtu);
        back.reattach(DomId(0));
        let config = ServerConfig { name: "a disk".to_string(), ..ServerConfig::default() };
        FarHost::start(xen, &back, server.ip(), server.port(), Server::new(config))
    };
    (world, host)
}

/// What the daemon is told when a stub with that command line begins and cannot serve.
fn told(world: &Rc<RefCell<World>>, cmdline: &'static str) -> String {
    let before_ns = world.borrow().xen.now_ns();
    assert!(!world.borrow_mut().begin(cmdline));
    let world = world.borrow();
    assert!(world.xen.now_ns() - before_ns < START_MAX_NS);
    assert_eq!(world.told("state").as_deref(), Some("failed"));
    world.told("error").expect("a reason")
}

#[test]
fn its_disk_is_written_and_read_and_needs_no_more_memory_than_planned() {
    let (world, host) = world();
    let before = CountedHeap::used_bytes();
    let _earlier = CountedHeap::take_peak_bytes();
    assert!(world.borrow_mut().begin(NBD));
    assert_eq!(world.borrow().told("state").as_deref(), Some("serving"));
    let mut driver = guest(&world);
    assert_eq!(driver.capacity(), 2048);
    let data: Vec<u8> = (0..200_192u32).map(|at| at.to_le_bytes()[0] ^ at.to_le_bytes()[1]).collect();
    driver.submit(&write_request(5, &data), &Framing::Usual);
    driver.kick();
    world.borrow_mut().run();
    assert_eq!(driver.next_used().expect("an answer").1.status, 0);
    host.with(|server| assert!(server.cached[5 * 512..][..data.len()] == data));
    let read = BlkRequest { kind: 0, sector: 5, out: Vec::new(), in_len: data.len() };
    driver.submit(&read, &Framing::Usual);
    driver.kick();
    world.borrow_mut().run();
    assert!(driver.next_used().expect("an answer").1.data == data);
    // The server's own disk is counted as well.
    let needed = usize::try_from(CountedHeap::take_peak_bytes() - before).expect("it needs something");
    assert!(needed <= PLAN_BYTES - IMAGE_BYTES, "{} KiB", needed >> 10);
    assert!(needed <= (RESTART_PLAN_BYTES - IMAGE_BYTES) / 2, "{} KiB", needed >> 10);
}

#[test]
fn the_daemon_is_told_disk_server_and_reason() {
    let (world, host) = world();
    host.listen(false);
    assert_eq!(
        told(&world, NBD),
        "disk 51712: NBD server 10.0.0.5:10809: connection refused: export \"a disk\""
    );
}

#[test]
fn a_server_that_is_not_there_is_told_before_libxl_gives_up() {
    let (world, _host) = world();
    let far = NBD.replace("10.0.0.5:", "10.0.0.9:").leak();
    assert_eq!(told(&world, far), "disk 51712: NBD server 10.0.0.9:10809: no answer: export \"a disk\"");
}

#[test]
fn the_daemon_can_tell_whom_a_stub_waits_for() {
    let (world, _host) = world();
    assert!(world.borrow_mut().begin(NBD));
    assert_eq!(
        world.borrow().told("waits_for").as_deref(),
        Some("disk 51712: NBD server 10.0.0.5:10809: not ready yet: export \"a disk\"")
    );
}

#[test]
fn a_lease_leads_to_the_server_or_the_daemon_is_told() {
    let leased = NBD.replace("ip=10.0.0.6/24", "dhcp").leak();
    let elsewhere = Ipv4Addr::new(10, 9, 0, 7);
    for (offer, reason) in [
        (GOOD, None),
        (Offer { ours: elsewhere, router: Some(Ipv4Addr::new(10, 9, 0, 1)), ..GOOD }, Some("no answer")),
        (Offer { ours: elsewhere, ..GOOD }, Some("no route: DHCP leased 10.9.0.7/24, and no router")),
        (Offer { ours: Ipv4Addr::new(10, 0, 0, 5), ..GOOD }, Some("DHCP leased us its address")),
    ] {
        let (world, host) = world();
        host.set_neighbor(Box::new(move |frame| answer(frame, &offer).into_iter().collect()));
        let Some(reason) = reason else {
            assert!(world.borrow_mut().begin(leased));
            continue;
        };
        let told = told(&world, leased);
        assert!(told.starts_with(&format!("disk 51712: NBD server 10.0.0.5:10809: {reason}")), "{told}");
    }
}

#[test]
fn a_network_without_a_dhcp_server_is_told_before_libxl_gives_up() {
    let (world, _host) = world();
    let leased = NBD.replace("ip=10.0.0.6/24", "dhcp").leak();
    let reason = "disk 51712: no DHCP server leased an address";
    assert_eq!(told(&world, leased), reason);
    assert_eq!(world.borrow().told("waits_for").as_deref(), Some(reason));
    let bridge = |name: &str| {
        let World { store, .. } = &*world.borrow();
        store.write(&format!("/local/domain/0/backend/vif/{STUB}/0/bridge"), name);
    };
    for (name, end) in [("xenbr0", " on bridge xenbr0"), ("a\nb", ""), ("sixteen-letters-", "")] {
        bridge(name);
        assert_eq!(told(&world, leased), format!("{reason}{end}"));
    }
}

#[test]
fn a_stub_without_a_seed_does_not_begin() {
    let (world, _host) = world();
    let seed = format!("/local/domain/{STUB}/pilotfish-net-seed");
    world.borrow().store.write(&seed, "not a number");
    assert_eq!(told(&world, NBD), "pilotfish-net-seed: not a number");
}

#[test]
fn a_server_may_have_an_address_of_ipv6() {
    let server: SocketAddr = "[fd00::5]:10809".parse().unwrap();
    let line = NBD.replace("10.0.0.6/24", "fd00::6/64").replace("10.0.0.5:10809", "[fd00::5]:10809").leak();
    let (world, host) = world_of(server, 9000);
    assert!(world.borrow_mut().begin(line));
    assert_eq!((world.borrow().told("state").as_deref(), host.connections()), (Some("serving"), 1));
    let (world, host) = world_of(server, 1500);
    host.listen(false);
    assert!(told(&world, line).starts_with("disk 51712: NBD server [fd00::5]:10809: connection refused: "));
    let (world, _host) = world_of(server, 1279);
    assert_eq!(told(&world, line), "network interface 0: an MTU of 1279 bytes is too small for IPv6");
}

#[test]
fn an_export_that_is_not_there_is_told() {
    let (world, _host) = world();
    let other = NBD.replace("a%20disk", &"x".repeat(255)).leak();
    let told = told(&world, other);
    assert!(
        told.starts_with("disk 51712: NBD server 10.0.0.5:10809: the server has no such export: "),
        "{told}"
    );
    assert!(told.len() <= 200);
}

#[test]
fn a_network_interface_that_is_not_there_is_told() {
    let world = World::new();
    assert!(told(&world, NBD).starts_with("network interface 0: "), "{}", told(&world, NBD));
}

#[test]
fn a_network_interface_that_nobody_serves_is_told_before_libxl_gives_up() {
    let world = World::new();
    {
        let World { xen, store, .. } = &*world.borrow();
        NetBack::attach(xen, store, 0).unbind();
    }
    assert!(told(&world, NBD).starts_with("network interface 0: "));
}

#[test]
fn a_disk_beside_it_may_be_a_pv_disk() {
    let (world, _host) = world();
    let both = format!("{NBD} disk=id=51728,mmio=0x2000200,irq=34,mode=rw,store=pv:51712").leak();
    assert!(world.borrow_mut().begin(both));
    let mut driver = guest_of(&world, MMIO + 0x200, 1);
    driver.submit(&write_request(0, &[7; 512]), &Framing::Usual);
    driver.kick();
    world.borrow_mut().run();
    assert_eq!(driver.next_used().expect("an answer").1.status, 0);
}

#[test]
fn a_key_that_is_not_there_or_none_at_all_is_told_and_not_shown() {
    let (world, _host) = world();
    let secure = NBD.replace("a%20disk", "a%20disk,tls=on").leak();
    let node = format!("/local/domain/{STUB}/pilotfish-tls/51712");
    let absent = told(&world, secure);
    assert!(absent.starts_with("disk 51712: TLS key: pilotfish-tls/51712: "), "{absent}");
    let key = "1f".repeat(32);
    for words in [format!("{} {key}", "5a".repeat(32)), format!("5a {key} web"), key.clone()] {
        world.borrow().store.write(&node, &words);
        let bad = told(&world, secure);
        assert!(bad.ends_with("not a seed, a key and an identity") && !bad.contains("1f1f"), "{bad}");
    }
    world.borrow().store.write(&node, &format!("{} {key} web", "5a".repeat(32)));
    // With a key it is TLS or nothing.
    let none = told(&world, secure);
    let expected = "disk 51712: NBD server 10.0.0.5:10809: the server does not offer TLS, and the disk has a tls-psk-file: ";
    assert!(none.starts_with(expected), "{none}");
}

#[test]
fn a_server_that_requires_tls_is_told() {
    let (world, host) = world();
    host.with(|server| {
        server.set_config(ServerConfig { name: "a disk".to_string(), tls: true, ..ServerConfig::default() })
    });
    let expected =
        "disk 51712: NBD server 10.0.0.5:10809: the server requires TLS; set tls-psk-file: export \"a disk\"";
    assert_eq!(told(&world, NBD), expected);
}
