//! Slurm's words for the state of a job, as states of an allocation.
//!
//! Pure. A word that is not known says nothing about the allocation, and never that it has ended. The
//! words are those of squeue(1) and sacct(1), JOB STATE CODES.

use torc_core::time::Timestamp;
use torc_core::traits::{AllocationEnd, AllocationState};

/// What Slurm says about a job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobWords<'a> {
    /// Its state: `RUNNING`, `CANCELLED by 1000`.
    pub state: &'a str,
    /// The reason: `Resources`, `None`, `ReqNodeNotAvail, UnavailableNodes:n1`.
    pub reason: &'a str,
    /// When it started or is expected to.
    pub start: Option<Timestamp>,
    /// When it ended or is expected to.
    pub end: Option<Timestamp>,
}

/// Where a job stands.
pub fn read(job: &JobWords<'_>) -> AllocationState {
    // sacct says by whom a job was cancelled; a longer list of flags would have commas.
    let word = job.state.split([' ', ',', '+']).next().unwrap_or_default();
    match word {
        "PENDING" | "EXPEDITING" => pending(job, reason(job)),
        // Back in the queue, or about to be: torc asks for --no-requeue, an administrator may insist.
        "REQUEUED" | "REQUEUE_HOLD" | "REQUEUE_FED" | "SPECIAL_EXIT" | "RESV_DEL_HOLD" => {
            pending(job, full_words(job))
        }
        "CONFIGURING" | "POWER_UP_NODE" => AllocationState::Configuring,
        "RUNNING" | "SIGNALING" | "RESIZING" => AllocationState::Running { ends_at: job.end },
        "SUSPENDED" | "STOPPED" => AllocationState::Suspended,
        "COMPLETING" | "STAGE_OUT" => AllocationState::Completing,
        _ => match end(word) {
            Some(cause) => AllocationState::Ended { cause, reason: full_words(job) },
            // REVOKED is one of these: a sibling in another cluster of a federation has taken over, and
            // what becomes of it is not said here.
            None => AllocationState::Unclear { words: full_words(job) },
        },
    }
}

/// Where a job stands that only the accounting knows. It is no longer in the queue, so that a state of
/// living jobs there is merely late, and says nothing.
pub fn read_from_accounting(job: &JobWords<'_>) -> AllocationState {
    match read(job) {
        ended @ AllocationState::Ended { .. } => ended,
        _ => AllocationState::Unknown,
    }
}

fn end(word: &str) -> Option<AllocationEnd> {
    Some(match word {
        "COMPLETED" => AllocationEnd::Completed,
        "FAILED" => AllocationEnd::Failed,
        "TIMEOUT" | "DEADLINE" => AllocationEnd::TimedOut,
        "CANCELLED" => AllocationEnd::Cancelled,
        "NODE_FAIL" | "BOOT_FAIL" | "LAUNCH_FAILED" => AllocationEnd::NodeFailed,
        "PREEMPTED" => AllocationEnd::Preempted,
        "OUT_OF_MEMORY" => AllocationEnd::OutOfMemory,
        _ => return None,
    })
}

fn pending(job: &JobWords<'_>, reason: String) -> AllocationState {
    AllocationState::Pending { reason, expected_start: job.start }
}

/// Slurm writes `None` where it has no reason.
fn reason(job: &JobWords<'_>) -> String {
    match job.reason.trim() {
        "" | "None" | "(null)" => String::new(),
        reason => reason.to_owned(),
    }
}

