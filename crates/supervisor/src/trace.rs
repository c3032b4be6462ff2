//! Records of the calls of a tree.
//!
//! The supervisor makes them where it finds the answers, and shows each as a line on the standard
//! error or sends it to the front, which hands it to whoever traces.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

use disk::host::Segment;
use disk::record::{Header, Parts, Words};
use disk::request::meant;
use disk::trace::capture::Capture;
use disk::trace::{DecodedArgument, Input, Output, RequestName, ReturnValue};
use disk::{Caller, Errno};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};

use crate::registry::Registry;

/// How long a call waits for a front that does not read.
const PATIENCE: Duration = Duration::from_secs(1);

/// As long as any message: a record has little more than [`disk::record::MOST_DATA`] and a path.
const LONGEST: usize = 64 * 1024;

/// What is done with records of the tree's calls.
pub enum Records<'a> {
    /// No record is made.
    Ignored,
    /// Each is a line on the standard error, as at the library's log level 1000.
    Lines,
    /// Each comes to the front.
    Shown(Shown<'a>),
}

/// To whom records come in the front.
pub struct Shown<'a> {
    /// Takes a record.
    pub record: &'a mut (dyn FnMut(&Header, &Parts<'_>) + Send),
    /// Called when the program has ended and others that it has started run; a signal ends the wait
    /// for them.
    pub waits: &'a dyn Fn(),
}

/// What is missing in a trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// Calls that were answered while nobody read their records.
    pub unread: u64,
    /// Calls whose descriptor the supervisor could not look at.
    pub unseen: u64,
    /// Whether the supervisor was killed.
    pub all_later: bool,
}

/// Takes records in the supervisor.
pub struct Tracer {
    sink: Sink,
    unread: AtomicU64,
    unseen: AtomicU64,
    /// Whether the front has been waited for in vain since it read last.
    is_late: AtomicBool,
}

/// Where a tracer writes to.
pub enum Sink {
    /// Each record is a line in this file.
    Lines(File),
    /// Each record is a message of this socket.
    Front(OwnedFd),
}

impl Sink {
    /// Returns the standard error, unless lines would destroy what is there.
    pub fn lines(devices: &Registry) -> io::Result<Option<Sink>> {
        let file = File::from(io::stderr().as_fd().try_clone_to_owned()?);
        let is_disk = file.metadata()?.file_type().is_block_device() || devices.lists(&file);
        Ok((!is_disk).then_some(Sink::Lines(file)))
    }
}

impl AsFd for Tracer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.sink {
            Sink::Lines(file) => file.as_fd(),
            Sink::Front(socket) => socket.as_fd(),
        }
    }
}

impl Tracer {
    /// Begins a trace.
    pub fn new(sink: Sink) -> io::Result<Tracer> {
        if let Sink::Front(socket) = &sink {
            set_socket_timeout(socket, Timeout::Send, Some(PATIENCE))?;
        }
        let (unread, unseen) = (AtomicU64::new(0), AtomicU64::new(0));
        Ok(Tracer { sink, unread, unseen, is_late: AtomicBool::new(false) })
    }

