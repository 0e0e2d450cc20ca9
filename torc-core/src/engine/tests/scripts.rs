//! Recovery scripts: what waits for them, and what their ends mean.

use super::{Run, node, placer, workflow};
use crate::engine::{
    Conclusion, Effect, Engine, Event, FailedLaunch, JobStatus, LaunchContext, WaitCause,
};
use crate::ids::{AttemptId, JobId, WorkflowId};
use crate::traits::Outcome;
use crate::workflow::{Action, ActionKind, Trigger, Workflow};

/// `a`, which is tried again twice after code 42, each time after a script, and `b`, which needs it.
fn with_script() -> Workflow {
    let mut workflow = workflow(&[("a", &[]), ("b", &["a"])]);
    workflow.jobs[0].failure_handler = Some(0);
    workflow.header.failure_handlers[0].rules[0].recovery_script = Some("repair".into());
    workflow
}

fn first(attempt: u32) -> FailedLaunch {
    FailedLaunch { job: JobId(1), attempt: AttemptId(attempt) }
}

impl Run {
    /// Begins the scripts that are to be begun.
    fn recover(&mut self) -> Vec<Effect> {
        let (events, effects) = self.engine.begin_recoveries(self.now);
        self.log.extend(events);
        effects
    }

    fn end_script(&mut self, attempt: u32, code: i32) {
        let FailedLaunch { job, attempt } = first(attempt);
        self.later(5);
        self.apply(Event::RecoveryEnded { at: self.now, job, attempt, code });
    }

    /// Whether a replay is where this is.
    #[track_caller]
    fn replays(&self) {
        let again = self.replayed();
        let statuses = |engine: &Engine| [JobId(1), JobId(2)].map(|job| engine.status(job));
        assert_eq!(statuses(&again), statuses(&self.engine));
        let under_way = |engine: &Engine| engine.recoveries_under_way().collect::<Vec<_>>();
        assert_eq!(under_way(&again), under_way(&self.engine));
        assert_eq!(again.counts(), self.engine.counts());
        assert_eq!(again.conclusion(), self.engine.conclusion());
    }
}

/// `a` has failed once, and its script is under way.
fn failed_once() -> Run {
    let mut run = Run::begin(with_script(), vec![node("n", 1)]);
    run.dispatch();
    run.exit("a", 42);
    assert_eq!(run.recover(), [Effect::RunRecovery(first(1))]);
    run
}

#[test]
fn a_job_is_ready_again_after_its_script() {
    let mut run = failed_once();
    assert_eq!(run.statuses(), "a=blocked b=blocked");
    assert_eq!(run.dispatch(), [""; 0]);
    assert_eq!(run.recover(), [], "it is under way");
    assert_eq!(run.engine.conclusion(), None);
    assert!(run.engine.is_idle(run.engine.live_allocations().next().expect("one").id));
    run.replays();
    run.end_script(1, 0);
    assert_eq!(run.dispatch(), ["a"]);
    run.replays();
    run.exit("a", 42);
    assert_eq!(run.recover(), [Effect::RunRecovery(first(2))]);
    run.end_script(2, 0);
    run.dispatch();
    run.exit("a", 42);
    assert_eq!(run.recover(), [], "no retry is left");
    assert_eq!(run.statuses(), "a=failed b=canceled");
    assert_eq!(run.engine.attempts().len(), 3, "each is kept");
    run.replays();
}

#[test]
fn a_job_whose_script_fails_has_failed() {
    let mut run = failed_once();
    run.end_script(1, 3);
    assert_eq!(run.statuses(), "a=failed b=canceled");
    assert_eq!(run.engine.conclusion(), Some(Conclusion::Complete));
    run.replays();
    run.apply(Event::RunEnded { at: run.now, complete: true });
    run.start();
    assert_eq!(run.dispatch(), ["a"], "a new run begins anew");
}

#[test]
fn a_job_that_is_lost_is_tried_again_without_its_script() {
    let mut run = Run::begin(with_script(), vec![node("n", 1)]);
    run.dispatch();
    run.end("a", Outcome::Lost);
    assert_eq!(run.recover(), []);
    assert_eq!(run.dispatch(), ["a"]);
    run.exit("a", 1);
    assert_eq!((run.recover().len(), run.status("a")), (0, JobStatus::Failed), "no rule is for 1");
}

#[test]
fn the_end_of_another_attempts_script_means_nothing() {
    let mut run = failed_once();
    let end = |attempt| Event::RecoveryEnded {
        at: run.now,
        job: JobId(1),
        attempt: AttemptId(attempt),
        code: 0,
    };
    let (ended, other) = (end(1), end(2));
    assert!(run.engine.apply(&other).is_err());
    run.apply(ended.clone());
    assert!(run.engine.apply(&ended).is_err());
    assert_eq!(run.status("a"), JobStatus::Ready);
    let again = Event::RecoveryBegan { at: run.now, job: JobId(1), attempt: AttemptId(1) };
    assert!(run.engine.apply(&again).is_err(), "it has had its turn");
}

