//! The state of a vCPU's slot against its port, and the event's bit against both.

use backend::access::Reply;
use backend::ioreq::{Event, Server};
use kernel::{DomId, Hypervisor, SharedPage};
use loom::thread;
use proofs::rings::vcpu::Vcpu;
use proofs::weak::{Flaws, Weak, check};
use proofs::weak_xen::WeakXen;
use std::mem::ManuallyDrop;
use std::rc::Rc;

/// Interruptions tried. One more takes several times as long.
const BOUND: usize = 2;

/// Whether the stub clears its events before it looks for work, as it must, or after.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Clear {
    BeforeLooking,
    AfterLooking,
}

/// What [`backend::Stub::run_once`] and `enable_events` do with a server, without devices.
fn serve(server: &Server<WeakXen>, xen: &WeakXen, total: u64, clear: Clear) {
    let mut answered = 0;
    while answered < total {
        while let Some(vcpu) = server.next_waiting(0) {
            let Some(slot) = server.take(vcpu) else { continue };
            let Ok(Event::Mmio(access)) = slot.event() else { panic!("a good access") };
            slot.answer(Reply(access.addr + 1));
            answered += 1;
        }
        if answered == total {
            return;
        }
        let waiting = match clear {
            Clear::BeforeLooking => server.enable_events(),
            Clear::AfterLooking => {
                let waiting = server.next_waiting(0).is_some();
                server.enable_events();
                waiting
            }
        };
        if !waiting {
            xen.poll(server.ports(), None).expect("a good port");
        }
    }
}

/// Each access of a vCPU is answered once, with the answer to it.
fn accesses(weak: &Rc<Weak>, total: u64, clear: Clear) {
    let page = SharedPage::alloc().expect("memory");
    let xen = WeakXen::new(weak, page.clone());
    // Not dropped: where the world fails, nothing could be drained.
    let server = ManuallyDrop::new(Server::start(&xen, DomId(1), &[]).expect("starts"));
    let vcpu = Vcpu::new(weak, &page, &xen);
    let other = thread::spawn(move || {
        for number in 0..total {
            let addr = 0x0200_0000 + number * 4;
            vcpu.send(addr);
            assert_eq!(vcpu.answer(), addr + 1, "the answer to this access");
        }
    });
    serve(&server, &xen, total, clear);
    other.join().expect("the vCPU ends");
}

#[test]
fn each_access_is_answered_with_its_own_answer() {
    check(BOUND, Flaws::NONE, |weak| accesses(weak, 2, Clear::BeforeLooking));
}

#[test]
#[should_panic(expected = "deadlock")]
fn events_that_are_cleared_after_looking_strand_a_vcpu() {
    check(BOUND, Flaws::NONE, |weak| accesses(weak, 2, Clear::AfterLooking));
}

#[test]
#[should_panic(expected = "Causality violation")]
fn without_order_an_access_is_read_before_it_is_written() {
    check(BOUND, Flaws::NO_ORDER, |weak| accesses(weak, 1, Clear::BeforeLooking));
}
