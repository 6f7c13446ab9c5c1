//! `public/errno.h`: the errors a hypercall returns (as negative numbers).

use core::fmt;

/// An error number of Xen's ABI, kept positive.
#[derive(Clone, Copy, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct Errno(pub u32);

macro_rules! errnos {
    ($($name:ident = $value:literal, $text:literal;)*) => {
        impl Errno {
            $(#[doc = concat!("`XEN_", stringify!($name), "`: ", $text, ".")]
            pub const $name: Errno = Errno($value);)*

            /// Name and value of every error known here, for the ABI check.
            pub const ALL: &'static [(&'static str, u32)] = &[$((stringify!($name), $value)),*];
        }

        impl fmt::Debug for Errno {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.0 {
                    $($value => f.write_str(stringify!($name)),)*
                    other => write!(f, "errno {other}"),
                }
            }
        }

        impl fmt::Display for Errno {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.0 {
                    $($value => f.write_str(concat!($text, " (", stringify!($name), ")")),)*
                    other => write!(f, "error {other}"),
                }
            }
        }
    };
}

errnos! {
    EPERM = 1, "operation not permitted";
    ENOENT = 2, "no such entry";
    ESRCH = 3, "no such domain";
    EIO = 5, "input/output error";
    E2BIG = 7, "too large";
    EAGAIN = 11, "try again";
    ENOMEM = 12, "out of memory";
    EACCES = 13, "permission denied";
    EFAULT = 14, "bad address";
    EBUSY = 16, "busy";
    EEXIST = 17, "already exists";
    EXDEV = 18, "cross-device link";
    ENODEV = 19, "no such device";
    EINVAL = 22, "invalid argument";
    ENOSPC = 28, "no space left";
    ENOSYS = 38, "not implemented";
    EOPNOTSUPP = 95, "not supported";
    ETIMEDOUT = 110, "timed out";
}

impl core::error::Error for Errno {}

impl Errno {
    /// Decodes a hypercall's return value: negative is an error, the rest is the result.
    ///
    /// # Errors
    /// The error number that Xen returned.
    pub fn check(ret: i64) -> Result<u64, Errno> {
        u64::try_from(ret).map_err(|_| Errno(u32::try_from(ret.unsigned_abs()).unwrap_or(u32::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::Errno;

    #[test]
    fn negative_returns_are_errors() {
        assert_eq!(Errno::check(-1), Err(Errno::EPERM));
        assert_eq!(Errno::check(-22), Err(Errno::EINVAL));
        assert_eq!(Errno::check(0), Ok(0));
        assert_eq!(Errno::check(7), Ok(7));
        assert_eq!(Errno::check(i64::MIN), Err(Errno(u32::MAX)));
    }
}
