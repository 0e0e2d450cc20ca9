//! Small workflows.

use super::{assumed, chain, forecast_of, idle, levels, minutes, never, spans, workflow};
use crate::forecast::{ForecastError, WhyNever, forecast};
use crate::traits::NeverReason;

#[test]
fn a_chain_takes_its_length() {
    let found = forecast_of(
        "
name: w
resource_requirements: [{name: r, num_cpus: 2, runtime: PT10M}, {name: s, runtime: PT5M}]
jobs:
  - {name: c, command: x, depends_on: [b], resource_requirements: s}
  - {name: a, command: x, resource_requirements: r}
  - {name: b, command: x, depends_on: [a]}",
        Some(1),
    );
    // b declares no runtime, and is taken to run for ten minutes on one CPU.
    assert_eq!(minutes(&found), [25, 25, 2 * 10 + 10 + 5, 100 - 35]);
    assert_eq!(idle(&found), "no ready job 50, tail 15");
    assert_eq!(chain(&found), "a b c in 25");
    assert_eq!(levels(&found), [[1, 1, 10, 20], [1, 1, 10, 10], [1, 1, 5, 5]]);
    assert_eq!((found.unknown_runtimes, found.overrunning, found.ungranted), (1, 0, 0));
    assert_eq!(spans(&found), ["there x1 0-25 3 jobs"]);
    assert_eq!(never(&found), [""; 0]);
}

#[test]
fn a_fan_out_goes_in_waves() {
    let found = forecast_of(
        r#"
name: w
resource_requirements: [{name: r, runtime: PT10M}]
jobs:
  - {name: first, command: x, resource_requirements: r}
  - {name: "j{i}", command: x, depends_on: [first], resource_requirements: r, parameters: {i: "1:18"}}
  - {name: last, command: x, depends_on_regexes: ["^j"], resource_requirements: r}"#,
        Some(2),
    );
    // Eight CPUs: 1, then 8, 8 and 2, then 1.
    assert_eq!(minutes(&found), [50, 100, 200, 200]);
    assert_eq!(idle(&found), "no ready job 130, tail 70");
    assert_eq!(chain(&found), "first j1 last in 30");
    assert_eq!(levels(&found), [[1, 1, 10, 10], [18, 1, 10, 180], [1, 1, 10, 10]]);
}

#[test]
fn a_gang_among_single_jobs_holds_its_nodes() {
    let found = forecast_of(
        r#"
name: w
resource_requirements:
  - {name: long, num_cpus: 4, runtime: PT30M}
  - {name: gang, num_nodes: 2, runtime: PT10M}
  - {name: short, num_cpus: 4, runtime: PT20M}
jobs:
  - {name: a, command: x, resource_requirements: long, priority: 2}
  - {name: g, command: x, resource_requirements: gang, priority: 1}
  - {name: s, command: x, resource_requirements: short}
  - {name: t, command: x, resource_requirements: short}"#,
        Some(2),
    );
    // s goes before the gang beside a, and t has to wait: it would delay the promise.
    assert_eq!(minutes(&found), [60, 120, 120 + 20 * 4 + 80 + 80, 480 - 360]);
    assert_eq!(idle(&found), "held for a planned start 40, tail 80");
    assert_eq!(chain(&found), "a in 30");
    assert_eq!(levels(&found), [[4, 2, 30, 120 + 20 + 80 + 80]]);
}

/// Two stages on nodes of their own; the second is asked for when its job is ready.
const STAGES: &str = r#"
name: w
execution_config: {mode: direct}
slurm_schedulers:
  - {name: many, account: a, nodes: 1, walltime: "01:00:00"}
  - {name: wide, account: a, nodes: 2, walltime: "01:00:00"}
actions:
  - {trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: many, num_allocations: 2}
  - {trigger_type: on_jobs_ready, jobs: [gather], action_type: schedule_nodes, scheduler: wide}
resource_requirements:
  - {name: small, num_cpus: 2, runtime: PT10M}
  - {name: two, num_cpus: 4, num_nodes: 2, runtime: PT20M}
jobs:
  - {name: "j{i}", command: x, scheduler: many, resource_requirements: small, parameters: {i: "1:5"}}
  - {name: gather, command: x, scheduler: wide, depends_on_regexes: ["^j"], resource_requirements: two}
"#;

#[test]
fn stages_get_their_nodes_when_they_are_ready() {
    let found = forecast_of(STAGES, None);
    // Four jobs at once, then one. What is of no more use is given back after 90 seconds.
    let expected = ["many x1 0-21:30 3 jobs", "many x1 0-11:30 2 jobs", "wide x2 20-40 1 jobs"];
    assert_eq!(spans(&found), expected);
    assert_eq!(minutes(&found), [40, 73, 5 * 2 * 10 + 8 * 20, 73 * 4 - 260]);
    assert_eq!(idle(&found), "tail 32");
    assert_eq!(chain(&found), "j1 gather in 30");
    assert_eq!(levels(&found), [[5, 1, 10, 100], [1, 2, 20, 160]]);
}

