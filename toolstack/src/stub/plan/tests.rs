//! What stubs are laid out for which disks.

use super::*;
use crate::disk::nbd::{Export, Network};
use crate::disk::node::DiskNode;
use crate::disk::tls_key::TlsKey;

fn disk(n: u32, storage: DiskStorage, read_only: bool, serial: Option<&str>) -> Disk {
    let node = DiskNode {
        disk: 51712 + 16 * n,
        name: format!("xvd{}", char::from(b'a' + u8::try_from(n).unwrap())),
        target: String::new(),
        read_only,
        discard: true,
        mmio: 0x0200_0000 + 0x200 * u64::from(n),
        irq: 33 + n,
    };
    Disk { node, storage, serial: serial.map(str::to_owned), backend_timeout_ms: None }
}

fn here(target: &str) -> DiskStorage {
    DiskStorage::Pv { target: target.to_owned(), backend: None }
}

fn identity() -> Identity {
    Identity { guest: 5, uuid: "70696c6f-7466-8000-8000-000500000000".to_owned(), made_as: None }
}

#[test]
fn the_command_line_is_the_one_the_image_parses() {
    let disks = [
        disk(0, here("/a.img"), false, None),
        disk(1, DiskStorage::Ram(8 << 20), false, Some("swap")),
        disk(2, here("/b,c.img"), true, None),
    ];
    let config = Config { block_script: BlockScript::Xen, ..Config::default_for_tests() };
    let plan = Plan::new(&config, identity(), &Guest::default(), &disks).unwrap();
    assert_eq!(
        plan.command_line,
        "target=5 disk=id=51712,mmio=0x2000000,irq=33,mode=rw,store=pv:51712 \
         disk=id=51728,mmio=0x2000200,irq=34,mode=rw,store=ram:8388608,serial=swap \
         disk=id=51744,mmio=0x2000400,irq=35,mode=ro,store=pv:51728 log=info poll-us=1500 map-mib=128"
    );
    assert_eq!(plan.disks, [51712, 51728, 51744]);
    assert!(plan.xl_config.contains("memory = 20\n"), "{}", plan.xl_config);
    assert!(plan.xl_config.contains(
        "disk = [ \"vdev=xvda,format=raw,backendtype=phy,access=rw,target=/a.img\", \
         \"vdev=xvdb,format=raw,backendtype=phy,access=ro,target=/b,c.img\" ]\n"
    ));
    assert!(plan.xl_config.contains("shadow_memory = 2\n"));
    let plan = Plan::new(&Config::default_for_tests(), identity(), &Guest::default(), &disks).unwrap();
    let script = format!("script={},access=rw,target=/a.img", std::env::current_exe().unwrap().display());
    assert!(plan.xl_config.contains(&script), "{}", plan.xl_config);
}

#[test]
fn a_driver_domains_disk_names_the_domain_and_no_script() {
    let storage = DiskStorage::Pv { target: "/dev/vdb".into(), backend: Some("store".into()) };
    let disks = [disk(0, storage, false, None)];
    let plan = Plan::new(&Config::default_for_tests(), identity(), &Guest::default(), &disks).unwrap();
    let expected = "\"vdev=xvda,format=raw,backendtype=phy,backend=store,access=rw,target=/dev/vdb\"";
    assert!(plan.xl_config.contains(expected), "{}", plan.xl_config);
}

#[test]
fn a_disk_that_must_not_discard_says_so_to_stub_and_backend() {
    let mut disks = [
        disk(0, here("/a.img"), false, None),
        disk(1, here("/b.img"), false, None),
        disk(2, DiskStorage::Ram(4096), false, None),
    ];
    disks[1].node.discard = false;
    disks[2].node.discard = false;
    let plan = Plan::new(&Config::default_for_tests(), identity(), &Guest::default(), &disks).unwrap();
    let words: Vec<bool> = plan
        .command_line
        .split(' ')
        .filter(|word| word.starts_with("disk="))
        .map(|word| word.contains(",discard=off"))
        .collect();
    assert_eq!(words, [false, true, true]);
    assert!(plan.xl_config.contains(",access=rw,target=/a.img\""), "{}", plan.xl_config);
    assert!(plan.xl_config.contains(",no-discard,access=rw,target=/b.img\""), "{}", plan.xl_config);
}

