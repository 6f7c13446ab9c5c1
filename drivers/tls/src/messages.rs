//! Handshake messages, which may be cut in parts by records or share one.

use crate::bytes::Reader;
use crate::error::Fault;

pub(crate) const CLIENT_HELLO: u8 = 1;
pub(crate) const SERVER_HELLO: u8 = 2;
pub(crate) const NEW_SESSION_TICKET: u8 = 4;
pub(crate) const ENCRYPTED_EXTENSIONS: u8 = 8;
pub(crate) const FINISHED: u8 = 20;
pub(crate) const KEY_UPDATE: u8 = 24;

/// Bytes of a message's kind and length.
pub(crate) const KIND_AND_LENGTH_BYTES: usize = 4;
/// Bytes of a message at most: tickets are the longest, and servers put much into them.
const MESSAGE_MAX_BYTES: usize = 8 << 10;

/// What has come of messages that were not read yet.
#[derive(Default)]
pub(crate) struct Messages(alloc::vec::Vec<u8>);

impl Messages {
    /// A record's content.
    pub(crate) fn add(&mut self, content: &[u8]) -> Result<(), Fault> {
        if content.is_empty() {
            return Err(Fault::Unexpected("empty record"));
        }
        // A record is no longer than this, and a message of which a part is there neither: see `next`.
        self.0.extend_from_slice(content);
        Ok(())
    }

    /// Whether no message is cut here. Where keys change one must not be.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next whole message, with its kind and length.
    pub(crate) fn next(&mut self) -> Result<Option<(u8, alloc::vec::Vec<u8>)>, Fault> {
        let mut reader = Reader(&self.0);
        let (Some(kind), Some([high, middle, low])) = (reader.u8(), reader.array()) else { return Ok(None) };
        let len = usize::try_from(u32::from_be_bytes([0, high, middle, low])).unwrap_or(usize::MAX);
        if len > MESSAGE_MAX_BYTES {
            return Err(Fault::Unexpected("length of a message"));
        }
        let end = KIND_AND_LENGTH_BYTES.saturating_add(len);
        if self.0.len() < end {
            return Ok(None);
        }
        let rest = self.0.split_off(end);
        Ok(Some((kind, core::mem::replace(&mut self.0, rest))))
    }
}
