//! A guest that grants its memory.

use super::*;
use crate::blk::rings::GrantedQueues;
use crate::mmio::regs;
use kernel::granted::GRANT_BIT;

const SIZE: u16 = 64;

/// A device, its driver, and the guest's grants.
struct Granting {
    rig: Rig,
    mem: GrantedMemory,
}

impl Granting {
    fn uninitialised(queues: u16) -> Granting {
        let mem = TestMemory::new(0x40_0000);
        let granted = GrantedMemory::new(mem.clone());
        let keeper = Rc::new(granted.clone());
        let grants = Some(GrantedQueues { keeper, size: SIZE, seg_max: 30 });
        let mut rig =
            Rig::of(Faults::default(), &DeviceOptions { queues, grants, ..DeviceOptions::default() });
        rig.driver = Driver::new(DirectBus(rig.device.clone()), mem.clone(), 0);
        rig.driver.address_bits = GRANT_BIT;
        rig.mem = mem;
        Granting { rig, mem: granted }
    }

    fn new(wanted: u64) -> Granting {
        let mut granting = Granting::uninitialised(1);
        granting.rig.driver.init(wanted, SIZE);
        granting
    }

    fn ask(&mut self, request: &BlkRequest, framing: &Framing) -> Option<Answer> {
        self.rig.driver.submit(request, framing);
        self.rig.driver.kick();
        while self.rig.device.borrow_mut().process(&self.mem) {}
        let _ = self.rig.device.borrow_mut().enable_notifications(&self.mem);
        self.rig.driver.next_used().map(|(_, answer)| answer)
    }

    fn write(&mut self, sector: u64, data: &[u8], framing: &Framing) -> Option<Answer> {
        self.ask(&BlkRequest { kind: T_OUT, sector, out: data.to_vec(), in_len: 0 }, framing)
    }

    fn read(&mut self, sector: u64, len: usize, framing: &Framing) -> Option<Answer> {
        self.ask(&read_request(sector, len), framing)
    }

    fn works(&mut self) {
        let data = bytes(4096, 3);
        assert_eq!(self.write(8, &data, &Framing::Usual).map(|answer| answer.status), Some(S_OK));
        let answer = self.read(8, 4096, &Framing::Usual).expect("an answer");
        assert_eq!((answer.status, &answer.data[..]), (S_OK, &data[..]));
    }
}

#[test]
fn access_platform_is_offered_exactly_to_a_guest_that_grants() {
    assert_eq!(Rig::uninitialised(false).driver.offered() & F_ACCESS_PLATFORM, 0);
    assert_ne!(Granting::uninitialised(1).rig.driver.offered() & F_ACCESS_PLATFORM, 0);
}

#[test]
fn segments_are_pages_and_queues_as_the_grants_allow() {
    let mut granting = Granting::uninitialised(2);
    let driver = &mut granting.rig.driver;
    assert_eq!(driver.read(regs::CONFIG + 8), 4096);
    assert_eq!(driver.read(regs::CONFIG + 12), 30);
    assert_eq!(driver.read(regs::QUEUE_SIZE_MAX), u32::from(SIZE));
    driver.negotiate(ALL);
    let desc = driver.desc(0) | GRANT_BIT;
    for (register, value) in [
        (regs::QUEUE_SIZE, 2 * u32::from(SIZE)),
        (regs::QUEUE_DESC_LOW, (desc & 0xffff_ffff) as u32),
        (regs::QUEUE_DESC_HIGH, (desc >> 32) as u32),
        (regs::QUEUE_READY, 1),
    ] {
        driver.write(register, value);
    }
    assert_eq!(driver.read(regs::QUEUE_READY), 0, "larger than it may be");
    assert_eq!(granting.mem.kept(), 0);
}

