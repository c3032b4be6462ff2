//! One call on a listed device, the core's `Caller`.

use core::cell::Cell;
use core::ffi::c_int;

use disk::request::{BLKGETSIZE64, BLKROGET};
use disk::{Abi, Caller, Capability, Errno, Medium};

use crate::discard::DiscardLimits;
use crate::exclusion::Exclusion;
use crate::sys::{self, PathBuffer, Status};

/// The process that called ioctl(2).
pub trait Process {
    /// Memory of the engine that data passes through between the device and the process.
    type BounceBuffer: AsMut<[u8]>;

    /// Whether it is the calling process, so that the kernel can move data between a device and its
    /// addresses.
    const IS_OWN: bool;

    /// Returns memory of at least this many bytes: see [`Backing::bounce_buffer`](disk::Backing::bounce_buffer).
    fn bounce_buffer(&self, length: usize) -> Result<Self::BounceBuffer, Errno>;

    /// Returns how it lays out structures.
    fn abi(&self) -> Abi {
        Abi::Native
    }

    /// Copies from its memory: see [`Caller::copy_in`].
    fn copy_in(&self, address: u64, bytes: &mut [u8]) -> Result<(), Errno>;

    /// Copies to its memory: see [`Caller::copy_out`].
    fn copy_out(&self, address: u64, bytes: &[u8]) -> Result<(), Errno>;

    /// Prepares for several copies: see [`Caller::prepare`].
    fn prepare(&self, address: u64, length: usize);

    /// Returns the effective capabilities of the calling thread, a bit each.
    fn capabilities(&self) -> u64;

    /// Returns whether these are privileges in the initial user namespace.
    fn is_in_initial_user_namespace(&self) -> bool;

    /// Returns the largest size that it may give a file, in bytes.
    fn file_size_limit(&self) -> u64;

    /// Returns its number, as the kernel reports the holder of a lock.
    fn number(&self) -> c_int;

    /// Returns the file of /proc that reports its locks on what this descriptor of the engine's is
    /// open on.
    fn lock_report(&self, fd: c_int) -> Result<PathBuffer, Errno>;

    /// Gives the calling task, which has been made for this, the rights to files of the process; says
    /// whether it opens the device for more than the descriptor is open for.
    fn take_rights(&self, _for_more: bool) -> Result<(), Errno> {
        Ok(())
    }

    /// Announces that the next system call may wait for the device. No system call of the calling
    /// process.
    fn before_waiting(&self) {}

    /// Returns whether a copy may have made a system call since the status was read.
    fn has_called(&self) -> bool {
        true
    }
}

/// What a command needs to know of its device, asked before the file is looked at: nothing is left
/// to ask between the look and the system call that moves data, so that the look is that call's.
#[derive(Clone, Copy)]
pub struct Early {
    /// The size of a block device in bytes; 0: not asked.
    bytes: u64,
    /// 0: not asked.
    file_size_limit: u64,
    /// The status flags; -1: not asked.
    flags: c_int,
    is_read_only: Option<bool>,
    /// Whether the descriptor is not one of `O_PATH`; else nothing was asked.
    is_open: bool,
}

impl Early {
    /// Nothing was asked.
    pub const NOTHING: Early =
        Early { bytes: 0, file_size_limit: 0, flags: -1, is_read_only: None, is_open: false };

    /// Asks what READ or, with `writes`, WRITE needs to know, through a descriptor that was open on a
    /// device of this kind the last time.
    pub fn ask(process: &impl Process, fd: c_int, medium: Medium, writes: bool) -> Early {
        let mut early = Early { is_open: true, ..Early::NOTHING };
        if medium == Medium::BlockDevice {
            early.bytes = sys::query(fd, BLKGETSIZE64).map_or(0, u64::from_ne_bytes);
        }
        if writes {
            early.flags = sys::flags(fd).unwrap_or(-1);
            early.is_read_only = read_only(fd, medium).ok();
            if medium == Medium::ImageFile {
                early.file_size_limit = process.file_size_limit();
            }
        }
        early
    }
}

fn read_only(fd: c_int, medium: Medium) -> Result<bool, Errno> {
    match medium {
        Medium::BlockDevice => Ok(u32::from_ne_bytes(sys::query(fd, BLKROGET)?) != 0),
        Medium::ImageFile => sys::is_mounted_read_only(fd),
    }
}

/// One call on a listed device.
pub struct Call<P> {
    process: P,
    fd: c_int,
    pub(crate) medium: Medium,
    /// The status of its file when the call began.
    pub(crate) status: Status,
    pub(crate) discard_limits: DiscardLimits,
    pub(crate) exclusion: &'static Exclusion,
    /// Its status flags (`F_GETFL`); -1 if not read yet.
    flags: Cell<c_int>,
    early: Early,
    /// Whether no system call has been made since the status was read.
    is_fresh: Cell<bool>,
}

