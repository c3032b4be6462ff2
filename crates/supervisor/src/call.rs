//! One call of a thread of the tree, as the engine's [`Process`] and as the answer to it.

use std::cell::RefCell;
use std::ffi::c_int;
use std::io::Write;
use std::os::fd::AsRawFd;

use disk::request::{self, Family};
use disk::trace::{DecodedArgument, Input, Output, RequestName, ReturnValue};
use disk::{Abi, Answer, Errno};
use engine::call::{Call, Process};
use engine::sys::{Memory, PathBuffer};

use crate::notify::{Notification, Reply};
use crate::pool::Pool;
use crate::registry::Found;
use crate::target::Target;

/// The size of a page, or of a part of one.
const PAGE: usize = 4096;

/// A length that takes longer to copy than it takes to wake another thread.
const LONG: usize = 256 * 1024;

/// The longest piece that is collected.
const LONGEST_COLLECTED: usize = 64 * 1024;

/// A thread's process, to which the answer is written when it is complete.
pub struct Caller {
    pool: &'static Pool,
    target: Target,
    abi: Abi,
    /// The descriptor in the thread's table.
    fd: c_int,
    /// A page of its memory that was read once, and its address.
    page: RefCell<Option<(u64, BounceBuffer)>>,
    collected: RefCell<Collected>,
}

/// What is to be written to the process: where to, and which part of the bytes.
#[derive(Default)]
struct Collected {
    bytes: Vec<u8>,
    parts: Vec<(u64, usize)>,
}

impl Collected {
    /// Writes all of it, and one more piece.
    fn write(&mut self, target: &Target, last: Option<(u64, &[u8])>) -> Result<(), Errno> {
        let mut rest = &self.bytes[..];
        let mut parts: Vec<(u64, &[u8])> = Vec::with_capacity(self.parts.len() + 1);
        for (address, length) in &self.parts {
            let (part, behind) = rest.split_at(*length);
            parts.push((*address, part));
            rest = behind;
        }
        parts.extend(last);
        let written = if parts.is_empty() { Ok(()) } else { target.write(&parts) };
        self.bytes.clear();
        self.parts.clear();
        written
    }

    fn overlaps(&self, address: u64, length: usize) -> bool {
        let end = address.saturating_add(length as u64);
        self.parts
            .iter()
            .any(|(start, length)| *start < end && address < start.saturating_add(*length as u64))
    }
}

impl Caller {
    /// Writes what was collected.
    fn finish(&self) -> Result<(), Errno> {
        self.collected.borrow_mut().write(&self.target, None)
    }

    /// Copies from the page that was read.
    fn read_page(&self, address: u64, bytes: &mut [u8]) -> Option<()> {
        let mut page = self.page.borrow_mut();
        let (start, page) = page.as_mut()?;
        let at = usize::try_from(address.checked_sub(*start)?).ok()?;
        bytes.copy_from_slice(page.as_mut().get(at..at.checked_add(bytes.len())?)?);
        Some(())
    }
}

impl Process for Caller {
    type BounceBuffer = BounceBuffer;

    const IS_OWN: bool = false;

    fn bounce_buffer(&self, length: usize) -> Result<BounceBuffer, Errno> {
        if length >= LONG {
            self.pool.share();
        }
        BounceBuffer::take(length)
    }

    fn abi(&self) -> Abi {
        self.abi
    }

    fn copy_in(&self, address: u64, bytes: &mut [u8]) -> Result<(), Errno> {
        if bytes.is_empty() {
            return Ok(());
        }
        if self.collected.borrow().overlaps(address, bytes.len()) {
            self.finish()?;
            self.page.replace(None);
        }
        match self.read_page(address, bytes) {
            Some(()) => Ok(()),
            None => self.target.read(address, bytes),
        }
    }

    fn copy_out(&self, address: u64, bytes: &[u8]) -> Result<(), Errno> {
        if bytes.is_empty() {
            return Ok(());
        }
        let mut collected = self.collected.borrow_mut();
        if bytes.len() > LONGEST_COLLECTED {
            self.page.replace(None);
            return collected.write(&self.target, Some((address, bytes)));
        }
        collected.bytes.extend_from_slice(bytes);
        collected.parts.push((address, bytes.len()));
        Ok(())
    }

    fn prepare(&self, address: u64, length: usize) {
        let start = address & !(PAGE as u64 - 1);
        if address.saturating_add(length as u64) > start.saturating_add(PAGE as u64) {
            return;
        }
        let Ok(mut page) = BounceBuffer::take(PAGE) else { return };
        if self.target.read(start, page.as_mut()).is_ok() {
            self.page.replace(Some((start, page)));
        }
    }

    fn capabilities(&self) -> u64 {
        self.target.capabilities()
    }

    fn is_in_initial_user_namespace(&self) -> bool {
        self.target.is_in_initial_user_namespace()
    }

    fn file_size_limit(&self) -> u64 {
        self.target.file_size_limit()
    }

