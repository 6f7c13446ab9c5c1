//! Discard, write zeroes and secure erase.

use super::super::config::{F_DISCARD, F_SECURE_ERASE, F_WRITE_ZEROES};
use super::super::ranges::{MAX_RANGES, T_DISCARD, T_SECURE_ERASE, T_WRITE_ZEROES};
use super::*;
use crate::storage::{Discard, Geometry, Storage};

const KINDS: [u32; 3] = [T_DISCARD, T_WRITE_ZEROES, T_SECURE_ERASE];
const UNMAP: u32 = 1;
/// What the RAM disk takes in one go.
const MAX_SECTORS: u32 = 2048;

fn entry(sector: u64, num_sectors: u32, flags: u32) -> Vec<u8> {
    [&sector.to_le_bytes()[..], &num_sectors.to_le_bytes(), &flags.to_le_bytes()].concat()
}

fn request(kind: u32, entries: &[(u64, u32, u32)]) -> BlkRequest {
    let out = entries.iter().flat_map(|&(sector, sectors, flags)| entry(sector, sectors, flags)).collect();
    BlkRequest { kind, sector: 0, out, in_len: 0 }
}

impl Rig {
    fn status_of(&mut self, request: &BlkRequest) -> u8 {
        self.ask(request, &Framing::Usual).status
    }

    /// The first 64 sectors, filled with something.
    fn fill(&mut self) -> Vec<u8> {
        let data = bytes(64 * 512, 0xa5);
        assert_eq!(self.write(0, &data, &Framing::Usual).status, S_OK);
        data
    }
}

/// A rig whose storage tells of another geometry.
fn rig_of(change: impl FnOnce(Geometry) -> Geometry) -> Rig {
    let storage = RamDisk::new(DISK_BYTES, false).expect("memory");
    let geometry = change(storage.geometry());
    Rig::with_geometry(geometry)
}

#[test]
fn every_range_of_a_request_reads_back_zero_and_nothing_else_does() {
    let framings = [Framing::Usual, Framing::Pieces(vec![16, 5, 11]), Framing::Pieces(vec![3])];
    for (kind, flags) in [(T_WRITE_ZEROES, 0), (T_WRITE_ZEROES, UNMAP), (T_DISCARD, 0), (T_SECURE_ERASE, 0)] {
        for framing in &framings {
            let mut rig = Rig::new(ALL, 64);
            let mut model = rig.fill();
            let ranges = [(1, 2, flags), (8, 1, flags), (60, 4, flags)];
            let answer = rig.ask(&request(kind, &ranges), framing);
            assert_eq!((answer.status, answer.used_len), (S_OK, 1));
            for (sector, sectors, _) in ranges {
                let start = sector as usize * 512;
                model[start..start + sectors as usize * 512].fill(0);
            }
            assert!(rig.read(0, model.len(), &Framing::Usual).data == model, "type {kind}");
        }
    }
}

#[test]
fn unknown_flags_and_unmap_of_a_discard_are_unsupported_and_nothing_is_done() {
    let mut rig = Rig::new(ALL, 8);
    let data = rig.fill();
    for kind in KINDS {
        for flags in [UNMAP, 2, 3, 0x8000_0000, u32::MAX] {
            if (kind, flags) == (T_WRITE_ZEROES, UNMAP) {
                continue;
            }
            // The good range before it is not executed either.
            let both = request(kind, &[(0, 8, 0), (16, 8, flags)]);
            assert_eq!(rig.status_of(&both), S_UNSUPP, "type {kind}, flags {flags:#x}");
        }
    }
    assert!(rig.read(0, data.len(), &Framing::Usual).data == data);
    assert!(!rig.needs_reset());
}

#[test]
fn ranges_off_the_disk_or_of_no_good_length_are_errors_and_nothing_is_done() {
    let mut rig = Rig::new(ALL, 8);
    let data = rig.fill();
    let end = DISK_BYTES / 512;
    let bad = [
        (end, 1),
        (end - 1, 2),
        (u64::MAX, 1),
        (u64::MAX - 1, 8),
        (u64::MAX / 512, 8),
        (0, 0),
        (0, MAX_SECTORS + 1),
        (0, u32::MAX),
    ];
    for kind in KINDS {
        for (sector, sectors) in bad {
            let both = request(kind, &[(0, 8, 0), (sector, sectors, 0)]);
            assert_eq!(rig.status_of(&both), S_IOERR, "type {kind}, {sectors} at {sector}");
        }
        let many = vec![(0, 1, 0); MAX_RANGES as usize + 1];
        assert_eq!(rig.status_of(&request(kind, &many)), S_IOERR, "too many");
        for len in [0, 1, 15, 17, 31] {
            let odd = BlkRequest { kind, sector: 0, out: vec![0; len], in_len: 0 };
            assert_eq!(rig.status_of(&odd), S_IOERR, "{len} bytes");
        }
        let both_ways = BlkRequest { in_len: 16, ..request(kind, &[(0, 8, 0)]) };
        assert_eq!(rig.status_of(&both_ways), S_IOERR);
    }
    assert!(rig.read(0, data.len(), &Framing::Usual).data == data);
    let most = vec![(100, MAX_SECTORS - 100, 0); MAX_RANGES as usize];
    assert_eq!(rig.status_of(&request(T_WRITE_ZEROES, &most)), S_OK, "the limits themselves are good");
}

