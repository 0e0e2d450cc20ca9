//! How a step's end is called: from how its main process ended and what torc had done to it.
//!
//! Pure, except that the files a step declared are looked for through a closure.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;

use torc_core::traits::Outcome;

/// Why torc made a step end. The first reason stays; later ones only hurry it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Somebody wished it.
    Cancelled,
    /// Its time was up.
    TimeUp,
    /// It used this many bytes, more than it was given.
    OverMemory(u64),
}

/// The outcome of a step whose main process ended with `status`.
///
/// A step that exits by itself keeps its code although it was asked to end (a cancelled one only
/// when the code is 0). Leaving declared files out makes exit code 0 a failure; a cancelled step is
/// then simply cancelled.
pub(crate) fn outcome(
    status: ExitStatus,
    reason: Option<Reason>,
    missing_files: impl FnOnce() -> Vec<Arc<str>>,
) -> Outcome {
    let Some(code) = status.code() else {
        return signaled(status.signal().unwrap_or_default(), reason);
    };
    let missing = if code == 0 { missing_files() } else { Vec::new() };
    match reason {
        Some(Reason::OverMemory(used)) if code != 0 => Outcome::OutOfMemory { used: Some(used) },
        Some(Reason::Cancelled) if code != 0 || !missing.is_empty() => Outcome::Cancelled,
        _ if !missing.is_empty() => Outcome::FilesMissing { files: missing },
        Some(Reason::TimeUp) => Outcome::TimedOut { code: Some(code) },
        Some(Reason::Cancelled | Reason::OverMemory(_)) | None => Outcome::Exited { code },
    }
}

fn signaled(signal: i32, reason: Option<Reason>) -> Outcome {
    match reason {
        None => Outcome::Signaled { signal },
        Some(Reason::Cancelled) => Outcome::Cancelled,
        Some(Reason::TimeUp) => Outcome::TimedOut { code: None },
        Some(Reason::OverMemory(used)) => Outcome::OutOfMemory { used: Some(used) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exited(code: i32) -> ExitStatus {
        ExitStatus::from_raw(code << 8)
    }

    fn check(status: ExitStatus, reason: Option<Reason>, missing: &[&str], expected: &Outcome) {
        let files = || missing.iter().map(|&file| Arc::from(file)).collect();
        assert_eq!(&outcome(status, reason, files), expected, "{status} {reason:?} {missing:?}");
    }

    #[test]
    fn an_exit_keeps_its_code() {
        let (cancel, time) = (Some(Reason::Cancelled), Some(Reason::TimeUp));
        let memory = Some(Reason::OverMemory(7));
        check(exited(0), None, &[], &Outcome::Exited { code: 0 });
        check(exited(3), None, &["x"], &Outcome::Exited { code: 3 });
        check(exited(0), cancel, &[], &Outcome::Exited { code: 0 });
        check(exited(3), cancel, &[], &Outcome::Cancelled);
        check(exited(0), time, &[], &Outcome::TimedOut { code: Some(0) });
        check(exited(3), time, &[], &Outcome::TimedOut { code: Some(3) });
        check(exited(0), memory, &[], &Outcome::Exited { code: 0 });
        check(exited(137), memory, &[], &Outcome::OutOfMemory { used: Some(7) });
    }

    #[test]
    fn a_declared_file_that_is_missing_spoils_code_0_only() {
        let missing = Outcome::FilesMissing { files: vec![Arc::from("x")] };
        check(exited(0), None, &["x"], &missing);
        check(exited(0), Some(Reason::TimeUp), &["x"], &missing);
        check(exited(0), Some(Reason::Cancelled), &["x"], &Outcome::Cancelled);
    }

    #[test]
    fn a_signal_is_torcs_only_if_torc_sent_one() {
        let killed = ExitStatus::from_raw(9);
        check(killed, None, &[], &Outcome::Signaled { signal: 9 });
        check(ExitStatus::from_raw(40), None, &[], &Outcome::Signaled { signal: 40 });
        check(killed, Some(Reason::Cancelled), &[], &Outcome::Cancelled);
        check(killed, Some(Reason::TimeUp), &[], &Outcome::TimedOut { code: None });
        let over = Outcome::OutOfMemory { used: Some(7) };
        check(killed, Some(Reason::OverMemory(7)), &[], &over);
    }
}
