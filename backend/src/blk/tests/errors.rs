//! Requests that cannot be served: each fails alone, or the device asks for a reset.

use super::*;

#[test]
fn what_the_request_breaks_decides_its_status() {
    let mut rig = Rig::new(ALL, 32);
    let end = DISK_BYTES / 512;
    let request = |kind, sector, out: usize, in_len| BlkRequest { kind, sector, out: vec![7; out], in_len };
    let cases = [
        (request(T_IN, end, 0, 512), S_IOERR, "beyond the end"),
        (request(T_IN, end - 1, 0, 1024), S_IOERR, "across the end"),
        (request(T_IN, u64::MAX, 0, 512), S_IOERR, "wraps"),
        (request(T_IN, u64::MAX / 512, 0, 512), S_IOERR, "wraps in bytes"),
        (request(T_OUT, end - 1, 1024, 0), S_IOERR, "write across the end"),
        (request(T_IN, 0, 0, 511), S_IOERR, "no whole sector"),
        (request(T_IN, 0, 0, 0), S_IOERR, "no data"),
        (request(T_OUT, 0, 0, 0), S_IOERR, "no data to write"),
        (request(T_OUT, 0, 512, 512), S_IOERR, "both directions"),
        (request(T_IN, 0, 512, 512), S_IOERR, "both directions"),
        (request(10, 0, 0, 16), S_UNSUPP, "lifetime is not offered"),
        (request(16, 0, 0, 512), S_UNSUPP, "zones are not offered"),
        (request(0x8000_0000, 0, 0, 512), S_UNSUPP, "no known type"),
        (request(T_FLUSH, 0, 0, 0), S_OK, "flush"),
    ];
    for (request, status, what) in cases {
        assert_eq!(rig.ask(&request, &Framing::Usual).status, status, "{what}");
    }
    assert!(!rig.needs_reset());
    assert_eq!(rig.read(0, 512, &Framing::Usual).data, vec![0; 512], "nothing was written");
}

#[test]
fn a_short_header_is_an_error_of_the_request_only() {
    let mut rig = Rig::new(ALL, 8);
    let (out, status) = (rig.driver.alloc(15), rig.driver.alloc(1));
    for readable in [vec![], vec![(out, 15)]] {
        rig.driver.add(readable, vec![(status, 1)]);
        rig.driver.kick();
        rig.run();
        assert_eq!(rig.driver.next_used().expect("an answer").1.status, S_IOERR);
    }
    assert!(!rig.needs_reset());
}

#[test]
fn a_request_without_a_status_byte_stops_the_device_until_it_is_reset() {
    let mut rig = Rig::new(ALL, 8);
    let out = rig.driver.alloc(16);
    rig.driver.add(vec![(out, 16)], vec![]);
    rig.driver.kick();
    rig.run();
    assert!(rig.needs_reset());
    assert_eq!(rig.irqs, 1);
    assert_eq!(rig.driver.take_interrupt(), INT_CONFIG);
    assert_eq!(rig.driver.next_used(), None);
    // Nothing is served any more, not even a good request.
    rig.driver.submit(&read_request(0, 512), &Framing::Usual);
    rig.driver.write(QUEUE_NOTIFY, 0);
    rig.run();
    assert_eq!(rig.driver.next_used(), None);
    rig.driver.init(ALL, 8);
    assert_eq!(rig.read(0, 512, &Framing::Usual).status, S_OK);
}

#[test]
fn unreachable_buffers_fail_their_own_request() {
    let mut rig = Rig::new(ALL, 8);
    let far = 0x10;
    let ram = rig.driver.alloc(64);
    rig.mem.poke(ram, &[0; 64]);
    rig.driver.add(vec![(ram, 16)], vec![(far, 512), (ram + 16, 1)]);
    rig.driver.add(vec![(far, 16)], vec![(ram + 17, 1)]);
    rig.driver.add(vec![(ram, 16)], vec![(ram + 1024, 512), (far, 1)]);
    rig.driver.kick();
    rig.run();
    assert_eq!(rig.mem.peek(ram + 16, 2), [S_IOERR, S_IOERR]);
    assert_eq!(rig.mem.peek_u16(rig.driver.used(2)), 3, "all came back");
    assert!(!rig.needs_reset());
}

#[test]
fn storage_errors_reach_just_their_requests() {
    let mut rig = Rig::new(ALL, 8);
    rig.faults.fail_next.set(1);
    assert_eq!(rig.read(0, 512, &Framing::Usual).status, S_IOERR);
    assert_eq!(rig.read(0, 512, &Framing::Usual).status, S_OK);
    rig.faults.fail_next.set(1);
    assert_eq!(rig.write(0, &bytes(512, 1), &Framing::Usual).status, S_IOERR);
    assert!(!rig.needs_reset());
}

#[test]
fn a_full_storage_delays_requests_and_loses_none() {
    let mut rig = Rig::new(ALL, 256);
    rig.faults.hold.set(true);
    rig.faults.depth.set(3);
    for sector in 0..40 {
        rig.driver.submit(&read_request(sector, 512), &Framing::Usual);
    }
    rig.driver.kick();
    rig.run();
    assert_eq!(rig.device.borrow().in_flight(), 3);
    assert_eq!(rig.driver.next_used(), None);
    rig.faults.hold.set(false);
    rig.run();
    assert_eq!(core::iter::from_fn(|| rig.driver.next_used()).count(), 40);
    assert_eq!(rig.driver.in_flight(), 0);
}
