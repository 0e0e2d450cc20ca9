//! What the CPUs of a run did, and why they were idle.

use std::collections::BTreeSet;
use std::time::Duration;

use super::allocations::one_at_the_start;
use super::{Run, job, node, requirements, workflow};
use crate::engine::Event;
use crate::idle::IdleCause;
use crate::ids::{AllocationId, NodeId};
use crate::traits::NodeState;

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
    run.end_allocation(1, crate::traits::AllocationEnd::Completed);
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
