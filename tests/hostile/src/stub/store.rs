//! xenstore as a hostile domain speaks it: any message, in any order, answered or not (`public/io/xs_wire.h`).

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use kernel::{Hypervisor, Order, Port, SharedPage, Xen};
use xen_pv_sys::hvm::{HVM_PARAM_STORE_EVTCHN, HVM_PARAM_STORE_PFN};
use xen_pv_sys::io::xs_wire::{
    REQ, REQ_CONS, REQ_PROD, RING_SIZE, RSP, RSP_CONS, RSP_PROD, XS_ERROR, XS_READ, XS_RM, XS_WATCH_EVENT,
    XS_WRITE, XsdSockmsg,
};
use zerocopy::{FromBytes, IntoBytes};

/// Bytes of a message's header.
const HEADER: usize = size_of::<XsdSockmsg>();
/// How long an answer may take. A throttled domain is served late.
const PATIENCE_NS: u64 = 20_000_000_000;
/// How long to sleep at most before another look at the ring: an event may have come just before.
const LOOK_NS: u64 = 5_000_000;

/// The ring of this domain.
pub struct Store {
    xen: Xen,
    page: SharedPage,
    /// Its event channel.
    pub port: Port,
    next: u32,
    /// Watch events that came so far.
    pub events: u64,
}

impl Store {
    /// The ring that the toolstack has prepared.
    ///
    /// # Errors
    /// That there is none.
    pub fn new(xen: Xen) -> Result<Store, String> {
        let told = |what| move |why| format!("{what}: {why:?}");
        let gfn = xen.hvm_param(HVM_PARAM_STORE_PFN).map_err(told("the store's page"))?;
        let port = xen.hvm_param(HVM_PARAM_STORE_EVTCHN).map_err(told("the store's port"))?;
        let page = xen.magic_page(gfn).map_err(told("the store's page"))?;
        Ok(Store { xen, page, port: Port(u32::try_from(port).unwrap_or(0)), next: 1, events: 0 })
    }

    fn load(&self, at: usize) -> u32 {
        self.page.load(at, Order::AcqRel).unwrap_or(0)
    }

    /// Writes a word of the ring's page.
    pub fn poke(&self, at: usize, value: u32) {
        let _ = self.page.store(at, value, Order::AcqRel);
    }

    /// An index of the ring.
    #[must_use]
    pub fn peek(&self, at: usize) -> u32 {
        self.load(at)
    }

    /// Tells xenstored to look.
    pub fn notify(&self) {
        let _ = self.xen.evtchn_send(self.port);
    }

    /// Puts bytes into the ring as long as there is room; how many.
    pub fn put(&self, bytes: &[u8]) -> usize {
        let (prod, cons) = (self.load(REQ_PROD), self.load(REQ_CONS));
        let free = RING_SIZE.saturating_sub(prod.wrapping_sub(cons) as usize);
        let part = bytes.get(..free).unwrap_or(bytes);
        for (at, &byte) in (0..).zip(part) {
            let _ = self.page.store(REQ + prod.wrapping_add(at) as usize % RING_SIZE, byte, Order::Relaxed);
        }
        self.poke(REQ_PROD, prod.wrapping_add(u32::try_from(part.len()).unwrap_or(0)));
        part.len()
    }

    /// Takes what is there, up to so many bytes.
    fn take(&self, into: &mut Vec<u8>, most: usize) {
        let (prod, cons) = (self.load(RSP_PROD), self.load(RSP_CONS));
        let count = (prod.wrapping_sub(cons) as usize).min(most).min(RING_SIZE);
        for at in 0..count {
            let at = RSP + cons.wrapping_add(u32::try_from(at).unwrap_or(0)) as usize % RING_SIZE;
            into.push(self.page.load(at, Order::Relaxed).unwrap_or(0));
        }
        self.poke(RSP_CONS, cons.wrapping_add(u32::try_from(count).unwrap_or(0)));
        if count > 0 {
            self.notify();
        }
    }

