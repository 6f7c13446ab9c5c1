//! The ring against a peer that keeps the rules, and one that does not.

use super::*;
use kernel::SharedPage;
use proptest::prelude::*;
use std::collections::VecDeque;
use xen_pv_sys::io::blkif::RING_ENTRY_SIZE;

const ENTRY: usize = RING_ENTRY_SIZE;

fn pages(count: usize) -> Vec<SharedPage> {
    core::iter::repeat_with(|| SharedPage::alloc().unwrap()).take(count).collect()
}

/// The other end, written from the layout alone: the pages as one run of bytes.
struct Back {
    pages: Vec<SharedPage>,
    entries: u32,
    req_cons: u32,
    rsp_prod: u32,
}

impl Back {
    fn new(pages: &[SharedPage], entries: u32) -> Back {
        Back { pages: pages.to_vec(), entries, req_cons: 0, rsp_prod: 0 }
    }

    fn word(&self, field: usize) -> u32 {
        self.pages[0].load(field, Order::AcqRel).unwrap()
    }

    fn set_word(&self, field: usize, value: u32) {
        self.pages[0].store(field, value, Order::AcqRel).unwrap();
    }

    fn byte_at(&self, index: u32, byte: usize) -> (usize, usize) {
        let at = 64 + (index % self.entries) as usize * ENTRY + byte;
        (at / 4096, at % 4096)
    }

    fn take(&mut self) -> Option<Vec<u8>> {
        if self.word(REQ_PROD) == self.req_cons {
            return None;
        }
        let request = (0..ENTRY)
            .map(|byte| {
                let (page, offset) = self.byte_at(self.req_cons, byte);
                self.pages[page].load(offset, Order::Relaxed).unwrap()
            })
            .collect();
        self.req_cons = self.req_cons.wrapping_add(1);
        Some(request)
    }

    /// True if the frontend wants a notification.
    fn respond(&mut self, response: &[u8]) -> bool {
        for (byte, &value) in response.iter().enumerate() {
            let (page, offset) = self.byte_at(self.rsp_prod, byte);
            self.pages[page].store(offset, value, Order::Relaxed).unwrap();
        }
        self.rsp_prod = self.rsp_prod.wrapping_add(1);
        self.set_word(RSP_PROD, self.rsp_prod);
        self.word(RSP_EVENT) == self.rsp_prod
    }

    /// Before it sleeps: asks for a notification of the next request.
    fn sleep(&self) {
        self.set_word(REQ_EVENT, self.req_cons.wrapping_add(1));
    }
}

fn ring(page_count: usize) -> (FrontRing, Back) {
    let pages = pages(page_count);
    let ring = FrontRing::new(pages.clone(), ENTRY).unwrap();
    let back = Back::new(&pages, ring.entries());
    (ring, back)
}

#[test]
fn ring_sizes_are_those_of_the_block_protocol() {
    // A page holds 32 requests; each order doubles it.
    assert_eq!([1, 2, 4, 8].map(|pages| ring_entries(pages, ENTRY)), [32, 64, 128, 256]);
    assert_eq!(ring_entries(0, ENTRY), 0);
    assert_eq!(ring_entries(1, 5000), 0);
    assert_eq!(ring_entries(1, 0), 0);
    assert!(FrontRing::new(Vec::new(), ENTRY).is_none());
}

#[test]
fn an_entry_goes_on_across_a_page_end() {
    let (mut ring, mut back) = ring(8);
    // Entry 72 starts 64 bytes before the end of the second page.
    for index in 0..=255u8 {
        ring.queue(&[index; ENTRY]).unwrap();
    }
    assert!(ring.publish());
    for index in 0..=255u8 {
        assert_eq!(back.take(), Some(std::vec![index; ENTRY]));
    }
}

#[test]
fn a_full_ring_takes_nothing_more_until_a_response_is_taken() {
    let (mut ring, mut back) = ring(1);
    for _ in 0..32 {
        ring.queue(&[1]).unwrap();
    }
    assert_eq!(ring.queue(&[1]), Err(RingFull));
    assert!(ring.publish());
    back.take().unwrap();
    back.respond(&[7; 16]);
    assert_eq!(ring.queue(&[1]), Err(RingFull));
    let mut response = [0; 16];
    assert_eq!(ring.next_response(&mut response), Ok(true));
    assert_eq!(response, [7; 16]);
    assert_eq!(ring.queue(&[1]), Ok(()));
}

#[test]
fn a_batch_is_notified_once_and_only_if_asked_for() {
    let (mut ring, mut back) = ring(1);
    assert!(!ring.publish(), "nothing to say");
    ring.queue(&[1]).unwrap();
    ring.queue(&[2]).unwrap();
    assert!(ring.publish(), "req_event starts at 1");
    ring.queue(&[3]).unwrap();
    assert!(!ring.publish(), "the peer is awake and will see it");
    while back.take().is_some() {}
    back.sleep();
    ring.queue(&[4]).unwrap();
    assert!(ring.publish());
}