#[test]
fn data_come_and_go_in_any_framing_with_and_without_indirect_tables() {
    for wanted in [ALL, ALL & !F_INDIRECT_DESC] {
        let mut granting = Granting::new(wanted);
        for (seed, framing) in
            (1..).zip([Framing::Usual, Framing::Pieces(vec![1000, 7, 4096]), Framing::Pieces(vec![513])])
        {
            let data = bytes(4096, seed);
            assert_eq!(granting.write(16, &data, &framing).map(|answer| answer.status), Some(S_OK));
            let answer = granting.read(16, 4096, &framing).expect("an answer");
            assert_eq!((answer.status, &answer.data[..]), (S_OK, &data[..]));
        }
    }
}

#[test]
fn rings_are_kept_while_their_queue_is_ready_and_not_a_moment_longer() {
    let mut granting = Granting::uninitialised(2);
    granting.rig.driver.init_queues(ALL, SIZE, 2);
    assert_eq!(granting.mem.kept(), 6, "three parts of two queues");
    granting.rig.driver.queue = 0;
    granting.works();
    granting.rig.driver.write(regs::QUEUE_SEL, 1);
    granting.rig.driver.write(regs::QUEUE_READY, 0);
    assert_eq!(granting.mem.kept(), 3, "let go before the answer");
    granting.works();
    granting.rig.driver.write(regs::STATUS, 0);
    assert_eq!(granting.mem.kept(), 0);
    // A real guest ends the grants now.
    granting.mem.revoke(granting.rig.driver.desc(0));
    while granting.rig.device.borrow_mut().process(&granting.mem) {}
}

#[test]
fn a_reset_during_requests_lets_go_at_once_and_touches_nothing_later() {
    let mut granting = Granting::new(ALL);
    for sector in 0..8 {
        granting.rig.driver.submit(&read_request(sector, 512), &Framing::Usual);
    }
    granting.rig.driver.kick();
    granting.rig.driver.write(regs::STATUS, 0);
    assert_eq!(granting.mem.kept(), 0);
    let before = granting.rig.mem.device_writes();
    while granting.rig.device.borrow_mut().process(&granting.mem) {}
    assert_eq!(granting.rig.mem.device_writes(), before);
    granting.rig.driver.init(ALL, SIZE);
    granting.works();
}

#[test]
fn a_page_that_was_taken_back_fails_its_request_and_no_other() {
    let mut granting = Granting::new(ALL);
    let driver = &mut granting.rig.driver;
    let (header, data, status) = (driver.alloc(16), driver.alloc(3 * 4096) + 4096, driver.alloc(1));
    granting.rig.mem.poke(header, &[T_IN.to_le_bytes(), [0; 4], [0; 4], [0; 4]].concat());
    granting.mem.revoke(data);
    granting.rig.driver.add(vec![(header, 16)], vec![(data, 512), (status, 1)]);
    granting.rig.driver.kick();
    while granting.rig.device.borrow_mut().process(&granting.mem) {}
    let (_, answer) = granting.rig.driver.next_used().expect("an answer");
    assert_eq!(answer.status, S_IOERR);
    assert!(!granting.rig.needs_reset());
    // The next buffers lie behind the page.
    granting.rig.driver.alloc(8192);
    granting.works();
}

#[test]
fn rings_that_are_no_grants_or_not_granted_need_a_reset_and_keep_nothing() {
    for bare in [true, false] {
        let mut granting = Granting::uninitialised(1);
        let used = granting.rig.driver.used(0);
        if bare {
            granting.rig.driver.address_bits = 0;
        } else {
            granting.mem.revoke(used);
        }
        granting.rig.driver.negotiate(ALL);
        let bits = granting.rig.driver.address_bits;
        let parts = [granting.rig.driver.desc(0), granting.rig.driver.avail(0), used].map(|addr| addr | bits);
        let driver = &mut granting.rig.driver;
        driver.write(regs::QUEUE_SIZE, SIZE.into());
        let registers = [regs::QUEUE_DESC_LOW, regs::QUEUE_DRIVER_LOW, regs::QUEUE_DEVICE_LOW];
        for (register, addr) in registers.into_iter().zip(parts) {
            driver.write(register, (addr & 0xffff_ffff) as u32);
            driver.write(register + 4, (addr >> 32) as u32);
        }
        driver.write(regs::QUEUE_READY, 1);
        assert!(granting.rig.needs_reset());
        assert_eq!(granting.mem.kept(), 0, "all parts or none");
        granting.rig.driver.write(regs::STATUS, 0);
        assert_eq!(granting.mem.kept(), 0);
    }
}

