//! Frames in parts, as netback takes and brings them.

use alloc::vec;
use alloc::vec::Vec;
use kernel::fake::FakeXen;
use kernel::{DomId, GrantRef};
use xen_pv_sys::io::netif::{
    EXTRA_TYPE_GSO, ExtraInfo, GSO_TYPE_TCPV4, NETRXF_CSUM_BLANK, NETRXF_DATA_VALIDATED, NETTXF_CSUM_BLANK,
    NETTXF_DATA_VALIDATED, NETTXF_EXTRA_INFO, NETTXF_MORE_DATA, NR_SLOTS_MIN, TxRequest,
};
use zerocopy::FromBytes;

/// A frame that the frontend has sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SentFrame {
    /// All of it.
    pub bytes: Vec<u8>,
    /// Its TCP checksum is for netback to make.
    pub checksum_blank: bool,
    /// Bytes of payload of the segments that netback has to cut it to.
    pub segment_bytes: Option<u16>,
    /// Pages that Linux' netback maps for it.
    pub mapped: usize,
}

/// How a frame is brought.
#[derive(Clone, Copy, Debug)]
pub struct RxForm {
    /// The flags of its first part, but for those that say what follows.
    pub flags: u16,
    /// What follows the first part.
    pub extra: Option<ExtraInfo>,
    /// Bytes of each part but the last.
    pub part_bytes: usize,
}

impl Default for RxForm {
    /// As Linux' netback brings a frame of the network.
    fn default() -> RxForm {
        RxForm { flags: NETRXF_DATA_VALIDATED, extra: None, part_bytes: 4096 }
    }
}

impl RxForm {
    /// As it brings one of its own host.
    #[must_use]
    pub fn of_the_host(segment_bytes: Option<u16>) -> RxForm {
        let extra = segment_bytes.map(|gso_size| ExtraInfo {
            kind: EXTRA_TYPE_GSO,
            gso_size,
            gso_kind: GSO_TYPE_TCPV4,
            ..ExtraInfo::default()
        });
        RxForm { flags: NETRXF_DATA_VALIDATED | NETRXF_CSUM_BLANK, extra, ..RxForm::default() }
    }
}

/// What netback has offered to take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Takes {
    pub(super) parts: bool,
    pub(super) cuts: bool,
}

/// The requests of one frame, and the frame.
pub(super) struct Chain {
    /// Ids of its parts.
    pub(super) ids: Vec<u16>,
    /// It has extra information, behind the first part.
    pub(super) has_extra: bool,
    pub(super) frame: SentFrame,
}

/// Takes the next frame off the entries, as Linux' netback does. It kills the interface of a frontend that breaks
/// one of these rules.
pub(super) fn read_chain(
    me: &FakeXen,
    owner: DomId,
    takes: Takes,
    entries: &mut impl Iterator<Item = Vec<u8>>,
) -> Option<Chain> {
    let request = |entry: Vec<u8>| TxRequest::read_from_prefix(&entry).expect("an entry").0;
    let first = request(entries.next()?);
    let known = NETTXF_CSUM_BLANK | NETTXF_DATA_VALIDATED | NETTXF_MORE_DATA | NETTXF_EXTRA_INFO;
    assert_eq!(first.flags & !known, 0, "flags");
    let checksum_blank = first.flags & NETTXF_CSUM_BLANK != 0;
    let has_extra = first.flags & NETTXF_EXTRA_INFO != 0;
    let segment_bytes = has_extra.then(|| {
        let (extra, _) =
            ExtraInfo::read_from_prefix(&entries.next().expect("extra information")).expect("one");
        assert_eq!((extra.kind, extra.flags, extra.gso_kind), (EXTRA_TYPE_GSO, 0, GSO_TYPE_TCPV4));
        assert!(extra.gso_size > 0 && checksum_blank && takes.cuts);
        extra.gso_size
    });
    let mut parts = vec![first];
    while parts.last().is_some_and(|last| last.flags & NETTXF_MORE_DATA != 0) {
        let part = request(entries.next().expect("another part"));
        assert_eq!(part.flags & !NETTXF_MORE_DATA, 0, "a later part's flags");
        parts.push(part);
    }
    assert!(parts.len() <= NR_SLOTS_MIN && (takes.parts || parts.len() == 1), "{} parts", parts.len());
    // The first has the length of all.
    let rest: u16 = parts[1..].iter().map(|part| part.size).sum();
    parts[0].size = first.size.checked_sub(rest).expect("no more than all");
    // So that whoever wants to see the headers need not put them together.
    assert!(parts.len() == 1 || parts[0].size >= 74, "a first part of {} bytes", parts[0].size);
    let bytes = parts.iter().flat_map(|part| copy_out(me, owner, *part)).collect();
    let ids = parts.iter().map(|part| part.id).collect();
    // It copies so much, and maps the rest of each part.
    let mut copied: u16 = 128;
    let is_left = |part: &&TxRequest| {
        let whole = part.size <= copied;
        copied = copied.saturating_sub(part.size);
        !whole
    };
    let mapped = parts.iter().filter(is_left).count();
    Some(Chain { ids, has_extra, frame: SentFrame { bytes, checksum_blank, segment_bytes, mapped } })
}

fn copy_out(me: &FakeXen, owner: DomId, request: TxRequest) -> Vec<u8> {
    let page = me.map_grant(owner, GrantRef(request.gref), false).expect("a granted page");
    let mut bytes = vec![0; request.size.into()];
    page.read(request.offset.into(), &mut bytes).expect("inside");
    drop(page);
    me.unmap_grant(owner, GrantRef(request.gref)).expect("just mapped");
    bytes
}

/// Copies part of a frame into a page, as far as it lies in it.
pub(super) fn copy_in(me: &FakeXen, owner: DomId, gref: u32, offset: u16, bytes: &[u8]) {
    let page = me.map_grant(owner, GrantRef(gref), true).expect("a granted page");
    let room = 4096usize.saturating_sub(offset.into());
    page.write(usize::from(offset).min(4096), &bytes[..bytes.len().min(room)]).expect("inside");
    drop(page);
    me.unmap_grant(owner, GrantRef(gref)).expect("just mapped");
}
