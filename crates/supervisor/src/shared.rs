//! What all clients of a device share: its settings, and its reservations.
//!
//! It is a file that the supervisors of all runs map, root's in /run, a user's in `XDG_RUNTIME_DIR`. There is
//! no daemon: what must not happen at the same time excludes itself by locks of that file, which end with a
//! supervisor that is killed, and a change that it has not completed has not happened. Its registrations stay,
//! as those of a host that crashes do. When the last supervisor that uses the device has ended, the file is
//! removed: that is the loss of power which no reservation outlives.
//!
//! The file holds a [`Head`] and two places for [`Shared`]. The number of the last change says in which of them
//! the state is; a change is written to the other one, and then counted.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::ffi::c_int;
use std::fs::File;
use std::io;
use std::mem::{offset_of, size_of};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use disk::{Errno, Settings, Shared};
use rustix::fs::{
    AtFlags, FlockOperation, MemfdFlags, Mode, OFlags, flock, fstat, open, openat, statat, unlinkat,
};
use rustix::mm::{MapFlags, ProtFlags, mmap};
use rustix::path::Arg;
use zerocopy::{FromZeros, IntoBytes};

/// The directory in /run, or in `XDG_RUNTIME_DIR`.
const DIRECTORY: &str = "vmware-bdwrapper";

/// What the file begins with; another layout has another one.
const LAYOUT: u64 =
    0x6264_7772_6170_0001 ^ ((size_of::<Head>() as u64) << 32) ^ (size_of::<Shared>() as u64) << 16;

/// Bytes that are locked: by the supervisor that changes the state; by those with commands that began before or
/// after the last time that somebody waited for all; by the one that waits; by each nexus that exists, its
/// number further.
const CHANGE: i64 = 0;
const COMMANDS: [i64; 2] = [1, 2];
const WAITING: i64 = 3;
const NEXUSES: i64 = 1 << 32;

/// How long is between two looks at a lock that is waited for.
const PAUSE: Duration = Duration::from_millis(2);

/// How long a lock is waited for that nobody holds for long, unless it is stopped meanwhile. Then nothing is
/// granted.
const PATIENCE: Duration = Duration::from_secs(10);

const WORDS: usize = size_of::<Shared>().div_ceil(8);

/// The contents of the file.
#[repr(C)]
struct Head {
    layout: AtomicU64,
    /// The number of the last change.
    changes: AtomicU64,
    /// How often somebody has waited for all commands.
    waits: AtomicU64,
    settings: Settings,
    places: [[AtomicU64; WORDS]; 2],
}

/// The state of a device, mapped.
pub struct State {
    head: &'static Head,
    file: File,
    /// Where it can be removed from.
    path: Option<(PathBuf, String)>,
    /// The state after a change, by its number.
    cached: RwLock<(u64, Shared)>,
    own: Mutex<Own>,
    ended: Condvar,
}

/// What the threads of this supervisor share.
struct Own {
    /// How many commands have begun before and after the last time that somebody waited for all.
    commands: [u32; 2],
    /// Whether a thread waits for the commands of others.
    is_waiting: bool,
    /// The nexuses of this supervisor.
    nexuses: Vec<u64>,
}

/// A command that has begun, and has not ended.
pub struct Begun {
    state: &'static State,
    /// Which of [`COMMANDS`] it holds; none when it has let go.
    held: Cell<Option<usize>>,
}

impl State {
    /// Opens the state of a device, whose name tells it from others; that of this supervisor alone where no
    /// supervisor of the same user has a place for files. `Err`: others may share it, but it cannot be used, so
    /// that nothing may be granted.
    pub fn open(directory: Option<&Path>, name: String) -> io::Result<State> {
        let (file, path) = match directory.map(|path| Ok((open_directory(path)?, path))) {
            Some(Ok((Some(directory), path))) => {
                (open_shared(&directory, &name)?, Some((path.to_owned(), name)))
            }
            Some(Err(error)) => return Err(error),
            Some(Ok((None, _))) | None => (private()?, None),
        };
        let length = size_of::<Head>();
        // SAFETY: a new mapping, which replaces no other. If the file is made shorter, an access ends the
        // process with SIGBUS, which is not undefined behaviour.
        let start = unsafe {
            mmap(std::ptr::null_mut(), length, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, &file, 0)
        }?;
        let start = NonNull::new(start.cast::<Head>()).ok_or(io::ErrorKind::OutOfMemory)?;
        // SAFETY: it is aligned to a page, as long as a `Head`, and stays mapped; a `Head` consists of atomics, for
        // which any bytes are valid.
        let head: &'static Head = unsafe { start.as_ref() };
        let own = Own { commands: [0; 2], is_waiting: false, nexuses: Vec::new() };
        let cached = RwLock::new((u64::MAX, Shared::new_zeroed()));
        Ok(State { head, file, path, cached, own: Mutex::new(own), ended: Condvar::new() })
    }

