//! The client and a host at the other end of a fake network.

mod answers;
mod dhcp;
mod gateway;
mod ipv6;
mod nbd_over_tcp;
mod offloads;
mod seed;

use crate::fake::{Application, FarHost, Faults, Link};
use crate::{Address, IpAddr, Ipv4Addr, Ipv6Addr, Network, SocketAddr, TX_BUFFER_BYTES, TcpClient, TcpState};
use drivers::NetFront;
use drivers::fake::{NetBack, RxForm, XenStored};
use drivers::netfront::FRAME_MAX_BYTES;
use drivers::xenstore::Xenstore;
use kernel::fake::FakeXen;
use kernel::{DomId, Hypervisor};
use proptest::prelude::*;
use std::vec::Vec;

const ADDRESS: Address =
    Address { ours: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7)), prefix_bits: 24, gateway: None };
const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 5)), 10809);
const ADDRESS_6: Address =
    Address { ours: IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 7)), prefix_bits: 64, gateway: None };
const SERVER_6: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 5)), 10809);

/// Sends back what comes.
#[derive(Default)]
struct Echo {
    bytes: Vec<u8>,
    opened: u32,
    received: usize,
}

impl Application for Echo {
    fn open(&mut self) {
        self.bytes.clear();
        self.opened += 1;
    }

    fn receive(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.received += bytes.len();
    }

    fn send(&mut self, max: usize) -> Vec<u8> {
        let count = max.min(self.bytes.len());
        self.bytes.drain(..count).collect()
    }
}

struct Machine {
    xen: FakeXen,
    xs: Xenstore<FakeXen>,
    back: NetBack,
    host: FarHost<Echo>,
    client: TcpClient<FakeXen>,
}

impl Machine {
    fn new(address: Address, server: SocketAddr) -> Machine {
        Machine::with_mtu(address, server, 1500)
    }

    fn with_mtu(address: Address, server: SocketAddr, mtu: u16) -> Machine {
        Machine::at(address, server, |_, back| {
            back.set_mtu(mtu);
            back.reattach(DomId(0));
            Link::far(back)
        })
    }

    /// With what `link` makes of the interface's nodes and of netback.
    fn at(address: Address, server: SocketAddr, link: impl FnOnce(&XenStored, &NetBack) -> Link) -> Machine {
        Machine::of((Some(address), SEED), server, link)
    }

    /// An address, and what its connections begin with. `None`: it is to be leased.
    fn of(
        (address, seed): (Option<Address>, u64),
        server: SocketAddr,
        link: impl FnOnce(&XenStored, &NetBack) -> Link,
    ) -> Machine {
        let xen = FakeXen::new(DomId(5));
        let store = XenStored::start(&xen);
        let back = NetBack::attach(&xen, &store, 0);
        let link = link(&store, &back);
        let mut xs = Xenstore::new(&xen).unwrap();
        let front = NetFront::connect(&xen, &mut xs, 0).unwrap();
        let client = TcpClient::new(&Network::new(&xen, front, address, seed), server);
        let at = if address.is_some_and(|address| address.ours.is_ipv6()) { SERVER_6 } else { SERVER };
        let host = FarHost::start_at(&xen, link, at.ip(), 10809, Echo::default());
        Machine { xen, xs, back, host, client }
    }

    /// As the main loop does, until `done` or for so long; whether it was done.
    fn run(&mut self, time_ns: u64, mut done: impl FnMut(&mut TcpClient<FakeXen>) -> bool) -> bool {
        let end_ns = self.xen.now_ns() + time_ns;
        while self.xen.now_ns() < end_ns {
            self.xs.poll_events().unwrap();
            while let Some(event) = self.xs.next_event() {
                self.client.network().on_watch(&mut self.xs, &event.path).unwrap();
            }
            self.client.network().service(&mut self.xs);
            self.client.network().poll();
            if done(&mut self.client) {
                return true;
            }
            if self.client.network().enable_events() {
                continue;
            }
            let due_ns = self.client.network().due_ns().unwrap_or(end_ns).min(end_ns);
            let ports: Vec<_> = self.client.network().port().into_iter().chain([self.xs.port()]).collect();
            self.xen.poll(&ports, Some(due_ns)).unwrap();
            for port in ports {
                self.xen.evtchn_take_pending(port);
            }
        }
        false
    }

