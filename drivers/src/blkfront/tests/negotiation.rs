//! What is agreed on at the start, and what is refused.

use super::*;
use crate::frontend::CONNECT_TIMEOUT_NS;

#[test]
fn a_connection_takes_what_linux_offers() {
    let mut machine = Machine::new(BlkBackConfig::default());
    let front = machine.connect(256).unwrap();
    let discard = Some(Discard { granularity_bytes: 4096, alignment_bytes: 0, secure: true });
    let expected = Geometry {
        sectors: 2048,
        sector_size_bytes: 512,
        physical_sector_size_bytes: 4096,
        read_only: false,
        flush: true,
        discard,
    };
    assert_eq!(*front.geometry(), expected);
    assert_eq!((front.ring_entries(), front.max_pages_per_request()), (128, 256));
    assert_eq!(machine.front_node("state").as_deref(), Some("4"));
    assert_eq!(machine.front_node("ring-page-order").as_deref(), Some("2"));
    assert!(machine.front_node("ring-ref3").is_some() && machine.front_node("ring-ref").is_none());
    assert_eq!(machine.front_node("feature-persistent").as_deref(), Some("1"));
    assert_eq!(machine.back.state(), 4);
    // 256 data pages, 4 of the ring, one for segments for each 12.
    assert_eq!(machine.xen.live_grants(), 256 + 4 + 21);
    assert_eq!(front.backend_path(), "/local/domain/0/backend/vbd/5/51712");
}

#[test]
fn a_plain_back_end_gets_the_plain_protocol() {
    let config = BlkBackConfig {
        max_ring_page_order: None,
        max_indirect_segments: None,
        persistent: false,
        flush: false,
        discard: false,
        ..BlkBackConfig::default()
    };
    let mut machine = Machine::new(config);
    // Left by an earlier frontend; a blkback would prefer it to `ring-ref`.
    machine.store.write(&format!("/local/domain/5/device/vbd/{VDEV}/ring-page-order"), "1");
    let mut front = machine.connect(64).unwrap();
    assert_eq!((front.ring_entries(), front.max_pages_per_request()), (32, 11));
    assert!(machine.front_node("ring-ref").is_some() && machine.front_node("ring-page-order").is_none());
    assert_eq!(front.submit(1, Op::Flush), Err((SubmitError::Unsupported, Op::Flush)));
    let discard = Op::Discard { first_sector: 0, sectors: 8, secure: false };
    assert_eq!(front.submit(1, discard).unwrap_err().0, SubmitError::Unsupported);
    let long = write_op(&mut front, 0, &[0; 12 * 4096]);
    let (error, long) = front.submit(1, long).unwrap_err();
    assert_eq!(error, SubmitError::BadRange);
    let Op::Write { bounce, .. } = long else { panic!("another request") };
    front.give_back(bounce);
    let data = pattern(11 * 4096, 3);
    machine.write(&mut front, 16, &data).unwrap();
    assert_eq!(machine.read(&mut front, 16, 11 * 4096), data);
    assert_eq!(machine.back.mapped_pages(), 0, "every page was unmapped again");
}

#[test]
fn the_ring_is_no_larger_than_the_pool_can_fill() {
    for (pool_pages, entries) in [(1, 32), (32, 32), (33, 64), (128, 128), (129, 128), (960, 128)] {
        let mut machine = Machine::new(BlkBackConfig::default());
        let front = machine.connect(pool_pages).unwrap();
        assert_eq!(front.ring_entries(), entries, "{pool_pages} pages");
        assert!(front.max_pages_per_request() <= pool_pages);
    }
}

#[test]
fn hostile_properties_are_refused_and_nothing_stays() {
    let cases = [
        ("sectors", "0", ConnectError::BadValue("sectors")),
        ("sectors", "36028797018963968", ConnectError::BadValue("sectors")),
        ("sectors", "-1", ConnectError::BadValue("sectors")),
        ("sectors", "18446744073709551616", ConnectError::BadValue("sectors")),
        ("sectors", "", ConnectError::BadValue("sectors")),
    ];
    for (key, value, expected) in cases {
        let mut machine = Machine::new(BlkBackConfig::default());
        machine.back.set_node(key, value);
        assert_eq!(machine.connect(8).err(), Some(expected), "{key} = {value:?}");
        assert_eq!(machine.xen.live_grants(), 0, "{key} = {value:?}");
        assert_eq!(machine.xen.open_ports(), 1, "xenstore's own");
        assert_eq!(machine.front_node("state").as_deref(), Some("6"));
        assert!(machine.store.watches().is_empty());
    }
}

#[test]
fn logical_blocks_are_powers_of_two_up_to_a_page() {
    for (bytes, good) in [(0, false), (256, false), (512, true), (1536, false), (4096, true), (8192, false)] {
        let config = BlkBackConfig { sector_size_bytes: bytes, ..BlkBackConfig::default() };
        let connected = Machine::new(config).connect(8).map(|front| front.geometry().sector_size_bytes);
        let expected = if good { Ok(bytes) } else { Err(ConnectError::BadValue("sector-size")) };
        assert_eq!(connected, expected, "{bytes}");
    }
}

#[test]
fn a_strange_physical_block_is_ignored() {
    for bytes in [0, 3000, 512] {
        let config = BlkBackConfig {
            sector_size_bytes: 4096,
            physical_sector_size_bytes: bytes,
            ..BlkBackConfig::default()
        };
        let front = Machine::new(config).connect(8).unwrap();
        assert_eq!(front.geometry().physical_sector_size_bytes, 4096);
    }
}

#[test]
fn a_back_end_that_hangs_runs_into_the_deadline() {
    let mut machine = Machine::new(BlkBackConfig { hangs_at_start: true, ..BlkBackConfig::default() });
    let error = machine.connect(8).err();
    assert_eq!(error, Some(ConnectError::TimedOut(XenbusState::Initialising)));
    assert!(machine.xen.now_ns() >= CONNECT_TIMEOUT_NS);
    assert_eq!(machine.xen.live_grants(), 0);
    assert!(machine.store.watches().is_empty());
}

#[test]
fn a_device_that_does_not_exist_is_named() {
    let mut machine = Machine::new(BlkBackConfig::default());
    let missing = BlkFront::connect(&machine.xen, &mut machine.xs, 51728, 8).err();
    assert_eq!(missing, Some(ConnectError::Missing("backend")));
    for (key, value) in
        [("backend", "relative"), ("backend", "/a b"), ("backend-id", "65536"), ("backend-id", "32752")]
    {
        let mut machine = Machine::new(BlkBackConfig::default());
        machine.store.write(&format!("/local/domain/5/device/vbd/{VDEV}/{key}"), value);
        assert_eq!(machine.connect(8).err(), Some(ConnectError::BadValue(key)), "{value}");
    }
}

#[test]
fn pools_have_limits() {
    let mut machine = Machine::new(BlkBackConfig::default());
    assert_eq!(machine.connect(0).err(), Some(ConnectError::PoolSize(0)));
    assert_eq!(machine.connect(961).err(), Some(ConnectError::PoolSize(961)));
    machine.xen.limit_grants(40);
    assert_eq!(machine.connect(64).err(), Some(ConnectError::Xen(Errno::ENOSPC)));
    assert_eq!(machine.xen.live_grants(), 0);
}
