//! A guest that gets events, and one that sends them and looks how long that takes: for the
//! scenario in which a stub contends for the memory where Xen writes them.

use crate::say::{say, sleep};
use alloc::format;
use alloc::string::{String, ToString};
use core::fmt::Debug;
use kernel::testing::event_memory::EventMemory;
use kernel::{BootInfo, DomId, Errno, Hypervisor, Port, Xen};

/// Between two events.
const PAUSE_NS: u64 = 1_000_000;
/// How long the receiver waits for one.
const PATIENCE_NS: u64 = 100_000_000;
/// Between two lines: each of the receiver's makes dom0 send it an event.
const LINE_NS: u64 = 20_000_000;
/// Between two lines of the sender's.
const SPAN_NS: u64 = 500_000_000;

fn failed(what: &str, why: impl Debug) -> String {
    format!("{what}: {why:?}")
}

fn number<T: core::str::FromStr>(boot: &BootInfo, key: &str) -> Result<T, String> {
    boot.option(key).and_then(|word| word.parse().ok()).ok_or_else(|| format!("{key}= is needed"))
}

/// Tells where its two pages are, offers the domain `peer=` a port, and waits for events on it until it
/// is destroyed.
pub fn receive(xen: &Xen, boot: &'static BootInfo) -> Result<(), String> {
    let told = |what| move |errno: Errno| failed(what, errno);
    let memory = EventMemory::register(xen).map_err(told("vcpu_info"))?;
    let port = memory.offer_port(xen, DomId(number(boot, "peer")?)).map_err(told("a port"))?;
    say(xen, "port", port);
    say(xen, "shared_info", memory.shared_info_gfn());
    say(xen, "vcpu_info", memory.vcpu_info_gfn());
    let (mut events, mut next_line) = (0_u64, 0);
    loop {
        memory.arm(port).map_err(|why| failed("arm", why))?;
        let now = xen.now_ns();
        if now >= next_line {
            log::info!("PF events={events}");
            next_line = now.saturating_add(LINE_NS);
        }
        xen.poll(&[port], Some(now.saturating_add(PATIENCE_NS))).map_err(told("poll"))?;
        // Xen sets this after what has woken us.
        events = events.wrapping_add(u64::from(memory.is_told().map_err(|why| failed("told", why))?));
    }
}

/// Sends an event to `port=` of the domain `peer=` each millisecond, and tells twice a second the
/// longest that a send took and by how much a sleep was too long. Without `peer=` it only sleeps.
pub fn send(xen: &Xen, boot: &'static BootInfo) -> Result<(), String> {
    let port = match boot.option("peer") {
        Some(_) => Some(connect(xen, DomId(number(boot, "peer")?), number(boot, "port")?)?),
        None => None,
    };
    say(xen, "sending", u8::from(port.is_some()));
    loop {
        let until = xen.now_ns().saturating_add(SPAN_NS);
        let (mut sends, mut send_ns, mut late_ns) = (0_u32, 0, 0);
        while xen.now_ns() < until {
            let from = xen.now_ns();
            if let Some(port) = port {
                xen.evtchn_send(port).map_err(|errno| failed("send", errno))?;
            }
            let sent = xen.now_ns();
            sleep(xen, PAUSE_NS);
            send_ns = sent.saturating_sub(from).max(send_ns);
            late_ns = xen.now_ns().saturating_sub(sent).saturating_sub(PAUSE_NS).max(late_ns);
            sends = sends.wrapping_add(1);
        }
        log::info!("PF span={sends} {} {}", send_ns / 1000, late_ns / 1000);
    }
}

/// Binds to the port, which may be offered a little later than now.
fn connect(xen: &Xen, peer: DomId, port: u32) -> Result<Port, String> {
    for _ in 0..100 {
        if let Ok(port) = xen.evtchn_bind_interdomain(peer, port) {
            return Ok(port);
        }
        sleep(xen, 50_000_000);
    }
    Err("no port is offered".to_string())
}
