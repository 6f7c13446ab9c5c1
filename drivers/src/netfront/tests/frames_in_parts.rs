//! Frames longer than a page, good and bad.

use super::*;

#[test]
fn long_frames_go_and_come_in_order() {
    let mut machine = Machine::jumbo();
    let mut net = machine.connect().unwrap();
    let lens = [14, 4095, 4096, 4097, 8191, 8192, 8193, 9013, 9014, 60];
    let frames: Vec<_> = (0..20).flat_map(|_| lens).zip(0..).map(|(len, seed)| frame(seed, len)).collect();
    for frame in &frames {
        if !net.can_send() {
            machine.wait(&mut net);
        }
        net.send(frame).unwrap();
    }
    machine.wait(&mut net);
    assert!(machine.back.take_sent() == frames);
    frames.iter().for_each(|frame| machine.back.deliver(frame));
    assert!(machine.receive_all(&mut net) == frames);
    assert_eq!((net.counts(), net.health()), (Counts::default(), Health::Connected));
}

#[test]
fn a_frame_is_sent_whole_or_not() {
    let mut machine = Machine::jumbo();
    let mut net = machine.connect().unwrap();
    machine.back.hold_tx(true);
    // Three pages each, and one page is left.
    for _ in 0..TX_PAGES / 3 {
        net.send(&frame(1, 9014)).unwrap();
    }
    assert!(!net.can_send());
    assert_eq!(net.send(&frame(1, 60)), Err(SendError::Full));
    machine.wait(&mut net);
    assert_eq!(machine.back.take_sent().len(), usize::from(TX_PAGES / 3));
    assert_eq!(net.health(), Health::Connected);
}

/// Answers the next `count` requests of the transmit ring, in netback's place.
fn give_back(net: &NetFront<FakeXen>, count: u32) {
    let ring = net.tx_ring.page();
    let from: u32 = ring.load(8, kernel::Order::AcqRel).unwrap();
    for at in from..from + count {
        let entry = 64 + at as usize * 12;
        let id: u32 = ring.load(entry + 8, kernel::Order::Relaxed).unwrap();
        ring.store(entry, id & 0xffff, kernel::Order::Relaxed).unwrap();
    }
    ring.store(8, from + count, kernel::Order::AcqRel).unwrap();
}

#[test]
fn the_event_is_asked_for_until_there_is_room_for_a_whole_frame() {
    let mut machine = Machine::jumbo();
    let mut net = machine.connect().unwrap();
    machine.back.hold_tx(true);
    for _ in 0..TX_PAGES / 3 {
        net.send(&frame(1, 9014)).unwrap();
    }
    net.kick();
    let asked = |net: &NetFront<FakeXen>| net.tx_ring.page().load::<u32>(12, kernel::Order::AcqRel).unwrap();
    assert!(!net.enable_events());
    assert_eq!(asked(&net), 1);
    // One page is left over, so one that comes back is not enough.
    give_back(&net, 1);
    assert!(!net.enable_events(), "no room yet");
    assert_eq!(asked(&net), 2, "and an event with the next");
    give_back(&net, 1);
    assert!(net.enable_events());
    assert!(net.can_send());
}

/// Brings this as the next response of the receive ring, in netback's place.
fn respond(net: &NetFront<FakeXen>, offset: u16, flags: u16, status: i16) {
    let ring = net.rx_ring.page();
    let at: u32 = ring.load(8, kernel::Order::AcqRel).unwrap();
    let entry = 64 + at as usize % 256 * 8;
    ring.store(entry, (at % 256) | u32::from(offset) << 16, kernel::Order::Relaxed).unwrap();
    let word = u32::from(flags) | u32::from(status.cast_unsigned()) << 16;
    ring.store(entry + 4, word, kernel::Order::Relaxed).unwrap();
    ring.store(8, at + 1, kernel::Order::AcqRel).unwrap();
}

const MORE: u16 = 4;

#[test]
fn parts_of_any_length_make_a_frame_and_lie_anywhere_in_their_pages() {
    let mut machine = Machine::jumbo();
    let mut net = machine.connect().unwrap();
    // More frames than the ring has places, so that they wrap within a frame.
    for seed in 0..40 {
        machine.back.misbehave(NetMisdeed::RxParts(7));
        machine.back.deliver(&frame(seed, 7 * 18 - 3));
        assert_eq!(machine.receive_all(&mut net), [frame(seed, 7 * 18 - 3)]);
    }
    let mut buffer = [0; FRAME_MAX_BYTES];
    let first = u32::from(net.place(net.rx_taken));
    for (place, bytes) in [(first, [1; 8]), (first + 1, [2; 8])] {
        net.rx_pages[place as usize].page().write(4088, &bytes).unwrap();
    }
    respond(&net, 4088, MORE, 8);
    respond(&net, 4088, 0, 8);
    assert_eq!(net.receive(&mut buffer), Some(16));
    assert_eq!((&buffer[..8], &buffer[8..16]), (&[1; 8][..], &[2; 8][..]));
}

