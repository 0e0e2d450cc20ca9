//! What happens, told as stories.

use super::{Run, job, node, requirements, workflow};
use crate::engine::{Conclusion, Effect, Event, JobStatus, Phase};
use crate::ids::{AttemptId, JobId};
use crate::traits::{Outcome, StepSignal, Usage};

#[test]
fn a_job_is_ready_in_the_same_step_as_the_last_completion_it_waited_for() {
    let jobs: &[(&str, &[&str])] = &[("a", &[]), ("b", &[]), ("c", &["a", "b"])];
    let mut run = Run::begin(workflow(jobs), vec![node("n", 2)]);
    assert_eq!(run.dispatch(), ["a", "b"]);
    run.exit("a", 0);
    assert_eq!(run.status("c"), JobStatus::Blocked);
    run.exit("b", 0);
    assert_eq!(run.status("c"), JobStatus::Ready);
    assert_eq!(run.dispatch(), ["c"]);
    run.exit("c", 0);
    assert_eq!(run.engine.conclusion(), Some(Conclusion::Complete));
}

#[test]
fn a_failure_cancels_to_every_depth_but_not_those_who_do_not_mind() {
    let jobs: &[(&str, &[&str])] =
        &[("a", &[]), ("b", &["a"]), ("c", &["b"]), ("cleanup", &["a"]), ("d", &["c", "cleanup"])];
    let mut workflow = workflow(jobs);
    workflow.jobs[3].cancel_on_blocking_job_failure = false;
    let mut run = Run::begin(workflow, vec![node("n", 1)]);
    run.dispatch();
    run.exit("a", 1);
    assert_eq!(run.statuses(), "a=failed b=canceled c=canceled cleanup=ready d=canceled");
}

#[test]
fn a_chain_of_a_hundred_thousand_is_canceled_without_deep_recursion() {
    let mut workflow = workflow(&[("first", &[])]);
    workflow
        .jobs
        .extend((1..100_000).map(|index| job("next", [JobId::from_index(index - 1)].into())));
    let mut run = Run::begin(workflow, vec![node("n", 1)]);
    run.dispatch();
    run.exit("first", 1);
    assert_eq!(run.engine.counts().of(JobStatus::Canceled), 99_999);
}

#[test]
fn a_handler_retries_by_exit_code_and_every_attempt_is_kept() {
    let mut workflow = workflow(&[("a", &[]), ("b", &["a"])]);
    workflow.jobs[0].failure_handler = Some(0);
    let mut run = Run::begin(workflow, vec![node("n", 1)]);
    for attempt in 1..=3 {
        assert_eq!(run.dispatch(), ["a"]);
        assert_eq!(
            run.engine.latest_attempt(run.job("a")).map(|last| last.attempt.0),
            Some(attempt)
        );
        run.exit("a", 42);
    }
    assert_eq!(run.statuses(), "a=failed b=canceled");
    let ends =
        run.engine.attempts().iter().map(|attempt| attempt.end.as_ref().map(|end| end.status));
    assert_eq!(ends.collect::<Vec<_>>(), [Some(JobStatus::Failed); 3]);
}

#[test]
fn what_nobody_ordered_is_retried_without_spending_retries() {
    let mut run = Run::begin(workflow(&[("a", &[])]), vec![node("n", 1)]);
    for _ in 0..5 {
        assert_eq!(run.dispatch(), ["a"]);
        run.end("a", Outcome::Lost);
    }
    assert_eq!(run.dispatch(), ["a"]);
    run.exit("a", 0);
    assert_eq!(run.statuses(), "a=completed");
}

#[test]
fn priorities_go_first_and_then_the_largest() {
    let mut workflow = workflow(&[("small", &[]), ("large", &[]), ("urgent", &[])]);
    workflow.header.requirements.push(requirements(2, 1));
    workflow.jobs[1].requirements = 1;
    workflow.jobs[2].priority = 5;
    let mut run = Run::begin(workflow, vec![node("n", 1)]);
    assert_eq!(run.dispatch(), ["urgent"]);
}

