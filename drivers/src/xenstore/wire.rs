//! xenstore messages (`public/io/xs_wire.h`): assembled from pieces, then taken apart.

use super::events::WatchEvent;
use super::{StoreError, StoreFault};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use kernel::Errno;
use xen_pv_sys::io::xs_wire::{PAYLOAD_MAX, XsdSockmsg};
use zerocopy::FromBytes;

/// Bytes in a message's header.
pub const HEADER_BYTES: usize = size_of::<XsdSockmsg>();

/// One whole message from xenstored.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Message {
    /// Its header; `len` is the payload's length.
    pub header: XsdSockmsg,
    /// At most [`PAYLOAD_MAX`] bytes.
    pub payload: Vec<u8>,
}

/// Puts messages together from a byte stream cut anywhere.
#[derive(Debug, Default)]
pub struct Assembler {
    header: [u8; HEADER_BYTES],
    header_bytes: usize,
    /// Set once the header is whole and good.
    current: Option<Message>,
}

impl Assembler {
    /// Takes bytes up to the end of the current message. Returns how many were taken, and
    /// the message if it is whole.
    ///
    /// # Errors
    /// [`StoreFault::PayloadTooLong`]; the stream cannot be followed any further.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(usize, Option<Message>), StoreFault> {
        let mut taken = 0;
        if self.current.is_none() {
            let free = self.header.get_mut(self.header_bytes..).unwrap_or_default();
            taken = free.len().min(bytes.len());
            for (to, from) in free.iter_mut().zip(bytes) {
                *to = *from;
            }
            self.header_bytes = self.header_bytes.saturating_add(taken);
            if self.header_bytes < HEADER_BYTES {
                return Ok((taken, None));
            }
            let header = XsdSockmsg::read_from_bytes(&self.header).unwrap_or_default();
            let len = header.len as usize;
            if len > PAYLOAD_MAX {
                return Err(StoreFault::PayloadTooLong(header.len));
            }
            self.current = Some(Message { header, payload: Vec::with_capacity(len) });
        }
        let Some(message) = &mut self.current else { return Ok((taken, None)) };
        let missing = (message.header.len as usize).saturating_sub(message.payload.len());
        let rest = bytes.get(taken..).unwrap_or_default();
        let rest = rest.get(..missing).unwrap_or(rest);
        message.payload.extend_from_slice(rest);
        taken = taken.saturating_add(rest.len());
        if rest.len() < missing {
            return Ok((taken, None));
        }
        self.header_bytes = 0;
        Ok((taken, self.current.take()))
    }
}

/// Errors as xenstored names them, beyond those that Xen's ABI has.
const STORE_ERRORS: [(&str, u32); 4] = [("EISDIR", 21), ("EROFS", 30), ("ENOTEMPTY", 39), ("EISCONN", 106)];

/// The number of an error that xenstored names; an unknown name is `EINVAL`, as the
/// protocol says.
#[must_use]
pub fn errno_from_payload(payload: &[u8]) -> Errno {
    let name = payload.strip_suffix(b"\0").unwrap_or(payload);
    let known = Errno::ALL.iter().chain(&STORE_ERRORS);
    known
        .copied()
        .find(|(known, _)| known.as_bytes() == name)
        .map_or(Errno::EINVAL, |(_, errno)| Errno(errno))
}

/// Splits a list of NUL-terminated strings.
///
/// # Errors
/// [`StoreFault::Malformed`] if the last one is not terminated or one is not UTF-8.
pub fn strings(payload: &[u8]) -> Result<Vec<String>, StoreFault> {
    if payload.is_empty() {
        return Ok(Vec::new());
    }
    let inner = payload.strip_suffix(b"\0").ok_or(StoreFault::Malformed)?;
    inner.split(|&byte| byte == 0).map(text).collect()
}

/// # Errors
/// [`StoreFault::Malformed`] if it is not UTF-8.
fn text(bytes: &[u8]) -> Result<String, StoreFault> {
    core::str::from_utf8(bytes).map(ToString::to_string).map_err(|_| StoreFault::Malformed)
}

