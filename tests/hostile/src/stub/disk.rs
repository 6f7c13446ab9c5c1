//! Attacks on blkback, in dom0, by a frontend of our own (`public/io/blkif.h`). Each has a connection of its
//! own; after it an honest read has to work.

use super::frontend::{Disk, ENTRIES, FRONTEND, bytes_of, good, tell, wait_state};
use super::{Attack, Outcome, Site, Wrong};
use alloc::format;
use alloc::string::{String, ToString};
use kernel::{Hypervisor, Order, misuse};
use xen_pv_sys::io::blkif::{
    BLKIF_OP_DISCARD, BLKIF_OP_FLUSH_DISKCACHE, BLKIF_OP_INDIRECT, BLKIF_OP_READ, BLKIF_OP_WRITE,
    MAX_INDIRECT_PAGES_PER_REQUEST, RING_ENTRY_SIZE, Request, RequestDiscard, RequestIndirect, Segment,
};
use xen_pv_sys::io::ring::{HEADER_SIZE, RSP_PROD};

/// The attacks.
pub(super) const ATTACKS: &[Attack] = &[
    Attack {
        name: "too-many-segments",
        tries: "requests of more segments than a request has",
        run: |site| requests(site, too_many_segments),
    },
    Attack {
        name: "segments-beyond-page",
        tries: "segments that begin after their end, or end after their page",
        run: |site| requests(site, segments_beyond_page),
    },
    Attack {
        name: "sectors-beyond-disk",
        tries: "sectors behind the disk, and so far that they wrap",
        run: |site| requests(site, sectors_beyond_disk),
    },
    Attack {
        name: "operations-unknown",
        tries: "every operation that there is not",
        run: |site| requests(site, operations_unknown),
    },
    Attack {
        name: "pages-not-granted",
        tries: "pages that nobody has granted",
        run: |site| requests(site, pages_not_granted),
    },
    Attack {
        name: "indirect-nonsense",
        tries: "indirect requests of 65535 segments, of indirect ones, of no page",
        run: |site| requests(site, indirect_nonsense),
    },
    Attack {
        name: "discards-beyond-disk",
        tries: "discards of more than the disk, and so much that it wraps",
        run: |site| requests(site, discards_beyond_disk),
    },
    Attack {
        name: "flushes-with-segments",
        tries: "flushes that carry data, sectors and nonsense",
        run: |site| requests(site, flushes_with_segments),
    },
    Attack {
        name: "request-index-jumps",
        tries: "an index of more requests than the ring holds",
        run: request_index_jumps,
    },
    Attack {
        name: "ring-rewritten",
        tries: "the whole ring rewritten at full rate while blkback reads it",
        run: ring_rewritten,
    },
    Attack {
        name: "disk-event-storm",
        tries: "blkback woken at full rate, with no request",
        run: disk_event_storm,
    },
    Attack {
        name: "grants-revoked",
        tries: "grants taken back and given again amid the requests that use them",
        run: grants_revoked,
    },
    Attack {
        name: "disk-nodes-nonsense",
        tries: "rings, ports and protocols that are none",
        run: disk_nodes_nonsense,
    },
    Attack {
        name: "disk-requests-left",
        tries: "requests under way that nobody waits for",
        run: left_amid_requests,
    },
    Attack {
        name: "disk-states-flap",
        tries: "xenbus states in any order, and some that are none, with requests under way",
        run: disk_states_flap,
    },
];

/// Connects, attacks, closes; and an honest frontend has to be served afterwards.
fn with_disk(site: &mut Site, attack: impl FnOnce(&mut Site, &mut Disk) -> Outcome) -> Outcome {
    let mut disk = Disk::connect(site)?;
    let outcome = attack(site, &mut disk);
    disk.close(site)?;
    let outcome = outcome?;
    let mut disk = Disk::connect(site)?;
    let request = bytes_of(&good(&disk, 1));
    disk.put(&request);
    disk.show(site);
    let after = disk.answered(site);
    disk.close(site)?;
    if after == (1, 0) {
        Ok(outcome)
    } else {
        Err(Wrong::NotMade(format!("an honest read afterwards: {after:?}")))
    }
}

/// Makes 64 requests, 8 at a time.
fn requests(site: &mut Site, build: fn(&Disk, u32) -> [u8; RING_ENTRY_SIZE]) -> Outcome {
    with_disk(site, |site, disk| {
        let (mut answered, mut status) = (0, 0);
        for turn in 0..8 {
            for n in 0..8 {
                let request = build(disk, turn * 8 + n);
                disk.put(&request);
            }
            disk.show(site);
            let (some, last) = disk.answered(site);
            answered += some;
            status = last;
        }
        Ok(format!("{answered} of 64 answered, the last with {status}"))
    })
}