    fn number(&self) -> c_int {
        self.target.process().unwrap_or(0)
    }

    fn lock_report(&self, _: c_int) -> Result<PathBuffer, Errno> {
        PathBuffer::format(format_args!("{}", self.target.lock_report(self.fd)))
    }

    fn take_rights(&self) -> Result<(), Errno> {
        self.target.take_rights()
    }

    fn before_waiting(&self) {
        self.pool.hand_over();
    }
}

/// Memory that a thread of the supervisor keeps for its next call: new memory costs several times
/// what a copy does.
pub struct BounceBuffer {
    memory: Option<Memory>,
    length: usize,
}

/// The longest memory that is kept, and how many a thread keeps.
const LONGEST_KEPT: usize = 256 * 1024;
const MOST_KEPT: usize = 4;

thread_local! {
    static KEPT: RefCell<Vec<Memory>> = const { RefCell::new(Vec::new()) };
}

impl BounceBuffer {
    fn take(length: usize) -> Result<BounceBuffer, Errno> {
        if length > LONGEST_KEPT {
            return Ok(BounceBuffer { memory: Some(Memory::map(length)?), length });
        }
        let memory = match KEPT.with_borrow_mut(Vec::pop) {
            Some(memory) => memory,
            None => Memory::map(LONGEST_KEPT)?,
        };
        Ok(BounceBuffer { memory: Some(memory), length })
    }
}

impl AsMut<[u8]> for BounceBuffer {
    fn as_mut(&mut self) -> &mut [u8] {
        self.memory.as_mut().map(|memory| &mut memory.as_mut()[..self.length]).unwrap_or_default()
    }
}

impl Drop for BounceBuffer {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take().filter(|_| self.length <= LONGEST_KEPT) {
            KEPT.with_borrow_mut(|kept| {
                if kept.len() < MOST_KEPT {
                    kept.push(memory);
                }
            });
        }
    }
}

/// Finds the answer to a call; `None` where the caller is gone. The device is not open any more then.
pub fn answer(pool: &'static Pool, notification: &Notification) -> Option<Reply> {
    let Notification { id, thread, is_i386, fd, request, argument } = *notification;
    let Some(family) = request::family(request) else { return Some(Reply::Continue) };
    // The block layer keeps to the device; a driver's request could reach the disk underneath.
    let unknown = match family {
        Family::BlockLayer => Some(Reply::Continue),
        _ => Some(Reply::Error(Errno::EPERM)),
    };
    let target = Target::new(&pool.listener, id, thread, pool.policy.reaches_others);
    let file = match target.descriptor(fd) {
        Ok(file) => file,
        Err(errno @ Errno::EBADF) => return Some(Reply::Error(errno)),
        Err(Errno::CALLER_GONE) => return None,
        Err(_) => return unknown,
    };
    let (device, hit) = match pool.registry.find(file.as_raw_fd()) {
        Found::Listed(device, hit) => (device, hit),
        Found::Other => return Some(Reply::Continue),
        Found::Unknown => return unknown,
    };
    let caller = Caller {
        pool,
        target,
        abi: if is_i386 { Abi::I386 } else { Abi::Native },
        fd,
        page: RefCell::default(),
        collected: RefCell::default(),
    };
    let call = Call::new(caller, file.as_raw_fd(), hit.status, hit.discard_limits, hit.exclusion);
    if let Err(errno) = call.flags() {
        return Some(Reply::Error(errno));
    }
    let decoded = pool.messages.is_some().then(|| DecodedArgument::read_input(&call, request, argument));
    let answer = disk::answer(&device, &call, request, argument);
    let reply = match (answer, call.process().finish()) {
        (Answer::CallerGone, _) | (_, Err(Errno::CALLER_GONE)) => return None,
        (_, Err(errno)) => Reply::Error(errno),
        (Answer::Forward, _) => Reply::Continue,
        (Answer::Value(value), _) => Reply::Value(value),
        (Answer::Error(errno), _) => Reply::Error(errno),
    };
    if let (Some(messages), Some(mut decoded)) = (&pool.messages, decoded) {
        let process = call.process().number();
        let asked = format!(
            "vmware-bdwrapper: pid {process} tid {thread}: ioctl({fd}, {}, {}) on {}",
            RequestName(request),
            Input(&decoded),
            device.entry.printed_path()
        );
        let result = match reply {
            Reply::Continue => None,
            Reply::Value(value) => Some(Ok(value)),
            Reply::Error(errno) => Some(Err(errno)),
        };
        if let Some(Ok(_)) = result {
            decoded.read_output(&call);
        }
        let line = match result {
            Some(result) => format!("{asked} = {}{}, answered\n", ReturnValue(result), Output(&decoded)),
            None => format!("{asked}, left to the kernel\n"),
        };
        // A reader that has left has chosen to be told nothing.
        let _ = (&mut &*messages).write_all(line.as_bytes());
    }
    Some(reply)
}
