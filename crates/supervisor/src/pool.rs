//! The threads that answer.
//!
//! One of them receives, and answers what it receives itself: that costs the least. Before it waits
//! for a device, or when another call is there already, it lets another thread receive, and there are
//! as many threads as it takes: a call that has not been received can be interrupted by a signal, and
//! a listed device may be served by a process of the tree that must be answered first.

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
    /// Whether a thread receives.
    is_taken: bool,
    /// How many wait for it, or will in a moment.
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
        // The first thread is about to be started.
        let turn = Turn { is_taken: false, idle: 1, has_ended: false };
        Pool { listener, registry, policy, messages, turn: Mutex::new(turn), changed: Condvar::new() }
    }

    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Receives and answers, as one of those that wait, until no process of the tree is left, or until
    /// enough threads wait.
    pub fn serve(&'static self) {
        while self.take_turn() {
            while HAS_TURN.get() {
                let Some(notification) = self.listener.receive() else {
                    HAS_TURN.set(false);
                    self.turn().has_ended = true;
                    self.changed.notify_all();
                    return;
                };
                if self.listener.has_more() {
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
        let mut turn = self.turn();
        while turn.is_taken && !turn.has_ended {
            turn = self.changed.wait(turn).unwrap_or_else(PoisonError::into_inner);
        }
        turn.idle -= 1;
        if turn.has_ended {
            return false;
        }
        turn.is_taken = true;
        HAS_TURN.set(true);
        true
    }

    /// Lets another thread receive, if it is this thread's turn.
    pub fn hand_over(&'static self) {
        if !HAS_TURN.get() {
            return;
        }
        let mut turn = self.turn();
        if turn.idle == 0 {
            // It finds the turn free when this thread has given it up.
            let spawned = thread::Builder::new().spawn(|| self.serve());
            if spawned.is_err() {
                // What comes waits until this thread has answered.
                return;
            }
            turn.idle += 1;
        }
        HAS_TURN.set(false);
        turn.is_taken = false;
        drop(turn);
        self.changed.notify_one();
    }
}
