//! An NBD client over the connection: what a disk on the network will be.

use super::{ADDRESS, SECOND_NS, SERVER, pattern};
use crate::fake::{FarHost, Faults};
use crate::{Ipv4Addr, Network, TcpClient, TcpState};
use drivers::NetFront;
use drivers::fake::{NetBack, XenStored};
use drivers::xenstore::Xenstore;
use kernel::fake::FakeXen;
use kernel::{DomId, Hypervisor};
use nbd::fake::{Server, ServerConfig};
use nbd::{Client, Command, Event, IoError, Security};
use std::collections::BTreeMap;
use std::vec::Vec;

struct Machine {
    xen: FakeXen,
    host: FarHost<Server>,
    tcp: TcpClient<FakeXen>,
    client: Client,
    ready: bool,
    data: BTreeMap<u64, Vec<u8>>,
    done: BTreeMap<u64, Result<(), IoError>>,
}

impl Machine {
    fn new() -> Machine {
        let xen = FakeXen::new(DomId(5));
        let store = XenStored::start(&xen);
        let back = NetBack::attach(&xen, &store, 0);
        let mut xs = Xenstore::new(&xen).unwrap();
        let front = NetFront::connect(&xen, &mut xs, 0).unwrap();
        let tcp = TcpClient::new(&Network::new(&xen, front, Some(ADDRESS), 0), SERVER);
        let server = Server::new(ServerConfig::default());
        let host = FarHost::start(&xen, &back, Ipv4Addr::new(10, 0, 0, 5), 10809, server);
        let client = Client::new("disk", Security::Plain, 0).unwrap();
        Machine { xen, host, tcp, client, ready: false, data: BTreeMap::new(), done: BTreeMap::new() }
    }

    fn connect(&mut self) {
        self.tcp.open();
        self.client = Client::new("disk", Security::Plain, self.xen.now_ns()).unwrap();
        self.ready = false;
        assert!(self.run(60 * SECOND_NS, |machine| machine.ready), "it gets to the export");
    }

    /// Takes what came, as a storage engine would.
    fn receive(&mut self) {
        let Machine { tcp, client, ready, data, done, .. } = self;
        let mut opening = None;
        tcp.receive(|bytes| {
            let mut rest = bytes;
            while let Some(event) = client.receive(&mut rest).expect("a good server") {
                match event {
                    Event::Greeted => opening = Some(client.opening()),
                    Event::StartTls => unreachable!("nobody asked for it"),
                    Event::Ready(_) => *ready = true,
                    Event::Data { id, bytes, .. } => data.entry(id).or_default().extend(bytes),
                    Event::Done { id, outcome } => assert_eq!(done.insert(id, outcome), None),
                }
            }
            bytes.len() - rest.len()
        });
        if let Some(opening) = opening {
            assert!(tcp.send(&opening));
        }
    }

    fn run(&mut self, time_ns: u64, mut finished: impl FnMut(&mut Machine) -> bool) -> bool {
        let end_ns = self.xen.now_ns() + time_ns;
        while self.xen.now_ns() < end_ns {
            self.tcp.network().poll();
            self.receive();
            if finished(self) {
                return true;
            }
            self.tcp.network().poll();
            if !self.tcp.network().enable_events() {
                let due_ns = self.tcp.network().due_ns().unwrap_or(end_ns).min(end_ns);
                let port = self.tcp.network().port().unwrap();
                self.xen.poll(&[port], Some(due_ns)).unwrap();
                self.xen.evtchn_take_pending(port);
            }
        }
        false
    }

    /// Makes the requests as there is room for them, and waits for all of them.
    fn all(&mut self, requests: &[(u64, Command, Vec<u8>)]) {
        let mut next = requests.iter();
        let mut waiting = next.next();
        let last = self.done.len() + requests.len();
        let finished = self.run(600 * SECOND_NS, |machine| {
            while let Some((id, command, data)) = waiting {
                // A request goes whole, or not yet.
                let room = machine.tcp.send_room() >= 28 + data.len();
                let header = room.then(|| machine.client.submit(*id, *command));
                let Some(Ok(header)) = header else { break };
                assert!(machine.tcp.send(&header) && machine.tcp.send(data));
                waiting = next.next();
            }
            machine.done.len() == last
        });
        assert!(finished, "{} of {last} done, {:?}", self.done.len(), self.tcp.state());
    }

    fn write_and_read(&mut self, first_id: u64) {
        let block =
            |at: u64| pattern(20_000).iter().map(|byte| byte ^ at.to_le_bytes()[0]).collect::<Vec<_>>();
        let len_bytes = 16384;
        let data = |at: u64| block(at)[..len_bytes as usize].to_vec();
        let offset = |at: u64| at * u64::from(len_bytes);
        let write = |at: u64| Command::Write { offset: offset(at), len_bytes, durable: false };
        let writes: Vec<_> = (0..40).map(|at| (first_id + at, write(at), data(at))).collect();
        self.all(&writes);
        let read = |at: u64| Command::Read { offset: offset(at), len_bytes };
        let reads: Vec<_> = (0..40).map(|at| (first_id + 100 + at, read(at), Vec::new())).collect();
        self.all(&reads);
        self.all(&[(first_id + 200, Command::Flush, Vec::new())]);
        assert!(self.done.values().all(Result::is_ok));
        for at in 0..40 {
            assert!(self.data[&(first_id + 100 + at)] == data(at), "block {at}");
        }
        self.host.with(|server| assert!(server.durable[..16384] == data(0)));
    }
}

#[test]
fn a_disk_is_written_and_read() {
    let mut machine = Machine::new();
    machine.connect();
    machine.write_and_read(0);
}

#[test]
fn a_disk_survives_a_network_that_loses_frames() {
    for lose_every in [11, 23] {
        let mut machine = Machine::new();
        machine.host.set_faults(Faults { lose_every: Some(lose_every), ..Faults::default() });
        machine.connect();
        machine.write_and_read(0);
    }
}

#[test]
fn a_lost_connection_is_followed_by_another() {
    let mut machine = Machine::new();
    machine.connect();
    machine.write_and_read(0);
    machine.host.listen(false);
    assert!(machine.run(SECOND_NS, |machine| machine.tcp.state() == TcpState::Closed));
    machine.host.listen(true);
    machine.connect();
    machine.write_and_read(1000);
    assert_eq!(machine.host.connections(), 2);
}
