//! Messages to another process.

use core::ffi::c_char;
use core::mem::MaybeUninit;

use disk::Errno;
use disk::host::Segment;

use super::call::{NumericCall, call, numeric};
use super::{File, UserId, milliseconds};

/// Sends a message to an abstract unix(7) socket of type `SOCK_SEQPACKET`; `EPERM` where the user
/// who listens there is not trusted. A receiver that does not read delays the caller for at most
/// two seconds, however many signals come.
pub fn send(receiver: &[u8], trusted: impl Fn(UserId) -> bool, parts: &[Segment]) -> Result<(), Errno> {
    let mut address =
        libc::sockaddr_un { sun_family: libc::AF_UNIX as libc::sa_family_t, sun_path: [0; 108] };
    // Its name begins with a NUL.
    for (to, from) in address.sun_path.iter_mut().skip(1).zip(receiver) {
        *to = *from as c_char;
    }
    let length = size_of::<libc::sa_family_t>().saturating_add(1).saturating_add(receiver.len());
    let length = length.min(size_of_val(&address));
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    let socket = File::from_result(numeric(NumericCall::SOCKET, (libc::AF_UNIX, kind, 0)))?;
    let timeout = libc::timeval { tv_sec: 1, tv_usec: 0 };
    let size = size_of::<libc::timeval>();
    // SAFETY: the kernel reads a `struct timeval` of the size that is given.
    unsafe {
        let option = (socket.fd(), libc::SOL_SOCKET, libc::SO_SNDTIMEO, &raw const timeout, size);
        call(libc::SYS_setsockopt, option)?;
    }
    let start = milliseconds();
    loop {
        // SAFETY: the kernel reads that much of the address, which is not longer.
        match unsafe { call(libc::SYS_connect, (socket.fd(), &raw const address, length)) } {
            // It would wait for as long again.
            Err(Errno::EINTR) if milliseconds().saturating_sub(start) < 1000 => {}
            Err(Errno::EINTR) => return Err(Errno::EAGAIN),
            connected => {
                connected?;
                break;
            }
        }
    }
    let mut peer = libc::ucred { pid: 0, uid: u32::MAX, gid: 0 };
    let mut size = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the kernel writes a `struct ucred` and its size.
    unsafe {
        let option = (socket.fd(), libc::SOL_SOCKET, libc::SO_PEERCRED, &raw mut peer, &raw mut size);
        call(libc::SYS_getsockopt, option)?;
    }
    if !trusted(UserId(peer.uid)) {
        return Err(Errno::EPERM);
    }
    // SAFETY: zeros are a message without anything.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_iov = parts.as_ptr().cast::<libc::iovec>().cast_mut();
    message.msg_iovlen = parts.len();
    // Nothing has been sent before, so there is room, and it does not wait.
    // SAFETY: a segment is a `struct iovec`, whose memory the kernel reads and checks.
    let sent = unsafe { call(libc::SYS_sendmsg, (socket.fd(), &raw const message, libc::MSG_NOSIGNAL)) };
    sent.map(drop)
}
