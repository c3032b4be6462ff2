//! An engine whose caller and backing device are in memory.

use std::cell::{Cell, RefCell};
use std::ops::Range;

use disk::entry::Entry;
use disk::host::{Extent, Provisioning, Segment, UpdateError};
use disk::{
    Abi, Answer, Backing, Caller, Capability, Device, Errno, Medium, Nexus, Nexuses, Peers, Settings, Shared,
    identity,
};

use crate::sg_io::Disk;

/// The address of the caller's first buffer, of [`MEMORY`] bytes. The second one begins at [`FAR`]; every other address is bad.
pub const BASE: u64 = 0x1000;

/// The length of the caller's first buffer.
pub const MEMORY: usize = 4096;

/// The address of the caller's second buffer, which grows with what is put there.
pub const FAR: u64 = 0x10_0000;

/// The byte that fills the caller's memory at first.
pub const POISON: u8 = 0xee;

/// The errors that calls on a backing device are made to fail with.
pub const ERRNOS: [Errno; 12] = [
    Errno::EIO,
    Errno::ENOSPC,
    Errno::EDQUOT,
    Errno::EROFS,
    Errno::EPERM,
    Errno::EACCES,
    Errno::ENOMEM,
    Errno::ENODEV,
    Errno::ENXIO,
    Errno::EINVAL,
    Errno::EFBIG,
    Errno::EBADF,
];

/// A call on the backing device that can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// The properties of the backing device, such as [`Backing::bytes`]
    Limit,
    /// [`Backing::read_at`] and [`Backing::read`]
    Read,
    /// [`Backing::write_at`], [`Backing::write`] and [`Backing::write_atomic`]
    Write,
    /// [`Backing::sync`]
    Sync,
    /// [`Backing::provisioning`]
    Provisioning,
    /// [`Backing::extent`]
    Extent,
    /// [`Backing::bounce_buffer`]
    BounceBuffer,
    /// What excludes others in [`Backing::update`]
    Lock,
    /// [`Backing::discard`]
    Discard,
    /// [`Backing::zero`]
    Zero,
}

/// A fault of the backing device: a call that fails every time.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// The call that fails.
    pub call: Call,
    /// The error that it fails with.
    pub errno: Errno,
    /// The byte of the device at which it fails; everywhere if there is none.
    pub at: Option<u64>,
}

impl Fault {
    /// A fault everywhere on the device.
    pub fn new(call: Call, errno: Errno) -> Fault {
        Fault { call, errno, at: None }
    }

    /// Returns the fault that a byte of a fuzzer's input selects: bit 7 whether there is one; the call in bits 0 to 2, its error in
    /// bits 3 to 5; and in bit 6 whether it fails at one byte of the device alone.
    pub fn of_byte(byte: u8, calls: [Call; 8], errnos: [Errno; 8]) -> Option<Fault> {
        let [call, errno, far] = [byte & 7, byte >> 3 & 7, byte >> 6 & 1].map(usize::from);
        let at = (far != 0).then_some(512 * 20);
        (byte & 0x80 != 0).then(|| Fault { call: calls[call], errno: errnos[errno], at })
    }
}

