//! Small scenes, told as stories: these nodes, these jobs, expect this. The model checks every rule
//! on the way; the stories say what is expected beyond them.

use std::sync::Arc;
use std::time::Duration;

use super::super::Policy;
use super::model::{GIB, Model, NO_END, at, request, seconds};
use crate::ids::NodeId;
use crate::resources::{MemoryRequest, Request};
use crate::traits::{NeverReason, NodeFree, NodeState, NotNowReason, PlannedStart, Waiting};
use crate::workflow::SortMethod;

pub(super) fn in_order() -> Model {
    Model::new(SortMethod::None, Policy::Pack)
}

/// Nodes of 8 CPUs and 16 GiB in an allocation without an end.
pub(super) fn nodes_of_8(count: usize) -> Model {
    let mut model = in_order();
    model.allocate(&vec![(8, 16, 0); count], None);
    model
}

pub(super) fn lasting(secs: u64, request: Request) -> Request {
    Request { runtime: seconds(secs), ..request }
}

pub(super) fn gang(nodes: u32) -> Request {
    Request { nodes, ..request(8) }
}

#[test]
fn where_only_whole_cores_are_given_single_cpus_are_rounded_up() {
    let mut model = in_order();
    model.threads_per_core = 2;
    model.allocate(&[(16, 16, 0)], None);
    let single: Vec<_> = model.submit_many(9, &request(1));
    assert_eq!(model.plan(), single[..8]);
    assert_eq!(model.placement(single[7]).shares[0].cores, [14, 15].into());
    model.end(single[0]);
    model.end(single[1]);
    let odd = model.submit(&Request { priority: 1, ..request(3) });
    assert_eq!(model.plan(), [odd]);
    assert_eq!(model.placement(odd).shares[0].cores, [0, 1, 2, 3].into());
}

#[test]
fn where_only_whole_cores_are_given_each_rank_gets_its_own() {
    let mut model = in_order();
    model.threads_per_core = 2;
    model.allocate(&[(16, 16, 0), (16, 16, 0)], None);
    let ranks = |cpus: u32, ranks: u32| Request {
        cpus,
        ntasks_per_node: ranks,
        memory: MemoryRequest::Bytes(GIB),
        ..gang(2)
    };
    let odd = model.submit(&ranks(15, 5));
    let never = NeverReason::Ranks { ranks: 5, each: 4, needs: 20, largest: 16 };
    assert_eq!(model.plan(), []);
    assert_eq!(model.why(odd), Waiting::Never(never));
    let fits = [ranks(15, 1), ranks(16, 8), ranks(12, 4), ranks(14, 2)];
    for request in fits {
        let job = model.submit(&request);
        assert_eq!(model.plan(), [job], "{request:?}");
        model.end(job);
    }
    // On one node there is one rank.
    let single = model.submit(&Request { nodes: 1, ..ranks(15, 5) });
    assert_eq!(model.plan(), [single]);
}

#[test]
fn three_nodes_of_8_cpus_and_jobs_of_5() {
    let mut model = nodes_of_8(3);
    let jobs = model.submit_many(4, &request(5));
    assert_eq!(model.plan(), jobs[..3]);
    assert_eq!(
        model.why_not_now(jobs[3]),
        NotNowReason::NotEnoughFree {
            needs_cpus: 5,
            needs_memory: 10 * GIB,
            needs_gpus: 0,
            free: (0..3)
                .map(|node| NodeFree {
                    node: format!("node{node}").into(),
                    cpus: 3,
                    memory: 6 * GIB,
                    gpus: 0,
                    slots: None,
                })
                .collect(),
            unusable: 0,
            expected_at: None,
        }
    );
    model.end(jobs[1]);
    assert_eq!(model.plan(), [jobs[3]]);
    assert_eq!(model.nodes_of(jobs[3]), [1]);
}

