//! dom0 side of the hostile scenarios: `set-target STUB GUEST` makes STUB the device model of
//! GUEST, so that a script can launch a stub as the daemon would. `set-target STUB LABEL` gives it a FLASK label.
#![forbid(unsafe_code)]

use anyhow::{Context, Result, bail};
use xen_privcmd::Privcmd;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [stub, guest] = args.as_slice() else {
        bail!("usage: set-target STUB-DOMID GUEST-DOMID|LABEL");
    };
    let stub = stub.parse().with_context(|| format!("bad domid {stub:?}"))?;
    let privcmd = Privcmd::open()?;
    match guest.parse() {
        Ok(guest) => privcmd.set_target(stub, guest)?,
        Err(_) => privcmd.relabel(stub, guest).with_context(|| format!("no label {guest:?}"))?,
    }
    Ok(())
}