/// A disk that works over pages: xen-blkback's part is played.
#[test]
fn a_pv_disk_s_pages_are_copied_before_anybody_is_told() {
    use crate::storage::{AnyStorage, PvDisk};
    use drivers::fake::{BlkBack, BlkBackConfig, XenStored};
    use drivers::{BlkFront, Xenstore};
    use kernel::fake::FakeXen;
    use kernel::{DomId, Hypervisor};

    struct PvBus(Rc<RefCell<Device<AnyStorage<FakeXen>>>>);
    impl Bus for PvBus {
        fn access(&mut self, access: Access) -> u64 {
            self.0.borrow_mut().access(access).0
        }
    }

    let xen = FakeXen::new(DomId(7));
    xen.set_target(DomId(5), 1);
    let store = XenStored::start(&xen);
    let _back =
        BlkBack::attach(&xen, &store, 51712, BlkBackConfig { sectors: 8192, ..BlkBackConfig::default() });
    let mut xs = Xenstore::new(&xen).expect("a xenstore");
    let front = BlkFront::connect(&xen, &mut xs, 51712, 64).expect("connects");
    let port = front.port();
    let plain = TestMemory::new(0x40_0000);
    let mem = GrantedMemory::new(plain.clone());
    let grants = Some(GrantedQueues { keeper: Rc::new(mem.clone()), size: SIZE, seg_max: 30 });
    let storage = AnyStorage::Pv(alloc::boxed::Box::new(PvDisk::new(front, None)));
    let device = Device::new(storage, &DeviceOptions { grants, ..DeviceOptions::default() });
    let device = Rc::new(RefCell::new(device));
    let mut driver = Driver::new(PvBus(device.clone()), plain.clone(), 0);
    driver.address_bits = GRANT_BIT;
    driver.init(ALL & !F_CONFIG_WCE, SIZE);
    let serve = || {
        for _ in 0..8 {
            while device.borrow_mut().process(&mem) {}
            let _ = device.borrow_mut().enable_notifications(&mem);
            xen.evtchn_take_pending(port);
            let _ = xen.poll(&[port], Some(0));
        }
    };
    let ask = |driver: &mut Driver<PvBus>, request: &BlkRequest, framing: &Framing| {
        driver.submit(request, framing);
        driver.kick();
        serve();
        driver.next_used().expect("an answer").1
    };
    for (seed, framing) in (1..).zip([Framing::Usual, Framing::Pieces(vec![4096, 100])]) {
        let data = bytes(3 * 4096, seed);
        let write = BlkRequest { kind: T_OUT, sector: 16, out: data.clone(), in_len: 0 };
        assert_eq!(ask(&mut driver, &write, &framing).status, S_OK);
        let answer = ask(&mut driver, &read_request(16, 3 * 4096), &framing);
        assert_eq!((answer.status, &answer.data[..]), (S_OK, &data[..]));
    }
    // A page that is gone: neither a read nor a write passes over it, and the disk goes on.
    driver.alloc(8192);
    let first = driver.alloc(0).next_multiple_of(4096) + 4096;
    mem.revoke(first);
    for kind in [T_IN, T_OUT] {
        let (header, status) = (driver.alloc(16), driver.alloc(1));
        plain.poke(header, &[kind.to_le_bytes(), [0; 4], [0; 4], [0; 4]].concat());
        let data = (first - 512, 1024);
        if kind == T_IN {
            driver.add(vec![(header, 16)], vec![data, (status, 1)]);
        } else {
            driver.add(vec![(header, 16), data], vec![(status, 1)]);
        }
        driver.kick();
        serve();
        assert_eq!(driver.next_used().expect("an answer").1.status, S_IOERR, "type {kind}");
        assert_eq!(driver.read(STATUS) & 0x40, 0);
    }
}
