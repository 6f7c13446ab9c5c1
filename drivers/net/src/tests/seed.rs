//! What a connection begins with cannot be guessed: it follows from the seed.

use super::*;
use alloc::boxed::Box;
use alloc::rc::Rc;
use core::cell::RefCell;
use smoltcp::wire::{EthernetFrame, Ipv4Packet, TcpPacket};

/// Port and sequence number of every SYN of a client with that seed that connects twice.
fn beginnings(seed: u64) -> Vec<(u16, i32)> {
    let mut machine = Machine::of((Some(ADDRESS), seed), SERVER, |_, back| Link::far(back));
    let seen: Rc<RefCell<Vec<(u16, i32)>>> = Rc::default();
    let log = seen.clone();
    machine.host.set_neighbor(Box::new(move |frame| {
        let frame = EthernetFrame::new_checked(frame).unwrap();
        if let Ok(ip) = Ipv4Packet::new_checked(frame.payload())
            && let Ok(tcp) = TcpPacket::new_checked(ip.payload())
            && tcp.syn()
        {
            log.borrow_mut().push((tcp.src_port(), tcp.seq_number().0));
        }
        Vec::new()
    }));
    for _ in 0..2 {
        machine.open();
    }
    seen.take()
}

#[test]
fn ports_and_sequence_numbers_follow_from_the_seed() {
    let first = beginnings(0x0123_4567_89ab_cdef);
    assert_eq!(first.len(), 2, "{first:?}");
    assert!(first.iter().all(|(port, _)| *port >= 49152), "{first:?}");
    assert!(first[0].0 != first[1].0 && first[0].1 != first[1].1, "{first:?}");
    // The time is the same in both machines.
    assert_eq!(first, beginnings(0x0123_4567_89ab_cdef));
    let other = beginnings(0xfedc_ba98_7654_3210);
    for (one, two) in first.iter().zip(&other) {
        assert!(one.0 != two.0 && one.1 != two.1, "{first:?} {other:?}");
    }
}
