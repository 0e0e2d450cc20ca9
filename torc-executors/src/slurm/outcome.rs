//! How a step's end is called, from the evidence. Pure.
//!
//! What torc itself did to the step comes first, then causes outside the job, then the job's own end. An
//! srun that exits with 0 has not thereby shown that the job ran.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;

use nix::sys::signal::Signal;
use torc_core::traits::{LaunchStage, Outcome};

use super::evidence::Evidence;
use crate::keeper::ending::{self, Reason};

/// Where the allocation stood when a step had ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It goes on, or nothing is known to the contrary.
    Lives,
    /// Slurm takes it away for something else.
    Preempted,
    /// It is over or ending, for another reason; also because its time is up: what runs that long has been
    /// asked to end before, so Slurm only ends what torc could not.
    Ended,
}

/// All that is known of the end of a step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts<'a> {
    /// How srun ended, as its keeper reports it.
    pub(super) srun: &'a Outcome,
    /// What srun had said.
    pub(super) evidence: &'a Evidence,
    /// Why torc made the step end, if it did.
    pub(super) reason: Option<Reason>,
    /// Slurm's own limit for the step had passed when it ended.
    pub(super) has_outlived_limit: bool,
    /// Where the allocation stood; asked for only where that matters ([`needs_standing`]).
    pub(super) standing: Standing,
    /// One of its nodes is no longer good.
    pub(super) has_lost_node: bool,
}

/// Whether the outcome depends on where the allocation and its nodes stand: the step did not succeed,
/// and torc had no hand in that.
pub(super) fn needs_standing(facts: &Facts<'_>) -> bool {
    facts.reason.is_none() && status(facts).is_none_or(|status| !status.success())
}

/// The outcome of a step. `missing_files` are looked for when it exited with 0.
pub(super) fn outcome(facts: &Facts<'_>, missing_files: impl FnOnce() -> Vec<Arc<str>>) -> Outcome {
    match facts.srun {
        // The keeper could not start srun, or is gone itself.
        Outcome::LaunchFailed { .. } | Outcome::Lost => return facts.srun.clone(),
        _ => {}
    }
    let status = status(facts);
    if let Some(reason) = facts.reason {
        // Without a status it was ended before it could have one.
        let status = status.unwrap_or(ExitStatus::from_raw(Signal::SIGKILL as i32));
        return ending::outcome(status, Some(reason), missing_files);
    }
    if status.is_some_and(|status| status.success()) {
        return ending::outcome(ExitStatus::default(), None, missing_files);
    }
    from_outside(facts, status).unwrap_or_else(|| from_inside(facts, status))
}

/// A cause that says nothing about the job.
fn from_outside(facts: &Facts<'_>, status: Option<ExitStatus>) -> Option<Outcome> {
    let evidence = facts.evidence;
    if !evidence.failed_nodes.is_empty() || facts.has_lost_node {
        return Some(Outcome::NodeFailed);
    }
    if !evidence.has_started() && !evidence.unreachable_nodes.is_empty() {
        return Some(Outcome::NodeFailed);
    }
    if evidence.is_step_limit_reached() {
        return Some(Outcome::Cancelled);
    }
    match facts.standing {
        Standing::Preempted => return Some(Outcome::Preempted),
        // As the server calls it where the worker has no time to tell.
        Standing::Ended => return Some(Outcome::Lost),
        Standing::Lives => {}
    }
    if facts.has_outlived_limit {
        return Some(Outcome::TimedOut { code: status.and_then(|status| status.code()) });
    }
    // Somebody killed srun itself; what became of the job is not known.
    matches!(facts.srun, Outcome::Signaled { .. }).then_some(Outcome::Lost)
}

fn from_inside(facts: &Facts<'_>, status: Option<ExitStatus>) -> Outcome {
    let evidence = facts.evidence;
    if evidence.is_out_of_memory {
        return Outcome::OutOfMemory { used: None };
    }
    match status {
        Some(status) => ending::outcome(status, None, Vec::new),
        None if evidence.has_started() => Outcome::Lost,
        None => {
            let (stage, reason) = launch_failure(evidence);
            Outcome::LaunchFailed { stage, reason }
        }
    }
}

fn launch_failure(evidence: &Evidence) -> (LaunchStage, String) {
    if let Some(reason) = &evidence.output_failure {
        return (LaunchStage::Output, format!("srun: {reason}"));
    }
    if let Some(reason) = &evidence.refusal {
        return (LaunchStage::Prepare, format!("Slurm could not create the step: {reason}"));
    }
    let reason = match evidence.complaints.as_slice() {
        [] => "srun ended without having started the job, and said nothing about it".to_owned(),
        complaints => format!("srun did not start the job: {}", complaints.join("; ")),
    };
    (LaunchStage::Execute, reason)
}

