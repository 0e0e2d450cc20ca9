//! Workflows and the plans that people would make for them.

use insta::assert_snapshot;

use super::*;
use crate::plan::{Strategy, complete};
use crate::workflow::ExecutionMode;

#[test]
fn many_small_jobs() {
    let found = planned(
        "name: w
resource_requirements: [{name: r, num_cpus: 1, memory: 1g, runtime: PT10M}]
jobs: [{name: 'run_{i:04d}', command: x, resource_requirements: r, parameters: {i: '1:1000'}}]",
        &[standard()],
    );
    assert_snapshot!(found, @r"
    1. stage_1: 8 × 1 node of `standard` for 00:25:00
       when: on_workflow_start
       runs: 1000 jobs: run_0001, run_0002, run_0003, …
       done: within 00:20:00 of its start
       why: one large: 4 nodes for 00:50:00, 2.7 node-hours, idle 2 %; many small: 8 × 1 node for 00:25:00, 2.7 node-hours, idle 2 %; chosen: many small, because each starts as soon as 1 node is free; 4 nodes at once, 4 % of the partition, would wait longer
    in all: 8 allocations, 2.7 node-hours (at most 3.3), 00:20:00 without waiting in the queue
    ");
}

#[test]
fn a_job_of_a_minute_has_the_time_in_which_jobs_are_asked_to_end_besides() {
    let found = planned(
        "name: w
resource_requirements: [{name: r, runtime: PT1M}]
jobs: [{name: quick, command: x, resource_requirements: r}]",
        &[standard()],
    );
    assert_snapshot!(found, @r"
    1. stage_1: 1 node of `standard` for 00:06:00
       when: on_workflow_start
       runs: 1 job: quick
       done: within 00:01:00 of its start
       why: one large: 1 node for 00:06:00, 0.0 node-hours, idle 98 %; a single job: there is nothing to split
    in all: 1 allocation, 0.0 node-hours (at most 0.1), 00:01:00 without waiting in the queue
    ");
}

#[test]
fn twelve_jobs_that_fill_a_node_each() {
    let found = planned(
        "name: w
resource_requirements: [{name: r, num_cpus: 64, runtime: PT40M}]
jobs: [{name: 'run_{i}', command: x, resource_requirements: r, parameters: {i: '1:12'}}]",
        &[standard()],
    );
    assert_snapshot!(found, @r"
    1. stage_1: 12 × 1 node of `standard` for 00:50:00
       when: on_workflow_start
       runs: 12 jobs: run_1, run_2, run_3, …
       done: within 00:40:00 of its start
       why: one large: 6 nodes for 01:40:00, 8.0 node-hours, idle 0 %; many small: 12 × 1 node for 00:50:00, 8.0 node-hours, idle 0 %; chosen: many small, because each starts as soon as 1 node is free; 6 nodes at once, 6 % of the partition, would wait longer
    in all: 12 allocations, 8.0 node-hours (at most 10.0), 00:40:00 without waiting in the queue
    ");
}

#[test]
fn a_preparation_a_training_and_a_report() {
    let found = planned(
        "name: w
resource_requirements:
  - {name: two, num_nodes: 2, num_cpus: 64, runtime: PT1H}
  - {name: four, num_nodes: 4, num_cpus: 64, runtime: PT6H}
  - {name: small, runtime: PT2M}
jobs:
  - {name: preprocess, command: x, resource_requirements: two}
  - {name: train, command: x, resource_requirements: four, depends_on: [preprocess]}
  - {name: report, command: x, resource_requirements: small, depends_on: [train]}",
        &[standard()],
    );
    assert_snapshot!(found, @r"
    1. stage_1: 2 nodes of `standard` for 01:15:00
       when: on_workflow_start
       runs: 1 job: preprocess
       done: within 01:00:00 of its start
       why: one large: 2 nodes for 01:15:00, 2.0 node-hours, idle 0 %; a single job: there is nothing to split
    2. stage_2: 4 nodes of `standard` for 07:33:00
       when: on_jobs_ready, its first job
       runs: 2 jobs: train, report
       done: within 06:02:00 of its start
       why: one large: 4 nodes for 07:33:00, 24.1 node-hours, idle 1 %; a single job: there is nothing to split; 1 later job runs in it, too, instead of waiting in the queue again
    in all: 2 allocations, 26.1 node-hours (at most 32.7), 07:02:00 without waiting in the queue
    ");
}

#[test]
fn many_jobs_and_one_long_one_after_them() {
    let found = planned(
        "name: w
resource_requirements:
  - {name: small, num_cpus: 4, runtime: PT30M}
  - {name: merge, num_cpus: 32, runtime: PT4H}
jobs:
  - {name: 'part_{i}', command: x, resource_requirements: small, parameters: {i: '1:500'}}
  - {name: merge, command: x, resource_requirements: merge, depends_on_regexes: ['^part_']}",
        &[standard()],
    );
    assert_snapshot!(found, @r"
    1. stage_1: 33 × 1 node of `standard` for 00:38:00
       when: on_workflow_start
       runs: 500 jobs: part_1, part_2, part_3, …
       done: within 00:30:00 of its start
       why: one large: 8 nodes for 02:30:00, 16.0 node-hours, idle 2 %; many small: 33 × 1 node for 00:38:00, 16.0 node-hours, idle 2 %; chosen: many small, because each starts as soon as 1 node is free; 8 nodes at once, 8 % of the partition, would wait longer
    2. stage_2: 1 node of `standard` for 05:00:00
       when: on_jobs_ready, its first job
       runs: 1 job: merge
       done: within 04:00:00 of its start
       why: one large: 1 node for 05:00:00, 4.0 node-hours, idle 50 %; a single job: there is nothing to split
    in all: 34 allocations, 20.0 node-hours (at most 25.9), 04:30:00 without waiting in the queue
    ");
}

#[test]
fn a_chain_of_single_node_jobs_is_one_stage() {
    let found = planned(
        "name: w
resource_requirements: [{name: r, num_cpus: 16, runtime: PT1H}]
jobs:
  - {name: 'first_{i}', command: x, resource_requirements: r, parameters: {i: '1:4'}}
  - {name: 'second_{i}', command: x, resource_requirements: r, depends_on: ['first_{i}'], parameters: {i: '1:4'}}
  - {name: 'third_{i}', command: x, resource_requirements: r, depends_on: ['second_{i}'], parameters: {i: '1:4'}}",
        &[standard()],
    );
    assert_snapshot!(found, @r"
    1. stage_1: 1 node of `standard` for 03:45:00
       when: on_workflow_start
       runs: 12 jobs: first_1, first_2, first_3, …
       done: within 03:00:00 of its start
       why: one large: 1 node for 03:45:00, 3.0 node-hours, idle 0 %; many small: 2 × 1 node for 03:45:00, 5.0 node-hours, idle 40 %; chosen: one large, because many small ones would use 67 % more node-hours
    in all: 1 allocation, 3.0 node-hours (at most 3.8), 03:00:00 without waiting in the queue
    ");
}

#[test]
fn gangs_side_by_side() {
    let found = planned(
        "name: w
resource_requirements: [{name: r, num_nodes: 4, num_cpus: 64, runtime: PT2H}]
jobs: [{name: 'run_{i}', command: x, resource_requirements: r, parameters: {i: '1:10'}}]",
        &[standard()],
    );
    assert_snapshot!(found, @r"
    1. stage_1: 10 × 4 nodes of `standard` for 02:30:00
       when: on_workflow_start
       runs: 10 jobs: run_1, run_2, run_3, …
       done: within 02:00:00 of its start
       why: one large: 20 nodes for 05:00:00, 80.0 node-hours, idle 0 %; many small: 10 × 4 nodes for 02:30:00, 80.0 node-hours, idle 0 %; chosen: many small, because each starts as soon as 4 nodes are free; 20 nodes at once, 20 % of the partition, would wait longer
    in all: 10 allocations, 80.0 node-hours (at most 100.0), 02:00:00 without waiting in the queue
    ");
}

#[test]
fn more_work_than_one_walltime_holds() {
    let found = planned(
        "name: w
resource_requirements: [{name: r, num_cpus: 64, runtime: PT5H}]
jobs: [{name: 'run_{i}', command: x, resource_requirements: r, parameters: {i: '1:40'}}]",
        &[partition("standard", 12, &[nodes(4, 64, 256, 0)])],
    );
    assert_snapshot!(found, @r"
    1. stage_1: 25 × 1 node of `standard` for 12:00:00
       when: on_workflow_start
       runs: 40 jobs: run_1, run_2, run_3, …
       done: within 2-02:00:00 of its start
       why: one large: 2 nodes for 12:00:00, 13 times one after the other, 200.0 node-hours, idle 0 %; many small: 25 × 1 node for 12:00:00, 200.0 node-hours, idle 0 %; chosen: many small, because each starts as soon as 1 node is free; 2 nodes at once, 50 % of the partition, would wait longer
    in all: 25 allocations, 200.0 node-hours (at most 300.0), 2-02:00:00 without waiting in the queue
    ");
}

#[test]
fn threads_of_a_core_are_not_shared() {
    let spec = "name: w
resource_requirements: [{name: r, num_cpus: 3, memory: 1g, runtime: PT1H}]
jobs: [{name: 'run_{i}', command: x, resource_requirements: r, parameters: {i: '1:20'}}]";
    let hours = |threads_per_core| {
        let node = NodeShape { threads_per_core, ..nodes(1, 16, 64, 0) };
        planned(spec, &[partition("standard", 48, &[node])]).totals.makespan.as_secs() / 3600
    };
    // 5 at a time of 3 CPUs each, but only 4 where each takes 2 whole cores.
    assert_eq!((hours(1), hours(2)), (4, 5));
}

#[test]
fn gpus_large_memory_and_long_jobs_choose_their_partition() {
    let found = planned(
        "name: w
resource_requirements:
  - {name: cpu, num_cpus: 8, runtime: PT1H}
  - {name: gpu, num_cpus: 8, num_gpus: 1, runtime: PT1H}
  - {name: big, num_cpus: 8, memory: 1t, runtime: PT1H}
  - {name: long, num_cpus: 8, runtime: P5D}
jobs:
  - {name: plain, command: x, resource_requirements: cpu}
  - {name: 'net_{i}', command: x, resource_requirements: gpu, parameters: {i: '1:8'}}
  - {name: merge, command: x, resource_requirements: big}
  - {name: slow, command: x, resource_requirements: long}",
        &[
            standard(),
            partition("gpu", 24, &[nodes(10, 64, 512, 4)]),
            partition("mixed", 24, &[nodes(20, 64, 256, 0), nodes(2, 128, 2048, 0)]),
            partition("long", 240, &[nodes(10, 64, 256, 0)]),
        ],
    );
    assert_snapshot!(found, @r"
    1. stage_1: 1 node of `standard` for 01:15:00
       when: on_workflow_start
       runs: 1 job: plain
       done: within 01:00:00 of its start
       why: one large: 1 node for 01:15:00, 1.0 node-hours, idle 88 %; a single job: there is nothing to split
    2. stage_2: 1 node of `gpu` for 02:30:00
       when: on_workflow_start
       runs: 8 jobs: net_1, net_2, net_3, …
       done: within 02:00:00 of its start
       why: one large: 1 node for 02:30:00, 2.0 node-hours, idle 0 %; many small: 2 × 1 node for 01:15:00, 2.0 node-hours, idle 0 %; chosen: one large, because 1 node, 10 % of the partition, would not wait much longer, and one allocation is less to look after
    3. stage_3: 1 node of `mixed` for 01:15:00
       when: on_workflow_start
       runs: 1 job: merge
       done: within 01:00:00 of its start
       why: one large: 1 node for 01:15:00, 1.0 node-hours, idle 50 %; a single job: there is nothing to split
    4. stage_4: 1 node of `long` for 6-06:00:00
       when: on_workflow_start
       runs: 1 job: slow
       done: within 5-00:00:00 of its start
       why: one large: 1 node for 6-06:00:00, 120.0 node-hours, idle 88 %; a single job: there is nothing to split
    in all: 4 allocations, 124.0 node-hours (at most 155.0), 5-00:00:00 without waiting in the queue
    ");
    let settings: Vec<_> =
        found.stages.iter().map(|stage| stage.scheduler.settings.to_string()).collect();
    assert_snapshot!(settings.join("\n"), @r#"
    {"account":"p","partition":"standard","nodes":1,"walltime":"01:15:00"}
    {"account":"p","partition":"gpu","nodes":1,"walltime":"02:30:00","gres":"gpu:4"}
    {"account":"p","partition":"mixed","nodes":1,"walltime":"01:15:00","mem":"2097152M","extra":"--mincpus=128"}
    {"account":"p","partition":"long","nodes":1,"walltime":"6-06:00:00"}
    "#);
}

#[test]
fn what_can_never_run_is_said_with_numbers() {
    let found = planned(
        "name: w
resource_requirements:
  - {name: wide, num_cpus: 65}
  - {name: many, num_nodes: 101}
  - {name: long, runtime: P3D}
jobs:
  - {name: 'wide_{i}', command: x, resource_requirements: wide, parameters: {i: '1:3'}}
  - {name: many, command: x, resource_requirements: many}
  - {name: long, command: x, resource_requirements: long}
  - {name: plain, command: x, depends_on: [long]}",
        &[standard()],
    );
    assert_snapshot!(found, @r"
    1. stage_1: 1 node of `standard` for 2-00:00:00
       when: on_jobs_ready, its first job
       runs: 1 job: plain
       done: within 01:00:00 of its start
       why: one large: 1 node for 2-00:00:00, 1.0 node-hours, idle 98 %; a single job: there is nothing to split
    never: wide_1 and 2 more like it: needs 65 CPUs per node; the largest node has 64
    never: many: needs 101 nodes at once; the largest allocation has 100 that fit
    never: long: its runtime is 259200 s; the longest time left is 172800 s
    note: stage_1: 1 job declares no runtime and counts as one hour, and 2-00:00:00 is asked for: give `resource_requirements` with a `runtime`
    in all: 1 allocation, 1.0 node-hours (at most 48.0), 01:00:00 without waiting in the queue
    ");
}

#[test]
fn schedulers_of_the_spec_without_an_action() {
    let found = planned(
        "name: w
slurm_schedulers:
  - {name: mine, account: a, nodes: 2, walltime: '04:00:00'}
  - {name: other, account: a, partition: elsewhere}
resource_requirements: [{name: r, num_cpus: 32, runtime: PT1H}, {name: four, num_nodes: 4}]
jobs:
  - {name: 'run_{i}', command: x, resource_requirements: r, parameters: {i: '1:16'}}
  - {name: pinned, command: x, resource_requirements: r, scheduler: other, depends_on_regexes: ['^run']}
  - {name: wide, command: x, resource_requirements: four}",
        &[standard()],
    );
    assert_snapshot!(found, @r"
    1. mine: 4 × 2 nodes of `standard` for 04:00:00
       when: on_workflow_start
       runs: 16 jobs: run_1, run_2, run_3, …
       done: within 01:00:00 of its start
       why: one large: 2 nodes for 04:00:00, 3 times one after the other, 8.0 node-hours, idle 0 %; many small: 4 × 2 nodes for 04:00:00, 8.0 node-hours, idle 0 %; chosen: many small, because each starts as soon as 2 nodes are free
    2. stage_1: 4 nodes of `standard` for 01:15:00
       when: on_workflow_start
       runs: 1 job: wide
       done: within 01:00:00 of its start
       why: one large: 4 nodes for 01:15:00, 4.0 node-hours, idle 0 %; a single job: there is nothing to split
    3. other: 1 node for 01:00:00
       when: on_jobs_ready, its first job
       runs: 1 job: pinned
       done: within 01:00:00 of its start
       why: one large: 1 node for 01:00:00, 1.0 node-hours, idle 0 %; a single job: there is nothing to split
    note: other: the nodes of its partition are not known; they count as large enough for its largest job
    in all: 6 allocations, 13.0 node-hours (at most 38.0), 02:00:00 without waiting in the queue
    ");
}

#[test]
fn labels_are_given_to_the_workers() {
    let found = planned(
        "name: w
jobs:
  - {name: a, command: x, labels: [fast, near]}
  - {name: b, command: x}",
        &[standard()],
    );
    assert_snapshot!(found, @r"
    1. stage_1: 1 node of `standard` for 2-00:00:00
       when: on_workflow_start
       runs: 1 job: a
       done: within 01:00:00 of its start
       why: one large: 1 node for 2-00:00:00, 1.0 node-hours, idle 98 %; a single job: there is nothing to split
    2. stage_2: 1 node of `standard` for 2-00:00:00
       when: on_workflow_start
       runs: 1 job: b
       done: within 01:00:00 of its start
       why: one large: 1 node for 2-00:00:00, 1.0 node-hours, idle 98 %; a single job: there is nothing to split
    note: stage_1: 1 job declares no runtime and counts as one hour, and 2-00:00:00 is asked for: give `resource_requirements` with a `runtime`
    note: stage_2: 1 job declares no runtime and counts as one hour, and 2-00:00:00 is asked for: give `resource_requirements` with a `runtime`
    in all: 2 allocations, 2.0 node-hours (at most 96.0), 01:00:00 without waiting in the queue
    ");
    assert_snapshot!(found.stages[0].scheduler.settings, @r#"{"account":"p","partition":"standard","nodes":1,"walltime":"2-00:00:00","labels":["fast","near"]}"#);
}

#[test]
fn a_hundred_thousand_jobs_are_planned_all_the_same() {
    let found = planned(
        "name: w
resource_requirements: [{name: r, num_cpus: 1, memory: 1g, runtime: PT10M}]
jobs: [{name: 'run_{i}', command: x, resource_requirements: r, parameters: {i: '1:100000'}}]",
        &[standard()],
    );
    assert_snapshot!(found, @r"
    1. stage_1: 50 × 2 nodes of `standard` for 03:20:00
       when: on_workflow_start
       runs: 100000 jobs: run_1, run_2, run_3, …
       done: within 02:40:00 of its start
       why: one large: 41 nodes for 08:08:00, 266.5 node-hours, idle 2 %; many small: 50 × 2 nodes for 03:20:00, 260.5 node-hours, idle 0 %; chosen: many small, because each starts as soon as 2 nodes are free; 41 nodes at once, 41 % of the partition, would wait longer
    in all: 50 allocations, 260.5 node-hours (at most 333.3), 02:40:00 without waiting in the queue
    ");
}

#[test]
fn a_fixed_strategy_and_a_bound_are_kept() {
    let twelve = workflow(
        "name: w
resource_requirements: [{name: r, num_cpus: 64, runtime: PT40M}]
jobs: [{name: 'run_{i}', command: x, resource_requirements: r, parameters: {i: '1:12'}}]",
    );
    let reason = |strategy, max_nodes| {
        let options = PlanOptions { strategy, max_nodes, ..options() };
        plan(&twelve, &[standard()], &options).expect("it can be planned").stages[0].reason.clone()
    };
    assert_snapshot!(reason(Strategy::One, None), @"one large: 6 nodes for 01:40:00, 8.0 node-hours, idle 0 %; many small: 6 × 1 node for 01:40:00, 8.0 node-hours, idle 0 %; chosen: one large, as asked");
    assert_snapshot!(reason(Strategy::Many, None), @"one large: 6 nodes for 01:40:00, 8.0 node-hours, idle 0 %; many small: 12 × 1 node for 00:50:00, 8.0 node-hours, idle 0 %; chosen: many small, as asked");
    assert_snapshot!(reason(Strategy::One, Some(3)), @"one large: 3 nodes for 03:20:00, 8.0 node-hours, idle 0 %; many small: 3 × 1 node for 03:20:00, 8.0 node-hours, idle 0 %; chosen: one large, as asked");
    assert_snapshot!(reason(Strategy::Auto, Some(1)), @"one large: 1 node for 10:00:00, 8.0 node-hours, idle 0 %; more nodes cannot be had at once");
}

#[test]
fn a_chain_of_gangs_with_small_jobs_between_stays_in_one_allocation() {
    let found = planned(
        "name: w
resource_requirements:
  - {name: four, num_nodes: 4, num_cpus: 64, runtime: PT3H}
  - {name: small, runtime: PT5M}
jobs:
  - {name: start, command: x, resource_requirements: four}
  - {name: check, command: x, resource_requirements: small, depends_on: [start]}
  - {name: go_on, command: x, resource_requirements: four, depends_on: [check]}
  - {name: 'ensemble_{i}', command: x, resource_requirements: four, depends_on: [go_on], parameters: {i: '1:20'}}",
        &[standard()],
    );
    assert_snapshot!(found, @r"
    1. stage_1: 4 nodes of `standard` for 07:37:00
       when: on_workflow_start
       runs: 3 jobs: start, check, go_on
       done: within 06:05:00 of its start
       why: one large: 4 nodes for 07:37:00, 24.3 node-hours, idle 1 %; a single job: there is nothing to split; 2 later jobs run in it, too, instead of waiting in the queue again
    2. stage_2: 20 × 4 nodes of `standard` for 03:45:00
       when: on_jobs_ready, its first 20 jobs
       runs: 20 jobs: ensemble_1, ensemble_2, ensemble_3, …
       done: within 03:00:00 of its start
       why: one large: 40 nodes for 07:30:00, 240.0 node-hours, idle 0 %; many small: 20 × 4 nodes for 03:45:00, 240.0 node-hours, idle 0 %; chosen: many small, because each starts as soon as 4 nodes are free; 40 nodes at once, 40 % of the partition, would wait longer
    in all: 21 allocations, 264.3 node-hours (at most 330.5), 09:05:00 without waiting in the queue
    ");
}

#[test]
fn a_partition_that_cannot_be_used_is_an_error() {
    let workflow = workflow("name: w\njobs: [{name: a, command: x}]");
    let check = |partitions: &[PartitionShape], options: &PlanOptions, expected: &str| {
        let error = plan(&workflow, partitions, options).expect_err("it cannot be planned");
        assert_eq!(error.to_string(), expected);
    };
    let none = "no partition with nodes is known: check what sinfo shows";
    check(&[], &options(), none);
    check(&[partition("standard", 1, &[nodes(0, 64, 1, 0)])], &options(), none);
    let named = PlanOptions { partition: Some("gpu".into()), ..options() };
    let unknown = "there is no partition `gpu`; there is: standard";
    check(&[standard()], &named, unknown);
    let nobody = "no account to charge: name one with --account, or write `slurm_defaults: \
                  {account: NAME}`";
    check(&[standard()], &PlanOptions::default(), nobody);
}

#[test]
fn a_completed_workflow_has_what_the_plan_says() {
    let workflow = workflow(
        "name: w
execution_config: {termination_signal: SIGINT}
resource_requirements: [{name: two, num_nodes: 2, runtime: PT1H}, {name: one, runtime: PT1H}]
jobs:
  - {name: a, command: x, resource_requirements: one}
  - {name: b, command: x, resource_requirements: two, depends_on: [a]}",
    );
    let plan = plan(&workflow, &[standard()], &options()).expect("it can be planned");
    let completed = complete(&workflow, &plan);
    let pins: Vec<_> = completed.jobs.iter().map(|job| job.scheduler).collect();
    assert_eq!(pins, [Some(0), Some(1)]);
    assert_eq!(completed.header.execution.mode, ExecutionMode::Direct);
    assert_snapshot!(serde_json::to_string(&completed.header.actions).expect("JSON"), @r#"[{"trigger":"on_workflow_start","persistent":false,"kind":{"schedule_nodes":{"scheduler":0,"num_allocations":1,"start_one_worker_per_node":false,"max_parallel_jobs":null}}},{"trigger":{"on_jobs_ready":[2]},"persistent":false,"kind":{"schedule_nodes":{"scheduler":1,"num_allocations":1,"start_one_worker_per_node":false,"max_parallel_jobs":null}}}]"#);
    assert_snapshot!(serde_json::to_string(&completed.header.schedulers).expect("JSON"), @r#"[{"name":"stage_1","kind":"slurm","settings":{"account":"p","partition":"standard","nodes":1,"walltime":"01:15:00"}},{"name":"stage_2","kind":"slurm","settings":{"account":"p","partition":"standard","nodes":2,"walltime":"01:15:00"}}]"#);
}
