//! A thread whose call is answered: its descriptor, its memory, its rights.
//!
//! A thread can be killed at any moment, and its number given to another. So what is read of it
//! counts only if its notification is valid afterwards. It is written through a file of its memory
//! that was opened before that was asked, or, by a supervisor that reaches no other user's
//! processes, by its number.
#![allow(unsafe_code)]

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::ffi::{CString, c_int};
use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::sync::OnceLock;
use std::thread;

use disk::Errno;
use engine::rights;
use libc::{c_long, iovec};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::process::{Pid, Resource, getrlimit};

use crate::launch::{StartError, Step};
use crate::notify::Listener;
use crate::policy::Policy;
use crate::user::{set_file_group, set_file_user};

/// A thread that waits for the answer to its call.
pub struct Target {
    listener: &'static Listener,
    id: u64,
    thread: i32,
    policy: Policy,
    memory: OnceCell<MemoryFile>,
}

/// What a thread's descriptor is open on.
pub enum Descriptor {
    /// A copy of it.
    Copy(OwnedFd),
    /// What it is open on, looked at: to open a device that is not listed could have an effect on it. The
    /// flags are those that the thread's descriptor had a moment before.
    Look { file: OwnedFd, flags: c_int },
}

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> c_int {
        match self {
            Descriptor::Copy(file) | Descriptor::Look { file, .. } => file.as_raw_fd(),
        }
    }
}

/// The memory of a thread's process, and what is mapped there.
struct MemoryFile {
    memory: File,
    maps: File,
    /// A part that the process may write: first address, and the one behind the last.
    writable: Cell<(u64, u64)>,
}

/// Returns of how many threads a thread of the supervisor keeps descriptors. They are a small part of those
/// that the supervisor can have.
fn most_kept() -> usize {
    static MOST: OnceLock<usize> = OnceLock::new();
    *MOST.get_or_init(|| {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        (limit / 64).min(128) as usize
    })
}

thread_local! {
    /// Descriptors of threads by their numbers (pidfd_open(2)), which hold none of their files open. One
    /// that pidfd_getfd(2) takes is of the thread that has the number now. Nothing of a thread's memory is
    /// kept: it has another one when it has executed a program.
    static THREADS: RefCell<HashMap<i32, OwnedFd>> = RefCell::default();
}

impl Target {
    /// Names the thread of a notification.
    pub fn new(listener: &'static Listener, id: u64, thread: i32, policy: Policy) -> Target {
        Target { listener, id, thread, policy, memory: OnceCell::new() }
    }

    /// Opens something of it in /proc. What is of a set-user-ID program is root's there, even when that has
    /// become another user.
    fn open<T>(&self, open: impl Fn() -> Result<T, Errno>) -> Result<T, Errno> {
        match (open(), self.policy.user) {
            (Err(Errno::EACCES), Some(user)) if [0, user.number()].contains(&self.effective_user()?) => {
                user.as_root(open)
            }
            (opened, _) => opened,
        }
    }

    /// Returns its effective user: the owner of its directory in /proc, whatever that of the files there.
    fn effective_user(&self) -> Result<u32, Errno> {
        let directory = fs::metadata(format!("/proc/{}", self.thread));
        directory.map(|directory| directory.uid()).map_err(|error| errno_of(&error))
    }

    /// Fails where the answer could not be written: a supervisor of one user's programs reaches those that
    /// run as that user or as root. `CALLER_GONE`: it has been killed.
    pub fn is_reachable(&self) -> Result<(), Errno> {
        if self.policy.user.is_some() { self.memory_file().map(drop) } else { Ok(()) }
    }

    /// Returns what is of the thread, provided that it still waits.
    pub fn checked<T>(&self, value: T) -> Result<T, Errno> {
        if self.listener.is_valid(self.id) { Ok(value) } else { Err(Errno::CALLER_GONE) }
    }

    /// Returns a copy of its descriptor, or what stands for it. `EBADF`: it has none of this number;
    /// `CALLER_GONE`: it has been killed; others: it cannot be told.
    pub fn descriptor(&self, fd: c_int) -> Result<Descriptor, Errno> {
        match self.copy_descriptor(fd) {
            Err(Errno::EMFILE) => {
                THREADS.with_borrow_mut(HashMap::clear);
                self.copy_descriptor(fd)
            }
            copied => copied,
        }
    }

