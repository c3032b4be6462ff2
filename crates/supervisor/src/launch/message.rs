//! What the front, the supervisor and the program tell each other, and the sockets that carry it.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recv, recvmsg, send, sendmsg, socketpair,
};

/// A message: a kind, and up to two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// To the front: the program is this process.
    Started(i32),
    /// To the front: why it does not run.
    NotStarted(Step, i32),
    /// To the front: it was stopped by this signal; how often it has been stopped by now.
    Stopped(i32, i32),
    /// To the front: it goes on.
    Continued,
    /// To the front: it has ended with this status.
    Exited(i32),
    /// To the front: it was killed by this signal.
    Killed(i32),
    /// To the supervisor: send the program this signal; how often it had been stopped, as far as the front
    /// knew, when the signal came.
    Signal(i32, i32),
    /// To the program: the supervisor is ready.
    Ready,
}

/// What was tried when the program could not be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Step {
    /// What the supervisor needs.
    Prepare,
    /// To find this process in /proc.
    Proc,
    /// To open /dev/null.
    Null,
    /// To install the filter.
    Filter,
    /// To execute it.
    Execute,
}

impl Message {
    const LENGTH: usize = 12;

    fn numbers(self) -> [i32; 3] {
        match self {
            Message::Started(process) => [1, process, 0],
            Message::NotStarted(step, errno) => [2, step as i32, errno],
            Message::Stopped(signal, stop) => [3, signal, stop],
            Message::Exited(status) => [4, status, 0],
            Message::Killed(signal) => [5, signal, 0],
            Message::Signal(signal, stop) => [6, signal, stop],
            Message::Ready => [7, 0, 0],
            Message::Continued => [8, 0, 0],
        }
    }

    fn from_numbers(numbers: [i32; 3]) -> Option<Message> {
        let step = |number| {
            let all = [Step::Prepare, Step::Proc, Step::Null, Step::Filter, Step::Execute];
            all.into_iter().find(|step| *step as i32 == number)
        };
        Some(match numbers {
            [1, process, _] => Message::Started(process),
            [2, number, errno] => Message::NotStarted(step(number)?, errno),
            [3, signal, stop] => Message::Stopped(signal, stop),
            [4, status, _] => Message::Exited(status),
            [5, signal, _] => Message::Killed(signal),
            [6, signal, stop] => Message::Signal(signal, stop),
            [7, ..] => Message::Ready,
            [8, ..] => Message::Continued,
            _ => return None,
        })
    }

    /// Sends it.
    pub(crate) fn send(self, socket: &OwnedFd) -> io::Result<()> {
        let bytes = self.numbers().map(i32::to_ne_bytes).concat();
        send(socket, &bytes, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Waits for the next one; `None` where the other side has ended.
    pub(crate) fn receive(socket: &OwnedFd) -> Option<Message> {
        let mut bytes = [0; Message::LENGTH];
        loop {
            match recv(socket, &mut bytes, RecvFlags::empty()) {
                Ok((_, Message::LENGTH)) => return Message::from_numbers(numbers(&bytes)),
                // The other side has ended without reading all: what it has sent is still there.
                Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNRESET) => {}
                _ => return None,
            }
        }
    }
}

/// Returns the numbers of a message as it is sent.
fn numbers(bytes: &[u8; Message::LENGTH]) -> [i32; 3] {
    let number = |at: usize| i32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    [number(0), number(4), number(8)]
}

/// Makes two ends of a connection that keeps messages apart.
pub(crate) fn sockets() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// What failed, and why.
pub(crate) type StartError = (Step, io::Error);

/// Sends a descriptor, with a message that says nothing.
pub(super) fn send_descriptor(socket: &OwnedFd, descriptor: OwnedFd) -> io::Result<()> {
    let bytes = [0; Message::LENGTH];
    let descriptors = [descriptor.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    sendmsg(socket, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Waits for a descriptor, or for the message that says why none comes.
pub(super) fn receive_descriptor(socket: &OwnedFd) -> Result<OwnedFd, StartError> {
    let lost = || (Step::Prepare, io::Error::from_raw_os_error(libc::ECHILD));
    let mut bytes = [0; Message::LENGTH];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC);
    let received = received.map_err(|errno| (Step::Prepare, errno.into()))?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut descriptors) = message {
            return descriptors.next().ok_or_else(lost);
        }
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err((Step::Prepare, io::Error::from_raw_os_error(libc::EMFILE)));
    }
    match Message::from_numbers(numbers(&bytes)) {
        Some(Message::NotStarted(step, errno)) => Err((step, io::Error::from_raw_os_error(errno))),
        _ => Err(lost()),
    }
}
