//! The one way into the kernel.

use core::ffi::{c_int, c_long};
use core::mem::MaybeUninit;

use disk::Errno;
use libc::syscall;

use crate::errno;

/// An argument of a system call: a number or an address.
pub trait Argument {
    /// The register that holds it. The kernel ignores the upper half where it takes an int.
    fn word(self) -> c_long;
}

macro_rules! argument {
    ($($type:ty as $through:ty),*) => {
        $(impl Argument for $type {
            #[inline(always)]
            fn word(self) -> c_long {
                self as $through as c_long
            }
        })*
    };
}

argument! { c_int as u32, u32 as u32, i64 as i64, u64 as u64, usize as usize }

impl<T> Argument for *const T {
    #[inline(always)]
    fn word(self) -> c_long {
        self.expose_provenance() as c_long
    }
}

impl<T> Argument for *mut T {
    #[inline(always)]
    fn word(self) -> c_long {
        self.expose_provenance() as c_long
    }
}

/// The arguments of a system call, as a tuple.
pub trait Arguments {
    /// Makes the call.
    ///
    /// # Safety
    ///
    /// As for [`call`].
    unsafe fn pass(self, number: c_long) -> c_long;
}

macro_rules! arguments {
    ($(($($name:ident)*))*) => {
        $(impl<$($name: Argument),*> Arguments for ($($name,)*) {
            #[inline(always)]
            unsafe fn pass(self, number: c_long) -> c_long {
                #[allow(non_snake_case, reason = "a variable for each type")]
                let ($($name,)*) = self;
                // SAFETY: as the caller says.
                unsafe { syscall(number $(, $name.word())*) }
            }
        })*
    };
}

arguments! { () (A) (A B) (A B C) (A B C D) (A B C D E) (A B C D E F) }

/// Makes a system call.
///
/// # Safety
///
/// The kernel does what the number says with the addresses among the arguments. What it reads there
/// is memory of the calling function or of the program, for as long as the arguments say; what it
/// writes there, that function has borrowed mutably or the program has asked for. The kernel itself
/// refuses an address that is not mapped (`EFAULT`).
#[inline(always)]
pub unsafe fn call(number: c_long, arguments: impl Arguments) -> Result<usize, Errno> {
    // SAFETY: as the caller says.
    let value = unsafe { arguments.pass(number) };
    usize::try_from(value).map_err(|_| Errno(errno::get()))
}

/// A system call that takes numbers alone and, whatever they are, touches no memory of the process.
#[derive(Clone, Copy)]
pub struct NumericCall(c_long);

impl NumericCall {
    pub const CLOSE: NumericCall = NumericCall(libc::SYS_close);
    pub const CLOSE_RANGE: NumericCall = NumericCall(libc::SYS_close_range);
    pub const FADVISE: NumericCall = NumericCall(libc::SYS_fadvise64);
    pub const FALLOCATE: NumericCall = NumericCall(libc::SYS_fallocate);
    pub const FDATASYNC: NumericCall = NumericCall(libc::SYS_fdatasync);
    pub const FLOCK: NumericCall = NumericCall(libc::SYS_flock);
    pub const FSYNC: NumericCall = NumericCall(libc::SYS_fsync);
    pub const GETEUID: NumericCall = NumericCall(libc::SYS_geteuid);
    pub const GETGID: NumericCall = NumericCall(libc::SYS_getgid);
    pub const GETPID: NumericCall = NumericCall(libc::SYS_getpid);
    pub const GETTID: NumericCall = NumericCall(libc::SYS_gettid);
    pub const GETUID: NumericCall = NumericCall(libc::SYS_getuid);
    pub const LSEEK: NumericCall = NumericCall(libc::SYS_lseek);
    pub const SETFSGID: NumericCall = NumericCall(libc::SYS_setfsgid);
    pub const SETFSUID: NumericCall = NumericCall(libc::SYS_setfsuid);
    pub const SOCKET: NumericCall = NumericCall(libc::SYS_socket);
    pub const TGKILL: NumericCall = NumericCall(libc::SYS_tgkill);
    pub const UNSHARE: NumericCall = NumericCall(libc::SYS_unshare);
}

/// Makes a system call that takes numbers alone.
#[inline(always)]
pub fn numeric(number: NumericCall, arguments: impl Arguments) -> Result<usize, Errno> {
    // SAFETY: the call touches no memory (the list above).
    unsafe { call(number.0, arguments) }
}

/// Makes a system call that takes no arguments, always succeeds and returns a number.
#[inline(always)]
pub fn number(number: NumericCall) -> u32 {
    // SAFETY: the call touches no memory (the list above).
    unsafe { ().pass(number.0) as u32 }
}

/// Makes a call that fills a structure, and returns what `read` returns of it.
///
/// # Safety
///
/// The call fills all of the structure whose address it is given where it succeeds.
#[inline(always)]
pub unsafe fn filled<T, R>(
    call: impl FnOnce(*mut T) -> Result<usize, Errno>,
    read: impl FnOnce(&T) -> R,
) -> Result<R, Errno> {
    let mut structure = MaybeUninit::<T>::uninit();
    call(structure.as_mut_ptr())?;
    // SAFETY: it was filled, as the caller says.
    Ok(read(unsafe { structure.assume_init_ref() }))
}
