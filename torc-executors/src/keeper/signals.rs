//! The signal state of the keeper, and thereby of its jobs.
//!
//! All signals are blocked, so that none ends the keeper but SIGKILL; ends of children are read from
//! a descriptor. Jobs get an empty mask from the standard library's spawn. A signal that torc was
//! started with as ignored (`nohup`, a shell's `&`) would stay ignored in jobs, where a shell could
//! not even trap it, so those are given a handler that is never called: `execve` resets handled
//! signals to their default.

use std::io;

use nix::sys::signal::{SigSet, Signal};
use tokio::signal::unix::{SignalKind, signal};

/// The set of SIGCHLD alone.
pub(super) fn child() -> SigSet {
    SigSet::from(Signal::SIGCHLD)
}

/// Blocks all signals and makes sure that jobs will not inherit an ignored one.
///
/// # Errors
/// When the operating system refuses either.
pub(super) fn prepare() -> io::Result<()> {
    SigSet::all().thread_block()?;
    let ignored = ignored_signals(&std::fs::read_to_string("/proc/self/status")?);
    // The standard library ignores SIGPIPE itself, and resets it when it spawns.
    let inherited = ignored.into_iter().filter(|&number| number != Signal::SIGPIPE as i32);
    let inherited: Vec<i32> = inherited.collect();
    if inherited.is_empty() {
        return Ok(());
    }
    // Only for the registration: the handlers stay when the runtime is dropped.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let _entered = runtime.enter();
    for number in inherited {
        let _handled = signal(SignalKind::from_raw(number))?;
    }
    Ok(())
}

/// The numbers of the standard signals in the `SigIgn` mask of `proc_pid_status(5)`.
fn ignored_signals(status: &str) -> Vec<i32> {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    (1..32).filter(|number| mask & (1 << (number - 1)) != 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_is_read() {
        assert_eq!(ignored_signals("Name:\tx\nSigIgn:\t0000000000001007\n"), [1, 2, 3, 13]);
        assert_eq!(ignored_signals("Name:\tx\n"), [0_i32; 0]);
    }
}
