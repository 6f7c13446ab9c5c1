//! The register file, by the rules of section 4.2.2.

#![expect(clippy::cast_possible_truncation, reason = "test values are small, or cut on purpose")]

use super::regs::*;
use super::{Effect, Identity, Transport};
use crate::access::{Access, Direction, Width};
use alloc::vec;
use proptest::prelude::*;

/// What setting the last status bit leads to.
const SET_UP: Effect = Effect::Status { features_ok: false, driver_ok: true };
const FEATURES: u64 = F_VERSION_1 | F_EVENT_IDX | 1 << 9;

fn transport() -> Transport {
    let identity =
        Identity { device_id: 2, vendor_id: 7, features: FEATURES, queues: 2, queue_size_max: 1024 };
    Transport::new(identity, vec![0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99])
}

fn read_wide(transport: &mut Transport, addr: u64, width: Width) -> u64 {
    transport.read(addr, width).0
}

fn read(transport: &mut Transport, addr: u64) -> u64 {
    read_wide(transport, addr, Width::Four)
}

fn write(transport: &mut Transport, addr: u64, value: u32) -> Effect {
    transport.write(addr, Width::Four, value.into())
}

/// Runs initialisation up to FEATURES_OK with the given features; true if it stayed set.
fn negotiate(transport: &mut Transport, features: u64) -> bool {
    for value in [0, 1, 3] {
        let _ = write(transport, STATUS, value);
    }
    for (select, value) in [(0, features as u32), (1, (features >> 32) as u32)] {
        let _ = write(transport, DRIVER_FEATURES_SEL, select);
        let _ = write(transport, DRIVER_FEATURES, value);
    }
    let _ = write(transport, STATUS, 0xb);
    read(transport, STATUS) & 8 != 0
}

fn set_up_queue(transport: &mut Transport, index: u32, size: u32) -> Effect {
    let _ = write(transport, QUEUE_SEL, index);
    let _ = write(transport, QUEUE_SIZE, size);
    for (low, high, addr) in [
        (QUEUE_DESC_LOW, QUEUE_DESC_HIGH, 0x1_0000_1000u64),
        (QUEUE_DRIVER_LOW, QUEUE_DRIVER_HIGH, 0x1_0000_3000),
        (QUEUE_DEVICE_LOW, QUEUE_DEVICE_HIGH, 0x1_0000_4000),
    ] {
        let _ = write(transport, low, addr as u32);
        let _ = write(transport, high, (addr >> 32) as u32);
    }
    write(transport, QUEUE_READY, 1)
}

#[test]
fn a_device_identifies_itself_as_version_2() {
    let mut transport = transport();
    assert_eq!(read(&mut transport, MAGIC_VALUE).to_le_bytes()[..4], *b"virt");
    assert_eq!(read(&mut transport, VERSION_REG), 2);
    assert_eq!(read(&mut transport, DEVICE_ID), 2);
    assert_eq!(read(&mut transport, VENDOR_ID), 7);
}

#[test]
fn features_are_read_in_halves_and_nothing_lies_beyond_bit_63() {
    let mut transport = transport();
    for (select, value) in [(0, FEATURES & 0xffff_ffff), (1, FEATURES >> 32), (2, 0), (u32::MAX, 0)] {
        let _ = write(&mut transport, DEVICE_FEATURES_SEL, select);
        assert_eq!(read(&mut transport, DEVICE_FEATURES), value);
    }
}

#[test]
fn features_ok_needs_a_subset_of_the_offer() {
    assert!(negotiate(&mut transport(), FEATURES));
    assert!(negotiate(&mut transport(), F_VERSION_1));
    assert!(negotiate(&mut transport(), F_EVENT_IDX), "no VERSION_1: served all the same");
    assert!(negotiate(&mut transport(), 0));
    assert!(!negotiate(&mut transport(), FEATURES | 1), "not offered");
    let mut beyond = transport();
    let _ = write(&mut beyond, DRIVER_FEATURES_SEL, 2);
    assert!(negotiate(&mut beyond, FEATURES), "a reset forgets");
    let mut beyond = transport();
    for (offset, value) in [(STATUS, 1), (STATUS, 3), (DRIVER_FEATURES_SEL, 2), (DRIVER_FEATURES, 1)] {
        let _ = write(&mut beyond, offset, value);
    }
    for (offset, value) in [(DRIVER_FEATURES_SEL, 1), (DRIVER_FEATURES, 1)] {
        let _ = write(&mut beyond, offset, value);
    }
    for value in [0xb, 0xf, 7] {
        assert_eq!(write(&mut beyond, STATUS, value), Effect::Refused(F_VERSION_1));
        assert_eq!(read(&mut beyond, STATUS), 3);
    }
}

