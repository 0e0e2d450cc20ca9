//! Allocations that have to be asked for, and actions, told as stories.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use super::{Run, node, requirements, workflow};
use crate::engine::{
    ActionCommand, Conclusion, Effect, Event, Future, JobStatus, Refused, Sight, WaitCause,
};
use crate::ids::{AllocationId, AttemptId, JobId, NodeId, WorkerId};
use crate::resources::NodeInventory;
use crate::time::Timestamp;
use crate::traits::{AllocationEnd, AllocationHandle, NodeState, Outcome, StepSignal};
use crate::workflow::{Action, ActionKind, SchedulerSettings, Trigger, Workflow};

pub(super) fn scheduler(name: &str, nodes: u32) -> SchedulerSettings {
    let settings = json!({"account": "a", "nodes": nodes, "walltime": "01:00:00"});
    SchedulerSettings { name: name.into(), kind: "slurm".to_owned(), settings }
}

pub(super) fn nodes_on(trigger: Trigger, scheduler: u32, num_allocations: u32) -> Action {
    let kind = ActionKind::ScheduleNodes {
        scheduler,
        num_allocations,
        start_one_worker_per_node: false,
        max_parallel_jobs: None,
    };
    Action { trigger, persistent: false, kind }
}

pub(super) fn commands_on(trigger: Trigger, commands: &[&str]) -> Action {
    let commands = commands.iter().map(|text| (*text).to_owned()).collect();
    Action { trigger, persistent: false, kind: ActionKind::RunCommands(commands) }
}

/// A workflow with a scheduler `cpu` of one node.
pub(super) fn with_actions(jobs: &[(&str, &[&str])], actions: Vec<Action>) -> Workflow {
    let mut workflow = workflow(jobs);
    workflow.header.schedulers = vec![scheduler("cpu", 1)];
    workflow.header.actions = actions;
    workflow
}

pub(super) fn one_at_the_start(jobs: &[(&str, &[&str])]) -> Run {
    let mut run = Run::begin_without_nodes(with_actions(
        jobs,
        vec![nodes_on(Trigger::OnWorkflowStart, 0, 1)],
    ));
    assert_eq!(run.act().0, ["action 0", "allocation 1 of scheduler 0"]);
    run
}

impl Run {
    pub(super) fn submit(&mut self, allocation: u32) {
        let handle = AllocationHandle(format!("{}", 100 + allocation));
        let allocation = AllocationId(allocation);
        self.apply(Event::AllocationSubmitted { at: self.now, allocation, handle });
    }

    /// Grants an allocation one node of so many CPUs, for an hour.
    pub(super) fn grant(&mut self, allocation: u32, cpus: u32) {
        self.grant_nodes(allocation, vec![node(&format!("n{allocation}"), cpus)]);
    }

    pub(super) fn grant_nodes(&mut self, allocation: u32, nodes: Vec<NodeInventory>) {
        let ends_at = self.now + Duration::from_secs(3600);
        let allocation = self.engine.grant(AllocationId(allocation), nodes, Some(ends_at));
        let allocation = allocation.expect("it was asked for");
        self.apply(Event::AllocationGranted { at: self.now, began_at: None, allocation });
    }

    pub(super) fn end_allocation(&mut self, allocation: u32, cause: AllocationEnd) {
        let allocation = AllocationId(allocation);
        let reason = String::new();
        self.apply(Event::AllocationEnded { at: self.now, allocation, cause, reason });
    }

    pub(super) fn change_node(&mut self, node: NodeId, state: NodeState) {
        let reason = "it smokes".to_owned();
        self.apply(Event::NodeStateChanged { at: self.now, node, state, reason });
    }

    fn reach(&mut self, allocation: u32, reachable: bool) {
        let allocation = AllocationId(allocation);
        self.apply(Event::AllocationReachable { at: self.now, allocation, reachable });
    }

