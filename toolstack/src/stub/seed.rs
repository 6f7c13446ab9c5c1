//! Random numbers for stubs, which have no source of their own.

use std::fs::File;
use std::io::Read;

use anyhow::{Context, Result};
use zeroize::Zeroizing;

use crate::xenstore::{Store, paths};

/// Where random numbers come from.
const RANDOM: &str = "/dev/urandom";
/// Bytes of the one for a network interface: smoltcp takes no more.
const NET_BYTES: usize = 8;

/// Gives `stub`, which must not run yet, what its TCP connections begin with (RFC 6528): only dom0 and the stub can
/// read it. It stays there, for restarts in place.
///
/// # Errors
/// The system has no randomness to give, or xenstore fails.
pub fn hand_over(store: &dyn Store, stub: u16) -> Result<()> {
    store.write_for(stub, &paths::net_seed(stub), &digits::<NET_BYTES>()?)
}

/// So many random bytes as hexadecimal digits. Never the same twice.
pub(super) fn digits<const BYTES: usize>() -> Result<Zeroizing<String>> {
    let mut bytes = Zeroizing::new([0; BYTES]);
    File::open(RANDOM).and_then(|mut file| file.read_exact(bytes.as_mut_slice())).context(RANDOM)?;
    let mut digits = Zeroizing::new(String::with_capacity(2 * BYTES));
    for byte in bytes.iter() {
        for digit in [byte >> 4, byte & 15] {
            digits.extend(char::from_digit(digit.into(), 16));
        }
    }
    Ok(digits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::World;

    #[test]
    fn each_stub_has_a_seed_that_it_alone_can_read() {
        let world = World::new();
        for stub in [7, 8] {
            hand_over(&world.store(), stub).unwrap();
            assert_eq!(world.state().readers.get(&paths::net_seed(stub)), Some(&stub));
        }
        let seed = |stub| world.get(&paths::net_seed(stub)).unwrap();
        assert!(seed(7).len() == 16 && u64::from_str_radix(&seed(7), 16).is_ok(), "{}", seed(7));
        assert_ne!(seed(7), seed(8));
    }
}
