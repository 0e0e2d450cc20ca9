//! The signal state of the keeper, and thereby of its jobs.
//!
//! Ends of children are read from a descriptor, which takes that SIGCHLD is blocked. A job inherits
//! what is blocked and what is ignored, and a shell cannot even trap what it inherited as ignored
//! (from `nohup`, or from a shell's `&`). So nothing is blocked while a job is started, and every
//! signal that would end the keeper, or that it may have inherited as ignored, has a handler that
//! does nothing of consequence: `execve` resets handled signals to their default.

use std::io;

use nix::sys::signal::{SigSet, Signal};
use tokio::signal::unix::{SignalKind, signal};

/// Signals that a handler must not or cannot stand for: faults of the keeper itself, and those that
/// the kernel does not let anybody handle. SIGPIPE is missing too: the standard library ignores it,
/// and resets it when it spawns.
const LEFT_ALONE: [Signal; 10] = [
    Signal::SIGILL,
    Signal::SIGTRAP,
    Signal::SIGABRT,
    Signal::SIGBUS,
    Signal::SIGFPE,
    Signal::SIGKILL,
    Signal::SIGSEGV,
    Signal::SIGSTOP,
    Signal::SIGSYS,
    Signal::SIGPIPE,
];

/// The set of SIGCHLD alone.
pub(super) fn child() -> SigSet {
    SigSet::from(Signal::SIGCHLD)
}

/// Makes this process deaf to what a user may send, and blocks SIGCHLD.
///
/// # Errors
/// When the operating system refuses either.
pub(super) fn prepare() -> io::Result<()> {
    // Only for the registration: the handlers stay when the runtime is dropped.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let _entered = runtime.enter();
    for kind in Signal::iterator().filter(|kind| !LEFT_ALONE.contains(kind)) {
        let _handled = signal(SignalKind::from_raw(kind as i32))?;
    }
    child().thread_set_mask()?;
    Ok(())
}

/// Runs `start` with no signal blocked. The end of a child may go unnoticed meanwhile: look for ended
/// children afterwards.
///
/// # Errors
/// When the operating system refuses to change the mask.
pub(super) fn unblocked<T>(start: impl FnOnce() -> T) -> io::Result<T> {
    SigSet::empty().thread_set_mask()?;
    let result = start();
    child().thread_set_mask()?;
    Ok(result)
}
