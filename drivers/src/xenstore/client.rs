//! The client's end of the xenstore ring: blocking requests, watch events on the side.
//!
//! One request is under way at a time. While it waits, watch events go to a queue; after
//! any blocking call look at [`Xenstore::next_event`], since the port's pending bit has
//! been consumed. Private copies of our own indices; xenstored's are checked against them.

use super::events::EventQueue;
use super::transaction::decimal;
use super::wire::{self, Assembler, Message};
use super::{StoreError, StoreFault, WatchEvent};
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use kernel::{Errno, Hypervisor, Order, Port, SharedPage};
use xen_pv_sys::hvm::{HVM_PARAM_STORE_EVTCHN, HVM_PARAM_STORE_PFN};
use xen_pv_sys::io::xs_wire::{
    PAYLOAD_MAX, REQ, REQ_CONS, REQ_PROD, RING_SIZE, RSP, RSP_CONS, RSP_PROD, XS_DIRECTORY, XS_ERROR,
    XS_MKDIR, XS_READ, XS_RM, XS_UNWATCH, XS_WATCH, XS_WATCH_EVENT, XS_WRITE, XsdSockmsg,
};
use zerocopy::IntoBytes;

/// How long a request may take unless [`Xenstore::set_request_timeout_ns`] says otherwise.
pub const REQUEST_TIMEOUT_NS: u64 = 20_000_000_000;
/// Requests given up whose answers may still come.
const MAX_ABANDONED: usize = 8;

/// The connection to xenstored.
#[derive(Debug)]
pub struct Xenstore<H: Hypervisor> {
    hv: H,
    page: SharedPage,
    port: Port,
    req_prod: u32,
    rsp_cons: u32,
    inbox: Assembler,
    events: EventQueue,
    next_req_id: u32,
    abandoned: VecDeque<u32>,
    fault: Option<StoreFault>,
    timeout_ns: u64,
}

impl<H: Hypervisor> Xenstore<H> {
    /// Connects to the ring that the tool stack prepared for this domain.
    ///
    /// # Errors
    /// [`StoreError::Xen`] if there is none.
    pub fn new(hv: &H) -> Result<Self, StoreError> {
        let gfn = hv.hvm_param(HVM_PARAM_STORE_PFN).map_err(StoreError::Xen)?;
        let port = hv.hvm_param(HVM_PARAM_STORE_EVTCHN).map_err(StoreError::Xen)?;
        let port = u32::try_from(port).map_err(|_| StoreError::Xen(Errno::EINVAL))?;
        let page = hv.magic_page(gfn).map_err(StoreError::Xen)?;
        let mut store = Xenstore {
            hv: hv.clone(),
            page,
            port: Port(port),
            req_prod: 0,
            rsp_cons: 0,
            inbox: Assembler::default(),
            events: EventQueue::default(),
            next_req_id: 1,
            abandoned: VecDeque::new(),
            fault: None,
            timeout_ns: REQUEST_TIMEOUT_NS,
        };
        // Zero in a fresh domain; whatever they are, they are ours from here on.
        store.req_prod = store.load(REQ_PROD);
        store.rsp_cons = store.load(RSP_CONS);
        Ok(store)
    }

    /// The ring's event channel: on an event call [`Xenstore::poll_events`].
    #[must_use]
    pub fn port(&self) -> Port {
        self.port
    }

    /// The hypervisor it was made with.
    #[must_use]
    pub fn hypervisor(&self) -> &H {
        &self.hv
    }

    /// Sets how long each request may take.
    pub fn set_request_timeout_ns(&mut self, timeout_ns: u64) {
        self.timeout_ns = timeout_ns;
    }

    /// The node's value.
    ///
    /// # Errors
    /// `ENOENT` and what else xenstored answers.
    pub fn read(&mut self, path: &str) -> Result<Vec<u8>, StoreError> {
        self.read_in(0, path)
    }

    /// The node's value as text.
    ///
    /// # Errors
    /// As [`Xenstore::read`]; `EINVAL` if it is not UTF-8.
    pub fn read_string(&mut self, path: &str) -> Result<String, StoreError> {
        String::from_utf8(self.read(path)?).map_err(|_| StoreError::Refused(Errno::EINVAL))
    }

    /// The node's value as a decimal number.
    ///
    /// # Errors
    /// As [`Xenstore::read`]; `EINVAL` if it is anything else.
    pub fn read_number(&mut self, path: &str) -> Result<u64, StoreError> {
        decimal(&self.read(path)?).ok_or(StoreError::Refused(Errno::EINVAL))
    }

    /// Sets the node's value; creates it and its parents.
    ///
    /// # Errors
    /// `EACCES`, `ENOSPC` (quota) and what else xenstored answers.
    pub fn write(&mut self, path: &str, value: &[u8]) -> Result<(), StoreError> {
        self.write_in(0, path, value)
    }

    /// The names of the node's children.
    ///
    /// # Errors
    /// `ENOENT`; `E2BIG` if the list is longer than a message.
    pub fn directory(&mut self, path: &str) -> Result<Vec<String>, StoreError> {
        let answer = self.request(XS_DIRECTORY, 0, &[terminated(path)?, b"\0"])?;
        wire::strings(&answer).map_err(|fault| self.die(fault))
    }

    /// Creates an empty node, if there is none.
    ///
    /// # Errors
    /// What xenstored answers.
    pub fn mkdir(&mut self, path: &str) -> Result<(), StoreError> {
        self.request(XS_MKDIR, 0, &[terminated(path)?, b"\0"]).map(drop)
    }