#[test]
fn a_gang_starts_alone_on_whole_nodes_and_all_at_once() {
    let mut workflow = workflow(&[("small", &[]), ("gang", &[])]);
    workflow.header.requirements.push(requirements(1, 2));
    workflow.jobs[1].requirements = 1;
    workflow.jobs[0].priority = 1;
    let mut run = Run::begin(workflow, vec![node("n1", 4), node("n2", 4)]);
    assert_eq!(run.dispatch(), ["small"], "one node is in use");
    run.exit("small", 0);
    assert_eq!(run.dispatch(), ["gang"]);
    let gang = run.engine.latest_attempt(run.job("gang")).expect("it was started");
    assert_eq!((gang.nodes.len(), gang.cpus), (2, 8));
}

#[test]
fn a_report_that_comes_twice_or_late_changes_nothing() {
    let mut run = Run::begin(workflow(&[("a", &[])]), vec![node("n", 1)]);
    run.dispatch();
    run.exit("a", 0);
    let late = |attempt| Event::StepEnded {
        job: JobId(1),
        attempt: AttemptId(attempt),
        at: run.now,
        outcome: Outcome::Exited { code: 1 },
        usage: Usage::default(),
    };
    for event in [late(1), late(2)] {
        assert!(run.engine.apply(&event).is_err());
    }
    assert_eq!(run.statuses(), "a=completed");
}

#[test]
fn canceling_ends_what_runs_and_what_waits() {
    let jobs: &[(&str, &[&str])] = &[("runs", &[]), ("waits", &[]), ("blocked", &["waits"])];
    let mut run = Run::begin(workflow(jobs), vec![node("n", 1)]);
    assert_eq!(run.dispatch(), ["runs"]);
    let effects = run.apply(Event::CancelRequested { at: run.now, jobs: None });
    let signal = StepSignal::Cancel;
    assert_eq!(effects, [Effect::Signal { job: JobId(1), attempt: AttemptId(1), signal }]);
    assert_eq!(
        run.statuses(),
        "runs=running waits=canceled blocked=canceled".replace("running", "pending")
    );
    run.end("runs", Outcome::Cancelled);
    assert_eq!(run.status("runs"), JobStatus::Canceled);
    assert_eq!(run.engine.conclusion(), Some(Conclusion::Complete));
}

#[test]
fn a_job_that_completes_although_it_was_canceled_has_completed() {
    let mut run = Run::begin(workflow(&[("a", &[])]), vec![node("n", 1)]);
    run.dispatch();
    run.apply(Event::CancelRequested { at: run.now, jobs: Some(vec![JobId(1)]) });
    run.exit("a", 0);
    assert_eq!(run.status("a"), JobStatus::Completed);
}

#[test]
fn stopping_puts_jobs_back_and_going_on_runs_them_in_the_same_run() {
    let mut run = Run::begin(workflow(&[("a", &[]), ("b", &[])]), vec![node("n", 1)]);
    assert_eq!(run.dispatch(), ["a"]);
    assert_eq!(run.apply(Event::StopRequested { at: run.now }).len(), 1);
    run.end("a", Outcome::Cancelled);
    assert_eq!(run.dispatch(), Vec::<String>::new());
    assert_eq!(run.engine.conclusion(), Some(Conclusion::Stopped));
    run.apply(Event::RunResumed { at: run.now });
    assert_eq!(run.dispatch(), ["a"]);
    assert_eq!(
        run.engine.latest_attempt(JobId(1)).map(|last| (last.run.0, last.attempt.0)),
        Some((1, 2))
    );
}

#[test]
fn a_restart_runs_what_did_not_complete_and_all_downstream_of_it() {
    let jobs: &[(&str, &[&str])] =
        &[("good", &[]), ("bad", &[]), ("after", &["good", "bad"]), ("report", &["bad"])];
    let mut workflow = workflow(jobs);
    workflow.jobs[3].cancel_on_blocking_job_failure = false;
    let mut run = Run::begin(workflow, vec![node("n", 4)]);
    run.dispatch();
    run.exit("good", 0);
    run.exit("bad", 3);
    run.dispatch();
    run.exit("report", 0);
    assert_eq!(run.statuses(), "good=completed bad=failed after=canceled report=completed");
    run.apply(Event::RunEnded { at: run.now, complete: true });
    assert_eq!(run.engine.phase(), Phase::Ended { complete: true });
    let again = run.engine.unfinished_jobs();
    assert_eq!(again, [(JobId(2), JobId(4))]);
    run.apply(run.engine.next_run(run.now, again));
    assert_eq!(run.statuses(), "good=completed bad=ready after=blocked report=blocked");
    assert_eq!(run.dispatch(), ["bad"]);
    run.exit("bad", 0);
    run.dispatch();
    run.exit("after", 0);
    run.exit("report", 0);
    assert_eq!(run.engine.counts().of(JobStatus::Completed), 4);
}