/// Takes a watch event apart: path and token, both NUL-terminated.
///
/// # Errors
/// [`StoreFault::Malformed`].
pub fn watch_event(payload: &[u8]) -> Result<WatchEvent, StoreFault> {
    let mut fields = strings(payload)?.into_iter();
    match (fields.next(), fields.next()) {
        (Some(path), Some(token)) => Ok(WatchEvent { path, token }),
        _ => Err(StoreFault::Malformed),
    }
}

/// A node's value as a decimal number.
///
/// # Errors
/// `EINVAL` if it is anything else.
pub fn number(value: &[u8]) -> Result<u64, StoreError> {
    decimal(value).ok_or(StoreError::Refused(Errno::EINVAL))
}

/// The bytes of a string that goes on the wire with a final NUL: it may hold none itself.
#[inline(never)]
pub(super) fn terminated(text: &str) -> Result<&[u8], StoreError> {
    if text.contains('\0') { Err(StoreError::Refused(Errno::EINVAL)) } else { Ok(text.as_bytes()) }
}

/// A decimal number and nothing else, but for a final NUL.
pub(super) fn decimal(bytes: &[u8]) -> Option<u64> {
    let digits = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    // `parse` alone would take a sign.
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    core::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;
    use zerocopy::IntoBytes;

    fn message(req_id: u32, payload: Vec<u8>) -> Message {
        let len = u32::try_from(payload.len()).unwrap();
        Message { header: XsdSockmsg { msg_type: 2, req_id, tx_id: 0, len }, payload }
    }

    proptest! {
        #[test]
        fn messages_survive_any_cutting(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..6),
            cuts in prop::collection::vec(1usize..40, 1..200),
        ) {
            let sent: Vec<_> = (0u32..).zip(payloads).map(|(id, payload)| message(id, payload)).collect();
            let mut stream = Vec::new();
            for message in &sent {
                stream.extend_from_slice(message.header.as_bytes());
                stream.extend_from_slice(&message.payload);
            }
            let (mut assembler, mut got, mut cuts) = (Assembler::default(), Vec::new(), cuts.iter().cycle());
            let mut rest = stream.as_slice();
            while !rest.is_empty() {
                let piece = &rest[..rest.len().min(*cuts.next().unwrap())];
                let (taken, whole) = assembler.feed(piece).unwrap();
                prop_assert!(taken > 0);
                got.extend(whole);
                rest = &rest[taken..];
            }
            prop_assert_eq!(got, sent);
        }

        #[test]
        fn no_bytes_make_the_parsers_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut assembler = Assembler::default();
            if let Ok((taken, _)) = assembler.feed(&bytes) {
                prop_assert!(taken <= bytes.len());
            }
            prop_assert_eq!(watch_event(&bytes).is_ok_and(|event| event.path.contains('\0')), false);
            let _ = (strings(&bytes), errno_from_payload(&bytes));
        }
    }

    #[test]
    fn a_payload_over_the_limit_is_a_fault() {
        let header = XsdSockmsg { msg_type: 2, req_id: 0, tx_id: 0, len: 4097 };
        assert_eq!(Assembler::default().feed(header.as_bytes()), Err(StoreFault::PayloadTooLong(4097)));
    }

    #[test]
    fn an_empty_payload_completes_with_its_header() {
        let sent = message(9, vec![]);
        let fed = Assembler::default().feed(sent.header.as_bytes());
        assert_eq!(fed, Ok((HEADER_BYTES, Some(sent))));
    }

    #[test]
    fn errors_are_known_by_name() {
        assert_eq!(errno_from_payload(b"ENOENT\0"), Errno::ENOENT);
        assert_eq!(errno_from_payload(b"EAGAIN"), Errno::EAGAIN);
        assert_eq!(errno_from_payload(b"EROFS\0"), Errno(30));
        assert_eq!(errno_from_payload(b"EWHATEVER\0"), Errno::EINVAL);
    }

    #[test]
    fn strings_must_be_terminated() {
        assert_eq!(strings(b""), Ok(vec![]));
        assert_eq!(strings(b"a\0bc\0"), Ok(vec!["a".to_string(), "bc".to_string()]));
        assert_eq!(strings(b"a\0bc"), Err(StoreFault::Malformed));
        assert_eq!(watch_event(b"path\0"), Err(StoreFault::Malformed));
        assert_eq!(strings(b"\xff\0"), Err(StoreFault::Malformed));
    }
}