    fn copy_descriptor(&self, fd: c_int) -> Result<Descriptor, Errno> {
        if self.thread == 0 {
            return Err(Errno::ESRCH);
        }
        let kept = THREADS.with_borrow_mut(|threads| {
            let copy = get_descriptor(threads.get(&self.thread)?, fd);
            if copy.as_ref().is_err_and(|errno| *errno == Errno::ESRCH) {
                threads.remove(&self.thread);
                return None;
            }
            Some(copy)
        });
        if let Some(copy) = kept {
            return Ok(Descriptor::Copy(copy?));
        }
        let found = match open_thread(self.thread) {
            Ok(thread) => get_descriptor(&thread, fd).map(|copy| (Descriptor::Copy(copy), Some(thread))),
            Err(Errno::EINVAL) => self.descriptor_by_process(fd).map(|found| (found, None)),
            Err(errno) => Err(errno),
        };
        let found = match found {
            // A container that allows neither call.
            Err(Errno::EPERM | Errno::ENOSYS) => self.look(fd).map(|found| (found, None)),
            found => found,
        };
        let (found, thread) = self.checked(found)??;
        if let Some(descriptor) = thread {
            THREADS.with_borrow_mut(|threads| {
                if threads.len() >= most_kept() {
                    threads.clear();
                }
                if most_kept() > 0 {
                    threads.insert(self.thread, descriptor);
                }
            });
        }
        Ok(found)
    }

    /// The same before Linux 6.9, where only the first thread of a process has a descriptor: what that
    /// has in its table is taken if it is what the thread has.
    fn descriptor_by_process(&self, fd: c_int) -> Result<Descriptor, Errno> {
        let process = pidfd_open(self.process()?, 0)?;
        match get_descriptor(&process, fd) {
            Ok(copy) if is_same_file(self.thread, fd, &copy) => Ok(Descriptor::Copy(copy)),
            _ => self.look(fd),
        }
    }

    fn look(&self, fd: c_int) -> Result<Descriptor, Errno> {
        let (file, flags) = self.open(|| look(self.thread, fd))?;
        Ok(Descriptor::Look { file, flags })
    }

    /// Returns a descriptor of a listed device with which it can be used as with the thread's. What has been
    /// looked at is opened with the thread's rights: between the looks at the file and at the flags,
    /// another thread can have exchanged the descriptor.
    pub fn usable(&self, descriptor: Descriptor) -> Result<OwnedFd, Errno> {
        let (file, flags) = match descriptor {
            Descriptor::Copy(file) => return Ok(file),
            Descriptor::Look { flags, .. } if flags & libc::O_PATH != 0 => return Err(Errno::EBADF),
            Descriptor::Look { file, flags } => (file, flags),
        };
        self.with_rights(|| open_again(&file, flags))
    }

    /// Calls `act` with the thread's rights to files, in a thread that is made for this.
    fn with_rights<T: Send>(&self, act: impl FnOnce() -> Result<T, Errno> + Send) -> Result<T, Errno> {
        let rights = self.rights()?;
        let act = || rights.take().and_then(|()| act());
        thread::scope(|scope| {
            let thread = thread::Builder::new().spawn_scoped(scope, act).map_err(|error| errno_of(&error))?;
            thread.join().unwrap_or(Err(Errno::EIO))
        })
    }

    /// Opens a file as the thread could open it: by its name there, with its rights. `look` finds what is to be
    /// known of it, before it is really opened: to open another one than that could have an effect on it.
    /// `ENXIO`: it is another one.
    ///
    /// What else restricts the thread (Landlock, a security module) does not restrict this process.
    pub fn open_as<T: Send>(
        &self,
        path: &[u8],
        writing: bool,
        look: impl FnOnce(c_int) -> Option<T> + Send,
    ) -> Result<(OwnedFd, T), Errno> {
        // Everybody has capabilities in a namespace of his own.
        if !self.is_in_own_user_namespace() {
            return Err(Errno::EPERM);
        }
        let root = self.open(|| {
            let root = File::options()
                .read(true)
                .custom_flags(libc::O_PATH)
                .open(format!("/proc/{}/root", self.thread));
            root.map_err(|error| errno_of(&error))
        });
        let root = self.checked(root)??;
        self.with_rights(|| {
            // Links too lead to what they lead to for the thread.
            let node = rustix::fs::openat2(
                &root,
                path,
                OFlags::PATH | OFlags::CLOEXEC,
                Mode::empty(),
                ResolveFlags::IN_ROOT,
            );
            let node = node.map_err(|errno| Errno(errno.raw_os_error()))?;
            let found = look(node.as_raw_fd()).ok_or(Errno::ENXIO)?;
            let file = open_again(&node, if writing { libc::O_RDWR } else { libc::O_RDONLY })?;
            Ok((file, found))
        })
    }

