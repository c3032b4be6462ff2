//! Signals that would end this process.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag::{register, register_conditional_shutdown};

/// Returns those of some signals that this process does not ignore (proc(5)); it shall ignore the others further, as nohup(1)
/// wants it.
pub fn not_ignored<const COUNT: usize>(signals: [i32; COUNT]) -> io::Result<impl Iterator<Item = i32>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let digits = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = digits.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok()).unwrap_or(0);
    Ok(signals.into_iter().filter(move |signal| ignored >> (signal - 1) & 1 == 0))
}

/// Whether a signal has come that would have ended this process. The second one ends it.
pub struct Interruption(Arc<AtomicBool>);

impl Interruption {
    /// Begins to watch.
    pub fn watch() -> io::Result<Interruption> {
        let has_come = Arc::new(AtomicBool::new(false));
        for signal in not_ignored([SIGINT, SIGTERM, SIGHUP])? {
            // What is registered first is called first.
            register_conditional_shutdown(signal, 128 + signal, Arc::clone(&has_come))?;
            register(signal, Arc::clone(&has_come))?;
        }
        Ok(Interruption(has_come))
    }

    /// Returns whether one has come.
    pub fn has_come(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
