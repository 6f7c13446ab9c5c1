//! Asks Xen for every operation of every hypercall, on every kind of domain, and prints each answer:
//! `PFW HYPERCALL.OPERATION ANSWER...;...`, one answer for each object, or one alone if it names none.
//!
//! Command line: `target=` the guest that dom0 gave it (an ordinary guest has none), `other=` a guest that
//! it did not, `domctl=` and `sysctl=` the interface versions of this Xen,
//! `fragile=` if it is one with FLASK that falls over a domctl on nobody.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

#[cfg(target_os = "none")]
mod walk {
    extern crate alloc;

    use alloc::string::String;
    use alloc::vec::Vec;
    use core::fmt::Write;

    use kernel::walk::{Answer, Versions, Walker};
    use kernel::{BootInfo, Delay, DelayNs, DomId, Errno, ShutdownReason, Xen};
    use pilotfish_hostile::{domain, idle, number, report};
    use xen_pv_sys::xen::{DOMID_INVALID, DOMID_IO, DOMID_SELF, DOMID_XEN};

    /// Rows share a line up to here: the log lets ten lines a second through, and drops the others.
    const LINE_BYTES: usize = 500;
    const LINE_MS: u32 = 120;

    kernel::main!(run);

    fn run(xen: Xen, boot: &'static BootInfo) -> ShutdownReason {
        match walk(&xen, boot) {
            Ok(rows) => report("walked", rows),
            Err(errno) => report("error", errno),
        }
        idle(&xen)
    }

    /// Walks, and returns the number of rows.
    fn walk(xen: &Xen, boot: &BootInfo) -> Result<u32, Errno> {
        let known = (domain(boot, "other"), number(boot, "domctl"), number(boot, "sysctl"));
        let (Some(other), Some(domctl), Some(sysctl)) = known else {
            return Err(Errno::EINVAL);
        };
        let is_fragile = boot.option("fragile").is_some();
        let versions = Versions { domctl: domctl.into(), sysctl: sysctl.into(), is_fragile };
        let mut walker = Walker::new(xen, versions)?;
        let mut objects: Vec<DomId> = domain(boot, "target").into_iter().collect();
        objects.extend([other, DomId(0), DomId(DOMID_SELF), walker.own()]);
        objects.extend([DOMID_IO, DOMID_XEN, DOMID_INVALID].map(DomId));
        let (mut rows, mut line) = (0, String::new());
        walker.walk(&objects, |group, op, answers| {
            // Writing into a String cannot fail.
            let _ = write!(line, "{group}.{op}{};", words(answers));
            if line.len() > LINE_BYTES {
                print(xen, &mut line);
            }
            rows += 1;
        });
        print(xen, &mut line);
        Ok(rows)
    }

    fn print(xen: &Xen, line: &mut String) {
        log::info!("PFW {line}");
        line.clear();
        Delay::new(xen).delay_ms(LINE_MS);
    }

    /// The answers as words, each with a space before it.
    fn words(answers: &[Answer]) -> String {
        let mut text = String::new();
        for answer in answers {
            // Writing into a String cannot fail.
            let _ = write!(text, " {answer}");
        }
        text
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this is a Xen domain's kernel: build it for aarch64-unknown-none");
}