fn too_many_segments(disk: &Disk, n: u32) -> [u8; RING_ENTRY_SIZE] {
    let nr_segments = [12, 13, 32, 127, 128, 200, 254, 255][n as usize % 8];
    bytes_of(&Request { nr_segments, operation: (n / 8 % 2) as u8, ..good(disk, n.into()) })
}

fn segments_beyond_page(disk: &Disk, n: u32) -> [u8; RING_ENTRY_SIZE] {
    let mut request = Request { operation: (n % 2) as u8, nr_segments: 11, ..good(disk, n.into()) };
    let (first_sect, last_sect) =
        [(7, 0), (0, 8), (8, 8), (0, 255), (255, 255), (255, 0), (1, 0), (7, 8)][n as usize / 2 % 8];
    for segment in &mut request.seg {
        *segment = Segment { first_sect, last_sect, ..*segment };
    }
    bytes_of(&request)
}

fn sectors_beyond_disk(disk: &Disk, n: u32) -> [u8; RING_ENTRY_SIZE] {
    let sector_number =
        [2048, 2047, u64::MAX, u64::MAX - 6, 1 << 55, 1 << 63, 1 << 54, 0xffff_ffff][n as usize % 8];
    bytes_of(&Request {
        sector_number,
        operation: (n / 8 % 2) as u8,
        nr_segments: 11,
        ..good(disk, n.into())
    })
}

fn operations_unknown(disk: &Disk, n: u32) -> [u8; RING_ENTRY_SIZE] {
    // 4 is reserved; 7 and on are none.
    let operation = if n == 0 { 4 } else { n.wrapping_mul(3).to_le_bytes()[0] | 8 };
    bytes_of(&Request { operation, nr_segments: (n % 12) as u8, ..good(disk, n.into()) })
}

fn pages_not_granted(disk: &Disk, n: u32) -> [u8; RING_ENTRY_SIZE] {
    let mut request = Request { operation: (n % 2) as u8, nr_segments: 11, ..good(disk, n.into()) };
    let gref = [0, 7, 5000, 0x7fff_ffff, u32::MAX, 1 << 20, 511, 600][n as usize / 2 % 8];
    // The first ones are good: what was mapped for them has to go again.
    for segment in request.seg.iter_mut().skip(n as usize % 4) {
        segment.gref = gref;
    }
    bytes_of(&request)
}

fn indirect_nonsense(disk: &Disk, n: u32) -> [u8; RING_ENTRY_SIZE] {
    let gref = disk.pages.first().map_or(0, |gref| gref.0);
    let indirect_grefs = [gref, 0, 9999, u32::MAX][n as usize / 8 % 4];
    bytes_of(&RequestIndirect {
        operation: BLKIF_OP_INDIRECT,
        indirect_op: [BLKIF_OP_READ, BLKIF_OP_INDIRECT, BLKIF_OP_DISCARD, 255][n as usize % 4],
        nr_segments: [u16::MAX, 4096, 257, 256, 0, 1, 512, 0x8000][n as usize % 8],
        id: n.into(),
        indirect_grefs: [indirect_grefs; MAX_INDIRECT_PAGES_PER_REQUEST],
        ..RequestIndirect::default()
    })
}

fn discards_beyond_disk(_: &Disk, n: u32) -> [u8; RING_ENTRY_SIZE] {
    let numbers = [0, 1, 2047, 2048, 1 << 40, 1 << 63, u64::MAX - 1, u64::MAX];
    bytes_of(&RequestDiscard {
        operation: BLKIF_OP_DISCARD,
        flag: (n % 3) as u8,
        id: n.into(),
        sector_number: numbers[n as usize % 8],
        nr_sectors: numbers[n as usize / 8 % 8],
        ..RequestDiscard::default()
    })
}

fn flushes_with_segments(disk: &Disk, n: u32) -> [u8; RING_ENTRY_SIZE] {
    let request = good(disk, n.into());
    // 2 is a barrier, which blkback may know.
    let operation = if n.is_multiple_of(2) { BLKIF_OP_FLUSH_DISKCACHE } else { 2 };
    bytes_of(&Request {
        operation,
        nr_segments: (n % 14) as u8,
        sector_number: u64::from(n) << 58,
        ..request
    })
}

