//! What the engine is asked by those who drive it.

use std::sync::Arc;
use std::time::Duration;

use super::allocations::{nodes_on, one_at_the_start, with_actions};
use super::{Run, node, requirements, workflow};
use crate::engine::{ActionCommand, Conclusion, Effect, Event, Future, JobStatus, LaunchContext};
use crate::ids::{AllocationId, AttemptId, JobId, NodeId, WorkflowId};
use crate::resources::Inherited;
use crate::time::Timestamp;
use crate::traits::{AllocationEnd, AllocationHandle, NodeState, Outcome, StepSignal};
use crate::wire::AllocationStage;
use crate::workflow::Trigger;

#[test]
fn what_has_not_completed_is_counted_by_class() {
    let mut made = workflow(&[("a", &[]), ("wide", &["a"]), ("b", &[]), ("c", &["a"])]);
    made.header.requirements = vec![requirements(1, 1), requirements(2, 1)];
    made.jobs[1].requirements = 1;
    let mut run = Run::begin(made, vec![node("n", 1)]);
    let unfinished = |run: &Run| -> Vec<(u32, u32, usize)> {
        let found = run.engine.unfinished_classes();
        found.map(|(request, job, count)| (request.cpus, job.0, count)).collect()
    };
    assert_eq!(unfinished(&run), [(1, 1, 3), (2, 2, 1)]);
    run.dispatch();
    run.exit("a", 0);
    assert_eq!(unfinished(&run), [(1, 3, 2), (2, 2, 1)]);
    run.dispatch();
    run.exit("b", 1);
    assert_eq!(unfinished(&run), [(1, 3, 2), (2, 2, 1)], "one of them failed");
    assert_eq!(run.engine.failed_jobs().collect::<Vec<_>>(), [JobId(3)]);
}

#[test]
fn failed_jobs_are_those_that_failed_or_were_terminated() {
    let jobs: &[(&str, &[&str])] =
        &[("fine", &[]), ("bad", &[]), ("slow", &[]), ("after", &["bad"])];
    let mut run = Run::begin(workflow(jobs), vec![node("n", 3)]);
    run.dispatch();
    run.exit("fine", 0);
    run.exit("bad", 1);
    run.end("slow", Outcome::TimedOut { code: None });
    assert_eq!(run.statuses(), "fine=completed bad=failed slow=terminated after=canceled");
    assert_eq!(run.engine.failed_jobs().collect::<Vec<_>>(), [JobId(2), JobId(3)]);
}

#[test]
fn moments_are_those_of_the_events() {
    let mut run = Run::begin(workflow(&[("a", &[])]), vec![node("n", 1)]);
    let began = run.now;
    assert_eq!(run.engine.id(), WorkflowId(1));
    assert_eq!(run.engine.run_started_at(), Some(began));
    run.dispatch();
    run.exit("a", 0);
    assert_eq!(run.engine.last_event_at(), run.now);
    let account = crate::traits::StepAccount::default();
    let step = run.engine.step_id(JobId(1), AttemptId::FIRST);
    run.apply(Event::accounted(began, step, account));
    assert_eq!(run.engine.last_event_at(), run.now, "an event that comes late is not the latest");
}

#[test]
fn nodes_are_found_by_name_while_they_are_there() {
    let mut run = one_at_the_start(&[("a", &[])]);
    let first = AllocationId(1);
    let nodes = vec![node("x", 1), node("y", 1)];
    let allocation = run.engine.grant(first, nodes, None).expect("it was asked for");
    run.apply(Event::AllocationGranted { at: run.now, began_at: None, allocation });
    let (at, state, reason) = (run.now, NodeState::Down, String::new());
    run.apply(Event::NodeStateChanged { at, node: NodeId(1), state, reason });
    let found = |run: &Run, name: &str| run.engine.find_node(first, name);
    assert_eq!([found(&run, "x"), found(&run, "y")], [Some(NodeId(0)), Some(NodeId(1))]);
    assert_eq!((found(&run, "z"), run.engine.find_node(AllocationId(2), "x")), (None, None));
    let nodes = [(NodeId(0), "x", NodeState::Up), (NodeId(1), "y", NodeState::Down)];
    assert_eq!(run.engine.nodes_in(first).collect::<Vec<_>>(), nodes);
    assert_eq!(run.engine.nodes_in(AllocationId(2)).count(), 0);
    run.end_allocation(1, AllocationEnd::Completed);
    assert_eq!((found(&run, "x"), run.engine.nodes_in(first).count()), (None, 0));
    assert_eq!([0, 1, 2].map(|node| run.engine.node_name(NodeId(node))), ["x", "y", "?"]);
}

