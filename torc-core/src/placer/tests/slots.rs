//! Nodes that take so many single-node jobs at once, whatever these need of CPUs and memory.

use super::super::Policy;
use super::model::{GIB, Model, NO_END, at, request, seconds};
use crate::ids::{JobId, NodeId};
use crate::resources::{MemoryRequest, Request, Slots};
use crate::traits::{NeverReason, NodeFree, NodeState, NotNowReason, PlannedStart, Waiting};
use crate::workflow::SortMethod;

/// A model whose nodes to come have so many slots, in turn.
fn slotted(slots: &[Option<u32>]) -> Model {
    Model::new(SortMethod::None, Policy::Pack).with_slots(slots.to_vec())
}

/// Larger than any node here.
fn large() -> Request {
    Request { memory: MemoryRequest::Bytes(1000 * GIB), ..request(1000) }
}

fn lasting(secs: u64, request: Request) -> Request {
    Request { runtime: seconds(secs), ..request }
}

/// What jobs hold on their only nodes: the node, the slots, bytes.
fn held(model: &Model, jobs: &[JobId]) -> Vec<(u32, Vec<u16>, u64)> {
    let of = |job: &JobId| {
        let share = &model.placement(*job).shares[0];
        (share.node.0, share.cores.to_vec(), share.memory)
    };
    jobs.iter().map(of).collect()
}

#[test]
fn as_many_run_at_once_as_there_are_slots_whatever_they_ask_for() {
    let mut model = slotted(&[Some(3)]);
    model.allocate(&[(2, 4, 0), (2, 4, 0)], None);
    let jobs = model.submit_many(8, &large());
    assert_eq!(model.plan(), jobs[..6]);
    let slot = |node, slot| (node, vec![slot], 0);
    let first = [slot(0, 0), slot(0, 1), slot(0, 2), slot(1, 0), slot(1, 1), slot(1, 2)];
    assert_eq!(held(&model, &jobs[..6]), first, "one node after the other");
    model.end(jobs[1]);
    let small = model.submit(&Request { priority: 1, ..request(1) });
    assert_eq!(model.plan(), [small], "a small job takes a slot, too");
    assert_eq!(held(&model, &[small]), [slot(0, 1)]);
    model.end(jobs[0]);
    assert_eq!(model.plan(), [jobs[6]]);
}

#[test]
fn more_slots_than_cpus_are_fine() {
    let mut model = slotted(&[Some(16)]);
    model.allocate(&[(2, 4, 0)], None);
    let jobs = model.submit_many(20, &request(2));
    assert_eq!(model.plan(), jobs[..16]);
}

#[test]
fn gpus_are_as_exclusive_as_ever() {
    let mut model = slotted(&[Some(4)]);
    model.allocate(&[(2, 4, 2)], None);
    let with_gpu = Request { gpus: 1, ..large() };
    let jobs = model.submit_many(3, &with_gpu);
    let without = model.submit(&large());
    assert_eq!(model.plan(), [jobs[0], jobs[1], without]);
    let NotNowReason::NotEnoughFree { needs_gpus: 1, free, .. } = model.why_not_now(jobs[2]) else {
        panic!("it waits for a GPU");
    };
    assert_eq!((free[0].gpus, free[0].slots), (0, Some(Slots { all: 4, used: 3 })));
    model.end(jobs[0]);
    assert_eq!(model.plan(), [jobs[2]]);
}

#[test]
fn a_gang_takes_whole_nodes_and_must_fit_them() {
    let mut model = slotted(&[Some(2)]);
    model.allocate(&[(4, 8, 0), (4, 8, 0), (4, 8, 0)], None);
    let small = model.submit(&lasting(100, large()));
    let gang = model.submit(&Request { nodes: 2, ..lasting(50, request(4)) });
    assert_eq!(model.plan(), [small, gang]);
    assert_eq!(model.nodes_of(gang), [1, 2]);
    let share = &model.placement(gang).shares[0];
    assert_eq!((share.cores.len(), share.memory), (2, 8 * GIB), "all slots, all memory");
    let jobs = model.submit_many(2, &request(1));
    assert_eq!(model.plan(), jobs[..1], "beside the other job, not beside the gang");
    let wide = model.submit(&Request { nodes: 3, ..request(1) });
    model.end(gang);
    assert_eq!(model.plan(), jobs[1..]);
    let reason =
        NotNowReason::WaitsForIdleNodes { needs: 3, idle: 1, unusable: 0, planned_at: None };
    assert_eq!(model.why_not_now(wide), reason);
    let too_large = model.submit(&Request { nodes: 2, ..request(5) });
    assert_eq!(
        model.why(too_large),
        Waiting::Never(NeverReason::Cpus { needs: 5, largest: 4 }),
        "what it has counts, not its slots"
    );
}

