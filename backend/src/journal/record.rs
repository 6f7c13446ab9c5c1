//! A record that is written seldom and as a whole, with a checksum.

use super::{JournalError, load, store};
use core::marker::PhantomData;
use kernel::SharedPage;
use zerocopy::{FromBytes, Immutable, IntoBytes};

// From where the record begins.
const MAGIC_AT: usize = 0;
/// u32, odd while the record is being written.
const SEQUENCE_AT: usize = 8;
const CHECKSUM_AT: usize = 16;
const VALUE_AT: usize = 24;

/// One value in a page that outlives a restart, `AT` bytes from its start.
#[derive(Clone, Debug)]
pub struct Record<T, const AT: usize = 0> {
    page: SharedPage,
    magic: u64,
    value: PhantomData<T>,
}

impl<T: FromBytes + IntoBytes + Immutable, const AT: usize> Record<T, AT> {
    /// Bytes that it takes of its page.
    pub const BYTES: usize = VALUE_AT + size_of::<T>();

    /// The record in `page`. `magic` tells what is written there, and its version.
    #[must_use]
    pub const fn new(page: SharedPage, magic: u64) -> Record<T, AT> {
        const { assert!(AT.is_multiple_of(8) && AT + Self::BYTES <= xen_pv_sys::PAGE_SIZE) };
        Record { page, magic, value: PhantomData }
    }

    /// Writes `value` down.
    pub fn save(&self, value: &T) {
        let sequence: u32 = load(&self.page, const { AT + SEQUENCE_AT });
        store(&self.page, const { AT + SEQUENCE_AT }, sequence | 1);
        store(&self.page, const { AT + CHECKSUM_AT }, checksum(value.as_bytes()));
        let written = self.page.write(const { AT + VALUE_AT }, value.as_bytes());
        debug_assert!(written.is_ok());
        store(&self.page, const { AT + MAGIC_AT }, self.magic);
        store(&self.page, const { AT + SEQUENCE_AT }, (sequence | 1).wrapping_add(1));
    }

    /// Reads what [`Record::save`] wrote.
    ///
    /// # Errors
    /// [`JournalError`] if it is not whole.
    pub fn load(&self) -> Result<T, JournalError> {
        if load::<u64>(&self.page, const { AT + MAGIC_AT }) != self.magic {
            return Err(JournalError::Unknown);
        }
        if load::<u32>(&self.page, const { AT + SEQUENCE_AT }) & 1 != 0 {
            return Err(JournalError::Torn);
        }
        let mut value = T::new_zeroed();
        self.page.read(const { AT + VALUE_AT }, value.as_mut_bytes()).map_err(|_| JournalError::Corrupt)?;
        if load::<u64>(&self.page, const { AT + CHECKSUM_AT }) != checksum(value.as_bytes()) {
            return Err(JournalError::Checksum);
        }
        Ok(value)
    }
}

/// FNV-1a. It guards against accidents, not against intent: nobody else can write here.
fn checksum(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, &byte| (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_changed_bit_of_a_record_is_noticed() {
        let page = SharedPage::alloc().expect("host memory");
        let record: Record<[u64; 5]> = Record::new(page.clone(), 0x1234);
        assert_eq!(record.load(), Err(JournalError::Unknown));
        record.save(&[1, 2, 3, 4, 5]);
        record.save(&[1, 2, 3, 4, 6]);
        assert_eq!(record.load(), Ok([1, 2, 3, 4, 6]));
        for at in 0..Record::<[u64; 5]>::BYTES {
            for bit in 0..8 {
                let byte: u8 = load(&page, at);
                store(&page, at, byte ^ (1 << bit));
                // Bits of the sequence number beyond the lowest mean nothing; there is room behind it.
                let counts = !(SEQUENCE_AT..CHECKSUM_AT).contains(&at) || (at == SEQUENCE_AT && bit == 0);
                assert_eq!(record.load().is_err(), counts, "byte {at}, bit {bit}");
                store(&page, at, byte);
            }
        }
    }
}
