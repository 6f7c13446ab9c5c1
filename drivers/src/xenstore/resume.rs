//! Taking over a connection in an unknown state, after a restart in place.
//!
//! An earlier incarnation may have left a request without its answer, and an answer or an event half
//! read. (Not half a request: see `link.rs`.) The ring has a field for asking xenstored to
//! start again (`connection` in `public/io/xs_wire.h`), but only oxenstored offers it; the C
//! xenstored of Xen 4.17 and 4.20 does not. So we ask for something with an id that no
//! message bears, and throw away all that comes before its answer. Watches stay, and so does
//! a transaction that was open, for nobody knows its number.

use super::link::{Xenstore, advance};
use super::{StoreError, StoreFault};
use kernel::Hypervisor;
use xen_pv_sys::io::xs_wire::{RING_SIZE, RSP, RSP_CONS, RSP_PROD, XS_READ, XsdSockmsg};
use zerocopy::{FromBytes, IntoBytes};

/// Our domid: always there, and short.
const PATH: &[u8] = b"domid\0";
/// Longest answer to that.
const ANSWER_MAX: u32 = 8;
const HEADER: usize = size_of::<XsdSockmsg>();

impl<H: Hypervisor> Xenstore<H> {
    /// Connects as [`Xenstore::new`] does, to a ring that an earlier incarnation has used. Its watches
    /// are still set; [`Xenstore::take_events_lost`] says that events were dropped.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::TimedOut`] if no answer can be found.
    pub fn resume(hv: &H) -> Result<Self, StoreError> {
        let mut store = Self::new(hv)?;
        // Ids count from 1 in each incarnation: the upper half is for this alone, and the clock
        // makes it another one each time.
        let id = 0x8000_0000 | u32::try_from(hv.now_ns() >> 10 & 0x7fff_ffff).unwrap_or(0);
        let deadline_ns = store.deadline_ns();
        let len = u32::try_from(PATH.len()).unwrap_or(0);
        let header = XsdSockmsg { msg_type: XS_READ, req_id: id, tx_id: 0, len };
        // The notification also tells of room, should xenstored have been waiting for that.
        store.notify()?;
        store.skip_garbage(deadline_ns)?;
        let mut message = header.as_bytes().to_vec();
        message.extend_from_slice(PATH);
        store.send(&message, deadline_ns)?;
        store.publish()?;
        store.find_answer(id, deadline_ns)?;
        store.next_req_id = id.wrapping_add(1);
        store.events.set_lost();
        Ok(store)
    }

    /// Reads bytes until the header of the answer to `id`, then the answer.
    fn find_answer(&mut self, id: u32, deadline_ns: u64) -> Result<(), StoreError> {
        let mut window = [0u8; HEADER];
        loop {
            while let Some(byte) = self.next_byte()? {
                if self.hv.now_ns() >= deadline_ns {
                    return Err(StoreError::TimedOut);
                }
                window.rotate_left(1);
                if let Some(last) = window.last_mut() {
                    *last = byte;
                }
                let Ok(header) = XsdSockmsg::read_from_bytes(&window) else { continue };
                let is_answer = header.req_id == id && header.tx_id == 0 && header.len <= ANSWER_MAX;
                if is_answer && header.msg_type == XS_READ {
                    self.inbox.feed(&window).map_err(|fault| self.die(fault))?;
                    return self.take_answer(id, deadline_ns);
                }
            }
            self.wait(deadline_ns)?;
        }
    }

    /// From the header of the answer to `id` on, the stream is in order again.
    fn take_answer(&mut self, id: u32, deadline_ns: u64) -> Result<(), StoreError> {
        loop {
            match self.pump()? {
                Some(answer) if answer.header.req_id == id => return Ok(()),
                Some(answer) => return Err(self.die(StoreFault::UnknownRequest(answer.header.req_id))),
                None => self.wait(deadline_ns)?,
            }
        }
    }

    /// Throws away what stands in the ring, so that xenstored has room for what it may be
    /// in the middle of.
    fn skip_garbage(&mut self, deadline_ns: u64) -> Result<(), StoreError> {
        while self.next_byte()?.is_some() {
            if self.hv.now_ns() >= deadline_ns {
                return Err(StoreError::TimedOut);
            }
        }
        Ok(())
    }

    /// The next byte from xenstored, if there is one now.
    fn next_byte(&mut self) -> Result<Option<u8>, StoreError> {
        let available = self.load(RSP_PROD).wrapping_sub(self.rsp_cons);
        if available as usize > RING_SIZE {
            return Err(self.die(StoreFault::RingOverrun(available)));
        }
        if available == 0 {
            return Ok(None);
        }
        let mut byte = [0];
        let at = self.rsp_cons as usize % RING_SIZE;
        let read = self.page.read(RSP.saturating_add(at), &mut byte);
        debug_assert!(read.is_ok());
        self.rsp_cons = advance(self.rsp_cons, 1);
        self.store(RSP_CONS, self.rsp_cons);
        if available == 1 {
            self.notify()?;
        }
        Ok(byte.first().copied())
    }
}