#[test]
fn packing_keeps_nodes_whole() {
    let mut model = nodes_of_8(3);
    let first = model.submit(&request(4));
    let second = model.submit(&request(2));
    let third = model.submit(&request(2));
    let wide = model.submit(&gang(2));
    assert_eq!(model.plan(), [first, second, third, wide]);
    assert_eq!(model.nodes_of(third), [0]);
    assert_eq!(*model.placement(first).shares[0].cores, [0, 1, 2, 3]);
    assert_eq!(*model.placement(third).shares[0].cores, [6, 7]);
    assert_eq!(model.nodes_of(wide), [1, 2]);
}

#[test]
fn best_fit_prefers_the_fuller_node() {
    let mut model = nodes_of_8(2);
    let large = model.submit(&request(6));
    let five = model.submit(&request(5));
    let three = model.submit(&request(3));
    let two = model.submit(&request(2));
    model.plan();
    assert_eq!(model.nodes_of(large), [0]);
    assert_eq!(model.nodes_of(five), [1]);
    assert_eq!(model.nodes_of(three), [1]);
    assert_eq!(model.nodes_of(two), [0]);
}

#[test]
fn cpu_jobs_stay_off_gpu_nodes_while_they_can() {
    let mut model = in_order();
    model.allocate(&[(8, 16, 4), (8, 16, 0)], None);
    let jobs = model.submit_many(3, &request(4));
    let with_gpus = model.submit(&Request { gpus: 2, ..request(1) });
    model.plan();
    assert_eq!(model.nodes_of(jobs[0]), [1]);
    assert_eq!(model.nodes_of(jobs[1]), [1]);
    assert_eq!(model.nodes_of(jobs[2]), [0], "rather there than not at all");
    assert_eq!(*model.placement(with_gpus).shares[0].gpus, [0, 1]);
}

#[test]
fn spreading_takes_the_emptiest_node() {
    let mut model = Model::new(SortMethod::None, Policy::Spread);
    model.allocate(&[(8, 16, 0), (8, 16, 2), (8, 16, 0)], None);
    let jobs = model.submit_many(4, &request(2));
    model.plan();
    let nodes: Vec<_> = jobs.iter().flat_map(|job| model.nodes_of(*job)).collect();
    assert_eq!(nodes, [0, 2, 1, 0]);
}

#[test]
fn memory_that_is_not_stated_is_the_share_of_the_cpus() {
    let mut model = nodes_of_8(1);
    let stated = Request { memory: MemoryRequest::Bytes(12 * GIB), ..request(1) };
    let hungry = model.submit(&stated);
    let jobs = model.submit_many(3, &request(1));
    assert_eq!(model.plan(), [hungry, jobs[0], jobs[1]], "2 GiB each");
    assert_eq!(model.placement(jobs[0]).shares[0].memory, 2 * GIB);
}

#[test]
fn the_sort_method_orders_jobs_of_one_priority() {
    let gpu = Request { gpus: 1, ..lasting(10, request(1)) };
    let long = lasting(60, request(1));
    let unknown = request(1);
    let large = Request { memory: MemoryRequest::Bytes(4 * GIB), ..lasting(20, request(1)) };
    let urgent = Request { priority: 1, ..lasting(1, request(1)) };
    let check = |sort, expected: [usize; 5]| {
        let mut model = Model::new(sort, Policy::Pack);
        let requests = [&long, &large, &gpu, &unknown, &urgent];
        let jobs: Vec<_> = requests.iter().map(|request| model.submit(request)).collect();
        model.allocate(&[(8, 16, 1)], None);
        assert_eq!(model.plan(), expected.map(|index| jobs[index]), "{sort:?}");
    };
    check(SortMethod::GpusRuntimeMemory, [4, 2, 3, 0, 1]);
    check(SortMethod::GpusMemoryRuntime, [4, 2, 1, 3, 0]);
    check(SortMethod::None, [4, 0, 1, 2, 3]);
}