/// An engine in memory.
pub struct MemoryHost {
    /// The caller's memory from [`BASE`] on.
    pub memory: RefCell<[u8; MEMORY]>,
    /// The caller's memory from [`FAR`] on; empty at first.
    pub far: RefCell<Vec<u8>>,
    /// How the caller lays out structures.
    pub abi: Abi,
    /// Whether the backing device is a block device or a regular file.
    pub medium: Medium,
    /// The size of the backing device.
    pub bytes: u64,
    /// What tells the backing device from others.
    pub identity: u64,
    /// The bytes of a logical block.
    pub logical: u32,
    /// The bytes of a physical block.
    pub physical: u32,
    /// Whether the descriptor is open for writing.
    pub writable: bool,
    /// Whether the caller has every privilege.
    pub root: bool,
    /// The one privilege that the caller lacks although it is root.
    pub lacks: Option<Capability>,
    /// Whether the backing device is write-protected.
    pub read_only: bool,
    /// The last change of the backing device: what, first byte, length.
    pub changed: Cell<Option<(&'static str, u64, u64)>>,
    /// What the backing device holds, which can be less than `bytes`.
    pub content: RefCell<Vec<u8>>,
    /// Whether transfers behind the content succeed: writes are lost, reads leave the buffer as it is.
    pub sparse: bool,
    /// Whether space can be given back.
    pub thin: bool,
    /// The least and the most bytes of an atomic write.
    pub atomic: Option<(u32, u32)>,
    /// Whether the backing device takes aligned addresses of the caller's alone, as with `O_DIRECT`.
    pub picky: bool,
    /// The error that the next call on the backing device fails with.
    pub failure: Cell<Option<Errno>>,
    /// The fault that holds until it is taken away.
    pub fault: Cell<Option<Fault>>,
    /// The parts of the backing device that have no space, in bytes and in their order.
    pub holes: Vec<Range<u64>>,
    /// The address of a structure that the caller fills with zeros when it has been read.
    pub erased: Cell<Option<u64>>,
    /// How often the backing device's cache was written to its medium.
    pub synced: Cell<u32>,
    /// How many copies succeed before the caller is gone; none if it stays.
    pub copies_left: Cell<Option<u32>>,
    /// How many copies were tried when the caller was gone.
    pub copies_too_late: Cell<u32>,
    /// What the I_T nexuses share; none if the engine does not know them.
    pub shared: Option<RefCell<Shared>>,
    /// What happens before each change of what they share.
    pub before_change_of_shared: Option<BeforeChange>,
    /// Whether what they share cannot be reached.
    pub is_shared_lost: Cell<bool>,
    /// How often a command waited for those that others had begun.
    pub waits: Cell<u32>,
    /// The other listed devices.
    pub peers: Vec<Disk>,
    /// Whether other devices have opened this one for writing too, each time that they have opened it.
    pub opened: RefCell<Vec<bool>>,
    /// The error that they fail to open it for writing with.
    pub not_writable: Option<Errno>,
    /// The error that waiting for them ends with.
    pub wait_fails: Cell<Option<Errno>>,
    /// What happens after each change of the backing device.
    pub after_change: Option<AfterChange>,
}

/// What happens before a change of what the I_T nexuses share.
pub type BeforeChange = Box<dyn Fn(&mut Shared)>;

/// What happens after a change of the backing device.
pub type AfterChange = Box<dyn Fn(&MemoryHost)>;

impl MemoryHost {
    /// A backing device of this size that holds nothing, and a caller that may do anything.
    pub fn new(medium: Medium, bytes: u64) -> MemoryHost {
        MemoryHost {
            memory: RefCell::new([POISON; MEMORY]),
            far: RefCell::new(Vec::new()),
            abi: Abi::Native,
            medium,
            bytes,
            identity: 1,
            logical: 512,
            physical: 512,
            writable: true,
            root: true,
            lacks: None,
            read_only: false,
            changed: Cell::new(None),
            content: RefCell::new(Vec::new()),
            sparse: false,
            thin: true,
            atomic: Some((1024, 8192)),
            picky: false,
            failure: Cell::new(None),
            fault: Cell::new(None),
            holes: Vec::new(),
            erased: Cell::new(None),
            synced: Cell::new(0),
            copies_left: Cell::new(None),
            copies_too_late: Cell::new(0),
            shared: None,
            before_change_of_shared: None,
            is_shared_lost: Cell::new(false),
            waits: Cell::new(0),
            peers: Vec::new(),
            opened: RefCell::default(),
            not_writable: None,
            wait_fails: Cell::new(None),
            after_change: None,
        }
    }

    /// An image file with this content.
    pub fn with_content(content: Vec<u8>) -> MemoryHost {
        let bytes = content.len() as u64;
        MemoryHost { content: RefCell::new(content), ..MemoryHost::new(Medium::ImageFile, bytes) }
    }

    /// Returns a property of the backing device, unless that is made to fail.
    fn limit<T>(&self, value: T) -> Result<T, Errno> {
        match self.fault.get() {
            Some(Fault { call: Call::Limit, errno, .. }) => Err(errno),
            _ => Ok(value),
        }
    }

    /// Returns how many of these bytes of the device a call transfers before it fails, or the error if there are none.
    fn fails(&self, call: Call, offset: u64, length: u64) -> Result<u64, Errno> {
        if let Some(errno) = self.failure.take() {
            return Err(errno);
        }
        match self.fault.get() {
            Some(Fault { call: failing, errno, at }) if failing == call => match at {
                Some(at) if at >= offset.saturating_add(length) || at < offset => Ok(length),
                Some(at) if at > offset => Ok(at - offset),
                _ => Err(errno),
            },
            _ => Ok(length),
        }
    }

