//! A caller and a device in memory.
#![allow(dead_code, reason = "not every test program needs all of it")]

pub mod ata;
pub mod sg;

use std::cell::{Cell, RefCell};
use std::ops::Range;

use disk::entry::Entry;
use disk::host::{Extent, Provisioning, Segment, UpdateError};
use disk::{Answer, Capability, Device, Errno, Host, Limit, Medium, State};

/// Where the caller's memory begins; it is one buffer of [`MEMORY`] bytes, and another from [`FAR`] on. Every other address
/// is bad.
pub const BASE: u64 = 0x1000;

/// The size of the caller's memory.
pub const MEMORY: usize = 4096;

/// Where more of it begins.
pub const FAR: u64 = 0x10_0000;

/// What stands in the caller's memory at first.
pub const POISON: u8 = 0xee;

/// A call on the device that can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Limit,
    Read,
    Write,
    Sync,
    Provisioning,
    Extent,
    Scratch,
    Lock,
    Discard,
    Zero,
}

/// A call that fails every time; where a byte is given, only if it concerns this byte of the device.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub call: Call,
    pub errno: Errno,
    pub at: Option<u64>,
}

impl Fault {
    /// What a byte of a fuzzer's input says: bit 7 whether there is one; the call in bits 0 to 2, its errno in bits 3 to 5, and in
    /// bit 6 whether it fails at one byte of the device alone.
    pub fn of_byte(byte: u8, calls: [Call; 8], errnos: [Errno; 8]) -> Option<Fault> {
        let [call, errno, far] = [byte & 7, byte >> 3 & 7, byte >> 6 & 1].map(usize::from);
        let at = (far != 0).then_some(512 * 20);
        (byte & 0x80 != 0).then(|| Fault { call: calls[call], errno: errnos[errno], at })
    }
}

/// A host in memory.
pub struct Fake {
    pub memory: RefCell<[u8; MEMORY]>,
    /// More of it, from [`FAR`] on; nothing at first.
    pub far: RefCell<Vec<u8>>,
    pub medium: Medium,
    pub bytes: u64,
    /// What tells the device from others.
    pub identity: u64,
    pub logical: u64,
    pub physical: u64,
    pub writable: bool,
    pub root: bool,
    /// What the caller may not do although it is root.
    pub lacks: Option<Capability>,
    pub read_only: bool,
    /// The last change: what, first byte, length.
    pub changed: Cell<Option<(&'static str, u64, u64)>>,
    /// What the device holds; nothing behind its end, whatever `bytes` says.
    pub content: RefCell<Vec<u8>>,
    /// What is written behind the content is lost, and reads leave there what they find.
    pub sparse: bool,
    /// Space can be given back.
    pub thin: bool,
    /// What it can write as a whole.
    pub atomic: Option<(u32, u32)>,
    /// The device takes aligned addresses of the caller's alone, as with `O_DIRECT`.
    pub picky: bool,
    /// The caller's next call on the device fails so.
    pub failure: Cell<Option<Errno>>,
    /// What fails as long as it stands here.
    pub fault: Cell<Option<Fault>>,
    /// Parts of the device that have no space, in bytes and in their order.
    pub holes: Vec<Range<u64>>,
    /// How often the device's cache was written to the medium.
    pub synced: Cell<u32>,
    /// How long the last update would have waited for others, in milliseconds.
    pub patience: Cell<u32>,
}

impl Fake {
    pub fn new(medium: Medium, bytes: u64) -> Fake {
        Fake {
            memory: RefCell::new([POISON; MEMORY]),
            far: RefCell::new(Vec::new()),
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
            synced: Cell::new(0),
            patience: Cell::new(0),
        }
    }

    /// One that holds what is given.
    pub fn with_content(content: Vec<u8>) -> Fake {
        let bytes = content.len() as u64;
        Fake { content: RefCell::new(content), ..Fake::new(Medium::ImageFile, bytes) }
    }

    /// Whether a call on these bytes of the device fails; if only from a byte on, how many before that can be had.
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

    /// The same where not all is as good as nothing.
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

    /// Moves pieces of the caller's memory one after the other, until `most` bytes have been moved.
    fn each_piece(
        &self,
        (offset, most): (u64, u64),
        pieces: &[Segment],
        act: impl Fn(u64, Range<usize>) -> Result<(), Errno>,
    ) -> Result<u64, Errno> {
        if self.picky && pieces.iter().any(|piece| (piece.address | piece.length) % self.logical != 0) {
            return Err(Errno::EINVAL);
        }
        let mut done = 0;
        for piece in pieces {
            let part = self.content_part(offset + done, piece.length.min(most - done));
            act(piece.address, part.clone())?;
            done += if self.sparse { piece.length.min(most - done) } else { part.len() as u64 };
        }
        Ok(done)
    }

    /// Puts bytes where the caller's argument leads.
    pub fn put(&self, bytes: &[u8]) {
        self.memory.borrow_mut()[..bytes.len()].copy_from_slice(bytes);
    }

    /// The first bytes of the caller's memory.
    pub fn got<const N: usize>(&self) -> [u8; N] {
        self.memory.borrow()[..N].try_into().expect("it is long enough")
    }

