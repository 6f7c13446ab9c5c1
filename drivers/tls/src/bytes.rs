//! Taking a message apart, and putting one together.

use crate::error::Fault;

/// What is left of a message.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    pub(crate) fn array<const BYTES: usize>(&mut self) -> Option<[u8; BYTES]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    /// What follows its length in one byte.
    pub(crate) fn short(&mut self) -> Option<&'a [u8]> {
        let len = self.u8()?;
        self.take(len.into())
    }

    /// What follows its length in two bytes.
    pub(crate) fn long(&mut self) -> Option<&'a [u8]> {
        let len = self.u16()?;
        self.take(len.into())
    }
}

/// A message of at most `MAX` bytes. What does not fit is dropped, and [`Writer::end`] tells.
pub(crate) struct Writer<const MAX: usize> {
    bytes: heapless::Vec<u8, MAX>,
    is_whole: bool,
}

impl<const MAX: usize> Writer<MAX> {
    pub(crate) fn new() -> Writer<MAX> {
        Writer { bytes: heapless::Vec::new(), is_whole: true }
    }

    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.is_whole &= self.bytes.extend_from_slice(bytes).is_ok();
    }

    /// What `content` writes, behind its length in `LEN` bytes.
    pub(crate) fn counted<const LEN: usize>(&mut self, content: impl FnOnce(&mut Self)) {
        let at = self.bytes.len();
        self.put(&[0; LEN]);
        let start = self.bytes.len();
        content(self);
        let len = self.bytes.len().saturating_sub(start).to_be_bytes();
        let (_, short) = len.split_at(len.len().saturating_sub(LEN));
        if let Some(place) = self.bytes.get_mut(at..start)
            && place.len() == short.len()
        {
            place.copy_from_slice(short);
        }
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// The message.
    pub(crate) fn end(self) -> Result<heapless::Vec<u8, MAX>, Fault> {
        if self.is_whole { Ok(self.bytes) } else { Err(Fault::Unexpected("length of a message of ours")) }
    }
}