    /// Returns the settings of the device.
    pub fn settings(&self) -> &'static Settings {
        &self.head.settings
    }

    /// Looks at what the nexuses share.
    pub fn look<R>(&self, look: impl FnOnce(&Shared) -> R) -> Result<R, Errno> {
        let changes = self.head.changes.load(Ordering::Acquire);
        {
            let cached = self.cached.read().unwrap_or_else(PoisonError::into_inner);
            if cached.0 == changes {
                return Ok(look(&cached.1));
            }
        }
        let current = self.read();
        let result = look(&current.1);
        *self.cached.write().unwrap_or_else(PoisonError::into_inner) = current;
        Ok(result)
    }

    /// Reads the state after the last change, and the number of that.
    fn read(&self) -> (u64, Shared) {
        loop {
            let changes = self.head.changes.load(Ordering::Acquire);
            let place = &self.head.places[changes as usize & 1];
            let words: Vec<u64> = place.iter().map(|word| word.load(Ordering::Relaxed)).collect();
            fence(Ordering::Acquire);
            if self.head.changes.load(Ordering::Relaxed) == changes {
                let mut shared = Shared::new_zeroed();
                let length = size_of::<Shared>();
                shared.as_mut_bytes().copy_from_slice(&words.as_bytes()[..length]);
                return (changes, shared);
            }
        }
    }

    /// Changes what the nexuses share.
    pub fn change<R>(&self, change: impl FnOnce(&mut Shared) -> R) -> Result<R, Errno> {
        let own = self.own();
        self.change_locked(&own, change)
    }

    fn change_locked<R>(
        &self,
        _own: &MutexGuard<'_, Own>,
        change: impl FnOnce(&mut Shared) -> R,
    ) -> Result<R, Errno> {
        self.check()?;
        let _lock = self.lock(libc::F_WRLCK, CHANGE)?;
        let (changes, before) = self.read();
        let mut after = before.clone();
        let result = change(&mut after);
        if after.as_bytes() != before.as_bytes() {
            let next = changes.wrapping_add(1);
            let mut words = [0; WORDS];
            words.as_mut_bytes()[..size_of::<Shared>()].copy_from_slice(after.as_bytes());
            let place = &self.head.places[next as usize & 1];
            // What a reader sees of these words tells it that they are of a later change.
            fence(Ordering::Release);
            place.iter().zip(words).for_each(|(to, word)| to.store(word, Ordering::Relaxed));
            self.head.changes.store(next, Ordering::Release);
        }
        Ok(result)
    }

    fn own(&self) -> MutexGuard<'_, Own> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a nexus and returns its number.
    pub fn add_nexus(&self) -> Result<u64, Errno> {
        let mut own = self.own();
        let number = self.change_locked(&own, Shared::add_nexus)?;
        self.set_lock(libc::F_WRLCK, NEXUSES.saturating_add_unsigned(number))?;
        own.nexuses.push(number);
        Ok(number)
    }

    /// Removes a nexus of this supervisor.
    pub fn lose_nexus(&self, number: u64) {
        let mut own = self.own();
        own.nexuses.retain(|own| *own != number);
        let _ = self.change_locked(&own, |shared| shared.lose_nexus(number));
        let _ = self.set_lock(libc::F_UNLCK, NEXUSES.saturating_add_unsigned(number));
    }

    /// Ends what belongs to nexuses of supervisors that were killed.
    pub fn lose_dead(&self) {
        let Ok(Some(number)) = self.look(Shared::blocking_nexus) else { return };
        let own = self.own();
        let is_dead = || self.is_unlocked(NEXUSES.saturating_add_unsigned(number));
        if !own.nexuses.contains(&number) && is_dead() {
            let _ = self.change_locked(&own, |shared| shared.lose_nexus(number));
        }
    }

    /// Begins a command, which others can wait for.
    pub fn begin(&'static self) -> Result<Begun, Errno> {
        self.check()?;
        let deadline = Instant::now() + PATIENCE;
        let mut own = self.own();
        loop {
            let waits = self.head.waits.load(Ordering::SeqCst);
            let which = waits as usize & 1;
            if own.commands[which] == 0 {
                match self.set_lock(libc::F_RDLCK, COMMANDS[which]) {
                    // Another supervisor has just waited for those before.
                    Err(Errno::EAGAIN | Errno::EACCES) if Instant::now() < deadline => {
                        own = self.pause(own);
                        continue;
                    }
                    locked => locked?,
                }
            }
            own.commands[which] += 1;
            if self.head.waits.load(Ordering::SeqCst) == waits {
                return Ok(Begun { state: self, held: Cell::new(Some(which)) });
            }
            self.end(&mut own, which);
        }
    }

    /// Fails if somebody has removed the file, so that others do not find it, or has made it shorter.
    fn check(&self) -> Result<(), Errno> {
        let status = fstat(&self.file).map_err(|errno| Errno(errno.raw_os_error()))?;
        let is_there = self.path.is_none() || status.st_nlink > 0;
        let is_whole = u64::try_from(status.st_size).is_ok_and(|size| size >= size_of::<Head>() as u64);
        if is_there && is_whole { Ok(()) } else { Err(Errno::EIO) }
    }

    /// Lets other threads go on for a moment.
    fn pause<'a>(&'a self, own: MutexGuard<'a, Own>) -> MutexGuard<'a, Own> {
        self.ended.wait_timeout(own, PAUSE).unwrap_or_else(PoisonError::into_inner).0
    }

    fn end(&self, own: &mut Own, which: usize) {
        own.commands[which] -= 1;
        if own.commands[which] == 0 {
            let _ = self.set_lock(libc::F_UNLCK, COMMANDS[which]);
            self.ended.notify_all();
        }
    }

    /// Waits for the end of all commands that have begun, but one. `check` fails when nobody wants to wait any
    /// more.
    pub fn wait_for_others(
        &self,
        own: Option<&Begun>,
        timeout: Option<Duration>,
        check: impl Fn() -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        own.into_iter().for_each(Begun::end);
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        let check = || match deadline {
            Some(deadline) if Instant::now() >= deadline => Err(Errno::ETIMEDOUT),
            _ => check(),
        };
        let mut own = self.own();
        // One waits at a time.
        while own.is_waiting || self.set_lock(libc::F_WRLCK, WAITING).is_err() {
            check()?;
            own = self.pause(own);
        }
        own.is_waiting = true;
        let mut waited = Ok(());
        // Those that another did not wait for to the end, among which none begins any more; then those that begin
        // now.
        let now = self.head.waits.load(Ordering::SeqCst) as usize & 1;
        for which in [now ^ 1, now] {
            if which == now && waited.is_ok() {
                self.head.waits.fetch_add(1, Ordering::SeqCst);
            }
            while waited.is_ok() {
                if own.commands[which] == 0 && self.set_lock(libc::F_WRLCK, COMMANDS[which]).is_ok() {
                    let _ = self.set_lock(libc::F_UNLCK, COMMANDS[which]);
                    break;
                }
                waited = check();
                own = self.pause(own);
            }
        }
        own.is_waiting = false;
        let _ = self.set_lock(libc::F_UNLCK, WAITING);
        waited
    }

    /// Locks a byte, as soon as that is possible, until the result is dropped.
    fn lock(&self, kind: c_int, byte: i64) -> Result<Lock<'_>, Errno> {
        let is_held = |errno: &Errno| matches!(*errno, Errno::EAGAIN | Errno::EACCES);
        patiently(|| self.set_lock(kind, byte), is_held)?;
        Ok(Lock { state: self, byte })
    }

    /// Locks or unlocks a byte; `EAGAIN` if another supervisor has it.
    fn set_lock(&self, kind: c_int, byte: i64) -> Result<(), Errno> {
        self.request(libc::F_OFD_SETLK, kind, byte).map(drop)
    }

    /// Returns whether no other supervisor has locked a byte.
    fn is_unlocked(&self, byte: i64) -> bool {
        self.request(libc::F_OFD_GETLK, libc::F_WRLCK, byte).is_ok_and(|found| found == libc::F_UNLCK)
    }

    fn request(&self, command: c_int, kind: c_int, byte: i64) -> Result<c_int, Errno> {
        let whence = libc::SEEK_SET as i16;
        let mut lock =
            libc::flock { l_type: kind as i16, l_whence: whence, l_start: byte, l_len: 1, l_pid: 0 };
        loop {
            // SAFETY: the kernel reads its structure, and with F_OFD_GETLK fills it.
            match unsafe { libc::fcntl(self.file.as_raw_fd(), command, &raw mut lock) } {
                0 => return Ok(lock.l_type.into()),
                _ => match io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO) {
                    libc::EINTR => {}
                    errno => return Err(Errno(errno)),
                },
            }
        }
    }

    /// Ends the use of the device by this supervisor.
    pub fn close(&self) {
        let numbers = self.own().nexuses.clone();
        numbers.into_iter().for_each(|number| self.lose_nexus(number));
        let Some((directory, name)) = &self.path else { return };
        // Nobody else uses it, nor can begin to before it is removed.
        if flock(&self.file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let directory = open_directory(directory).ok().flatten();
            if let Some(directory) = directory.filter(|directory| is_named(directory, name, &self.file)) {
                let _ = unlinkat(directory, name, AtFlags::empty());
            }
        }
    }
}