#[test]
fn without_a_sort_method_classes_interleave_in_job_order() {
    let mut model = in_order();
    let jobs: Vec<_> = (0..6).map(|index| model.submit(&request(1 + index % 2))).collect();
    model.allocate(&[(16, 16, 0)], None);
    assert_eq!(model.plan(), jobs);
}

#[test]
fn a_limit_is_no_blockage() {
    let mut model = nodes_of_8(1);
    let jobs = model.submit_many(5, &request(1));
    assert_eq!(model.plan_at_most(0), []);
    assert_eq!(model.plan_at_most(2), jobs[..2]);
    assert_eq!(model.planned, None);
    assert_eq!(model.why_not_now(jobs[2]), NotNowReason::Queued);
    assert_eq!(model.plan_at_most(3), jobs[2..]);
}

#[test]
fn a_gang_gets_whole_neighbouring_nodes_of_one_allocation() {
    let mut model = in_order();
    model.allocate(&[(8, 16, 0)], None);
    model.allocate(&[(8, 16, 0); 6], None);
    model.set_state(NodeId(2), NodeState::Draining);
    let wide = model.submit(&Request { nodes: 3, ..request(2) });
    let small = model.submit(&request(8));
    assert_eq!(model.plan(), [wide, small]);
    assert_eq!(model.nodes_of(wide), [3, 4, 5], "1 is alone, 3 to 6 are neighbours");
    for share in &model.placement(wide).shares {
        assert_eq!((share.cores.len(), share.memory), (8, 16 * GIB), "all of the node");
    }
    assert_eq!(model.nodes_of(small), [0]);
}

#[test]
fn a_gang_takes_the_nodes_that_waste_least() {
    let mut model = in_order();
    model.allocate(&[(8, 16, 4), (8, 16, 4), (8, 16, 0), (16, 32, 0), (8, 16, 0)], None);
    let wide = model.submit(&gang(2));
    let wider = model.submit(&Request { nodes: 2, gpus: 1, ..request(1) });
    model.plan();
    assert_eq!(model.nodes_of(wide), [2, 4]);
    assert_eq!(model.nodes_of(wider), [0, 1]);
}

#[test]
fn pins_and_labels_decide_where_a_job_may_run() {
    let mut model = in_order();
    let a = model.allocate_for(Some("a"), &[], &[(8, 16, 0)], None);
    let labelled = model.allocate_for(Some("b"), &["big", "fast"], &[(8, 16, 0)], None);
    let pinned = model.submit(&Request { scheduler: Some(Arc::from("a")), ..request(1) });
    let fast = model.submit(&Request { labels: Arc::from(["fast".into()]), ..request(1) });
    let plain = model.submit(&request(1));
    let stuck = model.submit(&Request { scheduler: Some(Arc::from("b")), ..request(1) });
    assert_eq!(model.plan(), [pinned, fast, plain]);
    assert_eq!(model.placement(pinned).allocation, a);
    assert_eq!(model.placement(fast).allocation, labelled);
    assert_eq!(model.placement(plain).allocation, a, "b is for labelled jobs");
    assert_eq!(model.why(stuck), Waiting::Never(NeverReason::NoMatchingAllocation));
    let any = model.allocate(&[(8, 16, 0)], None);
    assert_eq!(model.plan(), [stuck]);
    assert_eq!(model.placement(stuck).allocation, any, "no scheduler stands for all");
}

#[test]
fn a_runtime_may_exceed_the_walltime_by_the_grace_and_no_more() {
    let mut model = in_order();
    let id = model.allocate(&[(8, 16, 0)], Some(model.now + Duration::from_secs(600)));
    let just = model.submit(&lasting(720, request(1)));
    let more = model.submit(&lasting(721, request(1)));
    let unknown = model.submit(&request(1));
    assert_eq!(model.plan(), [just, unknown]);
    let never = NeverReason::Walltime { runtime_ms: 721_000, longest_ms: 600_000 };
    assert_eq!(model.why(more), Waiting::Never(never));
    model.move_end(id, Some(model.now + Duration::from_secs(601)));
    assert_eq!(model.plan(), [more]);
    model.now = model.now + Duration::from_secs(601);
    let late = model.submit(&request(1));
    assert_eq!(model.plan(), []);
    assert!(matches!(model.why(late), Waiting::Never(NeverReason::Walltime { .. })));
}

