//! The threads that answer.
//!
//! One of them receives, and answers what it receives itself: that costs the least. Before it waits
//! for a device, or when another call is there already, it lets another thread receive, and there are
//! as many threads as it takes: a call that has not been received can be interrupted by a signal, and
//! a listed device may be served by a process of the tree that must be answered first.
//!
//! A program can make a look at what it has wait for as long as it likes: at a file of a file system
//! that it serves itself, or at memory whose page faults it handles. Where the thread that receives is
//! found waiting so, its turn is taken from it, and from then on each thread lets another receive
//! before it looks at anything.

use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::call;
use crate::notify::Listener;
use crate::policy::Policy;
use crate::registry::Registry;
use crate::trace::Tracer;

/// The most threads that wait for work.
const MOST_IDLE: usize = 4;

/// The most threads. There can be as many calls as the tree has threads, which its user's limits count;
/// those of root's supervisor are not among them. What comes when all of them wait is received later.
const MOST: usize = 4096;

/// How often the thread that receives is looked after.
const PERIOD: Duration = Duration::from_secs(1);

/// The threads, and what they work with.
pub struct Pool {
    pub listener: Listener,
    pub registry: Registry,
    pub policy: Policy,
    /// What takes a record of each answered call.
    pub tracer: Option<Tracer>,
    turn: Mutex<Turn>,
    changed: Condvar,
    /// As [`Turn::holder`].
    holder: AtomicU64,
    /// What the thread that receives has received and not answered yet; 0 while it waits for more.
    received: AtomicU64,
    /// Whether threads let others receive before they look at anything.
    is_cautious: AtomicBool,
}

struct Turn {
    /// The turn of the thread that receives; 0: there is none.
    holder: u64,
    /// The last turn that a thread has had.
    last: u64,
    /// How many threads there are.
    threads: usize,
    /// How many wait for it.
    idle: usize,
    /// Whether nothing more will come.
    has_ended: bool,
}

thread_local! {
    /// This thread's turn to receive, as long as it knows of none that came later; 0: it has none.
    static TURN: Cell<u64> = const { Cell::new(0) };
}

impl Pool {
    /// Puts together what the threads work with.
    pub fn new(listener: Listener, registry: Registry, policy: Policy, tracer: Option<Tracer>) -> Pool {
        Pool {
            listener,
            registry,
            policy,
            tracer,
            turn: Mutex::new(Turn { holder: 0, last: 0, threads: 0, idle: 0, has_ended: false }),
            changed: Condvar::new(),
            holder: AtomicU64::new(0),
            received: AtomicU64::new(0),
            is_cautious: AtomicBool::new(false),
        }
    }

    /// Starts to receive and to answer.
    pub fn start(&'static self) -> io::Result<()> {
        self.spawn(&mut self.turn())?;
        thread::Builder::new().spawn(|| self.look_after())?;
        Ok(())
    }

    /// Starts a thread, which finds the turn free when this one has given it up.
    fn spawn(&'static self, turn: &mut Turn) -> io::Result<()> {
        if turn.threads >= MOST {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        thread::Builder::new().spawn(|| self.serve())?;
        turn.threads += 1;
        Ok(())
    }

    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Receives and answers until no process of the tree is left, or until enough threads wait.
    fn serve(&'static self) {
        while self.take_turn() {
            while TURN.get() != 0 && TURN.get() == self.holder.load(Ordering::Relaxed) {
                self.received.store(0, Ordering::Relaxed);
                let Some(notification) = self.listener.receive() else {
                    self.turn().has_ended = true;
                    self.changed.notify_all();
                    return;
                };
                self.received.store(notification.id, Ordering::Relaxed);
                if self.is_cautious.load(Ordering::Relaxed) || self.listener.has_more() {
                    self.hand_over();
                }
                let reply = call::answer(self, &notification);
                // It is free from here on: where the answer lets the caller run in its place, it would be
                // missed, and another one be started for each call.
                let is_needed = HAS_TURN.get() || self.become_idle();
                if let Some(reply) = reply {
                    self.listener.answer(notification.id, reply);
                }
                if !is_needed {
                    return;
                }
            }
        }
    }

    /// Counts this thread among those that wait; `false` where there are enough.
    fn become_idle(&self) -> bool {
        let mut turn = self.turn();
        let is_needed = turn.idle < MOST_IDLE;
        turn.idle += usize::from(is_needed);
        is_needed
    }

    /// Waits, as one of those that do, until it is this thread's turn; `false` where nothing more will
    /// come.
    fn take_turn(&self) -> bool {
        TURN.set(0);
        let mut turn = self.turn();
        let is_needed = turn.holder == 0 || turn.idle < MOST_IDLE;
        if is_needed {
            turn.idle += 1;
            while turn.holder != 0 && !turn.has_ended {
                turn = self.changed.wait(turn).unwrap_or_else(PoisonError::into_inner);
            }
            turn.idle -= 1;
        }
        if !is_needed || turn.has_ended {
            turn.threads -= 1;
            return false;
        }
        turn.last += 1;
        TURN.set(turn.last);
        self.give(&mut turn, TURN.get());
        true
    }

    fn give(&self, turn: &mut Turn, holder: u64) {
        turn.holder = holder;
        self.holder.store(holder, Ordering::Relaxed);
    }

    /// Lets another thread receive, if it is this thread's turn.
    pub fn hand_over(&'static self) {
        if TURN.get() != 0 && self.take_from(TURN.get()) {
            TURN.set(0);
        }
    }

    /// Lets another thread receive than that with this turn; `false` where there can be no other.
    fn take_from(&'static self, holder: u64) -> bool {
        let mut turn = self.turn();
        if turn.holder == holder {
            if turn.idle == 0 && self.spawn(&mut turn).is_err() {
                // What comes waits until that thread has answered.
                return false;
            }
            self.give(&mut turn, 0);
            self.changed.notify_one();
        }
        true
    }

    /// Takes the turn from a thread that has not come to the point of waiting, or to an answer, for long.
    fn look_after(&'static self) {
        let mut before = (0, 0);
        while !self.turn().has_ended {
            thread::sleep(PERIOD);
            let now = (self.holder.load(Ordering::Relaxed), self.received.load(Ordering::Relaxed));
            if now == before && now.0 != 0 && now.1 != 0 {
                self.is_cautious.store(true, Ordering::Relaxed);
                self.take_from(now.0);
            }
            before = now;
        }
    }
}
