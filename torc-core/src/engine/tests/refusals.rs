//! Events that do not follow from those before them: they are refused, and nothing has changed.

use std::time::Duration;

use super::allocations::{nodes_on, one_at_the_start, with_actions};
use super::{Run, node, workflow};
use crate::engine::{Event, Phase, PlacementFault, Refused};
use crate::ids::{AllocationId, AttemptId, JobId, NodeId, RunId};
use crate::resources::{NodeShare, Placement};
use crate::traits::{AllocationEnd, AllocationHandle, Outcome, Usage};
use crate::workflow::{Job, Trigger};

impl Run {
    /// Why an event is refused, which changes nothing.
    #[track_caller]
    fn refusal(&mut self, event: Event) -> Refused {
        let state = |run: &Self| {
            let engine = &run.engine;
            let books = format!("{:?}", engine.allocation_books().collect::<Vec<_>>());
            (engine.snapshot(), engine.phase(), engine.run(), *engine.counts(), books)
        };
        let before = state(self);
        let refused = self.engine.apply(&event).expect_err("it does not follow");
        assert_eq!(state(self), before, "{event:?}");
        refused
    }

    #[track_caller]
    fn check_wrong_phase(&mut self, events: impl IntoIterator<Item = Event>) {
        for event in events {
            let expected =
                Refused::WrongPhase { run: self.engine.run(), phase: self.engine.phase() };
            assert_eq!(self.refusal(event.clone()), expected, "{event:?}");
        }
    }

    fn started(&self, run: u32) -> Event {
        Event::RunStarted { run: RunId(run), at: self.now, reset: Vec::new() }
    }

    fn ended(&self, complete: bool) -> Event {
        Event::RunEnded { at: self.now, complete }
    }

    fn put_back(&self, first: u32, last: u32) -> Event {
        Event::JobsPutBack { at: self.now, jobs: vec![(JobId(first), JobId(last))] }
    }
}

#[test]
fn runs_follow_each_other() {
    let mut run = Run::begin(workflow(&[("a", &[])]), vec![node("n", 1)]);
    let (resumed, stopped) =
        (Event::RunResumed { at: run.now }, Event::StopRequested { at: run.now });
    run.check_wrong_phase([run.started(1), run.started(2), run.ended(true)]);
    run.dispatch();
    run.check_wrong_phase([run.ended(false), run.ended(true)]);
    run.apply(stopped.clone());
    run.check_wrong_phase([stopped.clone(), run.started(2)]);
    run.end("a", Outcome::Cancelled);
    run.check_wrong_phase([run.ended(false), run.started(1), run.started(3)]);
    run.apply(resumed.clone());
    run.apply(run.ended(false));
    run.check_wrong_phase([run.ended(false), stopped, run.started(1)]);
    run.apply(resumed.clone());
    run.dispatch();
    run.exit("a", 0);
    run.check_wrong_phase([run.ended(false)]);
    run.apply(run.ended(true));
    run.check_wrong_phase([resumed, run.started(1), run.started(3), run.put_back(1, 1)]);
    run.apply(run.started(2));
    assert_eq!(run.engine.phase(), Phase::Running);
}

#[test]
fn only_jobs_that_exist_and_do_not_run_begin_anew() {
    let mut run = Run::begin(workflow(&[("a", &[]), ("b", &[])]), vec![node("n", 1)]);
    assert_eq!(run.dispatch(), ["a"]);
    assert_eq!(run.refusal(run.put_back(2, 3)), Refused::UnknownJob(JobId(3)));
    assert_eq!(run.refusal(run.put_back(0, 2)), Refused::UnknownJob(JobId(0)));
    let refused = run.refusal(run.put_back(1, 2));
    assert!(matches!(refused, Refused::Illegal { job: JobId(1), .. }), "{refused:?}");
    let jobs = Some(vec![JobId(2), JobId(3)]);
    let canceled = run.refusal(Event::CancelRequested { at: run.now, jobs });
    assert_eq!(canceled, Refused::UnknownJob(JobId(3)));
}