    pub(super) fn end_command(
        &mut self,
        action: u32,
        worker: Option<u32>,
        command: u32,
        code: i32,
    ) -> usize {
        let of_all = |number| WorkerId { allocation: AllocationId(number), node: None };
        let worker = worker.map(of_all);
        let at = self.now;
        self.apply(Event::ActionCommandEnded { at, action, worker, command, code }).len()
    }

    fn reason_of_the_first_node(&self) -> Option<String> {
        let (observed, held_back) = (BTreeMap::new(), BTreeMap::new());
        let sight = Sight {
            now: self.now,
            is_live: true,
            observed: &observed,
            held_back: &held_back,
            planned: &[],
        };
        self.engine.allocation_reports(sight)[0].nodes[0].reason.clone()
    }

    /// The log leads to the same state again.
    fn check_replay(&self) {
        let replayed = self.replayed();
        assert_eq!(replayed.snapshot(), self.engine.snapshot());
        assert_eq!(replayed.next_expiry(), self.engine.next_expiry());
    }
}

#[test]
fn jobs_wait_for_nodes_that_are_asked_for_once() {
    let mut run = one_at_the_start(&[("a", &[])]);
    assert_eq!(run.act().0, [""; 0], "an action fires once");
    assert_eq!(run.dispatch(), [""; 0]);
    assert_eq!(run.engine.conclusion(), None, "nodes may still come");
    run.submit(1);
    run.grant(1, 1);
    assert_eq!(run.dispatch(), ["a"]);
    run.check_replay();
    run.exit("a", 0);
    assert_eq!(run.engine.conclusion(), Some(Conclusion::Complete));
    assert_eq!(run.replayed().fire_actions(run.now).0, [], "a replay has fired it");
}

#[test]
fn an_end_is_expected_once_there_are_nodes() {
    let start = nodes_on(Trigger::OnWorkflowStart, 0, 1);
    let mut workflow = with_actions(&[("a", &[])], vec![start]);
    workflow.header.requirements = vec![requirements(1, 1)];
    let mut run = Run::begin_without_nodes(workflow);
    run.act();
    let expected = |run: &Run| run.engine.workflow_report(run.now, true, &[]).expected_end;
    run.submit(1);
    assert_eq!(expected(&run), None, "nobody knows how long it waits in the queue");
    run.grant(1, 1);
    assert!(expected(&run).is_some());
}

#[test]
fn without_any_more_nodes_to_come_the_rest_is_stuck() {
    let mut run = one_at_the_start(&[("a", &[])]);
    run.end_allocation(1, AllocationEnd::Failed);
    assert_eq!(run.engine.conclusion(), Some(Conclusion::Stuck));
}

#[test]
fn a_wish_that_is_never_handed_over_keeps_no_run() {
    let mut run = one_at_the_start(&[("a", &[])]);
    let conclusion = |run: &Run, may_come: bool| run.engine.conclusion_given(|_| may_come);
    assert_eq!(conclusion(&run, true), None);
    assert_eq!(conclusion(&run, false), Some(Conclusion::Stuck));
    run.submit(1);
    assert_eq!(conclusion(&run, false), None, "it is in the scheduler's queue");
    run.grant(1, 1);
    run.dispatch();
    assert_eq!(conclusion(&run, false), None, "a job runs");
    run.exit("a", 0);
    assert_eq!(conclusion(&run, false), Some(Conclusion::Complete));
}

#[test]
fn a_lost_allocation_gives_its_jobs_back_and_no_retry_is_spent() {
    let start = Trigger::OnWorkflowStart;
    let mut run =
        Run::begin_without_nodes(with_actions(&[("a", &[])], vec![nodes_on(start, 0, 2)]));
    run.act();
    run.grant(1, 1);
    assert_eq!(run.dispatch(), ["a"]);
    let ended = Event::AllocationEnded {
        at: run.now,
        allocation: AllocationId(1),
        cause: AllocationEnd::Cancelled,
        reason: String::new(),
    };
    assert_eq!(run.engine.apply(&ended), Err(Refused::WrongAllocation(AllocationId(1))));
    run.end("a", Outcome::Lost);
    run.apply(ended);
    assert_eq!(run.status("a"), JobStatus::Ready);
    assert_eq!(run.dispatch(), [""; 0]);
    run.grant(2, 1);
    assert_eq!(run.dispatch(), ["a"]);
    run.check_replay();
}

