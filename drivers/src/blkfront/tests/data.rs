//! Data there and back, and requests that cannot be.

use super::*;

#[test]
fn every_length_reads_back_what_was_written() {
    for persistent in [false, true] {
        let mut machine = Machine::new(BlkBackConfig { persistent, ..BlkBackConfig::default() });
        let mut front = machine.connect(64).unwrap();
        // 11 pages go direct, 12 go by a page of segments.
        for sectors in [1, 7, 8, 9, 87, 88, 89, 96, 97, 511, 512] {
            let data = pattern(sectors * 512, 0x5a);
            machine.write(&mut front, 3, &data).unwrap();
            assert_eq!(machine.back.disk().cached[3 * 512..(3 + sectors) * 512], data);
            assert_eq!(machine.read(&mut front, 3, u32::try_from(data.len()).unwrap()), data);
        }
        let counts = machine.back.disk().counts;
        assert_eq!((counts.writes, counts.reads, counts.indirect, counts.malformed), (11, 11, 10, 0));
        assert_eq!(front.pool_count(), PoolCount { total: 64, free: 64 });
    }
}

#[test]
fn a_flush_makes_durable_and_a_discard_frees() {
    let mut machine = Machine::new(BlkBackConfig::default());
    let mut front = machine.connect(8).unwrap();
    machine.write(&mut front, 0, &[7; 512]).unwrap();
    assert_eq!(machine.back.disk().durable[0], 0, "cached only");
    machine.run(&mut front, Op::Flush).unwrap();
    machine.write(&mut front, 1, &[8; 512]).unwrap();
    machine.back.disk_mut().power_cut();
    assert_eq!(machine.read(&mut front, 0, 1024), [[7; 512], [0; 512]].concat());
    machine.run(&mut front, Op::Discard { first_sector: 0, sectors: 8, secure: true }).unwrap();
    assert_eq!(machine.read(&mut front, 0, 512), [0; 512]);
    let counts = machine.back.disk().counts;
    assert_eq!((counts.flushes, counts.discards), (1, 1));
}

#[test]
fn requests_outside_the_disk_come_back_untouched() {
    let config = BlkBackConfig { sector_size_bytes: 4096, ..BlkBackConfig::default() };
    let mut machine = Machine::new(config);
    let mut front = machine.connect(16).unwrap();
    let cases =
        [(2048, 4096), (2041, 4096), (u64::MAX, 4096), (0, 0), (0, 512), (4, 4096), (0, 4100), (0, 8192)];
    for (first_sector, len_bytes) in cases {
        let bounce = front.take_pages(1).unwrap();
        let (error, op) = front.submit(1, Op::Read { first_sector, bounce, len_bytes }).unwrap_err();
        assert_eq!(error, SubmitError::BadRange, "{first_sector} {len_bytes}");
        let Op::Read { bounce, .. } = op else { panic!("another request") };
        front.give_back(bounce);
    }
    let far = Op::Discard { first_sector: 2040, sectors: u64::MAX, secure: false };
    assert_eq!(front.submit(1, far).unwrap_err().0, SubmitError::BadRange);
    assert_eq!(front.pool_count().free, 16);
    assert_eq!(machine.back.disk().counts, crate::fake::Counts::default());
}

#[test]
fn the_last_sector_is_the_last() {
    let mut machine = Machine::new(BlkBackConfig::default());
    let mut front = machine.connect(8).unwrap();
    machine.write(&mut front, 2047, &[9; 512]).unwrap();
    assert_eq!(machine.read(&mut front, 2047, 512), [9; 512]);
    let beyond = write_op(&mut front, 2047, &[9; 1024]);
    assert_eq!(front.submit(1, beyond).unwrap_err().0, SubmitError::BadRange);
    let beyond = Op::Discard { first_sector: 2048, sectors: 1, secure: false };
    assert_eq!(front.submit(1, beyond).unwrap_err().0, SubmitError::BadRange);
}

/// The addresses of a disk's pages, all of which must be lent to nobody and empty.
fn empty_pages(front: &mut BlkFront<FakeXen>) -> Vec<u64> {
    let count = front.pool_count().total;
    let bounce = front.take_pages(count).unwrap();
    let found = content(front, &bounce, u32::from(count) * 4096);
    assert!(found.iter().all(|&byte| byte == 0), "a new page holds something");
    let addresses = front.pages(&bounce).map(SharedPage::addr).collect();
    front.give_back(bounce);
    addresses
}

