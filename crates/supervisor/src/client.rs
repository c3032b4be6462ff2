//! A listed device as clients share it, and which of its I_T nexuses a thread belongs to.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use disk::entry::{Entry, Kind, NexusOf};
use disk::{Errno, Nexus, Settings};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open, test_kill_process, test_kill_process_group};

use crate::shared::{Begun, State};
use crate::target::{ProcessStatus, group_of};
use crate::user::User;

/// What the clients of a device share.
pub struct Clients {
    /// Where other supervisors find its state; none if this one does not share it.
    directory: Option<PathBuf>,
    /// What tells the device from others.
    name: String,
    state: OnceLock<State>,
    /// One thread at a time opens the state, or a nexus.
    opening: Mutex<()>,
    /// The settings, if the state cannot be used.
    settings: Settings,
    tree: OnceLock<Arc<Nexus>>,
    groups: Mutex<Vec<Group>>,
    /// Stands for those that others do not know, because the state cannot be used.
    unknown: Arc<Nexus>,
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
            opening: Mutex::default(),
            settings: Settings::default(),
            tree: OnceLock::new(),
            groups: Mutex::default(),
            unknown: Arc::default(),
        }
    }

    /// Opens the state, unless it cannot be used at this moment. `user`: root runs the program for that user.
    pub fn open(&self, user: Option<&User>) {
        if self.state.get().is_some() {
            return;
        }
        let _opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        if self.state.get().is_some() {
            return;
        }
        let open = || State::open(self.directory.as_deref(), self.name.clone());
        let opened = match user {
            Some(user) => user.as_root(open),
            None => open(),
        };
        opened.into_iter().for_each(|state| drop(self.state.set(state)));
    }

    /// Returns the state; `EIO` if it cannot be used.
    pub fn state(&self) -> Result<&State, Errno> {
        self.state.get().ok_or(Errno::EIO)
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
    pub fn begin(&'static self, entry: &Entry<'_>, nexus: &Nexus) -> Result<Option<Begun>, Errno> {
        if entry.kind != Kind::Scsi {
            return Ok(None);
        }
        let state = self.state()?;
        if nexus.number == 0 {
            return Err(Errno::EIO);
        }
        state.lose_dead();
        state.begin().map(Some)
    }

    /// Returns the nexus of a thread that waits for its answer.
    pub fn nexus(&self, of: Option<NexusOf>, thread: i32) -> Result<Arc<Nexus>, Errno> {
        let group = match of.unwrap_or(NexusOf::Tree) {
            NexusOf::Tree => None,
            NexusOf::Process => group_of(thread)?,
        };
        match group {
            // A group of another PID namespace has no number here.
            None => {
                if let Some(nexus) = self.tree.get() {
                    return Ok(Arc::clone(nexus));
                }
                let _opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(nexus) = self.tree.get() {
                    return Ok(Arc::clone(nexus));
                }
                let nexus = self.new_nexus();
                if nexus.number != 0 {
                    let _ = self.tree.set(Arc::clone(&nexus));
                }
                Ok(nexus)
            }
            Some(group) => Ok(self.nexus_of_group(group)),
        }
    }

    /// Returns a new nexus; the one with the number 0 if it is not known to others, so that nothing may be
    /// granted to it.
    fn new_nexus(&self) -> Arc<Nexus> {
        match self.state().and_then(State::add_nexus) {
            Ok(number) => Arc::new(Nexus::new(number)),
            Err(_) => Arc::clone(&self.unknown),
        }
    }

    fn nexus_of_group(&self, number: Pid) -> Arc<Nexus> {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(group) = groups.iter().find(|group| group.number == number && group.is_as_before()) {
            return Arc::clone(&group.nexus);
        }
        self.forget_ended(&mut groups);
        let leader = pidfd_open(number, PidfdFlags::empty()).ok();
        let nexus = self.new_nexus();
        if nexus.number != 0 {
            groups.push(Group { number, leader, nexus: Arc::clone(&nexus) });
        }
        nexus
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
        // A leader that has ended keeps its number until its parent has waited for it.
        let is_gone = |leader: &OwnedFd| has_ended(leader) && has_been_waited_for(leader);
        // Another process has the number of a leader that is gone.
        let is_another = self.leader.as_ref().is_none_or(is_gone) && test_kill_process(self.number) != GONE;
        !is_another
    }
}

fn has_ended(process: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(process, PollFlags::IN)];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
}

fn has_been_waited_for(process: &OwnedFd) -> bool {
    let info = ProcessStatus::read(&format!("/proc/thread-self/fdinfo/{}", process.as_raw_fd()));
    info.and_then(|info| info.number("Pid:")).is_ok_and(|number| number < 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command, Stdio};

    /// A process that ends with this one's end of its input.
    fn start(group: i32) -> Child {
        let mut command = Command::new("cat");
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        command.process_group(group).spawn().expect("it can be started")
    }

    /// A disk without reservations works without a state, and has the capacity to compare with.
    #[test]
    fn without_a_state_there_is_one_nexus() {
        let clients = Clients::new(None, String::new());
        let nexus = || clients.nexus(None, 0).expect("it needs no state");
        let first = nexus();
        assert!(first.number == 0 && Arc::ptr_eq(&first, &nexus()));
        clients.open(None);
        assert_eq!(nexus().number, 1);
    }

    #[test]
    fn a_group_stays_when_its_leader_has_ended() {
        let clients = Clients::new(None, String::new());
        clients.open(None);
        let mut leader = start(0);
        let mut other = start(leader.id() as i32);
        let nexus =
            |of: &Child| clients.nexus(Some(NexusOf::Process), of.id() as i32).map(|nexus| nexus.number);
        assert_eq!((nexus(&leader), nexus(&other)), (Ok(1), Ok(1)));
        let descriptor = pidfd_open(Pid::from_child(&leader), PidfdFlags::empty()).expect("it exists");
        leader.kill().expect("it is ours");
        poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], None).expect("it ends");
        assert_eq!(nexus(&other), Ok(1));
        clients.forget_ended_groups();
        leader.wait().expect("it has ended");
        assert_eq!(nexus(&other), Ok(1));
        other.kill().expect("it is ours");
        other.wait().expect("it ends");
        clients.forget_ended_groups();
        assert!(clients.groups.lock().expect("nothing panics").is_empty());
        assert_eq!(nexus(&other).err(), Some(Errno::ESRCH));
    }
}