#[test]
fn nodes_that_are_there_serve_all_schedulers() {
    let found = forecast_of(STAGES, Some(2));
    assert_eq!(spans(&found), ["there x2 0-40 6 jobs"]);
    assert_eq!(minutes(&found), [40, 80, 260, 320 - 260]);
    assert_eq!(idle(&found), "no ready job 60");
}

/// A scheduler `s` of one node for an hour, with these actions and jobs. Torc asks what runs there to
/// end after 58.5 minutes.
fn with_an_hour(settings: &str, actions: &str, jobs: &str) -> String {
    format!(
        r#"
name: w
execution_config: {{mode: direct}}
slurm_schedulers: [{{name: s, account: a, nodes: 1, walltime: "01:00:00", {settings}}}]
actions: [{actions}]
resource_requirements:
  - {{name: m5, num_cpus: 4, runtime: PT5M}}
  - {{name: m20, num_cpus: 4, runtime: PT20M}}
  - {{name: m50, num_cpus: 4, runtime: PT50M}}
  - {{name: cpus, num_cpus: 5, memory: 1g, runtime: PT1M}}
  - {{name: memory, num_cpus: 1, memory: 9g, runtime: PT1M}}
jobs:
{jobs}"#
    )
}

const AT_THE_START: &str =
    "{trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: s}";

#[test]
fn a_walltime_that_is_too_short_leaves_jobs_over() {
    let jobs = r#"
  - {name: "j{i}", command: x, resource_requirements: m20, parameters: {i: "1:8"}}
  - {name: last, command: x, resource_requirements: m5, depends_on: [j8]}"#;
    let found = forecast_of(&with_an_hour("", AT_THE_START, jobs), None);
    assert_eq!(spans(&found), ["s x1 0-60 3 jobs"]);
    assert_eq!(minutes(&found), [60, 60, 240, 0]);
    assert_eq!((found.completed, found.overrunning), (3, 1), "the third is to end 90 s earlier");
    let expected = [
        "5 like j4: every allocation that it could run in is over before its turn, or is not asked \
         for once it is ready: ask for more, or for longer",
        "1 like last: depends on `j8`, which does not run",
    ];
    assert_eq!(never(&found), expected);
    let again = AT_THE_START.replace("on_workflow_start", "on_worker_complete, persistent: true");
    let actions = format!("{AT_THE_START}, {again}");
    let found = forecast_of(&with_an_hour("", &actions, jobs), None);
    let expected = ["s x1 0-60 3 jobs", "s x1 60-120 3 jobs", "s x1 120-165 3 jobs"];
    assert_eq!(spans(&found), expected, "each asks for the next");
    assert_eq!((found.completed, found.ungranted), (9, 1));
}

#[test]
fn allocations_of_a_serialized_scheduler_follow_each_other() {
    let actions = AT_THE_START.replace("}", ", num_allocations: 4}");
    let jobs = r#"
  - {name: "j{i}", command: x, resource_requirements: m50, parameters: {i: "1:3"}}"#;
    let found = forecast_of(&with_an_hour("serialize_allocations: true", &actions, jobs), None);
    let expected = ["s x1 0-51:30 1 jobs", "s x1 51:30-103 1 jobs", "s x1 103-153 1 jobs"];
    assert_eq!(spans(&found), expected);
    assert_eq!((found.ungranted, idle(&found).as_str()), (1, "walltime too short 12"));
    let found = forecast_of(&with_an_hour("", &actions, jobs), None);
    assert_eq!(found.makespan.as_secs(), 50 * 60, "others start at once");
}

#[test]
fn an_allocation_is_given_back_when_its_time_cannot_be_enough() {
    let found = forecast_of(
        r#"
name: w
execution_config: {mode: direct}
slurm_schedulers:
  - {name: s, account: a, walltime: "01:00:00"}
  - {name: t, account: a, walltime: "02:00:00"}
actions:
  - {trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: s}
  - {trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: t}
resource_requirements:
  - {name: m1, num_cpus: 4, runtime: PT1M}
  - {name: m30, num_cpus: 4, runtime: PT30M}
  - {name: m50, num_cpus: 4, runtime: PT50M}
jobs:
  - {name: a, command: x, scheduler: s, resource_requirements: m1}
  - {name: b, command: x, scheduler: t, resource_requirements: m30}
  - {name: c, command: x, scheduler: s, resource_requirements: m50, depends_on: [a, b]}"#,
        None,
    );
    // c could start until two minutes (of grace) after the tenth; then a minute and a half is waited.
    assert_eq!(spans(&found), ["s x1 0-13:30 1 jobs", "t x1 0-31:30 1 jobs"]);
    assert_eq!(found.allocations[0].ends_ms, 13 * 60_000 + 30_001);
    assert_eq!(found.never[0].reason, WhyNever::LeftOver);
}