    /// Returns how many bytes of these segments a call transfers before it fails; `None`, as an engine, where the error is that
    /// of a device which does not take the caller's addresses.
    fn fails_direct(&self, call: Call, offset: u64, segments: &[Segment]) -> Result<Option<u64>, Errno> {
        match self.fails(call, offset, segments.iter().map(|segment| segment.length).sum()) {
            Err(Errno::EINVAL) => Ok(None),
            most => most.map(Some),
        }
    }

    /// Fails a call that transfers all of these bytes of the device or none.
    fn fails_whole(&self, call: Call, offset: u64, length: u64) -> Result<(), Errno> {
        match self.fails(call, offset, length)? {
            most if most < length => Err(self.fault.get().map_or(Errno::EIO, |fault| fault.errno)),
            _ => Ok(()),
        }
    }

    fn content_part(&self, offset: u64, length: u64) -> Range<usize> {
        let end = (self.content.borrow().len() as u64).min(offset.saturating_add(length));
        if offset > end { 0..0 } else { offset as usize..end as usize }
    }

    /// Transfers segments of the caller's memory one after the other, `most` bytes altogether.
    fn each_piece(
        &self,
        (offset, most): (u64, u64),
        pieces: &[Segment],
        act: impl Fn(u64, Range<usize>) -> Result<(), Errno>,
    ) -> Result<Option<u64>, Errno> {
        let logical = u64::from(self.logical);
        if self.picky && pieces.iter().any(|piece| (piece.address | piece.length) % logical != 0) {
            return Ok(None);
        }
        let mut done = 0;
        for piece in pieces {
            let part = self.content_part(offset + done, piece.length.min(most - done));
            act(piece.address, part.clone())?;
            done += if self.sparse { piece.length.min(most - done) } else { part.len() as u64 };
        }
        Ok(Some(done))
    }

    fn reach_shared(&self) -> Result<&RefCell<Shared>, Errno> {
        self.shared.as_ref().filter(|_| !self.is_shared_lost.get()).ok_or(Errno::EIO)
    }

    fn has_changed(&self, how: &'static str, offset: u64, length: u64) {
        self.changed.set(Some((how, offset, length)));
        if let Some(after_change) = &self.after_change {
            after_change(self);
        }
    }

    /// Puts bytes at [`BASE`].
    pub fn put(&self, bytes: &[u8]) {
        self.memory.borrow_mut()[..bytes.len()].copy_from_slice(bytes);
    }

    /// Returns the bytes at [`BASE`].
    pub fn got<const N: usize>(&self) -> [u8; N] {
        self.memory.borrow()[..N].try_into().expect("it is long enough")
    }

    /// Returns whether the memory at [`BASE`] is as it was at first.
    pub fn untouched(&self) -> bool {
        self.memory.borrow().iter().all(|&byte| byte == POISON)
    }

    /// Sends a request to a fresh device with this entry; its argument is [`BASE`].
    pub fn ask(&self, entry: &str, request: u32) -> Answer {
        self.ask_at(entry, &Settings::default(), request, BASE)
    }

    /// Sends a request with any argument, through a fresh I_T nexus.
    pub fn ask_at(&self, entry: &str, settings: &Settings, request: u32, argument: u64) -> Answer {
        self.ask_through(&Nexus::default(), entry, settings, request, argument)
    }

    /// Sends a request with any argument.
    pub fn ask_through(
        &self,
        nexus: &Nexus,
        entry: &str,
        settings: &Settings,
        request: u32,
        argument: u64,
    ) -> Answer {
        let entry = Entry::parse(entry.as_bytes()).expect("the entry is right");
        let device = Device { entry: &entry, index: 3, settings, nexus };
        // Only an engine whose caller is its own process, which does not go away, tries this first.
        let tries_directly = request == disk::request::SG_IO && self.copies_left.get().is_none();
        let done = tries_directly.then(|| disk::sg_io::read_or_write(&device, self, argument)).flatten();
        done.unwrap_or_else(|| disk::answer(&device, self, request, argument))
    }

