//! The memory that a hypercall's arguments are in.

/// Bytes of each half.
const HALF: usize = 4096;

/// An argument, and the lists that it points to. A page each, so that no structure of Xen's reaches
/// beyond.
#[derive(Debug)]
#[repr(C, align(4096))]
pub(super) struct Frame {
    argument: [u8; HALF],
    list: [u8; HALF],
}

impl Frame {
    pub(super) fn new() -> Frame {
        Frame { argument: [0; HALF], list: [0; HALF] }
    }

    pub(super) fn clear(&mut self) {
        self.argument.fill(0);
        self.list.fill(0);
    }

    /// The address of the argument.
    pub(super) fn argument(&mut self) -> u64 {
        self.argument.as_mut_ptr().expose_provenance() as u64
    }

    /// The address of the list.
    pub(super) fn list(&mut self) -> u64 {
        self.list.as_mut_ptr().expose_provenance() as u64
    }

    /// Writes a field of the argument; a place outside it is none.
    pub(super) fn put<const N: usize>(&mut self, offset: usize, value: [u8; N]) -> &mut Frame {
        put(&mut self.argument, offset, value);
        self
    }

    pub(super) fn put16(&mut self, offset: usize, value: u16) -> &mut Frame {
        self.put(offset, value.to_le_bytes())
    }

    pub(super) fn put32(&mut self, offset: usize, value: u32) -> &mut Frame {
        self.put(offset, value.to_le_bytes())
    }

    pub(super) fn put64(&mut self, offset: usize, value: u64) -> &mut Frame {
        self.put(offset, value.to_le_bytes())
    }

    /// Writes a word of the list.
    pub(super) fn put_list(&mut self, offset: usize, value: u64) -> &mut Frame {
        put(&mut self.list, offset, value.to_le_bytes());
        self
    }

    /// What Xen may have written into the argument; zeroes outside it.
    pub(super) fn get<const N: usize>(&self, offset: usize) -> [u8; N] {
        get(&self.argument, offset)
    }

    pub(super) fn get16(&self, offset: usize) -> u16 {
        u16::from_le_bytes(self.get(offset))
    }

    pub(super) fn get32(&self, offset: usize) -> u32 {
        u32::from_le_bytes(self.get(offset))
    }

    /// A word of the list.
    pub(super) fn get_list(&self, offset: usize) -> u64 {
        u64::from_le_bytes(get(&self.list, offset))
    }
}

fn put<const N: usize>(half: &mut [u8; HALF], offset: usize, value: [u8; N]) {
    if let Some(place) = offset.checked_add(N).and_then(|end| half.get_mut(offset..end)) {
        place.copy_from_slice(&value);
    }
}

fn get<const N: usize>(half: &[u8; HALF], offset: usize) -> [u8; N] {
    half.get(offset..).and_then(<[u8]>::first_chunk).copied().unwrap_or([0; N])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_in_the_argument_or_nowhere() {
        let mut frame = Frame::new();
        frame.put16(4, 0x1234).put32(HALF - 4, 7).put64(HALF - 4, u64::MAX).put64(usize::MAX, 1);
        assert_eq!((frame.get16(4), frame.get32(HALF - 4), frame.get32(HALF - 3)), (0x1234, 7, 0));
        assert_eq!(frame.get_list(0), 0, "nothing ran over into the list");
        frame.put_list(8, 5);
        assert_eq!(frame.get_list(8), 5);
        frame.clear();
        assert_eq!((frame.get16(4), frame.get_list(8)), (0, 0));
    }

    #[test]
    fn the_halves_are_pages() {
        let mut frame = Frame::new();
        assert!(frame.argument().is_multiple_of(4096));
        assert_eq!(frame.list() - frame.argument(), 4096);
    }
}