#[test]
fn the_time_to_wait_for_a_backend_is_said_where_it_is_not_the_stubs_own() {
    let mut disks = [
        disk(0, here("/a.img"), false, None),
        disk(1, DiskStorage::Ram(4096), false, None),
        disk(2, here("/b.img"), false, Some("x")),
    ];
    disks[2].backend_timeout_ms = Some(0);
    let line = |ms, disks: &[Disk]| {
        let config = Config { backend_timeout_ms: ms, ..Config::default_for_tests() };
        Plan::new(&config, identity(), &Guest::default(), disks).unwrap().command_line
    };
    assert!(!line(60_000, &disks[..2]).contains("backend-timeout"));
    let line = line(5000, &disks);
    assert!(line.contains(",store=pv:51712,backend-timeout-ms=5000 "), "{line}");
    assert!(line.contains(",store=ram:4096 "), "{line}");
    assert!(line.contains(",serial=x,backend-timeout-ms=0 "), "{line}");
}

fn export(name: &str, address: &str) -> DiskStorage {
    let network = Network::parse(address, None, None).unwrap();
    let look_up = |_: &str| Ok(Vec::new());
    let export = Export::parse(&format!("nbd://10.0.0.5/{name}"), network.kind(), &look_up).unwrap();
    DiskStorage::Nbd { export, network, tls: None }
}

#[test]
fn a_stub_with_nbd_disks_gets_a_network_its_image_and_memory() {
    let mut disks = [
        disk(0, export("a", "10.0.0.6/24"), false, None),
        disk(1, here("/b.img"), false, None),
        disk(2, export("c d", "10.0.0.6/24"), true, Some("s")),
    ];
    disks[2].backend_timeout_ms = Some(5);
    let plan = Plan::new(&Config::default_for_tests(), identity(), &Guest::default(), &disks).unwrap();
    let line = "target=5 net=ip=10.0.0.6/24 \
         disk=id=51712,mmio=0x2000000,irq=33,mode=rw,store=nbd:10.0.0.5:10809/a \
         disk=id=51728,mmio=0x2000200,irq=34,mode=rw,store=pv:51712 \
         disk=id=51744,mmio=0x2000400,irq=35,mode=ro,store=nbd:10.0.0.5:10809/c%20d,serial=s,backend-timeout-ms=5 ";
    assert!(plan.command_line.starts_with(line), "{}", plan.command_line);
    for part in [
        "kernel = \"/usr/lib/pilotfish/pilotfish-net.img\"\n",
        "memory = 16\n",
        "vif = [ \"mac=02:50:0a:00:00:06,bridge=xenbr0,ip=10.0.0.6\" ]\n",
    ] {
        assert!(plan.xl_config.contains(part), "{part}: {}", plan.xl_config);
    }
    let plan = Plan::new(&Config::default_for_tests(), identity(), &Guest::default(), &disks[1..2]).unwrap();
    assert!(plan.xl_config.contains("pilotfish.img") && !plan.xl_config.contains("vif"));
    let two = [disks[0].clone(), disk(1, export("b", "10.0.0.7/24"), false, None)];
    let error = Plan::new(&Config::default_for_tests(), identity(), &Guest::default(), &two).unwrap_err();
    assert!(error.to_string().contains("one network interface"), "{error}");
    let error = Plan::granted(&Config::default_for_tests(), identity(), &disks[..1]).unwrap_err();
    assert!(error.to_string().contains("grant-stubs"), "{error}");
}

#[test]
fn only_a_stub_without_ram_disks_may_restart() {
    let config = Config { on_stub_crash: OnStubCrash::Restart, ..Config::default_for_tests() };
    let pv = disk(0, here("/a.img"), false, None);
    let plan = Plan::new(&config, identity(), &Guest::default(), std::slice::from_ref(&pv)).unwrap();
    assert!(plan.command_line.ends_with(" restarts=3") && plan.no_restart.is_none());
    let ram = disk(1, DiskStorage::Ram(4096), false, None);
    let plan = Plan::new(&config, identity(), &Guest::default(), &[pv.clone(), ram]).unwrap();
    assert!(!plan.command_line.contains("restarts"), "{}", plan.command_line);
    assert!(plan.no_restart.unwrap().contains("51728"));
    let far = [disk(0, export("a", "10.0.0.6/24"), false, None)];
    let plan = Plan::new(&config, identity(), &Guest::default(), &far).unwrap();
    assert!(plan.command_line.ends_with(" restarts=3") && plan.no_restart.is_none());
    // Each of two incarnations has its own buffers.
    assert!(plan.xl_config.contains("memory = 14\n"), "{}", plan.xl_config);
    let plan = Plan::new(&Config::default_for_tests(), identity(), &Guest::default(), &[pv]).unwrap();
    assert!(!plan.command_line.contains("restarts"));
}

