//! Names of NBD servers, which dom0 looks up when a guest starts: a stub looks none up.

use std::net::{IpAddr, ToSocketAddrs};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Asks for the addresses of a name.
pub type LookUp<'a> = &'a dyn Fn(&str) -> Result<Vec<IpAddr>>;

/// A name in the DNS is no longer (RFC 1035).
const NAME_MAX: usize = 253;
/// libxl waits 10 s for the guest's disks, and the stub has to be made after this.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Whether that can be a host's name.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let fit = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    (1..=NAME_MAX).contains(&text.len()) && text.bytes().all(fit) && !text.starts_with(['-', '.'])
}

/// The addresses of a name, in the order in which dom0 prefers them.
///
/// # Errors
/// It has none, or nobody answers in time.
pub fn look_up(name: &str) -> Result<Vec<IpAddr>> {
    let (sender, answer) = mpsc::channel();
    let asked = name.to_owned();
    // A resolver has times of its own, and they are longer: the thread ends when they are over.
    std::thread::spawn(move || {
        let found = (asked.as_str(), 0).to_socket_addrs();
        // Nobody waits any more, if it took too long.
        let _ = sender.send(found.map(|found| found.map(|at| at.ip()).collect()));
    });
    match answer.recv_timeout(TIMEOUT) {
        Ok(found) => found.context("cannot be looked up"),
        Err(_) => bail!("cannot be looked up: no answer within {} s", TIMEOUT.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_the_characters_of_one() {
        for good in ["store", "store-1.example.org", "a_b", &"x".repeat(253)] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "-x", ".x", "a b", "a,b", "a\"b", "a%b", "\u{e9}", &"x".repeat(254)] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[test]
    fn dom0_s_own_names_are_found_and_others_are_not() {
        assert!(look_up("localhost").unwrap().iter().all(IpAddr::is_loopback));
        let error = format!("{:#}", look_up("no-such-host.invalid").unwrap_err());
        assert!(error.starts_with("cannot be looked up: "), "{error}");
    }
}