/// The wait status of the step: that of the first rank that failed; 0 if all ended with 0. `None`: not
/// all that is needed to say so was seen.
fn status(facts: &Facts<'_>) -> Option<ExitStatus> {
    let evidence = facts.evidence;
    if evidence.is_out_of_memory || !evidence.failed_nodes.is_empty() {
        // Some processes ended otherwise than their ranks say.
        return None;
    }
    if let Some(status) = evidence.failure {
        return Some(ExitStatus::from_raw(i32::try_from(status & 0xffff).unwrap_or_default()));
    }
    let has_ended = evidence.ended > 0 && evidence.ended >= evidence.started;
    match facts.srun {
        Outcome::Exited { code: 0 } if has_ended => Some(ExitStatus::default()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STARTED: &str =
        "srun: launching StepId=4.1 on host n1, 1 tasks: 0\nsrun: x: y: Node n1, 1 tasks started";

    fn ended(status: &str) -> String {
        format!(
            "{STARTED}\nsrun: z: Received task exit notification for 1 task of StepId=4.1 (status=0x{status})."
        )
    }

    /// A step that nothing happened to, unless the test says so.
    struct Case<'a> {
        srun: i32,
        said: &'a str,
        reason: Option<Reason>,
        has_outlived_limit: bool,
        standing: Standing,
        has_lost_node: bool,
        missing: &'a [&'a str],
    }

    impl Case<'_> {
        fn new(srun: i32, said: &str) -> Case<'_> {
            Case {
                srun,
                said,
                reason: None,
                has_outlived_limit: false,
                standing: Standing::Lives,
                has_lost_node: false,
                missing: &[],
            }
        }

        #[track_caller]
        fn check(self, expected: &Outcome) {
            let mut evidence = Evidence::default();
            self.said.lines().for_each(|line| evidence.read(line));
            let facts = Facts {
                srun: &Outcome::Exited { code: self.srun },
                evidence: &evidence,
                reason: self.reason,
                has_outlived_limit: self.has_outlived_limit,
                standing: self.standing,
                has_lost_node: self.has_lost_node,
            };
            let files = || self.missing.iter().map(|&file| Arc::from(file)).collect();
            assert_eq!(&outcome(&facts, files), expected, "{}", self.said);
        }
    }

    fn launch_failed(stage: LaunchStage, reason: &str) -> Outcome {
        Outcome::LaunchFailed { stage, reason: reason.to_owned() }
    }

    #[test]
    fn a_job_keeps_its_own_end() {
        Case::new(0, &ended("0000")).check(&Outcome::Exited { code: 0 });
        Case::new(3, &ended("0300")).check(&Outcome::Exited { code: 3 });
        Case::new(137, &ended("8900")).check(&Outcome::Exited { code: 137 });
        Case::new(137, &ended("0009")).check(&Outcome::Signaled { signal: 9 });
        Case::new(139, &ended("008b")).check(&Outcome::Signaled { signal: 11 });
        let mut case = Case::new(0, "");
        let said = ended("0000");
        (case.said, case.missing) = (&said, &["x"]);
        case.check(&Outcome::FilesMissing { files: vec![Arc::from("x")] });
    }

    #[test]
    fn the_first_rank_that_failed_counts() {
        let said = format!("{}\n{}", ended("0300"), ended("000f"));
        Case::new(143, &said).check(&Outcome::Exited { code: 3 });
        let said = format!("{}\n{}", ended("0000"), ended("0200"));
        Case::new(2, &said).check(&Outcome::Exited { code: 2 });
    }

    #[test]
    fn a_zero_of_srun_is_no_success() {
        let silent = "srun ended without having started the job, and said nothing about it";
        Case::new(0, "").check(&launch_failed(LaunchStage::Execute, silent));
        Case::new(0, STARTED).check(&Outcome::Lost);
        Case::new(3, STARTED).check(&Outcome::Lost);
        let two = format!("{STARTED}\n{}", ended("0000"));
        Case::new(0, &two).check(&Outcome::Lost);
        let failed = format!("{STARTED}\nsrun: error: Node failure on n1");
        Case::new(0, &failed).check(&Outcome::NodeFailed);
    }

    #[test]
    fn what_torc_did_comes_first() {
        let check = |reason, srun, said: &str, expected: &Outcome| {
            let mut case = Case::new(srun, said);
            case.reason = Some(reason);
            case.standing = Standing::Ended;
            case.check(expected);
        };
        let (cancelled, time) = (Reason::Cancelled, Reason::TimeUp);
        check(cancelled, 0, &ended("0000"), &Outcome::Exited { code: 0 });
        check(cancelled, 7, &ended("0700"), &Outcome::Cancelled);
        check(cancelled, 137, &ended("0009"), &Outcome::Cancelled);
        check(cancelled, 1, "", &Outcome::Cancelled);
        check(cancelled, 1, &ended("00fd"), &Outcome::Cancelled);
        check(time, 0, &ended("0000"), &Outcome::TimedOut { code: Some(0) });
        check(time, 7, &ended("0700"), &Outcome::TimedOut { code: Some(7) });
        check(time, 143, &ended("000f"), &Outcome::TimedOut { code: None });
        check(time, 1, "", &Outcome::TimedOut { code: None });
        let failed = format!("{STARTED}\nsrun: error: Node failure on n1");
        check(cancelled, 0, &failed, &Outcome::Cancelled);
    }

    #[test]
    fn out_of_memory_is_not_the_code_of_srun() {
        Case::new(1, &ended("00fd")).check(&Outcome::OutOfMemory { used: None });
        let said = format!("{}\n{}", ended("0009"), ended("00fd"));
        Case::new(137, &said).check(&Outcome::OutOfMemory { used: None });
    }

    #[test]
    fn a_node_that_failed_is_not_the_jobs_fault() {
        let said = format!("{STARTED}\nsrun: error: Node failure on n2\n{}", ended("0009"));
        Case::new(137, &said).check(&Outcome::NodeFailed);
        let said = "srun: error: Task launch for StepId=4.1 failed on node n1: Communication connection failure";
        Case::new(233, said).check(&Outcome::NodeFailed);
        let said = "srun: error: Unable to create step for job 4: Requested node configuration is not available";
        let mut case = Case::new(1, said);
        case.has_lost_node = true;
        case.check(&Outcome::NodeFailed);
        let reason =
            "Slurm could not create the step: Requested node configuration is not available";
        Case::new(1, said).check(&launch_failed(LaunchStage::Prepare, reason));
    }

    #[test]
    fn the_end_of_the_allocation_is_not_the_jobs_fault() {
        let check = |standing, srun, said: &str, expected: &Outcome| {
            let mut case = Case::new(srun, said);
            case.standing = standing;
            case.check(expected);
        };
        check(Standing::Ended, 143, &ended("000f"), &Outcome::Lost);
        check(Standing::Ended, 1, "", &Outcome::Lost);
        check(Standing::Preempted, 143, &ended("000f"), &Outcome::Preempted);
        check(Standing::Ended, 0, &ended("0000"), &Outcome::Exited { code: 0 });
    }

    #[test]
    fn slurms_own_limit_is_a_limit() {
        for (srun, status, code) in [(143, "000f", None), (7, "0700", Some(7))] {
            let said = ended(status);
            let mut case = Case::new(srun, &said);
            case.has_outlived_limit = true;
            case.check(&Outcome::TimedOut { code });
        }
        let said = ended("0000");
        let mut case = Case::new(0, &said);
        case.has_outlived_limit = true;
        case.check(&Outcome::Exited { code: 0 });
    }

    #[test]
    fn what_did_not_start_says_why() {
        let said = "srun: error: Could not open stdout file: No such file or directory";
        let reason = "srun: Could not open stdout file: No such file or directory";
        Case::new(1, said).check(&launch_failed(LaunchStage::Output, reason));
        let said = "srun: error: Invalid --foo\nsrun: error: bye";
        let reason = "srun did not start the job: Invalid --foo; bye";
        Case::new(1, said).check(&launch_failed(LaunchStage::Execute, reason));
    }

    #[test]
    fn an_srun_that_was_killed_knows_nothing() {
        let mut evidence = Evidence::default();
        STARTED.lines().for_each(|line| evidence.read(line));
        let check = |srun: &Outcome, expected: &Outcome| {
            let facts = Facts {
                srun,
                evidence: &evidence,
                reason: None,
                has_outlived_limit: false,
                standing: Standing::Lives,
                has_lost_node: false,
            };
            assert_eq!(&outcome(&facts, Vec::new), expected);
            assert!(needs_standing(&facts));
        };
        check(&Outcome::Signaled { signal: 9 }, &Outcome::Lost);
        check(&Outcome::Lost, &Outcome::Lost);
        let refused = launch_failed(LaunchStage::Output, "no such folder");
        check(&refused, &refused);
    }
}
