//! The PV console's output ring, usable at any time after the MMU is on: by the logger, by
//! exceptions and by panic.
//!
//! The peer is xenconsoled in dom0. It may be slow or dead: a full ring is waited for only
//! briefly, and not at all once it was full for that long; what does not fit is dropped.

use crate::mem::shared::{Order, SharedPage};
use crate::time;
use crate::xen::hypercalls;
use crate::xen::hypervisor::Port;
use core::convert::Infallible;
use embedded_io::{ErrorType, Write};
use xen_pv_sys::errno::Errno;
use xen_pv_sys::io::console as ring;

/// How long a write waits for xenconsoled to make room.
const PATIENCE_NS: u64 = 20_000_000;

/// Puts `bytes` into the ring as far as there is room; returns how many.
fn put(page: &SharedPage, bytes: &[u8]) -> usize {
    let load = |offset| page.load::<u32>(offset, Order::AcqRel).unwrap_or(0);
    let (consumer, producer) = (load(ring::OUT_CONS), load(ring::OUT_PROD));
    // The consumer's index is the peer's: a nonsensical one reads as a full ring.
    let used = producer.wrapping_sub(consumer) as usize;
    let count = ring::OUT_SIZE.saturating_sub(used).min(bytes.len());
    let start = producer as usize % ring::OUT_SIZE;
    let (head, tail) = bytes[..count].split_at(count.min(ring::OUT_SIZE - start));
    let written =
        page.write(ring::OUT + start, head).and_then(|()| page.write(ring::OUT, tail)).and_then(|()| {
            let produced = u32::try_from(count).unwrap_or(0);
            page.store(ring::OUT_PROD, producer.wrapping_add(produced), Order::AcqRel)
        });
    if written.is_ok() { count } else { 0 }
}

/// The console: one ring and what is known of its reader.
pub(crate) struct Console {
    page: SharedPage,
    port: Port,
    /// The reader left the ring full for the whole of [`PATIENCE_NS`].
    stalled: bool,
    /// Something was written since the reader was last notified.
    unsent: bool,
}

impl Console {
    pub(crate) fn new(page: SharedPage, port: Port) -> Console {
        Console { page, port, stalled: false, unsent: false }
    }

    /// Tells the reader of what was written.
    fn notify(&mut self) {
        if core::mem::take(&mut self.unsent) {
            // A failure would mean that the port is gone: then nobody reads, and we drop.
            let _: Result<(), Errno> = hypercalls::evtchn_send(self.port);
        }
    }

    /// Puts bytes into the ring as they are.
    fn write_raw(&mut self, mut bytes: &[u8]) {
        let mut deadline_ns = None;
        while !bytes.is_empty() {
            let done = put(&self.page, bytes);
            bytes = bytes.get(done..).unwrap_or(&[]);
            if done > 0 {
                self.stalled = false;
                self.unsent = true;
                continue;
            }
            self.notify();
            let now = time::now_ns();
            if self.stalled || now >= *deadline_ns.get_or_insert(now + PATIENCE_NS) {
                self.stalled = true;
                return;
            }
            hypercalls::sched_yield();
        }
    }
}

impl ErrorType for Console {
    /// What the reader leaves no room for is dropped: no write fails.
    type Error = Infallible;
}

impl Write for Console {
    fn write(&mut self, text: &[u8]) -> Result<usize, Infallible> {
        self.write_all(text)?;
        Ok(text.len())
    }

    /// All of it; a terminal wants `\r` before each `\n`.
    fn write_all(&mut self, text: &[u8]) -> Result<(), Infallible> {
        for line in text.split_inclusive(|&byte| byte == b'\n') {
            match line.strip_suffix(b"\n") {
                Some(body) => {
                    self.write_raw(body);
                    self.write_raw(b"\r\n");
                }
                None => self.write_raw(line),
            }
        }
        Ok(())
    }

    /// Tells the reader of what was written.
    fn flush(&mut self) -> Result<(), Infallible> {
        self.notify();
        Ok(())
    }
}

#[cfg(target_os = "none")]
mod global {
    use super::Console;
    use crate::mem::magic;
    use crate::mem::shared::SharedPage;
    use crate::mem::uni_cell::UniCell;
    use crate::xen::hypercalls;
    use crate::xen::hypervisor::Port;
    use core::fmt;
    use embedded_io::Write;
    use xen_pv_sys::hvm::{HVM_PARAM_CONSOLE_EVTCHN, HVM_PARAM_CONSOLE_PFN};

    static CONSOLE: UniCell<Option<Console>> = UniCell::new(None);

    /// Finds the ring. Needs the magic pages mapped and a heap. Without a console, output is
    /// dropped.
    pub(crate) fn init() {
        let console = || -> Option<Console> {
            let page: SharedPage = magic::page(hypercalls::hvm_param(HVM_PARAM_CONSOLE_PFN).ok()?).ok()?;
            let port = u32::try_from(hypercalls::hvm_param(HVM_PARAM_CONSOLE_EVTCHN).ok()?).ok()?;
            Some(Console::new(page, Port(port)))
        };
        CONSOLE.with(|slot| *slot = console());
    }

    /// Writes to the console. Dropped if there is none, or if the console itself is at work
    /// (an exception inside it).
    pub(crate) fn print(arguments: fmt::Arguments<'_>) {
        CONSOLE.with(|slot| {
            if let Some(console) = slot {
                let _ = console.write_fmt(arguments);
                let Ok(()) = console.flush();
            }
        });
    }
}
#[cfg(target_os = "none")]
pub(crate) use global::{init, print};

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn output_wraps_and_stops_when_the_ring_is_full() {
        let page = SharedPage::alloc().expect("host memory");
        page.store(ring::OUT_PROD, u32::MAX - 3, Order::Relaxed).expect("inside");
        page.store(ring::OUT_CONS, u32::MAX - 3, Order::Relaxed).expect("inside");
        assert_eq!(put(&page, b"0123456789"), 10);
        assert_eq!(page.load::<u32>(ring::OUT_PROD, Order::Relaxed), Ok(6));
        let mut tail = [0; 6];
        page.read(ring::OUT, &mut tail).expect("inside");
        assert_eq!(&tail, b"456789");
        assert_eq!(put(&page, &vec![b'x'; 4096]), 2038);
        assert_eq!(put(&page, b"y"), 0);
    }

    #[test]
    fn a_lying_consumer_index_reads_as_full() {
        let page = SharedPage::alloc().expect("host memory");
        page.store(ring::OUT_CONS, 1u32, Order::Relaxed).expect("inside");
        assert_eq!(put(&page, b"text"), 0);
    }

    #[test]
    fn a_dead_reader_costs_its_patience_once_and_then_nothing() {
        let page = SharedPage::alloc().expect("host memory");
        let mut console = Console::new(page.clone(), Port(2));
        console.write_all(&[b'a'; 3000]).expect("never fails");
        assert!(console.stalled);
        let before = time::now_ns();
        console.write_all(b"more").expect("never fails");
        assert!(time::now_ns() - before < PATIENCE_NS / 2);
        page.store(ring::OUT_CONS, 2048u32, Order::Relaxed).expect("inside");
        console.write_all(b"back\n").expect("never fails");
        assert!(!console.stalled);
        let mut text = [0; 6];
        page.read(ring::OUT, &mut text).expect("inside");
        assert_eq!(&text, b"back\r\n");
    }
}
