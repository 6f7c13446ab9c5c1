//! The stub domain image: composition only. For now: boot, say so, and end.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

#[cfg(target_os = "none")]
mod stub {
    use kernel::{BootInfo, Hypervisor, ShutdownReason, Xen};
    use log::info;

    kernel::main!(run);

    fn run(xen: Xen, boot: &'static BootInfo) -> ShutdownReason {
        info!("up {} us after the first instruction", boot.uptime_us());
        if let Ok(version) = kernel::xen_version() {
            info!("Xen {version}, command line \"{}\"", boot.cmdline);
        }
        info!("RAM {:x?}, unused {:x?}, heap {}", boot.ram, boot.unused, kernel::heap_use());
        for _ in 0..3 {
            let before = xen.now_ns();
            let polled = xen.poll(&[], Some(before + 100_000_000));
            info!("slept {} us: {polled:?}", (xen.now_ns() - before) / 1000);
        }
        ShutdownReason::Poweroff
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this is a Xen domain's kernel: build it for aarch64-unknown-none");
}
