//! Pages that became stale: none is used, and all are unmapped in time.

use super::*;

#[test]
fn what_is_stale_is_mapped_anew_or_unmapped_in_steps() {
    let (window, map) = guest(4, 4);
    for chunk in 0..4 {
        map.load::<u64>(BASE + chunk * CHUNK, Order::Relaxed).expect("RAM");
    }
    window.take_asked();
    invalidate(&window, &map);
    assert_eq!(window.take_asked(), 0, "at once");
    assert_eq!(map.usage(), MapUse { pages: 0, stale: 4 * 512 });
    // The guest gave the frame away meanwhile.
    window.guest.borrow_mut().frames.remove(&(BASE / 4096));
    assert_eq!(map.load::<u64>(BASE, Order::Relaxed), Err(fault(BASE, NOT_RAM)));
    assert_eq!(map.load::<u64>(BASE + 4096, Order::Relaxed), Ok(BASE / 4096 + 1));
    assert!(window.take_asked() <= 8, "few pages, since many invalidations may follow");
    assert!(sweep_all(&map) >= (4 * 512 - 4) / 8);
    assert_eq!(window.shown(), (1..4).map(|page| BASE / 4096 + page).collect());
    assert!(!map.is_unswept());
}

#[test]
fn what_an_earlier_incarnation_left_is_stale() {
    let mut window = FakeWindow::new(4, iter::once(BASE..BASE + 4 * CHUNK));
    let pages = PageSet::around(100, 128);
    window.map(1, (BASE + CHUNK) / 4096, &pages);
    window.poison();
    window.previous_slots = 2;
    let map = ForeignMap::new(window.clone());
    assert_eq!(map.usage(), MapUse { pages: 0, stale: 2 * 512 }, "as far as is known");
    // Four chunks in four slots, of which two are in use.
    for chunk in [0, 1, 2, 3] {
        let gpa = BASE + chunk * CHUNK + 100 * 4096;
        assert_eq!(map.load::<u64>(gpa, Order::Relaxed), Ok(gpa / 4096));
    }
    sweep_all(&map);
    assert_eq!(window.shown().len(), 512 + 512 + 4 + 4);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(24))]

    /// Whatever comes in whatever order: what is read is what the guest has there now, what is
    /// written arrives, and everything stale goes.
    #[test]
    fn no_stale_page_is_used(
        slots in 1u16..12,
        steps in proptest::collection::vec((0u8..16, 0u64..12, 0u64..512, proptest::prelude::any::<u8>()), 1..300),
    ) {
        let (window, map) = guest(slots, 12);
        // What each page's byte 9 must be; pages that the guest gave away are not RAM.
        let mut written = BTreeMap::<u64, u8>::new();
        for (kind, chunk, page, value) in steps {
            // A few pages often, and each now and then.
            let page = if value % 4 == 0 { page } else { page % 8 * 64 };
            let gpa = BASE + chunk * CHUNK + page * 4096;
            let gfn = gpa / 4096;
            let is_ram = window.guest.borrow().frames.contains_key(&gfn);
            match kind {
                0 => invalidate(&window, &map),
                // The guest gives the page away or gets one there, and Xen says so.
                1 if is_ram => {
                    invalidate(&window, &map);
                    window.guest.borrow_mut().frames.remove(&gfn);
                    written.remove(&gfn);
                }
                1 => {
                    let mut frame = vec![0; PAGE_SIZE];
                    frame[..8].copy_from_slice(&gfn.to_le_bytes());
                    window.guest.borrow_mut().frames.insert(gfn, frame);
                }
                2..6 => map.sweep(),
                6..11 => {
                    let stored = map.store::<u8>(gpa + 9, value, Order::Relaxed);
                    assert_eq!(stored.is_ok(), is_ram);
                    if is_ram {
                        written.insert(gfn, value);
                    }
                }
                _ => {
                    let expected = if is_ram { Ok(gfn) } else { Err(fault(gpa, NOT_RAM)) };
                    assert_eq!(map.load::<u64>(gpa, Order::Relaxed), expected);
                    if is_ram {
                        let byte = written.get(&gfn).copied().unwrap_or(0);
                        assert_eq!(map.load::<u8>(gpa + 9, Order::Relaxed), Ok(byte));
                    }
                }
            }
            assert!(map.is_unswept() || map.usage().stale == 0, "something stale is forgotten");
        }
        invalidate(&window, &map);
        sweep_all(&map);
        assert!(window.shown().is_empty());
        assert_eq!(map.usage(), MapUse::default());
        for (gfn, byte) in written {
            assert_eq!(window.frame(gfn)[9], byte);
        }
    }
}
