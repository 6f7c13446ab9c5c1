//! A stub that attacks whoever it can reach: see [`pilotfish_hostile::stub`].
//!
//! Command line: `target=` its guest, `other=` another one, `run=` which attacks, `only=` one of them alone. Without
//! `run=` it was made by the daemon, in the place of an honest stub. With `run=life` it ends on the way to
//! serving, as the life does that `only=` names. With `waits=` it makes its first attack when dom0 lets it go on.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod hostile_stub {
    use alloc::string::{String, ToString};
    use kernel::{BootInfo, ShutdownReason, Xen};
    use pilotfish_hostile::stub::{RUNS, Site, live};
    use pilotfish_hostile::{idle, report};

    kernel::main!(run);

    fn run(xen: Xen, boot: &'static BootInfo) -> ShutdownReason {
        if boot.option("run") == Some("life") {
            return live(xen, boot).unwrap_or_else(|why| {
                report("error", why);
                idle(&xen)
            });
        }
        match attacks(xen, boot) {
            Ok(made) => report("attacks", made),
            Err(why) => report("error", why),
        }
        idle(&xen)
    }

    fn attacks(xen: Xen, boot: &BootInfo) -> Result<u32, String> {
        let name = boot.option("run").unwrap_or("daemon");
        let run = RUNS.iter().find(|run| run.name == name).ok_or_else(|| "run= names no run".to_string())?;
        let mut site = Site::new(xen, boot)?;
        report("serving", 1);
        if boot.option("waits").is_some() {
            site.wait_for_dom0(0)?;
        }
        let only = boot.option("only");
        let attacks = run.attacks.iter().copied().flatten();
        site.make(attacks.filter(|attack| only.is_none_or(|only| only == attack.name)))
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this is a Xen domain's kernel: build it for aarch64-unknown-none");
}
