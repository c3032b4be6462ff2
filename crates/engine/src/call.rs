//! One call on a listed device, the core's `Caller`.

use core::cell::Cell;
use core::ffi::c_int;

use disk::{Abi, Caller, Capability, Device, Errno, Medium, Nexuses, Peers, Shared};

use crate::discard::DiscardLimits;
use crate::exclusion::Exclusion;
use crate::sys::{self, PathBuffer, Status};

/// The process that called ioctl(2), and the I_T nexuses that its engine knows.
pub trait Process: Nexuses {
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

    /// Gives the calling task, which was made for this, the process's rights to files; returns
    /// whether it opens the device for more than the descriptor is open for.
    fn take_rights(&self, _for_more: bool) -> Result<(), Errno> {
        Ok(())
    }

    /// Announces that the next system call may wait for the device.
    fn before_waiting(&self) {}

    /// Opens another listed device: see [`Peers::with_peer`].
    fn with_peer<R>(
        &self,
        _designator: u64,
        _writing: bool,
        _act: impl FnOnce(&Device<'_>, &Call<Self>) -> R,
    ) -> Result<R, Errno>
    where
        Self: Sized,
    {
        Err(Errno::ENXIO)
    }
}

/// One call on a listed device.
pub struct Call<P> {
    pub(crate) process: P,
    pub(crate) fd: c_int,
    pub(crate) medium: Medium,
    /// The status of the file when the call began, or what is assumed of it.
    pub(crate) status: Status,
    pub(crate) discard_limits: DiscardLimits,
    pub(crate) exclusion: &'static Exclusion,
    /// Its status flags (`F_GETFL`); -1 if not read yet.
    flags: Cell<c_int>,
    /// When the assumed inode was made (0: not known); `None` if the file was checked first.
    assumed: Option<u64>,
}

impl<P> Call<P> {
    /// Begins a call on a descriptor that is open on a listed block device or file.
    #[inline]
    pub fn new(
        process: P,
        fd: c_int,
        status: Status,
        discard_limits: DiscardLimits,
        exclusion: &'static Exclusion,
    ) -> Call<P> {
        let medium =
            if status.file_type() == libc::S_IFBLK { Medium::BlockDevice } else { Medium::ImageFile };
        let flags = Cell::new(-1);
        Call { process, fd, medium, status, discard_limits, exclusion, flags, assumed: None }
    }

    /// Makes it a call on a descriptor that is only assumed to be open on a listed device. The
    /// status needs only the number of a block device, or the inode (made at `birth`) and the size
    /// of a file. Of the functions that transfer or change data, only `read_directly` and
    /// `write_directly` of [`Backing`](disk::Backing) may be used: they check the file.
    #[inline]
    pub fn assuming(self, birth: u64) -> Call<P> {
        Call { assumed: Some(birth), ..self }
    }

    /// Returns the status flags of the descriptor; `EBADF` for `O_PATH`.
    pub fn flags(&self) -> Result<c_int, Errno> {
        if self.flags.get() == -1 {
            self.flags.set(sys::flags(self.fd)?);
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

    /// Returns the process.
    pub fn process(&self) -> &P {
        &self.process
    }

    /// Returns the descriptor.
    pub fn fd(&self) -> c_int {
        self.fd
    }
}

impl<P: Process> Call<P> {
    /// Returns the descriptor, for one system call that transfers or changes data. `ENODEV` if
    /// another thread has closed it, or opened another file there, since the call began.
    pub(crate) fn checked_fd(&self) -> Result<c_int, Errno> {
        if !P::IS_OWN {
            // The engine's own copy of the caller's descriptor.
            return Ok(self.fd);
        }
        if self.is_as_before() { Ok(self.fd) } else { Err(Errno::ENODEV) }
    }

    /// Checks the file, and returns whether it is the one with the status of the call.
    #[inline]
    fn is_as_before(&self) -> bool {
        let before = &self.status;
        match (self.assumed, self.medium) {
            (None, _) => sys::fstat(self.fd).is_ok_and(|now| now.is_same_file(before)),
            (Some(_), Medium::BlockDevice) => sys::fstat(self.fd)
                .is_ok_and(|now| now.number == before.number && now.file_type() == libc::S_IFBLK),
            (Some(birth), Medium::ImageFile) => {
                sys::fstat_with_birth(self.fd).is_ok_and(|(now, its_birth)| {
                    // Where the birth time is not known any more, it is not compared.
                    let is_as_old = its_birth == 0 || its_birth == birth;
                    now.is_same_file(before) && now.size == before.size && is_as_old
                })
            }
        }
    }

    /// Returns the size of an image file in bytes; `EBADF` for `O_PATH`.
    pub(crate) fn file_size(&self) -> Result<u64, Errno> {
        // The transfer itself fails with `O_PATH`.
        if self.assumed.is_none() {
            self.flags()?;
        }
        Ok(self.status.size)
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
        let has = self.process.capabilities() >> (capability as u32) & 1 != 0;
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

impl<P: Process> Nexuses for Call<P> {
    fn are_known(&self) -> bool {
        self.process.are_known()
    }

    fn look<R>(&self, look: impl FnOnce(&Shared) -> R) -> Result<R, Errno> {
        self.process.look(look)
    }

    fn change<R>(&self, change: impl FnOnce(&mut Shared) -> R) -> Result<R, Errno> {
        self.process.change(change)
    }

    fn wait_for_others(&self, timeout_ms: u32) -> Result<(), Errno> {
        self.process.wait_for_others(timeout_ms)
    }
}

impl<P: Process> Peers for Call<P> {
    fn with_peer<R>(
        &self,
        designator: u64,
        writing: bool,
        act: impl FnOnce(&Device<'_>, &Call<P>) -> R,
    ) -> Result<R, Errno> {
        self.process.with_peer(designator, writing, act)
    }
}
