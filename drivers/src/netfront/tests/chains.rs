//! Frames in parts, and what netback does to them.

use super::*;
use xen_pv_sys::io::netif::ExtraInfo;

const GSO: ExtraInfo = ExtraInfo { kind: 1, flags: 0, gso_size: 1448, gso_kind: 1, pad: 0, gso_features: 0 };

fn cut(segment_bytes: u16) -> Offload {
    Offload { checksum: true, segment_bytes: NonZeroU16::new(segment_bytes) }
}

/// What a frame in that form leads to: the frames that came, and how the connection is.
fn brought(frame: &[u8], form: RxForm) -> (Vec<(Vec<u8>, bool)>, Health) {
    let mut machine = Machine::new();
    let mut net = machine.connect().unwrap();
    machine.back.deliver_as(frame, form);
    let frames = machine.receive_all_verified(&mut net);
    assert!(frames.len() + usize::try_from(net.counts().rx_dropped).unwrap() <= 1);
    (frames, net.health())
}

#[test]
fn long_frames_come_whole() {
    let mut machine = Machine::new();
    let mut net = machine.connect().unwrap();
    let lengths = [60, 1515, 4096, 4097, 8192, 30_000, 65_535, FRAME_MAX_BYTES];
    // More parts than there are places, so that each place is used several times.
    for round in 0..4 {
        for len in lengths {
            machine.back.deliver_as(&frame(round, len), RxForm::of_the_host(Some(1448)));
        }
    }
    let frames = machine.receive_all_verified(&mut net);
    assert_eq!(frames.len(), 4 * lengths.len());
    for (index, (bytes, is_verified)) in frames.into_iter().enumerate() {
        let round = u8::try_from(index / lengths.len()).unwrap();
        assert!(bytes == frame(round, lengths[index % lengths.len()]) && is_verified, "{index}");
    }
    assert_eq!(net.counts(), Counts::default());
}

#[test]
fn long_frames_go_whole() {
    let mut machine = Machine::new();
    let mut net = machine.connect().unwrap();
    let lengths = [1515, 4096, 4097, 8192, 30_000, 65_535];
    for round in 0..20 {
        for len in lengths {
            if !net.can_send() {
                machine.wait(&mut net);
            }
            net.send(&frame(round, len), cut(1448)).unwrap();
        }
    }
    machine.wait(&mut net);
    let sent = machine.back.take_sent_frames();
    assert_eq!(sent.len(), 20 * lengths.len());
    for (index, sent) in sent.into_iter().enumerate() {
        let bytes = frame(u8::try_from(index / lengths.len()).unwrap(), lengths[index % lengths.len()]);
        let SentFrame { checksum_blank, segment_bytes, .. } = sent;
        assert!(sent.bytes == bytes && checksum_blank && segment_bytes == Some(1448), "{index}");
    }
    assert_eq!((net.health(), net.counts()), (Health::Connected, Counts::default()));
}

#[test]
fn a_frame_is_sent_with_what_is_asked_of_netback() {
    let mut machine = Machine::new();
    let mut net = machine.connect().unwrap();
    for checksum in [false, true] {
        net.send(&frame(1, 60), Offload { checksum, segment_bytes: None }).unwrap();
    }
    // Segments are nothing without their checksums.
    net.send(&frame(1, 60), Offload { checksum: false, ..cut(40) }).unwrap();
    machine.wait(&mut net);
    let sent: Vec<_> = machine.back.take_sent_frames();
    let told: Vec<_> = sent.iter().map(|frame| (frame.checksum_blank, frame.segment_bytes)).collect();
    assert_eq!(told, [(false, None), (true, None), (true, Some(40))]);
}

#[test]
fn netback_maps_as_few_pages_as_there_can_be() {
    // A write of 4 KiB with its headers, two of them, and frames whose first page would be too short.
    for (len, mapped) in
        [(110, 0), (4178, 1), (8302, 2), (4096 + 73, 2), (4096 + 74, 1), (4096, 1), (65_535, 16)]
    {
        let mut machine = Machine::new();
        let mut net = machine.connect().unwrap();
        net.send(&frame(1, len), cut(1448)).unwrap();
        machine.wait(&mut net);
        let sent = machine.back.take_sent_frames();
        assert!(sent[0].bytes == frame(1, len));
        assert_eq!(sent[0].mapped, mapped, "{len} bytes");
    }
}

