//! Jobs that are left out and taken in again: what becomes of them and of what depends on them.

use super::{Run, node, workflow};
use crate::engine::{Conclusion, Event, Follows, Immovable, JobStatus};
use crate::workflow::Workflow;

/// `first`, then `second`, then `third`; `minds` runs whatever becomes of `first`.
fn chain() -> Workflow {
    let mut made = workflow(&[
        ("first", &[]),
        ("second", &["first"]),
        ("third", &["second"]),
        ("minds", &["first"]),
        ("apart", &[]),
    ]);
    made.jobs[3].cancel_on_blocking_job_failure = false;
    made
}

impl Run {
    fn disable(&mut self, name: &str) {
        let event = self.engine.disabling(self.now, &[self.job(name)]).expect("it can be");
        self.apply(event.expect("it is not yet"));
    }

    fn enable(&mut self, name: &str) -> usize {
        let events = self.engine.enabling(self.now, &[self.job(name)]).expect("it can be");
        let count = events.len();
        events.into_iter().for_each(|event| drop(self.apply(event)));
        count
    }

    fn ends_as_replayed(&self) {
        let again = self.replayed();
        assert_eq!(self.engine.counts(), again.counts());
        assert_eq!(self.engine.snapshot(), again.snapshot());
    }
}

#[test]
fn what_depends_on_a_job_that_is_left_out_is_canceled_or_runs_without_it() {
    let mut run = Run::begin(chain(), vec![node("n", 1)]);
    let first = run.job("first");
    let follows = run.engine.follows_disabling(&[first]);
    assert_eq!(follows, Follows { canceled: 2, run_without: 1 });
    run.disable("first");
    let expected = "first=disabled second=canceled third=canceled minds=ready apart=ready";
    assert_eq!(run.statuses(), expected);
    for name in ["minds", "apart"] {
        assert_eq!(run.dispatch(), [name]);
        run.exit(name, 0);
    }
    assert_eq!(run.engine.conclusion(), Some(Conclusion::Complete));
    assert_eq!(run.engine.disabling(run.now, &[first]), Ok(None), "once is enough");
    run.ends_as_replayed();
}

#[test]
fn what_is_taken_in_again_brings_back_what_was_canceled_for_it() {
    let mut run = Run::begin(chain(), vec![node("n", 1)]);
    run.disable("first");
    assert_eq!(run.enable("first"), 2);
    let expected = "first=ready second=blocked third=blocked minds=blocked apart=ready";
    assert_eq!(run.statuses(), expected);
    run.disable("second");
    let expected = "first=ready second=disabled third=canceled minds=blocked apart=ready";
    assert_eq!(run.statuses(), expected);
    assert_eq!(run.dispatch(), ["first"]);
    run.exit("first", 0);
    assert_eq!(run.enable("second"), 2);
    assert_eq!(run.status("second"), JobStatus::Ready);
    assert_eq!(run.status("third"), JobStatus::Blocked);
    assert_eq!(run.enable("second"), 0, "it is not left out any more");
    run.ends_as_replayed();
}

#[test]
fn what_runs_or_has_completed_is_not_left_out_and_what_failed_can_be() {
    let mut run = Run::begin(chain(), vec![node("n", 1)]);
    assert_eq!(run.dispatch(), ["first"]);
    let begun = |run: &Run, name: &str| match run.engine.disabling(run.now, &[run.job(name)]) {
        Err(Immovable::Begun { job, status }) => format!("{job} {status}"),
        other => panic!("{other:?}"),
    };
    assert_eq!(begun(&run, "first"), "first pending");
    run.exit("first", 0);
    assert_eq!(begun(&run, "first"), "first completed");
    assert_eq!(run.dispatch(), ["second"]);
    run.exit("second", 1);
    run.disable("second");
    let expected = "first=completed second=disabled third=canceled minds=ready apart=ready";
    assert_eq!(run.statuses(), expected);
    assert_eq!(run.engine.jobs_to_put_back(), [(run.job("third"), run.job("third"))]);
    run.ends_as_replayed();
}

#[test]
fn a_job_is_not_taken_in_while_another_runs_without_it() {
    let mut run = Run::begin(chain(), vec![node("n", 1)]);
    run.disable("first");
    assert_eq!(run.dispatch(), ["minds"]);
    let refused = run.engine.enabling(run.now, &[run.job("first")]).expect_err("minds runs");
    assert_eq!(refused, Immovable::InUse { job: "first".into(), dependent: "minds".into() });
    run.exit("minds", 0);
    assert_eq!(run.enable("first"), 2);
    let expected = "first=ready second=blocked third=blocked minds=completed apart=ready";
    assert_eq!(run.statuses(), expected);
}

#[test]
fn a_restart_leaves_it_out_until_it_is_enabled() {
    let mut run = Run::begin(chain(), vec![node("n", 1)]);
    run.disable("first");
    for name in ["minds", "apart"] {
        run.dispatch();
        run.exit(name, 0);
    }
    run.apply(Event::RunEnded { at: run.now, complete: true });
    run.start();
    assert_eq!(run.status("first"), JobStatus::Disabled);
    assert_eq!(run.status("second"), JobStatus::Canceled);
    run.apply(Event::RunEnded { at: run.now, complete: true });
    assert_eq!(run.enable("first"), 1, "nothing waits in a run that is over");
    assert_eq!(run.status("first"), JobStatus::Uninitialized);
    run.start();
    let expected = "first=ready second=blocked third=blocked minds=blocked apart=completed";
    assert_eq!(run.statuses(), expected);
    run.ends_as_replayed();
}

#[test]
fn a_job_can_be_left_out_before_the_first_run() {
    let submitted = std::sync::Arc::new(chain());
    let engine =
        crate::engine::Engine::new(crate::ids::WorkflowId(1), submitted.clone(), super::placer());
    let mut run = Run { engine, submitted, log: Vec::new(), now: crate::time::Timestamp(1_000) };
    run.disable("second");
    run.start();
    let expected = "first=ready second=disabled third=canceled minds=blocked apart=ready";
    assert_eq!(run.statuses(), expected);
    run.ends_as_replayed();
}