#[test]
fn driver_ok_without_features_ok_is_judged_by_the_features_too() {
    let mut transport = transport();
    let both = Effect::Status { features_ok: true, driver_ok: true };
    assert_eq!(write(&mut transport, STATUS, 7), both);
    assert_eq!(read(&mut transport, STATUS), 0xf);
    let _ = write(&mut transport, STATUS, 0);
    let _ = write(&mut transport, DRIVER_FEATURES, 1);
    assert_eq!(write(&mut transport, STATUS, 7), Effect::Refused(1));
    assert_eq!(read(&mut transport, STATUS), 3);
}

#[test]
fn features_are_fixed_after_features_ok() {
    let mut transport = transport();
    assert!(negotiate(&mut transport, F_VERSION_1));
    let _ = write(&mut transport, DRIVER_FEATURES_SEL, 0);
    let _ = write(&mut transport, DRIVER_FEATURES, F_EVENT_IDX as u32);
    assert!(transport.negotiated(F_VERSION_1));
    assert!(!transport.negotiated(F_EVENT_IDX));
}

#[test]
fn a_selector_out_of_range_has_no_queue() {
    let mut transport = transport();
    assert!(negotiate(&mut transport, FEATURES));
    // 0x10000 must not be taken for queue 0.
    for select in [2, 0x1_0000, 0x1_0001, u32::MAX] {
        assert_eq!(set_up_queue(&mut transport, select, 8), Effect::None);
        assert_eq!(read(&mut transport, QUEUE_SIZE_MAX), 0);
        assert_eq!(read(&mut transport, QUEUE_READY), 0);
    }
    let _ = write(&mut transport, QUEUE_SEL, 1);
    assert_eq!(read(&mut transport, QUEUE_SIZE_MAX), 1024);
}

#[test]
fn a_queue_becomes_ready_with_its_64_bit_addresses() {
    let mut transport = transport();
    assert!(negotiate(&mut transport, FEATURES));
    let Effect::QueueReady(1, layout) = set_up_queue(&mut transport, 1, 8) else { panic!("not ready") };
    assert_eq!(layout.desc_table().raw(), 0x1_0000_1000);
    assert_eq!(layout.avail_idx().raw(), 0x1_0000_3002);
    assert_eq!(layout.used_idx().raw(), 0x1_0000_4002);
    assert_eq!(read(&mut transport, QUEUE_READY), 1);
    // Ready: its registers do not change, and readying it again is no news.
    let _ = write(&mut transport, QUEUE_SIZE, 4);
    assert_eq!(write(&mut transport, QUEUE_READY, 1), Effect::None);
    assert_eq!(write(&mut transport, QUEUE_READY, 0), Effect::QueueStopped(1));
    assert_eq!(read(&mut transport, QUEUE_READY), 0);
}

#[test]
fn a_queue_with_a_bad_size_does_not_become_ready() {
    for size in [0, 3, 2048, 0x1_0008] {
        let mut transport = transport();
        assert!(negotiate(&mut transport, FEATURES));
        assert!(matches!(set_up_queue(&mut transport, 0, size), Effect::BadQueue(_)));
        assert_eq!(read(&mut transport, QUEUE_READY), 0);
    }
}

#[test]
fn a_queue_made_ready_before_features_ok_waits_for_it() {
    let mut transport = transport();
    assert_eq!(set_up_queue(&mut transport, 0, 8), Effect::None);
    assert_eq!(read(&mut transport, QUEUE_READY), 1);
    assert_eq!(transport.layout(0), Ok(None), "its rings' format is not agreed");
    let _ = write(&mut transport, STATUS, 0xb);
    assert_eq!(transport.layout(0).unwrap().map(|layout| layout.size()), Some(8));
    assert_eq!(transport.layout(1), Ok(None));
}

