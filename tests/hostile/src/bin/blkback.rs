//! A driver domain whose block back end is hostile: each attack of [`pilotfish_hostile::blkback`], one after
//! the other, on the first frontend that the toolstack names. After each it has to be used again.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod driver_domain {
    use alloc::string::String;
    use kernel::{BootInfo, Hypervisor, ShutdownReason, Xen};
    use pilotfish_hostile::blkback::{ALL, Attack, Blkback};
    use pilotfish_hostile::{idle, report};

    /// Requests that are served before an attack, and after it.
    const HONEST: u64 = 12;
    /// How long a frontend may take to come back: twice the pause after a disk that is not the one it knew.
    const PATIENCE_NS: u64 = 60_000_000_000;

    kernel::main!(run);

    fn run(xen: Xen, boot: &'static BootInfo) -> ShutdownReason {
        if let Err(why) = attacks(&xen, boot.option("only")) {
            report("error", why);
        }
        idle(&xen)
    }

    fn attacks(xen: &Xen, only: Option<&str>) -> Result<(), String> {
        report("waiting", 1);
        let mut back = Blkback::wait(*xen)?;
        let mut made = 0;
        for attack in ALL.iter().filter(|attack| only.is_none_or(|only| only == attack.name)) {
            let from_ns = xen.now_ns();
            let (verdict, why) = verdict(&mut back, attack);
            let ms = xen.now_ns().saturating_sub(from_ns) / 1_000_000;
            report("attack", format_args!("{} {verdict} {ms} {why} [{}]", attack.name, attack.tries));
            made += 1;
        }
        // For as long as the guest wants.
        report("attacks", made);
        back.honest_for(PATIENCE_NS)
    }

    /// After that a connection was a good one: the frontend then comes back at once when the next one fails.
    const LASTING_NS: u64 = 5_200_000_000;

    /// Whether the frontend came back, in the words of the Xen Test Framework, and why not.
    fn verdict(back: &mut Blkback, attack: &Attack) -> (&'static str, String) {
        let before = back.connections;
        let made = back.honest(HONEST, PATIENCE_NS).and_then(|()| (attack.run)(back));
        if let Err(why) = made {
            return ("error", why);
        }
        let after = back.honest(HONEST, PATIENCE_NS);
        let lasting = after
            .and_then(|()| if back.connections == before { Ok(()) } else { back.honest_for(LASTING_NS) });
        lasting.map_or_else(|why| ("failure", why), |()| ("success", String::new()))
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this is a Xen domain's kernel: build it for aarch64-unknown-none");
}
