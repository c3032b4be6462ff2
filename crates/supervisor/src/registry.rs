//! The listed devices, and which of them a descriptor is open on.
//!
//! What is recognised stays so until the tree ends, even where the name leads elsewhere later: a
//! program that has the device open must not suddenly reach a disk underneath.

use std::collections::HashMap;
use std::ffi::{CString, c_int};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::{PoisonError, RwLock};

use disk::entry::Entry;
use disk::{Errno, identity};
use engine::discard::DiscardLimits;
use engine::exclusion::Exclusion;
use engine::listed::{self, InodeKey, Key, Problem};
use engine::sys::{self, Status};

use crate::client::Clients;
use crate::shared;
use crate::user::User;

/// A listed device.
struct Listed {
    index: u8,
    entry: Entry<'static>,
    /// `None`: the user has named it, and it is what the name led to then.
    path: Option<CString>,
    exclusion: Exclusion,
}

/// A device or file that a listed name led to.
#[derive(Clone, Copy)]
struct Known {
    /// The place of the entry in the list.
    place: usize,
    /// When the file's inode was made; 0 where that is not known, and for a block device.
    birth: u64,
    discard_limits: DiscardLimits,
    clients: &'static Clients,
}

/// The listed devices.
pub struct Registry {
    listed: Vec<Listed>,
    /// By device and inode; of a block device, by its number and 0.
    known: RwLock<HashMap<(u64, u64), Known>>,
    /// The user for whom root runs the program.
    user: Option<&'static User>,
    /// Where supervisors find the states that they share.
    directory: Option<PathBuf>,
}

/// What a descriptor is open on.
pub enum Found {
    /// A listed device.
    Listed(Hit),
    /// Something else.
    Other,
    /// It cannot be told.
    Unknown,
}

/// A listed device, and what a [`Call`](engine::call::Call) on it is made of.
pub struct Hit {
    /// Its entry.
    pub entry: &'static Entry<'static>,
    /// Its position among the listed devices.
    pub index: u8,
    /// Those who share it.
    pub clients: &'static Clients,
    /// What fstat(2) says of the descriptor.
    pub status: Status,
    /// What discarding is limited to.
    pub discard_limits: DiscardLimits,
    /// What excludes other callers for COMPARE AND WRITE.
    pub exclusion: &'static Exclusion,
}

impl Registry {
    /// The most devices that can be listed.
    pub const MOST: usize = 256;

