//! What the end of an attempt means for its job: the outcome and the failure handlers in, a change
//! of status out.

use crate::traits::Outcome;
use crate::workflow::{ExecutionConfig, FailureHandler, FailureRule};

use super::status::{Change, JobStatus};

const SIGNAL_CODE_BASE: i32 = 128;

/// The number that people and failure handlers know an outcome by. `None` where nothing ran to an
/// end of its own, or nobody saw it.
pub fn return_code(outcome: &Outcome, execution: &ExecutionConfig) -> Option<i32> {
    match outcome {
        Outcome::Exited { code } => Some(*code),
        Outcome::Signaled { signal } => Some(SIGNAL_CODE_BASE + signal),
        Outcome::FilesMissing { .. } => Some(0),
        Outcome::TimedOut { code } => Some(code.unwrap_or(execution.timeout_exit_code)),
        Outcome::OutOfMemory { .. } => Some(execution.oom_exit_code),
        Outcome::LaunchFailed { .. }
        | Outcome::NodeFailed
        | Outcome::Preempted
        | Outcome::Cancelled
        | Outcome::Lost => None,
    }
}

/// What an attempt alone amounts to, before anything is tried again.
pub(super) fn attempt_status(outcome: &Outcome) -> JobStatus {
    match outcome {
        Outcome::Exited { code: 0 } | Outcome::TimedOut { code: Some(0) } => JobStatus::Completed,
        Outcome::TimedOut { .. } => JobStatus::Terminated,
        Outcome::Cancelled => JobStatus::Canceled,
        _ => JobStatus::Failed,
    }
}

/// What the job's situation adds to the outcome.
pub(super) struct Situation<'a> {
    pub(super) handler: Option<&'a FailureHandler>,
    /// Retries that failure handlers were already granted in this run.
    pub(super) retries: u32,
    /// Somebody wished this very job ended.
    pub(super) cancel_requested: bool,
}

/// A change of status, and whether a retry of the user's was spent on it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) change: Change,
    pub(super) spends_retry: bool,
}

pub(super) fn verdict(
    outcome: &Outcome,
    execution: &ExecutionConfig,
    situation: &Situation<'_>,
) -> Verdict {
    let change = |change| Verdict { change, spends_retry: false };
    match outcome {
        Outcome::Exited { code: 0 } | Outcome::TimedOut { code: Some(0) } => {
            change(Change::Completed)
        }
        _ if situation.cancel_requested => change(Change::Canceled),
        // Nobody wished this job ended: torc itself is stopping, or a cause outside the job ended
        // it. It runs again, and the user's retries are not spent.
        outcome if outcome.came_from_outside() => change(Change::Requeued),
        _ if may_retry(outcome, execution, situation) => {
            Verdict { change: Change::Requeued, spends_retry: true }
        }
        Outcome::TimedOut { .. } => change(Change::TimedOut),
        _ => change(Change::Failed),
    }
}

/// What is run before a job is tried again after this outcome, if its handler says so.
pub(super) fn script_for<'a>(
    outcome: &Outcome,
    execution: &ExecutionConfig,
    handler: Option<&'a FailureHandler>,
) -> Option<&'a str> {
    rule_for(handler?, return_code(outcome, execution))?.recovery_script.as_deref()
}

fn may_retry(outcome: &Outcome, execution: &ExecutionConfig, situation: &Situation<'_>) -> bool {
    let code = return_code(outcome, execution).filter(|code| *code != 0);
    situation
        .handler
        .and_then(|handler| rule_for(handler, code))
        .is_some_and(|rule| situation.retries < rule.max_retries)
}

/// The first rule that lists the code, else the first that matches all.
fn rule_for(handler: &FailureHandler, code: Option<i32>) -> Option<&FailureRule> {
    handler
        .rules
        .iter()
        .find(|rule| code.is_some_and(|code| rule.exit_codes.contains(&code)))
        .or_else(|| handler.rules.iter().find(|rule| rule.match_all_exit_codes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traits::LaunchStage;

    fn rule(exit_codes: &[i32], match_all_exit_codes: bool, max_retries: u32) -> FailureRule {
        FailureRule {
            exit_codes: exit_codes.to_vec(),
            match_all_exit_codes,
            recovery_script: None,
            max_retries,
        }
    }

    fn check(outcome: Outcome, retries: u32, cancel_requested: bool, expected: (Change, bool)) {
        let handler = FailureHandler {
            name: "h".into(),
            rules: vec![rule(&[], true, 1), rule(&[7, 137], false, 3)],
        };
        let situation = Situation { handler: Some(&handler), retries, cancel_requested };
        let found = verdict(&outcome, &ExecutionConfig::default(), &situation);
        assert_eq!((found.change, found.spends_retry), expected, "{outcome:?} after {retries}");
    }

    #[test]
    fn retries_follow_the_first_rule_that_lists_the_code() {
        let exited = |code| Outcome::Exited { code };
        check(exited(0), 0, false, (Change::Completed, false));
        check(exited(7), 2, false, (Change::Requeued, true));
        check(exited(7), 3, false, (Change::Failed, false));
        check(exited(8), 0, false, (Change::Requeued, true));
        check(exited(8), 1, false, (Change::Failed, false));
        check(Outcome::OutOfMemory { used: None }, 2, false, (Change::Requeued, true));
        check(Outcome::Signaled { signal: 9 }, 2, false, (Change::Requeued, true));
        let failed =
            Outcome::LaunchFailed { stage: LaunchStage::Execute, reason: "no such file".into() };
        check(failed.clone(), 0, false, (Change::Requeued, true));
        check(failed, 1, false, (Change::Failed, false));
    }

    #[test]
    fn causes_outside_the_job_spend_no_retry() {
        for outcome in [Outcome::Lost, Outcome::NodeFailed, Outcome::Preempted, Outcome::Cancelled]
        {
            check(outcome.clone(), 9, false, (Change::Requeued, false));
            check(outcome, 9, true, (Change::Canceled, false));
        }
    }

    #[test]
    fn a_time_limit_terminates_unless_the_job_completed() {
        let timed_out = |code| Outcome::TimedOut { code };
        check(timed_out(None), 9, false, (Change::TimedOut, false));
        check(timed_out(Some(3)), 9, false, (Change::TimedOut, false));
        check(timed_out(Some(0)), 9, false, (Change::Completed, false));
        check(timed_out(Some(7)), 0, false, (Change::Requeued, true));
        check(timed_out(None), 0, true, (Change::Canceled, false));
    }

    #[test]
    fn codes_and_statuses_of_attempts_are_those_of_the_contract() {
        use JobStatus::{Canceled, Completed, Failed, Terminated};
        let execution = ExecutionConfig::default();
        for (outcome, code, status) in [
            (Outcome::Exited { code: 0 }, Some(0), Completed),
            (Outcome::Exited { code: 3 }, Some(3), Failed),
            (Outcome::Signaled { signal: 11 }, Some(139), Failed),
            (Outcome::FilesMissing { files: Vec::new() }, Some(0), Failed),
            (Outcome::OutOfMemory { used: Some(1) }, Some(137), Failed),
            (Outcome::TimedOut { code: None }, Some(152), Terminated),
            (Outcome::TimedOut { code: Some(5) }, Some(5), Terminated),
            (Outcome::TimedOut { code: Some(0) }, Some(0), Completed),
            (Outcome::Cancelled, None, Canceled),
            (Outcome::Lost, None, Failed),
        ] {
            let found = (return_code(&outcome, &execution), attempt_status(&outcome));
            assert_eq!(found, (code, status), "{outcome:?}");
        }
    }
}