#[test]
fn any_value_but_zero_makes_a_queue_ready() {
    let mut transport = transport();
    assert!(negotiate(&mut transport, FEATURES));
    let _ = set_up_queue(&mut transport, 0, 8);
    assert_eq!(write(&mut transport, QUEUE_READY, 0), Effect::QueueStopped(0));
    assert!(matches!(write(&mut transport, QUEUE_READY, 0x100), Effect::QueueReady(0, _)));
    assert_eq!(read(&mut transport, QUEUE_READY), 1);
}

#[test]
fn a_driver_of_version_1_is_told_from_others() {
    let mut transport = transport();
    for register in [LEGACY_GUEST_PAGE_SIZE, LEGACY_QUEUE_PFN] {
        assert_eq!(write(&mut transport, register, 4096), Effect::Legacy);
        assert_eq!(write(&mut transport, register, 0), Effect::None);
        assert_eq!(read(&mut transport, register), 0);
    }
}

#[test]
fn a_reset_clears_everything_the_driver_wrote() {
    let mut transport = transport();
    assert!(negotiate(&mut transport, FEATURES));
    let _ = set_up_queue(&mut transport, 0, 8);
    assert_eq!(write(&mut transport, STATUS, 0xf), SET_UP);
    assert!(transport.raise(INT_USED | INT_CONFIG));
    assert_eq!(write(&mut transport, STATUS, 0), Effect::Reset);
    for register in [STATUS, INTERRUPT_STATUS, QUEUE_READY] {
        assert_eq!(read(&mut transport, register), 0);
    }
    assert!(!transport.negotiated(F_VERSION_1));
    assert!(negotiate(&mut transport, FEATURES));
    // The queue's registers are gone too.
    let _ = write(&mut transport, QUEUE_SEL, 0);
    assert!(matches!(write(&mut transport, QUEUE_READY, 1), Effect::BadQueue(_)));
}

#[test]
fn a_notification_counts_only_when_live_and_in_range() {
    let mut transport = transport();
    assert_eq!(write(&mut transport, QUEUE_NOTIFY, 0), Effect::None);
    assert!(negotiate(&mut transport, FEATURES));
    assert_eq!(write(&mut transport, STATUS, 0xf), SET_UP);
    assert_eq!(write(&mut transport, QUEUE_NOTIFY, 1), Effect::Notify(1));
    assert_eq!(write(&mut transport, QUEUE_NOTIFY, 2), Effect::None);
    assert_eq!(write(&mut transport, QUEUE_NOTIFY, 0x1_0000), Effect::None);
    assert!(transport.set_needs_reset());
    assert_eq!(write(&mut transport, QUEUE_NOTIFY, 1), Effect::None);
}

#[test]
fn an_interrupt_stays_until_it_is_acknowledged() {
    let mut transport = transport();
    assert!(transport.raise(INT_USED));
    assert!(transport.raise(INT_CONFIG));
    assert_eq!(read(&mut transport, INTERRUPT_STATUS), 3);
    let _ = write(&mut transport, INTERRUPT_ACK, INT_USED);
    assert_eq!(read(&mut transport, INTERRUPT_STATUS), 2);
}

#[test]
fn no_interrupt_is_needed_for_what_the_driver_has_still_to_read() {
    let mut transport = transport();
    assert!(transport.raise(INT_USED));
    assert!(!transport.raise(INT_USED));
    assert!(transport.raise(INT_USED | INT_CONFIG), "one of them is new");
    assert!(!transport.raise(INT_CONFIG));
    assert_eq!(read(&mut transport, INTERRUPT_STATUS), 3);
    assert!(transport.raise(INT_USED), "it may have looked already");
    // Acknowledged without a read.
    let _ = write(&mut transport, INTERRUPT_ACK, INT_USED);
    assert!(transport.raise(INT_USED));
    let _ = write(&mut transport, STATUS, 0);
    assert!(transport.raise(INT_USED));
}

#[test]
fn needs_reset_is_told_by_a_configuration_interrupt_only_after_driver_ok() {
    let mut early = transport();
    assert!(!early.set_needs_reset());
    assert_eq!(read(&mut early, INTERRUPT_STATUS), 0);
    let mut transport = transport();
    assert!(negotiate(&mut transport, FEATURES));
    let _ = write(&mut transport, STATUS, 0xf);
    assert!(transport.set_needs_reset());
    assert_eq!(read(&mut transport, STATUS), 0x4f);
    assert_eq!(read(&mut transport, INTERRUPT_STATUS), u64::from(INT_CONFIG));
}