#[test]
fn only_what_is_cut_may_be_long() {
    let mut machine = Machine::new();
    let mut net = machine.connect().unwrap();
    assert_eq!(net.uncut_max_bytes().map(core::num::NonZeroUsize::get), Some(65_535));
    for (len, good) in [(13, false), (14, true), (65_535, true), (65_536, false), (131_072, false)] {
        let expected = if good { Ok(()) } else { Err(SendError::BadLength) };
        assert_eq!(net.send(&frame(1, len), cut(1448)), expected, "{len}");
    }
    assert_eq!(send(&mut net, &frame(1, 1515)), Err(SendError::BadLength));
}

#[test]
fn there_is_room_for_the_longest_frame_or_for_none() {
    let mut machine = Machine::new();
    let mut net = machine.connect().unwrap();
    machine.back.hold_tx(true);
    let mut sent = 0;
    while net.can_send() {
        net.send(&frame(1, 65_535), cut(1448)).unwrap();
        sent += 1;
    }
    assert_eq!(sent, TX_PAGES / 16);
    assert_eq!(net.send(&frame(1, 14), Offload::default()), Err(SendError::Full));
    machine.wait(&mut net);
    assert_eq!(machine.back.take_sent().len(), usize::from(sent));
}

#[test]
fn a_place_for_the_longest_frame_is_waited_for() {
    let mut machine = Machine::new();
    let mut net = machine.connect().unwrap();
    for _ in 0..10 {
        while net.can_send() {
            net.send(&frame(1, 65_535), cut(1448)).unwrap();
        }
        assert!(machine.wait(&mut net) && net.can_send());
    }
}

#[test]
fn a_frame_has_no_more_parts_than_was_agreed() {
    let bytes = frame(1, 18 * 64);
    let form = |part_bytes| RxForm { part_bytes, ..RxForm::default() };
    assert_eq!(brought(&bytes, form(64)), ([(bytes.clone(), true)].to_vec(), Health::Connected));
    assert_eq!(brought(&bytes, form(63)), (Vec::new(), Health::Broken(PeerFault::TooManyParts)));
    assert_eq!(brought(&bytes, form(20)), (Vec::new(), Health::Broken(PeerFault::TooManyParts)));
}

#[test]
fn a_long_frame_that_nobody_put_together_is_dropped() {
    assert_eq!(brought(&frame(1, 1515), RxForm::default()), (Vec::new(), Health::Connected));
    let longest = RxForm { extra: Some(GSO), ..RxForm::default() };
    assert_eq!(brought(&frame(1, FRAME_MAX_BYTES), longest).0.len(), 1);
    assert_eq!(brought(&frame(1, FRAME_MAX_BYTES + 1), longest), (Vec::new(), Health::Connected));
    assert_eq!(brought(&frame(1, 18 * 4096), longest), (Vec::new(), Health::Connected));
}

#[test]
fn the_first_part_holds_the_addresses() {
    let form = |part_bytes| RxForm { part_bytes, ..RxForm::default() };
    assert_eq!(brought(&frame(1, 26), form(13)), (Vec::new(), Health::Connected));
    assert_eq!(brought(&frame(1, 28), form(14)).0, [(frame(1, 28), true)]);
}

