//! When actions fire, and for whom.

use super::allocations::{commands_on, nodes_on, with_actions};
use super::{Run, node};
use crate::engine::{Event, Future};
use crate::ids::{AllocationId, JobId, NodeId, WorkerId};
use crate::traits::{AllocationEnd, NodeState};
use crate::workflow::{Action, ExecutionMode, Trigger, Workflow};

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
    let of = |worker| Some(WorkerId { allocation: AllocationId(worker), node: None });
    assert_eq!(firings.collect::<Vec<_>>(), [(of(1), 2, None), (of(2), 1, Some(7))]);
}

/// One job, an allocation of two nodes that each have a worker, and these commands for workers.
fn of_nodes(trigger: Trigger, persistent: bool) -> Run {
    let mut action = commands_on(trigger, &["mount"]);
    action.persistent = persistent;
    let mut workflow = one_job_and(action);
    workflow.header.execution.mode = ExecutionMode::Direct;
    let mut run = begin(workflow);
    run.grant_nodes(1, vec![node("n1", 1), node("n2", 1)]);
    run
}

#[test]
fn in_mode_direct_each_node_has_a_worker() {
    let mut run = of_nodes(Trigger::OnWorkerStart, true);
    assert_eq!(run.act().0, ["action 1 for 1 on node 0", "action 1 for 1 on node 1"]);
    assert_eq!(run.act().0, [""; 0]);
    let commands = run.engine.commands_under_way();
    let nodes: Vec<_> = commands.map(|one| one.worker.and_then(|worker| worker.node)).collect();
    assert_eq!(nodes, [Some(NodeId(0)), Some(NodeId(1))]);
    let is_for = |number| commands_for(&run, AllocationId(number));
    assert_eq!((is_for(1), is_for(2)), (2, 0));
    let mut run = of_nodes(Trigger::OnWorkerStart, false);
    assert_eq!(run.act().0, ["action 1 for 1 on node 0"], "another for the first");
    let mut run = of_nodes(Trigger::OnWorkerStart, true);
    run.change_node(NodeId(1), NodeState::Draining);
    assert_eq!(run.act().0, ["action 1 for 1 on node 0"], "the other is not good");
    run.change_node(NodeId(1), NodeState::Up);
    assert_eq!(run.act().0, ["action 1 for 1 on node 1"]);
    let mut run = of_nodes(Trigger::OnWorkerStart, true);
    run.end_allocation(1, AllocationEnd::Cancelled);
    assert_eq!(run.act().0, [""; 0], "it is over");
}

/// Commands under way that workers of an allocation run.
fn commands_for(run: &Run, allocation: AllocationId) -> usize {
    run.engine.commands_under_way().filter(|command| command.is_for(allocation)).count()
}

#[test]
fn a_worker_whose_node_is_lost_has_left() {
    let mut run = of_nodes(Trigger::OnWorkerComplete, true);
    assert_eq!(run.act().0, [""; 0]);
    run.change_node(NodeId(1), NodeState::Draining);
    assert_eq!(run.act().0, [""; 0]);
    run.change_node(NodeId(1), NodeState::Down);
    assert_eq!(run.act().0, ["action 1 for 1 on node 1"]);
    run.end_allocation(1, AllocationEnd::Cancelled);
    assert_eq!(run.act().0, ["action 1 for 1 on node 0"]);
}