    /// Returns another one of the same thread.
    pub fn again(&self) -> Target {
        Target::new(self.listener, self.id, self.thread, self.policy)
    }

    /// Returns the number of the thread.
    pub fn thread(&self) -> i32 {
        self.thread
    }

    /// Returns the number of its process.
    pub fn process(&self) -> Result<i32, Errno> {
        self.status()?.number("Tgid:")
    }

    /// Returns the name of the thread (`PR_GET_NAME`), empty where it has been killed.
    pub fn thread_name(&self) -> [u8; 16] {
        let text = fs::read(format!("/proc/{}/comm", self.thread)).unwrap_or_default();
        let mut name = [0; 16];
        disk::bytes::copy(&mut name, 0, text.strip_suffix(b"\n").unwrap_or(&text));
        self.checked(name).unwrap_or_default()
    }

    fn status(&self) -> Result<ProcessStatus, Errno> {
        ProcessStatus::read(&format!("/proc/{}/status", self.thread))
    }

    /// Returns its file in /proc that reports the locks of a descriptor.
    pub fn lock_report(&self, fd: c_int) -> String {
        format!("/proc/{}/fdinfo/{fd}", self.thread)
    }

    /// Copies from its memory.
    pub fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), Errno> {
        let ours = iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        let theirs = iovec { iov_base: address as *mut _, iov_len: bytes.len() };
        // SAFETY: the kernel writes to our buffer alone.
        let read =
            unsafe { libc::process_vm_readv(self.thread, &raw const ours, 1, &raw const theirs, 1, 0) };
        let read = self.checked(result(read as c_long))?;
        match read {
            Ok(read) if read == bytes.len() => Ok(()),
            Ok(_) => Err(Errno::EFAULT),
            Err(Errno::ESRCH) => Err(Errno::CALLER_GONE),
            Err(errno) => Err(errno),
        }
    }

    /// Copies to several places of its memory, in this order.
    pub fn write(&self, parts: &[(u64, &[u8])]) -> Result<(), Errno> {
        if self.policy.reaches_others {
            let file = self.memory_file()?;
            return parts.iter().try_for_each(|(address, bytes)| file.write(*address, bytes));
        }
        self.checked(())?;
        for parts in parts.chunks(libc::UIO_MAXIOV as usize) {
            let part =
                |address: u64, bytes: &[u8]| iovec { iov_base: address as *mut _, iov_len: bytes.len() };
            let ours: Vec<iovec> = parts
                .iter()
                .map(|(_, bytes)| part(bytes.as_ptr().expose_provenance() as u64, bytes))
                .collect();
            let theirs: Vec<iovec> = parts.iter().map(|(address, bytes)| part(*address, bytes)).collect();
            let count = parts.len() as libc::c_ulong;
            // SAFETY: the kernel reads our buffers alone; the thread has asked for what is written to it.
            let written = unsafe {
                libc::process_vm_writev(self.thread, ours.as_ptr(), count, theirs.as_ptr(), count, 0)
            };
            let length: usize = parts.iter().map(|(_, bytes)| bytes.len()).sum();
            match result(written as c_long) {
                Ok(written) if written == length => {}
                Ok(_) => return Err(Errno::EFAULT),
                Err(Errno::ESRCH) => return Err(Errno::CALLER_GONE),
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    fn memory_file(&self) -> Result<&MemoryFile, Errno> {
        if let Some(file) = self.memory.get() {
            return Ok(file);
        }
        let open = || MemoryFile::open(self.thread).map_err(|error| errno_of(&error));
        let file = self.checked(self.open(open))??;
        Ok(self.memory.get_or_init(|| file))
    }

    /// Returns its effective capabilities, a bit each.
    pub fn capabilities(&self) -> u64 {
        let capabilities = capabilities(self.thread);
        self.checked(capabilities).unwrap_or(0)
    }

    /// Returns whether these are privileges over the machine.
    pub fn is_in_initial_user_namespace(&self) -> bool {
        let path = CString::new(format!("/proc/{}/ns/user", self.thread)).unwrap_or_default();
        let is_initial = rights::is_initial_user_namespace(&path).unwrap_or(false);
        self.checked(is_initial).unwrap_or(false)
    }

    /// Returns whether the supervisor is in the same user namespace, so that its capabilities are of the same kind.
    pub fn is_in_own_user_namespace(&self) -> bool {
        let inode = |task: &str| fs::metadata(format!("/proc/{task}/ns/user")).map(|status| status.ino());
        let theirs = inode(&self.thread.to_string());
        let is_own = matches!((theirs, inode("thread-self")), (Ok(theirs), Ok(own)) if theirs == own);
        self.checked(is_own).unwrap_or(false)
    }

    /// Returns the largest size that it may give a file, in bytes.
    pub fn file_size_limit(&self) -> u64 {
        let mut limit = libc::rlimit64 { rlim_cur: u64::MAX, rlim_max: u64::MAX };
        let nothing = std::ptr::null();
        // SAFETY: the kernel fills a `struct rlimit64`.
        let found = unsafe { libc::prlimit64(self.thread, libc::RLIMIT_FSIZE, nothing, &raw mut limit) };
        // To ask so for another user's, more than CAP_SYS_PTRACE is needed.
        if found == 0 { limit.rlim_cur } else { self.file_size_line().unwrap_or(u64::MAX) }
    }

    /// The same from the text (proc_pid_limits(5)).
    fn file_size_line(&self) -> Option<u64> {
        let text = fs::read_to_string(format!("/proc/{}/limits", self.thread)).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("Max file size"))?;
        // It is a word where there is no limit.
        line.split_whitespace().next()?.parse().ok()
    }

    /// Returns its user, groups and capabilities.
    fn rights(&self) -> Result<Rights, Errno> {
        let theirs = self.checked(self.status())??;
        let capabilities = if self.is_in_own_user_namespace() { self.capabilities() } else { 0 };
        Ok(Rights {
            user: theirs.file_id("Uid:")?,
            group: theirs.file_id("Gid:")?,
            groups: theirs.numbers("Groups:"),
            capabilities,
        })
    }

    /// Gives the calling task, which has been made for this, the thread's rights to files. `EPERM` where
    /// that cannot be.
    pub fn take_rights(&self) -> Result<(), Errno> {
        self.rights()?.take()
    }
}

/// What decides which files a thread may open.
struct Rights {
    user: u32,
    group: u32,
    groups: Vec<u32>,
    /// Those in the supervisor's user namespace, a bit each.
    capabilities: u64,
}

impl Rights {
    /// Gives them to the calling thread, which keeps none of its own.
    fn take(&self) -> Result<(), Errno> {
        const CAP_DAC_OVERRIDE: u64 = 1 << 1;
        let own = ProcessStatus::read("/proc/thread-self/status")?;
        let taken = [
            if own.file_id("Uid:")? == self.user { Ok(()) } else { set_file_user(self.user) },
            if own.file_id("Gid:")? == self.group { Ok(()) } else { set_file_group(self.group) },
            if own.numbers("Groups:") == self.groups { Ok(()) } else { set_groups(&self.groups) },
        ];
        // A caller to whom all files are open may open what this task may, whoever that is.
        if self.capabilities & CAP_DAC_OVERRIDE == 0 {
            taken.into_iter().collect::<Result<(), Errno>>()?;
        }
        restrict_capabilities(self.capabilities)
    }
}

/// Sets the groups of the calling thread. The system call, not the C library's function, which would
/// change those of all threads.
fn set_groups(groups: &[u32]) -> Result<(), Errno> {
    // SAFETY: the kernel reads as many groups as there are.
    result(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) }).map(drop)
}

