//! What a network back end can do to its frontend. Each attack begins on a connection that works; afterwards the
//! back end is honest again.

use super::link::{ENTRIES, brought};
use super::{Link, Netback};
use crate::back_end::address;
use crate::back_end::failed;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use kernel::{Delay, DelayNs, Hypervisor, Order};
use xen_pv_sys::PAGE_SIZE;
use xen_pv_sys::io::netif::{
    NETIF_RSP_DROPPED, NETIF_RSP_ERROR, NETIF_RSP_OKAY, NETRXF_CSUM_BLANK, NETRXF_EXTRA_INFO,
    NETRXF_MORE_DATA, RxRequest, RxResponse, TxRequest, TxResponse,
};
use xen_pv_sys::io::xenbus::XenbusState;

/// One attack.
pub struct Attack {
    /// As the report names it.
    pub name: &'static str,
    /// What it tries.
    pub tries: &'static str,
    /// Makes it. An error says why it could not be made.
    pub run: fn(&mut Netback) -> Result<(), String>,
}

/// Every attack.
pub const ALL: &[Attack] = &[
    Attack { name: "tx-wrong-id", tries: "a response to a frame that never was", run: tx_wrong_id },
    Attack { name: "tx-answered-twice", tries: "two responses to one frame", run: tx_twice },
    Attack { name: "tx-answered-by-rote", tries: "a ring full of responses to one frame", run: tx_by_rote },
    Attack { name: "tx-never-answered", tries: "frames are taken and never answered", run: tx_never },
    Attack {
        name: "tx-status-values",
        tries: "frames that failed, and statuses that are none",
        run: tx_statuses,
    },
    Attack { name: "tx-index-jumps", tries: "a response index that jumps", run: |back| tx_index(back, 1000) },
    Attack {
        name: "tx-index-back",
        tries: "a response index that goes back",
        run: |back| tx_index(back, 5_u32.wrapping_neg()),
    },
    Attack {
        name: "rx-wrong-id",
        tries: "a frame for a place that is none",
        run: |back| rx(back, |request| RxResponse { id: request.id ^ 0x5a5a, ..brought(request, 60) }),
    },
    Attack {
        name: "rx-next-id",
        tries: "a frame for the next place, whose turn it is not",
        run: |back| {
            rx(back, |request| RxResponse { id: request.id.wrapping_add(1) % 256, ..brought(request, 60) })
        },
    },
    Attack {
        name: "rx-over-page-end",
        tries: "a frame that ends beyond its page",
        run: |back| rx(back, |request| RxResponse { offset: 4000, ..brought(request, 200) }),
    },
    Attack {
        name: "rx-offset-65535",
        tries: "a frame that begins beyond its page",
        run: |back| rx(back, |request| RxResponse { offset: u16::MAX, ..brought(request, 60) }),
    },
    Attack {
        name: "rx-length-32767",
        tries: "a frame of 32767 bytes",
        run: |back| rx(back, |request| RxResponse { status: i16::MAX, ..brought(request, 60) }),
    },
    Attack {
        name: "rx-long",
        tries: "frames of 1515 to 4096 bytes",
        run: |back| lengths(back, &[1515, 1518, 2048, 4095, 4096]),
    },
    Attack {
        name: "rx-short",
        tries: "frames of 0 to 13 bytes",
        run: |back| lengths(back, &[0, 1, 2, 5, 6, 11, 12, 13]),
    },
    Attack { name: "rx-errors", tries: "errors in the place of frames, of every size", run: rx_errors },
    Attack {
        name: "rx-more-data",
        tries: "a frame in parts, which was not agreed",
        run: |back| rx(back, |request| RxResponse { flags: NETRXF_MORE_DATA, ..brought(request, 60) }),
    },
    Attack {
        name: "rx-extra-info",
        tries: "a frame with more information, which was not agreed",
        run: |back| rx(back, |request| RxResponse { flags: NETRXF_EXTRA_INFO, ..brought(request, 60) }),
    },
    Attack {
        name: "rx-other-flags",
        tries: "frames without checksum, and flags that are none",
        run: rx_flags,
    },
    Attack { name: "rx-answered-twice", tries: "two frames for one place", run: rx_twice },
    Attack { name: "rx-index-jumps", tries: "a frame index that jumps", run: rx_jumps },
    Attack { name: "rx-old-pages", tries: "frames that are what their pages held before", run: rx_old },
    Attack { name: "rx-changing", tries: "frames that change while they are read", run: rx_changing },
    Attack {
        name: "rx-junk-flood",
        tries: "frames of junk, of every length, as fast as they go",
        run: rx_junk,
    },
    Attack { name: "frames-forged", tries: "the stub's own frames come back to it", run: echo },
    Attack { name: "rings-written", tries: "both rings are written all the time", run: rings_written },
    Attack { name: "event-storm", tries: "thousands of notifications", run: event_storm },
    Attack { name: "silence", tries: "nothing is taken or brought for five seconds", run: silence },
    Attack { name: "port-closed", tries: "the event channel is closed", run: port_closed },
    Attack { name: "rings-unmapped", tries: "the rings are unmapped without a word", run: unmapped },
    Attack { name: "states-flap", tries: "xenbus states in any order", run: |back| back.end.states_flap() },
    Attack {
        name: "states-nonsense",
        tries: "xenbus states that are none",
        run: |back| back.end.states_nonsense(),
    },
    Attack { name: "flapping", tries: "connections that are closed as soon as they stand", run: flapping },
    Attack {
        name: "no-rx-copy",
        tries: "a back end that would map pages for its frames",
        run: |back| lie(back, &[("feature-rx-copy", "0")]),
    },
    Attack {
        name: "words-for-rx-copy",
        tries: "features that are no numbers",
        run: |back| lie(back, &[("feature-rx-copy", "-1 or so"), ("feature-sg", ""), ("mtu", "many")]),
    },
    Attack {
        name: "every-feature",
        tries: "every feature, 2^32 queues and an MTU of 2^64",
        run: |back| {
            lie(
                back,
                &[
                    ("feature-rx-copy", "1"),
                    ("feature-rx-flip", "1"),
                    ("feature-sg", "1"),
                    ("feature-gso-tcpv4", "1"),
                    ("feature-gso-tcpv6", "1"),
                    ("feature-split-event-channels", "1"),
                    ("feature-multicast-control", "1"),
                    ("feature-ctrl-ring", "1"),
                    ("feature-dynamic-multicast-control", "1"),
                    ("multi-queue-max-queues", "4294967296"),
                    ("mtu", "18446744073709551616"),
                ],
            )
        },
    },
    Attack {
        name: "node-flood",
        tries: "hundreds of nodes, and long ones, in its directory",
        run: node_flood,
    },
];

