//! The threads that answer.
//!
//! One of them receives, and answers what it receives itself: that costs the least. Before it waits
//! for a device, or copies much while another call is there already, it lets another thread receive,
//! and there are as many threads as it takes: a call that has not been received can be interrupted by
//! a signal, and a listed device may be served by a process of the tree that must be answered first.
//!
//! To wake a thread costs as much as a short call. So the one that has waited for a device receives
//! again, beside the other: while each call waits, two receive in turn, and neither wakes the other.

use std::cell::Cell;
use std::fs::File;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::call;
use crate::notify::Listener;
use crate::policy::Policy;
use crate::registry::Registry;

/// The most threads that wait for work.
const MOST_IDLE: usize = 4;

/// The most threads that receive at the same time.
const MOST_TURNS: usize = 2;

/// The threads, and what they work with.
pub struct Pool {
    pub listener: Listener,
    pub registry: Registry,
    pub policy: Policy,
    /// Where a line about each answered call is written.
    pub messages: Option<File>,
    turn: Mutex<Turn>,
    changed: Condvar,
}

struct Turn {
    /// How many threads receive, now or when they have answered.
    taken: usize,
    /// How many wait for that.
    idle: usize,
    /// Whether nothing more will come.
    has_ended: bool,
}

thread_local! {
    /// Whether it is this thread's turn to receive.
    static HAS_TURN: Cell<bool> = const { Cell::new(false) };
}

impl Pool {
    /// Puts together what the threads work with.
    pub fn new(listener: Listener, registry: Registry, policy: Policy, messages: Option<File>) -> Pool {
        let turn = Turn { taken: 0, idle: 0, has_ended: false };
        Pool { listener, registry, policy, messages, turn: Mutex::new(turn), changed: Condvar::new() }
    }

    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Receives and answers until no process of the tree is left, or until enough threads wait.
    pub fn serve(&'static self) {
        while self.take_turn() {
            loop {
                let Some(notification) = self.listener.receive() else {
                    HAS_TURN.set(false);
                    self.turn().has_ended = true;
                    self.changed.notify_all();
                    return;
                };
                if let Some(reply) = call::answer(self, &notification) {
                    self.listener.answer(notification.id, reply);
                }
                if !self.receives_again() {
                    break;
                }
            }
        }
    }

    /// Waits until it is this thread's turn; `false` where it is not needed any more.
    fn take_turn(&self) -> bool {
        let mut turn = self.turn();
        if turn.taken > 0 && turn.idle >= MOST_IDLE {
            return false;
        }
        turn.idle += 1;
        while turn.taken > 0 && !turn.has_ended {
            turn = self.changed.wait(turn).unwrap_or_else(PoisonError::into_inner);
        }
        turn.idle -= 1;
        if turn.has_ended {
            return false;
        }
        turn.taken += 1;
        HAS_TURN.set(true);
        true
    }

    /// Returns whether this thread receives again when it has answered: one that has waited does, beside
    /// another; one that has not is not needed beside another.
    fn receives_again(&self) -> bool {
        let mut turn = self.turn();
        let had = HAS_TURN.replace(false);
        turn.taken -= usize::from(had);
        let again = turn.taken == 0 || !had && turn.taken < MOST_TURNS;
        turn.taken += usize::from(again);
        HAS_TURN.set(again);
        again
    }

    /// Lets another thread receive what is there already.
    pub fn share(&'static self) {
        if HAS_TURN.get() && self.listener.has_more() {
            self.hand_over();
        }
    }

    /// Lets another thread receive, if it is this thread's turn.
    pub fn hand_over(&'static self) {
        if !HAS_TURN.get() {
            return;
        }
        let mut turn = self.turn();
        let is_last = turn.taken == 1;
        if is_last && turn.idle == 0 {
            // It finds the turn free when this thread has given it up.
            let spawned = thread::Builder::new().spawn(|| self.serve());
            if spawned.is_err() {
                // What comes waits until this thread has answered.
                return;
            }
        }
        HAS_TURN.set(false);
        turn.taken -= 1;
        drop(turn);
        if is_last {
            self.changed.notify_one();
        }
    }
}