#[test]
fn nothing_new_starts_where_nobody_can_be_talked_to() {
    let mut run = one_at_the_start(&[("a", &[]), ("b", &[]), ("c", &[])]);
    run.grant(1, 2);
    assert_eq!(run.dispatch(), ["a", "b"]);
    run.reach(1, false);
    run.check_replay();
    run.exit("a", 0);
    assert_eq!(run.dispatch(), [""; 0]);
    assert_eq!(run.status("b"), JobStatus::Pending, "what runs there goes on");
    run.reach(1, true);
    assert_eq!(run.dispatch(), ["c"]);
}

#[test]
fn a_node_that_failed_stays_so_when_its_worker_comes_back() {
    let mut run = one_at_the_start(&[("a", &[])]);
    run.grant(1, 1);
    let node = run.engine.find_node(AllocationId(1), "n1").expect("it is there");
    run.change_node(node, NodeState::Down);
    run.reach(1, false);
    run.reach(1, true);
    run.check_replay();
    assert_eq!(run.dispatch(), [""; 0]);
    assert_eq!(run.reason_of_the_first_node().as_deref(), Some("it smokes"));
}

#[test]
fn why_a_node_takes_nothing_new_is_told() {
    let mut run = one_at_the_start(&[("a", &[])]);
    run.grant(1, 1);
    assert_eq!(run.reason_of_the_first_node(), None);
    run.reach(1, false);
    assert_eq!(run.reason_of_the_first_node().as_deref(), Some("its worker cannot be reached"));
    run.reach(1, true);
    run.change_node(NodeId(0), NodeState::Up);
    assert_eq!(run.reason_of_the_first_node(), None, "it takes new work, whatever was said");
}

#[test]
fn a_suspended_allocation_starts_nothing_and_does_not_come_to_its_end() {
    let mut run = one_at_the_start(&[("a", &[]), ("b", &[])]);
    run.grant(1, 1);
    assert_eq!(run.dispatch(), ["a"]);
    let allocation = AllocationId(1);
    let suspend = |suspended, at| Event::AllocationSuspended { at, allocation, suspended };
    run.apply(suspend(true, run.now));
    assert_eq!(run.engine.next_expiry(), None, "the time that it loses is given back");
    assert_eq!(run.reason_of_the_first_node().as_deref(), Some("its allocation is suspended"));
    run.check_replay();
    run.exit("a", 0);
    assert_eq!(run.dispatch(), [""; 0]);
    run.apply(suspend(false, run.now));
    assert!(run.engine.next_expiry().is_some());
    assert_eq!(run.dispatch(), ["b"]);
}

#[test]
fn what_runs_is_asked_to_end_some_time_before_the_scheduler_kills() {
    let mut run = one_at_the_start(&[("a", &[]), ("b", &[])]);
    run.grant(1, 1);
    assert_eq!(run.dispatch(), ["a"]);
    // An hour, less 60 s of headroom and 120 s between SIGTERM and SIGKILL.
    let stop_at = run.now + Duration::from_secs(3600 - 180);
    assert_eq!(run.engine.next_expiry(), Some(stop_at));
    assert_eq!(run.engine.expiring(Timestamp(stop_at.0 - 1)).count(), 0);
    assert_eq!(run.engine.expiring(stop_at).collect::<Vec<_>>(), [AllocationId(1)]);
    run.now = stop_at;
    let effects = run.apply(Event::AllocationExpired { at: stop_at, allocation: AllocationId(1) });
    let (job, attempt) = (JobId(1), AttemptId::FIRST);
    assert_eq!(effects, [Effect::Signal { job, attempt, signal: StepSignal::TimeUp }]);
    assert_eq!(run.engine.signals_for(AllocationId(1)), effects, "a worker may have missed it");
    run.check_replay();
    run.end("a", Outcome::TimedOut { code: None });
    assert_eq!(run.status("a"), JobStatus::Terminated);
    assert_eq!(run.dispatch(), [""; 0], "nothing new starts in what is left");
}

