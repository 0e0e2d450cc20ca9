//! More scenes: which of several nodes is taken, for whom one is held, and what a limit leaves.

use std::sync::Arc;

use super::super::Policy;
use super::model::{GIB, Model, at, request};
use super::stories::{gang, in_order, lasting, nodes_of_8};
use crate::resources::{MemoryRequest, Request};
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