#[test]
fn a_script_is_ended_with_its_job() {
    let mut run = failed_once();
    let cancel = Event::CancelRequested { at: run.now, jobs: Some(vec![JobId(1)]) };
    assert_eq!(run.apply(cancel), [Effect::EndRecovery(first(1))]);
    assert_eq!(run.statuses(), "a=canceled b=canceled");
    assert_eq!(run.engine.conclusion(), Some(Conclusion::Complete));
    let late =
        Event::RecoveryEnded { at: run.now, job: JobId(1), attempt: AttemptId(1), code: 143 };
    assert!(run.engine.apply(&late).is_err());
    run.replays();
}

#[test]
fn a_script_that_was_interrupted_runs_again() {
    let mut run = failed_once();
    run.apply(Event::StopRequested { at: run.now });
    assert_eq!(run.engine.conclusion(), Some(Conclusion::Stopped));
    run.later(100);
    run.apply(Event::RunResumed { at: run.now });
    assert_eq!(run.engine.recoveries_under_way().collect::<Vec<_>>(), [first(1)]);
    run.end_script(1, 0);
    assert_eq!(run.dispatch(), ["a"]);
}

/// A crash may come between the end of a launch and the beginning of its script.
#[test]
fn a_script_that_had_not_begun_begins_in_a_replay() {
    let mut run = Run::begin(with_script(), vec![node("n", 1)]);
    run.dispatch();
    run.exit("a", 42);
    let mut again = run.replayed();
    assert_eq!(again.begin_recoveries(run.now).1, [Effect::RunRecovery(first(1))]);
}

/// Before scripts were run there were no events of them.
#[test]
fn an_old_log_means_what_it_meant() {
    let mut run = Run::begin(with_script(), vec![node("n", 1)]);
    for _ in 0..2 {
        run.dispatch();
        run.exit("a", 42);
    }
    assert_eq!(run.dispatch(), ["a"]);
    let mut again =
        Engine::replay(WorkflowId(1), run.engine.workflow().clone(), placer(), run.log.clone())
            .expect("the log replays");
    assert_eq!(again.status(JobId(1)), JobStatus::Pending);
    assert_eq!(again.begin_recoveries(run.now), (vec![], vec![]));
}

#[test]
fn what_a_job_needs_that_waits_for_its_script_is_not_begun_anew() {
    let jobs: &[(&str, &[&str])] = &[("d", &[]), ("a", &["d"]), ("e", &[])];
    let mut workflow = workflow(jobs);
    workflow.jobs[1].failure_handler = Some(0);
    workflow.jobs[1].cancel_on_blocking_job_failure = false;
    workflow.header.failure_handlers[0].rules[0].recovery_script = Some("repair".into());
    let mut run = Run::begin(workflow, vec![node("n", 2)]);
    run.dispatch();
    run.exit("d", 1);
    run.exit("e", 1);
    run.dispatch();
    run.exit("a", 42);
    run.recover();
    assert_eq!(run.engine.jobs_to_put_back(), [(JobId(3), JobId(3))]);
}

#[test]
fn a_job_that_waits_for_its_script_has_become_ready() {
    let action = |trigger| Action {
        trigger,
        persistent: false,
        kind: ActionKind::RunCommands(vec!["say".into()]),
    };
    let mut workflow = with_script();
    let both = [JobId(1), JobId(2)];
    workflow.header.actions = vec![
        action(Trigger::OnJobsReady(both.into())),
        action(Trigger::OnJobsComplete(both.into())),
    ];
    workflow.jobs[1].depends_on = [].into();
    let mut run = Run::begin(workflow, vec![node("n", 1)]);
    run.engine.dispatch(run.now, 0);
    assert_eq!(run.act().0, ["action 0"]);
    let mut run = failed_once();
    assert!(run.engine.has_become_ready(JobId(1)));
    assert!(!run.engine.has_become_ready(JobId(2)));
    assert_eq!(run.act().0, [""; 0]);
}

#[test]
fn what_is_waited_for_is_told() {
    let run = failed_once();
    let since = run.now;
    let told = run.engine.waiting(JobId(1), run.now);
    assert_eq!(told, Some(WaitCause::Recovering { attempt: AttemptId(1), since }));
    let text = serde_json::to_string(&told).expect("it serializes");
    assert_eq!(text, format!(r#"{{"waiting":"recovering","attempt":1,"since":{}}}"#, since.0));
    assert_eq!(run.engine.waiting(JobId(2), run.now), None);
}

#[test]
fn a_script_knows_what_failed() {
    let run = failed_once();
    let context = LaunchContext { output_dir: "/out".into(), submission_dir: "/here".into() };
    let script = run.engine.recovery_script(first(1), &context).expect("it is under way");
    assert_eq!((&*script.text, &*script.working_dir), ("repair", "/here"));
    assert_eq!(script.output, "/out/job_stdio/job_wf1_j1_r1_a1.recovery.log");
    let env: Vec<String> =
        script.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    for expected in [
        "TORC_WORKFLOW_ID=1",
        "TORC_JOB_ID=1",
        "TORC_JOB_NAME=a",
        "TORC_RUN_ID=1",
        "TORC_ATTEMPT_ID=1",
        "TORC_RETURN_CODE=42",
        "TORC_OUTPUT_DIR=/out",
        "TORC_WORKFLOW_SUBMISSION_DIR=/here",
    ] {
        assert!(env.iter().any(|one| one == expected), "{expected} of {env:?}");
    }
    assert_eq!(run.engine.recovery_script(first(2), &context), None);
}