    fn open(&mut self) {
        self.client.open();
        assert!(self.run(SECOND_NS, |client| client.state() == TcpState::Open), "it opens");
    }

    /// Sends the bytes and returns as many that come back, if they do in that time.
    fn echo(&mut self, bytes: &[u8], time_ns: u64) -> Option<Vec<u8>> {
        let mut rest = bytes;
        let mut back = Vec::new();
        let done = self.run(time_ns, |client| {
            let now = rest.len().min(client.send_room()).min(60_000);
            let (part, later) = rest.split_at(now);
            assert!(client.send(part));
            rest = later;
            client.network().poll();
            client.receive(|bytes| {
                back.extend_from_slice(bytes);
                bytes.len()
            });
            back.len() >= bytes.len()
        });
        done.then_some(back)
    }
}

const SECOND_NS: u64 = 1_000_000_000;
const SEED: u64 = 0x1234_5678_9abc_def0;

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from((at + at / 1000) % 251).unwrap()).collect()
}

#[test]
fn bytes_go_and_come() {
    let mut machine = Machine::new(ADDRESS, SERVER);
    assert_eq!(machine.client.state(), TcpState::Closed);
    assert_eq!((machine.client.send_room(), machine.client.send(b"x")), (0, false), "there is no connection");
    machine.open();
    assert_eq!(machine.client.send_room(), TX_BUFFER_BYTES);
    let bytes = pattern(1_000_000);
    assert!(machine.echo(&bytes, 10 * SECOND_NS).unwrap() == bytes);
    assert_eq!(machine.host.with(|echo| echo.opened), 1);
}

#[test]
fn frames_are_as_long_as_the_mtu_allows() {
    for (mtu, longest) in [(576, 590), (1500, 1514), (4000, 4014), (9000, 9014)] {
        let mut machine = Machine::with_mtu(ADDRESS, SERVER, mtu);
        machine.open();
        let bytes = pattern(1_000_000);
        assert!(machine.echo(&bytes, 10 * SECOND_NS).unwrap() == bytes, "{mtu}");
        assert_eq!(machine.host.longest_frame(), longest, "{mtu}");
    }
}

#[test]
fn the_next_netback_may_have_another_mtu() {
    for (first, then) in [(9000, 1500), (1500, 9000)] {
        let mut machine = Machine::with_mtu(ADDRESS, SERVER, first);
        machine.open();
        machine.back.set_mtu(then);
        machine.back.reattach(DomId(0));
        // The connection stands, and so may its longest segment: a server may well send more than we take.
        machine.run(SECOND_NS, |client| client.network().port().is_none());
        assert!(machine.run(10 * SECOND_NS, |client| client.network().port().is_some()));
        let bytes = pattern(100_000);
        let mut rest = bytes.as_slice();
        let before = machine.host.with(|echo| echo.received);
        assert!(machine.run(10 * SECOND_NS, |client| {
            let (part, later) = rest.split_at(rest.len().min(client.send_room()));
            assert!(client.send(part));
            rest = later;
            client.network().poll();
            client.send_room() == TX_BUFFER_BYTES && rest.is_empty()
        }));
        assert_eq!(machine.host.with(|echo| echo.received) - before, bytes.len(), "{first}, {then}");
    }
}

#[test]
fn a_send_is_all_or_nothing() {
    let mut machine = Machine::new(ADDRESS, SERVER);
    machine.open();
    assert!(!machine.client.send(&pattern(TX_BUFFER_BYTES + 1)));
    assert_eq!(machine.client.send_room(), TX_BUFFER_BYTES);
    assert!(machine.client.send(&pattern(TX_BUFFER_BYTES)));
    assert_eq!((machine.client.send_room(), machine.client.send(b"x")), (0, false));
}

#[test]
fn what_is_not_taken_stays() {
    let mut machine = Machine::new(ADDRESS, SERVER);
    machine.open();
    assert!(machine.client.send(b"abcdef"));
    assert!(machine.run(SECOND_NS, |client| client.received() == 6));
    machine.client.receive(|_| 0);
    let mut seen = Vec::new();
    machine.client.receive(|bytes| {
        seen.push(bytes[0]);
        1
    });
    assert_eq!(seen, b"abcdef");
}

#[test]
fn a_refused_connection_is_closed() {
    let mut machine = Machine::new(ADDRESS, SERVER);
    machine.host.listen(false);
    machine.client.open();
    assert_eq!(machine.client.state(), TcpState::Opening);
    assert!(machine.run(SECOND_NS, |client| client.state() == TcpState::Closed));
    machine.host.listen(true);
    machine.open();
}