/// How long to wait for a request to attack.
const REQUEST_NS: u64 = 20_000_000_000;
const SECOND_NS: u64 = 1_000_000_000;

/// The next frame that the stub sends, not answered yet.
fn sent(back: &mut Netback) -> Result<TxRequest, String> {
    back.victim(REQUEST_NS, |link| link.tx.take(link.grants))
}

/// The next place for a frame.
fn place(back: &mut Netback) -> Result<RxRequest, String> {
    back.victim(REQUEST_NS, |link| link.rx.take(link.grants))
}

fn link(back: &mut Netback) -> Result<&mut Link, String> {
    back.link.as_mut().ok_or_else(|| String::from("no connection"))
}

/// Answers the next frame with these.
fn tx(back: &mut Netback, answers: impl Fn(u16) -> Vec<TxResponse>) -> Result<(), String> {
    let request = sent(back)?;
    let link = link(back)?;
    for answer in answers(request.id) {
        link.tx.respond(link.grants, &answer);
    }
    link.push();
    Ok(())
}

fn good(id: u16) -> TxResponse {
    TxResponse { id, status: NETIF_RSP_OKAY }
}

fn tx_wrong_id(back: &mut Netback) -> Result<(), String> {
    tx(back, |id| Vec::from([good(id ^ 0x5a5a)]))
}

fn tx_twice(back: &mut Netback) -> Result<(), String> {
    tx(back, |id| Vec::from([good(id), good(id)]))
}

fn tx_by_rote(back: &mut Netback) -> Result<(), String> {
    tx(back, |id| (0..ENTRIES).map(|_| good(id)).collect())
}