#[test]
fn unpublished_requests_cannot_be_answered() {
    let (mut ring, mut back) = ring(1);
    ring.queue(&[1]).unwrap();
    back.respond(&[0; 16]);
    let overrun = ResponseOverrun { claimed: 1, outstanding: 0 };
    assert_eq!(ring.next_response(&mut [0; 16]), Err(overrun));
    // Dead for good, even if the index becomes sane.
    back.set_word(RSP_PROD, 0);
    assert_eq!(ring.next_response(&mut [0; 16]), Err(overrun));
    assert_eq!(ring.final_check(1), Err(overrun));
    assert_eq!(ring.queue(&[1]), Err(RingFull));
}

#[test]
fn the_final_check_sees_what_came_before_it() {
    let (mut ring, mut back) = ring(1);
    ring.queue(&[1]).unwrap();
    assert!(ring.publish());
    assert_eq!(ring.final_check(1), Ok(false));
    assert!(back.respond(&[0; 16]), "the check asked for this event");
    assert_eq!(ring.final_check(1), Ok(true));
    assert_eq!(ring.next_response(&mut [0; 16]), Ok(true));
    assert_eq!(ring.final_check(1), Ok(false));
}

#[derive(Clone, Debug)]
enum Move {
    Queue(u8),
    Publish,
    Take,
    Respond,
    Receive,
    FinalCheck,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        4 => any::<u8>().prop_map(Move::Queue),
        2 => Just(Move::Publish),
        3 => Just(Move::Take),
        3 => Just(Move::Respond),
        3 => Just(Move::Receive),
        1 => Just(Move::FinalCheck),
    ];
    prop::collection::vec(one, 0..400)
}

proptest! {
    /// Any interleaving of the two ends moves every request and response once, in order,
    /// at any start of the free-running indices.
    #[test]
    fn nothing_is_lost_or_doubled(moves in moves(), start in any::<u32>(), order in 0u32..3) {
        let (mut ring, mut back) = ring(1 << order);
        (ring.req_prod_pvt, ring.req_prod, ring.rsp_cons, ring.rsp_prod) = (start, start, start, start);
        (back.req_cons, back.rsp_prod) = (start, start);
        for field in [REQ_PROD, RSP_PROD] {
            back.set_word(field, start);
        }
        let (mut queued, mut held, mut answered) = (VecDeque::new(), VecDeque::new(), VecDeque::new());
        for step in moves {
            match step {
                Move::Queue(tag) => {
                    let room = ring.in_flight() < ring.entries();
                    prop_assert_eq!(ring.queue(&[tag; ENTRY]).is_ok(), room);
                    if room {
                        queued.push_back(tag);
                    }
                }
                Move::Publish => drop(ring.publish()),
                Move::Take => if let Some(request) = back.take() {
                    let tag = queued.pop_front().unwrap();
                    prop_assert!(request.iter().all(|&byte| byte == tag));
                    held.push_back(tag);
                },
                Move::Respond => if let Some(tag) = held.pop_front() {
                    back.respond(&[tag; 16]);
                    answered.push_back(tag);
                },
                Move::Receive => {
                    let mut response = [0; 16];
                    let got = ring.next_response(&mut response).unwrap();
                    prop_assert_eq!(got.then_some(response), answered.pop_front().map(|tag| [tag; 16]));
                }
                Move::FinalCheck => prop_assert_eq!(ring.final_check(1), Ok(!answered.is_empty())),
            }
        }
    }

    /// Whatever the peer writes into the header, the frontend takes at most as many
    /// responses as it made requests, and never panics.
    #[test]
    fn no_header_makes_more_responses_than_requests(
        requests in 0u32..40,
        header in prop::collection::vec((0usize..4, any::<u32>()), 0..20),
    ) {
        let (mut ring, back) = ring(1);
        for _ in 0..requests {
            let _ = ring.queue(&[1]);
        }
        let _ = ring.publish();
        let mut taken = 0;
        for (field, value) in header {
            back.set_word(field * 4, value);
            while ring.next_response(&mut [0; 16]) == Ok(true) {
                taken += 1;
            }
            let _ = ring.final_check(1);
            prop_assert!(taken <= requests.min(32));
        }
    }

    /// The peer is notified exactly when its `req_event` lies among the new requests.
    #[test]
    fn notification_follows_req_event(start in any::<u32>(), ahead in 0u32..20, count in 1u32..16) {
        let (mut ring, back) = ring(1);
        (ring.req_prod_pvt, ring.req_prod, ring.rsp_cons, ring.rsp_prod) = (start, start, start, start);
        back.set_word(REQ_EVENT, start.wrapping_add(ahead));
        for _ in 0..count {
            ring.queue(&[1]).unwrap();
        }
        prop_assert_eq!(ring.publish(), (1..=count).contains(&ahead));
    }
}
