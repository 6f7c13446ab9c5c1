//! Frames, good and bad.

use super::*;

#[test]
fn frames_go_and_come_in_order() {
    let mut machine = Machine::new();
    let mut net = machine.connect().unwrap();
    let frames: Vec<_> = (0..200).map(|n| frame(n, 14 + 7 * usize::from(n))).collect();
    for frame in &frames {
        if !net.can_send() {
            machine.wait(&mut net);
        }
        send(&mut net, frame).unwrap();
    }
    machine.wait(&mut net);
    assert!(machine.back.take_sent() == frames);
    frames.iter().for_each(|frame| machine.back.deliver(frame));
    assert!(machine.receive_all(&mut net) == frames);
    assert_eq!(net.counts(), Counts::default());
}

#[test]
fn netback_says_whether_a_checksum_is_good() {
    for (flags, expected) in [(0, false), (1, true), (2, true), (3, true)] {
        let mut machine = Machine::new();
        let mut net = machine.connect().unwrap();
        machine.back.deliver_as(&frame(1, 60), RxForm { flags, ..RxForm::default() });
        assert_eq!(machine.receive_all_verified(&mut net), [(frame(1, 60), expected)], "{flags}");
    }
}

#[test]
fn only_whole_frames_are_sent() {
    let mut machine = Machine::new();
    let mut net = machine.connect().unwrap();
    for (len, expected) in [(0, false), (13, false), (14, true), (1514, true), (1515, false), (70_000, false)]
    {
        let sent = send(&mut net, &frame(0, len));
        assert_eq!(sent, if expected { Ok(()) } else { Err(SendError::BadLength) }, "{len}");
    }
}

/// Frames of a page each that are sent before there is no room for the longest any more.
const SENT_AT_ONCE: u16 = TX_PAGES - 15;

#[test]
fn more_frames_than_pages_wait_for_netback() {
    let mut machine = Machine::new();
    let mut net = machine.connect().unwrap();
    machine.back.hold_tx(true);
    for _ in 0..SENT_AT_ONCE {
        send(&mut net, &frame(1, 60)).unwrap();
    }
    assert_eq!(send(&mut net, &frame(1, 60)), Err(SendError::Full));
    machine.wait(&mut net);
    assert!(!net.can_send());
    assert_eq!(machine.back.take_sent().len(), usize::from(SENT_AT_ONCE));
    assert!(!machine.wait(&mut net), "nothing comes");
    assert_eq!(net.health(), Health::Connected);
}

#[test]
fn the_event_for_a_free_page_is_asked_for() {
    let mut machine = Machine::new();
    let mut net = machine.connect().unwrap();
    // The first event of a ring comes in any case.
    for _ in 0..3 {
        for _ in 0..SENT_AT_ONCE {
            send(&mut net, &frame(1, 60)).unwrap();
        }
        assert!(machine.wait(&mut net), "netback took some");
        assert!(net.can_send());
    }
}

#[test]
fn more_frames_than_places_wait_and_netback_is_told_of_new_ones() {
    let mut machine = Machine::new();
    let mut net = machine.connect().unwrap();
    let count = 3 * usize::from(RX_PAGES);
    for n in 0..count {
        machine.back.deliver(&frame(u8::try_from(n % 256).unwrap(), 64));
    }
    machine.xen.run_peers(10);
    assert_eq!(machine.back.waiting(), count - usize::from(RX_PAGES), "each place holds one");
    assert_eq!(machine.receive_all(&mut net).len(), count);
}

#[test]
fn frames_of_no_use_are_dropped_and_counted() {
    let misdeeds = [
        NetMisdeed::RxStatus(RX_ERROR),
        NetMisdeed::RxStatus(-2),
        NetMisdeed::RxStatus(i16::MIN),
        NetMisdeed::RxStatus(0),
        NetMisdeed::RxStatus(13),
        NetMisdeed::RxStatus(1515),
        NetMisdeed::RxStatus(4096),
    ];
    for misdeed in misdeeds {
        let mut machine = Machine::new();
        let mut net = machine.connect().unwrap();
        machine.back.misbehave(misdeed);
        machine.back.deliver(&frame(1, 60));
        machine.back.deliver(&frame(2, 60));
        assert_eq!(machine.receive_all(&mut net), [frame(2, 60)], "{misdeed:?}");
        assert_eq!((net.counts().rx_dropped, net.health()), (1, Health::Connected));
    }
}