    /// Removes the node and everything below it.
    ///
    /// # Errors
    /// `ENOENT` if its parent does not exist, and what else xenstored answers.
    pub fn rm(&mut self, path: &str) -> Result<(), StoreError> {
        self.rm_in(0, path)
    }

    /// Watches the node and everything below it. One event comes at once.
    ///
    /// # Errors
    /// `EEXIST` for the same path and token, and what else xenstored answers.
    pub fn watch(&mut self, path: &str, token: &str) -> Result<(), StoreError> {
        self.request(XS_WATCH, 0, &[terminated(path)?, b"\0", terminated(token)?, b"\0"]).map(drop)
    }

    /// Ends a watch. Events that were queued before stay in the queue.
    ///
    /// # Errors
    /// `ENOENT` if there is no such watch.
    pub fn unwatch(&mut self, path: &str, token: &str) -> Result<(), StoreError> {
        self.request(XS_UNWATCH, 0, &[terminated(path)?, b"\0", terminated(token)?, b"\0"]).map(drop)
    }

    pub(super) fn read_in(&mut self, tx_id: u32, path: &str) -> Result<Vec<u8>, StoreError> {
        self.request(XS_READ, tx_id, &[terminated(path)?, b"\0"])
    }

    pub(super) fn write_in(&mut self, tx_id: u32, path: &str, value: &[u8]) -> Result<(), StoreError> {
        self.request(XS_WRITE, tx_id, &[terminated(path)?, b"\0", value]).map(drop)
    }

    pub(super) fn rm_in(&mut self, tx_id: u32, path: &str) -> Result<(), StoreError> {
        self.request(XS_RM, tx_id, &[terminated(path)?, b"\0"]).map(drop)
    }

    /// Takes in what has arrived, without waiting. True if [`Xenstore::next_event`] has
    /// something.
    ///
    /// # Errors
    /// [`StoreError::Fault`] if xenstored broke the protocol.
    pub fn poll_events(&mut self) -> Result<bool, StoreError> {
        self.hv.evtchn_take_pending(self.port);
        while let Some(answer) = self.pump()? {
            self.expect_abandoned(&answer)?;
        }
        Ok(self.events.has_any())
    }

    /// The oldest watch event taken in so far.
    pub fn next_event(&mut self) -> Option<WatchEvent> {
        self.events.pop()
    }

    /// True, once, if events were dropped because too many came: read again everything
    /// that is watched.
    pub fn take_events_lost(&mut self) -> bool {
        self.events.take_lost()
    }

    /// Waits for an event with this token, at most until `deadline_ns`. Events of other
    /// watches stay queued. `None`: none came in time.
    ///
    /// # Errors
    /// [`StoreError::Fault`], [`StoreError::Xen`].
    pub fn wait_event(&mut self, token: &str, deadline_ns: u64) -> Result<Option<WatchEvent>, StoreError> {
        loop {
            self.poll_events()?;
            if let Some(event) = self.events.pop_token(token) {
                return Ok(Some(event));
            }
            if self.hv.now_ns() >= deadline_ns {
                return Ok(None);
            }
            self.hv.poll(&[self.port], Some(deadline_ns)).map_err(StoreError::Xen)?;
        }
    }

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
        self.notify()?;
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

    /// Puts bytes into the ring, waiting for room.
    fn send(&mut self, mut bytes: &[u8], deadline_ns: u64) -> Result<(), StoreError> {
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
                self.store(REQ_PROD, self.req_prod);
                bytes = later;
                continue;
            }
            // Full. xenstored may itself be waiting for us to read.
            self.notify()?;
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
    fn pump(&mut self) -> Result<Option<Message>, StoreError> {
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
    fn expect_abandoned(&mut self, answer: &Message) -> Result<(), StoreError> {
        let id = answer.header.req_id;
        match self.abandoned.iter().position(|&abandoned| abandoned == id) {
            Some(at) => {
                self.abandoned.remove(at);
                Ok(())
            }
            None => Err(self.die(StoreFault::UnknownRequest(id))),
        }
    }

    fn abandon(&mut self, req_id: u32) {
        if self.abandoned.len() >= MAX_ABANDONED {
            self.die(StoreFault::Stalled);
        }
        self.abandoned.push_back(req_id);
    }

    fn alive(&self) -> Result<(), StoreError> {
        self.fault.map_or(Ok(()), |fault| Err(StoreError::Fault(fault)))
    }

    fn die(&mut self, fault: StoreFault) -> StoreError {
        log::error!("xenstore: {fault:?}; the connection is given up");
        self.fault = Some(fault);
        StoreError::Fault(fault)
    }

    fn notify(&self) -> Result<(), StoreError> {
        self.hv.evtchn_send(self.port).map_err(StoreError::Xen)
    }

    // Constant, aligned offsets inside the page: neither call fails.
    fn load(&self, field: usize) -> u32 {
        self.page.load(field, Order::AcqRel).unwrap_or_default()
    }

    fn store(&self, field: usize, value: u32) {
        let stored = self.page.store(field, value, Order::AcqRel);
        debug_assert!(stored.is_ok());
    }
}

/// `index` moved on by at most a ring's length.
fn advance(index: u32, bytes: usize) -> u32 {
    index.wrapping_add(u32::try_from(bytes).unwrap_or(0))
}

/// The bytes of a string that goes on the wire with a final NUL: it may hold none itself.
fn terminated(text: &str) -> Result<&[u8], StoreError> {
    if text.contains('\0') { Err(StoreError::Refused(Errno::EINVAL)) } else { Ok(text.as_bytes()) }
}