#[test]
fn nodes_on_which_nothing_that_waits_could_start_are_useless() {
    let start = nodes_on(Trigger::OnWorkflowStart, 0, 1);
    let after = commands_on(Trigger::OnWorkerComplete, &["unmount"]);
    let mut workflow = with_actions(&[("a", &[]), ("b", &["a"])], vec![start, after]);
    workflow.header.execution.mode = ExecutionMode::Direct;
    workflow.header.requirements.iter_mut().for_each(|needs| needs.cpus = 2);
    workflow.header.execution.release_idle_nodes = true;
    let mut run = begin(workflow);
    run.grant_nodes(1, ["n1", "n2", "n3"].map(|name| node(name, 2)).into());
    let useless = |run: &Run| {
        let useless = run.engine.useless_nodes(AllocationId(1), run.now).into_iter();
        useless.map(|(node, future)| (future == Future::Never).then_some(node)).collect::<Vec<_>>()
    };
    run.dispatch();
    assert_eq!(useless(&run), [], "the other job waits for the first, and may start anywhere");
    run.exit("a", 0);
    run.dispatch();
    assert_eq!(useless(&run), [1, 2].map(|node| Some(NodeId(node))), "it runs on the first");
    run.apply(Event::NodeLeaving { at: run.now, node: NodeId(1) });
    assert!(run.engine.is_leaving(NodeId(1)) && !run.engine.is_leaving(NodeId(2)));
    assert_eq!(useless(&run), [Some(NodeId(2))], "that one is said");
    assert_eq!(run.act().0, ["action 1 for 1 on node 1"], "its worker leaves");
    run.change_node(NodeId(1), NodeState::Up);
    let state = run.engine.node_state(NodeId(1));
    assert_eq!(state, Some(NodeState::Draining), "it stays so");
    run.exit("b", 0);
    assert_eq!(useless(&run), [Some(NodeId(2))], "never the first: the allocation ends with it");
}

#[test]
fn nodes_that_a_job_on_several_needs_are_of_use() {
    let start = nodes_on(Trigger::OnWorkflowStart, 0, 1);
    let mut workflow = with_actions(&[("a", &[])], vec![start]);
    workflow.header.requirements.iter_mut().for_each(|needs| (needs.cpus, needs.nodes) = (2, 2));
    let mut run = begin(workflow);
    run.grant_nodes(1, vec![node("n1", 2), node("n2", 1), node("n3", 2)]);
    let useless = |run: &Run| run.engine.useless_nodes(AllocationId(1), run.now);
    let too_small = (NodeId(1), Future::Never);
    assert_eq!(useless(&run), [too_small], "one that is too small is of no use to it");
    run.change_node(NodeId(0), NodeState::Draining);
    let in_vain = [too_small, (NodeId(2), Future::IfNodesRecover)];
    assert_eq!(useless(&run), in_vain, "alone it is too few");
    run.change_node(NodeId(0), NodeState::Down);
    assert_eq!(useless(&run), [too_small, (NodeId(2), Future::Never)]);
}

#[test]
fn nodes_are_kept_that_a_job_would_need_if_it_lost_one_of_its_own() {
    let useless = |nodes: u32, sizes: &[u32], gives_back: bool| {
        let start = nodes_on(Trigger::OnWorkflowStart, 0, 1);
        let mut workflow = with_actions(&[("a", &[])], vec![start]);
        workflow.header.execution.release_idle_nodes = gives_back;
        let needs = &mut workflow.header.requirements;
        needs.iter_mut().for_each(|needs| (needs.cpus, needs.nodes) = (2, nodes));
        let mut run = begin(workflow);
        let names = ["n0", "n1", "n2", "n3", "n4"];
        run.grant_nodes(1, names.iter().zip(sizes).map(|(name, cpus)| node(name, *cpus)).collect());
        run.dispatch();
        let useless = run.engine.useless_nodes(AllocationId(1), run.now);
        useless.into_iter().map(|(node, _)| node.0).collect::<Vec<_>>()
    };
    assert_eq!(useless(1, &[2, 2, 2, 2], false), [2, 3], "the first of those that idle is kept");
    assert_eq!(useless(1, &[2, 2, 2, 2], true), [1, 2, 3], "unless they are to be given back");
    assert_eq!(useless(1, &[2, 1, 2, 2], false), [1, 3], "one that is too small is no spare");
    assert_eq!(useless(2, &[2, 2, 2, 2, 2], false), [3, 4]);
    assert_eq!(useless(2, &[2, 2, 2], false), [0; 0]);
    assert_eq!(useless(2, &[2, 2, 1], false), [2]);
}

/// One job, on a node that is simply there, and these actions.
fn with_own_node(actions: Vec<Action>) -> Run {
    Run::begin(with_actions(&[("a", &[])], actions), vec![node("n", 1)])
}

