//! Requests and answers over the xenstore ring, byte by byte.
//!
//! Private copies of our own indices; xenstored's are checked against them. Its messages
//! may arrive in pieces. Whatever it does wrong ends the connection.

use super::events::EventQueue;
use super::wire::{self, Assembler, Message};
use super::{StoreError, StoreFault};
use alloc::vec::Vec;
use kernel::{Errno, Hypervisor, Order, Port, SharedPage, full_barrier};
use xen_pv_sys::hvm::{HVM_PARAM_STORE_EVTCHN, HVM_PARAM_STORE_PFN};
use xen_pv_sys::io::xs_wire::{
    PAYLOAD_MAX, REQ, REQ_CONS, REQ_PROD, RING_SIZE, RSP, RSP_CONS, RSP_PROD, XS_ERROR, XS_WATCH_EVENT,
    XsdSockmsg,
};
use zerocopy::IntoBytes;

/// Requests given up whose answers may still come: those of two batches, and some.
const MAX_ABANDONED: usize = 40;

/// A request under way, with its answer once that has come.
#[derive(Debug)]
pub(super) struct Asked {
    id: u32,
    answer: Option<Message>,
}

/// How long a request may take unless [`Xenstore::set_request_timeout_ns`] says otherwise.
pub const REQUEST_TIMEOUT_NS: u64 = 20_000_000_000;

/// The connection to xenstored.
#[derive(Debug)]
pub struct Xenstore<H: Hypervisor> {
    pub(super) hv: H,
    pub(super) page: SharedPage,
    pub(super) port: Port,
    pub(super) req_prod: u32,
    pub(super) rsp_cons: u32,
    pub(super) inbox: Assembler,
    pub(super) events: EventQueue,
    pub(super) next_req_id: u32,
    pub(super) asked: Vec<Asked>,
    pub(super) abandoned: Vec<u32>,
    pub(super) fault: Option<StoreFault>,
    pub(super) timeout_ns: u64,
}

impl<H: Hypervisor> Xenstore<H> {
    /// Connects to the ring that the toolstack prepared for this domain.
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
            asked: Vec::new(),
            abandoned: Vec::new(),
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

    /// Sends a request and waits for its answer.
    pub(super) fn request(
        &mut self,
        msg_type: u32,
        tx_id: u32,
        parts: &[&[u8]],
    ) -> Result<Vec<u8>, StoreError> {
        let deadline_ns = self.deadline_ns();
        let id = self.ask(msg_type, tx_id, parts, deadline_ns)?;
        self.publish()?;
        self.answer(id, msg_type, deadline_ns)
    }

    pub(super) fn deadline_ns(&self) -> u64 {
        self.hv.now_ns().saturating_add(self.timeout_ns)
    }

    /// Puts a request into the ring; xenstored sees it after [`Xenstore::publish`] at the
    /// latest. Returns what to ask [`Xenstore::answer`] for.
    pub(super) fn ask(
        &mut self,
        msg_type: u32,
        tx_id: u32,
        parts: &[&[u8]],
        deadline_ns: u64,
    ) -> Result<u32, StoreError> {
        self.alive()?;
        let bytes = parts.iter().fold(0usize, |sum, part| sum.saturating_add(part.len()));
        let len = u32::try_from(bytes).unwrap_or(u32::MAX);
        if bytes > PAYLOAD_MAX {
            return Err(StoreError::Refused(Errno::E2BIG));
        }
        let id = self.next_req_id;
        self.next_req_id = id.wrapping_add(1);
        let header = XsdSockmsg { msg_type, req_id: id, tx_id, len };
        let mut message = Vec::with_capacity(size_of::<XsdSockmsg>().saturating_add(bytes));
        message.extend_from_slice(header.as_bytes());
        parts.iter().for_each(|part| message.extend_from_slice(part));
        self.send(&message, deadline_ns)?;
        self.asked.push(Asked { id, answer: None });
        Ok(id)
    }

    /// Waits for the answer to a request. Those to others that come first are kept.
    pub(super) fn answer(&mut self, id: u32, msg_type: u32, deadline_ns: u64) -> Result<Vec<u8>, StoreError> {
        loop {
            let at = self.asked.iter().position(|asked| asked.id == id && asked.answer.is_some());
            if let Some(answer) = at.and_then(|at| self.asked.swap_remove(at).answer) {
                return match answer.header.msg_type {
                    XS_ERROR => Err(StoreError::Refused(wire::errno_from_payload(&answer.payload))),
                    answered if answered == msg_type => Ok(answer.payload),
                    other => Err(self.die(StoreFault::WrongType(other))),
                };
            }
            if let Some(answer) = self.pump()? {
                self.keep(answer)?;
            } else if let Err(error) = self.wait(deadline_ns) {
                self.abandon(id);
                return Err(error);
            }
        }
    }

