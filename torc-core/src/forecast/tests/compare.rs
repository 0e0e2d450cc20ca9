//! One large allocation against many small ones, in cases that can be worked out by hand.

use std::time::Duration;

use super::{assumed, check_sums, idle, minutes, spans, workflow};
use crate::forecast::{
    Assumptions, Comparison, ForecastError, Lead, QueueWait, Size, WaitPoint, WayKind, compare,
};

fn minute(minutes: u64) -> Duration {
    Duration::from_secs(minutes * 60)
}

fn compared(spec: &str, queue_wait: QueueWait, size: Size) -> Comparison {
    let assumed = Assumptions { queue_wait, ..assumed() };
    let found = compare(&workflow(spec), &assumed, size).expect("a comparison");
    found.ways.iter().for_each(|way| check_sums(&way.forecast));
    found
}

/// A way: allocations and nodes asked for, makespan and node-minutes.
type Figures = (WayKind, Option<u32>, Option<u32>, u64, u64);

fn ways(found: &Comparison) -> Vec<Figures> {
    let of = |way: &crate::forecast::Way| {
        let [makespan, node_minutes, ..] = minutes(&way.forecast);
        (way.kind, way.num_allocations, way.num_nodes, makespan, node_minutes)
    };
    found.ways.iter().map(of).collect()
}

fn lead(better: WayKind, by: u64, of: u64) -> Option<Lead> {
    Some(Lead { better: Some(better), by_ms: by * 60_000, of_ms: of * 60_000 })
}

/// Nodes of their own for eight jobs of ten minutes, and one of an hour.
const UNEVEN: &str = r#"
name: w
compute_node_wait_for_new_jobs_seconds: 0
resource_requirements:
  - {name: short, num_cpus: 4, runtime: PT10M}
  - {name: long, num_cpus: 4, runtime: PT60M}
jobs:
  - {name: long, command: x, resource_requirements: long, priority: 1}
  - {name: "j{i}", command: x, resource_requirements: short, parameters: {i: "1:8"}}
"#;

#[test]
fn as_many_jobs_at_once_run_each_way() {
    let spec = r#"
name: w
execution_config: {mode: direct}
slurm_schedulers: [{name: s, account: a, nodes: 2, walltime: "01:00:00"}]
actions:
  - {trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: s, max_parallel_jobs: 4}
resource_requirements: [{name: large, num_cpus: 99, runtime: PT10M}]
jobs: [{name: "j{i}", command: x, resource_requirements: large, parameters: {i: "1:16"}}]
"#;
    let found = compared(spec, QueueWait::default(), Size { nodes: 2, walltime: None });
    assert!(found.ways.iter().all(|way| way.forecast.completed == 16));
    let makespans: Vec<_> = ways(&found).iter().map(|way| (way.0, way.3)).collect();
    let expected = [WayKind::OneLarge, WayKind::ManySmall, WayKind::AsWritten].map(|way| (way, 20));
    assert_eq!(makespans, expected);
}

#[test]
fn many_small_ones_give_their_nodes_back_one_by_one() {
    let size = Size { nodes: 5, walltime: None };
    let found = compared(UNEVEN, QueueWait::default(), size);
    // The large one keeps five nodes for the hour; of the small ones four are over after twenty minutes.
    let expected = [
        (WayKind::OneLarge, Some(1), Some(5), 60, 300),
        (WayKind::ManySmall, Some(5), Some(1), 60, 60 + 4 * 20),
    ];
    assert_eq!(ways(&found), expected);
    assert_eq!(found.makespan(), Some(Lead { better: None, by_ms: 0, of_ms: 60 * 60_000 }));
    assert_eq!(found.node_time(), lead(WayKind::ManySmall, 160, 300));
    assert_eq!(idle(&found.ways[0].forecast), "tail 640");
}

#[test]
fn a_queue_that_gives_few_nodes_sooner_is_for_small_ones() {
    let points = [(1, 10), (5, 60)].map(|(nodes, wait)| WaitPoint { nodes, wait: minute(wait) });
    let wait = QueueWait::through(points.to_vec()).expect("a model");
    let size = Size { nodes: 5, walltime: None };
    let found = compared(UNEVEN, wait, size);
    // The first node comes after 10 minutes, and another each 12.5.
    let many = &found.ways[1].forecast;
    let expected = [
        "simulated x1 10-70 1 jobs",
        "simulated x1 22:30-62:30 4 jobs",
        "simulated x1 35-65 3 jobs",
        "simulated x1 47:30-57:30 1 jobs",
        "simulated x1 60-60 0 jobs",
    ];
    assert_eq!(spans(many), expected);
    assert_eq!(many.canceled, 0);
    assert_eq!(found.makespan(), lead(WayKind::ManySmall, 50, 120));
}

