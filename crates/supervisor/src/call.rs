//! One call of a thread of the tree, as the engine's [`Process`] and as the answer to it.

use std::cell::RefCell;
use std::ffi::c_int;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::time::Duration;

use disk::abi::Long;
use disk::record::Header;
use disk::request::{
    self, Argument, BLKDISCARD, BLKSECDISCARD, BLKZEROOUT, Family, SCSI_IOCTL_SEND_COMMAND, SG_IO,
    SG_SCSI_RESET, Shape,
};
use disk::trace::capture::Capture;
use disk::{Abi, Answer, Caller as _, Device, Errno, Nexuses, Shared};
use engine::call::{Call, Process};
use engine::ioctl::{self, Buffer};
use engine::sys::{self, Memory, PathBuffer};

use crate::client::Clients;
use crate::notify::{Notification, Reply};
use crate::pool::Pool;
use crate::refusals::Refused;
use crate::registry::{Found, Hit};
use crate::shared::{Begun, State};
use crate::target::Target;
use crate::trace::Tracer;

/// The size of a page, or of a part of one.
const PAGE: usize = 4096;

/// A length that takes longer to copy than it takes to wake another thread.
const LONG: usize = 256 * 1024;

/// The longest piece that is collected, and how much is collected before another piece.
const LONGEST_COLLECTED: usize = 64 * 1024;