#[test]
fn no_page_carries_bytes_of_one_disk_to_another() {
    let mut machine = Machine::new(BlkBackConfig::default());
    let other = VDEV + 16;
    let _back = BlkBack::attach(&machine.xen, &machine.store, other, BlkBackConfig::default());
    let mut first = machine.connect(8).unwrap();
    let of_first = empty_pages(&mut first);
    machine.write(&mut first, 0, &[0xa5; 8 * 4096]).unwrap();
    // While both are there.
    let mut second = BlkFront::connect(&machine.xen, &mut machine.xs, other, 8).unwrap();
    let of_second = empty_pages(&mut second);
    assert!(of_second.iter().all(|page| !of_first.contains(page)), "a page of two disks");
    machine.read(&mut second, 0, 4096);
    second.close(&mut machine.xs).unwrap();
    second.disconnect();
    // The heap has the pages of the first one again, and may give them to the second.
    first.close(&mut machine.xs).unwrap();
    first.disconnect();
    let mut second = BlkFront::connect(&machine.xen, &mut machine.xs, other, 16).unwrap();
    assert_eq!(empty_pages(&mut second).len(), 16);
}

#[test]
fn pages_of_another_disk_are_refused() {
    let (mut machine, mut other) =
        (Machine::new(BlkBackConfig::default()), Machine::new(BlkBackConfig::default()));
    // Another port, hence another pool.
    let _port = machine.xen.evtchn_alloc_unbound(DomId(0)).unwrap();
    let (mut front, mut wrong) = (machine.connect(8).unwrap(), other.connect(8).unwrap());
    let bounce = wrong.take_pages(1).unwrap();
    assert_eq!(front.pages(&bounce).count(), 0);
    assert!(front.page(&bounce, 0).is_none());
    let (error, op) = front.submit(1, Op::Write { first_sector: 0, bounce, len_bytes: 512 }).unwrap_err();
    assert_eq!(error, SubmitError::BadRange);
    let Op::Write { bounce, .. } = op else { panic!("another request") };
    wrong.give_back(bounce);
    assert_eq!((front.pool_count().free, wrong.pool_count().free), (8, 8));
}

#[test]
fn a_read_only_disk_takes_no_writes() {
    let mut machine = Machine::new(BlkBackConfig { read_only: true, ..BlkBackConfig::default() });
    let mut front = machine.connect(8).unwrap();
    assert!(front.geometry().read_only);
    let write = write_op(&mut front, 0, &[1; 512]);
    assert_eq!(front.submit(1, write).unwrap_err().0, SubmitError::Unsupported);
    assert_eq!(machine.read(&mut front, 0, 512), [0; 512]);
}

#[test]
fn a_full_ring_hands_the_request_back_and_goes_on_later() {
    let config = BlkBackConfig { max_ring_page_order: None, ..BlkBackConfig::default() };
    let mut machine = Machine::new(config);
    let mut front = machine.connect(64).unwrap();
    for id in 0..32 {
        let bounce = front.take_pages(1).unwrap();
        front.submit(id, Op::Read { first_sector: id, bounce, len_bytes: 512 }).unwrap();
    }
    let bounce = front.take_pages(1).unwrap();
    let (error, op) = front.submit(99, Op::Read { first_sector: 0, bounce, len_bytes: 512 }).unwrap_err();
    assert_eq!(error, SubmitError::RingFull);
    front.kick();
    let first = machine.completion(&mut front).unwrap();
    assert_eq!((first.id, machine.back.most_held()), (0, 32));
    front.submit(99, op).unwrap();
    front.kick();
    let ids: Vec<_> = core::iter::from_fn(|| machine.completion(&mut front)).map(|done| done.id).collect();
    assert_eq!(ids, (1..32).chain([99]).collect::<Vec<_>>());
}

#[test]
fn long_requests_can_fill_the_whole_pool() {
    let mut machine = Machine::new(BlkBackConfig::default());
    let mut front = machine.connect(60).unwrap();
    machine.back.set_faults(Faults { delay_steps: 3, ..Faults::default() });
    for id in 0..5 {
        let op = write_op(&mut front, id * 96, &pattern(12 * 4096, 1));
        front.submit(id, op).unwrap();
    }
    assert_eq!(front.take_pages(1), None);
    front.kick();
    assert_eq!(core::iter::from_fn(|| machine.completion(&mut front)).count(), 5);
    assert_eq!(machine.back.disk().counts.indirect, 5);
}

#[test]
fn failures_are_told_apart() {
    let mut machine = Machine::new(BlkBackConfig::default());
    let mut front = machine.connect(8).unwrap();
    machine.back.set_faults(Faults { fail_every: Some(2), ..Faults::default() });
    assert_eq!(machine.write(&mut front, 0, &[1; 512]), Ok(()));
    assert_eq!(machine.write(&mut front, 0, &[2; 512]), Err(IoError::Failed));
    assert_eq!(machine.run(&mut front, Op::Flush), Ok(()));
    machine.back.set_faults(Faults { fail_every: Some(2), fail_as_unsupported: true, ..Faults::default() });
    assert_eq!(machine.run(&mut front, Op::Flush), Err(IoError::Unsupported));
    assert_eq!(front.health(), Health::Connected);
    assert_eq!(front.pool_count().free, 8);
}
