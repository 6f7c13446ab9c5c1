//! A DHCP server on the client's network, which is not always honest.

use super::*;
use crate::fake::dhcp::{GOOD, Offer, answer};
use alloc::boxed::Box;
use alloc::rc::Rc;
use core::cell::RefCell;

/// A machine without an address, and what the server on its network offers, and how often it was asked.
fn machine(offer: Offer) -> (Machine, Rc<RefCell<Offer>>, Rc<RefCell<u32>>) {
    let machine = Machine::of((None, SEED), SERVER, |_, back| Link::far(back));
    let (offer, count) = (Rc::new(RefCell::new(offer)), Rc::new(RefCell::new(0)));
    let (of, counted) = (offer.clone(), count.clone());
    machine.host.set_neighbor(Box::new(move |frame| {
        let answer = answer(frame, &of.borrow());
        *counted.borrow_mut() += u32::from(answer.is_some());
        answer.filter(|_| of.borrow().answers).into_iter().collect()
    }));
    (machine, offer, count)
}

fn leased(client: &TcpClient<FakeXen>) -> Option<IpAddr> {
    client.network().address().map(|address| address.ours)
}

#[test]
fn a_connection_has_the_address_that_is_leased() {
    let (mut machine, ..) = machine(GOOD);
    machine.client.open();
    assert_eq!(machine.client.state(), TcpState::Closed, "there is no address yet");
    assert!(machine.run(SECOND_NS, |client| leased(client) == Some(GOOD.ours.into())));
    machine.open();
    assert!(machine.echo(b"hello", SECOND_NS).unwrap() == b"hello");
}

#[test]
fn a_server_on_another_network_is_reached_by_the_leased_router() {
    let router = Some(Ipv4Addr::new(10, 0, 0, 5));
    let (mut machine, ..) = machine(Offer { router, ..GOOD });
    assert!(machine.run(SECOND_NS, |client| leased(client).is_some()));
    assert_eq!(machine.client.network().address().unwrap().gateway, router.map(Into::into));
}

#[test]
fn nobody_answers_and_it_is_asked_once_a_second() {
    let (mut machine, offer, count) = machine(Offer { answers: false, ..GOOD });
    assert!(!machine.run(10 * SECOND_NS, |client| leased(client).is_some()));
    assert!((9..13).contains(&*count.borrow()), "{}", count.borrow());
    offer.borrow_mut().answers = true;
    assert!(machine.run(2 * SECOND_NS, |client| leased(client).is_some()));
}

#[test]
fn a_lease_is_renewed_and_the_connection_stands() {
    let (mut machine, ..) = machine(GOOD);
    assert!(machine.run(SECOND_NS, |client| leased(client).is_some()));
    machine.open();
    machine.run(2000 * SECOND_NS, |_| false);
    assert!(machine.echo(b"still", SECOND_NS).is_some());
    assert_eq!(machine.host.connections(), 1);
}

#[test]
fn another_address_ends_the_connection_and_the_next_one_has_it() {
    let (mut machine, offer, _) = machine(GOOD);
    assert!(machine.run(SECOND_NS, |client| leased(client).is_some()));
    machine.open();
    offer.borrow_mut().ours = Ipv4Addr::new(10, 0, 0, 8);
    assert!(machine.run(600 * SECOND_NS, |client| client.state() == TcpState::Closed));
    assert_eq!(leased(&machine.client), Some(Ipv4Addr::new(10, 0, 0, 8).into()));
    // The host has one connection at a time, and nobody told it of that one's end.
    machine.host.listen(true);
    machine.open();
    assert!(machine.echo(b"moved", SECOND_NS).is_some());
}

#[test]
fn an_address_is_used_no_longer_than_it_is_leased() {
    let (mut machine, offer, _) = machine(GOOD);
    assert!(machine.run(SECOND_NS, |client| leased(client).is_some()));
    machine.open();
    offer.borrow_mut().answers = false;
    let began_ns = machine.xen.now_ns();
    assert!(machine.run(700 * SECOND_NS, |client| leased(client).is_none()));
    assert!((599..602).contains(&((machine.xen.now_ns() - began_ns) / SECOND_NS)));
    assert_eq!(machine.client.state(), TcpState::Closed);
    machine.client.open();
    assert_eq!(machine.client.state(), TcpState::Closed);
    offer.borrow_mut().answers = true;
    assert!(machine.run(3 * SECOND_NS, |client| leased(client).is_some()));
    machine.host.listen(true);
    machine.open();
}

#[test]
fn a_lease_of_no_use_is_none_and_does_no_harm() {
    let zero = Ipv4Addr::UNSPECIFIED;
    let of = |text: &str| text.parse::<Ipv4Addr>().unwrap();
    for (what, offer) in [
        ("no mask", Offer { mask: None, ..GOOD }),
        ("a mask of no bits", Offer { mask: Some(zero), ..GOOD }),
        ("a mask with a hole", Offer { mask: Some(of("255.0.255.0")), ..GOOD }),
        ("nobody's address", Offer { ours: zero, ..GOOD }),
        ("everybody's address", Offer { ours: of("255.255.255.255"), ..GOOD }),
        ("a group's address", Offer { ours: of("224.0.0.1"), ..GOOD }),
        ("its own machine's address", Offer { ours: of("127.0.0.1"), ..GOOD }),
        ("the network's address", Offer { ours: of("10.0.0.0"), ..GOOD }),
        ("a server that is nobody", Offer { from: zero, ..GOOD }),
        ("a server that is nobody, near", Offer { from: zero, mask: Some(of("128.0.0.0")), ..GOOD }),
        ("a refusal", Offer { refuses: true, ..GOOD }),
    ] {
        let (mut machine, offer, count) = machine(offer);
        assert!(!machine.run(5 * SECOND_NS, |client| leased(client).is_some()), "{what}");
        assert!((2..30).contains(&*count.borrow()), "{what}: asked {} times", count.borrow());
        *offer.borrow_mut() = GOOD;
        assert!(machine.run(20 * SECOND_NS, |client| leased(client).is_some()), "{what}");
    }
}

#[test]
fn a_lease_of_no_time_and_a_router_that_is_none_do_no_harm() {
    let of = |text: &str| Some(text.parse::<Ipv4Addr>().unwrap());
    for lease_s in [Some(0), Some(1), Some(u32::MAX), None] {
        for router in [of("0.0.0.0"), of("255.255.255.255"), of("224.0.0.1"), of("10.0.0.7"), of("10.9.0.1")]
        {
            let (mut machine, offer, _) = machine(Offer { lease_s, router, ..GOOD });
            machine.client.open();
            machine.run(SECOND_NS, |_| false);
            machine.client.open();
            machine.run(SECOND_NS, |_| false);
            *offer.borrow_mut() = GOOD;
            assert!(machine.run(20 * SECOND_NS, |client| leased(client).is_some()), "{lease_s:?} {router:?}");
        }
    }
}