#[test]
fn only_the_open_attempt_is_reported_about() {
    let mut run = Run::begin(workflow(&[("a", &[]), ("b", &[])]), vec![node("n", 1)]);
    run.dispatch();
    run.end("a", Outcome::Lost);
    assert_eq!(run.dispatch(), ["a"]);
    let at = run.now;
    let started = |job, attempt| Event::StepStarted { job: JobId(job), attempt, at };
    let ended = |job, attempt| Event::StepEnded {
        job: JobId(job),
        attempt,
        at,
        outcome: Outcome::Exited { code: 0 },
        usage: Usage::default(),
    };
    for (job, attempt) in [(1, 1), (1, 3), (2, 1)] {
        let (attempt, job_id) = (AttemptId(attempt), JobId(job));
        for event in [started(job, attempt), ended(job, attempt)] {
            assert_eq!(run.refusal(event), Refused::StaleAttempt { job: job_id, attempt });
        }
    }
    assert_eq!(run.refusal(ended(3, AttemptId(1))), Refused::UnknownJob(JobId(3)));
    run.apply(started(1, AttemptId(2)));
    let twice = run.refusal(started(1, AttemptId(2)));
    assert!(matches!(twice, Refused::Illegal { job: JobId(1), .. }), "{twice:?}");
    run.exit("a", 0);
    let (job, attempt) = (JobId(1), AttemptId(2));
    assert_eq!(run.refusal(ended(1, attempt)), Refused::StaleAttempt { job, attempt }, "it ended");
}

#[test]
fn a_job_is_dispatched_only_while_it_is_ready_and_where_it_may_run() {
    let mut made = workflow(&[("a", &[]), ("b", &[])]);
    let labels = Some([Box::from("x")].into());
    made.jobs[1] = Job { labels, ..made.jobs[1].clone() };
    let mut run = Run::begin(made, vec![node("n", 2)]);
    let dispatched = |run: &Run, job, attempt, allocation| Event::Dispatched {
        job: JobId(job),
        attempt: AttemptId(attempt),
        at: run.now,
        placement: Placement {
            allocation: AllocationId(allocation),
            shares: vec![NodeShare {
                node: NodeId(0),
                cores: [0].into(),
                gpus: [].into(),
                memory: 4 << 30,
            }],
        },
    };
    let refused = |job, fault| Refused::Placement { job: JobId(job), fault };
    let elsewhere = |allocation| PlacementFault::WrongAllocation(AllocationId(allocation));
    assert_eq!(run.refusal(dispatched(&run, 3, 1, 1)), Refused::UnknownJob(JobId(3)));
    for attempt in [0, 2] {
        let stale = Refused::StaleAttempt { job: JobId(1), attempt: AttemptId(attempt) };
        assert_eq!(run.refusal(dispatched(&run, 1, attempt, 1)), stale);
    }
    assert_eq!(run.refusal(dispatched(&run, 1, 1, 2)), refused(1, elsewhere(2)), "there is none");
    assert_eq!(run.refusal(dispatched(&run, 2, 1, 1)), refused(2, elsewhere(1)), "no such label");
    run.apply(dispatched(&run, 1, 1, 1));
    let again = dispatched(&run, 1, 2, 1);
    assert_eq!(run.refusal(again), refused(1, PlacementFault::NotReady), "it runs");
    run.end("a", Outcome::Lost);
    run.apply(Event::StopRequested { at: run.now });
    let stopped = dispatched(&run, 1, 2, 1);
    assert_eq!(run.refusal(stopped), refused(1, PlacementFault::NotReady), "nothing starts");
    run.apply(Event::RunResumed { at: run.now });
    run.end_allocation(1, AllocationEnd::NodeFailed);
    assert_eq!(run.refusal(dispatched(&run, 1, 2, 1)), refused(1, elsewhere(1)), "it is gone");
}