#[test]
fn a_disk_with_tls_says_so_and_its_key_is_nowhere_in_the_plan() {
    let config = Config { on_stub_crash: OnStubCrash::Restart, ..Config::default_for_tests() };
    let mut storage = export("a", "10.0.0.6/24");
    let DiskStorage::Nbd { tls, .. } = &mut storage else { panic!() };
    *tls = Some(TlsKey { file: "/etc/pilotfish/keys/web.psk".into(), identity: Some("web".into()) });
    let disks = [disk(0, storage, false, Some("s")), disk(1, export("b", "10.0.0.6/24"), false, None)];
    let plan = Plan::new(&config, identity(), &Guest::default(), &disks).unwrap();
    assert!(
        plan.command_line.contains(",store=nbd:10.0.0.5:10809/a,serial=s,tls=on disk="),
        "{}",
        plan.command_line
    );
    assert_eq!(plan.command_line.matches("tls=").count(), 1);
    assert!(!plan.xl_config.contains("psk") && !plan.xl_config.contains("/etc/pilotfish/keys"));
    assert_eq!(plan.with_tls, disks[..1]);
    assert!(plan.no_restart.unwrap().contains("a key of TLS"));
}

#[test]
fn memory_grows_with_the_pv_disks_up_to_a_limit() {
    for (disks, mib) in [(1, 8), (2, 12), (3, 16), (11, 16)] {
        let disks: Vec<Disk> = (0..disks).map(|n| disk(n, here("/a.img"), false, None)).collect();
        let plan = Plan::new(&Config::default_for_tests(), identity(), &Guest::default(), &disks).unwrap();
        assert!(plan.xl_config.contains(&format!("memory = {mib}\nmaxmem = {mib}\n")));
    }
}

#[test]
fn the_window_follows_the_guest_and_is_paid_for() {
    let plan = |config: &Config, guest_mib: u64| {
        let disks = [disk(0, here("/a.img"), false, None)];
        let guest = Guest { memory_bytes: Some(guest_mib << 20), ..Guest::default() };
        Plan::new(config, identity(), &guest, &disks).unwrap()
    };
    // libxl's default for 8 MiB is 392 pages, and each GiB of guest needs 512 tables.
    for (guest_mib, map_mib, memory, shadow) in [
        (192, 192, 8, 2),
        (1501, 1502, 8, 5),
        (4096, 4096, 8, 10),
        (16 << 10, 16 << 10, 10, 34),
        (32 << 10, 32 << 10, 13, 66),
        (100 << 10, 32 << 10, 13, 66),
    ] {
        let plan = plan(&Config::default_for_tests(), guest_mib);
        assert!(plan.command_line.ends_with(&format!(" map-mib={map_mib}")), "{}", plan.command_line);
        let asked = format!("memory = {memory}\nmaxmem = {memory}\n");
        assert!(plan.xl_config.contains(&asked), "{}", plan.xl_config);
        assert!(plan.xl_config.contains(&format!("shadow_memory = {shadow}\n")), "{}", plan.xl_config);
    }
    let config = Config { map_window: MapWindow::Bytes(64 << 20), ..Config::default_for_tests() };
    assert!(plan(&config, 4096).command_line.ends_with(" map-mib=64"));
}

#[test]
fn too_much_ram_and_too_many_disks_are_refused() {
    let big = disk(0, DiskStorage::Ram(u64::MAX - 4095), false, None);
    let error = Plan::new(&Config::default_for_tests(), identity(), &Guest::default(), &[big.clone(), big])
        .unwrap_err();
    assert!(error.to_string().contains("ram-disk-limit"), "{error}");
    let many: Vec<Disk> = (0..17).map(|n| disk(n, DiskStorage::Ram(4096), false, None)).collect();
    assert!(Plan::new(&Config::default_for_tests(), identity(), &Guest::default(), &many).is_err());
    assert!(Plan::new(&Config::default_for_tests(), identity(), &Guest::default(), &[]).is_err());
}
