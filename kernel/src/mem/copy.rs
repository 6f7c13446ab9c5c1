//! Copies of memory that others may change meanwhile, word by word.

#[cfg(feature = "model")]
use super::model;
use crate::arch;

/// Copies of at most this many bytes are usual: entries and fields of rings.
const SHORT: usize = 64;

/// Copies memory that others may change meanwhile: volatile words, so that the compiler
/// neither invents nor drops an access. The widest aligned words for the middle part.
///
/// # Safety
/// Both addresses are valid for `len` bytes, reading and writing respectively.
#[inline]
pub(super) unsafe fn copy_shared(src: *mut u8, dst: *mut u8, len: usize) {
    #[cfg(feature = "model")]
    model::see_copy(src.addr(), dst.addr(), len);
    let aligned = src.addr() | dst.addr() | len;
    let mut done = 0;
    if len > SHORT || !aligned.is_multiple_of(4) {
        // SAFETY: the caller's promise.
        unsafe { copy_long(src, dst, len) };
    } else if aligned.is_multiple_of(8) {
        while done < len {
            // SAFETY: `done < len`, and all three are multiples of 8.
            unsafe { copy_word::<u64>(src, dst, done) };
            done += 8;
        }
    } else {
        while done < len {
            // SAFETY: `done < len`, and all three are multiples of 4.
            unsafe { copy_word::<u32>(src, dst, done) };
            done += 4;
        }
    }
}

/// Copies one word at `offset`.
///
/// # Safety
/// Both addresses plus `offset` are aligned and valid for a word.
#[inline]
unsafe fn copy_word<W: Copy>(src: *mut u8, dst: *mut u8, offset: usize) {
    // SAFETY: the caller's promise.
    unsafe { dst.add(offset).cast::<W>().write_volatile(src.add(offset).cast::<W>().read_volatile()) };
}

/// [`copy_shared`] of any length.
///
/// # Safety
/// As there.
#[inline(never)]
unsafe fn copy_long(src: *mut u8, dst: *mut u8, len: usize) {
    // SAFETY: the caller's promise.
    let mut done = unsafe { arch::copy_blocks(src, dst, len) };
    // Words only where both ends can be aligned alike.
    if (src.addr() ^ dst.addr()).is_multiple_of(8) {
        let head = done + src.addr().wrapping_add(done).wrapping_neg() % 8;
        while done < head.min(len) {
            // SAFETY: `done < len`.
            unsafe { copy_word::<u8>(src, dst, done) };
            done += 1;
        }
        while len - done >= 32 {
            // SAFETY: 32 bytes are left, and both addresses are now 8-byte aligned.
            unsafe {
                copy_word::<u64>(src, dst, done);
                copy_word::<u64>(src, dst, done + 8);
                copy_word::<u64>(src, dst, done + 16);
                copy_word::<u64>(src, dst, done + 24);
            }
            done += 32;
        }
        while len - done >= 8 {
            // SAFETY: 8 bytes are left, aligned as above.
            unsafe { copy_word::<u64>(src, dst, done) };
            done += 8;
        }
    }
    while done < len {
        // SAFETY: `done < len`.
        unsafe { copy_word::<u8>(src, dst, done) };
        done += 1;
    }
}
