//! Whatever netback does: no panic, no frame that is not there, every page comes back.

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever stands in the rings, a frame lies in its page and has a length that frames have.
    #[test]
    fn no_ring_content_is_believed_too_much(
        words in prop::collection::vec((0usize..24, any::<u32>()), 0..30),
        plausible in any::<bool>(),
        rsp_prods in (0u32..300, 0u32..130),
    ) {
        let mut machine = Machine::new();
        let mut net = machine.connect().unwrap();
        for n in 0..40 {
            send(&mut net, &frame(n, 60)).unwrap();
            let cut = Offload { checksum: true, segment_bytes: NonZeroU16::new(1000) };
            net.send(&frame(n, 1600), cut).unwrap();
        }
        machine.back.hold_tx(true);
        net.kick();
        let (tx, rx) = (net.tx_ring.page().clone(), net.rx_ring.page().clone());
        for (place, value) in words {
            // Two words of a response in each of the first entries: id and offset, flags and length.
            let entry = u32::try_from(place / 2).unwrap();
            let value = match (plausible, place % 2) {
                (false, _) => value,
                (true, 0) => entry | (value % 5000) << 16,
                // A few of them in parts, or with extra information.
                (true, _) => (value & if value & 0xf00 == 0 { 0xf } else { 1 }) | (value % 2000) << 16,
            };
            rx.store(64 + place * 4, value, kernel::Order::Relaxed).unwrap();
            tx.store(64 + place / 2 * 12 + place % 2 * 4, value, kernel::Order::Relaxed).unwrap();
        }
        rx.store(8, rsp_prods.0, kernel::Order::AcqRel).unwrap();
        tx.store(8, rsp_prods.1, kernel::Order::AcqRel).unwrap();
        let mut received = 0;
        let mut buffer = alloc::vec![0; FRAME_MAX_BYTES];
        while let Some(Received { len, .. }) = net.receive(&mut buffer) {
            prop_assert!((HEADER_BYTES..=FRAME_MAX_BYTES).contains(&len));
            received += 1;
            prop_assert!(received <= 300);
        }
        let _ = net.can_send();
        let in_flight = net.tx_slots.iter().filter(|slot| slot.in_flight).count();
        prop_assert_eq!(in_flight + net.tx_free.len(), usize::from(TX_PAGES));
        net.close(&mut machine.xs).unwrap();
        prop_assert_eq!(machine.xen.live_grants(), 0);
    }
}
