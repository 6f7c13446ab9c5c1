//! `/dev/xen/privcmd`, and a page of memory that a hypercall may point at.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;

/// Bytes of the argument page.
pub(crate) const PAGE: usize = xen_pv_sys::PAGE_SIZE;

/// `struct privcmd_hypercall` of Linux's `include/uapi/xen/privcmd.h`.
#[repr(C)]
struct Hypercall {
    op: u64,
    arg: [u64; 5],
}

/// `IOCTL_PRIVCMD_HYPERCALL`: `_IOC(_IOC_NONE, 'P', 0, sizeof(struct privcmd_hypercall))`.
const IOCTL_HYPERCALL: libc::Ioctl = ((size_of::<Hypercall>() << 16) | (0x50 << 8)) as libc::Ioctl;

/// The open device.
#[derive(Debug)]
pub(crate) struct Device(File);

impl Device {
    /// Opens `/dev/xen/privcmd`.
    pub(crate) fn open() -> io::Result<Device> {
        Ok(Device(OpenOptions::new().read(true).write(true).open("/dev/xen/privcmd")?))
    }

    /// Makes hypercall `op`. `args` are passed as they are; where one of them must be the
    /// address of a structure, `buffer_arg` names it and `page` takes its place.
    ///
    /// Returns the hypercall's result, or Xen's error (whose numbers are Linux's).
    pub(crate) fn hypercall(
        &self,
        op: u64,
        mut args: [u64; 5],
        buffer_arg: usize,
        page: &mut ArgPage,
    ) -> io::Result<u32> {
        if let Some(arg) = args.get_mut(buffer_arg) {
            *arg = page.address();
        }
        let mut call = Hypercall { op, arg: args };
        // SAFETY: the descriptor is open for as long as `self` lives; `call` is a valid
        // `struct privcmd_hypercall` which the kernel only reads. Xen reads and writes at the
        // one address among its arguments: `page`, which is mapped, PAGE bytes long, larger
        // than any structure used here (`call.rs`), and borrowed mutably, so nothing else in
        // this process reads or writes it during the call. A pointer in that structure, if it has one, leads
        // to the page's second half (`set_pointer_to_half`), as long as any structure there.
        let ret = unsafe { libc::ioctl(self.0.as_raw_fd(), IOCTL_HYPERCALL, &raw mut call) };
        u32::try_from(ret).map_err(|_| io::Error::last_os_error())
    }
}

/// One page that stays in place while Xen accesses it.
#[derive(Debug)]
pub(crate) struct ArgPage {
    at: NonNull<u8>,
}

// SAFETY: the page is owned by this value alone, as a `Box` owns its memory.
unsafe impl Send for ArgPage {}

impl ArgPage {
    /// Maps a zeroed page: from `/dev/xen/hypercall`, whose pages the kernel never moves, or
    /// else (old kernels) an ordinary page locked in memory.
    pub(crate) fn new() -> io::Result<ArgPage> {
        let device = OpenOptions::new().read(true).write(true).open("/dev/xen/hypercall");
        let (fd, flags) = match &device {
            Ok(file) => (file.as_raw_fd(), libc::MAP_SHARED),
            Err(_) => (-1, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_LOCKED),
        };
        // SAFETY: a new mapping at an address of the kernel's choice replaces nothing. The
        // mapping outlives the descriptor.
        let at = unsafe {
            libc::mmap(std::ptr::null_mut(), PAGE, libc::PROT_READ | libc::PROT_WRITE, flags, fd, 0)
        };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(at.cast()).map(|at| ArgPage { at }).ok_or_else(|| io::Error::other("mmap returned null"))
    }

    /// Fills the page with `bytes` and zeroes.
    pub(crate) fn set(&mut self, bytes: &[u8]) {
        let len = bytes.len().min(PAGE);
        // SAFETY: `at` points to PAGE writable bytes that this value owns; `len` is at most
        // PAGE; `bytes` cannot overlap memory that only this value points to.
        unsafe {
            std::ptr::write_bytes(self.at.as_ptr(), 0, PAGE);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.at.as_ptr(), len);
        }
    }

    /// Writes the address of the page's second half at `offset`: a pointer for Xen to write
    /// at most `PAGE / 2` bytes to. Nothing is written where it would not fit before that half.
    pub(crate) fn set_pointer_to_half(&mut self, offset: usize) {
        let pointer = (self.address() + (PAGE / 2) as u64).to_le_bytes();
        if offset.checked_add(pointer.len()).is_some_and(|end| end <= PAGE / 2) {
            // SAFETY: checked above to lie in the first half of the PAGE writable bytes that
            // `at` points to and this value owns; `pointer` is not part of them.
            unsafe {
                std::ptr::copy_nonoverlapping(pointer.as_ptr(), self.at.as_ptr().add(offset), pointer.len());
            }
        }
    }

    /// Copies `N` bytes out, from `offset`; `None` where they would leave the page.
    pub(crate) fn get<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        if offset.checked_add(N)? > PAGE {
            return None;
        }
        let mut out = [0; N];
        // SAFETY: `offset + N <= PAGE`, checked above, and `at` points to PAGE readable bytes;
        // no hypercall is under way, since one borrows the page mutably.
        unsafe { std::ptr::copy_nonoverlapping(self.at.as_ptr().add(offset), out.as_mut_ptr(), N) };
        Some(out)
    }

    fn address(&mut self) -> u64 {
        self.at.as_ptr().addr() as u64
    }
}

impl Drop for ArgPage {
    fn drop(&mut self) {
        // SAFETY: `at` and PAGE are what `mmap` returned and was given, unmapped only here.
        unsafe { libc::munmap(self.at.as_ptr().cast(), PAGE) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ioctl_number_is_the_one_of_the_uapi_header() {
        assert_eq!(size_of::<Hypercall>(), 48);
        assert_eq!(IOCTL_HYPERCALL, 0x0030_5000);
    }

    #[test]
    fn the_page_holds_what_was_set_and_zeroes_after_it() {
        let mut page = ArgPage::new().unwrap();
        page.set(&[0xff; PAGE]);
        page.set(&[1, 2, 3, 4]);
        assert_eq!(page.get(0), Some([1, 2, 3, 4, 0, 0, 0, 0]));
        assert_eq!(page.get(PAGE - 2), Some([0, 0]));
        assert_eq!(page.get::<4>(PAGE - 2), None);
        assert_eq!(page.get::<4>(usize::MAX), None);
    }

    #[test]
    fn a_pointer_leads_to_the_second_half_and_lies_in_the_first() {
        let mut page = ArgPage::new().unwrap();
        page.set(&[]);
        page.set_pointer_to_half(16);
        assert_eq!(page.get(16).map(u64::from_le_bytes), Some(page.address() + 2048));
        page.set(&[]);
        for outside in [PAGE / 2 - 7, PAGE, usize::MAX] {
            page.set_pointer_to_half(outside);
        }
        assert_eq!(page.get(0), Some([0; PAGE]));
    }
}
