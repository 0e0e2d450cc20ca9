//! `torc plan` as people use it.

use serde_json::json;
use torc_tests::Place;

/// Two stages with allocations of their own, the second asked for when its job is ready.
const STAGES: &str = r#"
name: two stages
slurm_schedulers:
  - {name: many, account: a, nodes: 2, walltime: "01:00:00"}
  - {name: wide, account: a, nodes: 3, walltime: "02:00:00"}
actions:
  - {trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: many}
  - {trigger_type: on_jobs_ready, jobs: [gather], action_type: schedule_nodes, scheduler: wide}
resource_requirements:
  - {name: small, num_cpus: 2, memory: 1g, runtime: PT10M}
  - {name: three, num_cpus: 4, num_nodes: 3, memory: 1g, runtime: PT1H}
jobs:
  - {name: "part_{i}", command: x, scheduler: many, resource_requirements: small, parameters: {i: "1:6"}}
  - {name: gather, command: x, scheduler: wide, depends_on_regexes: ["^part"], resource_requirements: three}
  - {name: report, command: x, scheduler: wide, depends_on: [gather]}
"#;

const NODE: [&str; 6] =
    ["--cpus-per-node", "4", "--memory-per-node-gb", "8", "--gpus-per-node", "0"];

fn plan<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["plan", "w.yaml"], &NODE[..], more].concat()
}

#[test]
fn a_workflow_is_forecast_without_slurm_and_nothing_is_left_behind() {
    let place = Place::with(STAGES);
    // No sinfo, no sbatch.
    place.set_env([("PATH".to_owned(), String::new())]);
    let ended = place.torc(&plan(&["--default-runtime", "30m"])).expect(0);
    let expected = "\
two stages: 8 jobs
STAGE  JOBS  WIDEST  LONGEST   CPU-HOURS
1      6     1       00:10:00  2.00
2      1     3       01:00:00  12.00
3      1     1       00:30:00  0.50
critical path: 01:40:00: part_1 > gather > report
on nodes as its actions ask for them, each with 4 CPUs, 8.0 GiB and 0 GPUs
ALLOCATION  SCHEDULER  NODES  BEGINS    ENDS      JOBS
1           many       2      00:00:00  00:21:30  6
2           wide       3      00:20:00  01:50:00  2
makespan:      01:50:00
node-hours:    5.22
cpu time:      69.5 % given to jobs
               30.5 % idle: tail 30.5 %
";
    assert_eq!(ended.stdout, expected);
    ended.says("no runtime is declared by 1 job; 00:30:00 is assumed");
    let found = place.json(&plan(&["--default-runtime", "30m"]));
    assert_eq!((&found["makespan_ms"], &found["completed"]), (&json!(6_600_000), &json!(8)));
    // Both nodes for 21.5 minutes, three for 90.
    assert_eq!(found["node_ms"], (2 * 21 * 60 + 2 * 30 + 3 * 90 * 60) * 1000);
    assert_eq!(found["held_cpu_ms"], ((6 * 2 * 10 + 12 * 60 + 30) * 60) * 1000);
    assert_eq!(found["critical_path"]["jobs"], json!(["part_1", "gather", "report"]));
    let left: Vec<_> = std::fs::read_dir(place.path()).expect("it is there").flatten().collect();
    assert_eq!(left.len(), 1, "only the spec: {left:?}");
}

#[test]
fn nodes_can_simply_be_there() {
    let place = Place::with(STAGES);
    let found = place.json(&plan(&["--nodes", "3", "--default-runtime", "30m"]));
    // Six parts on three nodes at once.
    assert_eq!((&found["nodes"], &found["makespan_ms"]), (&json!(3), &json!(6_000_000)));
    let allocation = json!({
        "allocation": 1, "scheduler": null, "num_nodes": 3, "begins_ms": 0, "ends_ms": 6_000_000, "jobs": 8,
    });
    assert_eq!(found["allocations"], json!([allocation]));
    let ended = place.torc(&plan(&["--nodes", "3"])).expect(0);
    ended.says("on 3 nodes that are there from the beginning, each with 4 CPUs");
    place.write("w.yaml", "name: w\njobs: [{name: a, command: x}]");
    let ended = place.torc(&["plan", "w.yaml"]).expect(0);
    ended.says("on one node that is there from the beginning").says("makespan:      01:00:00");
}

#[test]
fn what_would_not_run_is_said_with_numbers() {
    let place = Place::with(STAGES);
    let two_nodes = plan(&["--nodes", "2"]);
    let ended = place.torc(&two_nodes).expect(4);
    ended.says("2 jobs would never run there:");
    ended.says("`gather`: needs 3 nodes at once; the largest allocation has 2 that fit");
    ended.says("`report`: depends on `gather`, which does not run");
    ended.says("makespan:      00:20:00").does_not_say("taken from this machine");
    let ended = place.torc(&[&two_nodes[..], &["--format", "json"]].concat()).expect(4);
    let gather = json!({
        "jobs": 1, "example": "gather", "reason": {"cause": "nodes", "needs": 3, "largest": 2},
    });
    assert_eq!(ended.json()["never"][0], gather);
    // The walltime is enough for one wave of four.
    place.write("w.yaml", STAGES.replace("PT10M", "PT20M").replacen("01:00:00", "00:25:00", 1));
    let ended = place.torc(&plan(&[])).expect(4);
    ended.says("`part_5` and 1 like it: every allocation that it could run in is over before");
    ended.says("`gather` and 1 like it: depends on `part_5`, which does not run");
    let ended = place.torc(&["plan", "w.yaml", "--cpus-per-node", "1"]).expect(4);
    ended.says("needs 2 CPUs per node; the largest node has 1").says("taken from this machine");
}

#[test]
fn what_cannot_be_forecast_is_said() {
    let place = Place::with("name: w\njobs: [{name: a, command: x, depends_on: [b]}]");
    place.torc(&plan(&[])).expect(3).says("spec::unknown-job");
    let listing = place.torc(&plan(&["--format", "json"])).expect(3).json();
    assert_eq!(listing["problems"][0]["code"], "spec::unknown-job");
    place.torc(&["plan", "absent.yaml"]).expect(3).says("cannot read absent.yaml");
    place.write("w.yaml", "name: w\njobs: [{name: a, command: x}]");
    let too_many = ["plan", "w.yaml", "--nodes", "1000000", "--cpus-per-node", "5"];
    place.torc(&too_many).expect(2).says("5000000 CPUs together");
    place.torc(&plan(&["--nodes", "0"])).expect(2);
    place.torc(&plan(&["--default-runtime", "soon"])).expect(2).says("expected a time");
}
