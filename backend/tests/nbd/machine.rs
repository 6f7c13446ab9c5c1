//! A whole machine on the host: Xen, xenstored, netback, an NBD server behind it, the stub and its guest.

use crate::common::{GUEST, PV_IRQ, PV_MMIO, STUB, slot_state, take_answer};
use backend::access::{Access, Direction};
use backend::blk::{Device, DeviceOptions};
use backend::event_loop::{EventLoop, housekeeping};
use backend::mmio::regs;
use backend::storage::{AnyStorage, NbdDisk, NbdOptions, NbdReason};
use backend::stub::{Attached, Stub};
use backend::testkit::{Answer, BlkRequest, Bus, Driver, Framing, TestMemory};
use drivers::fake::{NetBack, XenStored};
use drivers::{NetFront, Xenstore};
use kernel::Hypervisor;
use kernel::fake::{Event, FakeXen, GuestAccess};
use nbd::fake::{Server, ServerConfig};
use net::fake::{Application, FarHost};
use net::{Address, IpAddr, Ipv4Addr, Network, SocketAddr};
use std::cell::RefCell;
use std::rc::Rc;
use xen_pv_sys::dm_op::ioreq;

pub const SECOND_NS: u64 = 1_000_000_000;
/// Without an answer for so long, requests fail.
pub const TIMEOUT_NS: u64 = 60 * SECOND_NS;
pub const ADDRESS: Address =
    Address { ours: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7)), prefix_bits: 24, gateway: None };
pub const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 5)), 10809);

/// The key, as bytes, and the words by which a stub gets it.
pub const KEY: [u8; 32] = [0x11; 32];

pub fn secrets(identity: &str, key: &[u8]) -> Option<tls::Secrets> {
    let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    tls::Secrets::parse(&format!("{} {key} {identity}", "5a".repeat(32)))
}

/// The server's program: what it serves, and the TLS that it may do.
pub struct Peer {
    pub nbd: Server,
    pub tls: Option<tls::fake::Server>,
    /// It knows a client by this key, under the identity `web`.
    pub key: Vec<u8>,
    /// The next connection's TLS has this misdeed.
    pub misdeed: Option<tls::fake::Misdeed>,
    /// All that was seen on the wire from the client.
    pub seen: Vec<u8>,
    output: Vec<u8>,
}

impl Application for Peer {
    fn open(&mut self) {
        self.nbd.reconnect();
        self.output.clear();
        self.tls = None;
    }

    fn receive(&mut self, bytes: &[u8]) {
        self.seen.extend(bytes);
        let data = self.tls.as_mut().map_or_else(|| bytes.to_vec(), |tls| tls.receive(bytes));
        self.nbd.receive(&data);
        if self.nbd.is_secure() && self.tls.is_none() {
            // Its yes is the last in clear.
            self.output.extend(self.nbd.send(usize::MAX));
            let mut tls = tls::fake::Server::new("web", &self.key);
            if let Some(misdeed) = self.misdeed {
                tls.set_misdeed(misdeed);
            }
            self.tls = Some(tls);
        }
    }

    fn send(&mut self, max: usize) -> Vec<u8> {
        match &mut self.tls {
            None => self.output.extend(self.nbd.send(max)),
            Some(tls) => {
                if tls.is_open() {
                    tls.send(&self.nbd.send(usize::MAX));
                }
                self.output.extend(tls.output());
            }
        }
        let count = max.min(self.output.len());
        self.output.drain(..count).collect()
    }
}

type TestLoop = EventLoop<FakeXen, TestMemory>;

/// The machine without the guest's driver.
pub struct World {
    pub xen: FakeXen,
    pub back: NetBack,
    pub host: FarHost<Peer>,
    event_loop: TestLoop,
    events: Vec<Event>,
}

/// A network with the server on it, and a stub that is not connected yet.
pub struct Lan {
    pub xen: FakeXen,
    pub back: NetBack,
    pub host: FarHost<Peer>,
    pub xs: Xenstore<FakeXen>,
    pub network: Network<FakeXen>,
}

impl Lan {
    pub fn new(config: ServerConfig) -> Lan {
        let xen = FakeXen::new(STUB);
        xen.set_target(GUEST, 1);
        let store = XenStored::start(&xen);
        let back = NetBack::attach(&xen, &store, 0);
        let mut xs = Xenstore::new(&xen).expect("a xenstore");
        let front = NetFront::connect(&xen, &mut xs, 0).expect("a netback");
        let network = Network::new(&xen, front, Some(ADDRESS), 0);
        let nbd = Server::new(config);
        let (key, seen, output) = (KEY.to_vec(), Vec::new(), Vec::new());
        let peer = Peer { nbd, tls: None, key, misdeed: None, seen, output };
        let host = FarHost::start(&xen, &back, SERVER.ip(), SERVER.port(), peer);
        Lan { xen, back, host, xs, network }
    }

