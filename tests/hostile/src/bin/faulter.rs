//! Does what the MMU must refuse, to show that it does. Command line: `fault=unmapped`, `code`
//! (write to it) or `data` (execute it).
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

#[cfg(target_os = "none")]
mod faulter {
    use kernel::{BootInfo, ShutdownReason, Xen, hostile};
    use pilotfish_hostile::report;

    kernel::main!(run);

    fn run(_xen: Xen, boot: &'static BootInfo) -> ShutdownReason {
        let fault = match boot.option("fault") {
            Some("unmapped") => hostile::Fault::Unmapped,
            Some("code") => hostile::Fault::WriteCode,
            Some("data") => hostile::Fault::ExecuteData,
            _ => {
                report("error", "fault= is needed");
                return ShutdownReason::Poweroff;
            }
        };
        report("trying", 1);
        hostile::fault(fault);
        report("error", "the MMU let it pass");
        ShutdownReason::Poweroff
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this is a Xen domain's kernel: build it for aarch64-unknown-none");
}