/// A byte that is locked until this is dropped.
struct Lock<'a> {
    state: &'a State,
    byte: i64,
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        let _ = self.state.set_lock(libc::F_UNLCK, self.byte);
    }
}

impl Begun {
    fn end(&self) {
        if let Some(which) = self.held.take() {
            let mut own = self.state.own();
            self.state.end(&mut own, which);
        }
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.end();
    }
}

/// Returns the directory for what this supervisor shares with others: root's, or that of the user's session.
pub fn directory() -> Option<PathBuf> {
    let runtime = if rustix::process::getuid().is_root() {
        Some("/run".into())
    } else {
        std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute())
    };
    runtime.map(|runtime| runtime.join(DIRECTORY))
}

/// Tries something until nobody is in its way any more, but not for ever.
fn patiently<E>(mut attempt: impl FnMut() -> Result<(), E>, is_held: impl Fn(&E) -> bool) -> Result<(), E> {
    let deadline = Instant::now() + PATIENCE;
    let mut pause = Duration::from_micros(50);
    loop {
        match attempt() {
            Err(error) if is_held(&error) && Instant::now() < deadline => std::thread::sleep(pause),
            done => return done,
        }
        pause = (pause * 2).min(PAUSE);
    }
}

/// Opens the directory, making it if it is missing. None: it cannot be made, or is another user's, so that no
/// supervisor of this user has it.
fn open_directory(path: &Path) -> io::Result<Option<OwnedFd>> {
    use rustix::io::Errno;
    match rustix::fs::mkdir(path, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS | Errno::PERM | Errno::ROFS | Errno::LOOP) => {
            return Ok(None);
        }
        Err(errno) => return Err(errno.into()),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = match open(path, flags, Mode::empty()) {
        Ok(directory) => directory,
        // A link or a file, and what others may not even look at.
        Err(Errno::LOOP | Errno::NOTDIR | Errno::ACCESS) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    let status = fstat(&directory)?;
    if status.st_uid != rustix::process::getuid().as_raw() {
        return Ok(None);
    }
    if status.st_mode & 0o022 != 0 {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    Ok(Some(directory))
}

/// Returns whether a name in the directory is that of an open file.
fn is_named(directory: &OwnedFd, name: impl Arg, file: &File) -> bool {
    let (named, opened) = (statat(directory, name, AtFlags::SYMLINK_NOFOLLOW), fstat(file));
    matches!((named, opened), (Ok(named), Ok(opened))
        if (named.st_dev, named.st_ino) == (opened.st_dev, opened.st_ino))
}

/// Opens the file that the supervisors of a device share; one that nobody uses is made anew. `InvalidData`: one
/// that is used has another layout.
fn open_shared(directory: &OwnedFd, name: &str) -> io::Result<File> {
    // What cannot be removed is in nobody's way.
    let _ = remove_unused(directory);
    let deadline = Instant::now() + PATIENCE;
    let is_held = |errno: &rustix::io::Errno| *errno == rustix::io::Errno::WOULDBLOCK;
    loop {
        // A FIFO is not waited for.
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(openat(directory, name, flags, Mode::RUSR | Mode::WUSR)?);
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            make_anew(&file)?;
        }
        // Between the two locks others may do the same, but nobody has mapped it yet.
        patiently(|| flock(&file, FlockOperation::NonBlockingLockShared), is_held)?;
        let length = file.metadata()?.len();
        // It was removed before it was locked, or is made anew at this moment.
        if !is_named(directory, name, &file) || length == 0 {
            if Instant::now() >= deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
            continue;
        }
        let mut layout = [0; 8];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut layout, offset_of!(Head, layout) as u64)?;
        if u64::from_ne_bytes(layout) != LAYOUT || length < size_of::<Head>() as u64 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        return Ok(file);
    }
}

