//! A driver domain whose network back end is hostile: each attack of [`pilotfish_hostile::netback`], one after
//! the other, on the first frontend that the toolstack names, once `data/go` is written. After each it has to be used again.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod driver_domain {
    use alloc::string::String;
    use kernel::{BootInfo, Hypervisor, ShutdownReason, Xen};
    use pilotfish_hostile::netback::{ALL, Attack, Netback};
    use pilotfish_hostile::{idle, report};

    /// Requests of the NBD disk that are served before an attack, and after it.
    const HONEST: u64 = 12;
    /// How long a frontend may take to come back: twice the pause after a disk that is not the one it knew.
    const PATIENCE_NS: u64 = 60_000_000_000;

    /// Between two looks whether the script has said to begin.
    const GO_NS: u64 = 200_000_000;

    kernel::main!(run);

    fn run(xen: Xen, boot: &'static BootInfo) -> ShutdownReason {
        if let Err(why) = attacks(&xen, boot.option("only")) {
            report("error", why);
        }
        idle(&xen)
    }

    fn attacks(xen: &Xen, only: Option<&str>) -> Result<(), String> {
        report("waiting", 1);
        let mut back = Netback::wait(*xen)?;
        while back.end.store.read("data/go").is_err() {
            back.honest_for(GO_NS)?;
        }
        let (mut made, mut lasted_at) = (0, 0);
        for attack in ALL.iter().filter(|attack| only.is_none_or(|only| only == attack.name)) {
            let from_ns = xen.now_ns();
            let (verdict, why) = verdict(&mut back, attack, &mut lasted_at);
            let ms = xen.now_ns().saturating_sub(from_ns) / 1_000_000;
            report("attack", format_args!("{} {verdict} {ms} {why} [{}]", attack.name, attack.tries));
            made += 1;
        }
        // For as long as the guest wants.
        report("attacks", made);
        back.honest_for(PATIENCE_NS)
    }

    /// Connections between two that last: the frontend's pause grows from one failure to the next.
    const FEW: u32 = 3;
    /// After that a connection was a good one: the frontend then comes back at once when the next one fails.
    const LASTING_NS: u64 = 5_200_000_000;

    /// Whether the frontend came back, in the words of the Xen Test Framework, and why not. `lasted_at`: how many
    /// connections there had been when one lasted.
    fn verdict(back: &mut Netback, attack: &Attack, lasted_at: &mut u32) -> (&'static str, String) {
        let made = back.honest(HONEST, PATIENCE_NS).and_then(|()| (attack.run)(back));
        if let Err(why) = made {
            return ("error", why);
        }
        let mut after = back.honest(HONEST, PATIENCE_NS);
        if back.connections.wrapping_sub(*lasted_at) >= FEW {
            after = after.and_then(|()| back.honest_for(LASTING_NS));
            *lasted_at = back.connections;
        }
        after.map_or_else(|why| ("failure", why), |()| ("success", String::new()))
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this is a Xen domain's kernel: build it for aarch64-unknown-none");
}