    /// Whether the caller's memory is as it was at first.
    pub fn untouched(&self) -> bool {
        self.memory.borrow().iter().all(|&byte| byte == POISON)
    }

    /// Asks a device with this entry; the argument is the address of the caller's memory.
    pub fn ask(&self, entry: &str, request: u32) -> Answer {
        self.ask_at(entry, &State::new(), request, BASE)
    }

    pub fn ask_at(&self, entry: &str, state: &State, request: u32, argument: u64) -> Answer {
        let entry = Entry::parse(entry.as_bytes()).expect("the entry is right");
        disk::answer(&Device { entry: &entry, index: 3, state }, self, request, argument)
    }

    /// Does something with a part of the caller's memory.
    fn with_memory(&self, address: u64, length: usize, act: impl FnOnce(&mut [u8])) -> Result<(), Errno> {
        let (mut near, mut far) = (self.memory.borrow_mut(), self.far.borrow_mut());
        let (start, memory) = if address < FAR { (BASE, &mut near[..]) } else { (FAR, &mut far[..]) };
        let at = usize::try_from(address.checked_sub(start).ok_or(Errno::EFAULT)?).expect("64 bits");
        let part = at.checked_add(length).and_then(|end| memory.get_mut(at..end)).ok_or(Errno::EFAULT)?;
        act(part);
        Ok(())
    }
}

impl Host for Fake {
    fn copy_in(&self, address: u64, bytes: &mut [u8]) -> Result<(), Errno> {
        self.with_memory(address, bytes.len(), |part| bytes.copy_from_slice(part))
    }

    fn copy_out(&self, address: u64, bytes: &[u8]) -> Result<(), Errno> {
        self.with_memory(address, bytes.len(), |part| part.copy_from_slice(bytes))
    }

    fn capable(&self, capability: Capability) -> bool {
        self.root && self.lacks != Some(capability)
    }

    fn writable(&self) -> bool {
        self.writable
    }

    fn medium(&self) -> Medium {
        self.medium
    }

    fn identity(&self) -> u64 {
        self.identity
    }

    fn limit(&self, limit: Limit) -> Result<u64, Errno> {
        if let Some(Fault { call: Call::Limit, errno, .. }) = self.fault.get() {
            return Err(errno);
        }
        Ok(match limit {
            Limit::Bytes => self.bytes,
            Limit::LogicalBlock => self.logical,
            Limit::PhysicalBlock | Limit::MinimumIo => self.physical,
            Limit::MaxSectors => 2560,
            Limit::SoftBlock => 512,
            Limit::ReadOnly => self.read_only.into(),
        })
    }

    type Scratch = Vec<u8>;

    fn read_at(&self, offset: u64, into: &[Segment]) -> Result<u64, Errno> {
        let most = self.fails(Call::Read, offset, into.iter().map(|piece| piece.length).sum())?;
        self.each_piece((offset, most), into, |address, part| {
            self.copy_out(address, &self.content.borrow()[part])
        })
    }

    fn write_at(&self, offset: u64, from: &[Segment], durable: bool) -> Result<u64, Errno> {
        let most = self.fails(Call::Write, offset, from.iter().map(|piece| piece.length).sum())?;
        let done = self.each_piece((offset, most), from, |address, part| {
            self.copy_in(address, &mut self.content.borrow_mut()[part])
        })?;
        self.changed.set(Some((if durable { "durable write" } else { "write" }, offset, done)));
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
        self.changed.set(Some((if durable { "durable write" } else { "write" }, offset, from.len() as u64)));
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

    fn scratch(&self, length: usize) -> Result<Vec<u8>, Errno> {
        self.fails(Call::Scratch, 0, 0)?;
        Ok(vec![0; length])
    }

    fn update(
        &self,
        offset: u64,
        medium: &mut [u8],
        durable: bool,
        patience: u32,
        mut change: impl FnMut(&mut [u8]) -> bool,
    ) -> Result<(), UpdateError> {
        self.patience.set(patience);
        self.fails(Call::Lock, 0, 0).map_err(UpdateError::Exclude)?;
        self.read(offset, medium).map_err(UpdateError::Read)?;
        if change(medium) { self.write(offset, medium, durable).map_err(UpdateError::Write) } else { Ok(()) }
    }

    fn milliseconds(&self) -> u64 {
        0
    }

    fn discard(&self, offset: u64, length: u64) -> Result<(), Errno> {
        self.fails_whole(Call::Discard, offset, length)?;
        let part = self.content_part(offset, length);
        self.content.borrow_mut()[part].fill(0);
        self.changed.set(Some(("discard", offset, length)));
        Ok(())
    }

    fn zero(&self, offset: u64, length: u64) -> Result<(), Errno> {
        self.fails_whole(Call::Zero, offset, length)?;
        let part = self.content_part(offset, length);
        self.content.borrow_mut()[part].fill(0);
        self.changed.set(Some(("zero", offset, length)));
        Ok(())
    }

    fn flush(&self) -> Result<(), Errno> {
        self.changed.set(Some(("flush", 0, 0)));
        Ok(())
    }
}
