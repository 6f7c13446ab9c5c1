//! Whatever the storage backend does: no data and no page is lost.

use super::*;

/// What a property test keeps of a request under way.
#[derive(Clone, Debug)]
enum Expect {
    Write { sectors: core::ops::Range<usize>, seed: u8 },
    Read { sectors: core::ops::Range<usize> },
    Other,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// Whatever the order of completions and whichever requests fail: reads return what was
    /// written, failed requests change nothing, and every page comes back.
    #[test]
    fn data_survives_reordering_and_errors(
        seed in any::<u64>(),
        persistent in any::<bool>(),
        delay_steps in 0u32..4,
        fail_every in prop::option::of(2u64..9),
        requests in prop::collection::vec((0usize..10, 0usize..1900, 1usize..140, any::<u8>()), 1..120),
    ) {
        let mut machine = Machine::new(BlkBackConfig { persistent, ..BlkBackConfig::default() });
        let mut front = machine.connect(96).unwrap();
        machine.back.set_faults(Faults { seed, reorder: true, delay_steps, fail_every, ..Faults::default() });
        let mut disk = vec![0u8; 2048 * 512];
        let mut flying: BTreeMap<u64, Expect> = BTreeMap::new();
        let mut queue = requests.into_iter();
        let mut next = queue.next();
        let mut id = 0;
        let overlaps = |flying: &BTreeMap<u64, Expect>, range: &core::ops::Range<usize>| {
            flying.values().any(|expect| match expect {
                Expect::Write { sectors, .. } | Expect::Read { sectors } => {
                    sectors.start < range.end && range.start < sectors.end
                }
                Expect::Other => false,
            })
        };
        while next.is_some() || !flying.is_empty() {
            // Requests that touch the same sectors are kept apart, as a guest would.
            while let Some((kind, first, count, seed)) = next {
                let sectors = first..(first + count).min(2048);
                if overlaps(&flying, &sectors) {
                    break;
                }
                let len_bytes = u32::try_from(sectors.len() * 512).unwrap();
                let first_sector = first as u64;
                let (op, expect) = if kind == 0 {
                    (Op::Flush, Expect::Other)
                } else {
                    let Some(bounce) = front.take_pages(pages(len_bytes)) else { break };
                    if kind < 6 {
                        fill(&front, &bounce, &pattern(sectors.len() * 512, seed));
                        (Op::Write { first_sector, bounce, len_bytes }, Expect::Write { sectors, seed })
                    } else {
                        (Op::Read { first_sector, bounce, len_bytes }, Expect::Read { sectors })
                    }
                };
                if let Err((error, op)) = front.submit(id, op) {
                    prop_assert_eq!(error, SubmitError::RingFull);
                    if let Op::Read { bounce, .. } | Op::Write { bounce, .. } = op {
                        front.give_back(bounce);
                    }
                    break;
                }
                flying.insert(id, expect);
                id += 1;
                next = queue.next();
            }
            front.kick();
            let done = machine.completion(&mut front).expect("something completes");
            match (flying.remove(&done.id).expect("asked for"), done.outcome) {
                (Expect::Write { sectors, seed }, Ok(())) => {
                    let data = pattern(sectors.len() * 512, seed);
                    disk[sectors.start * 512..sectors.end * 512].copy_from_slice(&data);
                }
                (Expect::Read { sectors }, Ok(())) => {
                    let len_bytes = u32::try_from(sectors.len() * 512).unwrap();
                    let read = content(&front, done.bounce.as_ref().unwrap(), len_bytes);
                    prop_assert!(read == disk[sectors.start * 512..sectors.end * 512]);
                }
                (_, outcome) => prop_assert!(outcome.is_ok() || fail_every.is_some()),
            }
            if let Some(bounce) = done.bounce {
                front.give_back(bounce);
            }
        }
        prop_assert_eq!(front.health(), Health::Connected);
        prop_assert_eq!(front.pool_count(), PoolCount { total: 96, free: 96 });
        prop_assert!(machine.back.disk().cached == disk);
        front.close(&mut machine.xs).unwrap();
        let left = front.disconnect();
        prop_assert_eq!((left.busy_pages, left.unfinished.len()), (0, 0));
        prop_assert_eq!(machine.xen.live_grants(), 0);
    }