#[test]
fn a_frame_whose_rest_comes_later_waits_for_it() {
    let mut machine = Machine::jumbo();
    let mut net = machine.connect().unwrap();
    let mut buffer = [0; FRAME_MAX_BYTES];
    respond(&net, 0, MORE, 4096);
    assert_eq!(net.receive(&mut buffer), None);
    assert!(!net.enable_events(), "nothing to look at until the rest comes");
    respond(&net, 0, MORE, 0);
    assert_eq!(net.receive(&mut buffer), None);
    respond(&net, 0, 0, 100);
    assert!(net.enable_events());
    assert_eq!((net.receive(&mut buffer), net.health()), (Some(4196), Health::Connected));
}

#[test]
fn long_frames_of_no_use_are_dropped_whole_and_their_places_come_back() {
    // Lengths of the parts; below 0: netback's error.
    let cases: [&[i16]; 9] = [
        &[13],
        &[7, 6],
        &[0, 0, 13],
        &[4096, 4096, 823],
        &[4096, 4096, 4096],
        &[-1, 4096, 100],
        &[4096, -1, 100],
        &[4096, 4096, -1],
        &[-1; 18],
    ];
    for case in cases {
        let mut machine = Machine::jumbo();
        let mut net = machine.connect().unwrap();
        let mut buffer = [0; FRAME_MAX_BYTES];
        // So often that places that stayed out would be missed.
        for _ in 0..40 {
            for (index, status) in case.iter().enumerate() {
                respond(&net, 0, if index + 1 == case.len() { 0 } else { MORE }, *status);
            }
            assert_eq!(net.receive(&mut buffer), None, "{case:?}");
            net.kick();
        }
        assert_eq!((net.counts().rx_dropped, net.health()), (40, Health::Connected), "{case:?}");
        assert_eq!(net.rx.in_flight(), 256);
        respond(&net, 0, 0, 60);
        assert_eq!(net.receive(&mut buffer), Some(60), "the next frame is another");
    }
}

#[test]
fn a_frame_without_a_checksum_is_dropped_whole() {
    let mut machine = Machine::jumbo();
    let mut net = machine.connect().unwrap();
    for flags in [(2 | MORE, 0), (MORE, 2)] {
        respond(&net, 0, flags.0, 4096);
        respond(&net, 0, flags.1, 100);
        assert_eq!(net.receive(&mut [0; FRAME_MAX_BYTES]), None);
    }
    assert_eq!((net.counts().rx_dropped, net.health()), (2, Health::Connected));
}

/// Parts of a frame: where each begins, its flags, its length.
type Parts = &'static [(u16, u16, i16)];

#[test]
fn broken_rules_of_a_frame_in_parts_end_the_connection() {
    let cases: [(Parts, PeerFault); 5] = [
        (&[(0, MORE, 4096), (1, 0, 4096)], PeerFault::OutOfPage { offset: 1, len: 4096 }),
        (&[(0, MORE, 60), (4096, 0, 1)], PeerFault::OutOfPage { offset: 4096, len: 1 }),
        (&[(65535, MORE, 60)], PeerFault::OutOfPage { offset: 65535, len: 60 }),
        (&[(0, MORE, 60), (0, 8, 60)], PeerFault::BadFlags(8)),
        (&[(0, MORE | 8, 60)], PeerFault::BadFlags(12)),
    ];
    for (parts, fault) in cases {
        let mut machine = Machine::jumbo();
        let mut net = machine.connect().unwrap();
        parts.iter().for_each(|&(offset, flags, status)| respond(&net, offset, flags, status));
        assert_eq!(net.receive(&mut [0; FRAME_MAX_BYTES]), None);
        assert_eq!(net.health(), Health::Broken(fault), "{parts:?}");
    }
}

#[test]
fn a_frame_has_an_end() {
    for status in [0, 1, -1] {
        let mut machine = Machine::jumbo();
        let mut net = machine.connect().unwrap();
        let mut buffer = [0; FRAME_MAX_BYTES];
        for _ in 0..PARTS_MAX {
            respond(&net, 0, MORE, status);
        }
        assert_eq!(
            (net.receive(&mut buffer), net.health()),
            (None, Health::Connected),
            "it may end with the next"
        );
        respond(&net, 0, MORE, status);
        assert_eq!(net.receive(&mut buffer), None);
        assert_eq!(net.health(), Health::Broken(PeerFault::EndlessFrame), "{status}");
    }
}

#[test]
fn half_a_frame_goes_with_its_connection() {
    let mut machine = Machine::jumbo();
    let mut net = machine.connect().unwrap();
    respond(&net, 0, MORE, 4096);
    assert_eq!(net.receive(&mut [0; FRAME_MAX_BYTES]), None);
    net.close(&mut machine.xs).unwrap();
    assert_eq!(machine.xen.live_grants(), 0);
    let mut net = machine.connect().unwrap();
    machine.back.deliver(&frame(4, 60));
    assert_eq!(machine.receive_all(&mut net), [frame(4, 60)]);
}
