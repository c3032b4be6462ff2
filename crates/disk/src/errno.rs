//! Error numbers of Linux, as all architectures but Alpha, MIPS, PA-RISC and SPARC number them
//! (include/uapi/asm-generic/errno-base.h and errno.h).

use core::fmt;

/// An error number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

macro_rules! errnos {
    ($($name:ident = $number:literal)*) => {
        impl Errno {
            $(#[doc = concat!("errno(3): ", stringify!($name))]
            pub const $name: Errno = Errno($number);)*

            /// The name, where it is known.
            pub fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($number => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

errnos! {
    EPERM = 1 ENOENT = 2 ESRCH = 3 EINTR = 4 EIO = 5 ENXIO = 6 E2BIG = 7 EBADF = 9 EAGAIN = 11 ENOMEM = 12 EACCES = 13
    EFAULT = 14 ENOTBLK = 15 EBUSY = 16 EEXIST = 17 ENODEV = 19 ENOTDIR = 20 EISDIR = 21 EINVAL = 22 ENFILE = 23
    EMFILE = 24 ENOTTY = 25 ETXTBSY = 26 EFBIG = 27 ENOSPC = 28 ESPIPE = 29 EROFS = 30 EPIPE = 32 ERANGE = 34
    ENAMETOOLONG = 36 ENOSYS = 38 ELOOP = 40 ENODATA = 61 ETIME = 62 ENOLINK = 67 EBADE = 52 EPROTO = 71
    EOVERFLOW = 75 EILSEQ = 84 EMSGSIZE = 90 EOPNOTSUPP = 95 ETIMEDOUT = 110 ECONNREFUSED = 111 EALREADY = 114 EREMOTEIO = 121 EDQUOT = 122
    ENOMEDIUM = 123 ECANCELED = 125
}

impl Errno {
    /// Not an error of the kernel: the caller is gone, so its memory cannot be reached and the
    /// request need not be answered.
    pub const CALLER_GONE: Errno = Errno(-1);
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "errno {}", self.0),
        }
    }
}
