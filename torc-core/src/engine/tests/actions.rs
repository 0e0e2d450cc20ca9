//! When actions fire, and for whom.

use super::Run;
use super::allocations::{commands_on, nodes_on, with_actions};
use crate::engine::Event;
use crate::ids::{AllocationId, JobId};
use crate::traits::AllocationEnd;
use crate::workflow::{Action, Trigger, Workflow};

/// One job, an allocation at the start, and this action.
fn one_job_and(action: Action) -> Workflow {
    with_actions(&[("a", &[])], vec![nodes_on(Trigger::OnWorkflowStart, 0, 1), action])
}

fn begin(workflow: Workflow) -> Run {
    let mut run = Run::begin_without_nodes(workflow);
    run.act();
    run
}

#[test]
fn jobs_that_are_put_back_are_waited_for_again() {
    let after_both = Trigger::OnJobsComplete([JobId(1), JobId(2)].into());
    let actions =
        vec![nodes_on(Trigger::OnWorkflowStart, 0, 1), commands_on(after_both, &["report"])];
    let mut run = begin(with_actions(&[("a", &[]), ("b", &[])], actions));
    run.grant(1, 2);
    run.dispatch();
    run.exit("a", 1);
    assert_eq!(run.act().0, [""; 0]);
    run.apply(Event::JobsPutBack { at: run.now, jobs: run.engine.jobs_to_put_back() });
    run.exit("b", 0);
    assert_eq!(run.act().0, [""; 0], "the first waits to run again");
    run.dispatch();
    run.exit("a", 0);
    assert_eq!(run.act().0, ["action 1"]);
}

#[test]
fn an_action_for_workers_is_for_those_that_come_in_its_run() {
    let mut each = commands_on(Trigger::OnWorkerStart, &["mount"]);
    each.persistent = true;
    let mut run = begin(one_job_and(each));
    run.grant(1, 1);
    assert_eq!(run.act().0, ["action 1 for 1"]);
    run.end_command(1, Some(1), 0, 0);
    run.dispatch();
    run.exit("a", 1);
    run.apply(Event::RunEnded { at: run.now, complete: true });
    run.start();
    assert_eq!(run.act().0, ["action 0", "allocation 2 of scheduler 0"]);
    run.grant(2, 1);
    assert_eq!(run.act().0, ["action 1 for 2"]);
}

#[test]
fn a_request_that_came_to_nothing_was_no_worker() {
    let mut run = begin(one_job_and(commands_on(Trigger::OnWorkerComplete, &["unmount"])));
    run.end_allocation(1, AllocationEnd::Cancelled);
    assert_eq!(run.act().0, [""; 0]);
}

#[test]
fn a_run_waits_for_the_last_commands_of_workers_that_are_there() {
    #[track_caller]
    fn check(action: Action, expected: bool) {
        let mut run = begin(one_job_and(action));
        assert!(!run.engine.awaits_last_commands(), "there is no worker");
        run.grant(1, 1);
        assert_eq!(run.engine.awaits_last_commands(), expected);
        run.apply(Event::StopRequested { at: run.now });
        assert!(!run.engine.awaits_last_commands(), "they are for the next time");
    }
    check(commands_on(Trigger::OnWorkerComplete, &["unmount"]), true);
    check(commands_on(Trigger::OnWorkerStart, &["mount"]), false);
    check(nodes_on(Trigger::OnWorkerComplete, 0, 1), false);
}

#[test]
fn commands_that_ran_for_a_worker_are_its_own() {
    let mut each = commands_on(Trigger::OnWorkerStart, &["one", "two"]);
    each.persistent = true;
    let start = nodes_on(Trigger::OnWorkflowStart, 0, 2);
    let mut run = begin(with_actions(&[("a", &[])], vec![start, each]));
    run.grant(1, 1);
    run.grant(2, 1);
    assert_eq!(run.act().0, ["action 1 for 1", "action 1 for 2"]);
    assert_eq!(run.end_command(1, Some(2), 0, 7), 0, "no other follows");
    assert_eq!(run.end_command(1, Some(1), 0, 0), 1);
    assert_eq!(run.end_command(1, Some(1), 1, 0), 0, "that was the last");
    assert_eq!(run.engine.commands_under_way().count(), 0);
    let firings = run.engine.firings(1);
    let firings = firings.map(|(worker, found)| (worker, found.commands_ended, found.failed));
    let of = |worker| Some(AllocationId(worker));
    assert_eq!(firings.collect::<Vec<_>>(), [(of(1), 2, None), (of(2), 1, Some(7))]);
}
