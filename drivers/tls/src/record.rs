//! The record layer (RFC 8446, 5): one direction's keys, and what they seal and open.

use crate::error::Fault;
use crate::schedule::{Secret, expand, expand_secret, next_traffic};
use chacha20poly1305::aead::inout::InOutBuf;
use chacha20poly1305::{AeadInOut, ChaCha20Poly1305, Key, KeyInit, Nonce, Tag};

/// `change_cipher_spec`.
pub(crate) const TYPE_CHANGE_CIPHER_SPEC: u8 = 20;
/// `alert`.
pub(crate) const TYPE_ALERT: u8 = 21;
/// `handshake`.
pub(crate) const TYPE_HANDSHAKE: u8 = 22;
/// `application_data`: data, and everything that is sealed.
pub(crate) const TYPE_DATA: u8 = 23;

/// Bytes of a record's header.
pub(crate) const HEADER_BYTES: usize = 5;
/// Bytes of the code that seals a record.
pub(crate) const TAG_BYTES: usize = 16;
/// Data of one record at most.
pub const DATA_MAX_BYTES: usize = 1 << 14;
/// What a record adds to its data: the header, a type and the code.
pub const RECORD_OVERHEAD_BYTES: usize = HEADER_BYTES + 1 + TAG_BYTES;
/// Bytes of the record in which a client says that its keys change. It may precede data at any time.
pub const UPDATE_BYTES: usize = RECORD_OVERHEAD_BYTES + 5;
/// Bytes of a sealed record's content at most, for which the protocol allows 255 of padding.
pub(crate) const SEALED_MAX_BYTES: usize = DATA_MAX_BYTES + 256;

/// A record's header; the version is of no meaning any more.
pub(crate) fn header(kind: u8, len: usize) -> [u8; HEADER_BYTES] {
    let [high, low] = u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes();
    [kind, 3, 3, high, low]
}

/// The keys of one direction.
pub(crate) struct Direction {
    secret: Secret,
    cipher: ChaCha20Poly1305,
    iv: zeroize::Zeroizing<[u8; 12]>,
    /// Records so far.
    count: u64,
}

impl Direction {
    pub(crate) fn new(secret: Secret) -> Direction {
        let key = expand_secret(&secret, "key", &[]);
        let mut iv = zeroize::Zeroizing::new([0; 12]);
        expand(&secret, "iv", &[], iv.as_mut_slice());
        Direction { cipher: ChaCha20Poly1305::new(&Key::from(*key)), secret, iv, count: 0 }
    }

    /// The secret of a proof that this side has seen all.
    pub(crate) fn secret(&self) -> &Secret {
        &self.secret
    }

    /// The keys after a `KeyUpdate`.
    pub(crate) fn update(&mut self) {
        *self = Direction::new(next_traffic(&self.secret));
    }

    /// A nonce is used once: there is none after the last record.
    fn next_nonce(&mut self) -> Option<Nonce> {
        let mut nonce = *self.iv;
        let count = self.count.to_be_bytes();
        for (byte, count) in nonce.iter_mut().rev().zip(count.iter().rev()) {
            *byte ^= count;
        }
        self.count = self.count.checked_add(1)?;
        Some(Nonce::from(nonce))
    }

    /// Seals what stands in `record` behind room for a header and before room for the code: content and its type.
    pub(crate) fn seal(&mut self, record: &mut [u8]) -> Option<()> {
        let (head, sealed) = record.split_at_mut_checked(HEADER_BYTES)?;
        head.copy_from_slice(&header(TYPE_DATA, sealed.len()));
        let (content, tag_place) = sealed.split_at_mut_checked(sealed.len().checked_sub(TAG_BYTES)?)?;
        let nonce = self.next_nonce()?;
        let tag = self.cipher.encrypt_inout_detached(&nonce, head, InOutBuf::from(content)).ok()?;
        tag_place.copy_from_slice(&tag);
        Some(())
    }

    /// Opens a record in its place: the type of its content, and the content.
    pub(crate) fn open<'a>(&mut self, record: &'a mut [u8]) -> Result<(u8, &'a [u8]), Fault> {
        let short = Fault::Unexpected("length of a record");
        let (head, sealed) = record.split_at_mut_checked(HEADER_BYTES).ok_or(short)?;
        let len = sealed.len().checked_sub(TAG_BYTES).ok_or(short)?;
        let (content, tag) = sealed.split_at_mut_checked(len).ok_or(short)?;
        let tag = Tag::try_from(&*tag).map_err(|_| short)?;
        let nonce = self.next_nonce().ok_or(Fault::Unexpected("number of records"))?;
        self.cipher
            .decrypt_inout_detached(&nonce, head, InOutBuf::from(&mut *content), &tag)
            .map_err(|_| Fault::Forged)?;
        // Zeros behind the type are padding.
        let end =
            content.iter().rposition(|byte| *byte != 0).ok_or(Fault::Unexpected("record without a type"))?;
        let (content, rest) = content.split_at_checked(end).ok_or(short)?;
        let kind = rest.first().copied().ok_or(short)?;
        if content.len() > DATA_MAX_BYTES {
            return Err(short);
        }
        Ok((kind, content))
    }
}