#[test]
fn where_nodes_are_there_nobody_is_asked_for_others() {
    let mut run = with_own_node(vec![
        nodes_on(Trigger::OnWorkflowStart, 0, 2),
        commands_on(Trigger::OnWorkflowStart, &["begin"]),
        commands_on(Trigger::OnWorkerStart, &["mount"]),
        commands_on(Trigger::OnWorkflowComplete, &["report"]),
    ]);
    assert_eq!(run.act().0, ["action 0", "action 1", "action 2 for 1"]);
    run.dispatch();
    run.exit("a", 1);
    assert_eq!(run.act().0, ["action 3"], "also if a job has failed");
    assert_eq!(run.engine.conclusion(), None);
    for (action, worker) in [(1, None), (2, Some(1)), (3, None)] {
        run.end_command(action, worker, 0, 0);
    }
    assert!(run.engine.conclusion().is_some());
    assert_eq!(run.replayed().conclusion(), run.engine.conclusion());
}

#[test]
fn the_next_worker_takes_the_place_of_one_that_died_with_torc() {
    let mut come = commands_on(Trigger::OnWorkerStart, &["mount"]);
    come.persistent = true;
    let mut run = with_own_node(vec![come, commands_on(Trigger::OnWorkerComplete, &["unmount"])]);
    assert_eq!(run.act().0, ["action 0 for 1"]);
    assert!(run.engine.awaits_last_commands());
    run.end_allocation(1, AllocationEnd::Unknown);
    run.apply(Event::RunResumed { at: run.now });
    let allocation = run.engine.number_allocation(vec![node("n", 1)], [].into(), None);
    run.apply(Event::AllocationGranted { at: run.now, began_at: None, allocation });
    assert_eq!(run.act().0, ["action 0 for 2"], "nothing was unmounted");
    run.apply(Event::AllocationLeaving { at: run.now, allocation: AllocationId(2) });
    assert_eq!(run.act().0, ["action 1 for 2"]);
    assert!(!run.engine.awaits_last_commands());
}

/// Workers that stay until their allocations end.
fn keeping() -> Run {
    let mut each = commands_on(Trigger::OnWorkerComplete, &["unmount"]);
    each.persistent = true;
    let mut workflow = one_job_and(each);
    workflow.header.ignore_workflow_completion = true;
    let mut run = begin(workflow);
    run.grant(1, 1);
    run.dispatch();
    run
}

#[test]
fn workers_that_are_kept_hold_up_no_end_and_have_last_commands_after_it() {
    let mut run = keeping();
    assert!(run.engine.keeps_workers() && !run.engine.awaits_last_commands());
    run.exit("a", 1);
    assert_eq!(run.act().0, [""; 0]);
    run.apply(Event::RunEnded { at: run.now, complete: true });
    assert_eq!(run.act().0, [""; 0], "it is still there");
    // A run later.
    run.start();
    assert_eq!(run.act().0, ["action 0", "allocation 2 of scheduler 0"]);
    assert_eq!(run.dispatch(), ["a"], "on the worker that was kept");
    run.exit("a", 0);
    run.apply(Event::RunEnded { at: run.now, complete: true });
    run.end_allocation(1, AllocationEnd::TimedOut);
    assert_eq!(run.act().0, ["action 1 for 1"]);
    assert_eq!(run.engine.commands_under_way().count(), 1);
    assert_eq!(run.end_command(1, Some(1), 0, 0), 0);
    assert_eq!(run.replayed().commands_under_way().count(), 0);
}

#[test]
fn workers_are_not_kept_of_what_was_called_off() {
    let mut run = keeping();
    run.apply(Event::CancelRequested { at: run.now, jobs: Some(vec![JobId(1)]) });
    assert!(run.engine.keeps_workers(), "that was one job");
    run.apply(Event::CancelRequested { at: run.now, jobs: None });
    assert!(!run.engine.keeps_workers() && !run.replayed().keeps_workers());
    run.exit("a", 1);
    run.apply(Event::RunEnded { at: run.now, complete: true });
    run.start();
    assert!(run.engine.keeps_workers(), "the next run is another");
    let own = with_own_node(Vec::new());
    assert!(!own.engine.keeps_workers(), "nobody was asked for that");
}