#[test]
fn extra_information_is_what_was_asked_for() {
    let cases = [
        (GSO, true),
        (ExtraInfo { gso_kind: 2, ..GSO }, true),
        (ExtraInfo { gso_kind: 0, ..GSO }, false),
        (ExtraInfo { gso_kind: 3, ..GSO }, false),
        (ExtraInfo { gso_size: 0, ..GSO }, false),
        (ExtraInfo { kind: 0, ..GSO }, false),
        (ExtraInfo { kind: 2, ..GSO }, false),
        (ExtraInfo { kind: 4, ..GSO }, false),
        (ExtraInfo { kind: 255, ..GSO }, false),
        // Another one would follow.
        (ExtraInfo { flags: 1, ..GSO }, false),
        (ExtraInfo { flags: 0x80, ..GSO }, false),
    ];
    for (extra, good) in cases {
        let (frames, health) = brought(&frame(1, 9000), RxForm { extra: Some(extra), ..RxForm::default() });
        let fault = PeerFault::BadExtra { kind: extra.kind, flags: extra.flags };
        assert_eq!(health, if good { Health::Connected } else { Health::Broken(fault) }, "{extra:?}");
        assert_eq!(frames.len(), usize::from(good));
    }
}

#[test]
fn a_frame_without_its_end_ends_the_connection() {
    for flags in [4, 8, 12] {
        let mut machine = Machine::new();
        let mut net = machine.connect().unwrap();
        machine.back.misbehave(NetMisdeed::RxFlags(flags));
        machine.back.deliver(&frame(1, 60));
        assert!(machine.receive_all(&mut net).is_empty());
        assert_eq!(net.health(), Health::Broken(PeerFault::Unfinished), "{flags}");
    }
}

#[test]
fn a_part_that_netback_could_not_bring_costs_the_whole_frame_only() {
    let misdeeds = [NetMisdeed::RxStatus(RX_ERROR), NetMisdeed::RxStatus(0), NetMisdeed::RxStatus(i16::MIN)];
    for misdeed in misdeeds {
        let mut machine = Machine::new();
        let mut net = machine.connect().unwrap();
        machine.back.deliver_as(&frame(1, 9000), RxForm::of_the_host(Some(1448)));
        machine.back.deliver_as(&frame(2, 9000), RxForm::of_the_host(Some(1448)));
        machine.back.misbehave(misdeed);
        assert!(machine.receive_all(&mut net) == [frame(2, 9000)], "{misdeed:?}");
        assert_eq!((net.counts().rx_dropped, net.health()), (1, Health::Connected));
    }
}

/// Writes entries into the receive ring as netback would, and takes what comes.
fn entries(parts: &[[u16; 4]]) -> (Option<Received>, Health) {
    let mut machine = Machine::new();
    let mut net = machine.connect().unwrap();
    let ring = net.rx_ring.page().clone();
    for (place, words) in parts.iter().enumerate() {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        ring.write(64 + place * 8, &bytes).unwrap();
    }
    ring.store(8, u32::try_from(parts.len()).unwrap(), kernel::Order::AcqRel).unwrap();
    (net.receive(&mut alloc::vec![0; FRAME_MAX_BYTES]), net.health())
}

#[test]
fn every_part_is_judged_as_the_first() {
    let broken = |fault| (None, Health::Broken(fault));
    let good = Some(Received { len: 200, is_verified: false });
    assert_eq!(entries(&[[0, 0, 4, 100], [1, 0, 0, 100]]), (good, Health::Connected));
    assert_eq!(entries(&[[0, 0, 4, 100], [2, 0, 0, 100]]), broken(PeerFault::UnknownId(2)));
    let out = PeerFault::OutOfPage { offset: 4000, len: 97 };
    assert_eq!(entries(&[[0, 0, 4, 100], [1, 4000, 0, 97]]), broken(out));
    assert_eq!(entries(&[[0, 0, 4, 100], [1, 4000, 0, 96]]).1, Health::Connected);
    for flags in [1, 2, 3, 8, 16] {
        assert_eq!(entries(&[[0, 0, 4, 100], [1, 0, flags, 100]]), broken(PeerFault::BadFlags(flags)));
    }
    // The place of extra information has no id, but it has a page.
    let extra = [0x0001, 1448, 1, 0];
    assert_eq!(entries(&[[0, 0, 12, 100], extra, [2, 0, 0, 100]]), (good, Health::Connected));
    assert_eq!(entries(&[[0, 0, 12, 100], extra, [1, 0, 0, 100]]), broken(PeerFault::UnknownId(1)));
}
