//! What a back end can do to its frontend. Each attack begins on a connection that works; afterwards the
//! back end is honest again.

use super::{Blkback, response_to, segments};
use crate::back_end::{address, failed};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use kernel::{Delay, DelayNs, Hypervisor, Order};
use xen_pv_sys::PAGE_SIZE;
use xen_pv_sys::io::blkif::{BLKIF_OP_DISCARD, BLKIF_RSP_EOPNOTSUPP, BLKIF_RSP_ERROR, Request, Response};
use xen_pv_sys::io::xenbus::XenbusState;

/// One attack.
pub struct Attack {
    /// As the report names it.
    pub name: &'static str,
    /// What it tries.
    pub tries: &'static str,
    /// Makes it. An error says why it could not be made.
    pub run: fn(&mut Blkback) -> Result<(), String>,
}

/// Every attack.
pub const ALL: &[Attack] = &[
    Attack { name: "wrong-id", tries: "a response to a request that never was", run: wrong_id },
    Attack { name: "answered-twice", tries: "two responses to one request", run: answered_twice },
    Attack { name: "answered-by-rote", tries: "a ring full of old responses", run: answered_by_rote },
    Attack {
        name: "never-answered",
        tries: "one request is never answered, the others are",
        run: never_answered,
    },
    Attack { name: "silence", tries: "nothing is answered for five seconds", run: silence },
    Attack { name: "too-many", tries: "a response index that jumps", run: too_many },
    Attack { name: "index-back", tries: "a response index that goes back", run: index_back },
    Attack {
        name: "wrong-operation",
        tries: "a response that names another operation",
        run: wrong_operation,
    },
    Attack { name: "status-values", tries: "statuses that are none", run: status_values },
    Attack { name: "errors", tries: "an error for each request", run: errors },
    Attack { name: "unsupported", tries: "requests are said to be unknown", run: unsupported },
    Attack { name: "late-data", tries: "data written long after the response", run: late_data },
    Attack {
        name: "pages-kept",
        tries: "pages stay mapped and written to after their responses",
        run: pages_kept,
    },
    Attack { name: "ring-written", tries: "the whole ring is written all the time", run: ring_written },
    Attack { name: "event-storm", tries: "thousands of notifications", run: event_storm },
    Attack { name: "port-closed", tries: "the event channel is closed", run: port_closed },
    Attack { name: "ring-unmapped", tries: "the ring is unmapped without a word", run: ring_unmapped },
    Attack { name: "states-flap", tries: "xenbus states in any order", run: |back| back.end.states_flap() },
    Attack {
        name: "states-nonsense",
        tries: "xenbus states that are none",
        run: |back| back.end.states_nonsense(),
    },
    Attack {
        name: "closes-amid-requests",
        tries: "Closing and Closed with requests under way",
        run: closes_amid_requests,
    },
    Attack { name: "no-sectors", tries: "a disk of no sectors", run: |back| lie(back, "sectors", "0") },
    Attack {
        name: "fewer-sectors",
        tries: "a disk that is smaller after a reconnection",
        run: |back| lie(back, "sectors", "1024"),
    },
    Attack {
        name: "endless-sectors",
        tries: "a disk of 2^64 - 1 sectors",
        run: |back| lie(back, "sectors", "18446744073709551615"),
    },
    Attack {
        name: "words-for-sectors",
        tries: "a number of sectors that is none",
        run: |back| lie(back, "sectors", "-1 or so"),
    },
    Attack { name: "sector-of-3", tries: "a sector size of 3", run: |back| lie(back, "sector-size", "3") },
    Attack {
        name: "sector-of-1-gib",
        tries: "a sector size of 1 GiB",
        run: |back| lie(back, "sector-size", "1073741824"),
    },
    Attack {
        name: "strange-info",
        tries: "a CD-ROM that is removable, read-only and more",
        run: |back| lie(back, "info", "4294967295"),
    },
    Attack {
        name: "ring-orders",
        tries: "rings of 2^31 pages",
        run: |back| lie(back, "max-ring-page-order", "31"),
    },
    Attack { name: "node-gone", tries: "the sectors are removed, and the disk reconnects", run: node_gone },
    Attack {
        name: "node-flood",
        tries: "hundreds of nodes, and long ones, in its directory",
        run: node_flood,
    },
];