#[test]
fn an_extended_walltime_opens_an_allocation_again() {
    let mut run = one_at_the_start(&[("a", &[])]);
    run.grant(1, 1);
    let later = run.now + Duration::from_secs(3_600 - 100);
    run.apply(Event::AllocationExpired { at: later, allocation: AllocationId(1) });
    run.now = later;
    assert_eq!(run.dispatch(), [""; 0]);
    run.apply(Event::AllocationEndMoved {
        at: later,
        allocation: AllocationId(1),
        ends_at: Some(later + Duration::from_secs(3600)),
    });
    assert_eq!(run.engine.next_expiry(), Some(later + Duration::from_secs(3600 - 180)));
    run.check_replay();
    assert_eq!(run.dispatch(), ["a"]);
}

#[test]
fn what_runs_in_a_leaving_allocation_is_told_once_that_time_is_up() {
    let mut run = one_at_the_start(&[("a", &[])]);
    run.grant(1, 1);
    assert_eq!(run.dispatch(), ["a"]);
    let allocation = AllocationId(1);
    run.apply(Event::AllocationLeaving { at: run.now, allocation });
    let stop_at = run.engine.next_expiry().expect("what runs there still has an end");
    let effects = run.apply(Event::AllocationExpired { at: stop_at, allocation });
    assert_eq!(effects.len(), 1);
    assert_eq!(run.engine.next_expiry(), None);
    run.check_replay();
}

#[test]
fn a_leaving_allocation_takes_nothing_more() {
    let mut run = one_at_the_start(&[("a", &[]), ("b", &["a"])]);
    run.grant(1, 2);
    assert_eq!(run.dispatch(), ["a"]);
    run.apply(Event::AllocationLeaving { at: run.now, allocation: AllocationId(1) });
    run.check_replay();
    run.exit("a", 0);
    assert_eq!(run.dispatch(), [""; 0]);
    assert_eq!(run.engine.future_in(AllocationId(1), run.now), Future::Never);
    run.end_allocation(1, AllocationEnd::Completed);
    assert_eq!(run.engine.conclusion(), Some(Conclusion::Stuck));
}

#[test]
fn nodes_that_come_when_nobody_wants_them_any_more_take_nothing() {
    let mut run = one_at_the_start(&[("a", &[])]);
    run.apply(Event::AllocationLeaving { at: run.now, allocation: AllocationId(1) });
    run.grant(1, 2);
    assert_eq!(run.dispatch(), [""; 0]);
    run.check_replay();
    run.end_allocation(1, AllocationEnd::Cancelled);
    assert_eq!(run.engine.conclusion(), Some(Conclusion::Stuck));
}

#[test]
fn jobs_that_have_not_ended_are_open_for_the_schedulers_that_serve_them() {
    let jobs: &[(&str, &[&str])] = &[("first", &[]), ("second", &["first"])];
    let mut workflow = with_actions(jobs, vec![nodes_on(Trigger::OnWorkflowStart, 0, 1)]);
    workflow.header.schedulers.push(scheduler("other", 1));
    workflow.jobs[0].scheduler = Some(0);
    workflow.jobs[1].scheduler = Some(1);
    let mut run = Run::begin_without_nodes(workflow);
    run.act();
    let open = |run: &Run| [0, 1].map(|one| run.engine.has_open_job_for(one, |_| true));
    assert_eq!(open(&run), [true, true], "one of them waits for the other");
    assert!(!run.engine.has_open_job_for(0, |_| false));
    run.grant(1, 1);
    assert_eq!(run.dispatch(), ["first"]);
    assert_eq!(open(&run), [true, true], "what runs may have to run again");
    run.exit("first", 0);
    assert_eq!(open(&run), [false, true]);
}