#[test]
fn what_can_never_run_is_told_with_numbers() {
    let mut model = in_order();
    let job = model.submit(&request(1));
    assert_eq!(model.why_not_now(job), NotNowReason::NoAllocation);
    model.withdraw(job);
    model.allocate(&[(8, 16, 0), (4, 32, 2)], None);
    let mut check = |request: &Request, reason| {
        let job = model.submit(request);
        assert_eq!(model.plan(), []);
        assert_eq!(model.why(job), Waiting::Never(reason));
        assert_eq!(model.planned, None, "what can never run is promised nothing");
        model.withdraw(job);
    };
    let bytes = |gib| MemoryRequest::Bytes(gib * GIB);
    check(&request(9), NeverReason::Cpus { needs: 9, largest: 8 });
    let (needs, largest) = (33 * GIB, 32 * GIB);
    check(&Request { memory: bytes(33), ..request(1) }, NeverReason::Memory { needs, largest });
    check(&Request { gpus: 3, ..request(1) }, NeverReason::Gpus { needs: 3, largest: 2 });
    check(&Request { gpus: 1, ..request(8) }, NeverReason::Together);
    let most_of_each = Request { gpus: 2, memory: bytes(32), ..request(8) };
    check(&most_of_each, NeverReason::Together);
    check(&gang(2), NeverReason::Nodes { needs: 2, largest: 1 });
}

#[test]
fn a_gang_is_promised_a_start_and_small_jobs_fill_the_gap() {
    let mut model = nodes_of_8(2);
    let long = model.submit(&lasting(600, request(8)));
    let wide = model.submit(&lasting(60, gang(2)));
    let short = model.submit(&lasting(600, request(4)));
    let too_long = model.submit(&lasting(601, request(4)));
    let endless = model.submit(&request(4));
    assert_eq!(model.plan(), [long, short]);
    let promise = PlannedStart { job: wide, at: at(1600), nodes: vec![NodeId(0), NodeId(1)] };
    assert_eq!(model.planned, Some(promise));
    let held = NotNowReason::HeldForPlannedStart { job: wide, until: at(1600) };
    assert_eq!(model.why_not_now(too_long), held);
    assert_eq!(model.why_not_now(endless), held);
    let planned_at = Some(at(1600));
    let waits = NotNowReason::WaitsForIdleNodes { needs: 2, idle: 0, unusable: 0, planned_at };
    assert_eq!(model.why_not_now(wide), waits);
    model.now = at(1100);
    model.end(long);
    model.end(short);
    assert_eq!(model.plan(), [wide], "earlier than promised");
    model.now = at(1160);
    model.end(wide);
    assert_eq!(model.plan(), [too_long, endless]);
}

#[test]
fn a_short_gang_uses_the_gap_before_a_wider_one() {
    let mut model = nodes_of_8(3);
    let long = model.submit(&lasting(600, request(8)));
    let others = model.submit_many(2, &lasting(600, request(8)));
    let wide = model.submit(&gang(3));
    let short = model.submit(&lasting(100, gang(2)));
    assert_eq!(model.plan(), [long, others[0], others[1]]);
    model.now = at(1050);
    model.end(others[0]);
    assert_eq!(model.plan(), []);
    model.now = at(1100);
    model.end(others[1]);
    assert_eq!(model.plan(), [short]);
    assert_eq!(model.planned.as_ref().map(|planned| planned.job), Some(wide));
}