#[test]
fn who_runs_where_is_known() {
    let start = nodes_on(Trigger::OnWorkflowStart, 0, 2);
    let mut run = Run::begin_without_nodes(with_actions(&[("a", &[]), ("b", &[])], vec![start]));
    run.act();
    run.grant(1, 1);
    run.grant(2, 1);
    let (first, second) = (AllocationId(1), AllocationId(2));
    assert!(run.engine.is_idle(first) && run.engine.is_idle(second));
    assert_eq!(run.dispatch(), ["a", "b"]);
    let running = |run: &Run, allocation| run.engine.running_in(allocation).collect::<Vec<_>>();
    assert_eq!(running(&run, first), [(JobId(1), AttemptId::FIRST)]);
    assert_eq!(running(&run, second), [(JobId(2), AttemptId::FIRST)]);
    assert_eq!(run.engine.allocation_of(JobId(2)), Some(second));
    run.exit("a", 0);
    assert!(run.engine.is_idle(first) && !run.engine.is_idle(second));
    assert_eq!((run.engine.allocation_of(JobId(1)), running(&run, first)), (None, vec![]));
    assert!(run.engine.is_idle(AllocationId(3)), "nothing runs where there is nothing");
}

#[test]
fn a_worker_may_have_missed_that_a_job_is_canceled() {
    let mut run = one_at_the_start(&[("a", &[]), ("b", &[])]);
    run.grant(1, 2);
    run.dispatch();
    let signals = |run: &Run| run.engine.signals_for(AllocationId(1));
    assert_eq!(signals(&run), []);
    let effects = run.apply(Event::CancelRequested { at: run.now, jobs: Some(vec![JobId(2)]) });
    assert_eq!(signals(&run), effects);
    run.apply(Event::AllocationLeaving { at: run.now, allocation: AllocationId(1) });
    assert_eq!(signals(&run), effects, "what runs in one that leaves goes on");
    let (job, attempt, signal) = (JobId(2), AttemptId::FIRST, StepSignal::Cancel);
    assert_eq!(effects, [Effect::Signal { job, attempt, signal }]);
}

#[test]
fn what_is_closed_is_open_again_if_it_ends_late_enough() {
    #[track_caller]
    fn check(more_seconds: u64, is_open: bool) {
        let mut run = one_at_the_start(&[("a", &[])]);
        run.grant(1, 1);
        run.now = run.now + Duration::from_secs(3_500);
        let (at, allocation) = (run.now, AllocationId(1));
        run.apply(Event::AllocationExpired { at, allocation });
        let ends_at = Some(at + Duration::from_secs(more_seconds));
        run.apply(Event::AllocationEndMoved { at, allocation, ends_at });
        let book = run.engine.allocation_book(allocation).expect("it is there");
        assert_eq!((book.closed_at.is_none(), book.allocation.ends_at), (is_open, ends_at));
    }
    // What runs is asked to end 180 s before the end.
    check(181, true);
    check(180, false);
}

#[test]
fn an_allocation_has_a_future_while_a_job_waits_that_may_run_there() {
    let mut run = one_at_the_start(&[("a", &[]), ("b", &["a"])]);
    run.grant(1, 1);
    let future = |run: &Run| run.engine.future_in(AllocationId(1), run.now);
    assert_eq!(run.dispatch(), ["a"]);
    assert_eq!(future(&run), Future::Open, "the second waits for the first");
    run.exit("a", 0);
    assert_eq!(run.dispatch(), ["b"]);
    assert_eq!(future(&run), Future::Never, "nothing waits any more");
    assert_eq!(run.engine.future_in(AllocationId(2), run.now), Future::Never);
}