/// Removes the files that nobody uses any more: those of supervisors that were killed.
fn remove_unused(directory: &OwnedFd) -> io::Result<()> {
    for entry in rustix::fs::Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        // Neither of the directories can be opened so.
        let Ok(file) = openat(directory, name, flags, Mode::empty()).map(File::from) else { continue };
        // A supervisor that has opened it and not yet locked it will find that it has no name any more.
        let is_state = file.metadata().is_ok_and(|status| status.is_file());
        if is_state
            && flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
            && is_named(directory, name, &file)
        {
            unlinkat(directory, name, AtFlags::empty())?;
        }
    }
    Ok(())
}

/// Opens a file that has no name.
fn private() -> io::Result<File> {
    let file = File::from(rustix::fs::memfd_create(DIRECTORY, MemfdFlags::CLOEXEC)?);
    make_anew(&file)?;
    Ok(file)
}

/// Fills the file with zeros, and with its layout.
fn make_anew(file: &File) -> io::Result<()> {
    file.set_len(0)?;
    // All of its space, so that no write to the mapping can fail.
    rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, size_of::<Head>() as u64)?;
    std::os::unix::fs::FileExt::write_all_at(file, &LAYOUT.to_ne_bytes(), offset_of!(Head, layout) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::FileType;

    /// A directory for states, removed when it is dropped.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Directory {
            let path = std::env::temp_dir().join(format!("bdwrapper-shared-{name}-{}", std::process::id()));
            std::fs::create_dir(&path).expect("nobody else has it");
            Directory(path)
        }

        /// The state of a device as one more supervisor has it.
        fn open(&self, name: &str) -> &'static State {
            let state = State::open(Some(&self.0.join("states")), name.into()).expect("it can be opened");
            Box::leak(Box::new(state))
        }

        fn files(&self) -> usize {
            std::fs::read_dir(self.0.join("states")).expect("it is there").count()
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    /// Ends a supervisor as SIGKILL does: its locks end with its descriptor and its mapping.
    fn kill(state: &State) {
        let start = std::ptr::from_ref(state.head).cast_mut().cast();
        // SAFETY: both are the state's alone, which is not used any more and never dropped.
        unsafe {
            libc::munmap(start, size_of::<Head>());
            libc::close(state.file.as_raw_fd());
        }
    }

    fn last(state: &State) -> u64 {
        state.change(Shared::add_nexus).expect("it can be changed") - 1
    }

    #[test]
    fn what_one_supervisor_changes_another_sees() {
        let directory = Directory::new("sees");
        let (one, other, apart) = (directory.open("a"), directory.open("a"), directory.open("b"));
        assert_eq!((one.add_nexus(), other.add_nexus(), one.add_nexus()), (Ok(1), Ok(2), Ok(3)));
        assert_eq!((last(other), last(apart)), (3, 0));
        assert!(
            std::ptr::eq(one.settings(), one.settings()) && !std::ptr::eq(one.settings(), other.settings())
        );
    }

    #[test]
    fn the_file_lasts_as_long_as_somebody_uses_it() {
        let directory = Directory::new("lasts");
        let (one, other) = (directory.open("a"), directory.open("a"));
        assert_eq!(one.add_nexus(), Ok(1));
        one.close();
        kill(one);
        assert_eq!((directory.files(), last(other)), (1, 1));
        other.close();
        kill(other);
        assert_eq!(directory.files(), 0);
        let killed = directory.open("a");
        assert_eq!(last(killed), 0);
        kill(killed);
        // What nobody uses any more is made anew.
        assert_eq!((directory.files(), last(directory.open("a"))), (1, 0));
        let killed = directory.open("b");
        assert_eq!(directory.files(), 2);
        kill(killed);
        // Or removed by the next supervisor of another device.
        assert_eq!((last(directory.open("c")), directory.files()), (0, 2));
    }

    #[test]
    fn what_a_killed_supervisor_blocks_is_free_again() {
        let directory = Directory::new("killed");
        let (one, other) = (directory.open("a"), directory.open("a"));
        let number = one.add_nexus().expect("there is room");
        let blocking = || other.look(Shared::blocking_nexus).expect("it can be read");
        let reserved = one.change(|shared| shared.reservations.reserve_unit(number));
        assert_eq!(reserved, Ok(Ok(())));
        other.lose_dead();
        assert_eq!(blocking(), Some(number));
        kill(one);
        other.lose_dead();
        assert_eq!(blocking(), None);
    }

    #[test]
    fn commands_that_have_begun_are_waited_for() {
        let directory = Directory::new("begun");
        let (one, other) = (directory.open("a"), directory.open("a"));
        let soon = Some(Duration::from_millis(20));
        let wanted = || Ok(());
        for begins in [one, other] {
            let command = begins.begin().expect("it begins");
            let own = one.begin().expect("it begins");
            assert_eq!(one.wait_for_others(Some(&own), soon, wanted), Err(Errno::ETIMEDOUT));
            // It is waited for again, and again.
            for _ in 0..3 {
                assert_eq!(one.wait_for_others(None, soon, wanted), Err(Errno::ETIMEDOUT));
            }
            let later = begins.begin().expect("it begins");
            drop(command);
            let own = one.begin().expect("it begins");
            assert_eq!(one.wait_for_others(Some(&own), soon, wanted), Err(Errno::ETIMEDOUT));
            assert_eq!(one.wait_for_others(None, None, || Err(Errno::CALLER_GONE)), Err(Errno::CALLER_GONE));
            drop(later);
            assert_eq!(one.wait_for_others(None, None, wanted), Ok(()));
        }
        std::mem::forget(other.begin().expect("it begins"));
        kill(other);
        assert_eq!(one.wait_for_others(None, None, wanted), Ok(()));
    }

    #[test]
    fn what_others_cannot_find_any_more_is_not_used() {
        let directory = Directory::new("removed");
        let one = directory.open("a");
        assert!(one.begin().is_ok());
        std::fs::remove_file(directory.0.join("states/a")).expect("it is there");
        assert_eq!(one.begin().err(), Some(Errno::EIO));
        let cut = directory.open("b");
        cut.file.set_len(16).expect("it is ours");
        assert_eq!((cut.begin().err(), cut.add_nexus()), (Some(Errno::EIO), Err(Errno::EIO)));
        // The file of the others stays.
        let other = directory.open("a");
        one.close();
        assert!(directory.0.join("states/a").exists() && other.begin().is_ok());
    }

    #[test]
    fn what_is_held_for_ever_is_not_waited_for() {
        let directory = Directory::new("held");
        let (one, other) = (directory.open("a"), directory.open("a"));
        other.set_lock(libc::F_WRLCK, CHANGE).expect("it is free");
        assert_eq!(one.add_nexus(), Err(Errno::EAGAIN));
        other.set_lock(libc::F_UNLCK, CHANGE).expect("it is ours");
        assert_eq!(one.add_nexus(), Ok(1));
    }

    #[test]
    fn another_layout_and_a_foreign_directory_are_refused() {
        let directory = Directory::new("layout");
        let state = directory.open("a");
        std::os::unix::fs::FileExt::write_all_at(&state.file, &[0xff; 8], 0).expect("it can be written");
        let path = directory.0.join("states");
        let open = |name: &str| State::open(Some(&path), name.into());
        let refusal = |name: &str| open(name).err().map(|error| error.kind());
        assert_eq!(refusal("a"), Some(io::ErrorKind::InvalidData));
        // A file that is not one, in a directory that is: others may have the same trouble, or not.
        rustix::fs::mknodat(rustix::fs::CWD, path.join("fifo"), FileType::Fifo, Mode::RWXU, 0)
            .expect("it is ours");
        assert!(refusal("fifo").is_some());
        let set_mode = |mode| {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
            std::fs::set_permissions(&path, mode).expect("it is ours");
        };
        set_mode(0o777);
        assert_eq!(refusal("b"), Some(io::ErrorKind::PermissionDenied));
        set_mode(0o755);
        assert!(open("b").is_ok_and(|state| state.path.is_some()));
        // Nobody has a place there.
        for path in [directory.0.join("missing/states"), path.join("b/states")] {
            let alone = State::open(Some(&path), "b".into()).expect("it has a file without a name");
            assert!(alone.path.is_none());
        }
    }
}
