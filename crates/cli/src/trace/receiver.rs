//! The socket to which the library sends its records.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::{fs, io};

use disk::record::{Head, TOKEN, VARIABLE};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect,
    listen, recv, send, socket_with,
};

use super::failed;
use super::record::Record;
use crate::failure::Failure;

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
const END: &[u8] = b"end";

/// The most connections whose message is waited for. A sender has its message ready, so the first of more is no sender.
const MOST: usize = 256;

/// The receiving end.
pub struct Receiver {
    socket: OwnedFd,
    /// Those that have connected and sent nothing yet, in this order.
    connections: VecDeque<OwnedFd>,
    name: String,
    secret: String,
}

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
            Ok(Receiver { socket, connections: VecDeque::new(), name, secret })
        };
        make().map_err(|error| failed("The socket for the trace cannot be made", &error))
    }

    /// The value of [`VARIABLE`] for the programs.
    pub fn variable(&self) -> String {
        format!("{}{}", self.name, self.secret)
    }

    /// A sender for this process.
    pub fn sender(&self) -> Sender {
        Sender::of(&self.variable()).expect("it is complete")
    }

    /// Waits for the next message. What is none of ours is passed over.
    pub fn next(&mut self, buffer: &mut [u8]) -> Message {
        loop {
            let Ok(length) = self.receive(buffer) else { return Message::End };
            let message = buffer.get(..length).unwrap_or_default();
            match message.strip_prefix(self.secret.as_bytes()) {
                Some(DONE) => return Message::Done,
                Some(END) => return Message::End,
                Some(record) => {
                    if let Some((head, parts)) = Head::parse(record) {
                        return Message::Record(Box::new(Record::new(&head, &parts)));
                    }
                }
                None => {}
            }
        }
    }

    /// The next message that is there, of the connection that was made first.
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            self.accept()?;
            for index in 0..self.connections.len() {
                match recv(&self.connections[index], &mut *buffer, RecvFlags::DONTWAIT) {
                    Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                    // Nobody sends more than one.
                    received => {
                        self.connections.remove(index);
                        return Ok(received.map_or(0, |(_, length)| length));
                    }
                }
            }
            if self.connections.len() == MOST {
                self.connections.pop_front();
                continue;
            }
            let all = [&self.socket].into_iter().chain(&self.connections);
            let mut all: Vec<_> = all.map(|socket| PollFd::new(socket, PollFlags::IN)).collect();
            match poll(&mut all, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Takes those that have connected. Who has connected later has not sent earlier, so the order of messages stays.
    fn accept(&mut self) -> io::Result<()> {
        while self.connections.len() < MOST {
            match accept_with(&self.socket, SocketFlags::CLOEXEC) {
                Ok(connection) => self.connections.push_back(connection),
                Err(rustix::io::Errno::AGAIN) => break,
                Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNABORTED) => {}
                // Once one of them has sent there is a descriptor for another.
                Err(rustix::io::Errno::MFILE) if !self.connections.is_empty() => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

impl Sender {
    fn of(variable: &str) -> io::Result<Sender> {
        let (name, secret) =
            variable.split_at_checked(TOKEN).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(Sender { address: SocketAddrUnix::new_abstract_name(name.as_bytes())?, secret: secret.into() })
    }

    /// The one that the environment names.
    pub fn of_environment() -> io::Result<Sender> {
        Sender::of(&std::env::var(VARIABLE).unwrap_or_default())
    }

    fn send(&self, what: &[u8]) -> io::Result<()> {
        let socket = socket(SocketFlags::CLOEXEC)?;
        connect(&socket, &self.address)?;
        send(&socket, &[&self.secret, what].concat(), SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Sends [`Message::End`]; where the receiver has left already it is not missed.
    pub fn end(&self) {
        let _ = self.send(END);
    }

    /// Sends [`Message::Done`].
    pub fn done(&self) -> io::Result<()> {
        self.send(DONE)
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
