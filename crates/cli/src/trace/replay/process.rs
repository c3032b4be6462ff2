//! The process that makes the requests, with the library loaded.

use std::ffi::OsString;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::{ChildStdin, Stdio};

use disk::Errno;
use engine::ioctl::{self, Buffer, Device};
use serde::{Deserialize, Serialize};

use super::input::Input;
use crate::check::library;
use crate::command::itself;
use crate::entries;
use crate::say::failure::Failure;
use crate::say::finding::{Code, Finding};
use crate::trace::receiver::{self, Message, Receiver, Sender};
use crate::trace::record::Record;
use crate::trace::{Family, failed};

/// A request to be made.
#[derive(Serialize, Deserialize)]
pub struct Order {
    /// The index of its device among the arguments of the process.
    pub device: usize,
    pub request: u32,
    pub input: Input,
}

/// The process that makes the requests, and the socket on which its records arrive.
pub struct Replay {
    receiver: Receiver,
    orders: BufWriter<ChildStdin>,
    buffer: Vec<u8>,
}

impl Replay {
    pub fn start(texts: &[OsString], write: bool) -> Result<Replay, Failure> {
        let listed = entries::parse(texts)?;
        let library = library::ordinary()?;
        let receiver = Receiver::new()?;
        let mut command = itself("resend");
        command.args(write.then_some("--write")).arg("--");
        command.args(listed.iter().map(entries::Device::path));
        library::preload(&mut command, &library);
        command.env(entries::VARIABLE, entries::list(texts));
        command.env(disk::names::TRACE, receiver.variable());
        command.stdin(Stdio::piped());
        let stopped = |error| failed("The process that makes the requests cannot be started", &error);
        let family = Family::start(&mut command, &receiver).map_err(stopped)?;
        let orders = BufWriter::new(family.input.ok_or_else(|| stopped(io::ErrorKind::BrokenPipe.into()))?);
        Ok(Replay { receiver, orders, buffer: receiver::buffer() })
    }

    /// Makes a request to the device of this name; fails if the library did not see it.
    pub fn make(&mut self, order: &Order, device: &str) -> Result<Box<Record>, Failure> {
        let ended = || {
            let why = "The process that makes the requests has ended";
            Finding::problem(Code::Incomplete, why).hint("see its messages above").into()
        };
        let send = |orders: &mut BufWriter<ChildStdin>| -> io::Result<()> {
            serde_json::to_writer(&mut *orders, order)?;
            orders.write_all(b"\n")?;
            orders.flush()
        };
        // Where it has ended, that comes as a message.
        let _ = send(&mut self.orders);
        let mut found = None;
        loop {
            match self.receiver.next(&mut self.buffer) {
                Message::Record(record) => found = Some(record),
                Message::Done => return found.ok_or_else(|| not_answered(device)),
                Message::End => return Err(ended()),
            }
        }
    }
}

/// Says that the library does not answer, so that no request may follow: the device's driver would get it.
fn not_answered(device: &str) -> Failure {
    let why = "the library does not answer for it, so no request is made there";
    let finding = Finding::problem(Code::NotReady, why).of(device);
    finding.hint("'vmware-bdwrapper probe' says why").into()
}

/// Makes the requests that arrive on the standard input.
pub fn resend(paths: &[PathBuf], write: bool) -> Result<(), Failure> {
    let failed =
        |error: io::Error| Finding::io("The requests do not arrive", &error).hint("start the replay again");
    let sender = Sender::of_environment().map_err(failed)?;
    let mut devices = Vec::new();
    for path in paths {
        devices.push(vmware::open(path, write).map_err(|error| {
            let what = if write { "cannot be opened for writing" } else { "cannot be opened for reading" };
            Finding::io(what, &io::Error::from_raw_os_error(error.0))
                .of(path)
                .hint("name a device that can be opened")
        })?);
    }
    for line in io::stdin().lines() {
        let order: Order =
            serde_json::from_str(&line.map_err(failed)?).map_err(|error| failed(error.into()))?;
        if let Some(device) = devices.get(order.device) {
            // The library records what comes of it. What is not made is not recorded, which the other process sees.
            let _ = make(device, order.request, order.input);
        }
        sender.done().map_err(failed)?;
    }
    Ok(())
}

/// Makes a request anew.
fn make(device: &Device, request: u32, input: Input) -> Result<i32, Errno> {
    match input {
        Input::Number(number) => device.pass(request, number),
        Input::Memory(bytes) => {
            let mut buffer = Box::new(Buffer([0; ioctl::MOST]));
            buffer.0.get_mut(..bytes.len()).ok_or(Errno::EINVAL)?.copy_from_slice(&bytes);
            device.lend(request, &mut buffer)
        }
        Input::Command { direction, cdb, mut data, length, sense } => {
            data.resize(length as usize, 0);
            let mut room = sense.map(|length| vec![0; length.into()]);
            let sense = room.as_deref_mut();
            device.send(ioctl::Command { direction, cdb: &cdb, data: &mut data, sense })
        }
    }
}
