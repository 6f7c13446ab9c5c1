//! A fake netback in domain 0: handshake over the fake xenstored, both rings, frames.
//!
//! It looks at the rings only when notified and notifies only when asked to, so a driver that forgets
//! either hangs here as it would on Xen. It takes and brings what Linux' netback does: frames in parts
//! (`frames.rs`).

mod frames;

use super::backring::BackRing;
use super::toolstack::Device;
use super::xenstored::XenStored;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;
use frames::{Takes, copy_in, read_chain};
use kernel::fake::FakeXen;
use kernel::{DomId, GrantRef, Hypervisor, Port};
use xen_pv_sys::io::netif::{
    NETIF_RSP_DROPPED, NETIF_RSP_ERROR, NETIF_RSP_NULL, NETIF_RSP_OKAY, NETRXF_EXTRA_INFO, NETRXF_MORE_DATA,
    RX_ENTRY_SIZE, RxRequest, RxResponse, TX_ENTRY_SIZE, TxResponse,
};
use zerocopy::{FromBytes, IntoBytes};

pub use frames::{RxForm, SentFrame};

/// A broken rule, or bad luck. Of the receive ring but for the last five.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NetMisdeed {
    /// The next response carries this id.
    RxId(u16),
    /// The next part of a frame begins here.
    RxOffset(u16),
    /// The next response says that its part is so long.
    RxStatus(i16),
    /// The next response has these flags.
    RxFlags(u16),
    /// `rsp_prod` jumps ahead by this much.
    RxIndexJump(u32),
    /// The next response of the transmit ring has another id.
    TxBogusId,
    /// It has this one.
    TxId(u16),
    /// It is given twice.
    TxDuplicate,
    /// It says that the frame was dropped.
    TxDropped,
    /// It answers extra information that there was not.
    TxNull,
}

struct Connection {
    /// It found no place for a frame, and waits to be told of one.
    rx_waits: bool,
    tx: BackRing,
    rx: BackRing,
    port: Port,
}

struct Inner {
    me: FakeXen,
    stub: DomId,
    number: u32,
    store: XenStored,
    front_dir: String,
    back_dir: String,
    connection: Option<Connection>,
    kept: Vec<Connection>,
    /// The driver serves the device.
    is_bound: bool,
    keeps_rings: bool,
    misdeed: Option<NetMisdeed>,
    /// What the toolstack says of the length of frames, when it makes the interface.
    mtu: String,
    /// Frames are taken, but their pages not given back.
    holds_tx: bool,
    connections: u64,
    sent: Vec<SentFrame>,
    /// Frames that wait for a place in the receive ring.
    incoming: VecDeque<(Vec<u8>, RxForm)>,
}

/// A handle on the fake; clones are the same netback.
#[derive(Clone)]
pub struct NetBack {
    inner: Rc<RefCell<Inner>>,
}

impl NetBack {
    /// Creates the interface `number` of `stub`, both ends' nodes included, as the toolstack does. Netback is
    /// domain 0.
    #[must_use]
    pub fn attach(stub: &FakeXen, store: &XenStored, number: u32) -> NetBack {
        let (me, stub) = (stub.domain(DomId(0)), stub.me());
        let inner = Inner {
            me: me.clone(),
            stub,
            number,
            store: store.clone(),
            front_dir: format!("/local/domain/{stub}/device/vif/{number}"),
            back_dir: String::new(),
            connection: None,
            kept: Vec::new(),
            is_bound: false,
            keeps_rings: false,
            misdeed: None,
            mtu: "1500".to_string(),
            holds_tx: false,
            connections: 0,
            sent: Vec::new(),
            incoming: VecDeque::new(),
        };
        let back = NetBack { inner: Rc::new(RefCell::new(inner)) };
        back.reattach(DomId(0));
        let peer = back.clone();
        me.on_idle(move || peer.inner.borrow_mut().step());
        back
    }

    /// The toolstack makes the interface again, with domain `backend` as its netback. Whatever was there
    /// before is gone, as if that domain had died.
    pub fn reattach(&self, backend: DomId) {
        let mut inner = self.inner.borrow_mut();
        inner.disconnect();
        let Inner { stub, number, store, front_dir, back_dir, mtu, .. } = &*inner;
        let device = Device { store, front_dir, class: "vif", number: *number, stub: *stub, backend };
        let back_dir = device.make(
            back_dir,
            &[("mac", "00:16:3e:01:02:03"), ("mtu", mtu.as_str())],
            &[("feature-rx-copy", "1"), ("feature-sg", "1"), ("feature-gso-tcpv4", "1")],
        );
        inner.me = inner.me.domain(backend);
        inner.back_dir = back_dir;
        inner.is_bound = true;
    }

    /// The interface's MTU from the next time on that it is made ([`NetBack::reattach`]).
    pub fn set_mtu(&self, mtu: u16) {
        self.inner.borrow_mut().mtu = mtu.to_string();
    }

