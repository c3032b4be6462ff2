//! A caller and a device in memory.
#![allow(dead_code, reason = "not every test program needs all of it")]

use std::cell::{Cell, RefCell};

use disk::entry::Entry;
use disk::{Answer, Capability, Device, Errno, Host, Limit, Medium, State};

/// Where the caller's memory begins; it is one buffer of [`MEMORY`] bytes, and every other address is bad.
pub const BASE: u64 = 0x1000;

/// The size of the caller's memory.
pub const MEMORY: usize = 1024;

/// What stands in the caller's memory at first.
pub const POISON: u8 = 0xee;

/// A host in memory.
pub struct Fake {
    pub memory: RefCell<[u8; MEMORY]>,
    pub medium: Medium,
    pub bytes: u64,
    pub logical: u64,
    pub physical: u64,
    pub writable: bool,
    pub root: bool,
    pub read_only: bool,
    /// The last change: what, first byte, length.
    pub changed: Cell<Option<(&'static str, u64, u64)>>,
}

impl Fake {
    pub fn new(medium: Medium, bytes: u64) -> Fake {
        Fake {
            memory: RefCell::new([POISON; MEMORY]),
            medium,
            bytes,
            logical: 512,
            physical: 512,
            writable: true,
            root: true,
            read_only: false,
            changed: Cell::new(None),
        }
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

    fn part(&self, address: u64, length: usize) -> Result<std::ops::Range<usize>, Errno> {
        let start = usize::try_from(address.checked_sub(BASE).ok_or(Errno::EFAULT)?).expect("64 bits");
        match start.checked_add(length) {
            Some(end) if end <= MEMORY => Ok(start..end),
            _ => Err(Errno::EFAULT),
        }
    }
}

impl Host for Fake {
    fn copy_in(&self, address: u64, bytes: &mut [u8]) -> Result<(), Errno> {
        let part = self.part(address, bytes.len())?;
        bytes.copy_from_slice(&self.memory.borrow()[part]);
        Ok(())
    }

    fn copy_out(&self, address: u64, bytes: &[u8]) -> Result<(), Errno> {
        let part = self.part(address, bytes.len())?;
        self.memory.borrow_mut()[part].copy_from_slice(bytes);
        Ok(())
    }

    fn capable(&self, _: Capability) -> bool {
        self.root
    }

    fn writable(&self) -> bool {
        self.writable
    }

    fn medium(&self) -> Medium {
        self.medium
    }

    fn limit(&self, limit: Limit) -> Result<u64, Errno> {
        Ok(match limit {
            Limit::Bytes => self.bytes,
            Limit::LogicalBlock => self.logical,
            Limit::PhysicalBlock | Limit::MinimumIo => self.physical,
            Limit::MaxSectors => 2560,
            Limit::SoftBlock => 512,
            Limit::ReadOnly => self.read_only.into(),
        })
    }

    fn discard(&self, offset: u64, length: u64) -> Result<(), Errno> {
        self.changed.set(Some(("discard", offset, length)));
        Ok(())
    }

    fn zero(&self, offset: u64, length: u64) -> Result<(), Errno> {
        self.changed.set(Some(("zero", offset, length)));
        Ok(())
    }

    fn flush(&self) -> Result<(), Errno> {
        self.changed.set(Some(("flush", 0, 0)));
        Ok(())
    }
}