#[test]
fn allocations_are_numbered_in_the_order_in_which_they_come() {
    let mut run = one_at_the_start(&[("a", &[])]);
    let at = run.now;
    let wanted = |allocation, scheduler| Event::AllocationRequested {
        at,
        allocation: AllocationId(allocation),
        scheduler,
        action: None,
    };
    let wrong = |allocation| Refused::WrongAllocation(AllocationId(allocation));
    assert_eq!(run.refusal(wanted(1, 0)), wrong(1), "taken");
    assert_eq!(run.refusal(wanted(3, 0)), wrong(3), "2 comes first");
    assert_eq!(run.refusal(wanted(2, 1)), wrong(2), "there is no such scheduler");
    let one = run.engine.number_allocation(vec![node("x", 1)], [].into(), None);
    let granted = |id, first| {
        let mut allocation = one.clone();
        allocation.id = AllocationId(id);
        allocation.nodes[0].0 = NodeId(first);
        Event::AllocationGranted { at, began_at: None, allocation }
    };
    assert_eq!(run.refusal(granted(3, 0)), wrong(3));
    assert_eq!(run.refusal(granted(1, 1)), wrong(1), "nodes are numbered from 0");
    run.apply(granted(1, 0));
    assert_eq!(run.refusal(granted(1, 1)), wrong(1), "it has its nodes");
    assert_eq!(run.engine.grant(AllocationId(1), Vec::new(), None), None);
    assert_eq!(run.refusal(granted(2, 0)), wrong(2), "0 is taken");
    run.apply(granted(2, 1));
    run.apply(wanted(3, 0));
    run.end_allocation(3, AllocationEnd::Cancelled);
    assert_eq!(run.refusal(granted(3, 2)), wrong(3), "it has come to nothing");
    assert_eq!(run.engine.grant(AllocationId(3), Vec::new(), None), None);
    assert_eq!(run.engine.grant(AllocationId(4), Vec::new(), None), None);
}

#[test]
fn nothing_happens_to_an_allocation_that_is_not_there_or_is_over() {
    let mut run = one_at_the_start(&[("a", &[])]);
    run.submit(1);
    let at = run.now;
    let of_granted = |allocation: u32| {
        let allocation = AllocationId(allocation);
        let ends_at = Some(at + Duration::from_secs(60));
        [
            Event::AllocationEndMoved { at, allocation, ends_at },
            Event::AllocationReachable { at, allocation, reachable: false },
            Event::AllocationSuspended { at, allocation, suspended: true },
            Event::AllocationExpired { at, allocation },
        ]
    };
    let of_any = |allocation: u32| {
        let (allocation, handle) = (AllocationId(allocation), AllocationHandle("7".to_owned()));
        let (cause, reason) = (AllocationEnd::Unknown, String::new());
        [
            Event::AllocationLeaving { at, allocation },
            Event::AllocationEnded { at, allocation, cause, reason },
            Event::AllocationSubmitted { at, allocation, handle },
        ]
    };
    for event in of_granted(1) {
        assert_eq!(run.refusal(event), Refused::WrongAllocation(AllocationId(1)), "no nodes yet");
    }
    for event in of_granted(2).into_iter().chain(of_any(2)) {
        assert_eq!(run.refusal(event), Refused::WrongAllocation(AllocationId(2)));
    }
    let [.., submitted] = of_any(1);
    let twice = run.refusal(submitted);
    assert_eq!(twice, Refused::WrongAllocation(AllocationId(1)), "it has a handle");
    run.grant(1, 1);
    run.end_allocation(1, AllocationEnd::Completed);
    for event in of_granted(1).into_iter().chain(of_any(1)) {
        assert_eq!(run.refusal(event), Refused::WrongAllocation(AllocationId(1)));
    }
}

#[test]
fn an_allocation_that_nobody_asked_for_has_no_name_with_a_scheduler() {
    let mut run = Run::begin(workflow(&[("a", &[])]), vec![node("n", 1)]);
    let (at, allocation) = (run.now, AllocationId(1));
    let handle = AllocationHandle("7".to_owned());
    let refused = run.refusal(Event::AllocationSubmitted { at, allocation, handle });
    assert_eq!(refused, Refused::WrongAllocation(allocation));
}

#[test]
fn an_action_fires_once_and_while_the_workflow_runs() {
    let start = nodes_on(Trigger::OnWorkflowComplete, 0, 1);
    let mut run = Run::begin_without_nodes(with_actions(&[("a", &[])], vec![start]));
    let fired = |action| Event::ActionFired { at: run.now, action, worker: None };
    let (first, second) = (fired(0), fired(1));
    run.check_wrong_phase([second]);
    run.apply(first.clone());
    run.check_wrong_phase([first.clone()]);
    run.apply(run.ended(false));
    run.start();
    run.apply(Event::StopRequested { at: run.now });
    run.check_wrong_phase([first]);
    assert_eq!(run.act().0, [""; 0], "nothing fires any more");
}