#[test]
fn when_time_is_up_what_runs_is_told_once_and_terminated() {
    let mut run = Run::begin(workflow(&[("a", &[])]), vec![]);
    let ends_at = Some(run.now + std::time::Duration::from_secs(5));
    let allocation = run.engine.number_allocation(vec![node("n", 1)], [].into(), ends_at);
    let id = allocation.id;
    run.apply(Event::AllocationGranted { at: run.now, began_at: None, allocation });
    assert_eq!(run.dispatch(), ["a"]);
    let later = run.now + std::time::Duration::from_secs(6);
    assert_eq!(run.engine.expiring(later).collect::<Vec<_>>(), [id]);
    let effects = run.apply(Event::AllocationExpired { at: later, allocation: id });
    let signal = StepSignal::TimeUp;
    assert_eq!(effects, [Effect::Signal { job: JobId(1), attempt: AttemptId(1), signal }]);
    assert_eq!(run.engine.expiring(later).count(), 0);
    run.end("a", Outcome::TimedOut { code: None });
    assert_eq!(run.status("a"), JobStatus::Terminated);
}

#[test]
fn a_job_that_fits_nowhere_leaves_the_run_stuck_not_hanging() {
    let mut workflow = workflow(&[("huge", &[]), ("fine", &[])]);
    workflow.header.requirements.push(requirements(64, 1));
    workflow.jobs[0].requirements = 1;
    let mut run = Run::begin(workflow, vec![node("n", 2)]);
    assert_eq!(run.dispatch(), ["fine"]);
    run.exit("fine", 0);
    run.dispatch();
    assert_eq!(run.engine.conclusion(), Some(Conclusion::Stuck));
}

#[test]
fn what_did_not_complete_can_be_put_back_into_the_run_under_way() {
    let jobs: &[(&str, &[&str])] = &[
        ("bad", &[]),
        ("long", &[]),
        ("after", &["bad"]),
        ("both", &["after", "long"]),
        ("minds", &["bad"]),
    ];
    let mut workflow = workflow(jobs);
    workflow.jobs[4].cancel_on_blocking_job_failure = false;
    let mut run = Run::begin(workflow, vec![node("n", 2)]);
    run.dispatch();
    run.exit("bad", 1);
    assert_eq!(run.dispatch(), ["minds"]);
    assert_eq!(run.engine.jobs_to_put_back(), [], "`minds` runs, and depends on what failed");
    run.exit("minds", 0);
    assert_eq!(
        run.statuses(),
        "bad=failed long=pending after=canceled both=canceled minds=completed"
    );
    let jobs = run.engine.jobs_to_put_back();
    run.apply(Event::JobsPutBack { at: run.now, jobs });
    assert_eq!(run.statuses(), "bad=ready long=pending after=blocked both=blocked minds=completed");
    assert_eq!(run.dispatch(), ["bad"]);
    assert_eq!(run.engine.latest_attempt(JobId(1)).map(|last| last.attempt.0), Some(2));
    run.exit("bad", 0);
    run.dispatch();
    for name in ["after", "long"] {
        run.exit(name, 0);
        run.dispatch();
    }
    run.exit("both", 0);
    assert_eq!(run.engine.conclusion(), Some(Conclusion::Complete));
    assert_eq!(run.engine.jobs_to_put_back(), []);
}

#[test]
fn what_runs_keeps_all_that_came_before_it_as_it_is() {
    let jobs: &[(&str, &[&str])] = &[("bad", &[]), ("minds", &["bad"]), ("last", &["minds"])];
    let mut workflow = workflow(jobs);
    workflow.jobs[1].cancel_on_blocking_job_failure = false;
    let mut run = Run::begin(workflow, vec![node("n", 1)]);
    run.dispatch();
    run.exit("bad", 1);
    run.dispatch();
    run.exit("minds", 0);
    assert_eq!(run.dispatch(), ["last"]);
    assert_eq!(run.engine.jobs_to_put_back(), []);
    run.exit("last", 0);
    assert_eq!(run.engine.jobs_to_put_back(), [(JobId(1), JobId(1))]);
}
