//! Our xenstore client against a daemon that answers with anything.

use crate::Input;
use drivers::Xenstore;
use drivers::xenstore::{StoreError, wire};
use kernel::fake::FakeXen;
use kernel::{DomId, Hypervisor, Order, Port, SharedPage};
use std::cell::RefCell;
use std::rc::Rc;
use xen_pv_sys::hvm::{HVM_PARAM_STORE_EVTCHN, HVM_PARAM_STORE_PFN};
use xen_pv_sys::io::xs_wire::{
    PAYLOAD_MAX, REQ, REQ_CONS, REQ_PROD, RING_SIZE, RSP, RSP_CONS, RSP_PROD, XS_ERROR, XS_WATCH_EVENT,
    XsdSockmsg,
};
use zerocopy::{FromBytes, IntoBytes};

const STORE_GFN: u64 = 0x3_9001;
const CALLS: usize = 16;

/// The daemon: its half of the page, and what it will do.
struct Hostile {
    me: FakeXen,
    port: Port,
    page: SharedPage,
    script: Vec<u8>,
    at: usize,
}

impl Hostile {
    fn load(&self, field: usize) -> u32 {
        self.page.load(field, Order::Relaxed).expect("inside")
    }

    fn store(&self, field: usize, value: u32) {
        self.page.store(field, value, Order::Relaxed).expect("inside");
    }

    /// Takes one action from the script; false at its end.
    fn act(&mut self) -> bool {
        let script = std::mem::take(&mut self.script);
        let mut input = Input::new(script.get(self.at..).unwrap_or_default());
        let acted = !input.is_empty();
        if acted {
            self.action(&mut input);
            let rest = input.bytes(usize::MAX).len();
            self.at = script.len() - rest;
            self.me.evtchn_send(self.port).expect("connected");
        }
        self.script = script;
        acted
    }

    fn action(&self, input: &mut Input<'_>) {
        let action = input.u8();
        match action % 8 {
            0 => {
                let len = input.below(48);
                self.send(input.bytes(len));
            }
            1 => self.store(RSP_PROD, input.u32()),
            2 => self.store(REQ_CONS, input.u32()),
            3 => {
                // A watch event, whole or not quite.
                let len = input.below(40);
                let payload = input.bytes(len);
                self.message(XS_WATCH_EVENT, 0, payload, 0);
            }
            _ => {
                let request = self.take_request();
                let len = input.below(64);
                let payload = input.bytes(len);
                let kind = if action & 0x40 != 0 { XS_ERROR } else { request.msg_type };
                let skew = if action & 0x80 != 0 { input.u32() % 3 } else { 0 };
                self.message(kind, request.req_id.wrapping_add(skew), payload, skew);
            }
        }
    }

    /// The header of what the client sent last; everything counts as read.
    fn take_request(&self) -> XsdSockmsg {
        let (cons, prod) = (self.load(REQ_CONS), self.load(REQ_PROD));
        let mut bytes = [0u8; size_of::<XsdSockmsg>()];
        for (index, byte) in (0u32..).zip(&mut bytes) {
            let at = cons.wrapping_add(index) as usize % RING_SIZE;
            *byte = self.page.load(REQ + at, Order::Relaxed).expect("inside");
        }
        self.store(REQ_CONS, prod);
        XsdSockmsg::read_from_bytes(&bytes).expect("as long")
    }

    fn message(&self, msg_type: u32, req_id: u32, payload: &[u8], more: u32) {
        let len = u32::try_from(payload.len()).expect("short").wrapping_add(more);
        let header = XsdSockmsg { msg_type, req_id, tx_id: 0, len };
        self.send(header.as_bytes());
        self.send(payload);
    }

    fn send(&self, bytes: &[u8]) {
        let (cons, prod) = (self.load(RSP_CONS), self.load(RSP_PROD));
        let free = RING_SIZE.saturating_sub(prod.wrapping_sub(cons) as usize);
        let mut sent = 0u32;
        for byte in bytes.iter().take(free) {
            let at = prod.wrapping_add(sent) as usize % RING_SIZE;
            self.page.store(RSP + at, *byte, Order::Relaxed).expect("inside");
            sent += 1;
        }
        self.store(RSP_PROD, prod.wrapping_add(sent));
    }
}

/// Makes calls while the daemon acts out its script. Returns whether a call was answered.
///
/// # Panics
/// If a call does not end, if a broken connection comes back to life, or if a parser hands
/// out more than it was given.
pub fn xenstore_wire(data: &[u8]) -> bool {
    parsers(data);
    let mut input = Input::new(data);
    let stub = FakeXen::new(DomId(5));
    let me = stub.domain(DomId(0));
    let page = stub.add_magic_page(STORE_GFN);
    let theirs = stub.evtchn_alloc_unbound(DomId(0)).expect("a port");
    stub.set_param(HVM_PARAM_STORE_PFN, STORE_GFN);
    stub.set_param(HVM_PARAM_STORE_EVTCHN, theirs.0.into());
    let port = me.evtchn_bind_interdomain(DomId(5), theirs.0).expect("the stub's port");
    let calls = input.bytes(CALLS);
    let script = input.bytes(usize::MAX).to_vec();
    let hostile = Rc::new(RefCell::new(Hostile { me: me.clone(), port, page, script, at: 0 }));
    me.on_idle(move || hostile.borrow_mut().act());

    let mut xs = Xenstore::new(&stub).expect("a ring");
    xs.set_request_timeout_ns(1000);
    let mut dead = None;
    let mut answered = false;
    for call in calls {
        let result = make(&mut xs, *call);
        let fault = match result {
            Err(StoreError::Fault(fault)) => Some(fault),
            _ => None,
        };
        // Polling and waiting for events succeed without the daemon.
        answered |= result.is_ok() && !matches!(call % 8, 4 | 5);
        if let Some(old) = dead {
            assert_eq!(fault, Some(old), "a dead connection stays dead");
        }
        dead = dead.or(fault);
    }
    stub.forget_peers();
    answered
}

/// Makes one call.
fn make(xs: &mut Xenstore<FakeXen>, call: u8) -> Result<(), StoreError> {
    let long = "x".repeat(usize::from(call) * 12);
    match call % 8 {
        0 => xs.read("a").map(|value| assert!(value.len() <= PAYLOAD_MAX)),
        1 => xs.write("a", long.as_bytes()),
        2 => xs.directory("a").map(|names| assert!(names.len() <= PAYLOAD_MAX)),
        3 => xs.watch("a", "token"),
        4 => xs.poll_events().map(|_| while xs.next_event().is_some() {}),
        5 => {
            let deadline_ns = xs.hypervisor().now_ns() + 1000;
            xs.wait_event("token", deadline_ns).map(drop)
        }
        6 => xs.transaction(|tx| tx.write("a", b"b")),
        _ => xs.read_number("a").map(drop),
    }
}

/// The parsers alone, over the raw bytes.
fn parsers(data: &[u8]) {
    let mut assembler = wire::Assembler::default();
    let mut rest = data;
    while let Ok((taken, message)) = assembler.feed(rest) {
        if let Some(message) = &message {
            assert_eq!(message.payload.len(), message.header.len as usize);
        }
        rest = &rest[taken..];
        if rest.is_empty() || taken == 0 {
            break;
        }
    }
    if let Ok(strings) = wire::strings(data) {
        assert!(strings.iter().all(|text| !text.contains('\0')));
    }
    let _ = (wire::watch_event(data), wire::errno_from_payload(data));
}