#[test]
fn beside_a_promised_single_node_job_others_use_what_it_leaves() {
    let mut model = nodes_of_8(1);
    let first = model.submit(&lasting(600, request(5)));
    let promised = model.submit(&lasting(60, request(6)));
    let two = model.submit(&request(2));
    let one = model.submit(&request(1));
    assert_eq!(model.plan(), [first, two], "8 - 6 are left at the planned time");
    let promise = PlannedStart { job: promised, at: at(1600), nodes: vec![NodeId(0)] };
    assert_eq!(model.planned, Some(promise));
    assert!(matches!(model.why_not_now(one), NotNowReason::HeldForPlannedStart { .. }));
    model.now = at(1600);
    model.end(first);
    assert_eq!(model.plan(), [promised]);
}

#[test]
fn of_nodes_of_unknown_ends_the_one_that_lacks_the_least_is_held() {
    let mut model = in_order();
    // A GPU is of no use to any of them.
    model.allocate(&[(8, 16, 1), (8, 16, 0)], None);
    let (four, six) = (model.submit(&request(4)), model.submit(&request(6)));
    assert_eq!(model.plan(), [four, six]);
    let waits = model.submit(&request(6));
    let small = model.submit(&request(1));
    assert_eq!(model.plan(), [small]);
    let nodes = vec![NodeId(1)];
    assert_eq!(model.planned, Some(PlannedStart { job: waits, at: NO_END, nodes }));
    assert_eq!(model.placement(small).shares[0].node, NodeId(0), "where nothing is held");
}

#[test]
fn nodes_are_held_without_a_time_while_ends_are_unknown() {
    let mut model = nodes_of_8(2);
    let first = model.submit(&request(8));
    let wide = model.submit(&gang(2));
    let unknown = model.submit(&request(4));
    let known = model.submit(&lasting(300, request(4)));
    assert_eq!(model.plan(), [first, known], "who is known to end may use the held node");
    let nodes = vec![NodeId(0), NodeId(1)];
    assert_eq!(model.planned, Some(PlannedStart { job: wide, at: NO_END, nodes }));
    assert_eq!(
        model.why_not_now(wide),
        NotNowReason::WaitsForIdleNodes { needs: 2, idle: 0, unusable: 0, planned_at: None }
    );
    model.end(first);
    let later = model.submit(&lasting(301, request(8)));
    assert_eq!(model.plan(), []);
    assert_eq!(model.planned.as_ref().map(|planned| planned.at), Some(at(1300)));
    assert!(matches!(model.why_not_now(later), NotNowReason::HeldForPlannedStart { .. }));
    assert!(matches!(model.why_not_now(unknown), NotNowReason::HeldForPlannedStart { .. }));
    model.end(known);
    assert_eq!(model.plan(), [wide]);
}

#[test]
fn beside_a_job_that_waits_without_a_time_nobody_takes_what_it_needs() {
    let mut model = nodes_of_8(1);
    let taking = |cpus, gib| Request { memory: MemoryRequest::Bytes(gib * GIB), ..request(cpus) };
    let first = model.submit(&taking(1, 10));
    let promised = model.submit(&taking(2, 8));
    let memory = model.submit(&taking(1, 1));
    let spared = model.submit(&taking(5, 0));
    let cpu = model.submit(&taking(1, 0));
    assert_eq!(model.plan(), [first, spared], "2 of 7 CPUs are needed, and all of the memory");
    let nodes = vec![NodeId(0)];
    assert_eq!(model.planned, Some(PlannedStart { job: promised, at: NO_END, nodes }));
    let held = NotNowReason::HeldForPlannedStart { job: promised, until: NO_END };
    assert_eq!([memory, cpu].map(|job| model.why_not_now(job)), [held.clone(), held]);
    model.end(first);
    assert_eq!(model.plan(), [promised, memory]);
}