fn full_words(job: &JobWords<'_>) -> String {
    let (state, reason) = (job.state.trim(), reason(job));
    if reason.is_empty() { state.to_owned() } else { format!("{state}: {reason}") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: Timestamp = Timestamp(1_000);
    const END: Timestamp = Timestamp(2_000);

    fn job<'a>(state: &'a str, reason: &'a str) -> JobWords<'a> {
        JobWords { state, reason, start: Some(START), end: Some(END) }
    }

    fn check(state: &str, reason: &str, expected: &AllocationState) {
        assert_eq!(read(&job(state, reason)), *expected, "{state} {reason}");
    }

    #[test]
    fn what_waits_is_pending_with_its_reason() {
        let pending = |reason: &str| AllocationState::Pending {
            reason: reason.to_owned(),
            expected_start: Some(START),
        };
        check("PENDING", "Resources", &pending("Resources"));
        check("PENDING", "Priority", &pending("Priority"));
        check("PENDING", "QOSMaxJobsPerUserLimit", &pending("QOSMaxJobsPerUserLimit"));
        let nodes = "ReqNodeNotAvail, UnavailableNodes:node[1-4]";
        check("PENDING", nodes, &pending(nodes));
        check("PENDING", "None", &pending(""));
        check("REQUEUED", "None", &pending("REQUEUED"));
        check("REQUEUE_FED", "(null)", &pending("REQUEUE_FED"));
        check(
            "REQUEUE_HOLD",
            "job_requeued_in_held_state",
            &pending("REQUEUE_HOLD: job_requeued_in_held_state"),
        );
        check("SPECIAL_EXIT", "", &pending("SPECIAL_EXIT"));
        check("RESV_DEL_HOLD", "ReservationDeleted", &pending("RESV_DEL_HOLD: ReservationDeleted"));
        check("EXPEDITING", "Resources", &pending("Resources"));
    }

    #[test]
    fn what_has_nodes_is_alive() {
        let running = AllocationState::Running { ends_at: Some(END) };
        for state in ["RUNNING", "SIGNALING", "RESIZING"] {
            check(state, "None", &running);
        }
        for state in ["CONFIGURING", "POWER_UP_NODE"] {
            check(state, "None", &AllocationState::Configuring);
        }
        for state in ["SUSPENDED", "STOPPED"] {
            check(state, "None", &AllocationState::Suspended);
        }
        for state in ["COMPLETING", "STAGE_OUT"] {
            check(state, "None", &AllocationState::Completing);
        }
    }

    #[test]
    fn what_is_over_says_how() {
        let ended =
            |cause, reason: &str| AllocationState::Ended { cause, reason: reason.to_owned() };
        check("COMPLETED", "None", &ended(AllocationEnd::Completed, "COMPLETED"));
        check(
            "FAILED",
            "NonZeroExitCode",
            &ended(AllocationEnd::Failed, "FAILED: NonZeroExitCode"),
        );
        check("TIMEOUT", "TimeLimit", &ended(AllocationEnd::TimedOut, "TIMEOUT: TimeLimit"));
        check("DEADLINE", "None", &ended(AllocationEnd::TimedOut, "DEADLINE"));
        check("CANCELLED", "None", &ended(AllocationEnd::Cancelled, "CANCELLED"));
        check("CANCELLED by 0", "None", &ended(AllocationEnd::Cancelled, "CANCELLED by 0"));
        check("NODE_FAIL", "NodeDown", &ended(AllocationEnd::NodeFailed, "NODE_FAIL: NodeDown"));
        check("BOOT_FAIL", "None", &ended(AllocationEnd::NodeFailed, "BOOT_FAIL"));
        check("LAUNCH_FAILED", "None", &ended(AllocationEnd::NodeFailed, "LAUNCH_FAILED"));
        check("PREEMPTED", "None", &ended(AllocationEnd::Preempted, "PREEMPTED"));
        check(
            "OUT_OF_MEMORY",
            "OutOfMemory",
            &ended(AllocationEnd::OutOfMemory, "OUT_OF_MEMORY: OutOfMemory"),
        );
    }

    #[test]
    fn unknown_words_say_nothing() {
        let unclear = |words: &str| AllocationState::Unclear { words: words.to_owned() };
        check("REVOKED", "None", &unclear("REVOKED"));
        check("UPDATE_DB", "None", &unclear("UPDATE_DB"));
        check("HIBERNATED", "Winter", &unclear("HIBERNATED: Winter"));
        check("", "None", &unclear(""));
        check("running", "None", &unclear("running"));
        check("RUNNINGX", "None", &unclear("RUNNINGX"));
    }

    #[test]
    fn late_accounting_says_nothing() {
        for state in ["PENDING", "RUNNING", "COMPLETING", "SUSPENDED", "REQUEUED", "FUTURE"] {
            assert_eq!(
                read_from_accounting(&job(state, "None")),
                AllocationState::Unknown,
                "{state}"
            );
        }
        let found = read_from_accounting(&job("CANCELLED by 1000", "None"));
        let expected = AllocationState::Ended {
            cause: AllocationEnd::Cancelled,
            reason: "CANCELLED by 1000".to_owned(),
        };
        assert_eq!(found, expected);
    }

    proptest! {
        #[test]
        fn no_words_make_it_panic(state in "\\PC*", reason in "\\PC*") {
            let _ = read(&job(&state, &reason));
        }
    }
}
