//! More scenes: which of several nodes is taken, for whom one is held, and what a limit leaves.

use std::sync::Arc;

use super::super::{Policy, WholeNodePlacer};
use super::model::{GIB, Model, at, request};
use super::stories::{gang, in_order, lasting, nodes_of_8};
use crate::ids::{ClassId, JobId, NodeId};
use crate::resources::{MemoryRequest, NodeShare, Placement, Request};
use crate::time::Timestamp;
use crate::traits::{Placer, PlannedStart, RunningStep, Snapshot, WaitingJob};
use crate::workflow::SortMethod;

#[test]
fn a_node_is_held_only_if_another_could_start_on_that_very_node() {
    let mut model = in_order();
    model.allocate_for(Some("a"), &[], &[(8, 16, 0)], Some(at(3000)));
    let memory = MemoryRequest::Bytes(13 * GIB);
    let running = model.submit(&Request { memory, ..lasting(100, request(2)) });
    let promised = model.submit(&lasting(100, request(7)));
    assert_eq!(model.plan(), [running]);
    let pinned = Request { scheduler: Some(Arc::from("b")), ..lasting(500, request(1)) };
    let too_long = lasting(2500, request(1));
    let share_of_memory = lasting(500, request(2));
    for kept_out_anyway in [pinned, too_long, share_of_memory] {
        let job = model.submit(&kept_out_anyway);
        assert_eq!(model.plan(), []);
        assert_eq!(model.planned.as_ref().map(|planned| planned.job), Some(promised));
        assert_eq!(model.placer.held(model.now), None, "{kept_out_anyway:?}");
        model.withdraw(job);
    }
}

#[test]
fn of_nodes_with_as_much_left_the_first_is_taken() {
    for policy in [Policy::Pack, Policy::Spread] {
        let mut model = Model::new(SortMethod::None, policy);
        model.threads_per_core = 2;
        model.allocate(&[(8, 16, 0)], None);
        model.threads_per_core = 1;
        model.allocate(&[(8, 16, 0)], None);
        let job = model.submit(&request(2));
        assert_eq!(model.plan(), [job]);
        assert_eq!(model.nodes_of(job), [0], "{policy:?}: whole cores or not");
    }
}

#[test]
fn a_gang_takes_the_allocation_of_which_it_wastes_least() {
    let mut model = in_order();
    model.allocate(&[(8, 16, 0), (32, 16, 0)], None);
    model.allocate(&[(16, 16, 0), (16, 16, 0)], None);
    model.allocate(&[(8, 16, 0), (28, 16, 0)], None);
    let wide = model.submit(&gang(2));
    assert_eq!(model.plan(), [wide]);
    assert_eq!(model.nodes_of(wide), [2, 3], "32 CPUs, not 40 or 36");
}

#[test]
fn what_a_limit_leaves_starts_at_the_next_decision() {
    let mut model = nodes_of_8(1);
    let first = model.submit(&request(8));
    assert_eq!(model.plan(), [first]);
    let [three, two, one] = [3, 2, 1].map(|cpus| model.submit(&request(cpus)));
    assert_eq!(model.plan(), []);
    model.end(first);
    assert_eq!(model.plan_at_most(1), [three]);
    assert_eq!(model.plan_at_most(1), [two]);
    assert_eq!(model.plan(), [one]);
}

#[test]
fn a_limit_holds_for_a_promised_job_too() {
    let mut model = nodes_of_8(1);
    let first = model.submit(&lasting(100, request(8)));
    let promised = model.submit(&lasting(100, request(7)));
    assert_eq!(model.plan(), [first]);
    let urgent = model.submit(&Request { priority: 1, ..lasting(100, request(1)) });
    model.end(first);
    assert_eq!(model.plan_at_most(0), []);
    assert_eq!(model.plan_at_most(1), [urgent]);
    assert_eq!(model.plan_at_most(1), [promised]);
}

#[test]
fn many_nodes_that_are_free_at_once_are_all_used_at_once() {
    let mut model = nodes_of_8(40);
    let first = model.submit_many(40, &request(8));
    assert_eq!(model.plan(), first);
    let next = model.submit_many(40, &request(7));
    assert_eq!(model.plan(), []);
    for job in first {
        model.end(job);
    }
    assert_eq!(model.plan(), next);
}

#[test]
fn without_a_time_the_node_that_lacks_the_least_is_promised() {
    let mut model = nodes_of_8(2);
    let taking = |gib| Request { memory: MemoryRequest::Bytes(gib * GIB), ..request(6) };
    let running = [8, 6].map(|gib| model.submit(&taking(gib)));
    assert_eq!(model.plan(), running);
    model.submit(&taking(16));
    assert_eq!(model.plan(), []);
    let planned = model.planned.map(|planned| planned.nodes);
    assert_eq!(planned, Some(vec![NodeId(1)]), "both lack 4 CPUs, the first more memory");
}

