//! What the CPUs of a run did, and why they were idle.

use std::collections::BTreeSet;
use std::time::Duration;

use super::allocations::{nodes_on, one_at_the_start, scheduler, with_actions};
use super::{Run, job, node, requirements, workflow};
use crate::engine::Event;
use crate::idle::IdleCause;
use crate::ids::{AllocationId, NodeId};
use crate::traits::{AllocationEnd, NodeState};
use crate::workflow::Trigger;

impl Run {
    fn pass(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
    }

    /// CPU-seconds of the run until now, those that are not zero. The log leads to the same.
    fn time(&self) -> String {
        let of = |engine: &crate::engine::Engine| engine.idleness.until(self.now);
        let time = of(&self.engine);
        assert_eq!(of(&self.replayed()), time);
        let causes = IdleCause::ALL.iter().filter(|cause| time.idle.of(**cause) > 0);
        let words =
            causes.map(|cause| format!("{} {}", cause.words(), time.idle.of(*cause) / 1000));
        let mut words: Vec<String> = words.collect();
        words.insert(0, format!("held {}", time.held / 1000));
        words.join(", ")
    }
}

#[test]
fn the_time_of_an_allocation_has_its_causes_from_its_beginning_to_its_end() {
    let mut run = one_at_the_start(&[("a", &[]), ("b", &["a"])]);
    run.submit(1);
    run.pass(30);
    let ends_at = run.now + Duration::from_secs(3600);
    let nodes = vec![node("n1", 4)];
    let allocation = run.engine.grant(AllocationId(1), nodes, Some(ends_at)).expect("asked for");
    let began_at = Some(crate::time::Timestamp(run.now.0 - 20_000));
    run.apply(Event::AllocationGranted { at: run.now, began_at, allocation });
    assert_eq!(run.time(), "held 0, starting up 80");
    run.dispatch();
    run.pass(10);
    let expected = "held 10, starting up 80, no ready job 30";
    assert_eq!(run.time(), expected, "a runs, b is blocked");
    run.apply(Event::NodeStateChanged {
        at: run.now,
        node: NodeId(0),
        state: NodeState::Draining,
        reason: String::new(),
    });
    run.pass(9);
    run.exit("a", 0);
    let expected = "held 20, starting up 80, draining 30, no ready job 30";
    assert_eq!(run.time(), expected);
    assert_eq!(run.dispatch(), [""; 0]);
    run.pass(5);
    let (at, node, reason) = (run.now, NodeId(0), String::new());
    run.apply(Event::NodeStateChanged { at, node, state: NodeState::Up, reason });
    assert_eq!(run.dispatch(), ["b"]);
    run.pass(10);
    let expected = "held 30, starting up 80, draining 50, no ready job 30, tail 30";
    assert_eq!(run.time(), expected);
    run.pass(100);
    let worker_is_gone =
        Event::AllocationReachable { at: run.now, allocation: AllocationId(1), reachable: false };
    run.apply(worker_is_gone);
    run.pass(9);
    run.exit("b", 0);
    let expected = "held 140, starting up 80, draining 80, no ready job 30, tail 330";
    assert_eq!(run.time(), expected);
    run.apply(Event::RunEnded { at: run.now, complete: true });
    run.pass(1000);
    assert_eq!(run.time(), expected, "what comes after the run is not its time");
    run.end_allocation(1, AllocationEnd::Completed);
    assert_eq!(run.time(), expected);
}

#[test]
fn nodes_that_a_gang_was_promised_are_held_and_said_to_be_since_when() {
    let mut jobs = workflow(&[]);
    jobs.header.requirements = vec![requirements(1, 1), requirements(2, 2)];
    for (name, needs) in [("s", 0), ("gang", 1)] {
        let mut one = job(name, BTreeSet::new());
        one.requirements = needs;
        jobs.jobs.push(one);
    }
    let mut run = Run::begin(jobs, vec![node("n1", 2), node("n2", 2)]);
    let began = run.now;
    let dispatch = run.engine.dispatch(run.now, usize::MAX);
    run.log.extend(dispatch.started);
    run.log.extend(dispatch.held.clone());
    let gang = run.job("gang");
    let held = |nodes: Vec<NodeId>| Some(Event::NodesHeld { at: began, held: vec![(gang, nodes)] });
    assert_eq!(dispatch.held, held(vec![NodeId(0), NodeId(1)]));
    run.pass(4);
    assert_eq!(run.time(), "held 4, held for a planned start 12");
    let report = run.engine.workflow_report(run.now, true, &dispatch.planned);
    let since = report.planned[0].held.iter().map(|node| (node.name.as_str(), node.since));
    assert_eq!(since.collect::<Vec<_>>(), [("n1", began), ("n2", began)]);
    run.exit("s", 0);
    assert_eq!(run.dispatch(), ["gang"]);
    let last = run.log.last().expect("something happened").clone();
    assert_eq!(last, Event::NodesHeld { at: run.now, held: Vec::new() });
    run.exit("gang", 0);
    assert_eq!(run.engine.dispatch(run.now, usize::MAX).held, None);
}

