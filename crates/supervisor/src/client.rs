//! A listed device as clients share it, and which of its I_T nexuses a thread belongs to.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use disk::entry::{Entry, Kind, NexusOf};
use disk::{Errno, Nexus, Settings};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, getpgid, pidfd_open, test_kill_process, test_kill_process_group};

use crate::shared::{Begun, State};
use crate::user::User;

/// What the clients of a device share.
pub struct Clients {
    /// Where other supervisors find its state; none if this one does not share it.
    directory: Option<PathBuf>,
    /// What tells the device from others.
    name: String,
    state: OnceLock<Option<State>>,
    /// The settings, if the state cannot be used.
    settings: Settings,
    tree: OnceLock<Arc<Nexus>>,
    groups: Mutex<Vec<Group>>,
}

/// A process group that is a nexus.
struct Group {
    number: Pid,
    /// Its leader, if that was still there.
    leader: Option<OwnedFd>,
    nexus: Arc<Nexus>,
}

impl Clients {
    /// Returns those of a device with this name, which share its state in a directory.
    pub fn new(directory: Option<PathBuf>, name: String) -> Clients {
        Clients {
            directory,
            name,
            state: OnceLock::new(),
            settings: Settings::default(),
            tree: OnceLock::new(),
            groups: Mutex::default(),
        }
    }

    /// Opens the state. `user`: root runs the program for that user.
    pub fn open(&self, user: Option<&User>) {
        self.state.get_or_init(|| {
            let open = || State::open(self.directory.as_deref(), self.name.clone()).ok();
            match user {
                Some(user) => user.as_root(open),
                None => open(),
            }
        });
    }

    /// Returns the state; `EIO` if it cannot be used.
    pub fn state(&self) -> Result<&State, Errno> {
        self.state.get().and_then(Option::as_ref).ok_or(Errno::EIO)
    }

    /// Returns the settings of the device.
    pub fn settings(&self) -> &Settings {
        match self.state() {
            Ok(state) => state.settings(),
            Err(_) => &self.settings,
        }
    }

    /// Begins a command, if the entry is of a disk that has reservations: what belongs to supervisors that were
    /// killed ends before it, and others can wait for its end.
    pub fn begin(&'static self, entry: &Entry<'_>) -> Option<Begun> {
        let state = self.state().ok().filter(|_| entry.kind == Kind::Scsi)?;
        state.lose_dead();
        state.begin().ok()
    }

    /// Returns the nexus of a thread that waits for its answer.
    pub fn nexus(&self, of: Option<NexusOf>, thread: i32) -> Result<Arc<Nexus>, Errno> {
        match of.unwrap_or(NexusOf::Tree) {
            NexusOf::Tree => {
                if let Some(nexus) = self.tree.get() {
                    return Ok(Arc::clone(nexus));
                }
                // One thread at a time; a nexus without a state has the number 0.
                let _groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
                Ok(Arc::clone(self.tree.get_or_init(|| self.new_nexus())))
            }
            NexusOf::Process => self.nexus_of_group(thread),
        }
    }

    fn new_nexus(&self) -> Arc<Nexus> {
        Arc::new(Nexus::new(self.state().and_then(State::add_nexus).unwrap_or(0)))
    }

    fn nexus_of_group(&self, thread: i32) -> Result<Arc<Nexus>, Errno> {
        let number = getpgid(Pid::from_raw(thread)).map_err(|errno| Errno(errno.raw_os_error()))?;
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(group) = groups.iter().find(|group| group.number == number && group.is_as_before()) {
            return Ok(Arc::clone(&group.nexus));
        }
        self.forget_ended(&mut groups);
        let leader = pidfd_open(number, PidfdFlags::empty()).ok();
        let nexus = self.new_nexus();
        groups.push(Group { number, leader, nexus: Arc::clone(&nexus) });
        Ok(nexus)
    }

    fn forget_ended(&self, groups: &mut Vec<Group>) {
        groups.retain(|group| {
            let exists = group.is_as_before() && test_kill_process_group(group.number) != GONE;
            if !exists {
                if let Ok(state) = self.state() {
                    state.lose_nexus(group.nexus.number);
                }
            }
            exists
        });
    }

    /// Ends the nexuses of process groups that have ended.
    pub fn forget_ended_groups(&self) {
        self.forget_ended(&mut self.groups.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Ends the use of the device.
    pub fn close(&self, user: Option<&User>) {
        let Ok(state) = self.state() else { return };
        match user {
            Some(user) => user.as_root(|| state.close()),
            None => state.close(),
        }
    }
}

const GONE: rustix::io::Result<()> = Err(rustix::io::Errno::SRCH);

impl Group {
    /// Returns whether the group's number is still its own: as long as a process of it exists, no new process
    /// gets that number.
    fn is_as_before(&self) -> bool {
        let has_ended = |leader: &OwnedFd| {
            let mut fds = [PollFd::new(leader, PollFlags::IN)];
            let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
            poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
        };
        // A leader that has ended, and another process with its number.
        let is_another = self.leader.as_ref().is_none_or(has_ended) && test_kill_process(self.number) != GONE;
        !is_another
    }
}