    /// Lends `act` a part of the caller's memory.
    fn with_memory(&self, address: u64, length: usize, act: impl FnOnce(&mut [u8])) -> Result<(), Errno> {
        match self.copies_left.get() {
            Some(0) => {
                self.copies_too_late.set(self.copies_too_late.get() + 1);
                return Err(Errno::CALLER_GONE);
            }
            left => self.copies_left.set(left.map(|left| left - 1)),
        }
        let (mut near, mut far) = (self.memory.borrow_mut(), self.far.borrow_mut());
        let (start, memory) = if address < FAR { (BASE, &mut near[..]) } else { (FAR, &mut far[..]) };
        let at = usize::try_from(address.checked_sub(start).ok_or(Errno::EFAULT)?).expect("64 bits");
        let part = at.checked_add(length).and_then(|end| memory.get_mut(at..end)).ok_or(Errno::EFAULT)?;
        act(part);
        Ok(())
    }
}

impl Nexuses for MemoryHost {
    fn are_known(&self) -> bool {
        self.shared.is_some()
    }

    fn look<R>(&self, look: impl FnOnce(&Shared) -> R) -> Result<R, Errno> {
        Ok(look(&self.reach_shared()?.borrow()))
    }

    fn change<R>(&self, change: impl FnOnce(&mut Shared) -> R) -> Result<R, Errno> {
        let mut shared = self.reach_shared()?.borrow_mut();
        self.before_change_of_shared.iter().for_each(|before| before(&mut shared));
        Ok(change(&mut shared))
    }

    fn wait_for_others(&self, _: u32) -> Result<(), Errno> {
        self.waits.set(self.waits.get() + 1);
        self.wait_fails.get().map_or(Ok(()), Err)
    }
}

impl Peers for MemoryHost {
    fn with_peer<R>(
        &self,
        designator: u64,
        writing: bool,
        act: impl FnOnce(&Device<'_>, &MemoryHost) -> R,
    ) -> Result<R, Errno> {
        for Disk { host, entry, settings, nexus } in &self.peers {
            let entry = Entry::parse(entry.as_bytes()).expect("the entry is right");
            if identity::designator(&entry) == Some(designator) {
                if let Some(errno) = host.not_writable.filter(|_| writing) {
                    return Err(errno);
                }
                host.opened.borrow_mut().push(writing);
                return Ok(act(&Device { entry: &entry, index: 4, settings, nexus }, host));
            }
        }
        Err(Errno::ENXIO)
    }
}

impl Caller for MemoryHost {
    fn copy_in(&self, address: u64, bytes: &mut [u8]) -> Result<(), Errno> {
        self.with_memory(address, bytes.len(), |part| {
            bytes.copy_from_slice(part);
            if self.erased.get() == Some(address) {
                part.fill(0);
            }
        })
    }

    fn copy_out(&self, address: u64, bytes: &[u8]) -> Result<(), Errno> {
        self.with_memory(address, bytes.len(), |part| part.copy_from_slice(bytes))
    }

    fn abi(&self) -> Abi {
        self.abi
    }

    fn capable(&self, capability: Capability) -> bool {
        self.root && self.lacks != Some(capability)
    }

    fn writable(&self) -> bool {
        self.writable
    }

    fn milliseconds(&self) -> u64 {
        0
    }
}

impl Backing for MemoryHost {
    type BounceBuffer = Vec<u8>;

    fn medium(&self) -> Medium {
        self.medium
    }

    fn identity(&self) -> u64 {
        self.identity
    }

    fn bytes(&self) -> Result<u64, Errno> {
        self.limit(self.bytes)
    }

    fn logical_block(&self) -> Result<u32, Errno> {
        self.limit(self.logical)
    }

    fn physical_block(&self) -> Result<u32, Errno> {
        self.limit(self.physical)
    }

    fn soft_block(&self) -> Result<u32, Errno> {
        self.limit(512)
    }

    fn minimum_io(&self) -> Result<u32, Errno> {
        self.limit(self.physical)
    }

    fn max_sectors(&self) -> Result<u16, Errno> {
        self.limit(2560)
    }

    fn is_read_only(&self) -> Result<bool, Errno> {
        self.limit(self.read_only)
    }

    fn read_at(&self, offset: u64, into: &[Segment]) -> Result<Option<u64>, Errno> {
        let Some(most) = self.fails_direct(Call::Read, offset, into)? else { return Ok(None) };
        self.each_piece((offset, most), into, |address, part| {
            self.copy_out(address, &self.content.borrow()[part])
        })
    }