/// A thread's process, to which the answer is written when it is complete.
pub struct Caller {
    pool: &'static Pool,
    target: Target,
    abi: Abi,
    /// The descriptor in the thread's table.
    fd: c_int,
    /// Those who share the device.
    clients: &'static Clients,
    /// The command, if others can wait for it; why it could not begin.
    begun: Result<Option<Begun>, Errno>,
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
    /// Returns what the nexuses share; an error where the command could not begin.
    fn state(&self) -> Result<&'static State, Errno> {
        self.begun.as_ref().map_err(|errno| *errno)?;
        self.clients.state()
    }

    /// Writes what was collected.
    fn finish(&self) -> Result<(), Errno> {
        self.page.replace(None);
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

impl Nexuses for Caller {
    fn are_known(&self) -> bool {
        true
    }

    fn look<R>(&self, look: impl FnOnce(&Shared) -> R) -> Result<R, Errno> {
        self.state()?.look(look)
    }

    fn change<R>(&self, change: impl FnOnce(&mut Shared) -> R) -> Result<R, Errno> {
        self.state()?.change(change)
    }

    fn wait_for_others(&self, timeout_ms: u32) -> Result<(), Errno> {
        self.pool.hand_over();
        let timeout = Some(Duration::from_millis(timeout_ms.into())).filter(|_| timeout_ms != 0);
        let begun = self.begun.as_ref().map_err(|errno| *errno)?;
        self.clients.state()?.wait_for_others(begun.as_ref(), timeout, || self.target.checked(()))
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
        if bytes.len().max(collected.bytes.len()) > LONGEST_COLLECTED {
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

    fn take_rights(&self, for_more: bool) -> Result<(), Errno> {
        // Everybody has capabilities in a namespace of his own. What restricts the caller there besides
        // (Landlock, a security module) does not restrict this process.
        if for_more && !self.target.is_in_own_user_namespace() {
            return Err(Errno::EPERM);
        }
        self.target.take_rights()
    }

    fn before_waiting(&self) {
        self.pool.hand_over();
    }

    fn with_peer<R>(
        &self,
        designator: u64,
        writing: bool,
        act: impl FnOnce(&Device<'_>, &Call<Caller>) -> R,
    ) -> Result<R, Errno> {
        let registry = &self.pool.registry;
        let (index, path) = registry.designated(designator).ok_or(Errno::ENXIO)?;
        self.pool.hand_over();
        let (file, hit) = self.target.open_as(path, writing, |fd| match registry.identify(fd) {
            Found::Listed(hit) if hit.index == index => Some(hit),
            _ => None,
        })?;
        registry.share(&hit);
        let Hit { entry, clients, .. } = hit;
        let nexus = self.target.checked(clients.nexus(entry.nexus, self.target.thread())?)?;
        let device = Device { entry, index, settings: clients.settings(), nexus: &nexus };
        let caller = Caller {
            pool: self.pool,
            target: self.target.again(),
            abi: self.abi,
            // The thread has no descriptor of it.
            fd: -1,
            clients,
            begun: clients.begin(entry, &nexus),
            page: RefCell::default(),
            collected: RefCell::default(),
        };
        let call = Call::new(caller, file.as_raw_fd(), hit.status, hit.discard_limits, hit.exclusion);
        Ok(act(&device, &call))
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
    let unknown = || {
        pool.tracer.iter().for_each(Tracer::count_unseen);
        match family {
            Family::BlockLayer => Some(Reply::Continue),
            _ => Some(Reply::Error(Errno::EPERM)),
        }
    };
    let target = Target::new(&pool.listener, id, thread, pool.policy);
    let descriptor = match target.descriptor(fd) {
        Ok(descriptor) => descriptor,
        Err(errno @ Errno::EBADF) => return Some(Reply::Error(errno)),
        Err(Errno::CALLER_GONE) => return None,
        Err(errno) => {
            let is_foreign = matches!(errno, Errno::EPERM | Errno::EACCES) && pool.policy.user.is_none();
            if is_foreign && family != Family::BlockLayer {
                pool.refusals.tell(|| Refused { thread, name: target.thread_name() });
            }
            return unknown();
        }
    };
    let hit = match pool.registry.find(descriptor.as_raw_fd()) {
        Found::Listed(hit) => hit,
        Found::Other => return Some(Reply::Continue),
        Found::Unknown => return unknown(),
    };
    let file = match target.is_reachable().and_then(|()| target.usable(descriptor)) {
        Ok(file) => file,
        Err(errno @ Errno::EBADF) => return Some(Reply::Error(errno)),
        Err(Errno::CALLER_GONE) => return None,
        Err(_) => return unknown(),
    };
    let Hit { entry, index, clients, .. } = hit;
    let nexus = match clients.nexus(entry.nexus, thread).and_then(|nexus| target.checked(nexus)) {
        Ok(nexus) => nexus,
        Err(Errno::CALLER_GONE | Errno::ESRCH) => return None,
        Err(_) => return unknown(),
    };
    let device = Device { entry, index, settings: clients.settings(), nexus: &nexus };
    // What looks at reservations.
    let is_command = matches!(
        request,
        SG_IO | SCSI_IOCTL_SEND_COMMAND | SG_SCSI_RESET | BLKDISCARD | BLKZEROOUT | BLKSECDISCARD
    ) || family == Family::Reservation;
    let begun = if is_command { clients.begin(entry, &nexus) } else { Ok(None) };
    let caller = Caller {
        pool,
        target,
        abi: if is_i386 { Abi::I386 } else { Abi::Native },
        fd,
        clients,
        begun,
        page: RefCell::default(),
        collected: RefCell::default(),
    };
    let call = Call::new(caller, file.as_raw_fd(), hit.status, hit.discard_limits, hit.exclusion);
    if let Err(errno) = call.flags() {
        return Some(Reply::Error(errno));
    }
    match &pool.tracer {
        None => reply(call.process(), disk::answer(&device, &call, request, argument)),
        Some(tracer) => traced(tracer, &device, &call, &file, notification),
    }
}

/// Returns what the thread gets; `None` where it is gone.
fn reply(caller: &Caller, answer: Answer) -> Option<Reply> {
    match (answer, caller.finish()) {
        (Answer::CallerGone, _) | (_, Err(Errno::CALLER_GONE)) => None,
        (_, Err(errno)) => Some(Reply::Error(errno)),
        (Answer::Forward, _) => Some(Reply::Continue),
        (Answer::Value(value), _) => Some(Reply::Value(value)),
        (Answer::Error(errno), _) => Some(Reply::Error(errno)),
    }
}

/// Answers a request, and records it.
#[inline(never)]
fn traced(
    tracer: &Tracer,
    device: &Device<'_>,
    call: &Call<Caller>,
    file: &OwnedFd,
    notification: &Notification,
) -> Option<Reply> {
    let Notification { thread, fd, request, argument, .. } = *notification;
    let caller = call.process();
    let (process, name) = (caller.number(), caller.target.thread_name());
    let mut capture = Capture::before(call, request, argument);
    let start = sys::nanoseconds();
    let answer = disk::answer(device, call, request, argument);
    let forwarded = answer == Answer::Forward;
    // Behind the kernel's own answer there is nobody to see it.
    let answer = if forwarded { kernels_answer(call, file, request, argument) } else { answer };
    let reply = reply(caller, answer);
    let header = Header {
        process: process as u32,
        thread: thread as u32,
        name,
        fd,
        request,
        argument,
        kind: device.entry.kind,
        abi: caller.abi,
        result: match reply {
            Some(Reply::Value(value)) => Some(Ok(value)),
            Some(Reply::Error(errno)) => Some(Err(errno)),
            Some(Reply::Continue) | None => None,
        },
        forwarded,
        duration: sys::nanoseconds().saturating_sub(start),
        data_length: capture.data_length(),
    };
    capture.cut_to_answer(call, &header);
    tracer.record(&header, device.entry.path, &capture, call, || caller.pool.hand_over());
    reply
}

/// Makes a request of the block layer that needs no rights and only returns something, on the
/// supervisor's own copy of the descriptor.
fn kernels_answer(call: &Call<Caller>, file: &OwnedFd, request: u32, argument: u64) -> Answer {
    let Some(row) = request::meant(call.abi(), request).and_then(request::find) else {
        return Answer::Forward;
    };
    let Argument::Out(shape) = row.argument else { return Answer::Forward };
    if request::family(row.number) != Some(Family::BlockLayer) {
        return Answer::Forward;
    }
    let mut buffer = Buffer([0; ioctl::REPLY]);
    let Ok(copy) = file.try_clone() else { return Answer::Forward };
    let Ok(copy) = ioctl::Device::own(copy.into_raw_fd()) else { return Answer::Forward };
    let answered = copy.lend(row.number, &mut buffer).and_then(|value| {
        match shape {
            Shape::Long => call.store::<Long>(argument, Abi::Native.parse(&buffer.0))?,
            _ => call.copy_out(argument, &buffer.0[..shape.bytes(Abi::Native)])?,
        }
        Ok(value)
    });
    answered.into()
}
