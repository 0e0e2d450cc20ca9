//! Allocations that wait, and jobs that do not keep to what they declare.

use std::time::Duration;

use super::{assumed, chain, forecast_with, idle, minutes, spans};
use crate::forecast::{Assumptions, QueueWait, WaitPoint};

/// Jobs of four CPUs and ten minutes each, on `a` allocations of a node.
fn row(allocations: u32, jobs: u32) -> String {
    format!(
        r#"
name: w
execution_config: {{mode: direct}}
compute_node_wait_for_new_jobs_seconds: 0
slurm_schedulers: [{{name: s, account: a, nodes: 1, walltime: "01:00:00"}}]
actions:
  - {{trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: s,
     num_allocations: {allocations}}}
resource_requirements: [{{name: r, num_cpus: 4, runtime: PT10M}}]
jobs: [{{name: "j{{i}}", command: x, resource_requirements: r, parameters: {{i: "1:{jobs}"}}}}]"#
    )
}

fn minutes_of(minutes: u64) -> Duration {
    Duration::from_secs(minutes * 60)
}

/// 5 minutes for one node, and 5 more for each further one.
fn by_nodes() -> QueueWait {
    let points = [(1, 5), (2, 10)];
    let point = |(nodes, wait)| WaitPoint { nodes, wait: minutes_of(wait) };
    QueueWait::through(points.map(point).to_vec()).expect("a model")
}

#[test]
fn those_that_wait_already_are_ahead() {
    let assumed = Assumptions { queue_wait: by_nodes(), ..assumed() };
    let found = forecast_with(&row(3, 6), &assumed);
    assert_eq!(spans(&found), ["s x1 5-35 3 jobs", "s x1 10-30 2 jobs", "s x1 15-25 1 jobs"]);
    // Whoever waits for nodes holds none.
    assert_eq!(minutes(&found), [35, 60, 240, 0]);
    assert_eq!((found.canceled, found.ungranted), (0, 0));
}

#[test]
fn what_still_waits_at_the_end_is_canceled() {
    let assumed = Assumptions { queue_wait: by_nodes(), ..assumed() };
    let found = forecast_with(&row(5, 2), &assumed);
    // The third is granted as the first ends, when the last job runs: there is nothing for it.
    assert_eq!(spans(&found), ["s x1 5-15 1 jobs", "s x1 10-20 1 jobs", "s x1 15-15 0 jobs"]);
    assert_eq!((found.canceled, found.ungranted), (2, 0));
    assert_eq!(minutes(&found), [20, 20, 80, 0]);
}

#[test]
fn serialized_allocations_wait_one_after_another() {
    let spec = row(2, 8).replace("nodes: 1, ", "nodes: 1, serialize_allocations: true, ");
    let assumed = Assumptions { queue_wait: QueueWait::always(minutes_of(30)), ..assumed() };
    let found = forecast_with(&spec, &assumed);
    assert_eq!(spans(&found), ["s x1 30-90 6 jobs", "s x1 120-140 2 jobs"]);
}

#[test]
fn known_runtimes_count_and_the_placer_is_not_told() {
    let known = |minutes: u64| Some(minutes_of(minutes));
    let known_runtimes = vec![known(2), None, known(70)];
    let found = forecast_with(&row(1, 3), &Assumptions { known_runtimes, ..assumed() });
    // 2, 10, and as long as the allocation lasts: the last one is started, since it declares ten
    // minutes, and would run into the end.
    assert_eq!(spans(&found), ["s x1 0-60 3 jobs"]);
    assert_eq!(found.overrunning, 1);
    assert_eq!(chain(&found), "j3 in 70");
    assert_eq!(idle(&found), "");
}
