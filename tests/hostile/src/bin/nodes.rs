//! Writes to xenstore whatever it may, and tries what it may not: as a guest, or as a stub that the daemon has
//! started (it is, if its command line names a `target=`). As a guest it is told another one: `other=`.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod nodes {
    use alloc::string::String;
    use kernel::{BootInfo, Delay, DelayNs, Hypervisor, ShutdownReason, Xen};
    use pilotfish_hostile::nodes::{AT_THE_END, Attack, BEFORE_IT_SERVES, BY_A_GUEST, Site, WHILE_IT_SERVES};
    use pilotfish_hostile::{idle, report};

    /// For the daemon to see what was written, and to look again.
    const LOOK_MS: u32 = 600;
    /// Until the guest of a stub that says it serves is there.
    const GUEST_MS: u32 = 2500;
    /// xenconsoled gets that long for a line.
    const LINE_MS: u32 = 50;

    kernel::main!(run);

    fn run(xen: Xen, boot: &'static BootInfo) -> ShutdownReason {
        let done = match boot.option("target") {
            Some(guest) => as_stub(&xen, guest),
            None => as_guest(&xen, boot.option("other").unwrap_or("0")),
        };
        if let Err(why) = done {
            report("error", why);
        }
        idle(&xen)
    }

    fn as_guest(xen: &Xen, other: &str) -> Result<(), String> {
        let mut site = Site::new(xen, other)?;
        let made = make(xen, &mut site, BY_A_GUEST);
        report("attacks", made);
        Ok(())
    }

    fn as_stub(xen: &Xen, guest: &str) -> Result<(), String> {
        let mut site = Site::new(xen, guest)?;
        let mut made = make(xen, &mut site, BEFORE_IT_SERVES);
        let serving = site.store.write("data/pilotfish/state", b"serving");
        serving.map_err(|why| alloc::format!("serving: {why:?}"))?;
        Delay::new(xen).delay_ms(GUEST_MS);
        made += make(xen, &mut site, WHILE_IT_SERVES);
        Delay::new(xen).delay_ms(LOOK_MS);
        made += make(xen, &mut site, AT_THE_END);
        report("attacks", made);
        Ok(())
    }

    /// How many were made.
    fn make(xen: &Xen, site: &mut Site, attacks: &[Attack]) -> u32 {
        let mut made = 0;
        for attack in attacks {
            let from_ns = xen.now_ns();
            let done = (attack.run)(site);
            let ms = xen.now_ns().saturating_sub(from_ns) / 1_000_000;
            let (verdict, why) = done.map_or_else(|why| ("failure", why), |()| ("success", String::new()));
            report("attack", format_args!("{} {verdict} {ms} {why} [{}]", attack.name, attack.tries));
            Delay::new(xen).delay_ms(LINE_MS);
            made += 1;
        }
        made
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this is a Xen domain's kernel: build it for aarch64-unknown-none");
}