    /// Sends a message, whatever it is. An error: xenstored takes none.
    ///
    /// # Errors
    /// That there was no room for long.
    pub fn send(&mut self, kind: u32, tx_id: u32, len: u32, payload: &[u8]) -> Result<u32, String> {
        let id = self.next;
        self.next = id.wrapping_add(1);
        let mut message = Vec::from(XsdSockmsg { msg_type: kind, req_id: id, tx_id, len }.as_bytes());
        message.extend_from_slice(payload);
        let until = self.xen.now_ns().saturating_add(PATIENCE_NS);
        let mut rest = message.as_slice();
        while !rest.is_empty() {
            let done = self.put(rest);
            rest = rest.get(done..).unwrap_or(&[]);
            self.notify();
            if done == 0 {
                self.wait(until)?;
            }
        }
        Ok(id)
    }

    fn wait(&self, until_ns: u64) -> Result<(), String> {
        let now = self.xen.now_ns();
        if now >= until_ns {
            return Err("xenstored does not answer".to_string());
        }
        self.xen.evtchn_take_pending(self.port);
        let look = now.saturating_add(LOOK_NS).min(until_ns);
        self.xen.poll(&[self.port], Some(look)).map_err(|why| format!("poll: {why:?}"))
    }

    fn read_exact(&self, len: usize, until_ns: u64) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        loop {
            let missing = len - bytes.len();
            self.take(&mut bytes, missing);
            if bytes.len() >= len {
                return Ok(bytes);
            }
            self.wait(until_ns)?;
        }
    }

    /// The answer to a request. Watch events are counted; answers to earlier requests are dropped.
    ///
    /// # Errors
    /// The name of xenstored's error, or that there is no answer.
    pub fn answer(&mut self, id: u32) -> Result<Vec<u8>, String> {
        let until = self.xen.now_ns().saturating_add(PATIENCE_NS);
        loop {
            let header = self.read_exact(HEADER, until)?;
            let header = XsdSockmsg::read_from_bytes(&header).unwrap_or_default();
            let payload = self.read_exact(header.len as usize, until)?;
            self.events = self.events.wrapping_add(u64::from(header.msg_type == XS_WATCH_EVENT));
            if header.req_id != id || header.msg_type == XS_WATCH_EVENT {
                continue;
            }
            if header.msg_type == XS_ERROR {
                return Err(String::from_utf8_lossy(payload.strip_suffix(b"\0").unwrap_or(&payload)).into());
            }
            return Ok(payload);
        }
    }

    /// Takes what comes for that long, and counts events.
    pub fn drain(&mut self, for_ns: u64) {
        let until = self.xen.now_ns().saturating_add(for_ns);
        while let Ok(header) = self.read_exact(HEADER, until) {
            let header = XsdSockmsg::read_from_bytes(&header).unwrap_or_default();
            let _ = self.read_exact(header.len as usize, until.saturating_add(PATIENCE_NS));
            self.events = self.events.wrapping_add(u64::from(header.msg_type == XS_WATCH_EVENT));
        }
    }

    /// A request and its answer.
    ///
    /// # Errors
    /// As [`Store::answer`].
    pub fn ask(&mut self, kind: u32, tx_id: u32, payload: &[u8]) -> Result<Vec<u8>, String> {
        let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let id = self.send(kind, tx_id, len, payload)?;
        self.answer(id)
    }

    /// As [`Store::ask`], with strings.
    ///
    /// # Errors
    /// As there.
    pub fn ask_of(&mut self, kind: u32, tx_id: u32, words: &[&str]) -> Result<Vec<u8>, String> {
        let payload: Vec<u8> = words.iter().flat_map(|word| word.bytes().chain([0])).collect();
        self.ask(kind, tx_id, &payload)
    }

    /// The value of a node; nothing if there is none.
    #[must_use]
    pub fn read(&mut self, path: &str) -> Option<String> {
        self.ask_of(XS_READ, 0, &[path]).ok().and_then(|value| String::from_utf8(value).ok())
    }

    /// Writes a node.
    ///
    /// # Errors
    /// As [`Store::answer`].
    pub fn write(&mut self, path: &str, value: &[u8]) -> Result<(), String> {
        let mut payload = vec![0; path.len() + 1];
        payload.splice(..path.len(), path.bytes());
        payload.extend_from_slice(value);
        self.ask(XS_WRITE, 0, &payload).map(drop)
    }

    /// Removes a node and what is below it.
    ///
    /// # Errors
    /// As [`Store::answer`].
    pub fn rm(&mut self, path: &str) -> Result<(), String> {
        self.ask_of(XS_RM, 0, &[path]).map(drop)
    }
}