#[test]
fn what_can_never_run_is_told_with_numbers() {
    let jobs = r#"
  - {name: "c{i}", command: x, resource_requirements: cpus, parameters: {i: "1:2"}}
  - {name: m, command: x, resource_requirements: memory}
  - {name: good, command: x, resource_requirements: m5}
  - {name: l, command: x, resource_requirements: m5, labels: [far]}
  - {name: after, command: x, resource_requirements: m5, depends_on: [m, good]}
  - {name: long_after, command: x, resource_requirements: m5, depends_on: [after]}"#;
    let expected = [
        "2 like c1: needs 5 CPUs per node; the largest node has 4",
        "1 like m: needs 9.0 GiB per node; the largest node has 8.0 GiB",
        "1 like l: no allocation is of its scheduler and has all of its labels (a job without labels \
         runs only where there are none)",
        "2 like after: depends on `m`, which does not run",
    ];
    let found = forecast_of(&with_an_hour("", "", jobs), Some(1));
    assert_eq!(never(&found), expected);
    assert_eq!((found.completed, found.makespan.as_secs()), (1, 300));
    let reason = serde_json::to_value(&found.never[0].reason).expect("it can be written");
    assert_eq!(reason, serde_json::json!({"cause": "cpus", "needs": 5, "largest": 4}));
    let reason = serde_json::to_value(&found.never[3].reason).expect("it can be written");
    assert_eq!(reason, serde_json::json!({"cause": "waits_for", "job": "m"}));
}

#[test]
fn so_many_jobs_at_once_are_as_many_as_the_action_lets_a_node_take() {
    let jobs = r#"
  - {name: "c{i}", command: x, resource_requirements: cpus, parameters: {i: "1:3"}}
  - {name: "m{i}", command: x, resource_requirements: memory, parameters: {i: "1:3"}}"#;
    let most = AT_THE_START.replace("scheduler: s", "scheduler: s, max_parallel_jobs: 3");
    let found = forecast_of(&with_an_hour("", &most, jobs), None);
    assert_eq!((found.completed, minutes(&found)), (6, [2, 2, 8, 0]), "three at once, twice");
    let two = format!("{AT_THE_START}, {most}");
    let found = forecast_of(&with_an_hour("", &two, jobs), None);
    assert_eq!(found.completed, 6, "the first of the two is of no use to them");
    let slurm = with_an_hour("", &most, jobs).replace("mode: direct", "mode: auto");
    assert_eq!(forecast_of(&slurm, None).completed, 0);
}

#[test]
fn a_scheduler_has_no_more_memory_than_it_asks_for() {
    let jobs = "  - {name: m, command: x, resource_requirements: small}";
    let spec = with_an_hour("mem: 2G", AT_THE_START, jobs).replace("num_cpus: 1, memory: 9g", "x");
    let spec = spec.replace("{name: memory, x", "{name: small, num_cpus: 1, memory: 2g");
    assert_eq!(forecast_of(&spec, None).completed, 1);
    let less = forecast_of(&spec.replace("mem: 2G", "mem: 1G"), None);
    let (needs, largest) = (2 << 30, 1 << 30);
    assert_eq!(less.never[0].reason, WhyNever::Never(NeverReason::Memory { needs, largest }));
}

#[test]
fn nobody_gets_nodes_that_end_before_they_begin() {
    let actions =
        format!("{AT_THE_START}, {}", AT_THE_START.replace("on_workflow_start", "on_worker_start"));
    let jobs = "  - {name: j, command: x}";
    let spec = with_an_hour("", &actions, jobs);
    assert_eq!(forecast_of(&spec, None).completed, 1);
    let short = spec.replace("01:00:00", "00:01:30");
    let found = forecast_of(&short, None);
    assert_eq!((found.ungranted, found.allocations.len()), (1, 0));
    let reason = NeverReason::Walltime { runtime_ms: 0, longest_ms: 0 };
    assert_eq!(found.never[0].reason, WhyNever::Never(reason));
}

#[test]
fn commands_take_no_time_and_steps_at_once_are_limited() {
    let jobs = r#"
  - {name: "j{i}", command: x, parameters: {i: "1:8"}}"#;
    let actions = format!(
        "{AT_THE_START}, {{trigger_type: on_worker_start, action_type: run_commands, commands: [x, y]}}"
    );
    let spec = with_an_hour("", &actions, jobs)
        .replace("mode: direct", "mode: direct, max_parallel_steps: 2");
    for nodes in [None, Some(1)] {
        assert_eq!(forecast_of(&spec, nodes).makespan.as_secs(), 40 * 60);
    }
}

#[test]
fn too_many_nodes_are_refused_before_they_are_made() {
    let spec = STAGES
        .replace("num_allocations: 2", "num_allocations: 10000")
        .replace("nodes: 1, walltime", "nodes: 400000, walltime");
    let refused = forecast(&workflow(&spec), &assumed()).expect_err("too many");
    assert_eq!(refused, ForecastError::TooLarge { cpus: 4 * 4_000_000_002, most: 1 << 22 });
}