#[test]
fn a_frame_may_begin_anywhere_in_its_page_but_not_leave_it() {
    for (offset, good) in
        [(1, true), (4036, true), (4037, false), (4095, false), (4096, false), (65535, false)]
    {
        let mut machine = Machine::new();
        let mut net = machine.connect().unwrap();
        machine.back.misbehave(NetMisdeed::RxOffset(offset));
        machine.back.deliver(&frame(1, 60));
        let received = machine.receive_all(&mut net);
        if good {
            assert_eq!(received, [frame(1, 60)], "{offset}");
        } else {
            assert_eq!(net.health(), Health::Broken(PeerFault::OutOfPage { offset, len: 60 }));
            assert!(received.is_empty());
        }
    }
}

#[test]
fn broken_rules_of_the_receive_ring_end_the_connection() {
    let overrun = |claimed| PeerFault::ResponseOverrun(ResponseOverrun { claimed, outstanding: 256 });
    let cases = [
        (NetMisdeed::RxId(1), PeerFault::UnknownId(1)),
        (NetMisdeed::RxId(256), PeerFault::UnknownId(256)),
        (NetMisdeed::RxId(65535), PeerFault::UnknownId(65535)),
        // The next frame lies where the rest of this one should, and it has the flags of a beginning.
        (NetMisdeed::RxFlags(4), PeerFault::BadFlags(1)),
        // Here it lies in the place of extra information.
        (NetMisdeed::RxFlags(8), PeerFault::BadExtra { kind: 1, flags: 0 }),
        // Nobody sends this any more: in the place of extra information.
        (NetMisdeed::RxFlags(16), PeerFault::BadFlags(16)),
        (NetMisdeed::RxFlags(0x8000), PeerFault::BadFlags(0x8000)),
        (NetMisdeed::RxStatus(4097), PeerFault::OutOfPage { offset: 0, len: 4097 }),
        (NetMisdeed::RxStatus(i16::MAX), PeerFault::OutOfPage { offset: 0, len: 32767 }),
        (NetMisdeed::RxIndexJump(256), overrun(258)),
        (NetMisdeed::RxIndexJump(u32::MAX - 2), overrun(u32::MAX)),
    ];
    for (misdeed, fault) in cases {
        let mut machine = Machine::new();
        let mut net = machine.connect().unwrap();
        machine.back.misbehave(misdeed);
        machine.back.deliver(&frame(1, 60));
        machine.back.deliver(&frame(2, 60));
        assert!(machine.receive_all(&mut net).is_empty(), "{misdeed:?}");
        assert_eq!(net.health(), Health::Broken(fault), "{misdeed:?}");
        assert_eq!(net.receive(&mut alloc::vec![0; FRAME_MAX_BYTES]), None);
    }
}

#[test]
fn broken_rules_of_the_transmit_ring_end_the_connection() {
    let misdeeds =
        [NetMisdeed::TxBogusId, NetMisdeed::TxDuplicate, NetMisdeed::TxId(TX_PAGES), NetMisdeed::TxNull];
    for misdeed in misdeeds {
        let mut machine = Machine::new();
        let mut net = machine.connect().unwrap();
        machine.back.misbehave(misdeed);
        for n in 0..SENT_AT_ONCE {
            send(&mut net, &frame(u8::try_from(n).unwrap(), 60)).unwrap();
        }
        machine.wait(&mut net);
        assert!(!net.can_send());
        let broken =
            matches!(net.health(), Health::Broken(PeerFault::UnknownId(_) | PeerFault::ResponseOverrun(_)));
        assert!(broken, "{misdeed:?} gave {:?}", net.health());
    }
}

#[test]
fn a_page_that_was_given_back_is_not_given_back_again() {
    let mut machine = Machine::new();
    let mut net = machine.connect().unwrap();
    machine.back.hold_tx(true);
    for _ in 0..SENT_AT_ONCE {
        send(&mut net, &frame(1, 60)).unwrap();
    }
    machine.wait(&mut net);
    let ring = net.tx_ring.page().clone();
    // The answer to the first frame, and one to the page's next use, which there is not.
    for (entry, id) in [(0, 0u32), (1, 0x100)] {
        ring.store(64 + entry * 12, id, kernel::Order::Relaxed).unwrap();
    }
    ring.store(8, 2u32, kernel::Order::AcqRel).unwrap();
    assert!(!net.can_send());
    assert_eq!(net.health(), Health::Broken(PeerFault::UnknownId(0x100)));
}

#[test]
fn a_frame_that_netback_dropped_is_counted() {
    let mut machine = Machine::new();
    let mut net = machine.connect().unwrap();
    machine.back.misbehave(NetMisdeed::TxDropped);
    for _ in 0..SENT_AT_ONCE {
        send(&mut net, &frame(1, 60)).unwrap();
    }
    machine.wait(&mut net);
    assert!(net.can_send());
    assert_eq!((net.counts().tx_failed, net.health()), (1, Health::Connected));
}
