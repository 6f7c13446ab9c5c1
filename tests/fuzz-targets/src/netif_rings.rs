//! Our network frontend against a netback that writes anything into nodes and rings.

use crate::Input;
use drivers::fake::XenStored;
use drivers::netfront::{FRAME_MAX_BYTES, HEADER_BYTES, Health, Offload, TX_PAGES};
use drivers::{NetFront, Xenstore};
use kernel::fake::FakeXen;
use kernel::{DomId, GrantRef, Order, SharedPage};
use std::cell::RefCell;
use std::num::NonZeroU16;
use std::rc::Rc;
use xen_pv_sys::io::netif::{
    ExtraInfo, NETRXF_EXTRA_INFO, NETRXF_MORE_DATA, RX_ENTRY_SIZE, RxResponse, TX_ENTRY_SIZE, TxRequest,
    TxResponse,
};
use xen_pv_sys::io::ring::{HEADER_SIZE, REQ_EVENT, REQ_PROD, RSP_EVENT, RSP_PROD};
use zerocopy::{FromBytes, IntoBytes};

const STUB: DomId = DomId(5);
const FRONT: &str = "/local/domain/5/device/vif/0";
const BACK: &str = "/local/domain/0/backend/vif/5/0";
const STEPS: usize = 200;
/// Entries of each ring.
const ENTRIES: u32 = 256;

const NODES: [(&str, &str); 6] = [
    (FRONT, "mac"),
    (FRONT, "mtu"),
    (BACK, "feature-rx-copy"),
    (BACK, "feature-sg"),
    (BACK, "feature-gso-tcpv4"),
    (BACK, "state"),
];
const VALUES: [&str; 10] =
    ["", "0", "1", "00:16:3e:01:02:03", "01:16:3e:01:02:03", "576", "1400", "9000", "4294967296", "x"];

/// Netback: as much of one as lets the frontend connect. It lets go of the rings when the frontend
/// closes.
struct Back {
    me: FakeXen,
    store: XenStored,
    rings: Option<[(GrantRef, SharedPage); 2]>,
}