    /// Takes the driver off the interface, as Linux does: frames are dropped, the state stays.
    pub fn unbind(&self) {
        let mut inner = self.inner.borrow_mut();
        inner.disconnect();
        inner.is_bound = false;
    }

    /// Gives the interface to its driver again.
    pub fn bind(&self) {
        let mut inner = self.inner.borrow_mut();
        inner.is_bound = true;
        inner.go_to(2);
    }

    /// Whether it keeps the rings mapped when a connection ends. Those that it kept it lets go of when that
    /// is over.
    pub fn keep_rings(&self, keeps: bool) {
        let mut inner = self.inner.borrow_mut();
        inner.keeps_rings = keeps;
        if !keeps {
            let kept = core::mem::take(&mut inner.kept);
            kept.iter().for_each(|connection| connection.unmap(&inner.me, inner.stub));
        }
    }

    /// Breaks this rule with its next response.
    pub fn misbehave(&self, misdeed: NetMisdeed) {
        self.inner.borrow_mut().misdeed = Some(misdeed);
    }

    /// Whether frames are taken and their pages not given back.
    pub fn hold_tx(&self, holds: bool) {
        self.inner.borrow_mut().holds_tx = holds;
    }

    /// A frame comes from the network. It waits until there is a place for it.
    pub fn deliver(&self, frame: &[u8]) {
        self.deliver_as(frame, RxForm::default());
    }

    /// As [`NetBack::deliver`], in that form.
    pub fn deliver_as(&self, frame: &[u8], form: RxForm) {
        self.inner.borrow_mut().incoming.push_back((frame.to_vec(), form));
    }

    /// Frames that wait for a place.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.inner.borrow().incoming.len()
    }

    /// The frames that were sent since the last call.
    #[must_use]
    pub fn take_sent(&self) -> Vec<Vec<u8>> {
        self.take_sent_frames().into_iter().map(|frame| frame.bytes).collect()
    }

    /// The same, and what they are sent with.
    #[must_use]
    pub fn take_sent_frames(&self) -> Vec<SentFrame> {
        core::mem::take(&mut self.inner.borrow_mut().sent)
    }

    /// Connections made so far.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.inner.borrow().connections
    }

    /// A node of its directory, to be changed; the frontend's watch sees it if it is the state.
    pub fn set_node(&self, key: &str, value: &str) {
        let inner = self.inner.borrow();
        inner.store.write(&format!("{}/{key}", inner.back_dir), value);
    }

    /// A node of the frontend.
    #[must_use]
    pub fn front_node(&self, key: &str) -> Option<String> {
        let inner = self.inner.borrow();
        inner.store.read(&format!("{}/{key}", inner.front_dir))
    }
}

impl Connection {
    fn unmap(&self, me: &FakeXen, stub: DomId) {
        self.tx.unmap(me, stub);
        self.rx.unmap(me, stub);
    }
}

impl Inner {
    fn state_of(&self, dir: &str) -> u32 {
        self.store.read(&format!("{dir}/state")).and_then(|state| state.parse().ok()).unwrap_or(0)
    }

    fn go_to(&self, state: u32) {
        self.store.write(&format!("{}/state", self.back_dir), &state.to_string());
    }

    fn step(&mut self) -> bool {
        if !self.is_bound {
            return false;
        }
        match (self.state_of(&self.front_dir), self.state_of(&self.back_dir)) {
            (_, 1) => self.go_to(2),
            // As Linux': Initialised means nothing to it.
            (4, 2) => self.connect(),
            (5, 2..=4) => self.go_to(5),
            (6, 2..=5) => {
                self.disconnect();
                self.go_to(6);
            }
            (1, 6) => self.go_to(2),
            (4, 4) => return self.serve(),
            _ => return false,
        }
        true
    }

    fn connect(&mut self) {
        let number = |key: &str| -> Option<u32> {
            self.store.read(&format!("{}/{key}", self.front_dir))?.parse().ok()
        };
        assert_eq!(number("request-rx-copy"), Some(1), "it can do nothing else");
        let (Some(tx), Some(rx)) = (number("tx-ring-ref"), number("rx-ring-ref")) else {
            return self.go_to(5);
        };
        // What the nodes name may be what is left of an earlier connection.
        let port = number("event-channel").map(|port| self.me.evtchn_bind_interdomain(self.stub, port));
        let Some(Ok(port)) = port else { return self.go_to(5) };
        let map = |gref, entry| BackRing::map(&self.me, self.stub, vec![GrantRef(gref)], entry);
        self.connection = Some(Connection {
            rx_waits: false,
            tx: map(tx, TX_ENTRY_SIZE),
            rx: map(rx, RX_ENTRY_SIZE),
            port,
        });
        self.connections += 1;
        self.go_to(4);
    }