#[test]
fn what_leaves_stays_closed_whenever_it_ends() {
    let mut run = one_at_the_start(&[("a", &[])]);
    run.grant(1, 1);
    let (at, allocation) = (run.now, AllocationId(1));
    run.apply(Event::AllocationLeaving { at, allocation });
    run.apply(Event::AllocationEndMoved { at, allocation, ends_at: None });
    assert_eq!(run.dispatch(), [""; 0]);
}

#[test]
fn an_end_that_comes_sooner_is_reckoned_with() {
    let mut made = with_actions(&[("a", &[])], vec![nodes_on(Trigger::OnWorkflowStart, 0, 1)]);
    made.header.requirements[0].runtime = Some(Duration::from_secs(600));
    let mut run = Run::begin_without_nodes(made);
    run.act();
    run.grant(1, 1);
    let (at, allocation) = (run.now, AllocationId(1));
    let ends_at = |seconds| Some(at + Duration::from_secs(seconds));
    run.apply(Event::AllocationEndMoved { at, allocation, ends_at: ends_at(479) });
    assert_eq!(run.dispatch(), [""; 0], "two minutes of grace, and a second more");
    assert_eq!(run.engine.next_expiry(), Some(at + Duration::from_secs(299)));
    run.apply(Event::AllocationEndMoved { at, allocation, ends_at: ends_at(480) });
    assert_eq!(run.dispatch(), ["a"]);
}

#[test]
fn a_wish_that_was_given_up_is_no_longer_open() {
    let mut run = one_at_the_start(&[("a", &[])]);
    let book = |run: &Run| {
        let book = run.engine.allocation_book(AllocationId(1)).expect("it was wished for");
        (book.is_open_request(), book.is_unsubmitted(), book.is_live(), book.handle().cloned())
    };
    assert_eq!(book(&run), (true, true, false, None));
    run.end_allocation(1, AllocationEnd::Cancelled);
    assert_eq!(book(&run), (false, false, false, None));
    assert_eq!(run.engine.live_allocations().count(), 0);
    assert_eq!(run.engine.next_expiry(), None);
}

#[test]
fn time_is_up_once_and_only_where_there_are_nodes() {
    let mut run = one_at_the_start(&[("a", &[])]);
    run.grant(1, 1);
    assert!(run.engine.next_expiry().is_some());
    let (at, allocation) = (run.now, AllocationId(1));
    run.apply(Event::AllocationExpired { at, allocation });
    for suspended in [true, false] {
        run.apply(Event::AllocationSuspended { at, allocation, suspended });
    }
    assert_eq!(run.engine.next_expiry(), None, "what runs there was told");
    let mut run = one_at_the_start(&[("a", &[])]);
    run.grant(1, 1);
    run.end_allocation(1, AllocationEnd::Completed);
    assert_eq!(run.engine.next_expiry(), None, "nothing runs there any more");
}

#[test]
fn only_what_a_slurm_scheduler_gives_in_slurm_mode_is_slurms() {
    let kinds = |kind: &str, at_the_start| {
        let mut made = with_actions(&[("a", &[])], vec![at_the_start]);
        made.header.schedulers[0].kind = kind.to_owned();
        made
    };
    let lead = |mut made: crate::workflow::Workflow, mode| {
        made.header.execution.mode = mode;
        let mut run = Run::begin_without_nodes(made);
        run.act();
        run.grant(1, 1);
        let book = run.engine.allocation_book(AllocationId(1)).expect("it is there");
        let ends_at = book.allocation.ends_at.expect("in an hour");
        ends_at.since(run.engine.stop_at(book).expect("before that")).as_secs()
    };
    use crate::workflow::ExecutionMode::{Auto, Direct, Slurm};
    let start = || nodes_on(Trigger::OnWorkflowStart, 0, 1);
    assert_eq!(lead(kinds("slurm", start()), Auto), 180, "120 s of lead");
    assert_eq!(lead(kinds("slurm", start()), Direct), 90, "30 s of lead");
    assert_eq!(lead(kinds("local", start()), Slurm), 90);
}

