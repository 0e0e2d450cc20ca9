//! Allocations that take no more than so many steps at once.

use std::sync::Arc;

use super::super::{Policy, WholeNodePlacer};
use super::model::{at, request, seconds};
use crate::ids::{AllocationId, ClassId, JobId, NodeId};
use crate::resources::{Allocation, NodeInventory, Request};
use crate::time::Timestamp;
use crate::traits::{Delta, NotNowReason, Placer, Waiting, WaitingJob};
use crate::workflow::SortMethod;

/// A placer with allocations of so many nodes of 8 CPUs each, that take two steps at once.
fn two_steps(nodes: &[u32], scheduler: Option<&str>) -> WholeNodePlacer {
    let mut placer = WholeNodePlacer::new(SortMethod::None, Policy::Pack).with_most_steps(Some(2));
    let mut next = 0;
    for (count, id) in nodes.iter().zip(1..) {
        let nodes = (0..*count).map(|_| {
            let id = NodeId(next);
            next += 1;
            let inventory = NodeInventory {
                name: format!("node{id}").into(),
                cores: (0..8).collect(),
                threads_per_core: 1,
                slots: None,
                memory: 16 << 30,
                gpus: Box::default(),
            };
            (id, inventory)
        });
        placer.apply(&[Delta::AllocationAdded(Allocation {
            id: AllocationId(id),
            scheduler: scheduler.map(Arc::from),
            labels: Arc::from([]),
            ends_at: None,
            nodes: nodes.collect(),
            inherited: None,
        })]);
    }
    placer
}

/// Makes a class, and these jobs of it ready.
fn submit(placer: &mut WholeNodePlacer, class: u32, request: Request, jobs: std::ops::Range<u32>) {
    let class = ClassId(class);
    placer.apply(&[Delta::ClassAdded { class, request }]);
    for job in jobs {
        placer.apply(&[Delta::JobReady(WaitingJob { job: JobId(job), class })]);
    }
}

/// The jobs that start, with their allocations and first nodes.
fn starts(placer: &mut WholeNodePlacer, now: Timestamp) -> Vec<(u32, u32, u32)> {
    let plan = placer.plan(now, usize::MAX);
    let of = |start: &crate::traits::Start| {
        let placement = &start.placement;
        (start.job.0, placement.allocation.0, placement.shares[0].node.0)
    };
    plan.starts.iter().map(of).collect()
}

fn lasting(secs: u64, request: Request) -> Request {
    Request { runtime: seconds(secs), ..request }
}

#[test]
fn a_full_allocation_leaves_the_rest_to_others_and_says_so() {
    let mut placer = two_steps(&[1, 1], Some("s"));
    submit(&mut placer, 0, lasting(100, request(1)), 1..6);
    let first = starts(&mut placer, at(0));
    assert_eq!(first, [(1, 1, 0), (2, 1, 0), (3, 2, 1), (4, 2, 1)]);
    let reason = NotNowReason::TooManySteps { most: 2, expected_at: Some(at(100)) };
    assert_eq!(placer.explain(JobId(5), at(10)), Some(Waiting::NotNow(reason)));
    placer.apply(&[Delta::StepEnded(JobId(3))]);
    assert_eq!(starts(&mut placer, at(20)), [(5, 2, 1)]);
}

#[test]
fn an_end_anywhere_in_the_allocation_opens_all_of_its_nodes() {
    let mut placer = two_steps(&[2], Some("s"));
    // One on each node, since two do not fit beside each other.
    submit(&mut placer, 0, lasting(100, request(7)), 1..3);
    assert_eq!(starts(&mut placer, at(0)), [(1, 1, 0), (2, 1, 1)]);
    submit(&mut placer, 1, lasting(10, request(1)), 3..5);
    assert_eq!(starts(&mut placer, at(1)), []);
    placer.apply(&[Delta::StepEnded(JobId(1))]);
    assert_eq!(starts(&mut placer, at(2)), [(3, 1, 1)], "the fuller node, and no more than one");
}

#[test]
fn a_gang_is_one_step_and_is_promised_the_next_end() {
    let mut placer = two_steps(&[4], Some("s"));
    submit(&mut placer, 0, lasting(50, request(1)), 1..2);
    submit(&mut placer, 1, lasting(80, request(8)), 2..3);
    assert_eq!(starts(&mut placer, at(0)), [(1, 1, 0), (2, 1, 1)]);
    // Two nodes are idle, but two steps run.
    submit(&mut placer, 2, Request { nodes: 2, ..lasting(60, request(8)) }, 3..4);
    let plan = placer.plan(at(1), usize::MAX);
    assert_eq!((plan.starts.len(), plan.planned[0].at), (0, at(50)));
    let reason = NotNowReason::TooManySteps { most: 2, expected_at: Some(at(50)) };
    assert_eq!(placer.explain(JobId(3), at(1)), Some(Waiting::NotNow(reason)));
    placer.apply(&[Delta::StepEnded(JobId(2))]);
    assert_eq!(starts(&mut placer, at(30)).len(), 1, "sooner, as a step ended sooner");
    // Its end is the end of one step.
    submit(&mut placer, 3, lasting(5, request(1)), 4..6);
    assert_eq!(starts(&mut placer, at(31)), []);
    placer.apply(&[Delta::StepEnded(JobId(3))]);
    assert_eq!(starts(&mut placer, at(40)).len(), 1);
}

#[test]
fn nodes_that_are_simply_there_take_what_fits() {
    let mut placer = two_steps(&[1], None);
    submit(&mut placer, 0, request(1), 1..6);
    assert_eq!(starts(&mut placer, at(0)).len(), 5);
}

#[test]
fn a_full_allocation_may_end_or_get_another_end() {
    let mut placer = two_steps(&[1, 1], Some("s"));
    submit(&mut placer, 0, request(1), 1..8);
    assert_eq!(starts(&mut placer, at(0)).len(), 4);
    let moved = Delta::AllocationEndMoved { allocation: AllocationId(1), ends_at: Some(at(500)) };
    placer.apply(&[moved]);
    assert_eq!(starts(&mut placer, at(1)), []);
    placer.apply(&[Delta::StepEnded(JobId(1))]);
    assert_eq!(starts(&mut placer, at(2)), [(5, 1, 0)]);
    placer.apply(&[Delta::AllocationRemoved(AllocationId(2)), Delta::StepEnded(JobId(3))]);
    assert_eq!(starts(&mut placer, at(3)), []);
    placer.apply(&[Delta::StepEnded(JobId(2)), Delta::StepEnded(JobId(4))]);
    assert_eq!(starts(&mut placer, at(4)), [(6, 1, 0)]);
}
