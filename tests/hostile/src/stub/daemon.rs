//! Attacks on the daemon, by the nodes in which a stub tells of itself. The daemon has made this stub.

use super::xenstore::{counted, not_made};
use super::{Attack, Outcome, Site};
use alloc::format;
use alloc::string::ToString;

/// The attacks. The daemon ends the guest of a stub that says it failed.
pub(super) const ATTACKS: &[Attack] = &[
    Attack { name: "serving-forged", tries: "to serve by a word, without a device", run: serving_forged },
    Attack {
        name: "states-forged",
        tries: "states that are none, long ones, bytes that are no text",
        run: states_forged,
    },
    Attack {
        name: "restarts-forged",
        tries: "restarts by the thousand, each with words for the log",
        run: restarts_forged,
    },
    Attack {
        name: "stub-nodes-flood",
        tries: "nodes without end where the daemon looks",
        run: stub_nodes_flood,
    },
    Attack {
        name: "failure-forged",
        tries: "a failure whose reason is made for a terminal",
        run: failure_forged,
    },
];

/// Where the daemon looks.
const DIR: &str = "data/pilotfish/";
/// Escapes, line ends, a forged line, and more than a line.
const WORDS: &str =
    "\u{1b}[2J\u{1b}]0;x\u{7}\n2026-01-01T00:00:00.000Z ERROR pilotfishd: forged\r\n%s%n$(reboot)\u{202e}";
/// Longer than the daemon looks without an event.
const LOOKS_MS: u32 = 6000;

fn tell(site: &mut Site, key: &str, value: &[u8]) {
    // One that is refused is an attack all the same.
    let _ = site.store.write(&format!("{DIR}{key}"), value);
}

fn serving_forged(site: &mut Site) -> Outcome {
    site.store.write(&format!("{DIR}state"), b"serving").map_err(not_made)?;
    tell(site, "ready_us", b"-99999999999999999999");
    site.rest(3000);
    Ok("told".to_string())
}

fn states_forged(site: &mut Site) -> Outcome {
    let long = [b'9'; 2000];
    let values: [&[u8]; 8] =
        [b"", b"no-such-state", b"Failed", b"-1", b"\xff\xfe\0\x01", &long, WORDS.as_bytes(), b"serving"];
    let times = site.flood(|site, n| {
        let value = values.get(n as usize % values.len()).copied().unwrap_or_default();
        for key in ["state", "error", "stats", "config", "last_panic", "ready_us"] {
            tell(site, key, value);
        }
    });
    let _ = site.store.rm("data/pilotfish");
    tell(site, "state/state/state", b"x");
    site.rest(LOOKS_MS);
    Ok(format!("{times} times"))
}

fn restarts_forged(site: &mut Site) -> Outcome {
    let mut told = 0;
    for _ in 0..8 {
        site.flood(|site, _| {
            told += 1;
            tell(site, "restarts", format!("{told}").as_bytes());
            tell(site, "last_panic", WORDS.repeat(10).as_bytes());
        });
    }
    tell(site, "restarts", b"4294967296");
    Ok(format!("{told} restarts"))
}

fn stub_nodes_flood(site: &mut Site) -> Outcome {
    let outcome = counted(5000, |n| site.store.write(&format!("{DIR}{n}"), &[b'x'; 100]));
    site.rest(LOOKS_MS);
    site.store.rm("data/pilotfish").map_err(not_made)?;
    outcome
}

fn failure_forged(site: &mut Site) -> Outcome {
    tell(site, "error", WORDS.repeat(20).as_bytes());
    tell(site, "state", b"failed");
    Ok("told".to_string())
}