    /// Counts a call whose descriptor could not be looked at.
    pub fn count_unseen(&self) {
        self.unseen.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes the record of a call that has been answered; `before_waiting` is called before it waits
    /// for the front.
    pub fn record(
        &self,
        header: &Header,
        path: &[u8],
        capture: &Capture,
        caller: &impl Caller,
        before_waiting: impl FnOnce(),
    ) {
        let [output, sense, data] = of_caller(capture, caller);
        let parts = [path, capture.input(), &output, capture.cdb(), &sense, &data];
        match &self.sink {
            Sink::Lines(file) => {
                let line = line(header, &parts);
                // A reader that has left has chosen to be told nothing.
                let _ = (&mut &*file).write_all(line.as_bytes());
            }
            Sink::Front(socket) => {
                let words: Words = header.words(parts.map(|part| part.len() as u64));
                let words = words.map(u64::to_ne_bytes);
                let message = [&[words.as_flattened()], &parts[..]].concat().concat();
                self.send(socket, &message, before_waiting);
            }
        }
    }

    fn send(&self, socket: &OwnedFd, message: &[u8], before_waiting: impl FnOnce()) {
        let flags = SendFlags::NOSIGNAL;
        let mut sent = send(socket, message, flags | SendFlags::DONTWAIT);
        if sent == Err(rustix::io::Errno::AGAIN) && !self.is_late.load(Ordering::Relaxed) {
            before_waiting();
            sent = send(socket, message, flags);
        }
        let is_late = sent == Err(rustix::io::Errno::AGAIN);
        self.is_late.store(is_late, Ordering::Relaxed);
        // A front that has left has chosen to read no more.
        if is_late {
            self.unread.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Ends the trace.
    pub fn end(&self) {
        if let Sink::Front(socket) = &self.sink {
            let counts = [&self.unread, &self.unseen].map(|count| count.load(Ordering::Relaxed));
            // However late the front is, it is the last that it gets.
            while send(socket, counts.map(u64::to_ne_bytes).as_flattened(), SendFlags::NOSIGNAL)
                == Err(rustix::io::Errno::AGAIN)
            {}
        }
    }
}

/// Copies the output, the sense data and the data; nothing where some of it cannot be read.
fn of_caller(capture: &Capture, caller: &impl Caller) -> [Vec<u8>; 3] {
    let copy = |segments: &[Segment]| -> Result<Vec<u8>, Errno> {
        let mut bytes = Vec::new();
        for Segment { address, length } in segments {
            let start = bytes.len();
            bytes.resize(start + *length as usize, 0);
            caller.copy_in(*address, &mut bytes[start..])?;
        }
        Ok(bytes)
    };
    let copied: Result<Vec<_>, Errno> = capture.of_caller().into_iter().map(copy).collect();
    copied.ok().and_then(|parts| parts.try_into().ok()).unwrap_or_default()
}

/// Returns the line of a record, with its end.
fn line(header: &Header, [path, input, output, cdb, ..]: &[&[u8]; 6]) -> String {
    let Header { process, thread, fd, request, argument, abi, result, forwarded, .. } = *header;
    let decoded = DecodedArgument::from_record(abi, request, argument, [input, output, cdb]);
    let asked = format!(
        "vmware-bdwrapper: pid {process} tid {thread}: ioctl({fd}, {}, {}) on {}",
        RequestName(meant(abi, request).unwrap_or(request)),
        Input(&decoded),
        disk::entry::Printed(path),
    );
    match (result, forwarded) {
        (None, true) => format!("{asked}, left to the kernel\n"),
        (None, false) => format!("{asked}, killed\n"),
        (Some(result), _) => {
            let by = if forwarded { "forwarded" } else { "answered" };
            let output = if result.is_ok() { Output(&decoded).to_string() } else { String::new() };
            format!("{asked} = {}{output}, {by}\n", ReturnValue(result))
        }
    }
}

/// The front's end of a trace: a thread that takes what comes.
pub struct Receiver<'scope> {
    socket: &'scope OwnedFd,
    thread: ScopedJoinHandle<'scope, Missing>,
    /// Whether nothing later is wanted.
    is_stopped: Cell<bool>,
    /// Closed by the thread when nothing more comes.
    pub end: UnixStream,
}

impl<'scope> Receiver<'scope> {
    /// Starts the thread, which calls `record` for each record.
    pub fn start<'env>(
        scope: &'scope Scope<'scope, 'env>,
        socket: &'scope OwnedFd,
        record: &'scope mut (dyn FnMut(&Header, &Parts<'_>) + Send),
    ) -> io::Result<Receiver<'scope>> {
        let (end, of_thread) = UnixStream::pair()?;
        let builder = std::thread::Builder::new();
        let thread = builder.spawn_scoped(scope, move || {
            let missing = receive(socket, record);
            drop(of_thread);
            missing
        })?;
        Ok(Receiver { socket, thread, is_stopped: Cell::new(false), end })
    }

    /// Takes what has been sent, and nothing later.
    pub fn stop(&self) {
        self.is_stopped.set(true);
        let _ = shutdown(self.socket, Shutdown::Read);
    }

    /// Waits for the end, and returns what is missing.
    pub fn join(self) -> Missing {
        let missing = self.thread.join().unwrap_or(Missing { all_later: true, ..Missing::default() });
        Missing { all_later: missing.all_later && !self.is_stopped.get(), ..missing }
    }
}

fn receive(socket: &OwnedFd, record: &mut (dyn FnMut(&Header, &Parts<'_>) + Send)) -> Missing {
    let mut buffer = vec![0; LONGEST];
    loop {
        let message = match recv(socket, &mut buffer[..], RecvFlags::empty()) {
            Err(rustix::io::Errno::INTR) => continue,
            received => &buffer[..received.map_or(0, |(_, length)| length)],
        };
        if let Some((header, parts)) = Header::parse(message) {
            record(&header, &parts);
            continue;
        }
        let count = |at: usize| message.get(at..at + 8)?.try_into().ok().map(u64::from_ne_bytes);
        return match (count(0), count(8)) {
            (Some(unread), Some(unseen)) => Missing { unread, unseen, all_later: false },
            _ => Missing { all_later: true, ..Missing::default() },
        };
    }
}
