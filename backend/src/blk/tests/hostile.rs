//! A guest that breaks the rules all the time.

use super::*;

#[test]
fn memory_faults_of_the_rings_ask_for_a_reset() {
    let mut rig = Rig::new(ALL, 8);
    rig.driver.submit(&read_request(0, 512), &Framing::Usual);
    rig.driver.kick();
    rig.mem.punch(rig.driver.avail(0)..rig.driver.avail(0) + 0x1000);
    rig.run();
    assert!(rig.needs_reset());
    let mem: &dyn GuestMemory = &rig.mem;
    mem.invalidate();
    rig.mem.punch(0..0);
    rig.driver.init(ALL, 8);
    assert_eq!(rig.read(0, 512, &Framing::Usual).status, S_OK);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// A guest that scribbles over its rings and buffers all the time, from several vCPUs:
    /// no panic, no endless loop, and after a reset the device serves again.
    #[test]
    fn a_hostile_guest_hurts_only_itself(seed in any::<u64>(), rounds in 1u32..40) {
        let mut rig = Rig::new(ALL, 8);
        let base = TestMemory::BASE;
        // The rings and a little more, not the descriptors of other tests.
        let hostile = HostileMemory::new(rig.mem.clone(), base..base + RINGS_BYTES, seed);
        for round in 0..rounds {
            if rig.driver.free_descs() > 2 {
                rig.driver.submit(&read_request(u64::from(round), 512), &Framing::Usual);
            }
            rig.driver.write(QUEUE_NOTIFY, 0);
            let mut device = rig.device.borrow_mut();
            for _ in 0..20 {
                if !device.process(&hostile) && !device.enable_notifications(&hostile) {
                    break;
                }
            }
        }
        let (mem, device) = (&rig.mem, &rig.device);
        for _ in 0..1000 {
            if !device.borrow_mut().process(mem) {
                break;
            }
        }
        rig.driver.init(ALL, 8);
        prop_assert_eq!(rig.read(0, 512, &Framing::Usual).status, S_OK);
    }
}

/// What a careless or hostile driver might write where.
fn any_write() -> impl Strategy<Value = (u64, u32)> {
    let register = prop_oneof![
        Just(STATUS),
        Just(QUEUE_READY),
        Just(QUEUE_NOTIFY),
        Just(QUEUE_SIZE),
        Just(QUEUE_SEL),
        Just(QUEUE_DESC_LOW),
        Just(QUEUE_DRIVER_LOW),
        Just(QUEUE_DEVICE_LOW),
        (0u64..0x80).prop_map(|word| word * 4),
    ];
    let ram = TestMemory::BASE as u32;
    let value = prop_oneof![
        0u32..17,
        Just(0xf),
        (0u32..0x800).prop_map(move |at| ram + at * 16),
        Just(F_EVENT_IDX as u32 | F_INDIRECT_DESC as u32),
        any::<u32>(),
    ];
    (register, value)
}

proptest! {
    /// Any order of register writes, with work in between, over any memory: no panic, no
    /// endless loop, and initialisation still works afterwards.
    #[test]
    fn any_driver_is_survived(
        writes in prop::collection::vec((any_write(), any::<bool>()), 0..150),
        negotiated in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let mut rig = Rig::uninitialised(false);
        let base = TestMemory::BASE;
        let hostile = HostileMemory::new(rig.mem.clone(), base..base + RINGS_BYTES, seed);
        if negotiated {
            rig.driver.init(ALL, 8);
        }
        for ((register, value), work) in writes {
            rig.driver.write(register, value);
            for _ in 0..if work { 5 } else { 0 } {
                rig.device.borrow_mut().process(&hostile);
                rig.device.borrow_mut().enable_notifications(&hostile);
            }
        }
        rig.driver.init(ALL, 8);
        prop_assert_eq!(rig.read(0, 512, &Framing::Usual).status, S_OK);
    }
}