#[test]
fn an_allocation_whose_nodes_take_nothing_new_is_good_for_something_if_they_recover() {
    let mut run = one_at_the_start(&[("a", &[])]);
    run.grant(1, 2);
    let future = |run: &Run| run.engine.future_in(AllocationId(1), run.now);
    assert_eq!(future(&run), Future::Open);
    run.reach(1, false);
    assert_eq!(future(&run), Future::Open, "its worker may be back in a moment");
    for state in [NodeState::Draining, NodeState::Down] {
        let node =
            run.engine.allocation_book(AllocationId(1)).expect("is there").allocation.nodes[0].0;
        run.change_node(node, state);
        assert_eq!(future(&run), Future::IfNodesRecover);
    }
}

#[test]
fn stages_ask_for_their_own_nodes_once_all_their_jobs_are_ready() {
    let jobs: &[(&str, &[&str])] =
        &[("prepare", &[]), ("train", &["prepare"]), ("eval", &["prepare"])];
    let (train, eval) = (JobId(2), JobId(3));
    let mut workflow = with_actions(
        jobs,
        vec![
            nodes_on(Trigger::OnWorkflowStart, 0, 1),
            nodes_on(Trigger::OnJobsReady([train, eval].into()), 1, 2),
            commands_on(Trigger::OnJobsComplete([train, eval].into()), &["report"]),
        ],
    );
    workflow.header.schedulers.push(scheduler("big", 4));
    workflow.jobs[0].scheduler = Some(0);
    let mut run = Run::begin_without_nodes(workflow);
    assert_eq!(run.act().0, ["action 0", "allocation 1 of scheduler 0"]);
    assert!(run.engine.has_ready_job_for(0, |_| true));
    assert!(!run.engine.has_ready_job_for(1, |_| true), "nothing is ready for it yet");
    run.grant(1, 1);
    run.dispatch();
    assert_eq!(run.act().0, [""; 0]);
    run.exit("prepare", 0);
    let fired = run.act().0;
    assert_eq!(fired, ["action 1", "allocation 2 of scheduler 1", "allocation 3 of scheduler 1"]);
    assert!(run.engine.has_ready_job_for(1, |_| true));
    run.check_replay();
    run.grant(2, 2);
    assert_eq!(run.dispatch().len(), 2);
    run.exit("train", 1);
    assert_eq!(run.act().0, [""; 0]);
    run.exit("eval", 0);
    assert_eq!(run.act().0, ["action 2"]);
}

#[test]
fn commands_run_in_order_and_stop_at_the_first_failure() {
    let jobs: &[(&str, &[&str])] = &[("a", &[])];
    let complete = commands_on(Trigger::OnWorkflowComplete, &["one", "two", "three"]);
    let start = commands_on(Trigger::OnWorkflowStart, &["hello"]);
    let mut workflow = with_actions(jobs, vec![start, complete]);
    workflow.header.actions.push(nodes_on(Trigger::OnWorkflowStart, 0, 1));
    let mut run = Run::begin_without_nodes(workflow);
    let (fired, effects) = run.act();
    assert_eq!(fired, ["action 0", "action 2", "allocation 1 of scheduler 0"]);
    let hello = ActionCommand { action: 0, worker: None, command: 0 };
    assert_eq!(effects, [Effect::RunCommand(hello)]);
    assert_eq!(run.engine.command_text(hello), Some("hello"));
    assert_eq!(run.end_command(0, None, 0, 0), 0);
    run.grant(1, 1);
    run.dispatch();
    run.exit("a", 0);
    assert_eq!(run.act().0, ["action 1"]);
    assert_eq!(run.engine.conclusion(), None, "its commands run first");
    assert_eq!(run.end_command(1, None, 0, 0), 1, "the next one follows");
    let under_way: Vec<_> = run.replayed().commands_under_way().collect();
    assert_eq!(under_way, [ActionCommand { action: 1, worker: None, command: 1 }]);
    let twice =
        Event::ActionCommandEnded { at: run.now, action: 1, worker: None, command: 0, code: 0 };
    assert!(run.engine.apply(&twice).is_err(), "a report that comes twice changes nothing");
    assert_eq!(run.end_command(1, None, 1, 3), 0, "no other follows a failure");
    assert_eq!(run.engine.firings(1).next().map(|(_, firing)| firing.failed), Some(Some(3)));
    assert_eq!(run.engine.conclusion(), Some(Conclusion::Complete));
}