#[test]
fn a_gang_is_as_narrow_as_an_allocation_gets() {
    let spec = r#"
name: w
compute_node_wait_for_new_jobs_seconds: 0
resource_requirements: [{name: gang, num_nodes: 2, runtime: PT10M}]
jobs: [{name: "g{i}", command: x, resource_requirements: gang, parameters: {i: "1:3"}}]"#;
    let found = compared(spec, QueueWait::default(), Size { nodes: 5, walltime: None });
    // One of five nodes has no use for the fifth; two of two have none.
    let expected = [
        (WayKind::OneLarge, Some(1), Some(5), 20, 100),
        (WayKind::ManySmall, Some(2), Some(2), 20, 2 * 20 + 2 * 10),
    ];
    assert_eq!(ways(&found), expected);
    let found = compared(spec, QueueWait::default(), Size { nodes: 3, walltime: None });
    assert_eq!(found.ways.len(), 1, "two nodes of three are all that a gang of two leaves");
    assert_eq!((found.pair(), found.makespan()), (None, None));
    // Too few for any: it is told why, once.
    let found = compared(spec, QueueWait::default(), Size { nodes: 1, walltime: None });
    assert_eq!(found.ways.len(), 1);
    assert_eq!(found.ways[0].forecast.completed, 0);
    assert_eq!(found.ways[0].forecast.never.len(), 1);
}

#[test]
fn what_a_walltime_leaves_is_asked_for_again_and_waits_again() {
    let spec = r#"
name: w
execution_config: {mode: direct}
compute_node_wait_for_new_jobs_seconds: 0
resource_requirements: [{name: r, num_cpus: 4, runtime: PT20M}]
jobs: [{name: "j{i}", command: x, resource_requirements: r, parameters: {i: "1:4"}}]"#;
    let size = Size { nodes: 1, walltime: Some(minute(45)) };
    let found = compared(spec, QueueWait::always(minute(15)), size);
    let [one] = &found.ways[..] else { panic!("one node cannot be split") };
    // Two jobs in 45 minutes; at 40 nothing more can start.
    let expected = ["simulated x1 15-55 2 jobs", "simulated x1 70-110 2 jobs"];
    assert_eq!(spans(&one.forecast), expected);
    assert_eq!(one.forecast.completed, 4);
}

#[test]
fn a_job_too_long_for_the_walltime_is_told_and_asked_for_no_more() {
    let size = Size { nodes: 2, walltime: Some(minute(30)) };
    let found = compared(UNEVEN, QueueWait::default(), size);
    for way in &found.ways {
        assert_eq!(way.forecast.completed, 8, "{:?}", way.kind);
        assert_eq!(&*way.forecast.never[0].example, "long");
        assert!(way.forecast.allocations.len() < 10, "{:?}", way.forecast.allocations);
    }
}

#[test]
fn labels_and_pins_are_no_hindrance_and_what_is_written_is_the_third_way() {
    let spec = r#"
name: w
compute_node_wait_for_new_jobs_seconds: 0
slurm_schedulers:
  - {name: s, account: a, nodes: 1, walltime: "02:00:00", labels: [big]}
  - {name: t, account: a, nodes: 1, walltime: "02:00:00"}
actions:
  - {trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: s}
  - {trigger_type: on_jobs_complete, jobs: [a], action_type: schedule_nodes, scheduler: t}
resource_requirements: [{name: r, num_cpus: 4, runtime: PT10M}]
jobs:
  - {name: a, command: x, resource_requirements: r, scheduler: s, labels: [big]}
  - {name: b, command: x, resource_requirements: r, scheduler: t}"#;
    let found = compared(spec, QueueWait::always(minute(5)), Size { nodes: 2, walltime: None });
    let expected = [
        (WayKind::OneLarge, Some(1), Some(2), 15, 20),
        (WayKind::ManySmall, Some(2), Some(1), 15, 20),
        (WayKind::AsWritten, None, None, 30, 20),
    ];
    assert_eq!(ways(&found), expected);
}

#[test]
fn too_many_nodes_are_refused() {
    let size = Size { nodes: 1 << 21, walltime: None };
    let refused = compare(&workflow(UNEVEN), &assumed(), size).expect_err("too many");
    assert_eq!(refused, ForecastError::TooLarge { cpus: 1 << 23, most: 1 << 22 });
}