fn tx_never(back: &mut Netback) -> Result<(), String> {
    for _ in 0..8 {
        sent(back)?;
    }
    Ok(())
}

fn tx_statuses(back: &mut Netback) -> Result<(), String> {
    for status in [NETIF_RSP_ERROR, NETIF_RSP_DROPPED, 1, -3, i16::MAX, i16::MIN] {
        tx(back, |id| Vec::from([TxResponse { id, status }]))?;
    }
    Ok(())
}

fn tx_index(back: &mut Netback, by: u32) -> Result<(), String> {
    sent(back)?;
    let link = link(back)?;
    link.tx.rsp_prod = link.tx.rsp_prod.wrapping_add(by);
    link.push();
    Ok(())
}

/// Answers the next place so.
fn rx(back: &mut Netback, answer: impl Fn(&RxRequest) -> RxResponse) -> Result<(), String> {
    let request = place(back)?;
    let link = link(back)?;
    link.rx.respond(link.grants, &answer(&request));
    link.push();
    Ok(())
}

fn lengths(back: &mut Netback, lengths: &[usize]) -> Result<(), String> {
    for &len in lengths {
        for _ in 0..4 {
            rx(back, |request| brought(request, len))?;
        }
        back.honest_for(20_000_000)?;
    }
    Ok(())
}

fn rx_errors(back: &mut Netback) -> Result<(), String> {
    for status in [NETIF_RSP_ERROR, NETIF_RSP_DROPPED, -3, -4096, i16::MIN] {
        for _ in 0..40 {
            rx(back, |request| RxResponse { status, ..brought(request, 0) })?;
        }
    }
    Ok(())
}

fn rx_flags(back: &mut Netback) -> Result<(), String> {
    for flags in
        [NETRXF_CSUM_BLANK, 1, NETRXF_CSUM_BLANK | 1, 0x10, 0x8000, !(NETRXF_EXTRA_INFO | NETRXF_MORE_DATA)]
    {
        rx(back, |request| RxResponse { flags, ..brought(request, 60) })?;
        back.honest_for(20_000_000)?;
    }
    Ok(())
}

fn rx_twice(back: &mut Netback) -> Result<(), String> {
    let request = place(back)?;
    let link = link(back)?;
    for _ in 0..2 {
        link.rx.respond(link.grants, &brought(&request, 60));
    }
    link.push();
    Ok(())
}

fn rx_jumps(back: &mut Netback) -> Result<(), String> {
    place(back)?;
    let link = link(back)?;
    link.rx.rsp_prod = link.rx.rsp_prod.wrapping_add(1000);
    link.push();
    Ok(())
}

fn rx_old(back: &mut Netback) -> Result<(), String> {
    for n in 0..300 {
        rx(back, |request| brought(request, 60 + n * 4))?;
        if n % 50 == 0 {
            back.honest_for(5_000_000)?;
        }
    }
    Ok(())
}

/// Numbers that look like none.
fn next(word: &mut u64) -> u64 {
    *word = word.rotate_left(7).wrapping_mul(0x0100_0000_01b3).wrapping_add(0x9e37);
    *word
}

fn rx_changing(back: &mut Netback) -> Result<(), String> {
    let mut word = 1;
    for _ in 0..200 {
        let request = place(back)?;
        let link = link(back)?;
        link.rx.respond(link.grants, &brought(&request, 1500));
        link.push();
        for _ in 0..20 {
            // Addressed to the stub and IPv4, so that it is read to its end.
            let mut frame = [0; 64];
            frame[..14].copy_from_slice(&[2, 0x50, 10, 0, 0, 6, 2, 0, 0, 0, 0, 1, 8, 0]);
            frame[14..22].copy_from_slice(&next(&mut word).to_le_bytes());
            let _ = link.grants.write(address(request.gref), &frame);
        }
    }
    Ok(())
}