#[test]
fn a_read_only_disk_offers_none_of_them_and_fails_them() {
    let mut rig = Rig::uninitialised(true);
    assert_eq!(rig.driver.offered() & (F_DISCARD | F_WRITE_ZEROES | F_SECURE_ERASE), 0);
    rig.driver.init(ALL, 8);
    for kind in KINDS {
        assert_eq!(rig.status_of(&request(kind, &[(0, 8, 0)])), S_IOERR);
    }
    assert_eq!(rig.faults.submitted.get(), 0);
}

#[test]
fn a_disk_that_must_not_discard_still_zeroes() {
    let options = DeviceOptions { discard: false, ..DeviceOptions::default() };
    let mut rig = Rig::of(Faults::default(), &options);
    assert_eq!(rig.driver.offered() & (F_DISCARD | F_WRITE_ZEROES | F_SECURE_ERASE), F_WRITE_ZEROES);
    rig.driver.init(ALL, 8);
    for (kind, status) in [(T_DISCARD, S_UNSUPP), (T_SECURE_ERASE, S_UNSUPP), (T_WRITE_ZEROES, S_OK)] {
        assert_eq!(rig.status_of(&request(kind, &[(0, 8, 0)])), status, "type {kind}");
    }
}

#[test]
fn what_the_storage_cannot_do_is_not_offered_and_unsupported() {
    let mut rig = rig_of(|geometry| Geometry { discard: None, max_write_zeroes_sectors: 0, ..geometry });
    assert_eq!(rig.driver.offered() & (F_DISCARD | F_WRITE_ZEROES | F_SECURE_ERASE), 0);
    rig.driver.init(ALL, 8);
    for kind in KINDS {
        assert_eq!(rig.status_of(&request(kind, &[(0, 8, 0)])), S_UNSUPP);
    }
    let insecure = |geometry: Geometry| Geometry {
        discard: geometry.discard.map(|discard| Discard { secure: false, ..discard }),
        ..geometry
    };
    let mut rig = rig_of(insecure);
    assert_eq!(rig.driver.offered() & (F_DISCARD | F_SECURE_ERASE), F_DISCARD);
    rig.driver.init(ALL, 8);
    assert_eq!(rig.status_of(&request(T_SECURE_ERASE, &[(0, 8, 0)])), S_UNSUPP);
    assert_eq!(rig.status_of(&request(T_DISCARD, &[(0, 8, 0)])), S_OK);
}

#[test]
fn ranges_are_whole_logical_blocks() {
    let mut rig = rig_of(|geometry| Geometry { block_size_bytes: 4096, ..geometry });
    rig.driver.init(ALL, 8);
    for kind in KINDS {
        for (sector, sectors, status) in [(1, 8, S_IOERR), (8, 7, S_IOERR), (8, 8, S_OK), (0, 16, S_OK)] {
            assert_eq!(rig.status_of(&request(kind, &[(sector, sectors, 0)])), status);
        }
    }
}

#[test]
fn zeros_are_as_durable_as_writes() {
    for (wanted, flushes) in [(ALL, 0), (ALL & !F_FLUSH & !F_CONFIG_WCE, 1)] {
        for (kind, flushes) in [(T_WRITE_ZEROES, flushes), (T_SECURE_ERASE, flushes), (T_DISCARD, 0)] {
            let mut rig = Rig::new(wanted, 8);
            assert_eq!(rig.status_of(&request(kind, &[(0, 8, 0), (16, 8, 0)])), S_OK);
            assert_eq!(rig.faults.flushes.get(), flushes, "type {kind}");
            assert_eq!(rig.faults.submitted.get(), 2 + flushes);
        }
    }
}

#[test]
fn a_storage_error_ends_a_request_of_several_ranges() {
    let mut rig = Rig::new(ALL, 8);
    rig.faults.fail_next.set(1);
    assert_eq!(rig.status_of(&request(T_DISCARD, &[(0, 8, 0), (16, 8, 0)])), S_IOERR);
    assert_eq!(rig.faults.submitted.get(), 1);
}