#[test]
fn nobody_there_is_closed_after_a_while() {
    let mut machine = Machine::new(ADDRESS, SocketAddr::new(Ipv4Addr::new(10, 0, 0, 99).into(), 10809));
    machine.client.open();
    assert!(!machine.run(10 * SECOND_NS, |client| client.state() == TcpState::Closed));
    assert!(machine.run(10 * SECOND_NS, |client| client.state() == TcpState::Closed));
}

#[test]
fn a_connection_that_the_server_ends_can_be_read_to_its_end() {
    let mut machine = Machine::new(ADDRESS, SERVER);
    machine.open();
    assert!(machine.client.send(b"abc"));
    assert!(machine.run(SECOND_NS, |client| client.received() == 3));
    let first_port = machine.host.client_port().unwrap();
    machine.host.close();
    assert!(machine.run(SECOND_NS, |client| client.state() == TcpState::Ending));
    let mut count = 0;
    machine.client.receive(|bytes| {
        count += bytes.len();
        bytes.len()
    });
    assert_eq!(count, 3);
    machine.open();
    assert!(machine.echo(b"again", SECOND_NS).is_some());
    assert_ne!(machine.host.client_port(), Some(first_port), "the server may still know the first");
    assert_eq!(machine.host.connections(), 2);
}

#[test]
fn a_dead_server_is_noticed() {
    for idle in [false, true] {
        let mut machine = Machine::new(ADDRESS, SERVER);
        machine.open();
        machine.host.set_faults(Faults { is_cut: true, ..Faults::default() });
        if !idle {
            assert!(machine.client.send(b"abc"));
        }
        assert!(machine.run(40 * SECOND_NS, |client| client.state() == TcpState::Closed), "idle: {idle}");
    }
}

#[test]
fn an_idle_connection_stays_open() {
    let mut machine = Machine::new(ADDRESS, SERVER);
    machine.open();
    let mut rounds = 0;
    assert!(!machine.run(60 * SECOND_NS, |client| {
        rounds += 1;
        client.state() != TcpState::Open
    }));
    // Every 5 s the keep-alive, and its answer.
    assert!(rounds < 30, "{rounds}");
}

#[test]
fn the_connection_outlives_a_restarted_netback() {
    let mut machine = Machine::new(ADDRESS, SERVER);
    machine.open();
    assert!(machine.echo(b"before", SECOND_NS).is_some());
    machine.back.unbind();
    machine.back.set_node("state", "5");
    machine.run(SECOND_NS / 10, |client| client.network().port().is_none());
    assert_eq!(machine.client.network().port(), None);
    assert!(machine.client.send(b"after"), "it waits in the buffer");
    machine.back.bind();
    machine.back.set_node("state", "6");
    let mut back = Vec::new();
    assert!(machine.run(10 * SECOND_NS, |client| {
        client.receive(|bytes| {
            back.extend_from_slice(bytes);
            bytes.len()
        });
        back == b"after"
    }));
    assert_eq!((machine.host.connections(), machine.back.connections()), (1, 2));
}

#[test]
fn a_new_connection_begins_with_nothing_of_the_old_one() {
    let mut machine = Machine::new(ADDRESS, SERVER);
    machine.open();
    assert!(machine.client.send(&pattern(100_000)));
    machine.run(SECOND_NS / 100, |client| client.received() > 0);
    machine.open();
    assert_eq!((machine.client.received(), machine.client.send_room()), (0, TX_BUFFER_BYTES));
    assert!(machine.echo(b"fresh", SECOND_NS).unwrap() == b"fresh");
}

#[test]
fn a_netback_that_sends_nothing_does_not_keep_us_awake() {
    let mut machine = Machine::new(ADDRESS, SERVER);
    machine.open();
    machine.back.hold_tx(true);
    // The window grows with each answer, until all pages of netfront are out.
    for _ in 0..100 {
        let room = machine.client.send_room();
        assert!(machine.client.send(&pattern(room)));
        machine.run(SECOND_NS / 100, |_| false);
    }
    machine.back.deliver(&[0xff; 60]);
    machine.xen.run_peers(10);
    assert!(machine.client.network().frames() > 0, "a frame waits");
    machine.client.network().poll();
    assert!(machine.client.network().frames() > 0, "it stays: an answer to it could not be sent");
    assert!(!machine.client.network().enable_events());
    assert!(machine.client.network().due_ns().unwrap() > machine.xen.now_ns());
}