fn rx_junk(back: &mut Netback) -> Result<(), String> {
    let until_ns = back.end.xen.now_ns().saturating_add(3 * SECOND_NS);
    let mut word = 7;
    while back.end.xen.now_ns() < until_ns {
        back.honest_for(1_000_000)?;
        let Some(link) = back.link.as_mut() else { continue };
        for _ in 0..64 {
            let Some(request) = link.rx.take::<RxRequest>(link.grants) else { break };
            let mut frame: Vec<u8> = (0..24).flat_map(|_| next(&mut word).to_le_bytes()).collect();
            let len = 14 + usize::try_from(next(&mut word) % 178).unwrap_or(0);
            let kind = [[8, 0], [8, 6], [0x86, 0xdd], [0, 60]][usize::try_from(word % 4).unwrap_or(0)];
            frame[..6].copy_from_slice(&[2, 0x50, 10, 0, 0, 6]);
            frame[12..14].copy_from_slice(&kind);
            let _ = link.grants.write(address(request.gref), &frame);
            link.rx.respond(link.grants, &brought(&request, len));
        }
        link.push();
    }
    Ok(())
}

fn echo(back: &mut Netback) -> Result<(), String> {
    // Few: what comes back does not arrive, so the stub sends ever more seldom.
    for _ in 0..8 {
        let frame = back.victim(REQUEST_NS, Link::fetch)?;
        let link = link(back)?;
        link.deliver(&frame);
        back.honest_for(2_000_000)?;
    }
    Ok(())
}

fn rings_written(back: &mut Netback) -> Result<(), String> {
    sent(back)?;
    let until_ns = back.end.xen.now_ns().saturating_add(SECOND_NS);
    let mut word = 0x9e37_79b9_7f4a_7c15_u64;
    while back.end.xen.now_ns() < until_ns {
        let link = link(back)?;
        for ring in [link.tx.at(), link.rx.at()] {
            for at in (0..PAGE_SIZE as u64).step_by(8) {
                let _ = link.grants.store(ring + at, next(&mut word), Order::Relaxed);
            }
        }
        let _ = link.xen.evtchn_send(link.port);
    }
    Ok(())
}

fn event_storm(back: &mut Netback) -> Result<(), String> {
    for n in 0..20_000_u32 {
        let link = link(back)?;
        let _ = link.xen.evtchn_send(link.port);
        if n.is_multiple_of(500) {
            back.honest_for(1_000_000)?;
        }
    }
    Ok(())
}

fn silence(back: &mut Netback) -> Result<(), String> {
    sent(back)?;
    Delay::new(&back.end.xen).delay_ms(5000);
    Ok(())
}

fn port_closed(back: &mut Netback) -> Result<(), String> {
    sent(back)?;
    let port = link(back)?.port;
    back.end.xen.evtchn_close(port).map_err(failed("the port"))
}

fn unmapped(back: &mut Netback) -> Result<(), String> {
    sent(back)?;
    let link = link(back)?;
    for ring in [link.tx.at(), link.rx.at()] {
        link.grants.release(ring, PAGE_SIZE as u64);
    }
    Delay::new(&back.end.xen).delay_ms(1000);
    close(back)
}

fn flapping(back: &mut Netback) -> Result<(), String> {
    let until_ns = back.end.xen.now_ns().saturating_add(8 * SECOND_NS);
    // The one that stands is not counted.
    let mut flapped = 0_u32;
    close(back)?;
    while back.end.xen.now_ns() < until_ns {
        back.honest_for(2_000_000)?;
        if back.link.is_some() {
            flapped += 1;
            close(back)?;
        }
    }
    crate::report("flapped", flapped);
    if flapped == 0 { Err(String::from("no connection came")) } else { Ok(()) }
}

/// Ends the connection and says so.
fn close(back: &mut Netback) -> Result<(), String> {
    back.unlink();
    back.end.set_state(XenbusState::Closing)
}

/// Tells something else of itself, over a reconnection, for some time.
fn lie(back: &mut Netback, lies: &[(&'static str, &'static str)]) -> Result<(), String> {
    back.lies = lies.to_vec();
    back.end.set_state(XenbusState::Closing)?;
    let went = back.honest_for(2 * SECOND_NS);
    for (key, _) in core::mem::take(&mut back.lies) {
        let _ = back.end.store.rm(&format!("{}/{key}", back.end.dir));
    }
    close(back)?;
    went
}

fn node_flood(back: &mut Netback) -> Result<(), String> {
    let written = back.end.flood_nodes();
    back.honest_for(SECOND_NS)?;
    back.end.clear_nodes();
    if written > 0 { Ok(()) } else { Err(String::from("no node could be written")) }
}
