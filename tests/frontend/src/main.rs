//! A tiny guest that is not Linux: what other drivers make of the disk.
//!
//! Command line: `mode=` is `crate` (the `virtio-drivers` crate, see [`by_crate`]), `firmware`
//! (a driver written here, see [`firmware`]), `roundtrip` (a register is read over and over, see
//! [`roundtrip`]), `load` (reads without end, see [`load`]), `attacks` (a hostile driver, see [`attacks`]; `only=`
//! names one), `attacks-by-vcpus` (the same with four vCPUs), `attacks-by-grants` (by grants to the stub that `stub=`
//! names, see [`attacks::grants`]), `patient` (one of two disks may fail, see [`patient`]), `receive` or `send` (events,
//! see [`events`]; no disk); `disk=` which of the disks, by address, from 0;
//! `tag=` marks what it writes. What it sees, it prints as `PF key=value`; `PF done=1` is the
//! last line, and `PF error=` says what was wrong.
//!
//! Test guests are never shipped. `unsafe` stands in one file, `hal.rs`, as the crate asks it of
//! whoever gives it memory.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![deny(unsafe_code)]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod attacks;
#[cfg(target_os = "none")]
mod by_crate;
#[cfg(target_os = "none")]
mod devices;
#[cfg(target_os = "none")]
mod events;
#[cfg(target_os = "none")]
mod firmware;
#[cfg(target_os = "none")]
mod hal;
#[cfg(target_os = "none")]
mod load;
#[cfg(target_os = "none")]
mod patient;
#[cfg(target_os = "none")]
mod pattern;
#[cfg(target_os = "none")]
mod registers;
#[cfg(target_os = "none")]
mod roundtrip;
#[cfg(target_os = "none")]
mod say;
#[cfg(target_os = "none")]
mod virtio;

#[cfg(target_os = "none")]
mod frontend {
    use crate::say::say;
    use crate::{attacks, by_crate, devices, events, firmware, load, patient, roundtrip};
    use alloc::string::{String, ToString};
    use kernel::{BootInfo, DomId, ShutdownReason, Xen};

    /// Where libxl puts a guest's first virtio device, whether or not it tells the guest.
    const FIRST_WINDOW: u64 = 0x0200_0000;

    kernel::main!(run);

    fn run(xen: Xen, boot: &'static BootInfo) -> ShutdownReason {
        match work(&xen, boot) {
            Ok(()) => say(&xen, "done", 1),
            Err(error) => say(&xen, "error", error),
        }
        ShutdownReason::Poweroff
    }

    fn work(xen: &Xen, boot: &'static BootInfo) -> Result<(), String> {
        let found = devices::find(boot.device_tree);
        say(xen, "devices", found.len());
        match boot.option("mode") {
            Some("roundtrip") => return roundtrip::run(xen, &(FIRST_WINDOW..FIRST_WINDOW + 0x200)),
            Some("attacks") => return attacks::run(xen, &found, attacks::ALL, boot.option("only")),
            Some("attacks-by-vcpus") => {
                return attacks::run(xen, &found, attacks::BY_VCPUS, boot.option("only"));
            }
            Some("attacks-by-grants") => {
                let stub = boot.option("stub").and_then(|stub| stub.parse().ok());
                let stub = stub.map(DomId).ok_or("stub= is no domain")?;
                return attacks::grants::run(xen, &found, stub, boot.option("only"));
            }
            Some("patient") => return patient::run(xen, &found),
            Some("load") => return load::run(xen, &found, boot),
            Some("receive") => return events::receive(xen, boot),
            Some("send") => return events::send(xen, boot),
            _ => {}
        }
        let which = boot.option("disk").unwrap_or("0").parse::<usize>().map_err(|_| "disk= is no number")?;
        let window = found.get(which).ok_or("no such virtio-mmio device")?.clone();
        let tag = boot.option("tag").unwrap_or("frontend");
        match boot.option("mode") {
            Some("crate") => by_crate::run(xen, &window, tag),
            Some("firmware") => firmware::run(xen, &window, tag),
            _ => {
                Err("mode= is crate, firmware, roundtrip, load, attacks, patient, receive or send"
                    .to_string())
            }
        }
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this is a Xen domain's kernel: build it for aarch64-unknown-none");
}