impl<P> Call<P> {
    /// Begins a call on a descriptor that is open on a listed block device or file. `early`: what was
    /// asked before the status was read; the calling thread has made no system call since.
    #[inline]
    pub fn new(
        process: P,
        fd: c_int,
        status: Status,
        discard_limits: DiscardLimits,
        exclusion: &'static Exclusion,
        early: Early,
    ) -> Call<P> {
        let medium = medium(&status);
        let (is_fresh, flags) = (Cell::new(early.is_open), Cell::new(early.flags));
        Call { process, fd, medium, status, discard_limits, exclusion, flags, early, is_fresh }
    }

    /// Returns the status flags of the descriptor; `EBADF` for `O_PATH`.
    pub fn flags(&self) -> Result<c_int, Errno> {
        if self.flags.get() == -1 {
            self.flags.set(sys::flags(self.fd())?);
        }
        Some(self.flags.get()).filter(|flags| flags & libc::O_PATH == 0).ok_or(Errno::EBADF)
    }

    pub(crate) fn has_flag(&self, flag: c_int) -> bool {
        self.flags().is_ok_and(|flags| flags & flag != 0)
    }

    /// Returns whether the descriptor is open on a block device.
    pub fn is_block_device(&self) -> bool {
        self.medium == Medium::BlockDevice
    }

    /// Has the next [`Call::checked_fd`] look at the file: a system call comes before, or what comes
    /// is not READ or WRITE, which ask so little.
    #[inline]
    pub fn look_again(&self) {
        self.is_fresh.set(false);
    }

    /// Returns the process, for system calls.
    #[inline]
    pub fn process(&self) -> &P {
        self.look_again();
        &self.process
    }

    /// Returns the descriptor, for system calls that neither transfer nor change data.
    #[inline]
    pub fn fd(&self) -> c_int {
        self.look_again();
        self.fd
    }
}

/// Returns the kind of device that has a status.
#[inline]
pub fn medium(status: &Status) -> Medium {
    if status.file_type() == libc::S_IFBLK { Medium::BlockDevice } else { Medium::ImageFile }
}

impl<P: Process> Call<P> {
    /// Returns the descriptor, for one system call that transfers or changes data, after a look at the
    /// file. `ENODEV` if another thread has closed it, or opened another file there, since the call
    /// began.
    pub(crate) fn checked_fd(&self) -> Result<c_int, Errno> {
        if !P::IS_OWN {
            // The engine's own copy of the caller's descriptor.
            return Ok(self.fd);
        }
        if self.is_fresh.replace(false) && !self.process.has_called() {
            return Ok(self.fd);
        }
        match sys::fstat(self.fd) {
            Ok(now) if now.is_same_file(&self.status) => Ok(self.fd),
            _ => Err(Errno::ENODEV),
        }
    }

    pub(crate) fn size(&self) -> Result<u64, Errno> {
        match (self.medium, self.early.bytes) {
            (Medium::BlockDevice, bytes @ 1..) => Ok(bytes),
            (Medium::BlockDevice, 0) => sys::query(self.fd(), BLKGETSIZE64).map(u64::from_ne_bytes),
            // The transfer fails with `O_PATH`.
            (Medium::ImageFile, _) if self.is_fresh.get() => Ok(self.status.size),
            (Medium::ImageFile, _) => self.flags().map(|_| self.status.size),
        }
    }

    pub(crate) fn read_only(&self) -> Result<bool, Errno> {
        self.early.is_read_only.map_or_else(|| read_only(self.fd(), self.medium), Ok)
    }

    pub(crate) fn file_size_limit(&self) -> u64 {
        match self.early.file_size_limit {
            0 => self.process().file_size_limit(),
            limit => limit,
        }
    }

    /// Announces that the next system call may wait for the device.
    pub(crate) fn before_waiting(&self) {
        self.process.before_waiting();
    }
}

impl<P: Process> Caller for Call<P> {
    fn copy_in(&self, address: u64, bytes: &mut [u8]) -> Result<(), Errno> {
        self.process.copy_in(address, bytes)
    }

    fn copy_out(&self, address: u64, bytes: &[u8]) -> Result<(), Errno> {
        self.process.copy_out(address, bytes)
    }

    fn abi(&self) -> Abi {
        self.process.abi()
    }

    fn prepare(&self, address: u64, length: usize) {
        self.process.prepare(address, length);
    }

    fn capable(&self, capability: Capability) -> bool {
        let has = self.process().capabilities() >> (capability as u32) & 1 != 0;
        // The drivers of block devices require the initial user namespace (capable()).
        has && (self.medium == Medium::ImageFile || self.process.is_in_initial_user_namespace())
    }

    fn writable(&self) -> bool {
        let mode = self.flags().map(|flags| flags & libc::O_ACCMODE);
        matches!(mode, Ok(libc::O_WRONLY | libc::O_RDWR))
    }

    fn milliseconds(&self) -> u64 {
        sys::milliseconds()
    }
}