#[test]
fn nodes_held_without_a_time_are_kept() {
    let mut model = nodes_of_8(4);
    let quarter = |model: &mut Model, count| model.submit_many(count, &request(2));
    let jobs = quarter(&mut model, 16);
    model.plan();
    model.end(jobs[0]);
    model.end(jobs[4]);
    let wide = model.submit(&gang(2));
    assert_eq!(model.plan(), []);
    let nodes = vec![NodeId(0), NodeId(1)];
    let promise = Some(PlannedStart { job: wide, at: NO_END, nodes });
    assert_eq!(model.planned, promise);
    for job in &jobs[8..11] {
        model.end(*job);
    }
    model.end(jobs[1]);
    assert_eq!(model.plan(), []);
    assert_eq!(model.planned, promise, "although node 2 has fewer steps than node 1 by now");
}

#[test]
fn a_job_that_overruns_is_expected_to_end_with_its_allocation() {
    let mut model = in_order();
    model.allocate(&[(8, 16, 0); 2], Some(at(9000)));
    let over = model.submit(&lasting(100, request(8)));
    let wide = model.submit(&lasting(60, gang(2)));
    model.plan();
    assert_eq!(model.planned.as_ref().map(|planned| planned.at), Some(at(1100)));
    model.now = at(1100);
    assert_eq!(model.plan(), []);
    assert_eq!(model.planned.as_ref().map(|planned| planned.at), Some(at(1100)));
    model.now = at(1101);
    model.plan();
    assert_eq!(model.planned.as_ref().map(|planned| planned.at), Some(at(9000)));
    model.end(over);
    assert_eq!(model.plan(), [wide]);
}

#[test]
fn a_promise_outlives_later_jobs_that_the_sort_method_prefers() {
    let mut model = Model::new(SortMethod::GpusRuntimeMemory, Policy::Pack);
    model.allocate(&[(8, 16, 0); 2], None);
    let first = model.submit(&lasting(100, request(8)));
    let wide = model.submit(&lasting(10, gang(2)));
    assert_eq!(model.plan(), [first]);
    let preferred = model.submit(&lasting(1000, request(8)));
    assert_eq!(model.plan(), []);
    assert_eq!(
        model.why_not_now(preferred),
        NotNowReason::HeldForPlannedStart { job: wide, until: at(1100) }
    );
}

#[test]
fn a_higher_priority_takes_the_promise() {
    let mut model = nodes_of_8(2);
    let first = model.submit(&lasting(100, request(8)));
    let wide = model.submit(&lasting(10, gang(2)));
    model.plan();
    let urgent = model.submit(&Request { priority: 5, ..lasting(500, request(8)) });
    let more = model.submit(&Request { priority: 5, ..lasting(500, request(8)) });
    assert_eq!(model.plan(), [urgent]);
    assert_eq!(model.planned.as_ref().map(|planned| planned.job), Some(more));
    model.end(first);
    assert_eq!(model.plan(), [more]);
    assert_eq!(
        model.planned,
        Some(PlannedStart { job: wide, at: at(1500), nodes: vec![NodeId(0), NodeId(1)] })
    );
}

#[test]
fn failed_and_draining_nodes_get_nothing_new() {
    let mut model = nodes_of_8(2);
    let job = model.submit(&lasting(100, request(4)));
    model.plan();
    model.set_state(NodeId(0), NodeState::Draining);
    model.set_state(NodeId(1), NodeState::Down);
    let waiting = model.submit(&request(4));
    assert_eq!(model.plan(), []);
    assert_eq!(model.planned, None, "nothing can be foreseen on such nodes");
    model.set_state(NodeId(0), NodeState::Up);
    assert_eq!(model.plan(), [waiting], "beside the step that went on");
    assert_eq!(model.nodes_of(job), model.nodes_of(waiting));
}

