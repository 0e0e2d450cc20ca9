//! Nodes that take so many single-node jobs at once, as the action says that asked for them.

use std::num::NonZeroU32;
use std::time::Duration;

use super::allocations::{nodes_on, with_actions};
use super::faults::{Stubborn, start};
use super::{Run, node, requirements, workflow};
use crate::engine::{Event, LaunchContext, PlacementFault, Refused};
use crate::ids::{AllocationId, JobId, NodeId};
use crate::resources::{MemoryRequest, NodeInventory, Slots};
use crate::traits::{Outcome, Start};
use crate::workflow::{Action, ActionKind, ExecutionMode, Requirements, Trigger, Workflow};

const LARGE: u64 = 1 << 40;

/// An action that asks for one allocation, with so many jobs at once on each node.
fn asking(max_parallel_jobs: Option<u32>) -> Action {
    let mut action = nodes_on(Trigger::OnWorkflowStart, 0, 1);
    if let ActionKind::ScheduleNodes { max_parallel_jobs: most, .. } = &mut action.kind {
        *most = max_parallel_jobs;
    }
    action
}

/// Jobs that are larger than any node here, in mode direct.
fn large_jobs(names: &[&str], actions: Vec<Action>) -> Workflow {
    let jobs: Vec<(&str, &[&str])> = names.iter().map(|name| (*name, &[] as &[&str])).collect();
    let mut made = with_actions(&jobs, actions);
    made.header.execution.mode = ExecutionMode::Direct;
    let memory = MemoryRequest::Bytes(LARGE);
    made.header.requirements = vec![Requirements { memory, ..requirements(1000, 1) }];
    made
}

/// Four of them, and an allocation of one node of 5 CPUs that takes two at once.
fn two_at_once() -> Run {
    let mut run =
        Run::begin_without_nodes(large_jobs(&["a", "b", "c", "d"], vec![asking(Some(2))]));
    run.act();
    run.submit(1);
    run.grant(1, 5);
    run
}

/// The nodes of the allocations that were granted, as they are stored: their slots.
fn granted(run: &Run) -> Vec<Option<u32>> {
    let granted = run.log.iter().filter_map(|event| match event {
        Event::AllocationGranted { allocation, .. } => Some(&allocation.nodes),
        _ => None,
    });
    granted.flatten().map(|(_, node)| node.slots.map(u32::from)).collect()
}

#[test]
fn an_action_says_how_many_jobs_its_nodes_take() {
    let mut run = two_at_once();
    assert_eq!(granted(&run), [Some(2)]);
    assert_eq!(run.dispatch(), ["a", "b"]);
    assert_eq!(run.replayed().snapshot(), run.engine.snapshot());
    run.exit("a", 0);
    assert_eq!(run.dispatch(), ["c"]);
}

#[test]
fn each_allocation_has_the_slots_of_its_own_action() {
    let actions = vec![asking(Some(3)), asking(None), asking(Some(100_000))];
    let mut run = Run::begin_without_nodes(large_jobs(&["a"], actions));
    run.act();
    for allocation in 1..=3 {
        run.submit(allocation);
        run.grant(allocation, 4);
    }
    assert_eq!(granted(&run), [Some(3), None, Some(4096)]);
}

#[test]
fn where_srun_starts_each_step_jobs_are_placed_by_what_they_need() {
    let mut made = large_jobs(&["a"], vec![asking(Some(3))]);
    made.header.execution.mode = ExecutionMode::Auto;
    let mut run = Run::begin_without_nodes(made);
    run.act();
    run.submit(1);
    run.grant(1, 4);
    assert_eq!((granted(&run), run.dispatch().len()), (vec![None], 0));
}

#[test]
fn what_a_worker_says_of_slots_does_not_count() {
    let mut run = Run::begin_without_nodes(large_jobs(&["a"], vec![asking(None)]));
    run.act();
    let nodes = vec![NodeInventory { slots: NonZeroU32::new(9), ..node("n", 4) }];
    let allocation = run.engine.grant(AllocationId(1), nodes, None).expect("it was asked for");
    assert_eq!(allocation.nodes[0].1.slots, None);
}

#[test]
fn a_job_has_the_whole_node_to_run_on_and_is_held_to_its_memory() {
    let mut run = two_at_once();
    run.dispatch();
    let Some(Event::Dispatched { job, attempt, placement, .. }) = run.engine.dispatch_of(JobId(2))
    else {
        panic!("it runs");
    };
    assert_eq!((&*placement.shares[0].cores, placement.shares[0].memory), (&[1][..], 0));
    let context = LaunchContext { output_dir: "/out".into(), submission_dir: "/here".into() };
    let step = run.engine.step(job, attempt, &placement, &context).expect("its node is there");
    let here = &step.nodes[0];
    assert_eq!((&*here.cores, here.memory), (&[0, 1, 2, 3, 4][..], 8 << 30));
    assert_eq!(step.limits.memory, Some(LARGE));
}