#[test]
fn a_run_that_nobody_drives_gives_nothing_away() {
    let mut run = one_at_the_start(&[("a", &[]), ("b", &["a"])]);
    run.submit(1);
    run.grant(1, 3);
    run.dispatch();
    run.pass(10);
    run.apply(Event::CancelRequested { at: run.now, jobs: Some(Vec::new()) });
    run.pass(100);
    run.apply(Event::RunResumed { at: run.now });
    assert_eq!(run.time(), "held 110, draining 200, no ready job 20");
    run.apply(Event::StopRequested { at: run.now });
    run.pass(1);
    assert_eq!(run.time(), "held 111, draining 200, no ready job 20, tail 2");
}

/// Two schedulers of one node each, and jobs with the index of the scheduler that they are pinned to and
/// the CPUs that they want.
fn pinned(jobs: &[(&str, u32, u32)]) -> Run {
    let actions =
        vec![nodes_on(Trigger::OnWorkflowStart, 0, 2), nodes_on(Trigger::OnWorkflowStart, 1, 1)];
    let mut made = with_actions(&[], actions);
    made.header.schedulers.push(scheduler("gpu", 1));
    made.header.requirements = vec![requirements(1, 1), requirements(2, 1), requirements(3, 1)];
    for (name, scheduler, cpus) in jobs {
        let mut one = job(name, BTreeSet::new());
        one.scheduler = Some(*scheduler);
        one.requirements = cpus - 1;
        made.jobs.push(one);
    }
    let mut run = Run::begin_without_nodes(made);
    run.act();
    for allocation in 1..=3 {
        run.submit(allocation);
    }
    run
}

#[test]
fn each_allocation_is_idle_for_the_jobs_that_may_run_there() {
    let mut run = pinned(&[("a", 0, 2), ("b", 0, 2), ("c", 1, 1)]);
    run.grant(1, 3);
    run.dispatch();
    run.pass(10);
    assert_eq!(run.time(), "held 20, nothing fits 10", "b needs two CPUs");
    run.grant(3, 3);
    run.dispatch();
    run.pass(10);
    assert_eq!(run.time(), "held 50, tail 20, nothing fits 20", "on the other nothing waits");
    run.grant(2, 3);
    run.dispatch();
    run.pass(10);
    let expected = "held 100, tail 60, nothing fits 20";
    assert_eq!(run.time(), expected, "b runs on the second of its scheduler");
    run.exit("c", 0);
    run.end_allocation(3, AllocationEnd::Completed);
    run.pass(10);
    let expected = "held 145, tail 84, nothing fits 20";
    assert_eq!(run.time(), expected, "an allocation that has ended has no time");
}

#[test]
fn what_could_not_end_in_time_is_not_started_and_said_so() {
    let mut run = pinned(&[("a", 0, 3), ("b", 0, 3)]);
    run.grant(1, 3);
    assert_eq!(run.dispatch(), ["a"]);
    run.pass(10);
    run.exit("a", 0);
    let allocation = AllocationId(1);
    // Two minutes of grace, and a runtime of one: it may start until just before the end.
    let ends_at = Some(run.now);
    run.apply(Event::AllocationEndMoved { at: run.now, allocation, ends_at });
    assert_eq!(run.dispatch(), [""; 0]);
    run.pass(10);
    assert_eq!(run.time(), "held 33, walltime too short 30");
    let cause = |run: &Run| run.engine.idleness.cause(NodeId(0), run.now);
    assert_eq!(cause(&run), Some(IdleCause::Walltime));
    run.apply(Event::AllocationLeaving { at: run.now, allocation });
    run.pass(10);
    assert_eq!(run.time(), "held 33, walltime too short 60");
}