#[test]
fn a_range_that_the_guest_changes_on_the_way_is_judged_again() {
    let mut rig = Rig::new(ALL, 8);
    rig.faults.hold.set(true);
    let (header, array, status) = (rig.driver.alloc(16), rig.driver.alloc(32), rig.driver.alloc(1));
    rig.mem.poke(header, &T_DISCARD.to_le_bytes());
    rig.mem.poke(array, &[entry(0, 8, 0), entry(8, 8, 0)].concat());
    rig.driver.add(vec![(header, 16), (array, 32)], vec![(status, 1)]);
    rig.driver.kick();
    rig.run();
    assert_eq!(rig.faults.submitted.get(), 1, "the first is on its way");
    rig.mem.poke(array + 16, &entry(DISK_BYTES / 512, 8, 0));
    rig.faults.hold.set(false);
    rig.run();
    assert_eq!(rig.driver.next_used().expect("an answer").1.status, S_IOERR);
    assert_eq!(rig.faults.submitted.get(), 1);
}

#[test]
fn a_reset_between_two_ranges_ends_the_request() {
    let mut rig = Rig::new(ALL, 8);
    rig.faults.hold.set(true);
    rig.driver.submit(&request(T_DISCARD, &[(0, 8, 0), (8, 8, 0)]), &Framing::Usual);
    rig.driver.kick();
    rig.run();
    rig.driver.write(STATUS, 0);
    let writes = rig.mem.device_writes();
    rig.faults.hold.set(false);
    rig.run();
    assert_eq!((rig.faults.submitted.get(), rig.mem.device_writes()), (1, writes));
    assert_eq!(rig.device.borrow().in_flight(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever the ranges, the disk and the status are those of a simple model: all is
    /// done, or nothing is.
    #[test]
    fn ranges_agree_with_a_model(
        requests in prop::collection::vec(
            (
                prop_oneof![Just(T_DISCARD), Just(T_WRITE_ZEROES), Just(T_SECURE_ERASE)],
                prop::collection::vec(
                    (prop_oneof![0u64..70, 2040u64..2050, any::<u64>()], 0u32..40, prop_oneof![4 => Just(0), 1 => 0u32..3]),
                    1..5,
                ),
                4usize..60,
            ),
            1..20,
        ),
    ) {
        let mut rig = Rig::new(ALL, 256);
        let sectors = DISK_BYTES / 512;
        let mut model = bytes(DISK_BYTES as usize, 0x17);
        prop_assert_eq!(rig.write(0, &model, &Framing::Usual).status, S_OK);
        for (kind, ranges, cut) in requests {
            let verdict = |&(sector, len, flags): &(u64, u32, u32)| {
                let end = sector.checked_add(len.into());
                if flags > u32::from(kind == T_WRITE_ZEROES) {
                    S_UNSUPP
                } else if len == 0 || end.is_none_or(|end| end > sectors) {
                    S_IOERR
                } else {
                    S_OK
                }
            };
            // Flags come first: S_UNSUPP is the greater number.
            let expected = ranges.iter().map(verdict).max().unwrap_or(S_OK);
            if expected == S_OK {
                for &(sector, len, _) in &ranges {
                    model[sector as usize * 512..][..len as usize * 512].fill(0);
                }
            }
            let answer = rig.ask(&request(kind, &ranges), &Framing::Pieces(vec![cut]));
            prop_assert_eq!(answer.status, expected);
        }
        prop_assert!(rig.read(0, model.len(), &Framing::Usual).data == model);
    }

    /// A guest that changes the ranges all the time hurts only itself.
    #[test]
    fn ranges_that_change_all_the_time_are_survived(seed in any::<u64>(), kinds in prop::collection::vec(0u32..16, 1..30)) {
        let mut rig = Rig::new(ALL, 64);
        let array = rig.driver.alloc(16 * 32 + 16);
        let hostile = HostileMemory::new(rig.mem.clone(), array..array + 16 * 32 + 16, seed);
        for kind in kinds {
            let status = rig.driver.alloc(1);
            rig.mem.poke(array, &kind.to_le_bytes());
            rig.driver.add(vec![(array, 16), (array + 16, 16 * 32)], vec![(status, 1)]);
            rig.driver.kick();
            for _ in 0..200 {
                if !rig.device.borrow_mut().process(&hostile) && !rig.device.borrow_mut().enable_notifications(&hostile) {
                    break;
                }
            }
            prop_assert!(rig.driver.next_used().is_some());
        }
        prop_assert!(!rig.needs_reset());
    }
}