impl MemoryFile {
    fn open(thread: i32) -> io::Result<MemoryFile> {
        let memory = File::options().write(true).open(format!("/proc/{thread}/mem"))?;
        let maps = File::open(format!("/proc/{thread}/maps"))?;
        Ok(MemoryFile { memory, maps, writable: Cell::new((0, 0)) })
    }

    fn write(&self, address: u64, bytes: &[u8]) -> Result<(), Errno> {
        // The file writes to memory that the process itself may not write.
        if !self.is_writable(address, bytes.len())? {
            return Err(Errno::EFAULT);
        }
        let mut done = 0;
        while done < bytes.len() {
            match self.memory.write_at(&bytes[done..], address.wrapping_add(done as u64)) {
                // The process has ended.
                Ok(0) => return Err(Errno::CALLER_GONE),
                Ok(written) => done += written,
                Err(error) => {
                    return Err(match errno_of(&error) {
                        Errno::EIO | Errno::EINVAL => Errno::EFAULT,
                        errno => errno,
                    });
                }
            }
        }
        Ok(())
    }

    /// Returns whether the process may write all of a part of its memory.
    fn is_writable(&self, address: u64, length: usize) -> Result<bool, Errno> {
        let Some(end) = address.checked_add(length as u64) else { return Ok(false) };
        let mut next = address;
        while next < end {
            let (start, behind) = self.writable.get();
            if !(start..behind).contains(&next) {
                let Some(found) = self.writable_mapping(next)? else { return Ok(false) };
                self.writable.set(found);
            }
            next = self.writable.get().1;
        }
        Ok(true)
    }