    /// Waits until there is something to read, at most until `deadline_ns`. Called where the ring
    /// was read to its end: an event that is cleared with bytes unread is lost for whoever sleeps
    /// next.
    pub(super) fn wait(&self, deadline_ns: u64) -> Result<(), StoreError> {
        self.hv.evtchn_take_pending(self.port);
        self.sleep(deadline_ns)
    }

    /// Waits for an event that comes after the last one was cleared, if nothing is unread.
    fn sleep(&self, deadline_ns: u64) -> Result<(), StoreError> {
        if self.hv.now_ns() >= deadline_ns {
            return Err(StoreError::TimedOut);
        }
        if self.has_unread() {
            return Ok(());
        }
        self.hv.poll(&[self.port], Some(deadline_ns)).map_err(StoreError::Xen)
    }

    /// Whether bytes in the ring wait to be read.
    pub(super) fn has_unread(&self) -> bool {
        self.load(RSP_PROD) != self.rsp_cons
    }

    /// Puts a message into the ring, waiting for room. A message that a ring can hold goes in
    /// whole or not at all, and is not seen before [`Xenstore::publish`]: so a panic in between
    /// leaves no half of it behind (see `resume.rs`).
    pub(super) fn send(&mut self, message: &[u8], deadline_ns: u64) -> Result<(), StoreError> {
        let mut rest = message;
        while !rest.is_empty() {
            let used = self.req_prod.wrapping_sub(self.load(REQ_CONS));
            let free = RING_SIZE.checked_sub(used as usize);
            let free = free.ok_or(StoreFault::RingOverrun(used)).map_err(|fault| self.die(fault))?;
            let len = rest.len().min(RING_SIZE);
            if let Some((now, later)) = rest.split_at_checked(len).filter(|_| len <= free) {
                self.put(now);
                rest = later;
                continue;
            }
            // xenstored may itself be waiting for us to read.
            self.publish()?;
            while let Some(answer) = self.pump()? {
                self.keep(answer)?;
            }
            self.hv.evtchn_take_pending(self.port);
            if self.load(REQ_CONS).wrapping_add(used) != self.req_prod {
                // Room came meanwhile.
                continue;
            }
            if let Err(error) = self.sleep(deadline_ns) {
                if rest.len() < message.len() {
                    // Half a message is in the ring: nothing after it could be understood.
                    self.die(StoreFault::Stalled);
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// Bytes for which there is room.
    fn put(&mut self, bytes: &[u8]) {
        let at = self.req_prod as usize % RING_SIZE;
        let (end, start) = bytes.split_at_checked(RING_SIZE.saturating_sub(at)).unwrap_or((bytes, &[]));
        let written = self.page.write(REQ.saturating_add(at), end).and(self.page.write(REQ, start));
        debug_assert!(written.is_ok());
        self.req_prod = advance(self.req_prod, bytes.len());
    }

    /// Reads what has arrived by now, up to the next answer; watch events go to the queue.
    /// `None`: no whole answer yet. What arrives meanwhile is for the next call: whoever may write
    /// to a watched node decides how much that is.
    pub(super) fn pump(&mut self) -> Result<Option<Message>, StoreError> {
        self.alive()?;
        let end = self.load(RSP_PROD);
        loop {
            let available = end.wrapping_sub(self.rsp_cons);
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
            self.consumed()?;
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

    /// Keeps the answer to a request under way. Any other must be to one that was given up.
    pub(super) fn keep(&mut self, answer: Message) -> Result<(), StoreError> {
        let id = answer.header.req_id;
        if let Some(asked) = self.asked.iter_mut().find(|asked| asked.id == id && asked.answer.is_none()) {
            asked.answer = Some(answer);
            return Ok(());
        }
        match self.abandoned.iter().position(|&abandoned| abandoned == id) {
            Some(at) => {
                self.abandoned.swap_remove(at);
                Ok(())
            }
            None => Err(self.die(StoreFault::UnknownRequest(id))),
        }
    }

    fn abandon(&mut self, req_id: u32) {
        self.asked.retain(|asked| asked.id != req_id);
        if self.abandoned.len() >= MAX_ABANDONED {
            self.die(StoreFault::Stalled);
        }
        self.abandoned.push(req_id);
    }

    /// Gives back the room of what was read.
    fn consumed(&mut self) -> Result<(), StoreError> {
        let before = self.load(RSP_CONS);
        // Release: the bytes have been read before they may be overwritten.
        self.store(RSP_CONS, self.rsp_cons);
        // xenstored waits for room only if there was none. A producer that filled the ring
        // before it saw the new index has published that by now, or sees the index.
        full_barrier();
        if self.load(RSP_PROD).wrapping_sub(before) as usize >= RING_SIZE { self.notify() } else { Ok(()) }
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
