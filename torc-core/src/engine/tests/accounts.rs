//! What the scheduler's accounting tells of launches.

use serde_json::json;

use super::allocations::one_at_the_start;
use super::{Run, node, workflow};
use crate::engine::Event;
use crate::ids::{AttemptId, JobId, RunId, StepId, WorkflowId};
use crate::time::Timestamp;
use crate::traits::{AllocationEnd, AllocationHandle, StepAccount, Usage};

#[test]
fn what_an_attempt_used_is_known_later() {
    let mut run = one_at_the_start(&[("a", &[])]);
    run.submit(1);
    run.grant(1, 1);
    run.dispatch();
    let step = run.engine.step_id(JobId(1), AttemptId::FIRST);
    assert_eq!(run.engine.accountable(step), Some(&AllocationHandle("101".to_owned())));
    let other = StepId { attempt: AttemptId(2), ..step };
    assert_eq!(run.engine.accountable(other), None, "that one does not run");
    run.exit("a", 0);
    assert_eq!(run.engine.accountable(step), None);
    let told = |cpu_ms, peak_memory, state: &str| {
        let state = Some(state).filter(|state| !state.is_empty()).map(Box::from);
        StepAccount { usage: Usage { cpu_ms, peak_memory }, state }
    };
    let (first, second) = (told(7, Some(9), "COMPLETED"), told(5, None, "CANCELLED by 0"));
    run.apply(Event::accounted(run.now, step, first));
    run.apply(Event::accounted(run.now, step, second));
    let end = run.replayed().attempts()[0].end.clone().expect("it has ended");
    assert_eq!(end.usage, Usage { cpu_ms: 7, peak_memory: Some(9) }, "the larger of two figures");
    assert_eq!(end.scheduler_state.as_deref(), Some("CANCELLED by 0"));
    let report = run.engine.attempt_report(&run.engine.attempts()[0], run.now, "");
    assert_eq!(report.scheduler_state.as_deref(), Some("CANCELLED by 0"));
    let stranger = StepId { job: JobId(2), ..step };
    let account = StepAccount::default();
    assert!(run.engine.apply(&Event::accounted(run.now, stranger, account)).is_err());
}

#[test]
fn a_log_from_before_states_were_kept_is_read() {
    let old = json!({"e": "step_accounted", "at": 5, "job": 1, "run": 1, "attempt": 1, "usage": {"cpu_ms": 7}});
    let step =
        StepId { workflow: WorkflowId(1), job: JobId(1), run: RunId(1), attempt: AttemptId::FIRST };
    let usage = Usage { cpu_ms: 7, peak_memory: None };
    let expected = Event::accounted(Timestamp(5), step, StepAccount { usage, state: None });
    assert_eq!(serde_json::from_value::<Event>(old.clone()).unwrap(), expected);
    assert_eq!(serde_json::to_value(&expected).unwrap(), old, "nothing is written for nothing");
}

#[test]
fn what_nobody_has_accounted_for_is_known() {
    let mut run = one_at_the_start(&[("a", &[]), ("b", &["a"]), ("c", &["b"])]);
    run.submit(1);
    run.grant(1, 1);
    for name in ["a", "b"] {
        run.dispatch();
        run.exit(name, 0);
    }
    let unaccounted = |run: &Run, since| -> Vec<String> {
        let found = run.engine.unaccounted(since);
        found.map(|(handle, step, _)| format!("{handle} {step}")).collect()
    };
    run.dispatch();
    let both = ["101 wf1_j1_r1_a1", "101 wf1_j2_r1_a1"];
    assert_eq!(unaccounted(&run, Timestamp(0)), both, "the third runs yet");
    assert_eq!(unaccounted(&run, run.now), both[1..], "the first ended a second before");
    run.exit("c", 0);
    run.end_allocation(1, AllocationEnd::Completed);
    let account = StepAccount { state: Some("COMPLETED".into()), ..StepAccount::default() };
    let step = |job| run.engine.step_id(JobId(job), AttemptId::FIRST);
    let (second, third) = (step(2), step(3));
    run.apply(Event::accounted(run.now, second, account.clone()));
    run.apply(Event::accounted(run.now, third, account));
    assert_eq!(unaccounted(&run, Timestamp(0)), both[..1], "also where the allocation has ended");
}

#[test]
fn nodes_that_were_simply_there_keep_no_accounts() {
    let mut run = Run::begin(workflow(&[("a", &[])]), vec![node("here", 1)]);
    run.dispatch();
    let step = run.engine.step_id(JobId(1), AttemptId::FIRST);
    assert_eq!(run.engine.accountable(step), None);
    run.exit("a", 0);
    assert_eq!(run.engine.unaccounted(Timestamp(0)).count(), 0);
}