#[test]
fn a_change_of_the_configuration_is_told_once_the_driver_is_set_up() {
    let mut transport = transport();
    assert!(!transport.announce_config(), "nobody has read it");
    assert!(negotiate(&mut transport, FEATURES));
    let _ = write(&mut transport, STATUS, 0xf);
    assert!(!transport.tell_config());
    assert!(transport.announce_config());
    assert_eq!(read(&mut transport, INTERRUPT_STATUS), u64::from(INT_CONFIG));
    assert!(!transport.tell_config(), "once");
    // In the middle of initialisation: kept until its end.
    assert!(negotiate(&mut transport, FEATURES));
    assert!(!transport.announce_config());
    assert_eq!(read(&mut transport, INTERRUPT_STATUS), 0);
    let _ = write(&mut transport, STATUS, 0xf);
    assert!(transport.tell_config());
    // A reset ends it: the next driver reads again.
    assert!(negotiate(&mut transport, FEATURES));
    assert!(!transport.announce_config());
    assert!(negotiate(&mut transport, FEATURES));
    let _ = write(&mut transport, STATUS, 0xf);
    assert!(!transport.tell_config());
}

#[test]
fn configuration_is_read_in_natural_widths_and_ends_in_zeros() {
    let mut transport = transport();
    assert_eq!(read_wide(&mut transport, CONFIG, Width::Eight), 0x8877_6655_4433_2211);
    assert_eq!(read_wide(&mut transport, CONFIG + 4, Width::Four), 0x8877_6655);
    assert_eq!(read_wide(&mut transport, CONFIG + 2, Width::Two), 0x4433);
    assert_eq!(read_wide(&mut transport, CONFIG + 8, Width::One), 0x99);
    assert_eq!(read_wide(&mut transport, CONFIG + 8, Width::Four), 0x99);
    assert_eq!(read_wide(&mut transport, CONFIG + 0xf8, Width::Eight), 0);
}

#[test]
fn the_generation_counts_the_changes_of_the_configuration() {
    let mut transport = transport();
    assert_eq!(read(&mut transport, CONFIG_GENERATION), 0);
    let effect = transport.write(CONFIG + 3, Width::One, 0xee);
    assert_eq!(effect, Effect::Config { offset: 3, width: Width::One, value: 0xee });
    assert_eq!(read_wide(&mut transport, CONFIG, Width::Four), 0x4433_2211, "the device decides");
    assert!(transport.set_config(3, &[0xee, 0xdd]));
    assert!(!transport.set_config(3, &[0xee, 0xdd]), "no change");
    assert!(!transport.set_config(8, &[1, 2]), "beyond the end");
    assert!(!transport.set_config(usize::MAX, &[1]), "wraps");
    assert_eq!(read(&mut transport, CONFIG_GENERATION), 1);
    assert_eq!(read_wide(&mut transport, CONFIG, Width::Eight), 0x8877_66dd_ee33_2211);
    // A reset is no change of the configuration.
    let _ = write(&mut transport, STATUS, 0);
    assert_eq!(read(&mut transport, CONFIG_GENERATION), 1);
}

#[test]
fn a_part_of_a_register_is_read_as_that_part() {
    let mut transport = transport();
    for (at, byte) in (0..4).zip(*b"virt") {
        assert_eq!(read_wide(&mut transport, MAGIC_VALUE + at, Width::One), u64::from(byte));
    }
    assert_eq!(read_wide(&mut transport, MAGIC_VALUE + 2, Width::Two), 0x7472);
    assert_eq!(read_wide(&mut transport, MAGIC_VALUE, Width::Eight), 2 << 32 | u64::from(MAGIC));
    assert_eq!(read_wide(&mut transport, VERSION_REG, Width::Eight), 2 << 32 | 2);
    // Into the configuration space.
    assert!(transport.set_config(0, &[9]));
    assert_eq!(read_wide(&mut transport, CONFIG_GENERATION, Width::Eight), 0x4433_2209 << 32 | 1);
}

