//! The socket to which the library sends its records.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};
use std::{fs, iter};

use disk::names::TRACE;
use disk::record::{Header, TOKEN};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect,
    listen, recv, send, socket_with,
};
use rustix::process::geteuid;

use super::failed;
use super::record::Record;
use crate::say::failure::Failure;

/// What arrives.
pub enum Message {
    /// A request.
    Record(Box<Record>),
    /// A request of a replay has been made.
    Done,
    /// Nothing more comes.
    End,
}

const DONE: &[u8] = b"done";

/// How long a message is waited for. Who connects has it ready.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long it takes until there may be a descriptor again.
const PAUSE: Duration = Duration::from_millis(50);

/// The receiving end.
pub struct Receiver {
    socket: OwnedFd,
    /// Those that have connected and sent nothing yet, in this order, and since when.
    connections: VecDeque<(OwnedFd, Instant)>,
    /// Readable when nothing more comes, and what makes it so.
    end: UnixStream,
    ender: UnixStream,
    /// Whether somebody could not be heard for want of a descriptor.
    lost: bool,
    name: String,
    secret: String,
}

/// One that says that nothing more comes.
pub struct Ender(UnixStream);

/// One that sends what is no record.
pub struct Sender {
    address: SocketAddrUnix,
    secret: Vec<u8>,
}

/// Room for the longest message, which is not much longer than [`disk::record::MOST_DATA`] and the longest path.
pub fn buffer() -> Vec<u8> {
    vec![0; 64 * 1024]
}

impl Receiver {
    /// Makes one. Whoever does not know its secret, which is in the environment of the programs alone, is not heard.
    pub fn new() -> Result<Receiver, Failure> {
        let make = || -> io::Result<Receiver> {
            let [name, secret] = [uuid()?, uuid()?];
            let socket = socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
            bind(&socket, &SocketAddrUnix::new_abstract_name(name.as_bytes())?)?;
            listen(&socket, 1024)?;
            let (end, ender) = UnixStream::pair()?;
            Ok(Receiver { socket, connections: VecDeque::new(), end, ender, lost: false, name, secret })
        };
        make().map_err(|error| failed("The socket for the trace cannot be made", &error))
    }

    /// The value of [`TRACE`] for the programs.
    pub fn variable(&self) -> String {
        format!("{}{}", self.name, self.secret)
    }

    /// One that makes [`Message::End`] come, behind all that has been sent before.
    pub fn ender(&self) -> io::Result<Ender> {
        Ok(Ender(self.ender.try_clone()?))
    }

    /// Whether messages may be missing.
    pub fn has_lost(&self) -> bool {
        self.lost
    }

    /// Waits for the next message. What is none of ours is passed over.
    pub fn next(&mut self, buffer: &mut [u8]) -> Message {
        loop {
            let Some(length) = self.receive(buffer) else { return Message::End };
            let message = buffer.get(..length).unwrap_or_default();
            match message.strip_prefix(self.secret.as_bytes()) {
                Some(DONE) => return Message::Done,
                Some(record) => {
                    if let Some((head, parts)) = Header::parse(record) {
                        return Message::Record(Box::new(Record::new(&head, &parts)));
                    }
                }
                None => {}
            }
        }
    }

    /// The length of the next message, of the connection that was made first; none at the end.
    fn receive(&mut self, buffer: &mut [u8]) -> Option<usize> {
        let mut ended = false;
        loop {
            let all_accepted = self.accept();
            if let Some(length) = self.read(buffer) {
                return Some(length);
            }
            let now = Instant::now();
            self.connections.retain(|(_, since)| now.duration_since(*since) < PATIENCE);
            if !all_accepted {
                self.lost |= self.connections.pop_front().is_none();
            }
            // All that was sent before is here by then.
            if ended && (all_accepted || self.connections.is_empty()) {
                return None;
            }
            let listener = all_accepted.then_some(&self.socket);
            let connections = self.connections.iter().map(|(connection, _)| connection);
            let watched = iter::once(PollFd::new(&self.end, PollFlags::IN));
            let sockets = listener.into_iter().chain(connections);
            let mut watched: Vec<_> =
                watched.chain(sockets.map(|socket| PollFd::new(socket, PollFlags::IN))).collect();
            let wait = match (all_accepted, self.connections.is_empty()) {
                (false, _) => Some(PAUSE),
                (true, false) => Some(PATIENCE),
                (true, true) => None,
            };
            let wait = wait.and_then(|wait| Timespec::try_from(wait).ok());
            let _ = poll(&mut watched, wait.as_ref());
            ended = watched.first().is_some_and(|end| !end.revents().is_empty());
        }
    }

    /// Takes those that have connected; false where there is no descriptor for one. Who has connected later has not sent earlier,
    /// so the order of messages stays.
    fn accept(&mut self) -> bool {
        let own = geteuid();
        // No more at once than can wait, so that nobody who always connects keeps the others from being heard.
        for _ in 0..1024 {
            match accept_with(&self.socket, SocketFlags::CLOEXEC) {
                Ok(connection) => {
                    // Root's programs may have become anybody's.
                    let is_ours = |user| own.is_root() || user == own;
                    if socket_peercred(&connection).is_ok_and(|peer| peer.uid.is_root() || is_ours(peer.uid))
                    {
                        self.connections.push_back((connection, Instant::now()));
                    }
                }
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => return false,
            }
        }
        true
    }

    /// Reads a message of the first connection that has one.
    fn read(&mut self, buffer: &mut [u8]) -> Option<usize> {
        for index in 0..self.connections.len() {
            let received = recv(&self.connections[index].0, &mut *buffer, RecvFlags::DONTWAIT);
            if !matches!(received, Err(Errno::AGAIN | Errno::INTR)) {
                // Nobody sends more than one.
                self.connections.remove(index);
                return Some(received.map_or(0, |(_, length)| length));
            }
        }
        None
    }
}

impl Ender {
    /// Makes [`Message::End`] come; where the receiver has left already it is not missed.
    pub fn end(&self) {
        let _ = (&self.0).write_all(b".");
    }
}

impl Sender {
    /// The one that the environment names.
    pub fn of_environment() -> io::Result<Sender> {
        let variable = std::env::var(TRACE).unwrap_or_default();
        let (name, secret) =
            variable.split_at_checked(TOKEN).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(Sender { address: SocketAddrUnix::new_abstract_name(name.as_bytes())?, secret: secret.into() })
    }

    /// Sends [`Message::Done`].
    pub fn done(&self) -> io::Result<()> {
        let socket = socket(SocketFlags::CLOEXEC)?;
        connect(&socket, &self.address)?;
        send(&socket, &[&self.secret, DONE].concat(), SendFlags::NOSIGNAL)?;
        Ok(())
    }
}

fn socket(flags: SocketFlags) -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

fn uuid() -> io::Result<String> {
    let mut text = fs::read_to_string("/proc/sys/kernel/random/uuid")?;
    text.truncate(TOKEN);
    if text.len() == TOKEN { Ok(text) } else { Err(io::ErrorKind::InvalidData.into()) }
}