fn request_index_jumps(site: &mut Site) -> Outcome {
    for jump in [33_u32, 1000, 1 << 31, u32::MAX] {
        with_disk(site, |site, disk| {
            disk.prod = disk.prod.wrapping_add(jump);
            disk.show(site);
            site.rest(300);
            Ok(String::new())
        })?;
    }
    Ok("4 jumps".to_string())
}

fn ring_rewritten(site: &mut Site) -> Outcome {
    with_disk(site, |site, disk| {
        let mut word = 0x9e37_79b9_7f4a_7c15_u64;
        let times = site.flood(|site, n| {
            let good =
                bytes_of(&Request { operation: (n % 2) as u8, nr_segments: 11, ..good(disk, n.into()) });
            for _ in 0..8 {
                disk.put(&good);
            }
            disk.show(site);
            for _ in 0..2000 {
                word = word.rotate_left(7).wrapping_mul(0x0100_0000_01b3);
                let words = (ENTRIES as usize * RING_ENTRY_SIZE / 8) as u64;
                let at = HEADER_SIZE + usize::try_from(word % words).unwrap_or(0) * 8;
                let _ = disk.ring.store(at, word, Order::Relaxed);
            }
        });
        Ok(format!("{times} times"))
    })
}

fn disk_event_storm(site: &mut Site) -> Outcome {
    with_disk(site, |site, disk| {
        let port = disk.port;
        let times = site.flood(|site, _| {
            let _ = site.xen.evtchn_send(port);
        });
        Ok(format!("{times} sent"))
    })
}

fn grants_revoked(site: &mut Site) -> Outcome {
    with_disk(site, |site, disk| {
        let times = site.flood(|site, n| {
            let request =
                bytes_of(&Request { operation: (n % 2) as u8, nr_segments: 11, ..good(disk, n.into()) });
            let done = disk.ring.load::<u32>(RSP_PROD, Order::AcqRel).unwrap_or(0);
            if disk.prod.wrapping_sub(done) < ENTRIES {
                disk.put(&request);
                disk.show(site);
            }
            // None, for writing, for reading only.
            for &gref in &disk.pages {
                let _ = misuse::store_grant_flags(&site.xen, gref, [0, 1, 5][n as usize % 3]);
            }
        });
        for &gref in &disk.pages {
            let _ = misuse::store_grant_flags(&site.xen, gref, 1);
        }
        let answered = disk.answered(site);
        Ok(format!("{times} times, at last {answered:?}"))
    })
}

fn disk_nodes_nonsense(site: &mut Site) -> Outcome {
    let nodes: [&[(&str, &str)]; 8] = [
        &[("ring-ref", "4294967295"), ("event-channel", "1")],
        &[("ring-ref", "8"), ("event-channel", "0")],
        &[("ring-ref", "8"), ("event-channel", "4294967295")],
        &[("ring-ref", "-1"), ("event-channel", "x")],
        &[("ring-ref", ""), ("event-channel", "")],
        &[("ring-page-order", "31"), ("ring-ref0", "8")],
        &[("protocol", "no-abi"), ("ring-ref", "8")],
        &[("multi-queue-num-queues", "4294967295"), ("protocol", "x86_32-abi")],
    ];
    for list in nodes {
        wait_state(site, &["2"])?;
        for (key, value) in list {
            tell(site, key, value)?;
        }
        tell(site, "state", 3)?;
        site.rest(200);
        for (key, _) in list {
            let _ = site.store.rm(&format!("{FRONTEND}/{key}"));
        }
        tell(site, "state", 5)?;
        wait_state(site, &["5", "6"])?;
        tell(site, "state", 6)?;
        wait_state(site, &["6"])?;
        tell(site, "state", 1)?;
    }
    with_disk(site, |_, _| Ok("8 lists".to_string()))
}

/// The last: blkback may give this disk up for it.
fn disk_states_flap(site: &mut Site) -> Outcome {
    let states = ["4", "1", "3", "6", "2", "5", "7", "8", "9", "-1", "4294967295", "3", "1"];
    let times = site.flood(|site, n| {
        let state = states.get(n as usize % states.len()).copied().unwrap_or_default();
        // One that is refused is an attack all the same.
        let _ = tell(site, "state", state);
    });
    Ok(format!("{times} states"))
}

fn left_amid_requests(site: &mut Site) -> Outcome {
    let mut disk = Disk::connect(site)?;
    for n in 0..ENTRIES {
        let request =
            bytes_of(&Request { operation: BLKIF_OP_WRITE, nr_segments: 11, ..good(&disk, n.into()) });
        disk.put(&request);
    }
    disk.show(site);
    Ok("32 under way".to_string())
}