#[test]
fn a_narrow_write_counts_as_one_to_all_of_the_register_and_a_wide_one_as_two() {
    let mut transport = transport();
    assert_eq!(
        transport.write(STATUS, Width::One, 0xb),
        Effect::Status { features_ok: true, driver_ok: false }
    );
    assert_eq!(read_wide(&mut transport, STATUS, Width::One), 0xb);
    let _ = transport.write(QUEUE_SIZE, Width::Two, 8);
    for (register, addr) in [
        (QUEUE_DESC_LOW, 0x1_0000_1000),
        (QUEUE_DRIVER_LOW, 0x1_0000_3000),
        (QUEUE_DEVICE_LOW, 0x1_0000_4000),
    ] {
        assert_eq!(transport.write(register, Width::Eight, addr), Effect::None);
    }
    // QueueReady is the second half.
    let effect = transport.write(LEGACY_QUEUE_PFN, Width::Eight, 1 << 32);
    let Effect::QueueReady(0, layout) = effect else { panic!("{effect:?}") };
    assert_eq!((layout.size(), layout.used_idx().raw()), (8, 0x1_0000_4002));
    // Whatever the first half says.
    assert_eq!(transport.write(LEGACY_QUEUE_PFN, Width::Eight, 1), Effect::QueueStopped(0));
    let effect = transport.write(LEGACY_QUEUE_PFN, Width::Eight, 1 << 32 | 1);
    assert!(matches!(effect, Effect::QueueReady(0, _)), "{effect:?}");
    assert_eq!(transport.write(STATUS, Width::One, 0xf), SET_UP);
    assert_eq!(transport.write(QUEUE_NOTIFY, Width::Two, 1), Effect::Notify(1));
    assert_eq!(transport.write(QUEUE_NOTIFY, Width::Eight, 1), Effect::Notify(1));
    // Not at a register's start: nothing.
    for width in [Width::One, Width::Two, Width::Four, Width::Eight] {
        for offset in [STATUS + 1, STATUS + 2, STATUS + 3] {
            assert_eq!(transport.write(offset, width, 0), Effect::None);
        }
    }
    assert_eq!(read(&mut transport, STATUS), 0xf);
}

#[test]
fn no_shared_memory_region_exists() {
    let mut transport = transport();
    for register in [SHM_LEN_LOW, SHM_LEN_HIGH, SHM_BASE_LOW, SHM_BASE_HIGH] {
        assert_eq!(read(&mut transport, register), 0xffff_ffff);
    }
}

#[test]
fn unknown_registers_read_zero_and_ignore_writes() {
    let mut transport = transport();
    for offset in [0x18, 0x3c, 0x54, 0x7c, 0xc0, 0xf8] {
        assert_eq!(write(&mut transport, offset, u32::MAX), Effect::None);
        assert_eq!(read(&mut transport, offset), 0);
    }
}

prop_compose! {
    fn any_access()(
        addr in prop_oneof![0u64..0x200, (0u64..0x40).prop_map(|word| word * 4)],
        width in prop_oneof![Just(Width::Four), Just(Width::One), Just(Width::Two), Just(Width::Eight)],
        value in prop_oneof![Just(0u32), 0u32..16, Just(8), Just(0xf), any::<u32>()],
        is_write in any::<bool>(),
    ) -> Access {
        let direction = if is_write { Direction::Write(width.mask(value.into())) } else { Direction::Read };
        Access { addr, width, direction }
    }
}

proptest! {
    /// Whatever a driver writes: no panic; a queue is used, or is notified, only in the states
    /// that allow it; features are always a subset of the offer.
    #[test]
    fn any_sequence_of_accesses_keeps_the_rules(accesses in prop::collection::vec(any_access(), 0..200)) {
        let mut transport = transport();
        for access in accesses {
            let before = transport.status();
            let effect = match access.direction {
                Direction::Read => {
                    let reply = transport.read(access.addr, access.width);
                    prop_assert_eq!(reply.0, access.width.mask(reply.0));
                    Effect::None
                }
                Direction::Write(value) => transport.write(access.addr, access.width, value),
            };
            match effect {
                Effect::QueueReady(index, layout) => {
                    prop_assert!(index < 2 && layout.size().is_power_of_two());
                    prop_assert!(transport.negotiated(0));
                }
                Effect::Notify(index) => prop_assert!(index < 2 && before.is_live()),
                Effect::Status { driver_ok: true, .. } => prop_assert!(transport.negotiated(0)),
                _ => {}
            }
            if transport.status().contains(super::status::Status::FEATURES_OK) {
                prop_assert!((0..64).all(|bit| FEATURES >> bit & 1 == 1 || !transport.negotiated(1 << bit)));
            }
        }
    }
}
