//! The key schedule (RFC 8446, 7.1), with SHA-256.

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Bytes of a hash and of a secret.
pub(crate) const HASH_BYTES: usize = 32;
/// The longest label with its context: a length, two counted texts.
const LABEL_MAX_BYTES: usize = 2 + 1 + 6 + 12 + 1 + HASH_BYTES;

/// A secret, or a key made of one.
pub(crate) type Secret = Zeroizing<[u8; HASH_BYTES]>;

/// What has been said so far.
#[derive(Clone)]
pub(crate) struct Transcript(Sha256);

impl Transcript {
    pub(crate) fn new() -> Transcript {
        Transcript(Sha256::new())
    }

    pub(crate) fn add(&mut self, message: &[u8]) {
        self.0.update(message);
    }

    pub(crate) fn hash(&self) -> [u8; HASH_BYTES] {
        self.0.clone().finalize().into()
    }
}

/// `HKDF-Extract`.
fn extract(salt: &[u8], input: &[u8]) -> Secret {
    let (mut secret, _) = Hkdf::<Sha256>::extract(Some(salt), input);
    let taken = Zeroizing::new(secret.into());
    zeroize::Zeroize::zeroize(secret.as_mut_slice());
    taken
}

/// `HKDF-Expand-Label` into `out`.
pub(crate) fn expand(secret: &Secret, label: &str, context: &[u8], out: &mut [u8]) {
    let mut info = crate::bytes::Writer::<LABEL_MAX_BYTES>::new();
    info.put(&u16::try_from(out.len()).unwrap_or(u16::MAX).to_be_bytes());
    info.counted::<1>(|info| {
        info.put(b"tls13 ");
        info.put(label.as_bytes());
    });
    info.counted::<1>(|info| info.put(context));
    // Neither can fail: the secret is as long as a hash, and so little is asked for.
    if let Ok(hkdf) = Hkdf::<Sha256>::from_prk(secret.as_slice()) {
        let _ = hkdf.expand(info.as_slice(), out);
    }
}

/// The same, as long as a secret.
pub(crate) fn expand_secret(secret: &Secret, label: &str, context: &[u8]) -> Secret {
    let mut out = Secret::default();
    expand(secret, label, context, out.as_mut_slice());
    out
}

/// The hash of nothing.
fn empty_hash() -> [u8; HASH_BYTES] {
    Transcript::new().hash()
}

/// The code by which somebody proves that it has `secret` and has seen what `hash` is of: a binder, or `Finished`.
pub(crate) fn proof(secret: &Secret, hash: &[u8; HASH_BYTES]) -> [u8; HASH_BYTES] {
    mac(secret, hash).map_or([0; HASH_BYTES], |mac| mac.finalize().into_bytes().into())
}

/// Whether `claimed` is that code. It takes the same time whatever it is.
pub(crate) fn is_proof(secret: &Secret, hash: &[u8; HASH_BYTES], claimed: &[u8]) -> bool {
    mac(secret, hash).is_some_and(|mac| mac.verify_slice(claimed).is_ok())
}

fn mac(secret: &Secret, hash: &[u8; HASH_BYTES]) -> Option<Hmac<Sha256>> {
    let key = expand_secret(secret, "finished", &[]);
    // A key of any length is taken.
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key.as_slice()).ok()?;
    mac.update(hash);
    Some(mac)
}

/// The first secret, of the pre-shared key.
pub(crate) struct Early(Secret);

impl Early {
    pub(crate) fn new(key: &[u8]) -> Early {
        Early(extract(&[0; HASH_BYTES], key))
    }

    /// What binds the key to the client's hello.
    pub(crate) fn binder_key(&self) -> Secret {
        expand_secret(&self.0, "ext binder", &empty_hash())
    }

    /// The traffic's secrets until `Finished`, client's and server's, and what those after it are made of.
    pub(crate) fn handshake(&self, shared: &Secret, hellos: &[u8; HASH_BYTES]) -> (Secret, Secret, Master) {
        let salt = expand_secret(&self.0, "derived", &empty_hash());
        let secret = extract(salt.as_slice(), shared.as_slice());
        let salt = expand_secret(&secret, "derived", &empty_hash());
        (
            expand_secret(&secret, "c hs traffic", hellos),
            expand_secret(&secret, "s hs traffic", hellos),
            Master(extract(salt.as_slice(), &[0; HASH_BYTES])),
        )
    }
}

/// The last secret.
pub(crate) struct Master(Secret);

impl Master {
    /// The traffic's secrets, client's and server's; the hash goes up to the server's `Finished`.
    pub(crate) fn traffic(&self, hash: &[u8; HASH_BYTES]) -> (Secret, Secret) {
        (expand_secret(&self.0, "c ap traffic", hash), expand_secret(&self.0, "s ap traffic", hash))
    }
}

/// The traffic's secret after a `KeyUpdate`.
pub(crate) fn next_traffic(secret: &Secret) -> Secret {
    expand_secret(secret, "traffic upd", &[])
}
