//! The key that both sides have, and where random numbers come from.

use alloc::boxed::Box;
use chacha20::ChaCha20Rng;
use chacha20::rand_core::{Rng, SeedableRng};
use core::fmt;
use zeroize::{Zeroize, Zeroizing};

/// Bytes of an identity at most.
pub const IDENTITY_MAX_BYTES: usize = 128;
/// Bytes of a key at least: as strong as the cipher of a short one would be.
pub const KEY_MIN_BYTES: usize = 16;
/// Bytes of a key at most.
pub const KEY_MAX_BYTES: usize = 64;
/// Bytes of a seed.
const SEED_BYTES: usize = 32;

/// A key, the name under which the server knows it, and a generator of random numbers that nobody else has.
///
/// # Examples
/// ```
/// let words = format!("{} {} web", "5a".repeat(32), "11".repeat(32));
/// let secrets = tls::Secrets::parse(&words).expect("seed, key, identity");
/// assert_eq!(format!("{secrets:?}"), "Secrets(..)");
/// assert!(tls::Secrets::parse("5a 11 web").is_none(), "too short");
/// ```
pub struct Secrets {
    pub(crate) identity: Box<[u8]>,
    pub(crate) key: Zeroizing<Box<[u8]>>,
    random: ChaCha20Rng,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets(..)")
    }
}

impl Secrets {
    /// Reads `<seed> <key> <identity>`: 64 hexadecimal digits that were never used before, the key in hexadecimal digits
    /// (16 to 64 bytes), and the identity (1 to 128 bytes, which may have spaces).
    #[must_use]
    pub fn parse(words: &str) -> Option<Secrets> {
        let (seed, rest) = words.split_once(' ')?;
        let (key, identity) = rest.split_once(' ')?;
        let seed = Zeroizing::new(<[u8; SEED_BYTES]>::try_from(hex(seed)?.as_ref()).ok()?);
        let key = hex(key).filter(|key| (KEY_MIN_BYTES..=KEY_MAX_BYTES).contains(&key.len()))?;
        if identity.is_empty() || identity.len() > IDENTITY_MAX_BYTES {
            return None;
        }
        Some(Secrets { identity: identity.as_bytes().into(), key, random: ChaCha20Rng::from_seed(*seed) })
    }

    /// The same, and erases the words.
    #[must_use]
    pub fn take(words: alloc::string::String) -> Option<Secrets> {
        Secrets::parse(&Zeroizing::new(words))
    }

    /// Numbers that nobody can guess.
    pub(crate) fn random(&mut self) -> Zeroizing<[u8; 32]> {
        let mut bytes = Zeroizing::new([0; 32]);
        self.random.fill_bytes(bytes.as_mut_slice());
        bytes
    }
}

impl Drop for Secrets {
    fn drop(&mut self) {
        self.identity.zeroize();
    }
}

fn hex(digits: &str) -> Option<Zeroizing<Box<[u8]>>> {
    // The length is known beforehand, so that no shorter copy is left somewhere.
    let len = digits.len() / 2;
    if !digits.len().is_multiple_of(2) || len > KEY_MAX_BYTES {
        return None;
    }
    let mut bytes = Zeroizing::new(alloc::vec![0; len].into_boxed_slice());
    let mut digits =
        digits.chars().map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok()));
    for byte in bytes.iter_mut() {
        *byte = (digits.next()?? << 4) | digits.next()??;
    }
    Some(bytes)
}