#[test]
fn a_retransmission_waits_for_room_and_is_not_lost() {
    // With frames of a page each, so that the last one can be taken.
    let mut machine = Machine::at(ADDRESS, SERVER, |_, back| {
        back.set_node("feature-sg", "0");
        Link::far(back)
    });
    machine.open();
    assert!(machine.echo(&pattern(100_000), SECOND_NS).is_some());
    let send = |machine: &mut Machine| {
        assert!(machine.client.send(b"x"));
        machine.client.network().send_frames();
        machine.xen.run_peers(10);
    };
    machine.host.set_faults(Faults { is_cut: true, ..Faults::default() });
    send(&mut machine);
    machine.host.set_faults(Faults::default());
    // The server says three times and more that it lacks the first.
    (0..5).for_each(|_| send(&mut machine));
    // Behind that somebody asks for our address. The answer will take the last page.
    let mut question = std::vec![0xff; 6];
    question.extend([2, 0, 0, 0, 0, 9, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 9, 10, 0, 0, 5]);
    question.extend([0, 0, 0, 0, 0, 0, 10, 0, 0, 7]);
    machine.back.deliver(&question);
    machine.xen.run_peers(10);
    let has_room = |machine: &Machine, frames| {
        machine.client.network().stack().device.up_mut().expect("connected").has_room(frames)
    };
    machine.back.hold_tx(true);
    let mut sent = 6;
    while has_room(&machine, 2) {
        send(&mut machine);
        sent += 1;
    }
    machine.client.network().poll();
    assert!(!has_room(&machine, 1));
    machine.back.hold_tx(false);
    assert!(machine.run(10 * SECOND_NS, |client| client.received() == sent), "the connection hangs");
}

#[test]
fn a_new_connection_asks_again_who_has_the_address() {
    let mut machine = Machine::new(ADDRESS, SERVER);
    machine.open();
    // An answer of ARP, for us: somebody else has the server's address.
    let ours = machine.client.network().stack().mac;
    let theirs = [2, 0, 0, 0, 0, 0x66];
    let kind = [8, 6, 0, 1, 8, 0, 6, 4, 0, 2];
    let answer = [&ours[..], &theirs, &kind, &theirs, &[10, 0, 0, 5], &ours, &[10, 0, 0, 7]].concat();
    machine.back.deliver(&answer);
    machine.run(SECOND_NS, |_| false);
    assert!(machine.echo(b"nobody hears", 2 * SECOND_NS).is_none(), "it goes to somebody else");
    // The host has one connection at a time, and nobody told it of that one's end.
    machine.host.listen(true);
    machine.run(SECOND_NS, |_| false);
    machine.open();
    assert!(machine.echo(b"again", SECOND_NS).is_some());
}

#[test]
fn frames_of_any_content_are_survived() {
    for mtu in [1500, 9000] {
        let mut machine = Machine::with_mtu(ADDRESS, SERVER, mtu);
        machine.open();
        for len in 14..200 {
            machine.back.deliver(&pattern(len));
            let mut broadcast = std::vec![0xff; len];
            broadcast[12..14].copy_from_slice(&[8, if len % 2 == 0 { 0 } else { 6 }]);
            machine.back.deliver(&broadcast);
        }
        machine.back.deliver(&std::vec![0; 14 + usize::from(mtu)]);
        machine.back.deliver_as(&std::vec![0; FRAME_MAX_BYTES], RxForm::of_the_host(Some(1448)));
        assert!(machine.echo(b"still here", SECOND_NS).unwrap() == b"still here");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    /// Whatever the network loses and however slowly the server reads: the bytes are the same.
    #[test]
    fn bytes_survive_losses(
        lose_every in 8u64..40,
        reads_at_once in prop::option::of(100usize..5000),
        len in 1usize..200_000,
    ) {
        let mut machine = Machine::new(ADDRESS, SERVER);
        machine.open();
        machine.host.set_faults(Faults { lose_every: Some(lose_every), reads_at_once, ..Faults::default() });
        let bytes = pattern(len);
        let back = machine.echo(&bytes, 3000 * SECOND_NS);
        prop_assert!(back.is_some_and(|back| back == bytes));
    }
}