#[test]
fn a_run_counts_its_own_time() {
    let mut run = Run::begin(workflow(&[("a", &[])]), vec![node("n1", 2)]);
    run.dispatch();
    run.pass(9);
    run.exit("a", 1);
    assert_eq!(run.time(), "held 10, tail 10");
    run.apply(Event::RunEnded { at: run.now, complete: true });
    run.pass(50);
    run.start();
    assert_eq!(run.time(), "held 0");
    run.pass(10);
    assert_eq!(run.time(), "held 0, nothing fits 20", "it is ready, and nobody has decided");
    run.apply(Event::StopRequested { at: run.now });
    run.pass(10);
    assert_eq!(run.time(), "held 0, tail 20, nothing fits 20");
    run.apply(Event::RunResumed { at: run.now });
    run.pass(10);
    let expected = "held 0, draining 20, nothing fits 40";
    assert_eq!(run.time(), expected, "it was not known that it had stopped, but for how long");
}

#[test]
fn a_node_that_is_held_for_another_job_is_held_anew() {
    let mut run =
        Run::begin(workflow(&[("a", &[]), ("b", &[])]), vec![node("n1", 2), node("n2", 2)]);
    let [a, b] = ["a", "b"].map(|name| run.job(name));
    let hold = |run: &mut Run, job, nodes: &[u32]| {
        let held = vec![(job, nodes.iter().copied().map(NodeId).collect())];
        assert!(!run.engine.idleness.holds(&held));
        run.apply(Event::NodesHeld { at: run.now, held: held.clone() });
        assert!(run.engine.idleness.holds(&held));
    };
    let since = |run: &Run, node| run.engine.idleness.hold_of(NodeId(node)).map(|hold| hold.since);
    let first = run.now;
    hold(&mut run, a, &[0]);
    run.pass(5);
    hold(&mut run, a, &[0, 1]);
    assert_eq!([0, 1].map(|node| since(&run, node)), [Some(first), Some(run.now)]);
    run.pass(5);
    hold(&mut run, b, &[0, 1]);
    assert_eq!([0, 1].map(|node| since(&run, node)), [Some(run.now); 2]);
    hold(&mut run, b, &[1]);
    assert_eq!(since(&run, 0), None);
}

#[test]
fn who_waits_is_known_while_one_of_several_classes_is_left() {
    let mut run = pinned(&[("a", 0, 3), ("b", 0, 3), ("c", 0, 2)]);
    run.grant(1, 4);
    run.dispatch();
    let c = run.job("c");
    run.apply(Event::CancelRequested { at: run.now, jobs: Some(vec![c]) });
    run.pass(10);
    assert_eq!(run.time(), "held 30, nothing fits 10", "b waits as before");
}

#[test]
fn where_no_job_may_run_for_want_of_labels_nothing_waits() {
    let mut run = Run::begin(workflow(&[("a", &[]), ("b", &[])]), vec![node("n1", 1)]);
    let labels = [Box::from("x")].into();
    let allocation = run.engine.number_allocation(vec![node("n2", 1)], labels, None);
    run.apply(Event::AllocationGranted { at: run.now, began_at: None, allocation });
    run.dispatch();
    run.pass(10);
    assert_eq!(run.time(), "held 10, tail 10");
}

#[test]
fn what_is_left_of_several_allocations_is_told_what_waits() {
    let mut run = pinned(&[("a", 0, 2), ("b", 0, 2), ("c", 0, 2)]);
    run.grant(1, 3);
    run.grant(2, 3);
    assert_eq!(run.dispatch(), ["a", "b"]);
    run.exit("a", 0);
    run.end_allocation(1, AllocationEnd::Completed);
    run.pass(10);
    let expected = "held 24, nothing fits 12";
    assert_eq!(run.time(), expected, "a second of both, and ten of one");
    run.apply(Event::CancelRequested { at: run.now, jobs: Some(vec![run.job("c")]) });
    run.pass(10);
    assert_eq!(run.time(), "held 44, tail 10, nothing fits 12");
}