    /// Returns the mapping that holds an address, if the process may write it.
    fn writable_mapping(&self, address: u64) -> Result<Option<(u64, u64)>, Errno> {
        const WRITABLE: u64 = 2;
        match query(&self.maps, address, WRITABLE) {
            Ok(mapping) => Ok(Some(mapping)),
            Err(Errno::ENOENT) => Ok(None),
            // Linux before 6.11.
            Err(Errno::ENOTTY) => self.writable_line(address),
            Err(Errno::ESRCH) => Err(Errno::CALLER_GONE),
            Err(errno) => Err(errno),
        }
    }

    /// The same from the text (proc_pid_maps(5)).
    fn writable_line(&self, address: u64) -> Result<Option<(u64, u64)>, Errno> {
        let mut maps = &self.maps;
        let mut text = String::new();
        let read = maps.rewind().and_then(|()| maps.read_to_string(&mut text));
        read.map_err(|error| errno_of(&error))?;
        let mapping = |line: &str| {
            let (range, rest) = line.split_once(' ')?;
            let (start, end) = range.split_once('-')?;
            let [start, end] = [start, end].map(|number| u64::from_str_radix(number, 16));
            let (start, end) = (start.ok()?, end.ok()?);
            (rest.as_bytes().get(1) == Some(&b'w') && (start..end).contains(&address)).then_some((start, end))
        };
        Ok(text.lines().find_map(mapping))
    }
}

/// Returns the mapping that holds an address and has these flags (Linux 6.11).
fn query(maps: &File, address: u64, flags: u64) -> Result<(u64, u64), Errno> {
    /// `struct procmap_query` (include/uapi/linux/fs.h): its first five fields.
    #[repr(C)]
    #[derive(Default)]
    struct Query {
        size: u64,
        flags: u64,
        address: u64,
        start: u64,
        end: u64,
        rest: [u64; 8],
    }
    const _: () = assert!(size_of::<Query>() == 104);
    const PROCMAP_QUERY: libc::c_ulong = 0xc068_6611;
    let mut query = Query { size: size_of::<Query>() as u64, flags, address, ..Query::default() };
    // SAFETY: the kernel fills its structure.
    let found = unsafe { libc::ioctl(maps.as_raw_fd(), PROCMAP_QUERY, &raw mut query) };
    result(found.into()).map(|_| (query.start, query.end))
}

/// The text of a file `status` of /proc/PID.
pub struct ProcessStatus(String);

impl ProcessStatus {
    /// Reads it.
    pub fn read(path: &str) -> Result<ProcessStatus, Errno> {
        fs::read_to_string(path).map(ProcessStatus).map_err(|error| errno_of(&error))
    }

    /// Returns the numbers in a line; none if there is no such line.
    fn numbers(&self, name: &str) -> Vec<u32> {
        let line = self.0.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.split_whitespace().filter_map(|word| word.parse().ok()).collect()
    }

    /// Returns the user or group that decides about files, the fourth on its line: proc(5).
    fn file_id(&self, name: &str) -> Result<u32, Errno> {
        self.numbers(name).last().copied().ok_or(Errno::EPERM)
    }

    /// Returns the first number in a line.
    pub fn number(&self, name: &str) -> Result<i32, Errno> {
        self.numbers(name).first().and_then(|number| i32::try_from(*number).ok()).ok_or(Errno::ESRCH)
    }
}

