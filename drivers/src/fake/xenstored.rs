//! A fake xenstored for one stub: its tree, watches, transactions, and a ring whose bytes
//! can arrive in pieces of any size. It sleeps until it is notified or has something to say.

use super::tree::{Tree, is_below};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::RefCell;
use kernel::fake::FakeXen;
use kernel::{DomId, Errno, Hypervisor, Order, Port, SharedPage};
use xen_pv_sys::hvm::{HVM_PARAM_STORE_EVTCHN, HVM_PARAM_STORE_PFN};
use xen_pv_sys::io::xs_wire::{
    REQ, REQ_CONS, REQ_PROD, RING_SIZE, RSP, RSP_CONS, RSP_PROD, XS_DIRECTORY, XS_ERROR, XS_MKDIR, XS_READ,
    XS_RM, XS_TRANSACTION_END, XS_TRANSACTION_START, XS_UNWATCH, XS_WATCH, XS_WATCH_EVENT, XS_WRITE,
    XsdSockmsg,
};
use zerocopy::{FromBytes, IntoBytes};

const HEADER_BYTES: usize = size_of::<XsdSockmsg>();

/// How it serves, and how it misbehaves.
#[derive(Clone, Debug)]
pub struct Knobs {
    /// Bytes moved each way in one step: messages arrive in pieces of this size.
    pub chunk_bytes: usize,
    /// Nodes in the tree at most.
    pub quota_nodes: usize,
    /// Transactions that collide before one goes through.
    pub collisions: u32,
    /// Requests that are read and never answered.
    pub silent: bool,
    /// Answers from now on carry this much added to their `req_id`.
    pub req_id_skew: u32,
    /// Answers from now on claim this length.
    pub claimed_len: Option<u32>,
    /// `rsp_prod` jumps ahead by this much in the next step.
    pub rsp_prod_jump: u32,
}

struct Inner {
    me: FakeXen,
    stub: DomId,
    page: SharedPage,
    port: Port,
    tree: Tree,
    watches: Vec<(String, String)>,
    transactions: BTreeMap<u32, (Tree, Tree)>,
    next_tx: u32,
    inbox: Vec<u8>,
    outbox: VecDeque<u8>,
    /// Something may be done without a notification.
    awake: bool,
    knobs: Knobs,
}

/// A handle on the fake; clones are the same daemon.
#[derive(Clone)]
pub struct XenStored {
    inner: Rc<RefCell<Inner>>,
}

impl XenStored {
    /// Starts it in domain 0 of `stub`'s machine and introduces `stub` to it: ring page,
    /// port and parameters, as the toolstack does.
    ///
    /// # Panics
    /// If the machine refuses.
    #[must_use]
    pub fn start(stub: &FakeXen) -> XenStored {
        const STORE_GFN: u64 = 0x3_9001;
        let me = stub.domain(DomId(0));
        let page = stub.add_magic_page(STORE_GFN);
        let theirs = stub.evtchn_alloc_unbound(DomId(0)).expect("a port");
        stub.set_param(HVM_PARAM_STORE_PFN, STORE_GFN);
        stub.set_param(HVM_PARAM_STORE_EVTCHN, theirs.0.into());
        let port = me.evtchn_bind_interdomain(stub.me(), theirs.0).expect("the stub's port");
        let knobs = Knobs {
            chunk_bytes: RING_SIZE,
            quota_nodes: 1000,
            collisions: 0,
            silent: false,
            req_id_skew: 0,
            claimed_len: None,
            rsp_prod_jump: 0,
        };
        let inner = Inner {
            me: me.clone(),
            stub: stub.me(),
            page,
            port,
            tree: Tree::default(),
            watches: Vec::new(),
            transactions: BTreeMap::new(),
            next_tx: 1,
            inbox: Vec::new(),
            outbox: VecDeque::new(),
            awake: true,
            knobs,
        };
        let stored = XenStored { inner: Rc::new(RefCell::new(inner)) };
        let peer = stored.clone();
        me.on_idle(move || peer.inner.borrow_mut().step());
        stored
    }

    /// Changes how it serves.
    pub fn knobs(&self, change: impl FnOnce(&mut Knobs)) {
        let mut inner = self.inner.borrow_mut();
        change(&mut inner.knobs);
        inner.awake = true;
    }

    /// Writes a node as the toolstack would; watches fire.
    ///
    /// # Panics
    /// If the quota is used up.
    pub fn write(&self, path: &str, value: &str) {
        let mut inner = self.inner.borrow_mut();
        let quota = inner.knobs.quota_nodes;
        inner.tree.write(path, value.as_bytes(), quota).expect("quota");
        inner.fire(path);
    }