#[test]
fn a_slot_stands_for_its_part_of_the_cpus() {
    let mut run = two_at_once();
    run.dispatch();
    let cpus = |run: &Run, name| run.engine.latest_attempt(run.job(name)).map(|one| one.cpus);
    assert_eq!([cpus(&run, "a"), cpus(&run, "b")], [Some(2), Some(3)]);
    let time = |run: &Run| {
        let report = run.engine.workflow_report(run.now, true, &[]);
        [report.held_cpu_ms, report.idle_cpu_ms.sum()].map(|ms| ms / 1000)
    };
    run.later(10);
    assert_eq!(time(&run), [50, 0], "no CPU is idle while both slots are taken");
    run.end_after(Duration::ZERO, "a", Outcome::Exited { code: 0 });
    run.later(10);
    assert_eq!(time(&run), [80, 20]);
    let report = run.engine.workflow_report(run.now, true, &[]);
    let shown = &report.nodes[0];
    let slots = Some(Slots { all: 2, used: 1 });
    assert_eq!((shown.cpus, shown.cpus_used, shown.slots, shown.jobs), (5, 3, slots, 1));
}

#[test]
fn the_end_is_expected_when_the_rest_has_kept_every_slot_busy() {
    let run = two_at_once();
    let expected = |run: &Run| {
        let end = run.engine.workflow_report(run.now, true, &[]).expected_end;
        end.expect("all runtimes are declared").since(run.now)
    };
    assert_eq!(expected(&run), Duration::from_secs(120), "four jobs of a minute, two at once");
    let mut made = large_jobs(&["gang", "a"], vec![asking(Some(4))]);
    made.header.requirements.push(requirements(1, 2));
    made.jobs[0].requirements = 1;
    let mut run = Run::begin_without_nodes(made);
    run.act();
    run.submit(1);
    let nodes = vec![node("n1", 2), node("n2", 2)];
    let allocation = run.engine.grant(AllocationId(1), nodes, None).expect("it was asked for");
    run.apply(Event::AllocationGranted { at: run.now, began_at: None, allocation });
    assert_eq!(expected(&run), Duration::from_millis(60_000 * 9 / 8), "8 slots and 1, of 8");
}

/// Starts on a node of 4 CPUs and one of 2, each with three slots, of two jobs and a gang of two nodes that
/// is to have so many CPUs on each.
fn check(starts: &[Start], gang_cpus: u32, expected: &[PlacementFault]) {
    let mut made = workflow(&[("a", &[]), ("b", &[]), ("gang", &[])]);
    let memory = MemoryRequest::Bytes(LARGE);
    made.header.requirements =
        vec![Requirements { memory, ..requirements(9, 1) }, requirements(gang_cpus, 2)];
    made.jobs[2].requirements = 1;
    let slots = NonZeroU32::new(3);
    let nodes = [node("n1", 4), node("n2", 2)].map(|node| NodeInventory { slots, ..node });
    let placer = Box::new(Stubborn(starts.to_vec()));
    let mut run = Run::begin_with(made, nodes.into(), placer);
    let faults = run.engine.dispatch(run.now, usize::MAX).faults;
    let faults = faults.into_iter().map(|refused| match refused {
        Refused::Placement { fault, .. } => fault,
        other => panic!("{other:?}"),
    });
    assert_eq!(faults.collect::<Vec<_>>(), expected, "{starts:?}");
}

#[test]
fn slots_are_checked_like_cpus() {
    use PlacementFault::{Oversubscribed, TooLittle};
    let (first, second) = (NodeId(0), NodeId(1));
    check(&[start(1, &[(0, &[2], 0)]), start(2, &[(1, &[2], 0)])], 1, &[]);
    check(&[start(1, &[(0, &[2], 0)]), start(2, &[(0, &[2], 0)])], 1, &[Oversubscribed(first)]);
    check(&[start(1, &[(0, &[3], 0)])], 1, &[Oversubscribed(first)]);
    check(&[start(1, &[(0, &[], 0)])], 1, &[TooLittle(first)]);
    check(&[start(1, &[(0, &[0, 1], 0)])], 1, &[TooLittle(first)]);
    let all: &[u16] = &[0, 1, 2];
    let gang = start(3, &[(0, all, 1 << 20), (1, all, 1 << 20)]);
    check(std::slice::from_ref(&gang), 2, &[]);
    check(std::slice::from_ref(&gang), 3, &[TooLittle(second)]);
    check(&[start(1, &[(1, &[0], 0)]), gang], 1, &[Oversubscribed(second)]);
    check(&[start(3, &[(0, all, 1 << 20), (1, &[0, 1], 1 << 20)])], 1, &[TooLittle(second)]);
    check(&[start(3, &[(0, all, 0), (1, all, 1 << 20)])], 1, &[TooLittle(first)]);
}
