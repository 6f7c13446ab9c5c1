//! A header that arrives in parts.

/// Bytes of the longest one.
const HEADER_MAX: usize = crate::wire::OPTION_REPLY_BYTES;

/// What has arrived of the next header.
#[derive(Debug, Default)]
pub(crate) struct Header {
    bytes: heapless::Vec<u8, HEADER_MAX>,
}

impl Header {
    /// Takes of `input` what is missing of `len` bytes, which is [`HEADER_MAX`] at most. The header once
    /// it is whole; the next call begins another one.
    pub(crate) fn fill(&mut self, input: &mut &[u8], len: usize) -> Option<heapless::Vec<u8, HEADER_MAX>> {
        let missing = len.saturating_sub(self.bytes.len()).min(input.len());
        let (now, rest) = input.split_at_checked(missing)?;
        self.bytes.extend_from_slice(now).ok()?;
        *input = rest;
        (self.bytes.len() == len).then(|| core::mem::take(&mut self.bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_whole_however_it_is_cut() {
        let bytes: std::vec::Vec<u8> = (0..40).collect();
        for cut in 1..20 {
            let mut header = Header::default();
            let mut found = std::vec::Vec::new();
            for mut part in bytes.chunks(cut) {
                while let Some(whole) = header.fill(&mut part, 20) {
                    found.push(whole.to_vec());
                    if part.is_empty() {
                        break;
                    }
                }
                assert!(part.is_empty());
            }
            assert_eq!(found, [&bytes[..20], &bytes[20..]], "parts of {cut}");
        }
    }
}