    /// A peer that breaks a rule at any moment is noticed, takes nothing with it but the
    /// requests it still held, and every page is accounted for.
    #[test]
    fn a_broken_rule_loses_no_page(
        at in 0u64..12,
        reorder in any::<bool>(),
        seed in any::<u64>(),
        misdeed in prop_oneof![
            Just(Misdeed::BogusId), Just(Misdeed::Duplicate), Just(Misdeed::WrongOperation),
            (33u32..).prop_map(Misdeed::IndexJump), Just(Misdeed::Vanish), Just(Misdeed::Silence),
        ],
    ) {
        let mut machine = Machine::new(BlkBackConfig::default());
        let mut front = machine.connect(32).unwrap();
        let misdeed_at = Some((at, misdeed));
        machine.back.set_faults(Faults { seed, reorder, misdeed_at, ..Faults::default() });
        for id in 0..12u64 {
            let op = write_op(&mut front, id * 16, &pattern(8192, 1));
            front.submit(id, op).unwrap();
        }
        front.kick();
        let mut completed = 0;
        while let Some(done) = machine.completion(&mut front) {
            completed += 1;
            front.give_back(done.bounce.unwrap());
        }
        machine.xs.poll_events().unwrap();
        while let Some(event) = machine.xs.next_event() {
            front.on_watch(&mut machine.xs, &event.path).unwrap();
        }
        let flying: Vec<_> = front.in_flight_ids().collect();
        prop_assert_eq!(completed + flying.len(), 12);
        let in_flight_pages = 2 * flying.len();
        prop_assert_eq!(usize::from(front.pool_count().free) + in_flight_pages, 32);
        match (misdeed, front.health()) {
            (Misdeed::BogusId, Health::Broken(PeerFault::UnknownId(_)))
            | (Misdeed::WrongOperation, Health::Broken(PeerFault::WrongOperation { .. }))
            | (Misdeed::Duplicate, Health::Broken(PeerFault::UnknownId(_) | PeerFault::ResponseOverrun(_)))
            | (Misdeed::IndexJump(_), Health::Broken(PeerFault::ResponseOverrun(_)))
            | (Misdeed::Vanish, Health::Broken(PeerFault::Left(XenbusState::Closed))) => {
                let bounce = front.take_pages(1);
                prop_assert!(front.submit(50, Op::Flush).is_err());
                prop_assert!(front.next_completion().is_none() && !front.enable_events(1));
                bounce.into_iter().for_each(|bounce| front.give_back(bounce));
            }
            (Misdeed::Silence, Health::Connected) => prop_assert!(!flying.is_empty()),
            (_, health) => prop_assert!(false, "{:?} gave {:?}", misdeed, health),
        }
        front.close(&mut machine.xs).unwrap();
        let left = front.disconnect();
        prop_assert_eq!(left.busy_pages, 0);
        // 32 data pages, a ring page, two pages for segments.
        prop_assert_eq!(left.revoked_pages, 35);
        prop_assert_eq!(left.unfinished.len(), flying.len());
        prop_assert_eq!(machine.xen.live_grants(), 0);
    }
}

proptest! {
    /// Whatever stands in the ring, the frontend neither panics nor loses a page, and a
    /// completion is always that of a request.
    #[test]
    fn no_ring_content_loses_a_page(
        words in prop::collection::vec((0usize..64, any::<u32>()), 0..40),
        low_ids in any::<bool>(),
        rsp_prod in 0u32..16,
    ) {
        let mut machine = Machine::new(BlkBackConfig::default());
        let mut front = machine.connect(32).unwrap();
        machine.back.set_faults(Faults { misdeed_at: Some((0, Misdeed::Silence)), ..Faults::default() });
        for id in 0..12u64 {
            let op = write_op(&mut front, id * 16, &[1; 8192]);
            front.submit(id, op).unwrap();
        }
        front.kick();
        let ring = front.ring_pages[0].page().clone();
        for (place, value) in words {
            // The four words of a response in each of the first entries.
            let value = if low_ids { value % 14 } else { value };
            ring.store(64 + place / 4 * 112 + place % 4 * 4, value, kernel::Order::Relaxed).unwrap();
        }
        ring.store(8, rsp_prod, kernel::Order::AcqRel).unwrap();
        let mut seen = std::collections::BTreeSet::new();
        while let Some(done) = front.next_completion() {
            prop_assert!(done.id < 12 && seen.insert(done.id));
            front.give_back(done.bounce.unwrap());
        }
        prop_assert_eq!(seen.len() + front.in_flight_ids().count(), 12);
        prop_assert_eq!(usize::from(front.pool_count().free), 8 + 2 * seen.len());
    }
}