#[test]
fn who_waits_for_a_slot_is_told_so_and_when() {
    let mut model = slotted(&[Some(2)]);
    model.allocate(&[(8, 16, 0), (8, 16, 0)], None);
    let jobs = model.submit_many(5, &lasting(100, request(1)));
    assert_eq!(model.plan(), jobs[..4]);
    model.set_state(NodeId(1), NodeState::Down);
    let full = NodeFree {
        node: "node0".into(),
        cpus: 8,
        memory: 16 * GIB,
        gpus: 0,
        slots: Some(Slots { all: 2, used: 2 }),
    };
    assert_eq!(
        model.why_not_now(jobs[4]),
        NotNowReason::NotEnoughFree {
            needs_cpus: 1,
            needs_memory: 0,
            needs_gpus: 0,
            free: vec![full],
            unusable: 1,
            expected_at: Some(at(1100)),
        }
    );
    assert_eq!(model.plan(), []);
    assert_eq!(model.planned.as_ref().map(|planned| planned.at), Some(at(1100)));
}

#[test]
fn a_promised_slot_is_left_alone() {
    let mut model = slotted(&[Some(2)]);
    model.allocate(&[(8, 16, 1)], None);
    let with_gpu = |secs| lasting(secs, Request { gpus: 1, ..request(1) });
    let first = model.submit(&with_gpu(100));
    assert_eq!(model.plan(), [first]);
    let second = model.submit(&with_gpu(100));
    let long = model.submit_many(2, &lasting(1000, large()));
    assert_eq!(model.plan(), long[..1], "at the promised time one of two slots is left");
    model.end(first);
    assert_eq!(model.plan(), [second]);
}

#[test]
fn a_slot_is_less_to_wait_for_than_several_cpus() {
    let mut model = slotted(&[Some(1)]);
    model.allocate(&[(8, 16, 0)], None);
    let mut model = model.with_slots(vec![None]);
    model.allocate_for(Some("other"), &[], &[(8, 16, 0)], None);
    let busy = model.submit_many(2, &request(6));
    assert_eq!(model.plan(), busy);
    let waits = model.submit(&request(6));
    assert_eq!(model.plan(), []);
    let nodes = vec![NodeId(0)];
    assert_eq!(model.planned, Some(PlannedStart { job: waits, at: NO_END, nodes }));
}

#[test]
fn nothing_is_too_large_for_a_slot_but_in_gpus() {
    let mut model = slotted(&[Some(1), None]);
    model.allocate(&[(2, 4, 1), (4, 8, 2)], None);
    let never = |request: &Request| {
        let mut model = slotted(&[Some(1), None]);
        model.allocate(&[(2, 4, 1), (4, 8, 2)], None);
        let job = model.submit(request);
        assert_eq!(model.plan(), []);
        model.why(job)
    };
    let jobs = [large(), Request { gpus: 2, ..request(4) }].map(|request| model.submit(&request));
    assert_eq!(model.plan(), jobs);
    assert_eq!(jobs.map(|job| model.nodes_of(job)), [vec![0], vec![1]]);
    let gpus = Waiting::Never(NeverReason::Gpus { needs: 3, largest: 2 });
    assert_eq!(never(&Request { gpus: 3, ..large() }), gpus);
    let together = Waiting::Never(NeverReason::Together);
    assert_eq!(never(&Request { gpus: 2, ..large() }), together, "two GPUs are where CPUs count");
}

#[test]
fn a_job_goes_where_it_fits_of_nodes_with_and_without_slots() {
    let mut model = slotted(&[None, Some(1)]);
    model.allocate(&[(8, 16, 0), (8, 16, 0)], None);
    let jobs = model.submit_many(3, &request(6));
    assert_eq!(model.plan(), jobs[..2]);
    let NotNowReason::NotEnoughFree { needs_cpus: 6, free, .. } = model.why_not_now(jobs[2]) else {
        panic!("it waits for room");
    };
    let free: Vec<_> = free.iter().map(|node| (&*node.node, node.cpus, node.slots)).collect();
    let full = Some(Slots { all: 1, used: 1 });
    assert_eq!(free, [("node1", 8, full), ("node0", 2, None)], "a slot is less than four CPUs");
    let large = model.submit(&Request { priority: 1, ..large() });
    model.end(jobs[0]);
    model.end(jobs[1]);
    assert_eq!(model.plan(), [large, jobs[2]]);
    assert_eq!([large, jobs[2]].map(|job| model.nodes_of(job)), [vec![1], vec![0]]);
}
