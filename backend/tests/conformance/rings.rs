//! Section 2.7: what the device does to rings and buffers.

use super::*;

// 2.7.5.1

#[test]
fn only_writable_buffers_and_the_used_ring_are_written() {
    for (indirect, wanted) in [(true, ALL), (false, ALL & !F_EVENT_IDX)] {
        let mut rig = Rig::new(wanted, 16);
        rig.driver.indirect = indirect;
        let used = (rig.driver.used(0) - TestMemory::BASE) as usize;
        for (kind, out, in_len) in
            [(T_OUT, 1024, 0), (T_IN, 0, 1024), (T_FLUSH, 0, 0), (99, 512, 512), (8, 0, 20)]
        {
            let mut header = [0; 16];
            header[..4].copy_from_slice(&u32::to_le_bytes(kind));
            let [readable, writable] = [16 + out, in_len + 1].map(|len| (rig.driver.alloc(len), len));
            rig.mem.poke(readable.0, &header);
            rig.mem.poke(writable.0, &vec![0xcc; writable.1]);
            rig.driver.add(vec![readable], vec![writable]);
            rig.driver.kick();
            let before = rig.all();
            rig.run();
            let after = rig.all();
            let start = (writable.0 - TestMemory::BASE) as usize;
            for at in (0..RAM_BYTES).filter(|&at| before[at] != after[at]) {
                let allowed =
                    (start..start + writable.1).contains(&at) || (used..used + 0x1000).contains(&at);
                assert!(allowed, "request type {kind} changed byte {at:#x}");
            }
            assert_ne!(after[start + in_len], 0xcc, "and the status is written");
            rig.driver.next_used().expect("an answer");
        }
    }
}

// 2.7.7.2

#[test]
fn without_event_idx_used_event_means_nothing() {
    let mut rig = Rig::new(ALL & !F_EVENT_IDX, 8);
    // A used_event that would suppress every interrupt soon.
    rig.driver.want_interrupt(1000);
    assert_eq!(rig.ask(T_IN, 0, vec![], 512).status, S_OK);
    assert_eq!(rig.irqs, 1);
}

#[test]
fn with_event_idx_the_no_interrupt_flag_means_nothing() {
    let mut rig = Rig::new(ALL, 8);
    rig.driver.set_no_interrupt(true);
    rig.driver.want_interrupt(1);
    assert_eq!(rig.ask(T_IN, 0, vec![], 512).status, S_OK);
    assert_eq!(rig.irqs, 1);
}

// 2.7.8.2

#[test]
fn element_and_data_are_written_before_the_used_index_moves() {
    for (kind, out, in_len) in [(T_IN, 0, 1024), (T_OUT, 512, 0), (8, 0, 20), (99, 0, 512)] {
        for indirect in [true, false] {
            let mut rig = Rig::new(ALL, 16);
            rig.driver.indirect = indirect;
            let [readable, data, status] = [16 + out, in_len, 1].map(|len| (rig.driver.alloc(len), len));
            let mut header = vec![0; 16 + out];
            header[..4].copy_from_slice(&u32::to_le_bytes(kind));
            rig.mem.poke(readable.0, &header);
            rig.driver.add(vec![readable], vec![data, status]);
            rig.driver.kick();
            let log = rig.run_traced();
            let (elem, index) = (rig.driver.used(4), rig.driver.used(2));
            let moved = log.iter().position(|touch| touch.write && touch.start == index).expect("it moves");
            let (before, after) = log.split_at(moved);
            let written = |touches: &[Touch], at: u64| {
                touches
                    .iter()
                    .any(|touch| touch.write && (touch.start..touch.start + touch.len).contains(&at))
            };
            let len = rig.mem.peek_u16(elem + 4);
            assert_eq!(len, if kind == 99 { 0 } else { in_len as u16 + 1 });
            let claimed = (data.0..data.0 + in_len as u64).take(len.into());
            for at in (elem..elem + 8).chain(claimed).chain([status.0]) {
                assert!(written(before, at), "type {kind}: byte {at:#x}");
                assert!(!written(after, at), "type {kind}: byte {at:#x} again");
            }
        }
    }
}

// 2.7.10.2

#[test]
fn used_flags_are_0_or_1_and_with_event_idx_always_0() {
    for wanted in [ALL, ALL & !F_EVENT_IDX] {
        let mut rig = Rig::new(wanted, 8);
        for sector in 0..20 {
            let request = BlkRequest { kind: T_IN, sector, out: vec![], in_len: 512 };
            rig.driver.submit(&request, &Framing::Usual);
            rig.driver.kick();
            let flags = |rig: &Rig| rig.mem.peek_u16(rig.driver.used(0));
            rig.device.borrow_mut().process(&rig.mem);
            let most = if wanted & F_EVENT_IDX != 0 { 0 } else { 1 };
            assert!(flags(&rig) <= most);
            rig.run();
            assert!(flags(&rig) <= most);
            rig.driver.next_used().expect("an answer");
        }
    }
}

#[test]
fn notifications_for_nothing_do_nothing() {
    let mut rig = Rig::new(ALL, 8);
    for _ in 0..100 {
        rig.driver.write(QUEUE_NOTIFY, 0);
        rig.run();
    }
    assert_eq!((rig.irqs, rig.driver.next_used()), (0, None));
    assert_eq!(rig.ask(T_IN, 0, vec![], 512).status, S_OK);
}