    /// Reads a node as text.
    #[must_use]
    pub fn read(&self, path: &str) -> Option<String> {
        let inner = self.inner.borrow();
        inner.tree.read(path).ok().map(|value| String::from_utf8_lossy(value).into_owned())
    }

    /// Removes a node and everything below it; watches fire.
    pub fn rm(&self, path: &str) {
        let mut inner = self.inner.borrow_mut();
        if inner.tree.rm(path).is_ok() {
            inner.fire(path);
        }
    }

    /// The watches that the stub has set: path and token.
    #[must_use]
    pub fn watches(&self) -> Vec<(String, String)> {
        self.inner.borrow().watches.clone()
    }

    /// Puts raw bytes into the stream to the stub.
    pub fn inject(&self, bytes: &[u8]) {
        let mut inner = self.inner.borrow_mut();
        inner.outbox.extend(bytes);
        inner.awake = true;
    }
}

impl Inner {
    fn load(&self, field: usize) -> u32 {
        self.page.load(field, Order::AcqRel).expect("inside")
    }

    fn store(&self, field: usize, value: u32) {
        self.page.store(field, value, Order::AcqRel).expect("inside");
    }

    /// Moves at most a chunk each way and handles what is whole; true if anything moved.
    fn step(&mut self) -> bool {
        if !self.me.evtchn_take_pending(self.port) && !self.awake {
            return false;
        }
        let (cons, prod) = (self.load(REQ_CONS), self.load(REQ_PROD));
        let arrived = (prod.wrapping_sub(cons) as usize).min(RING_SIZE).min(self.knobs.chunk_bytes);
        for index in 0..u32::try_from(arrived).expect("at most a ring") {
            let at = cons.wrapping_add(index) as usize % RING_SIZE;
            self.inbox.push(self.page.load(REQ + at, Order::Relaxed).expect("inside"));
        }
        self.store(REQ_CONS, cons.wrapping_add(u32::try_from(arrived).expect("at most a ring")));
        while let Some(whole) = self.whole_request() {
            self.serve(&whole);
        }
        let (cons, prod) = (self.load(RSP_CONS), self.load(RSP_PROD));
        let free = RING_SIZE.saturating_sub(prod.wrapping_sub(cons) as usize);
        let mut sent = 0u32;
        while (sent as usize) < free.min(self.knobs.chunk_bytes) {
            let Some(byte) = self.outbox.pop_front() else { break };
            let at = prod.wrapping_add(sent) as usize % RING_SIZE;
            self.page.store(RSP + at, byte, Order::Relaxed).expect("inside");
            sent += 1;
        }
        let jump = core::mem::take(&mut self.knobs.rsp_prod_jump);
        self.store(RSP_PROD, prod.wrapping_add(sent).wrapping_add(jump));
        let moved = arrived > 0 || sent > 0 || jump > 0;
        self.awake = moved;
        if moved {
            self.me.evtchn_send(self.port).expect("connected");
        }
        moved
    }

    fn whole_request(&mut self) -> Option<Vec<u8>> {
        let header = XsdSockmsg::read_from_prefix(&self.inbox).ok()?.0;
        let len = HEADER_BYTES + header.len as usize;
        (self.inbox.len() >= len).then(|| self.inbox.drain(..len).collect())
    }

    fn send(&mut self, msg_type: u32, req_id: u32, tx_id: u32, payload: &[u8]) {
        let len = u32::try_from(payload.len()).expect("short");
        let header = XsdSockmsg { msg_type, req_id, tx_id, len: self.knobs.claimed_len.unwrap_or(len) };
        self.outbox.extend(header.as_bytes());
        self.outbox.extend(payload);
        self.awake = true;
    }

    fn fire(&mut self, changed: &str) {
        // Removing a parent is a change of the watched node as well.
        let hit: Vec<_> = self
            .watches
            .iter()
            .filter_map(|(watched, token)| {
                let absolute = self.absolute(watched);
                if is_below(changed, &absolute) {
                    let relative = if watched.starts_with('/') { String::new() } else { self.absolute("") };
                    let path = changed.strip_prefix(&relative).unwrap_or(changed);
                    Some(format!("{path}\0{token}\0"))
                } else {
                    is_below(&absolute, changed).then(|| format!("{watched}\0{token}\0"))
                }
            })
            .collect();
        for event in hit {
            self.send(XS_WATCH_EVENT, 0, 0, event.as_bytes());
        }
    }

