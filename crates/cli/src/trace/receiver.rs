//! The socket to which the library sends its records.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::{fs, io};

use disk::record::{Head, TOKEN, VARIABLE};

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

/// The receiving end.
pub struct Receiver {
    socket: UnixDatagram,
    name: String,
    secret: String,
}

/// One that sends what is no record.
pub struct Sender {
    socket: UnixDatagram,
    address: SocketAddr,
    secret: Vec<u8>,
}

/// Room for the longest datagram, which is not much longer than [`disk::record::MOST_DATA`] and the longest path.
pub fn buffer() -> Vec<u8> {
    vec![0; 64 * 1024]
}

impl Receiver {
    /// Makes one. Whoever does not know its secret, which is in the environment of the programs alone, is not heard.
    pub fn new() -> Result<Receiver, Failure> {
        let make = || -> io::Result<Receiver> {
            let [name, secret] = [uuid()?, uuid()?];
            let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
            Ok(Receiver { socket, name, secret })
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
    pub fn next(&self, buffer: &mut [u8]) -> Message {
        loop {
            let length = match self.socket.recv(buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return Message::End,
            };
            let datagram = buffer.get(..length).unwrap_or_default();
            match datagram.strip_prefix(self.secret.as_bytes()) {
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
}

impl Sender {
    fn of(variable: &str) -> io::Result<Sender> {
        let (name, secret) =
            variable.split_at_checked(TOKEN).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let socket = UnixDatagram::unbound()?;
        Ok(Sender { socket, address: SocketAddr::from_abstract_name(name)?, secret: secret.into() })
    }

    /// The one that the environment names.
    pub fn of_environment() -> io::Result<Sender> {
        Sender::of(&std::env::var(VARIABLE).unwrap_or_default())
    }

    fn send(&self, what: &[u8]) -> io::Result<()> {
        self.socket.send_to_addr(&[&self.secret, what].concat(), &self.address).map(drop)
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

fn uuid() -> io::Result<String> {
    let mut text = fs::read_to_string("/proc/sys/kernel/random/uuid")?;
    text.truncate(TOKEN);
    if text.len() == TOKEN { Ok(text) } else { Err(io::ErrorKind::InvalidData.into()) }
}