impl Back {
    fn number(&self, directory: &str, key: &str) -> u32 {
        self.store.read(&format!("{directory}/{key}")).and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    fn go_to(&self, state: &str) {
        self.store.write(&format!("{BACK}/state"), state);
    }

    /// One step of the handshake, if there is one to take.
    fn step(&mut self) -> bool {
        match (self.number(FRONT, "state"), self.number(BACK, "state")) {
            (_, 1) => self.go_to("2"),
            (4, 2) => {
                if self.rings.is_none() {
                    self.rings = Some([self.map("tx-ring-ref"), self.map("rx-ring-ref")]);
                }
                self.go_to("4");
            }
            (5, 2..=4) => self.go_to("5"),
            (6, _) if self.rings.is_some() => self.let_go(),
            (6, 2..=5) => self.go_to("6"),
            _ => return false,
        }
        true
    }

    fn map(&self, key: &str) -> (GrantRef, SharedPage) {
        let gref = GrantRef(self.number(FRONT, key));
        (gref, self.me.map_grant(STUB, gref, true).expect("granted"))
    }

    fn let_go(&mut self) {
        for (gref, page) in self.rings.take().into_iter().flatten() {
            drop(page);
            self.me.unmap_grant(STUB, gref).expect("mapped");
        }
    }
}

/// Runs a hostile netback. Returns whether a frame came.
///
/// # Panics
/// If the frontend breaks a rule: see `drive`.
pub fn netif_rings(data: &[u8]) -> bool {
    let xen = FakeXen::new(STUB);
    let received = drive(&xen, data);
    xen.forget_peers();
    received
}

/// Both ends' nodes, as the toolstack leaves them, and what the script wants others to be.
fn nodes(store: &XenStored, input: &mut Input<'_>) {
    let front = [("backend", BACK), ("backend-id", "0"), ("mac", "00:16:3e:01:02:03"), ("state", "1")];
    for (key, value) in front {
        store.write(&format!("{FRONT}/{key}"), value);
    }
    let back = [("feature-rx-copy", "1"), ("feature-sg", "1"), ("feature-gso-tcpv4", "1"), ("state", "1")];
    for (key, value) in back {
        store.write(&format!("{BACK}/{key}"), value);
    }
    if input.u8().is_multiple_of(8) {
        let (directory, key) = input.choose(&NODES);
        store.write(&format!("{directory}/{key}"), input.choose(&VALUES));
    }
}

/// Connects, then uses the interface while nodes and rings are written by the script.
///
/// # Panics
/// If a frame has a length that no frame has; if a broken connection brings or takes one; if pages are
/// lost.
fn drive(xen: &FakeXen, data: &[u8]) -> bool {
    let mut input = Input::new(data);
    let store = XenStored::start(xen);
    nodes(&store, &mut input);
    let back = Rc::new(RefCell::new(Back { me: xen.domain(DomId(0)), store, rings: None }));
    let peer = back.clone();
    xen.on_idle(move || peer.borrow_mut().step());
    let mut xs = Xenstore::new(xen).expect("a ring");
    let Ok(mut net) = NetFront::connect(xen, &mut xs, 0) else {
        assert_eq!(xen.live_grants(), 0, "everything was taken back");
        return false;
    };
    let rings =
        back.borrow().rings.as_ref().map(|rings| rings.clone().map(|(_, page)| page)).expect("mapped");
    let grants = xen.live_grants();
    let mut received = false;
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        match input.u8() % 8 {
            0 | 1 => send(&mut net, &mut input),
            2 => net.kick(),
            3 | 4 => received |= receive(&mut net),
            5 => {
                let _ = net.enable_events();
                if input.u8().is_multiple_of(8) {
                    back.borrow().go_to(input.choose(&["4", "5", "6", "x"]));
                    let _ = net.on_watch(&mut xs, &format!("{BACK}/state"));
                }
            }
            _ => misdeed(&mut input, &rings),
        }
    }
    assert_eq!(xen.live_grants(), grants, "no page comes or goes");
    let _ = net.close(&mut xs);
    back.borrow_mut().let_go();
    assert!(xen.live_grants() <= 2, "only rings can still be mapped");
    received
}

fn send(net: &mut NetFront<FakeXen>, input: &mut Input<'_>) {
    let len = usize::from(input.u16());
    let offload =
        Offload { checksum: len.is_multiple_of(2), segment_bytes: NonZeroU16::new(input.u8().into()) };
    let sent = net.send(&vec![0xab; len], offload);
    let longest = if offload.segment_bytes.is_some() {
        net.uncut_max_bytes().map_or(0, Into::into)
    } else {
        net.frame_max_bytes()
    };
    let good = (HEADER_BYTES..=longest).contains(&len);
    assert!(sent.is_err() || good && net.health() == Health::Connected, "{len} bytes: {sent:?}");
}

/// Takes all frames; whether there was one.
fn receive(net: &mut NetFront<FakeXen>) -> bool {
    let mut frame = vec![0; FRAME_MAX_BYTES];
    let broken = net.health() != Health::Connected;
    let mut count = 0;
    while let Some(received) = net.receive(&mut frame) {
        assert!((HEADER_BYTES..=FRAME_MAX_BYTES).contains(&received.len), "{received:?}");
        count += 1;
        assert!(count <= ENTRIES, "no more than there are places");
    }
    assert!(!broken || count == 0, "a broken connection brings nothing");
    count > 0
}

/// One hostile change of the ring pages.
fn misdeed(input: &mut Input<'_>, [tx, rx]: &[SharedPage; 2]) {
    let action = input.u8();
    let ring = if action & 0x80 == 0 { rx } else { tx };
    let set = |field: usize, value: u32| ring.store(field, value, Order::Relaxed).expect("inside");
    match action % 8 {
        0 => {
            let at = usize::from(input.u16()) % 4000;
            let len = input.below(64);
            ring.write(at, input.bytes(len)).expect("inside");
        }
        1 => set(RSP_PROD, input.u32()),
        2 => set(REQ_EVENT, input.u32()),
        3 => set(RSP_EVENT, input.u32()),
        4 => answer_tx(input, tx),
        _ => answer_rx(input, rx),
    }
}

