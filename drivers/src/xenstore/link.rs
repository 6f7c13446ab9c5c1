//! Requests and answers over the xenstore ring, byte by byte.
//!
//! Private copies of our own indices; xenstored's are checked against them. Its messages
//! may arrive in pieces. Whatever it does wrong ends the connection.

use super::wire::{self, Message};
use super::{StoreError, StoreFault, Xenstore};
use alloc::vec::Vec;
use kernel::{Errno, Hypervisor, Order};
use xen_pv_sys::io::xs_wire::{
    PAYLOAD_MAX, REQ, REQ_CONS, REQ_PROD, RING_SIZE, RSP, RSP_CONS, RSP_PROD, XS_ERROR, XS_WATCH_EVENT,
    XsdSockmsg,
};
use zerocopy::IntoBytes;

/// Requests given up whose answers may still come.
const MAX_ABANDONED: usize = 8;

impl<H: Hypervisor> Xenstore<H> {
    /// Sends a request and waits for its answer.
    pub(super) fn request(
        &mut self,
        msg_type: u32,
        tx_id: u32,
        parts: &[&[u8]],
    ) -> Result<Vec<u8>, StoreError> {
        self.alive()?;
        let bytes = parts.iter().fold(0usize, |sum, part| sum.saturating_add(part.len()));
        let len = u32::try_from(bytes).unwrap_or(u32::MAX);
        if bytes > PAYLOAD_MAX {
            return Err(StoreError::Refused(Errno::E2BIG));
        }
        let req_id = self.next_req_id;
        self.next_req_id = req_id.wrapping_add(1);
        let deadline_ns = self.hv.now_ns().saturating_add(self.timeout_ns);
        let header = XsdSockmsg { msg_type, req_id, tx_id, len };
        let pieces = core::iter::once(header.as_bytes()).chain(parts.iter().copied());
        for piece in pieces {
            self.send(piece, deadline_ns).inspect_err(|_| {
                // Half a request is in the ring: nothing after it could be understood.
                self.fault.get_or_insert(StoreFault::Stalled);
            })?;
        }
        self.publish()?;
        let answer = loop {
            self.hv.evtchn_take_pending(self.port);
            match self.pump()? {
                Some(answer) if answer.header.req_id == req_id => break answer,
                Some(answer) => self.expect_abandoned(&answer)?,
                None => {
                    if self.hv.now_ns() >= deadline_ns {
                        self.abandon(req_id);
                        return Err(StoreError::TimedOut);
                    }
                    self.hv.poll(&[self.port], Some(deadline_ns)).map_err(StoreError::Xen)?;
                }
            }
        };
        match answer.header.msg_type {
            XS_ERROR => Err(StoreError::Refused(wire::errno_from_payload(&answer.payload))),
            answered if answered == msg_type => Ok(answer.payload),
            other => Err(self.die(StoreFault::WrongType(other))),
        }
    }

    /// Puts bytes into the ring, waiting for room. xenstored sees them after
    /// [`Xenstore::publish`]: a request that fits goes out whole or not at all, so that a
    /// panic in between leaves nothing behind (see `resume.rs`).
    pub(super) fn send(&mut self, mut bytes: &[u8], deadline_ns: u64) -> Result<(), StoreError> {
        while !bytes.is_empty() {
            self.hv.evtchn_take_pending(self.port);
            let used = self.req_prod.wrapping_sub(self.load(REQ_CONS));
            let free = RING_SIZE.checked_sub(used as usize);
            let free = free.ok_or(StoreFault::RingOverrun(used)).map_err(|fault| self.die(fault))?;
            let at = self.req_prod as usize % RING_SIZE;
            let room = free.min(RING_SIZE.saturating_sub(at)).min(bytes.len());
            if let Some((now, later)) = bytes.split_at_checked(room).filter(|_| room > 0) {
                let written = self.page.write(REQ.saturating_add(at), now);
                debug_assert!(written.is_ok());
                self.req_prod = advance(self.req_prod, room);
                bytes = later;
                continue;
            }
            // Full. xenstored may itself be waiting for us to read.
            self.publish()?;
            while let Some(answer) = self.pump()? {
                self.expect_abandoned(&answer)?;
            }
            if self.hv.now_ns() >= deadline_ns {
                return Err(StoreError::TimedOut);
            }
            self.hv.poll(&[self.port], Some(deadline_ns)).map_err(StoreError::Xen)?;
        }
        Ok(())
    }

