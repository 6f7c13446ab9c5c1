//! What is read, written and told of the disk, in any framing.

use super::*;

#[test]
fn what_was_written_is_read_back_in_any_framing() {
    let framings = [
        Framing::Usual,
        Framing::Pieces(vec![1]),
        Framing::Pieces(vec![7, 511, 3]),
        Framing::Pieces(vec![23]),
        Framing::Pieces(vec![4096]),
    ];
    for (indirect, framing) in [true, false].into_iter().flat_map(|i| framings.iter().map(move |f| (i, f))) {
        let mut rig = Rig::new(ALL, 256);
        rig.driver.indirect = indirect;
        // One byte for each descriptor: only as much as a chain can hold.
        let one_byte = *framing == Framing::Pieces(vec![1]);
        if one_byte {
            let answer = rig.ask(&BlkRequest { kind: T_GET_ID, sector: 0, out: vec![], in_len: 20 }, framing);
            assert_eq!((answer.status, answer.used_len), (S_OK, 21));
            continue;
        }
        let data = bytes(4096 + 512, 0x5a);
        assert_eq!(rig.write(3, &data, framing).status, S_OK);
        let answer = rig.read(3, data.len(), framing);
        assert_eq!(answer, Answer { status: S_OK, used_len: 4096 + 512 + 1, data: data.clone() });
        assert_eq!(rig.read(4, 512, framing).data, data[512..1024]);
        assert_eq!(rig.read(0, 512, framing).data, vec![0; 512]);
    }
}

#[test]
fn used_length_counts_what_was_written_from_the_start() {
    let mut rig = Rig::new(ALL, 8);
    assert_eq!(rig.write(0, &bytes(512, 1), &Framing::Usual).used_len, 1);
    assert_eq!(rig.read(0, 1024, &Framing::Usual).used_len, 1025);
    // Nothing at the start of the buffer was written.
    let failed = rig.read(DISK_BYTES / 512, 512, &Framing::Usual);
    assert_eq!((failed.status, failed.used_len), (S_IOERR, 0));
    assert_eq!(failed.data, vec![0xcc; 512]);
}

#[test]
fn the_identification_is_the_serial_number_padded_with_zeros() {
    let mut rig = Rig::new(ALL, 8);
    let id = |in_len| BlkRequest { kind: T_GET_ID, sector: 0, out: vec![], in_len };
    let answer = rig.ask(&id(20), &Framing::Usual);
    assert_eq!(answer.data, *b"pf-test\0\0\0\0\0\0\0\0\0\0\0\0\0");
    assert_eq!((answer.status, answer.used_len), (S_OK, 21));
    let short = rig.ask(&id(4), &Framing::Usual);
    assert_eq!((short.data.as_slice(), short.used_len), (&b"pf-t"[..], 5));
    let long = rig.ask(&id(30), &Framing::Usual);
    assert_eq!((long.status, long.used_len), (S_OK, 20), "ten bytes before the status stay untouched");
}

#[test]
fn a_read_only_disk_says_so_and_writes_nothing() {
    let mut rig = Rig::uninitialised(true);
    assert_ne!(rig.driver.offered() & F_RO, 0);
    rig.driver.init(ALL, 8);
    assert_eq!(rig.write(0, &bytes(512, 9), &Framing::Usual).status, S_IOERR);
    assert_eq!(rig.faults.submitted.get(), 0);
    assert_eq!(rig.read(0, 512, &Framing::Usual).data, vec![0; 512]);
}

#[test]
fn a_driver_without_flush_gets_durable_writes() {
    let mut rig = Rig::new(ALL & !F_FLUSH & !F_CONFIG_WCE, 8);
    rig.write(0, &bytes(512, 3), &Framing::Usual);
    rig.read(0, 512, &Framing::Usual);
    assert_eq!((rig.faults.submitted.get(), rig.faults.flushes.get()), (3, 1));
    let mut rig = Rig::new(ALL, 8);
    rig.write(0, &bytes(512, 3), &Framing::Usual);
    assert_eq!(rig.faults.flushes.get(), 0);
    // A write through is answered only after its flush.
    let mut rig = Rig::new(ALL & !F_FLUSH & !F_CONFIG_WCE, 8);
    rig.faults.hold.set(true);
    rig.driver.submit(&BlkRequest { kind: T_OUT, sector: 0, out: bytes(512, 3), in_len: 0 }, &Framing::Usual);
    rig.driver.kick();
    rig.run();
    assert_eq!((rig.faults.submitted.get(), rig.driver.next_used()), (1, None));
    rig.faults.hold.set(false);
    rig.run();
    assert_eq!(rig.faults.flushes.get(), 1);
    assert_eq!(rig.driver.next_used().expect("an answer").1.status, S_OK);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// A disk behaves like an array of sectors, whatever the sizes and framings.
    #[test]
    fn a_disk_is_an_array_of_sectors(
        steps in prop::collection::vec((0u64..60, 1usize..6, any::<bool>(), 1usize..3000, any::<u8>()), 1..40),
        wanted in prop_oneof![Just(ALL), Just(ALL & !F_EVENT_IDX), Just(ALL & !F_INDIRECT_DESC), Just(ALL & !F_FLUSH & !F_CONFIG_WCE)],
    ) {
        let mut rig = Rig::new(wanted, 256);
        let mut model = vec![0u8; 70 * 512];
        for (sector, sectors, is_write, cut, seed) in steps {
            let framing = Framing::Pieces(vec![cut.max(16), 100]);
            let range = sector as usize * 512..(sector as usize + sectors) * 512;
            if is_write {
                let data = bytes(sectors * 512, seed);
                prop_assert_eq!(rig.write(sector, &data, &framing).status, S_OK);
                model[range].copy_from_slice(&data);
            } else {
                let answer = rig.read(sector, sectors * 512, &framing);
                prop_assert_eq!(&answer.data, &model[range]);
            }
        }
    }
}