#[test]
fn what_runs_on_nodes_that_are_simply_there_is_asked_to_end_when_the_time_is_up() {
    let mut run = Run::begin_without_nodes(workflow(&[("a", &[])]));
    let ends_at = Some(run.now + Duration::from_secs(3_600));
    let allocation = run.engine.number_allocation(vec![node("n", 1)], Arc::from([]), ends_at);
    run.apply(Event::AllocationGranted { at: run.now, began_at: None, allocation });
    let book = run.engine.allocation_book(AllocationId(1)).expect("it is there");
    assert_eq!(run.engine.stop_at(book), ends_at);
}

/// A run that was started inside an allocation of an hour, with one job that runs there.
fn inside(has_slurm_steps: bool) -> Run {
    let mut run = Run::begin_without_nodes(workflow(&[("a", &[])]));
    let ends_at = Some(run.now + Duration::from_secs(3_600));
    let mut allocation = run.engine.number_allocation(vec![node("n", 1)], Arc::from([]), ends_at);
    let handle = AllocationHandle("41".to_owned());
    allocation.inherited = Some(Inherited { handle, has_slurm_steps });
    run.apply(Event::AllocationGranted { at: run.now, began_at: None, allocation });
    assert_eq!(run.dispatch(), ["a"]);
    run
}

#[test]
fn what_runs_where_a_run_was_started_is_asked_to_end_before_that_is_over() {
    let lead = |has_slurm_steps| {
        let run = inside(has_slurm_steps);
        let book = run.engine.allocation_book(AllocationId(1)).expect("it is there");
        let ends_at = book.allocation.ends_at.expect("in an hour");
        let asked_after = ends_at.since(run.engine.stop_at(book).expect("before that"));
        let context = LaunchContext { output_dir: "/o".into(), submission_dir: "/s".into() };
        let Some(Event::Dispatched { job, attempt, placement, .. }) =
            run.engine.dispatch_of(JobId(1))
        else {
            panic!("it runs");
        };
        let step = run.engine.step(job, attempt, &placement, &context).expect("its node is there");
        (asked_after.as_secs(), step.limits.termination_lead.as_secs())
    };
    assert_eq!(lead(true), (180, 120), "as for a server, in mode slurm");
    assert_eq!(lead(false), (90, 30), "as for a server, in mode direct");
}

#[test]
fn an_allocation_that_a_run_was_started_in_is_known_by_its_schedulers_name() {
    let run = inside(true);
    let replayed = run.replayed();
    for engine in [&run.engine, &replayed] {
        let book = engine.allocation_book(AllocationId(1)).expect("it is there");
        assert_eq!(book.handle().map(ToString::to_string), Some("41".to_owned()));
        assert!(!book.is_open_request(), "nobody has to see it off");
    }
    let report = run.allocation(None);
    assert_eq!((report.handle.as_deref(), report.stage), (Some("41"), AllocationStage::Active));
}

#[test]
fn canceling_ends_an_interrupted_run_that_nobody_drives() {
    let jobs: &[(&str, &[&str])] = &[("a", &[]), ("b", &[]), ("c", &["a"])];
    let begun = || {
        let mut run = Run::begin(workflow(jobs), vec![node("n", 1)]);
        run.dispatch();
        run
    };
    let mut run = begun();
    let events = run.engine.cancel_without_steps(run.now, None).expect("all are known");
    assert_eq!(run.statuses(), "a=canceled b=canceled c=canceled");
    assert_eq!(events.last(), Some(&Event::RunEnded { at: run.now, complete: true }));
    run.log.extend(events);
    assert_eq!(run.replayed().counts(), run.engine.counts());
    let again = run.engine.cancel_without_steps(run.now, None);
    assert_eq!(again, Ok(Vec::new()), "it is over");
    let mut run = begun();
    let some = Some(vec![JobId(2)]);
    run.engine.cancel_without_steps(run.now, some.clone()).expect("it is known");
    assert_eq!(run.statuses(), "a=ready b=canceled c=blocked", "what ran is lost");
    assert!(run.engine.can_resume());
    let mut run = begun();
    run.end("a", Outcome::Lost);
    run.apply(Event::RunEnded { at: run.now, complete: false });
    let events = run.engine.cancel_without_steps(run.now, some).expect("it is known");
    let ended = Event::RunEnded { at: run.now, complete: false };
    assert_eq!(events.last(), Some(&ended), "it had ended before, and has again");
    let strange = Some(vec![JobId(9)]);
    assert!(begun().engine.cancel_without_steps(Timestamp(9_000), strange).is_err());
}

