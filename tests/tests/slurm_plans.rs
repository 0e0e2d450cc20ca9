//! Workflows that ask Slurm for nothing themselves, planned and run on a real Slurm.

use serde_json::Value;
use torc_tests::{Cluster, ClusterPlace, RUN_PATIENCE, Started, nodes, number, text};

/// Jobs on a part of a node each, and then one on two nodes.
const STUDY: &str = "name: study
resource_requirements:
- {name: part, num_cpus: 4, memory: 2g, runtime: PT10M}
- {name: pair, num_nodes: 2, num_cpus: 8, memory: 2g, runtime: PT12M}
jobs:
- {name: 'part{i}', command: 'true', parameters: {i: '1:4'}, resource_requirements: part}
- {name: pair, command: 'echo $SLURM_JOB_NUM_NODES', resource_requirements: pair, depends_on_regexes: ['^part']}";

/// The numbers of nodes that a plan tells, a stage each: `1. stage_1: 2 nodes of `main` for 00:50:00`.
fn planned_widths(plan: &str) -> Vec<u64> {
    let stages = plan.lines().filter_map(|line| line.split_once(". stage_"));
    let width = |(_, stage): (&str, &str)| stage.split_whitespace().nth(1)?.parse().ok();
    stages.map(|stage| width(stage).unwrap_or_else(|| panic!("no width in {stage:?}"))).collect()
}

/// The study is completed, each job in an allocation that is as wide as was planned for it.
#[track_caller]
fn check_ran_as_planned(place: &ClusterPlace<'_>, planned: &[u64]) {
    let allocations = place.allocations();
    let widths: Vec<u64> = allocations.iter().map(|one| number(one, "num_nodes")).collect();
    assert_eq!(widths, planned, "{allocations:?}");
    let handle = |allocation: &Value| text(allocation, "handle").to_owned();
    for (allocation, width) in allocations.iter().zip(&widths) {
        let job = handle(allocation);
        // The accounting may come a little later than the end.
        place.until(&format!("Slurm's word that {job} had {width} nodes"), || {
            let granted = place.cluster.accounting(&job, "NNodes");
            (granted.first()?.first()? == &width.to_string()).then_some(())
        });
    }
    let attempts = place.place.results();
    assert_eq!(attempts.len(), 5, "{attempts:?}");
    for attempt in attempts {
        let width = if attempt["job"] == "pair" { 2 } else { 1 };
        assert_eq!(nodes(&attempt).len(), width, "{attempt}");
    }
    let pair = &place.place.attempts("pair")[0];
    let output = std::fs::read_to_string(text(pair, "stdout")).expect("it has output");
    assert_eq!(output, "2\n2\n", "a rank on each node");
}

#[test]
fn a_study_that_asks_for_nothing_is_planned_and_runs() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(STUDY);
    let submit = ["submit", "w.yaml", "--account", "science", "--wait"];
    let ended = Started::start_for(place.place.command(&submit), RUN_PATIENCE).wait().expect(0);
    ended.says("on_jobs_ready").says("5 completed");
    let planned = planned_widths(&ended.stderr);
    assert_eq!(planned.last(), Some(&2), "the pair has a stage of two nodes: {planned:?}");
    check_ran_as_planned(&place, &planned);
}

#[test]
fn a_generated_spec_is_the_same_plan_and_runs() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(STUDY);
    let generated =
        place.place.torc(&["slurm", "generate", "w.yaml", "--account", "science"]).expect(0);
    let planned = planned_widths(&generated.stderr);
    assert_eq!(planned.last(), Some(&2), "the pair has a stage of two nodes: {planned:?}");
    place.place.write("w.yaml", &generated.stdout);
    place.submit_and_wait().expect(0).says("5 completed");
    check_ran_as_planned(&place, &planned);
}

/// The nodes of the scheduler's partition have 8 CPUs; those of another one have 16, two of them a core.
#[test]
fn totals_in_place_of_values_per_node_are_warned_of_before_anything_is_submitted() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place("");
    let submit = |scheduler: &str, cpus: u32| {
        let spec = format!(
            "name: w
slurm_schedulers: [{{name: cpu, account: science, nodes: 4, walltime: '00:20:00'{scheduler}}}]
actions: [{{trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: cpu}}]
resource_requirements: [{{name: all, num_nodes: 4, num_cpus: {cpus}, memory: 1g, runtime: PT5M}}]
jobs: [{{name: train, command: ./train, resource_requirements: all}}]"
        );
        place.place.write("w.yaml", &spec);
        place.place.torc(&["submit", "w.yaml"]).expect(4)
    };
    for scheduler in ["", ", partition: main", ", extra: '-p main'"] {
        let ended = submit(scheduler, 12);
        ended.says(
            "asks for num_cpus 12 on each of 4 nodes, but no node that it can get has more than 8",
        );
        ended.says("write `num_cpus: 3`").says("w.yaml:4:32").says("^^^ more than a node has");
    }
    let ended = submit(", partition: threads", 32);
    ended.says(
        "asks for num_cpus 32 on each of 4 nodes, but no node that it can get has more than 16",
    );
    ended.says("write `num_cpus: 8`");
    let queue = cluster.slurm("squeue", &["--noheader", "--states=all", "--format=%Z"]).expect(0);
    assert!(!queue.stdout.contains(place.place.path().to_str().expect("it is UTF-8")));
}

#[test]
fn a_plan_for_a_job_of_a_minute_leaves_it_its_minute() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(
        "name: w
resource_requirements: [{name: quick, runtime: PT1M}]
jobs: [{name: a, command: 'true', resource_requirements: quick}]",
    );
    let submit = ["submit", "w.yaml", "--account", "science", "--wait"];
    let ended = Started::start_for(place.place.command(&submit), RUN_PATIENCE).wait().expect(0);
    ended.says("1 completed");
}
