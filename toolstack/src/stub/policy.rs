//! What is done with a guest whose stub died under it.

use super::health::{self, CLOSED, GOING, GONE};
use super::record::Stub;
use crate::config::OnStubCrash;
use crate::env::Env;

/// Applies `on-stub-crash` to the guest of a stub that died, and logs how it died.
pub fn apply_crash_policy(env: &Env<'_>, stub: &Stub, failure: &str) {
    let (guest, policy) = (stub.identity.guest, env.config.on_stub_crash);
    log::error!("guest {guest}: its stub (domain {}) {failure}; policy: {policy:?}", stub.domid);
    if policy == OnStubCrash::Restart {
        log::error!("guest {guest}: no restart: {}; crash-guest applies", why_no_restart(failure));
    }
    let done = match policy {
        // A stub that could restart in place did so itself; one that is seen here could not.
        OnStubCrash::CrashGuest | OnStubCrash::Restart => env.host.crash(guest),
        OnStubCrash::DestroyGuest => env.host.destroy(guest),
        OnStubCrash::PauseGuest => env.host.pause(guest),
        OnStubCrash::Ignore => Ok(()),
    };
    if let Err(e) = done {
        log::error!("guest {guest}: {policy:?}: {e:#}");
    }
    // After the policy: the console is late, and the guest should not hang for that.
    for line in health::console_tail(env.host, &stub.identity) {
        log::error!("guest {guest}: stub console: {line}");
    }
}

/// Why a stub that has ended is not restarted.
fn why_no_restart(failure: &str) -> &'static str {
    if [GONE, GOING].iter().any(|how| failure.starts_with(how)) {
        "a stub domain that is gone cannot be replaced under a running guest: its ioreq server stays \
         enabled in Xen, and only the guest's end removes it"
    } else if failure.starts_with(CLOSED) {
        "it has ended its service itself"
    } else {
        "it ended for good: too many panics, or one from which it could not restart (see its console)"
    }
}