#[test]
fn only_what_was_begun_and_is_not_complete_can_go_on() {
    let mut run = Run::begin(workflow(&[("a", &[])]), vec![node("n", 1)]);
    let new =
        crate::engine::Engine::new(WorkflowId(2), run.engine.workflow().clone(), super::placer());
    assert!(!new.can_resume());
    assert!(run.engine.can_resume());
    run.apply(Event::RunEnded { at: run.now, complete: false });
    assert!(run.engine.can_resume());
    run.apply(Event::RunResumed { at: run.now });
    run.dispatch();
    run.exit("a", 0);
    run.apply(Event::RunEnded { at: run.now, complete: true });
    assert!(!run.engine.can_resume());
    assert_eq!(run.engine.conclusion(), None, "nothing is left to be concluded");
}

#[test]
fn what_is_put_back_keeps_no_retries_and_no_wish_to_end_it() {
    let mut made = workflow(&[("a", &[])]);
    made.jobs[0].failure_handler = Some(0);
    let mut run = Run::begin(made, vec![node("n", 1)]);
    for _ in 0..3 {
        assert_eq!(run.dispatch(), ["a"]);
        run.exit("a", 42);
    }
    assert_eq!(run.status("a"), JobStatus::Failed, "after two retries");
    run.apply(Event::JobsPutBack { at: run.now, jobs: run.engine.jobs_to_put_back() });
    run.dispatch();
    run.exit("a", 42);
    assert_eq!(run.status("a"), JobStatus::Ready, "it has two more");
    run.dispatch();
    run.apply(Event::CancelRequested { at: run.now, jobs: None });
    run.end("a", Outcome::Cancelled);
    assert_eq!(run.status("a"), JobStatus::Canceled);
    run.apply(Event::JobsPutBack { at: run.now, jobs: run.engine.jobs_to_put_back() });
    run.dispatch();
    run.exit("a", 42);
    assert_eq!(run.status("a"), JobStatus::Ready);
    assert_eq!(run.engine.next_attempt(JobId(1)), AttemptId(7));
}

#[test]
fn after_a_replay_the_same_starts() {
    let mut run =
        Run::begin(workflow(&[("a", &[]), ("b", &["a"]), ("c", &[])]), vec![node("n", 1)]);
    run.dispatch();
    run.exit("a", 0);
    let mut replayed = run.replayed();
    let started = replayed.dispatch(run.now, usize::MAX).started;
    assert_eq!(started, run.engine.dispatch(run.now, usize::MAX).started);
    assert_eq!(started.len(), 1);
    run.log.extend(started);
    let (at, state, reason) = (run.now, NodeState::Down, String::new());
    run.apply(Event::NodeStateChanged { at, node: NodeId(0), state, reason });
    run.end("b", Outcome::Lost);
    let dispatch = run.replayed().dispatch(run.now, usize::MAX);
    assert_eq!((dispatch.started, dispatch.faults), (vec![], vec![]), "the node is down");
}

#[test]
fn a_run_that_stops_is_not_over_before_what_runs_has_ended() {
    let mut run = Run::begin(workflow(&[("a", &[])]), vec![node("n", 1)]);
    run.dispatch();
    run.apply(Event::StopRequested { at: run.now });
    assert_eq!(run.engine.conclusion(), None);
    run.end("a", Outcome::Cancelled);
    assert_eq!(run.engine.conclusion(), Some(Conclusion::Stopped));
}

#[test]
fn an_action_that_asks_for_nodes_has_no_commands() {
    let run = one_at_the_start(&[("a", &[])]);
    let command = |action, command| ActionCommand { action, worker: None, command };
    assert_eq!(run.engine.command_text(command(0, 0)), None);
    assert_eq!(run.engine.command_text(command(1, 0)), None);
    assert_eq!(run.engine.commands_under_way().count(), 0);
    assert_eq!(run.engine.firings(0).map(|(worker, _)| worker).collect::<Vec<_>>(), [None]);
}