/// How long to wait for a request to attack.
const REQUEST_NS: u64 = 20_000_000_000;
const SECOND_NS: u64 = 1_000_000_000;

/// A request of the frontend's, whichever.
fn victim(back: &mut Blkback) -> Result<Request, String> {
    let until_ns = back.end.xen.now_ns().saturating_add(REQUEST_NS);
    back.next_request(until_ns)?.ok_or_else(|| String::from("no request came"))
}

fn wrong_id(back: &mut Blkback) -> Result<(), String> {
    let request = victim(back)?;
    back.answer(Response { id: request.id ^ 0x5a5a, ..response_to(&request) });
    Ok(())
}

fn answered_twice(back: &mut Blkback) -> Result<(), String> {
    let request = victim(back)?;
    back.serve(&request);
    back.answer(response_to(&request));
    Ok(())
}

fn answered_by_rote(back: &mut Blkback) -> Result<(), String> {
    let request = victim(back)?;
    let grants = back.end.grants;
    for _ in 0..32 {
        if let Some(link) = &mut back.link {
            link.ring.respond(grants, &response_to(&request));
        }
    }
    push(back);
    Ok(())
}

fn push(back: &Blkback) {
    if let Some(link) = &back.link {
        link.push(&back.end.xen, back.end.grants);
    }
}

fn never_answered(back: &mut Blkback) -> Result<(), String> {
    victim(back)?;
    Ok(())
}

fn silence(back: &mut Blkback) -> Result<(), String> {
    victim(back)?;
    Delay::new(&back.end.xen).delay_ms(5000);
    Ok(())
}

/// Moves the response index by that much, without a response.
fn move_index(back: &mut Blkback, by: u32) -> Result<(), String> {
    victim(back)?;
    let link = back.link.as_mut().ok_or("no connection")?;
    link.ring.rsp_prod = link.ring.rsp_prod.wrapping_add(by);
    push(back);
    Ok(())
}

fn too_many(back: &mut Blkback) -> Result<(), String> {
    move_index(back, 1000)
}

fn index_back(back: &mut Blkback) -> Result<(), String> {
    move_index(back, 5_u32.wrapping_neg())
}

fn wrong_operation(back: &mut Blkback) -> Result<(), String> {
    let request = victim(back)?;
    back.answer(Response { operation: BLKIF_OP_DISCARD, ..response_to(&request) });
    Ok(())
}

/// Answers with each of these statuses, doing nothing.
fn answer_each(back: &mut Blkback, statuses: &[i16]) -> Result<(), String> {
    for &status in statuses {
        let request = victim(back)?;
        back.answer(Response { status, ..response_to(&request) });
    }
    Ok(())
}

fn status_values(back: &mut Blkback) -> Result<(), String> {
    answer_each(back, &[1, -3, i16::MAX, i16::MIN])
}

fn errors(back: &mut Blkback) -> Result<(), String> {
    answer_each(back, &[BLKIF_RSP_ERROR; 8])
}

fn unsupported(back: &mut Blkback) -> Result<(), String> {
    answer_each(back, &[BLKIF_RSP_EOPNOTSUPP; 4])
}

/// The pages of a request, mapped.
fn keep(back: &Blkback, request: &Request) -> Result<Vec<u64>, String> {
    let pages: Vec<u64> = segments(request).map(|segment| address(segment.gref)).collect();
    for &page in &pages {
        back.end.grants.keep(page, PAGE_SIZE as u64).map_err(failed("a page"))?;
    }
    Ok(pages)
}

/// Writes to the pages for that long while it serves what comes.
fn scribble(back: &mut Blkback, pages: &[u64], for_ns: u64) -> Result<(), String> {
    let until_ns = back.end.xen.now_ns().saturating_add(for_ns);
    while back.end.xen.now_ns() < until_ns {
        for &page in pages {
            // A page that was granted for reading only stays as it is.
            let _ = back.end.grants.write(page, &[0xee; 64]);
        }
        back.honest_for(5_000_000)?;
    }
    Ok(())
}

fn let_go(back: &Blkback, pages: &[u64]) {
    for &page in pages {
        back.end.grants.release(page, PAGE_SIZE as u64);
    }
}

