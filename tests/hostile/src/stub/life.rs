//! Stubs that end, or do nothing more, at each step of what a stub does before it serves.

use super::events::reset_ports;
use super::store::Store;
use crate::server::Server;
use crate::{domain, report};
use alloc::format;
use alloc::string::{String, ToString};
use kernel::misuse::Places;
use kernel::{BootInfo, Delay, DelayNs, Errno, Hypervisor, ShutdownReason, Xen, hostile};
use xen_pv_sys::PAGE_SHIFT;
use xen_pv_sys::arch_arm::GUEST_RAM0_BASE;
use xen_pv_sys::dm_op::ioreq;

/// Where a device of the guest's would be.
const DEVICE: (u64, u64) = (0x0200_0000, 0x0200_01ff);

/// A stub that goes as far as a step of the way to serving, and then ends, or does nothing more.
pub struct Life {
    /// As the report and the command line (`only=`) name it.
    pub name: &'static str,
    /// What it tries.
    pub tries: &'static str,
    step: &'static str,
    end: End,
}

/// How a stub ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    /// It shuts itself down.
    Exit,
    /// By a fault.
    Crash,
    /// It takes the CPU and does nothing.
    Spin,
    /// It closes all of its event channels.
    Reset,
    /// It sleeps, and keeps what it has.
    Keep,
}

/// Every life.
pub const LIVES: &[Life] = &[
    Life {
        name: "exit-at-start",
        tries: "a stub that ends before it does anything",
        step: "start",
        end: End::Exit,
    },
    Life {
        name: "crash-after-store",
        tries: "a stub that crashes once it has told of itself",
        step: "store",
        end: End::Crash,
    },
    Life {
        name: "spin-after-server",
        tries: "a stub that hangs with a server and no page",
        step: "server",
        end: End::Spin,
    },
    Life {
        name: "exit-after-page",
        tries: "a stub that ends with the page of a server mapped",
        step: "page",
        end: End::Exit,
    },
    Life {
        name: "crash-after-range",
        tries: "a stub that crashes with addresses that are its own",
        step: "range",
        end: End::Crash,
    },
    Life {
        name: "spin-after-enabling",
        tries: "a stub that hangs when its guest may come",
        step: "enabled",
        end: End::Spin,
    },
    Life {
        name: "reset-after-binding",
        tries: "a stub that closes all event channels, its console's too",
        step: "bound",
        end: End::Reset,
    },
    Life {
        name: "spin-during-access",
        tries: "a stub that hangs, and is destroyed, with an access in its slot",
        step: "access",
        end: End::Spin,
    },
    Life {
        name: "crash-during-access",
        tries: "a stub that crashes with an access in its slot",
        step: "access",
        end: End::Crash,
    },
    Life {
        name: "pages-kept",
        tries: "a stub that keeps all pages of its guest while that is destroyed",
        step: "mapped",
        end: End::Keep,
    },
];

/// Lives the one that `only=` names: goes as far as its step, tells that, and ends.
///
/// # Errors
/// What could not be done.
pub fn live(xen: Xen, boot: &BootInfo) -> Result<ShutdownReason, String> {
    let name = boot.option("only").unwrap_or_default();
    let life = LIVES.iter().find(|life| life.name == name).ok_or("only= names no life")?;
    report("life", format_args!("{}: {}", life.name, life.tries));
    go_to(&xen, boot, life.step)?;
    report("step", life.step);
    Delay::new(&xen).delay_ms(300);
    match life.end {
        End::Exit => return Ok(ShutdownReason::Poweroff),
        End::Crash => hostile::fault(hostile::Fault::Unmapped),
        End::Spin => loop {
            core::hint::spin_loop();
        },
        End::Reset => {
            let own = u32::from(xen_pv_sys::xen::DOMID_SELF);
            reset_ports(own).map_err(|why| format!("the reset: {why:?}"))?;
        }
        End::Keep => {}
    }
    crate::idle(&xen)
}

/// All that it makes stays for the life of this domain.
fn go_to(xen: &Xen, boot: &BootInfo, step: &str) -> Result<(), String> {
    let failed = |what: &'static str| move |why: Errno| format!("{what}: {why:?}");
    let target = domain(boot, "target").ok_or("target= is needed")?;
    match step {
        "start" => return Ok(()),
        "store" => {
            let mut store = Store::new(*xen)?;
            store.write("data/pilotfish/state", b"starting")?;
            return Ok(());
        }
        "mapped" => {
            let places = Places::take(xen, 16).map_err(failed("addresses"))?;
            let mapped = (0..0x2000_u64).take_while(|page| {
                let block = usize::try_from(page / 512).unwrap_or(0);
                places.map(target, (GUEST_RAM0_BASE >> PAGE_SHIFT) + page, block, page % 512).is_ok()
            });
            report("pages", mapped.count());
            return Ok(());
        }
        "bound" | "access" => {
            let server = Server::new(xen, target).map_err(failed("a server"))?;
            report("bound", 1);
            while step == "access" && server.state() != Ok(ioreq::STATE_READY) {
                xen.yield_cpu();
            }
            return Ok(());
        }
        _ => {}
    }
    let id = xen.ioreq_server_create(target).map_err(failed("a server"))?;
    let steps = ["server", "page", "range", "enabled"];
    let far = steps.iter().position(|known| *known == step).ok_or_else(|| "step= names none".to_string())?;
    if far >= 1 {
        xen.ioreq_server_page(target, id).map_err(failed("its page"))?;
    }
    if far >= 2 {
        xen.ioreq_server_map_mmio(target, id, DEVICE.0, DEVICE.1).map_err(failed("its range"))?;
    }
    if far >= 3 {
        xen.ioreq_server_set_state(target, id, true).map_err(failed("to enable it"))?;
    }
    Ok(())
}
