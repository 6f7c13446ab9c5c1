//! The two hellos (RFC 8446, 4.1 and 4.2).

use crate::bytes::{Reader, Writer};
use crate::error::Fault;
use crate::messages::{CLIENT_HELLO, KIND_AND_LENGTH_BYTES};
use crate::schedule::{Early, HASH_BYTES, Secret, Transcript, proof};
use crate::secrets::{IDENTITY_MAX_BYTES, Secrets};
use x25519_dalek::{X25519_BASEPOINT_BYTES, x25519};
use zeroize::Zeroizing;

const LEGACY_VERSION: [u8; 2] = [3, 3];
const TLS_1_3: [u8; 2] = [3, 4];
/// `TLS_CHACHA20_POLY1305_SHA256`.
pub(crate) const CIPHER: [u8; 2] = [0x13, 0x03];
/// `x25519`.
pub(crate) const GROUP: [u8; 2] = [0, 29];
/// `psk_dhe_ke`.
const MODE: u8 = 1;

pub(crate) const SUPPORTED_GROUPS: u16 = 10;
pub(crate) const PRE_SHARED_KEY: u16 = 41;
pub(crate) const SUPPORTED_VERSIONS: u16 = 43;
pub(crate) const PSK_KEY_EXCHANGE_MODES: u16 = 45;
pub(crate) const KEY_SHARE: u16 = 51;

/// The random number by which a server's hello is in truth a `HelloRetryRequest`.
pub(crate) const RETRY: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2,
    0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

/// Bytes of the list of binders at the end of a hello.
pub(crate) const BINDERS_BYTES: usize = 2 + 1 + HASH_BYTES;
/// Bytes of the longest hello of ours.
pub(crate) const HELLO_MAX_BYTES: usize = 160 + IDENTITY_MAX_BYTES + BINDERS_BYTES;

pub(crate) type ClientHello = heapless::Vec<u8, HELLO_MAX_BYTES>;

/// The client's hello, and the private half of the share that it offers.
pub(crate) fn client_hello(
    secrets: &mut Secrets,
    early: &Early,
) -> Result<(ClientHello, Zeroizing<[u8; 32]>), Fault> {
    let (random, private) = (secrets.random(), secrets.random());
    let share = x25519(*private, X25519_BASEPOINT_BYTES);
    let mut hello = Writer::<HELLO_MAX_BYTES>::new();
    hello.put(&[CLIENT_HELLO]);
    hello.counted::<3>(|hello| {
        hello.put(&LEGACY_VERSION);
        hello.put(random.as_slice());
        // No session is resumed.
        hello.counted::<1>(|_| {});
        hello.counted::<2>(|hello| hello.put(&CIPHER));
        // No compression.
        hello.counted::<1>(|hello| hello.put(&[0]));
        hello.counted::<2>(|hello| extensions(hello, &share, &secrets.identity));
    });
    let mut hello = hello.end()?;
    // The binder covers all before the list of binders, which has its place already.
    let bound = hello.len().saturating_sub(BINDERS_BYTES);
    let mut transcript = Transcript::new();
    transcript.add(hello.get(..bound).unwrap_or_default());
    let binder = proof(&early.binder_key(), &transcript.hash());
    if let Some(place) = hello.last_chunk_mut() {
        *place = binder;
    }
    Ok((hello, private))
}

fn extensions(hello: &mut Writer<HELLO_MAX_BYTES>, share: &[u8; 32], identity: &[u8]) {
    let mut extension = |kind: u16, content: &dyn Fn(&mut Writer<HELLO_MAX_BYTES>)| {
        hello.put(&kind.to_be_bytes());
        hello.counted::<2>(content);
    };
    extension(SUPPORTED_VERSIONS, &|to| to.counted::<1>(|to| to.put(&TLS_1_3)));
    extension(SUPPORTED_GROUPS, &|to| to.counted::<2>(|to| to.put(&GROUP)));
    extension(KEY_SHARE, &|to| {
        to.counted::<2>(|to| {
            to.put(&GROUP);
            to.counted::<2>(|to| to.put(share));
        });
    });
    extension(PSK_KEY_EXCHANGE_MODES, &|to| to.counted::<1>(|to| to.put(&[MODE])));
    // It has to be the last.
    extension(PRE_SHARED_KEY, &|to| {
        to.counted::<2>(|to| {
            to.counted::<2>(|to| to.put(identity));
            // No ticket, so it has no age.
            to.put(&[0; 4]);
        });
        to.counted::<2>(|to| to.counted::<1>(|to| to.put(&[0; HASH_BYTES])));
    });
}

/// What both sides share by the server's hello, whose kind and length are behind us.
pub(crate) fn server_hello(hello: &[u8], private: &[u8; 32]) -> Result<Secret, Fault> {
    let bad = Fault::Unexpected("server's hello");
    let mut hello = Reader(hello.get(KIND_AND_LENGTH_BYTES..).unwrap_or_default());
    let version = hello.array().ok_or(bad)?;
    let random: [u8; 32] = hello.array().ok_or(bad)?;
    let session = hello.short().ok_or(bad)?;
    let (cipher, compression) = (hello.array().ok_or(bad)?, hello.u8().ok_or(bad)?);
    if version != LEGACY_VERSION || !session.is_empty() || compression != 0 {
        return Err(bad);
    }
    if random == RETRY {
        return Err(Fault::OtherGroup);
    }
    if cipher != CIPHER {
        return Err(Fault::Unexpected("cipher"));
    }
    let mut extensions = Reader(hello.long().ok_or(Fault::Unexpected("version"))?);
    if !hello.0.is_empty() {
        return Err(bad);
    }
    let (mut version, mut key_used, mut share) = (None, None, None);
    while !extensions.0.is_empty() {
        let (kind, content) = (extensions.u16().ok_or(bad)?, extensions.long().ok_or(bad)?);
        let place = match kind {
            SUPPORTED_VERSIONS => &mut version,
            PRE_SHARED_KEY => &mut key_used,
            KEY_SHARE => &mut share,
            // Nothing else was asked for that belongs here.
            _ => return Err(Fault::Unexpected("extension")),
        };
        if place.replace(content).is_some() {
            return Err(Fault::Unexpected("extension, given twice"));
        }
    }
    if version != Some(TLS_1_3.as_slice()) {
        return Err(Fault::Unexpected("version"));
    }
    // There is one key, number 0.
    if key_used.ok_or(Fault::KeyNotUsed)? != [0, 0] {
        return Err(Fault::KeyNotUsed);
    }
    shared(share.ok_or(Fault::Unexpected("key share"))?, private)
}

fn shared(share: &[u8], private: &[u8; 32]) -> Result<Secret, Fault> {
    let bad = Fault::Unexpected("key share");
    let mut share = Reader(share);
    let (group, public) = (share.array().ok_or(bad)?, share.long().ok_or(bad)?);
    if group != GROUP || !share.0.is_empty() {
        return Err(bad);
    }
    let secret = Secret::new(x25519(*private, public.try_into().map_err(|_| bad)?));
    // Of a share of small order, which no honest server has.
    if secret.iter().all(|byte| *byte == 0) {
        return Err(bad);
    }
    Ok(secret)
}