    /// Reads what has arrived up to the next answer; watch events go to the queue.
    /// `None`: no whole answer yet.
    pub(super) fn pump(&mut self) -> Result<Option<Message>, StoreError> {
        self.alive()?;
        loop {
            let available = self.load(RSP_PROD).wrapping_sub(self.rsp_cons);
            if available as usize > RING_SIZE {
                return Err(self.die(StoreFault::RingOverrun(available)));
            }
            if available == 0 {
                return Ok(None);
            }
            let at = self.rsp_cons as usize % RING_SIZE;
            let mut chunk = [0; 256];
            let len = chunk.len().min(available as usize).min(RING_SIZE.saturating_sub(at));
            let chunk = chunk.get_mut(..len).unwrap_or_default();
            let read = self.page.read(RSP.saturating_add(at), chunk);
            debug_assert!(read.is_ok());
            let (taken, message) = self.inbox.feed(chunk).map_err(|fault| self.die(fault))?;
            self.rsp_cons = advance(self.rsp_cons, taken);
            // Release: the bytes have been read before they may be overwritten.
            self.store(RSP_CONS, self.rsp_cons);
            self.notify()?;
            match message {
                Some(event) if event.header.msg_type == XS_WATCH_EVENT => {
                    let event = wire::watch_event(&event.payload).map_err(|fault| self.die(fault))?;
                    self.events.push(event);
                }
                Some(answer) => return Ok(Some(answer)),
                None => {}
            }
        }
    }

    /// An answer that nobody waits for must be to a request that was given up.
    pub(super) fn expect_abandoned(&mut self, answer: &Message) -> Result<(), StoreError> {
        let id = answer.header.req_id;
        match self.abandoned.iter().position(|&abandoned| abandoned == id) {
            Some(at) => {
                self.abandoned.swap_remove(at);
                Ok(())
            }
            None => Err(self.die(StoreFault::UnknownRequest(id))),
        }
    }

    fn abandon(&mut self, req_id: u32) {
        if self.abandoned.len() >= MAX_ABANDONED {
            self.die(StoreFault::Stalled);
        }
        self.abandoned.push(req_id);
    }

    fn alive(&self) -> Result<(), StoreError> {
        self.fault.map_or(Ok(()), |fault| Err(StoreError::Fault(fault)))
    }

    pub(super) fn die(&mut self, fault: StoreFault) -> StoreError {
        log::error!("xenstore: {fault}; the connection is given up");
        self.fault = Some(fault);
        StoreError::Fault(fault)
    }

    /// Shows xenstored what was put into the ring.
    pub(super) fn publish(&self) -> Result<(), StoreError> {
        self.store(REQ_PROD, self.req_prod);
        self.notify()
    }

    pub(super) fn notify(&self) -> Result<(), StoreError> {
        self.hv.evtchn_send(self.port).map_err(StoreError::Xen)
    }

    // Constant, aligned offsets inside the page: neither call fails.
    pub(super) fn load(&self, field: usize) -> u32 {
        self.page.load(field, Order::AcqRel).unwrap_or_default()
    }

    pub(super) fn store(&self, field: usize, value: u32) {
        let stored = self.page.store(field, value, Order::AcqRel);
        debug_assert!(stored.is_ok());
    }
}

/// `index` moved on by at most a ring's length.
pub(super) fn advance(index: u32, bytes: usize) -> u32 {
    index.wrapping_add(u32::try_from(bytes).unwrap_or(0))
}