/// So many small nodes, which are full until second 1000; a large one that is full until second 2000, and one where
/// half is taken until second 5000. Where and when a job is promised a start that needs a little more
/// than that half.
fn promise_beside(small: u16) -> Option<(NodeId, Timestamp)> {
    let mut model = in_order();
    let nodes: Vec<_> = (0..small).map(|_| (1, 0, 0)).chain([(400, 0, 0); 2]).collect();
    model.allocate(&nodes, None);
    let step = |class: u32, node: u16, cores: std::ops::Range<u16>| RunningStep {
        job: JobId(u32::from(node) + 1),
        class: ClassId(class),
        placement: Placement {
            allocation: model.allocations.keys().next().copied().expect("one"),
            shares: vec![NodeShare {
                node: NodeId(node.into()),
                cores: cores.collect(),
                gpus: [].into(),
                memory: 0,
            }],
        },
        started_at: model.now,
    };
    let full = (0..small).map(|node| step(0, node, 0..1));
    let large = [step(1, small, 0..400), step(2, small + 1, 0..200)];
    let waiting = WaitingJob { job: JobId(u32::from(small) + 3), class: ClassId(3) };
    let lasts = |seconds, cpus| lasting(seconds, request(cpus));
    let snapshot = Snapshot {
        classes: vec![lasts(0, 1), lasts(1000, 400), lasts(4000, 200), request(210)],
        allocations: model.allocations.values().cloned().collect(),
        node_states: Vec::new(),
        running: full.chain(large).collect(),
        waiting: vec![waiting],
    };
    let mut placer = WholeNodePlacer::new(SortMethod::None, Policy::Pack);
    placer.rebuild(&snapshot);
    let planned = placer.plan(model.now, usize::MAX).planned.pop();
    planned.map(|PlannedStart { at, nodes, .. }| (nodes[0], at))
}

#[test]
fn a_start_is_foreseen_exactly_unless_there_are_very_many_nodes() {
    assert_eq!(promise_beside(1_998), Some((NodeId(1_998), at(2000))));
    assert_eq!(promise_beside(1_999), Some((NodeId(2_000), at(5000))), "later, but found quickly");
}

#[test]
fn of_nodes_that_have_room_at_the_same_time_the_first_is_promised() {
    #[track_caller]
    fn check(first: &[(u64, u32)], second: &[(u64, u32)]) {
        let mut model = nodes_of_8(2);
        for steps in [first, second] {
            // One node after the other is filled.
            let steps: Vec<_> = steps
                .iter()
                .map(|&(ends, cpus)| model.submit(&lasting(ends, request(cpus))))
                .collect();
            assert_eq!(model.plan(), steps);
        }
        model.submit(&request(8));
        assert_eq!(model.plan(), []);
        let planned = model.planned.map(|planned| (planned.nodes, planned.at));
        assert_eq!(planned, Some((vec![NodeId(0)], at(1010))));
    }
    check(&[(10, 8)], &[(5, 4), (10, 4)]);
    check(&[(5, 4), (10, 4)], &[(10, 8)]);
}

#[test]
fn a_promise_outlives_an_allocation_that_it_does_not_need() {
    let mut model = Model::new(SortMethod::GpusRuntimeMemory, Policy::Pack);
    model.allocate(&[(8, 16, 0); 2], None);
    let other = model.allocate(&[(1, 1, 0)], None);
    let first = model.submit(&lasting(100, request(8)));
    let wide = model.submit(&lasting(10, gang(2)));
    assert_eq!(model.plan(), [first]);
    let preferred = model.submit(&lasting(1000, request(8)));
    model.deallocate(other);
    assert_eq!(model.plan(), []);
    let planned = model.planned.as_ref().map(|planned| planned.job);
    assert_eq!(planned, Some(wide), "not {preferred}");
}

#[test]
fn a_promise_that_passes_to_a_smaller_job_leaves_more_to_others() {
    let mut model = nodes_of_8(1);
    let first = model.submit(&lasting(600, request(5)));
    let large = model.submit(&lasting(60, request(6)));
    let beside = model.submit(&request(3));
    assert_eq!(model.plan(), [first], "8 - 6 are left when the second can start");
    assert_eq!(model.planned.as_ref().map(|planned| planned.job), Some(large));
    let urgent = model.submit(&Request { priority: 1, ..lasting(60, request(4)) });
    assert_eq!(model.plan(), [beside]);
    assert_eq!(model.planned.as_ref().map(|planned| planned.job), Some(urgent));
}