/// Fails where /proc does not show processes by the numbers that they have for the calling process: it is not
/// mounted, or that of another PID namespace is (pid_namespaces(7)).
pub fn find_itself() -> Result<(), StartError> {
    let found = ProcessStatus::read("/proc/self/status").map(|status| status.numbers("NSpid:").len());
    let (step, errno) = match found {
        // One for each PID namespace from that of /proc to that of the process.
        Ok(0 | 1) => return Ok(()),
        Ok(_) | Err(Errno::ENOENT) => (Step::Proc, Errno::ENOENT),
        Err(errno) => (Step::Prepare, errno),
    };
    Err((step, io::Error::from_raw_os_error(errno.0)))
}

/// `struct __user_cap_header_struct`, and two of `struct __user_cap_data_struct`: effective,
/// permitted and inheritable (capget(2)).
type CapabilityHeader = [u32; 2];
type CapabilityData = [[u32; 3]; 2];

fn capability_header(thread: i32) -> CapabilityHeader {
    [0x2008_0522, thread as u32]
}

fn capability_data(thread: i32) -> Option<CapabilityData> {
    let (mut header, mut data) = (capability_header(thread), CapabilityData::default());
    // SAFETY: both have the size of the kernel's structures.
    let got = unsafe { libc::syscall(libc::SYS_capget, header.as_mut_ptr(), data.as_mut_ptr()) };
    (got == 0).then_some(data)
}

fn capabilities(thread: i32) -> u64 {
    capability_data(thread).map_or(0, |[low, high]| u64::from(low[0]) | u64::from(high[0]) << 32)
}

/// Takes from the calling task the effective capabilities that are not among these.
fn restrict_capabilities(to: u64) -> Result<(), Errno> {
    let mut data = capability_data(0).ok_or(Errno::EPERM)?;
    let [low, high] = &mut data;
    let before = (low[0], high[0]);
    low[0] &= to as u32;
    high[0] &= (to >> 32) as u32;
    if (low[0], high[0]) == before {
        return Ok(());
    }
    let mut header = capability_header(0);
    // SAFETY: both have the size of the kernel's structures.
    result(unsafe { libc::syscall(libc::SYS_capset, header.as_mut_ptr(), data.as_ptr()) }).map(drop)
}

/// Returns the process group of a thread; none where it is of another PID namespace and has no number in this
/// one.
pub fn group_of(thread: i32) -> Result<Option<Pid>, Errno> {
    // SAFETY: the call takes a number.
    let group = result(unsafe { libc::getpgid(thread) }.into())?;
    Ok(Pid::from_raw(group as i32))
}

/// Returns the result of a system call.
pub fn result(value: c_long) -> Result<usize, Errno> {
    usize::try_from(value).map_err(|_| errno_of(&io::Error::last_os_error()))
}

fn errno_of(error: &io::Error) -> Errno {
    Errno(error.raw_os_error().unwrap_or(Errno::EIO.0))
}

/// Takes over the descriptor that a system call returned.
fn owned(value: c_long) -> Result<OwnedFd, Errno> {
    let fd = c_int::try_from(result(value)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just made it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn open_thread(thread: i32) -> Result<OwnedFd, Errno> {
    pidfd_open(thread, libc::PIDFD_THREAD)
}

fn pidfd_open(number: i32, flags: u32) -> Result<OwnedFd, Errno> {
    // SAFETY: the call takes numbers.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_open, number, flags) })
}

fn get_descriptor(pidfd: &OwnedFd, fd: c_int) -> Result<OwnedFd, Errno> {
    // SAFETY: the call takes numbers.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), fd, 0) })
}

/// Returns whether a thread's descriptor and one of this process are of one open file description.
fn is_same_file(thread: i32, fd: c_int, ours: &OwnedFd) -> bool {
    const KCMP_FILE: c_int = 0;
    // SAFETY: the call takes numbers.
    let order =
        unsafe { libc::syscall(libc::SYS_kcmp, thread, libc::getpid(), KCMP_FILE, fd, ours.as_raw_fd()) };
    order == 0
}

/// Looks at what a thread's descriptor is open on without opening that; the flags are those that it is
/// open with.
fn look(thread: i32, fd: c_int) -> Result<(OwnedFd, c_int), Errno> {
    let missing = |error: io::Error| match errno_of(&error) {
        Errno::ENOENT if fs::exists(format!("/proc/{thread}/fd")).unwrap_or(false) => Errno::EBADF,
        Errno::ENOENT => Errno::ESRCH,
        errno => errno,
    };
    let info = fs::read_to_string(format!("/proc/{thread}/fdinfo/{fd}")).map_err(missing)?;
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| c_int::from_str_radix(flags.trim(), 8).ok()).ok_or(Errno::EIO)?;
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_PATH)
        .open(format!("/proc/{thread}/fd/{fd}"))
        .map_err(|error| errno_of(&error))?;
    Ok((file.into(), flags))
}