    /// Lists devices, of which the first [`Registry::MOST`] are used. One that does not exist yet, or
    /// cannot be a disk now, is recognised when its name leads to a disk.
    pub fn new(entries: &[Entry<'static>], user: Option<&'static User>) -> Registry {
        let mut registry =
            Registry { listed: Vec::new(), known: RwLock::default(), user, directory: shared::directory() };
        for entry in entries {
            // The grammar of entries has no NUL in a path.
            let path = CString::new(entry.path).unwrap_or_default();
            let found = listed::look_up(&path, entry);
            let Some(place) = registry.list(*entry, Some(path)) else { break };
            if let Ok(key) = found {
                registry.add(key, place);
            }
        }
        registry
    }

    /// Lists a device that a user has named whose rights are not the supervisor's: one file, or one node
    /// of a block device.
    pub fn list_node(&mut self, entry: Entry<'static>, key: Key) {
        if let Some(place) = self.list(entry, None) {
            self.add(key, place);
        }
    }

    fn list(&mut self, entry: Entry<'static>, path: Option<CString>) -> Option<usize> {
        let place = self.listed.len();
        let index = u8::try_from(place).ok()?;
        self.listed.push(Listed { index, entry, path, exclusion: Exclusion::default() });
        Some(place)
    }

    /// Returns the listed device that a descriptor is open on, and begins to share it.
    pub fn find(&'static self, fd: c_int) -> Found {
        let found = self.identify(fd);
        if let Found::Listed(hit) = &found {
            self.share(hit);
        }
        found
    }

    /// Begins to share a device; not for a thread with a caller's rights to files, which the state may be out
    /// of reach of.
    pub fn share(&self, hit: &Hit) {
        hit.clients.open(self.user);
    }

    /// Returns the listed device that a descriptor is open on.
    pub fn identify(&'static self, fd: c_int) -> Found {
        let Ok(status) = sys::fstat(fd) else { return Found::Unknown };
        if !matches!(status.file_type(), libc::S_IFBLK | libc::S_IFREG) {
            return Found::Other;
        }
        let birth = || sys::birth(fd);
        let known = match self.known(&status, birth) {
            Some(known) => known,
            None => match self.named(&status, birth) {
                Ok(Some((place, key))) => self.add(key, place),
                Ok(None) => return Found::Other,
                Err(_) => return Found::Unknown,
            },
        };
        let Some(listed) = self.listed.get(known.place) else { return Found::Other };
        let Listed { index, entry, exclusion, .. } = listed;
        let Known { discard_limits, clients, .. } = known;
        Found::Listed(Hit { entry, index: *index, clients, status, discard_limits, exclusion })
    }

    /// Begins to share the devices that are there.
    pub fn open(&self) {
        self.each(|clients| clients.open(self.user));
    }

    /// Ends what was kept for process groups that have ended.
    pub fn forget_ended_groups(&self) {
        self.each(Clients::forget_ended_groups);
    }

    /// Ends the use of the devices.
    pub fn close(&self) {
        self.each(|clients| clients.close(self.user));
    }

    fn each(&self, act: impl Fn(&Clients)) {
        let all = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let clients: Vec<_> = all.values().map(|known| known.clients).collect();
        drop(all);
        clients.into_iter().for_each(act);
    }

    /// Returns the position and the path of the listed device that has this
    /// [`designator`](identity::designator).
    pub fn designated(&self, designator: u64) -> Option<(u8, &'static [u8])> {
        let wanted = |listed: &&Listed| identity::designator(&listed.entry) == Some(designator);
        self.listed.iter().find(wanted).map(|listed| (listed.index, listed.entry.path))
    }

    /// Returns whether a file is a listed one.
    pub fn lists(&self, file: &File) -> bool {
        let birth = || sys::birth(file.as_raw_fd());
        let status = sys::fstat(file.as_raw_fd());
        status.is_ok_and(|status| self.known(&status, birth).is_some())
    }

    /// Returns what is known of a device or file whose name was listed.
    fn known(&self, status: &Status, birth: impl Fn() -> u64) -> Option<Known> {
        let all = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if status.file_type() == libc::S_IFBLK {
            if let Some(known) = all.get(&(status.number.word(), 0)) {
                return Some(*known);
            }
        }
        let known = *all.get(&(status.device.word(), status.inode))?;
        drop(all);
        // Where it cannot be told any more when the inode was made, the rest decides.
        matches!(birth(), now if now == 0 || now == known.birth).then_some(known)
    }

    /// Returns the first entry whose name leads to a device or file now: it may have appeared, or lead
    /// elsewhere since.
    fn named(&self, status: &Status, birth: impl Fn() -> u64) -> Result<Option<(usize, Key)>, Errno> {
        let find = || {
            for (place, listed) in self.listed.iter().enumerate() {
                let Some(path) = &listed.path else { continue };
                match listed::look_up(path, &listed.entry) {
                    Ok(key) if key.is_of(status, &birth) => return Ok(Some((place, key))),
                    Err(Problem::Unknown(errno)) => return Err(errno),
                    _ => {}
                }
            }
            Ok(None)
        };
        // The user may be unable to walk a path that root has listed.
        match self.user {
            Some(user) => user.as_root(find),
            None => find(),
        }
    }

    /// Adds a device. Where another thread has found another entry, that one holds from now on.
    fn add(&self, key: Key, place: usize) -> Known {
        let (key, birth, discard_limits) = match key {
            Key::BlockDevice(number) => ((number.word(), 0), 0, DiscardLimits::read(number)),
            Key::Inode(InodeKey { device, inode, birth }) => {
                ((device.word(), inode), birth, DiscardLimits::default())
            }
        };
        let mut all = self.known.write().unwrap_or_else(PoisonError::into_inner);
        match all.get(&key) {
            Some(earlier) if earlier.birth == birth => *earlier,
            _ => {
                let name = format!("{:x}-{:x}-{birth:x}", key.0, key.1);
                let clients = Box::leak(Box::new(Clients::new(self.directory.clone(), name)));
                let known = Known { place, birth, discard_limits, clients };
                all.insert(key, known);
                known
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_not_shared_when_it_is_identified() {
        let path = std::env::temp_dir().join(format!("bdwrapper-registry-{}", std::process::id()));
        let file = File::create(&path).expect("nobody else has it");
        let text: &'static str = Box::leak(format!("{}=scsi,force", path.display()).into());
        let entry = Entry::parse(text.as_bytes()).expect("it is an entry");
        let registry = Box::leak(Box::new(Registry { directory: None, ..Registry::new(&[entry], None) }));
        let Found::Listed(hit) = registry.identify(file.as_raw_fd()) else { panic!("it is listed") };
        assert_eq!(hit.clients.state().err(), Some(Errno::EIO));
        registry.share(&hit);
        assert!(hit.clients.state().is_ok());
        std::fs::remove_file(&path).expect("it is there");
    }
}