/// A read, whose pages may be written to. Others are served.
fn read_request(back: &mut Blkback) -> Result<Request, String> {
    for _ in 0..64 {
        let request = victim(back)?;
        if request.operation == 0 && request.nr_segments > 0 {
            return Ok(request);
        }
        back.serve(&request);
    }
    Err(String::from("nothing is read"))
}

fn late_data(back: &mut Blkback) -> Result<(), String> {
    let request = read_request(back)?;
    let pages = keep(back, &request)?;
    back.serve(&request);
    let scribbled = scribble(back, &pages, SECOND_NS / 2);
    let_go(back, &pages);
    scribbled
}

fn pages_kept(back: &mut Blkback) -> Result<(), String> {
    let mut pages = Vec::new();
    for _ in 0..16 {
        let request = read_request(back)?;
        pages.extend(keep(back, &request)?);
        back.serve(&request);
    }
    // Over the end of the connection, which waits for them.
    back.end.set_state(XenbusState::Closing)?;
    let scribbled = scribble(back, &pages, 2 * SECOND_NS);
    let_go(back, &pages);
    scribbled
}

fn ring_written(back: &mut Blkback) -> Result<(), String> {
    victim(back)?;
    let ring = back.link.as_ref().ok_or("no connection")?.ring.at();
    let until_ns = back.end.xen.now_ns().saturating_add(SECOND_NS);
    let mut word = 0x9e37_79b9_7f4a_7c15_u64;
    while back.end.xen.now_ns() < until_ns {
        for at in (0..PAGE_SIZE as u64).step_by(8) {
            word = word.rotate_left(7).wrapping_mul(0x0100_0000_01b3);
            back.end.grants.store(ring + at, word, Order::Relaxed).map_err(failed("the ring"))?;
        }
        push(back);
    }
    Ok(())
}

fn event_storm(back: &mut Blkback) -> Result<(), String> {
    let port = back.link.as_ref().ok_or("no connection")?.port;
    for n in 0..20_000_u32 {
        let _ = back.end.xen.evtchn_send(port);
        if n.is_multiple_of(500) {
            back.honest_for(1_000_000)?;
        }
    }
    Ok(())
}

fn port_closed(back: &mut Blkback) -> Result<(), String> {
    victim(back)?;
    let port = back.link.as_ref().ok_or("no connection")?.port;
    back.end.xen.evtchn_close(port).map_err(failed("the port"))
}

fn ring_unmapped(back: &mut Blkback) -> Result<(), String> {
    victim(back)?;
    let ring = back.link.as_ref().ok_or("no connection")?.ring.at();
    back.end.grants.release(ring, PAGE_SIZE as u64);
    Delay::new(&back.end.xen).delay_ms(1000);
    back.unlink();
    back.end.set_state(XenbusState::Closing)
}

fn closes_amid_requests(back: &mut Blkback) -> Result<(), String> {
    for state in [XenbusState::Closing, XenbusState::Closed] {
        victim(back)?;
        back.unlink();
        back.end.set_state(state)?;
        back.honest_for(SECOND_NS)?;
    }
    Ok(())
}

/// Tells something else of the disk, over a reconnection, for some time.
fn lie(back: &mut Blkback, key: &'static str, value: &'static str) -> Result<(), String> {
    back.lies = Vec::from([(key, value)]);
    back.end.set_state(XenbusState::Closing)?;
    let went = back.honest_for(2 * SECOND_NS);
    back.lies = Vec::new();
    back.unlink();
    back.end.set_state(XenbusState::Closing)?;
    went
}

fn node_gone(back: &mut Blkback) -> Result<(), String> {
    back.end.set_state(XenbusState::Closing)?;
    let until_ns = back.end.xen.now_ns().saturating_add(2 * SECOND_NS);
    while back.end.xen.now_ns() < until_ns {
        back.honest_for(20_000_000)?;
        // It is written again with the next connection.
        let _ = back.end.store.rm(&format!("{}/sectors", back.end.dir));
    }
    back.end.set_state(XenbusState::Closing)
}

fn node_flood(back: &mut Blkback) -> Result<(), String> {
    let written = back.end.flood_nodes();
    back.honest_for(SECOND_NS)?;
    back.end.clear_nodes();
    if written > 0 { Ok(()) } else { Err(String::from("no node could be written")) }
}