/// Opens what has been looked at, as it is open with these flags.
fn open_again(file: &OwnedFd, flags: c_int) -> Result<OwnedFd, Errno> {
    let mode = flags & libc::O_ACCMODE;
    let file = File::options()
        .read(mode != libc::O_WRONLY)
        .write(mode != libc::O_RDONLY)
        .custom_flags(flags & (libc::O_DIRECT | libc::O_APPEND) | libc::O_NONBLOCK)
        .open(format!("/proc/thread-self/fd/{}", file.as_raw_fd()));
    file.map(OwnedFd::from).map_err(|error| errno_of(&error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    fn this_thread() -> i32 {
        rustix::thread::gettid().as_raw_nonzero().get()
    }

    #[test]
    fn a_descriptor_of_this_thread() {
        let file = File::open("/proc/self/status").expect("it is a file");
        let fd = file.as_raw_fd();
        let thread = open_thread(this_thread()).or_else(|_| pidfd_open(this_thread(), 0)).expect("it exists");
        let copy = get_descriptor(&thread, fd).expect("it is open");
        assert!(is_same_file(this_thread(), fd, &copy));
        let other = File::open("/proc/self/status").expect("it is a file").into();
        assert!(!is_same_file(this_thread(), fd, &other));
        assert_eq!(get_descriptor(&thread, 1 << 20).err(), Some(Errno::EBADF));
    }

    #[test]
    fn a_descriptor_opened_again() {
        let flags =
            |file: &OwnedFd| rustix::fs::fcntl_getfl(file.as_fd()).expect("it is open").bits() as c_int;
        let name = std::env::current_exe().expect("/proc names it");
        for wanted in [0, libc::O_PATH, libc::O_DIRECT | libc::O_APPEND] {
            let file: OwnedFd =
                File::options().read(true).custom_flags(wanted).open(&name).expect("it is a file").into();
            let (again, found) = look(this_thread(), file.as_raw_fd()).expect("it is open");
            assert_eq!(flags(&again) & libc::O_PATH, libc::O_PATH);
            assert_eq!(found & (libc::O_PATH | libc::O_DIRECT | libc::O_APPEND), wanted);
            if wanted & libc::O_PATH == 0 {
                let again = open_again(&again, found).expect("it may be opened");
                assert_eq!(flags(&again) & wanted, wanted);
                assert!(!is_same_file(this_thread(), file.as_raw_fd(), &again));
            }
        }
        assert_eq!(look(this_thread(), 1 << 20).err(), Some(Errno::EBADF));
        assert_eq!(look(i32::MAX, 0).err(), Some(Errno::ESRCH));
    }

    #[test]
    fn memory_that_may_be_written() {
        let file = MemoryFile::open(this_thread()).expect("it is our own");
        let (written, constant) = (Box::new(7u8), &raw const *b"constant");
        for find in [MemoryFile::writable_mapping, MemoryFile::writable_line] {
            let (start, end) =
                find(&file, (&raw const *written).addr() as u64).expect("it exists").expect("it can");
            assert!((start..end).contains(&((&raw const *written).addr() as u64)));
            assert_eq!(find(&file, constant.addr() as u64), Ok(None));
            assert_eq!(find(&file, 8), Ok(None));
        }
        assert_eq!(file.write((&raw const *written).addr() as u64, &[8]), Ok(()));
        assert_eq!(file.write(constant.addr() as u64, &[8]), Err(Errno::EFAULT));
        assert_eq!(file.write(u64::MAX - 1, &[8; 4]), Err(Errno::EFAULT));
        assert_eq!(std::hint::black_box(*written), 8);
    }

    #[test]
    fn numbers_of_a_status() {
        let status = ProcessStatus("Name:\tx\nTgid:\t71\nUid:\t1\t2\t3\t4\nGroups:\t \nCapEff:\t0\n".into());
        assert_eq!(status.number("Tgid:"), Ok(71));
        assert_eq!(status.numbers("Uid:"), [1, 2, 3, 4]);
        assert_eq!(status.numbers("Groups:"), []);
    }
}