    fn write_at(&self, offset: u64, from: &[Segment], durable: bool) -> Result<Option<u64>, Errno> {
        let Some(most) = self.fails_direct(Call::Write, offset, from)? else { return Ok(None) };
        let done = self.each_piece((offset, most), from, |address, part| {
            self.copy_in(address, &mut self.content.borrow_mut()[part])
        })?;
        if let Some(done) = done {
            self.changed.set(Some((if durable { "durable write" } else { "write" }, offset, done)));
        }
        Ok(done)
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), Errno> {
        self.fails_whole(Call::Read, offset, into.len() as u64)?;
        let part = self.content_part(offset, into.len() as u64);
        if part.len() != into.len() && !self.sparse {
            return Err(Errno::EIO);
        }
        into[..part.len()].copy_from_slice(&self.content.borrow()[part]);
        Ok(())
    }

    fn write(&self, offset: u64, from: &[u8], durable: bool) -> Result<(), Errno> {
        self.fails_whole(Call::Write, offset, from.len() as u64)?;
        let part = self.content_part(offset, from.len() as u64);
        if part.len() != from.len() && !self.sparse {
            return Err(Errno::EIO);
        }
        self.content.borrow_mut()[part.clone()].copy_from_slice(&from[..part.len()]);
        self.has_changed(if durable { "durable write" } else { "write" }, offset, from.len() as u64);
        Ok(())
    }

    fn atomic_unit(&self) -> Option<(u32, u32)> {
        self.atomic
    }

    fn write_atomic(&self, offset: u64, from: &[u8], durable: bool) -> Result<(), Errno> {
        let (least, most) = self.atomic.expect("it is not asked for what it cannot do");
        let length = from.len() as u32;
        assert!(length.is_power_of_two() && (least..=most).contains(&length), "{length}");
        assert_eq!(offset % u64::from(length), 0, "{length}");
        self.write(offset, from, durable)?;
        self.changed.set(Some((
            if durable { "durable atomic write" } else { "atomic write" },
            offset,
            length.into(),
        )));
        Ok(())
    }

    fn sync(&self) -> Result<(), Errno> {
        self.fails(Call::Sync, 0, 0)?;
        self.synced.set(self.synced.get() + 1);
        Ok(())
    }

    fn provisioning(&self) -> Result<Provisioning, Errno> {
        self.fails(Call::Provisioning, 0, 0)?;
        Ok(Provisioning { is_thin: self.thin, granularity: 4096, alignment: 0 })
    }

    fn extent(&self, offset: u64) -> Result<Extent, Errno> {
        self.fails(Call::Extent, offset, 1)?;
        let next = self.holes.iter().find(|hole| hole.end > offset);
        Ok(match next {
            Some(hole) if hole.contains(&offset) => Extent { is_mapped: false, length: hole.end - offset },
            Some(hole) => Extent { is_mapped: true, length: hole.start - offset },
            None => Extent { is_mapped: true, length: u64::MAX },
        })
    }

    fn bounce_buffer(&self, length: usize) -> Result<Vec<u8>, Errno> {
        self.fails(Call::BounceBuffer, 0, 0)?;
        // What an engine's holds at first is not the disk's to show.
        Ok(vec![0xbb; length])
    }

    fn update(
        &self,
        offset: u64,
        medium: &mut [u8],
        durable: bool,
        _timeout_ms: u32,
        mut change: impl FnMut(&mut [u8]) -> bool,
    ) -> Result<(), UpdateError> {
        self.fails(Call::Lock, 0, 0).map_err(UpdateError::Exclude)?;
        self.read(offset, medium).map_err(UpdateError::Read)?;
        if change(medium) { self.write(offset, medium, durable).map_err(UpdateError::Write) } else { Ok(()) }
    }

    fn discard(&self, offset: u64, length: u64) -> Result<(), Errno> {
        self.fails_whole(Call::Discard, offset, length)?;
        let part = self.content_part(offset, length);
        self.content.borrow_mut()[part].fill(0);
        self.has_changed("discard", offset, length);
        Ok(())
    }

    fn zero(&self, offset: u64, length: u64) -> Result<(), Errno> {
        self.fails_whole(Call::Zero, offset, length)?;
        let part = self.content_part(offset, length);
        self.content.borrow_mut()[part].fill(0);
        self.has_changed("zero", offset, length);
        Ok(())
    }

    fn flush(&self) -> Result<(), Errno> {
        self.changed.set(Some(("flush", 0, 0)));
        Ok(())
    }
}