    /// Connects within 6 s.
    pub fn connect(&self, options: NbdOptions) -> Result<NbdDisk<FakeXen>, NbdReason> {
        NbdDisk::connect(&self.network, options, self.xen.now_ns() + 6 * SECOND_NS)
    }
}

pub fn options() -> NbdOptions {
    NbdOptions {
        server: SERVER,
        export: "disk".into(),
        writable: true,
        timeout_ns: Some(TIMEOUT_NS),
        secrets: None,
    }
}

pub struct GuestBus(Rc<RefCell<World>>);

impl Bus for GuestBus {
    fn access(&mut self, access: Access) -> u64 {
        let mut world = self.0.borrow_mut();
        let size_bytes = u32::try_from(access.width.bytes()).expect("small");
        let write = match access.direction {
            Direction::Read => None,
            Direction::Write(value) => Some(value),
        };
        let access = GuestAccess { size_bytes, write, ..GuestAccess::read(PV_MMIO + access.addr) };
        let page = world.xen.guest_access(0, access).expect("claimed");
        let before_ns = world.xen.now_ns();
        world.event_loop.stub().run_once();
        assert_eq!(world.xen.now_ns(), before_ns, "no vCPU waits for the network");
        assert_eq!(slot_state(&page, 0), ioreq::STATE_RESP_READY, "answered in one round");
        take_answer(&page, 0)
    }
}

/// The machine with the guest's driver.
pub struct Machine {
    pub world: Rc<RefCell<World>>,
    pub driver: Driver<GuestBus>,
}

impl Machine {
    /// A machine whose driver is set up with all features.
    pub fn ready(config: ServerConfig) -> Machine {
        let mut machine = Machine::new(config, options());
        machine.driver.init(u64::MAX, 256);
        machine
    }

    pub fn new(config: ServerConfig, options: NbdOptions) -> Machine {
        let lan = Lan::new(config);
        let device_options = DeviceOptions { read_only: !options.writable, ..DeviceOptions::default() };
        let disk = lan.connect(options).expect("connects");
        let Lan { xen, back, host, xs, .. } = lan;
        let mem = TestMemory::new(0xc0_0000);
        let device = Device::new(AnyStorage::Nbd(Box::new(disk)), &device_options);
        let devices = vec![Attached { mmio: PV_MMIO, irq: PV_IRQ, device }];
        let stub = Stub::start(&xen, GUEST, mem.clone(), devices).expect("starts");
        let event_loop =
            EventLoop::new(&xen, xs, stub, |xs, stub, _| housekeeping::housekeep(xs, stub, |_, _| ()), 0);
        let world = Rc::new(RefCell::new(World { xen, back, host, event_loop, events: Vec::new() }));
        Machine { driver: Driver::new(GuestBus(world.clone()), mem, 0), world }
    }

    pub fn host(&self) -> FarHost<Peer> {
        self.world.borrow().host.clone()
    }

    /// Works with the server.
    pub fn server<R>(&self, with: impl FnOnce(&mut Server) -> R) -> R {
        self.host().with(|peer| with(&mut peer.nbd))
    }

    /// The event loop, for so long. Returns how often it went round.
    pub fn run_for(&self, time_ns: u64) -> u32 {
        let World { event_loop, xen, .. } = &mut *self.world.borrow_mut();
        let end_ns = xen.now_ns() + time_ns;
        for round in 0..100_000 {
            while event_loop.round() {}
            event_loop.block(Some(end_ns)).expect("good ports");
            // The fake's clock moves only if nothing became pending.
            if xen.now_ns() >= end_ns {
                return round;
            }
        }
        panic!("the stub never comes to rest");
    }

    pub fn submit(&mut self, request: &BlkRequest) -> u16 {
        self.driver.submit(request, &Framing::Usual)
    }

    /// Requests from start to end; each status, in their order. None may take longer than `time_ns`.
    pub fn all(&mut self, requests: &[BlkRequest], time_ns: u64) -> Vec<Answer> {
        let heads: Vec<u16> = requests.iter().map(|request| self.submit(request)).collect();
        self.driver.kick();
        self.run_for(time_ns);
        let answers = self.answers();
        let answer = |head: &u16| answers.iter().find(|(used, _)| used == head).expect("an answer").1.clone();
        heads.iter().map(answer).collect()
    }

    /// One request that is done within a second.
    pub fn ask(&mut self, request: &BlkRequest) -> Answer {
        self.all(core::slice::from_ref(request), SECOND_NS).remove(0)
    }

    /// All answers that have come.
    pub fn answers(&mut self) -> Vec<(u16, Answer)> {
        self.irqs();
        self.driver.want_interrupt(1);
        if self.driver.read(regs::INTERRUPT_STATUS) != 0 {
            self.driver.take_interrupt();
        }
        core::iter::from_fn(|| self.driver.next_used()).collect()
    }

    fn irqs(&self) {
        let world = &mut *self.world.borrow_mut();
        world.events.extend(world.xen.take_events());
    }
}