    fn absolute(&self, path: &str) -> String {
        if path.starts_with('/') { path.to_string() } else { format!("/local/domain/{}/{path}", self.stub) }
    }

    fn serve(&mut self, request: &[u8]) {
        let (header, payload) = XsdSockmsg::read_from_prefix(request).expect("whole");
        if self.knobs.silent {
            return;
        }
        let req_id = header.req_id.wrapping_add(self.knobs.req_id_skew);
        match self.answer(header.msg_type, header.tx_id, payload) {
            Ok(answer) => self.send(header.msg_type, req_id, header.tx_id, &answer),
            Err(errno) => {
                let name = Errno::ALL
                    .iter()
                    .find(|(_, number)| *number == errno.0)
                    .map_or("EINVAL", |(name, _)| name);
                self.send(XS_ERROR, req_id, header.tx_id, format!("{name}\0").as_bytes());
            }
        }
        // The first event of a watch comes after its answer.
        if header.msg_type == XS_WATCH {
            let payload = payload.to_vec();
            self.send(XS_WATCH_EVENT, 0, 0, &payload);
        }
    }

    fn answer(&mut self, msg_type: u32, tx_id: u32, payload: &[u8]) -> Result<Vec<u8>, Errno> {
        let mut fields = payload.split(|&byte| byte == 0);
        let first = core::str::from_utf8(fields.next().unwrap_or_default()).map_err(|_| Errno::EINVAL)?;
        let second = core::str::from_utf8(fields.next().unwrap_or_default()).unwrap_or_default();
        let ok = || Ok(b"OK\0".to_vec());
        match msg_type {
            XS_WATCH => {
                let watch = (first.to_string(), second.to_string());
                if self.watches.contains(&watch) {
                    return Err(Errno::EEXIST);
                }
                self.watches.push(watch);
                ok()
            }
            XS_UNWATCH => {
                let watch = (first.to_string(), second.to_string());
                let at = self.watches.iter().position(|known| *known == watch).ok_or(Errno::ENOENT)?;
                self.watches.remove(at);
                ok()
            }
            XS_TRANSACTION_START => {
                let id = self.next_tx;
                self.next_tx += 1;
                self.transactions.insert(id, (self.tree.clone(), self.tree.clone()));
                Ok(format!("{id}\0").into_bytes())
            }
            XS_TRANSACTION_END => {
                let (before, after) = self.transactions.remove(&tx_id).ok_or(Errno::ENOENT)?;
                if first == "T" {
                    return self.commit(&before, after).and_then(|()| ok());
                }
                ok()
            }
            _ => {
                let value = payload.get(first.len() + 1..).unwrap_or_default();
                self.answer_of_node(msg_type, tx_id, first, value)
            }
        }
    }

    /// The answer to a request that is about one node.
    fn answer_of_node(
        &mut self,
        msg_type: u32,
        tx_id: u32,
        node: &str,
        value: &[u8],
    ) -> Result<Vec<u8>, Errno> {
        let path = self.absolute(node);
        let quota = self.knobs.quota_nodes;
        let tree = match tx_id {
            0 => &mut self.tree,
            id => &mut self.transactions.get_mut(&id).ok_or(Errno::ENOENT)?.1,
        };
        match msg_type {
            XS_READ => return tree.read(&path).map(<[u8]>::to_vec),
            XS_DIRECTORY => {
                return Ok(tree
                    .directory(&path)?
                    .iter()
                    .flat_map(|name| [name.as_bytes(), b"\0"].concat())
                    .collect());
            }
            XS_WRITE => tree.write(&path, value, quota)?,
            XS_MKDIR if tree.read(&path).is_err() => tree.write(&path, b"", quota)?,
            XS_MKDIR => {}
            XS_RM => tree.rm(&path)?,
            _ => return Err(Errno::ENOSYS),
        }
        if tx_id == 0 {
            self.fire(&path);
        }
        Ok(b"OK\0".to_vec())
    }

    fn commit(&mut self, before: &Tree, after: Tree) -> Result<(), Errno> {
        if self.tree != *before || self.knobs.collisions > 0 {
            self.knobs.collisions = self.knobs.collisions.saturating_sub(1);
            return Err(Errno::EAGAIN);
        }
        let changed = before.changes(&after);
        self.tree = after;
        changed.iter().for_each(|path| self.fire(path));
        Ok(())
    }
}