#[test]
fn a_persistent_action_fires_for_each_worker_and_another_for_the_first() {
    let mut each = commands_on(Trigger::OnWorkerStart, &["mount"]);
    each.persistent = true;
    let once = commands_on(Trigger::OnWorkerStart, &["announce"]);
    let mut last = commands_on(Trigger::OnWorkerComplete, &["unmount"]);
    last.persistent = true;
    let start = nodes_on(Trigger::OnWorkflowStart, 0, 2);
    let workflow = with_actions(&[("a", &[])], vec![start, each, once, last]);
    let mut run = Run::begin_without_nodes(workflow);
    run.act();
    run.grant(2, 1);
    assert_eq!(run.act().0, ["action 1 for 2", "action 2 for 2"]);
    run.grant(1, 1);
    assert_eq!(run.act().0, ["action 1 for 1"]);
    assert!(run.engine.awaits_last_commands(), "two workers are to unmount");
    run.apply(Event::AllocationLeaving { at: run.now, allocation: AllocationId(1) });
    assert_eq!(run.act().0, ["action 3 for 1"]);
    run.end_allocation(1, AllocationEnd::Completed);
    run.end_allocation(2, AllocationEnd::NodeFailed);
    assert_eq!(run.act().0, ["action 3 for 2"], "also for one that was lost");
    assert!(!run.engine.awaits_last_commands(), "both have been told to");
    run.check_replay();
}

#[test]
fn a_new_run_fires_its_actions_anew() {
    let mut run = one_at_the_start(&[("a", &[])]);
    run.end_allocation(1, AllocationEnd::Failed);
    run.apply(Event::RunEnded { at: run.now, complete: false });
    run.start();
    assert_eq!(run.act().0, ["action 0", "allocation 2 of scheduler 0"]);
    run.check_replay();
}

#[test]
fn a_worker_that_lost_its_orders_is_given_them_again() {
    let mut run = one_at_the_start(&[("a", &[])]);
    run.grant(1, 1);
    run.dispatch();
    let dispatched = run.log.last().cloned();
    assert_eq!(run.engine.dispatch_of(JobId(1)), dispatched);
    run.exit("a", 0);
    assert_eq!(run.engine.dispatch_of(JobId(1)), None);
}

#[test]
fn a_gang_waits_for_an_allocation_of_its_width() {
    let mut workflow =
        with_actions(&[("wide", &[])], vec![nodes_on(Trigger::OnWorkflowStart, 0, 1)]);
    workflow.header.requirements.push(requirements(1, 2));
    workflow.jobs[0].requirements = 1;
    let mut run = Run::begin_without_nodes(workflow);
    run.act();
    assert!(!run.engine.has_ready_job_for(0, |_| true), "one node is too few");
    run.grant(1, 4);
    run.dispatch();
    assert!(matches!(run.engine.waiting(JobId(1), run.now), Some(WaitCause::Never(_))));
    assert_eq!(run.engine.future_in(AllocationId(1), run.now), Future::Never);
}