    fn disconnect(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        // The frontend may have closed its end already.
        let _ = self.me.evtchn_close(connection.port);
        if self.keeps_rings {
            self.kept.push(connection);
        } else {
            connection.unmap(&self.me, self.stub);
        }
    }

    fn offers(&self, key: &str) -> bool {
        self.store.read(&format!("{}/{key}", self.back_dir)).as_deref() == Some("1")
    }

    fn serve(&mut self) -> bool {
        let takes = Takes { parts: self.offers("feature-sg"), cuts: self.offers("feature-gso-tcpv4") };
        let Some(connection) = &mut self.connection else { return false };
        let notified = self.me.evtchn_take_pending(connection.port);
        if notified {
            // All of them first: an answer too many would lie where a request does.
            let taken: Vec<_> = core::iter::from_fn(|| connection.tx.take()).collect();
            let mut taken = taken.into_iter();
            while let Some(chain) = read_chain(&self.me, self.stub, takes, &mut taken) {
                self.sent.push(chain.frame);
                for (part, id) in chain.ids.into_iter().enumerate().filter(|_| !self.holds_tx) {
                    answer_tx(&mut connection.tx, id, &mut self.misdeed);
                    if part == 0 && chain.has_extra {
                        // Linux leaves in the id what stood there.
                        let null = TxResponse { id: 1, status: NETIF_RSP_NULL };
                        connection.tx.put(null.as_bytes());
                    }
                }
            }
            connection.tx.enable_events();
            connection.tx.push(&self.me, connection.port);
        }
        let mut moved = notified;
        connection.rx_waits &= !notified;
        while let Some((frame, form)) = self.incoming.front().filter(|_| !connection.rx_waits) {
            let parts = frame.chunks(form.part_bytes).count().max(1) + usize::from(form.extra.is_some());
            if connection.rx.waiting() < parts {
                connection.rx.enable_events();
                connection.rx_waits = true;
                break;
            }
            bring(&self.me, self.stub, &mut connection.rx, (frame, form), &mut self.misdeed);
            self.incoming.pop_front();
            moved = true;
        }
        connection.rx.push(&self.me, connection.port);
        moved
    }
}

/// Puts a frame into places of the receive ring. There are enough.
fn bring(
    me: &FakeXen,
    stub: DomId,
    ring: &mut BackRing,
    (frame, form): (&[u8], &RxForm),
    misdeed: &mut Option<NetMisdeed>,
) {
    let mut parts = frame.chunks(form.part_bytes).peekable();
    let mut flags = form.flags | if form.extra.is_some() { NETRXF_EXTRA_INFO } else { 0 };
    let mut extra = form.extra;
    while let Some(part) = parts.next() {
        let entry = ring.take().expect("a place");
        let (request, _) = RxRequest::read_from_prefix(&entry).expect("an entry");
        let offset = if let Some(NetMisdeed::RxOffset(offset)) = *misdeed { offset } else { 0 };
        copy_in(me, stub, request.gref, offset, part);
        flags |= if parts.peek().is_some() { NETRXF_MORE_DATA } else { 0 };
        let len = i16::try_from(part.len()).expect("short");
        answer_rx(ring, RxResponse { id: request.id, offset, flags, status: len }, misdeed);
        flags = 0;
        if let Some(extra) = extra.take() {
            let _ = ring.take().expect("a place");
            ring.put(extra.as_bytes());
        }
    }
}

fn answer_tx(ring: &mut BackRing, id: u16, misdeed: &mut Option<NetMisdeed>) {
    let mut response = TxResponse { id, status: NETIF_RSP_OKAY };
    match *misdeed {
        Some(NetMisdeed::TxBogusId) => response.id ^= 1 << 8,
        Some(NetMisdeed::TxId(other)) => response.id = other,
        Some(NetMisdeed::TxDuplicate) => ring.put(response.as_bytes()),
        Some(NetMisdeed::TxNull) => response.status = NETIF_RSP_NULL,
        Some(NetMisdeed::TxDropped) => response.status = NETIF_RSP_DROPPED,
        _ => return ring.put(response.as_bytes()),
    }
    *misdeed = None;
    ring.put(response.as_bytes());
}

fn answer_rx(ring: &mut BackRing, mut response: RxResponse, misdeed: &mut Option<NetMisdeed>) {
    match *misdeed {
        Some(NetMisdeed::RxId(id)) => response.id = id,
        Some(NetMisdeed::RxStatus(status)) => response.status = status,
        Some(NetMisdeed::RxFlags(flags)) => response.flags = flags,
        Some(NetMisdeed::RxIndexJump(by)) => ring.rsp_prod = ring.rsp_prod.wrapping_add(by),
        Some(NetMisdeed::RxOffset(_)) => {}
        _ => return ring.put(response.as_bytes()),
    }
    *misdeed = None;
    ring.put(response.as_bytes());
}

/// What netback answers for a frame that it could not bring.
pub const RX_ERROR: i16 = NETIF_RSP_ERROR;