#[test]
fn nodes_that_are_gone_take_their_promise_along() {
    let mut model = in_order();
    let id = model.allocate(&[(8, 16, 0); 2], None);
    let job = model.submit(&lasting(100, request(8)));
    let wide = model.submit(&gang(2));
    model.plan();
    assert!(model.planned.is_some());
    model.deallocate(id);
    assert_eq!(model.plan(), []);
    assert_eq!(model.planned, None);
    assert_eq!(model.why_not_now(wide), NotNowReason::NoAllocation);
    model.allocate(&[(8, 16, 0); 2], None);
    model.end(job);
    assert_eq!(model.plan(), [wide]);
    assert_eq!(model.nodes_of(wide), [2, 3]);
}

#[test]
fn a_job_that_changed_its_class_waits_once() {
    let mut model = nodes_of_8(1);
    let first = model.submit(&request(8));
    model.plan();
    let job = model.submit(&request(9));
    model.resubmit(job, &request(4));
    model.end(first);
    assert_eq!(model.plan(), [job]);
    assert_eq!(model.plan(), []);
}

#[test]
fn nodes_that_take_nothing_new_are_counted_where_they_are_missed() {
    let mut model = nodes_of_8(4);
    model.set_state(NodeId(1), NodeState::Draining);
    model.set_state(NodeId(2), NodeState::Down);
    let wide = model.submit(&gang(3));
    model.plan();
    let waits =
        NotNowReason::WaitsForIdleNodes { needs: 3, idle: 2, unusable: 2, planned_at: None };
    assert_eq!(model.why_not_now(wide), waits);
    let alone = model.submit_many(3, &request(8));
    assert_eq!(model.plan(), alone[..2]);
    let NotNowReason::NotEnoughFree { unusable, .. } = model.why_not_now(alone[2]) else {
        panic!("both usable nodes are taken");
    };
    assert_eq!(unusable, 2);
}

#[test]
fn a_job_behind_many_that_no_walltime_admits_is_promised_a_start() {
    let mut model = in_order();
    model.allocate(&[(8, 16, 0), (8, 16, 0)], Some(at(3000)));
    let running = model.submit(&lasting(1500, request(8)));
    assert_eq!(model.plan(), [running]);
    // Each of another class. When the second node is free, too, they would outlast the allocation.
    for longer in 0..40 {
        model.submit(&lasting(1000 + longer, gang(2)));
    }
    let behind = model.submit(&lasting(60, gang(2)));
    model.submit_many(3, &lasting(100, request(8)));
    let mut decisions = 0;
    while model.planned.is_none() {
        decisions += 1;
        assert!(decisions <= 3, "16 of 40 are looked at each time");
        model.plan();
    }
    assert_eq!(decisions, 3, "so that no decision takes too long");
    assert_eq!(model.planned.as_ref().map(|planned| planned.job), Some(behind));
}

#[test]
fn a_node_is_held_for_a_job_on_one_node_only_if_another_is_kept_from_it() {
    let mut model = nodes_of_8(1);
    let running = model.submit(&lasting(100, request(6)));
    let promised = model.submit(&lasting(100, request(7)));
    assert_eq!(model.plan(), [running]);
    assert_eq!(model.planned.as_ref().map(|planned| planned.job), Some(promised));
    let held = |model: &Model| model.placer.held(model.now);
    assert_eq!(held(&model), None, "nobody else waits: what is free is a remainder");
    model.submit(&lasting(500, request(3)));
    let memory = MemoryRequest::Bytes(9 * GIB);
    model.submit(&Request { memory, ..lasting(500, request(2)) });
    assert_eq!(model.plan(), []);
    assert_eq!(held(&model), None, "nobody else would have room");
    let kept_out = model.submit(&lasting(500, request(2)));
    assert_eq!(model.plan(), []);
    assert_eq!(held(&model), Some((promised, vec![NodeId(0)])));
    model.withdraw(kept_out);
    assert_eq!(model.plan(), []);
    assert_eq!(held(&model), None);
}
