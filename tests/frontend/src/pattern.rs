//! What is written: each sector says whose it is and which it is, so that dom0 can make the
//! same with awk.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Write;

/// Bytes of a sector.
pub const SECTOR: usize = 512;
/// A sector holds the same line as often as it fits.
const LINE: usize = 64;

struct Cursor<'a>(&'a mut [u8]);

impl Write for Cursor<'_> {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let count = text.len().min(self.0.len());
        let (head, tail) = core::mem::take(&mut self.0).split_at_mut(count);
        head.copy_from_slice(&text.as_bytes()[..count]);
        self.0 = tail;
        Ok(())
    }
}

/// Fills `data`, whole sectors, with the content of the sectors from `first` on.
pub fn fill(data: &mut [u8], tag: &str, first: u64) {
    for (sector, bytes) in (first..).zip(data.chunks_mut(SECTOR)) {
        for line in bytes.chunks_mut(LINE) {
            // It never fails: what does not fit is left out.
            let _ = writeln!(Cursor(line), "{tag:<31}{sector:>32}");
        }
    }
}

/// That content, of `count` sectors.
pub fn sectors(tag: &str, first: u64, count: usize) -> Vec<u8> {
    let mut data = vec![0; count * SECTOR];
    fill(&mut data, tag, first);
    data
}

/// The first sector, counted from `first`, that is not as it should be.
pub fn wrong(data: &[u8], tag: &str, first: u64) -> Option<u64> {
    let expected = sectors(tag, first, data.len() / SECTOR);
    let differs = |(is, should): (&[u8], &[u8])| is != should;
    let at = data.chunks(SECTOR).zip(expected.chunks(SECTOR)).position(differs)?;
    Some(first + at as u64)
}
