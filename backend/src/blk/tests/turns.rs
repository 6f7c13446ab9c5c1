//! A turn of a device is bounded in bytes: however much one request asks for, no vCPU and no other
//! disk waits for all of it.

use super::super::ranges::T_WRITE_ZEROES;
use super::super::request::TURN_BYTES;
use super::*;
use crate::storage::AT_ONCE_BYTES;

impl Rig {
    /// Submits a request; returns its answer, and how many turns it took.
    fn turns(&mut self, request: &BlkRequest) -> (Answer, u64) {
        self.driver.submit(request, &Framing::Usual);
        self.driver.kick();
        for turn in 1..1000 {
            let busy = self.device.borrow_mut().process(&self.mem);
            if let Some((_, answer)) = self.driver.next_used() {
                return (answer, turn);
            }
            let device = self.device.borrow();
            assert!(busy || device.has_pending_work(&self.mem), "the stub sleeps amid a request");
        }
        panic!("no answer");
    }
}

/// Turns that so many bytes take at least.
fn least(len_bytes: u64) -> u64 {
    len_bytes / (TURN_BYTES + AT_ONCE_BYTES)
}

#[test]
fn many_ranges_take_many_turns() {
    let mut rig = Rig::new(ALL, 8);
    rig.write(0, &bytes(4096, 1), &Framing::Usual);
    let range = [&0u64.to_le_bytes()[..], &1024u32.to_le_bytes(), &0u32.to_le_bytes()].concat();
    let (answer, turns) =
        rig.turns(&BlkRequest { kind: T_WRITE_ZEROES, sector: 0, out: range.repeat(32), in_len: 0 });
    assert_eq!(answer.status, S_OK);
    assert!(turns >= least(32 * 1024 * 512), "{turns} turns");
    assert_eq!(rig.read(0, 4096, &Framing::Usual).data, [0; 4096]);
}

#[test]
fn a_long_request_takes_several_turns_and_its_data_are_whole() {
    let mut rig = Rig::new(ALL, 8);
    let data = bytes(DISK_BYTES as usize, 3);
    let (answer, turns) = rig.turns(&BlkRequest { kind: T_OUT, sector: 0, out: data.clone(), in_len: 0 });
    assert_eq!(answer.status, S_OK);
    assert!(turns >= least(DISK_BYTES), "{turns} turns");
    let (answer, turns) = rig.turns(&read_request(0, data.len()));
    assert!(answer.data == data);
    assert!(turns >= least(DISK_BYTES), "{turns} turns");
}

#[test]
fn requests_behind_a_long_one_wait_their_turn() {
    let mut rig = Rig::new(ALL, 256);
    rig.driver.submit(&read_request(0, DISK_BYTES as usize), &Framing::Usual);
    for sector in 0..20 {
        rig.driver.submit(&read_request(sector, 512), &Framing::Usual);
    }
    rig.driver.kick();
    rig.run();
    assert_eq!(
        std::iter::from_fn(|| rig.driver.next_used()).filter(|(_, answer)| answer.status == S_OK).count(),
        21
    );
}

#[test]
fn a_reset_amid_a_long_request_ends_it() {
    let mut rig = Rig::new(ALL, 8);
    rig.driver.submit(&read_request(0, DISK_BYTES as usize), &Framing::Usual);
    rig.driver.kick();
    rig.device.borrow_mut().process(&rig.mem);
    assert_eq!(rig.device.borrow().in_flight(), 1);
    rig.driver.init(ALL, 8);
    assert_eq!(rig.read(0, 512, &Framing::Usual).status, S_OK);
    assert_eq!(rig.device.borrow().in_flight(), 0);
}

#[test]
fn many_large_requests_take_several_turns() {
    let mut rig = Rig::new(ALL, 256);
    for _ in 0..30 {
        rig.driver.submit(&read_request(0, AT_ONCE_BYTES as usize), &Framing::Usual);
    }
    rig.driver.kick();
    rig.device.borrow_mut().process(&rig.mem);
    let done = std::iter::from_fn(|| rig.driver.next_used()).count() as u64;
    assert_eq!(done, TURN_BYTES / AT_ONCE_BYTES);
}
