//! The threads that answer.
//!
//! One of them receives, and answers what it receives itself: that costs the least. Before it waits
//! for a device, or copies much while another call is there already, it lets another thread receive,
//! and there are as many threads as it takes: a call that has not been received can be interrupted by
//! a signal, and a listed device may be served by a process of the tree that must be answered first.
//!
//! To wake a thread costs as much as a short call. So the one that has waited for a device receives
//! again, beside the other: while each call waits, two receive in turn, and neither wakes the other.
//!
//! A program can make a look at what it has wait for as long as it likes: at a file of a file system
//! that it serves itself, or at memory whose page faults it handles. Where all threads that receive
//! are found waiting so, their turns are taken from them, and from then on each thread lets another
//! receive before it looks at anything.

use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::call;
use crate::notify::{Listener, Notification};
use crate::policy::Policy;
use crate::refusals::Refusals;
use crate::registry::Registry;
use crate::trace::Tracer;

/// The most threads that wait for a turn.
const MOST_IDLE: usize = 4;

/// The most threads that receive at the same time.
const MOST_TURNS: usize = 2;

/// The most threads. There can be as many calls as the tree has threads, which its user's limits count;
/// those of root's supervisor are not among them. What comes when all of them wait is received later.
const MOST: usize = 4096;

/// How often the threads that receive are looked after.
const PERIOD: Duration = Duration::from_secs(1);

/// The threads, and what they work with.
pub struct Pool {
    /// Where calls come from.
    pub listener: Listener,
    /// The listed devices.
    pub registry: Registry,
    /// What the supervisor may do.
    pub policy: Policy,
    /// What takes a record of each answered call.
    pub tracer: Option<Tracer>,
    /// What the front is told of refused requests.
    pub refusals: Refusals,
    turns: Mutex<Turns>,
    changed: Condvar,
    /// How many calls have been received.
    received: AtomicU64,
    /// How many threads wait for a call at this moment.
    receiving: AtomicUsize,
    /// Whether threads let others receive before they look at anything.
    is_cautious: AtomicBool,
}

struct Turns {
    /// How many threads receive, now or when they have answered.
    taken: usize,
    /// How often the turns have been taken from all threads that had one.
    generation: u64,
    /// How many threads there are.
    threads: usize,
    /// How many wait for a turn, or will in a moment.
    idle: usize,
    /// Whether nothing more will come.
    has_ended: bool,
}

/// What a thread does when it has answered.
enum Next {
    Receive,
    Wait,
    End,
}

thread_local! {
    /// The generation of this thread's turn to receive.
    static TURN: Cell<Option<u64>> = const { Cell::new(None) };
}

impl Pool {
    /// Puts together what the threads work with.
    pub fn new(
        listener: Listener,
        registry: Registry,
        policy: Policy,
        tracer: Option<Tracer>,
        refusals: Refusals,
    ) -> Pool {
        Pool {
            listener,
            registry,
            policy,
            tracer,
            refusals,
            turns: Mutex::new(Turns { taken: 0, generation: 0, threads: 0, idle: 0, has_ended: false }),
            changed: Condvar::new(),
            received: AtomicU64::new(0),
            receiving: AtomicUsize::new(0),
            is_cautious: AtomicBool::new(false),
        }
    }

    /// Starts to receive and to answer.
    pub fn start(&'static self) -> io::Result<()> {
        self.spawn(&mut self.turns())?;
        thread::Builder::new().spawn(|| self.look_after())?;
        Ok(())
    }

    fn turns(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a thread that waits for a turn.
    fn spawn(&'static self, turns: &mut Turns) -> io::Result<()> {
        if turns.threads >= MOST {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        thread::Builder::new().spawn(|| self.serve())?;
        turns.threads += 1;
        turns.idle += 1;
        Ok(())
    }

    /// Receives and answers until no process of the tree is left, or until enough threads wait.
    fn serve(&'static self) {
        while self.take_turn() {
            loop {
                let Some(notification) = self.receive() else {
                    self.turns().has_ended = true;
                    self.changed.notify_all();
                    return;
                };
                if self.is_cautious.load(Ordering::Relaxed) {
                    self.hand_over();
                }
                let reply = call::answer(self, &notification);
                // Before the answer lets the caller run in its place: this thread would be missed, and
                // another one be started for each call.
                let next = self.next();
                if let Some(reply) = reply {
                    self.listener.answer(notification.id, reply);
                }
                match next {
                    Next::Receive => {}
                    Next::Wait => break,
                    Next::End => return,
                }
            }
        }
    }

    fn receive(&self) -> Option<Notification> {
        self.receiving.fetch_add(1, Ordering::Relaxed);
        let notification = self.listener.receive();
        self.received.fetch_add(1, Ordering::Relaxed);
        self.receiving.fetch_sub(1, Ordering::Relaxed);
        notification
    }

    /// Waits, as one of those that do, until there is a turn; `false` where nothing more will come.
    fn take_turn(&self) -> bool {
        let mut turns = self.turns();
        while turns.taken > 0 && !turns.has_ended {
            turns = self.changed.wait(turns).unwrap_or_else(PoisonError::into_inner);
        }
        turns.idle -= 1;
        if turns.has_ended {
            return false;
        }
        turns.take();
        true
    }

    /// Decides what this thread does when it has answered: one that has let another receive does so
    /// again, beside that; one that has not is not needed beside another.
    fn next(&self) -> Next {
        let mut turns = self.turns();
        let had = turns.give_back();
        if turns.taken == 0 || !had && turns.taken < MOST_TURNS {
            turns.take();
            Next::Receive
        } else if turns.idle < MOST_IDLE {
            turns.idle += 1;
            Next::Wait
        } else {
            turns.threads -= 1;
            Next::End
        }
    }

    /// Lets another thread receive what is there already.
    pub fn share(&'static self) {
        if TURN.get().is_some() && self.listener.has_more() {
            self.hand_over();
        }
    }

    /// Lets another thread receive, if it is this thread's turn.
    pub fn hand_over(&'static self) {
        if TURN.get().is_none() {
            return;
        }
        let mut turns = self.turns();
        // Where there can be no other, what comes waits until this thread has answered.
        if turns.taken > 1 || TURN.get() != Some(turns.generation) || self.has_idle(&mut turns) {
            turns.give_back();
            if turns.taken == 0 {
                self.changed.notify_one();
            }
        }
    }

    /// Returns whether a thread waits for a turn, starting one if there is none.
    fn has_idle(&'static self, turns: &mut Turns) -> bool {
        turns.idle > 0 || self.spawn(turns).is_ok()
    }

    /// Takes the turns where no thread has received for long, nor waits for a call.
    fn look_after(&'static self) {
        let mut before = 0;
        loop {
            thread::sleep(PERIOD);
            self.registry.forget_ended_groups();
            let received = self.received.load(Ordering::Relaxed);
            let mut turns = self.turns();
            if turns.has_ended {
                return;
            }
            let is_stuck = received == before && self.receiving.load(Ordering::Relaxed) == 0;
            if is_stuck && turns.taken > 0 && self.has_idle(&mut turns) {
                self.is_cautious.store(true, Ordering::Relaxed);
                turns.generation += 1;
                turns.taken = 0;
                self.changed.notify_one();
            }
            before = received;
        }
    }
}

impl Turns {
    /// Gives this thread a turn.
    fn take(&mut self) {
        self.taken += 1;
        TURN.set(Some(self.generation));
    }

    /// Takes the turn of this thread; `false` where it had none any more.
    fn give_back(&mut self) -> bool {
        let had = TURN.take() == Some(self.generation);
        self.taken -= usize::from(had);
        had
    }
}
