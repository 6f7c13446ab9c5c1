//! Messages of `public/io/xs_wire.h` on a stream.

use std::io::{self, Read, Write};

use xen_pv_sys::io::xs_wire::{PAYLOAD_MAX, XsdSockmsg};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// `XS_SET_PERMS`.
pub const XS_SET_PERMS: u32 = 14;
/// `XS_DIRECTORY_PART`: a listing that does not fit into one message, piece by piece.
pub const XS_DIRECTORY_PART: u32 = 20;

/// One message, either way.
#[derive(Debug)]
pub struct Message {
    /// `XS_*`.
    pub kind: u32,
    /// Chosen by us, echoed in the answer.
    pub id: u32,
    /// Transaction, or 0.
    pub transaction: u32,
    /// At most `PAYLOAD_MAX` bytes.
    pub payload: Vec<u8>,
}

impl Message {
    /// Sends the message in one write, as `/dev/xen/xenbus` wants it.
    pub fn write_to(&self, stream: &mut dyn Write) -> io::Result<()> {
        if self.payload.len() > PAYLOAD_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "xenstore message too long"));
        }
        let len = u32::try_from(self.payload.len()).map_err(io::Error::other)?;
        let header = XsdSockmsg { msg_type: self.kind, req_id: self.id, tx_id: self.transaction, len };
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend_from_slice(&self.payload);
        stream.write_all(&bytes)?;
        stream.flush()
    }

    /// Reads the next message; a length beyond the protocol's limit is an error.
    pub fn read_from(stream: &mut dyn Read) -> io::Result<Message> {
        let mut bytes = [0; size_of::<XsdSockmsg>()];
        stream.read_exact(&mut bytes)?;
        let header = XsdSockmsg::read_from_bytes(&bytes).unwrap_or_else(|_| XsdSockmsg::new_zeroed());
        let len = usize::try_from(header.len).unwrap_or(usize::MAX);
        if len > PAYLOAD_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "xenstored sent an overlong message"));
        }
        let mut payload = vec![0; len];
        stream.read_exact(&mut payload)?;
        Ok(Message { kind: header.msg_type, id: header.req_id, transaction: header.tx_id, payload })
    }
}

/// The NUL-terminated strings of a payload.
pub fn strings(payload: &[u8]) -> Vec<String> {
    let body = payload.strip_suffix(&[0]).unwrap_or(payload);
    if payload.is_empty() {
        return Vec::new();
    }
    body.split(|b| *b == 0).map(|s| String::from_utf8_lossy(s).into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_survives_the_wire() {
        let mut wire = Vec::new();
        let sent = Message { kind: 2, id: 9, transaction: 3, payload: b"/a\0".to_vec() };
        sent.write_to(&mut wire).unwrap();
        assert_eq!(wire.len(), 16 + 3);
        let got = Message::read_from(&mut wire.as_slice()).unwrap();
        assert_eq!((got.kind, got.id, got.transaction, got.payload), (2, 9, 3, b"/a\0".to_vec()));
    }

    #[test]
    fn an_overlong_message_is_refused_both_ways() {
        let mut wire = Vec::new();
        let long = Message { kind: 2, id: 1, transaction: 0, payload: vec![0; PAYLOAD_MAX + 1] };
        assert!(long.write_to(&mut wire).is_err());
        let header = XsdSockmsg { msg_type: 2, req_id: 1, tx_id: 0, len: u32::MAX };
        assert!(Message::read_from(&mut header.as_bytes()).is_err());
    }

    #[test]
    fn strings_end_at_nul_and_an_empty_payload_has_none() {
        assert_eq!(strings(b"a\0bc\0"), ["a", "bc"]);
        assert_eq!(strings(b"a\0b"), ["a", "b"]);
        assert!(strings(b"").is_empty());
    }
}