/// The frame that is due, right in most ways. It may have many parts, and extra information.
fn answer_rx(input: &mut Input<'_>, rx: &SharedPage) {
    let twist = input.u8();
    let odd = |bits: u8| twist & 0xf0 == bits;
    let parts = if odd(0xb0) { 1 + u32::from(twist & 0xf) * 4 / 3 } else { 1 + u32::from(twist & 3) };
    let has_extra = twist & 0xc == 4;
    for part in 0..parts {
        let more = if part + 1 < parts || odd(0xa0) { NETRXF_MORE_DATA } else { 0 };
        let first = if part > 0 { 0 } else { 1 | if has_extra { NETRXF_EXTRA_INFO } else { 0 } };
        let place = next_place(rx);
        let response = RxResponse {
            id: if odd(0xf0) { input.u16() } else { place },
            offset: if odd(0xe0) { input.u16() } else { 0 },
            flags: if odd(0xd0) { input.u16() } else { first | more },
            status: if odd(0xc0) { input.u16().cast_signed() } else { 14 + i16::from(input.u8()) * 16 },
        };
        put_rx(rx, response.as_bytes());
        if part == 0 && has_extra {
            let (kind, flags) = if odd(0x90) { (input.u8(), input.u8()) } else { (1, 0) };
            let gso_kind = if odd(0x80) { input.u8() } else { 1 };
            put_rx(
                rx,
                ExtraInfo { kind, flags, gso_size: 1448, gso_kind, ..ExtraInfo::default() }.as_bytes(),
            );
        }
    }
}

/// The place of the receive ring that is filled next.
fn next_place(rx: &SharedPage) -> u16 {
    let at: u32 = rx.load(RSP_PROD, Order::Relaxed).expect("inside");
    u16::try_from(at % ENTRIES).expect("small")
}

fn put_rx(rx: &SharedPage, response: &[u8]) {
    let at: u32 = rx.load(RSP_PROD, Order::Relaxed).expect("inside");
    rx.write(HEADER_SIZE + usize::from(next_place(rx)) * RX_ENTRY_SIZE, response).expect("inside");
    rx.store(RSP_PROD, at.wrapping_add(1), Order::Relaxed).expect("inside");
}

/// The answer to the next frame that was sent, right in most ways.
fn answer_tx(input: &mut Input<'_>, tx: &SharedPage) {
    let at: u32 = tx.load(RSP_PROD, Order::Relaxed).expect("inside");
    let requested: u32 = tx.load(REQ_PROD, Order::Relaxed).expect("inside");
    let twist = input.u8();
    if at == requested && twist & 0xe0 != 0xe0 {
        return;
    }
    let entry = HEADER_SIZE + (at % ENTRIES) as usize * TX_ENTRY_SIZE;
    let mut bytes = [0; TX_ENTRY_SIZE];
    tx.read(entry, &mut bytes).expect("inside");
    let request = TxRequest::read_from_bytes(&bytes).expect("as long");
    let skew = if twist & 0xf0 == 0xf0 { input.u16() % (2 * TX_PAGES) } else { 0 };
    // What lies over extra information is answered by NULL.
    let is_extra = !(request.id >> 8 == 0 && request.id < TX_PAGES);
    let status = if twist & 0xf0 == 0xd0 { -1 } else { i16::from(is_extra || twist & 0xf0 == 0xc0) };
    let response = TxResponse { id: request.id.wrapping_add(skew), status };
    tx.write(entry, response.as_bytes()).expect("inside");
    tx.store(RSP_PROD, at.wrapping_add(1), Order::Relaxed).expect("inside");
}
