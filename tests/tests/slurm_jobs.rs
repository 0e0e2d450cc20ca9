//! Workflows on a real Slurm: jobs on nodes as their authors expect.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;
use torc_tests::{Cluster, ClusterPlace, number, text};

/// A spec with one scheduler `cpu` of so many nodes and an action that asks for it.
fn spec(nodes: u32, rest: &str) -> String {
    format!(
        "name: w
slurm_schedulers: [{{name: cpu, account: science, nodes: {nodes}, walltime: '00:20:00'}}]
actions: [{{trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: cpu}}]
execution_config: {{srun_termination_signal: TERM@5, sigkill_headroom_seconds: 10}}
{rest}"
    )
}

/// The largest number of attempts that were placed on one node at once, and the nodes there were.
fn at_once(place: &ClusterPlace<'_>) -> (usize, usize) {
    let mut by_node: BTreeMap<String, Vec<(u64, u64)>> = BTreeMap::new();
    for attempt in place.place.results() {
        let span = (number(&attempt, "dispatched_at"), number(&attempt, "ended_at"));
        for node in attempt["nodes"].as_array().expect("a list") {
            by_node.entry(node.as_str().expect("a name").to_owned()).or_default().push(span);
        }
    }
    let most = |spans: &Vec<(u64, u64)>| {
        let at =
            |moment: u64| spans.iter().filter(move |(from, to)| (*from..*to).contains(&moment));
        spans.iter().map(|(from, _)| at(*from).count()).max().unwrap_or(0)
    };
    (by_node.values().map(most).max().unwrap_or(0), by_node.len())
}

#[test]
fn a_hundred_jobs_of_a_whole_node_run_four_at_a_time() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(&spec(
        4,
        "resource_requirements: [{name: whole, num_cpus: 8, memory: 1g, runtime: PT1M}]
jobs:
- {name: 'j{i:03d}', command: 'echo $SLURMD_NODENAME $SLURM_CPUS_ON_NODE $SLURM_STEP_NODELIST', \
resource_requirements: whole, parameters: {i: '1:100'}}",
    ));
    place.submit_and_wait().expect(0).says("100 completed");
    assert_eq!(at_once(&place), (1, 4));
    for attempt in place.place.results() {
        let output = std::fs::read_to_string(text(&attempt, "stdout")).expect("it has output");
        let node = attempt["nodes"][0].as_str().expect("a node");
        assert_eq!(output.trim(), format!("{node} 8 {node}"), "{attempt}");
        let in_srun = number(&attempt, "started_at") - number(&attempt, "dispatched_at");
        assert!(in_srun < 2_000, "it was placed, and then waited inside srun: {attempt}");
    }
    let job = text(&place.allocations()[0], "handle").to_owned();
    let steps = cluster.accounting(&job, "JobName,State,NodeList,NNodes");
    let steps: Vec<_> = steps.iter().filter(|step| step[0].starts_with("wf1_j")).collect();
    assert_eq!(steps.len(), 100, "one step a job");
    assert!(steps.iter().all(|step| step[1] == "COMPLETED" && step[3] == "1"), "{steps:?}");
}

#[test]
fn jobs_of_5_cpus_on_nodes_of_8_run_one_at_a_time_a_node() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(&spec(
        2,
        "resource_requirements: [{name: five, num_cpus: 5, memory: 1g, runtime: PT1M}]
jobs:
- {name: 'j{i}', command: 'sleep 0.3', resource_requirements: five, parameters: {i: '1:20'}}",
    ));
    place.submit_and_wait().expect(0).says("20 completed");
    assert_eq!(at_once(&place), (1, 2), "sums over nodes would start three");
}

#[test]
fn jobs_of_20_gb_on_nodes_of_32_run_one_at_a_time_a_node() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(&spec(
        2,
        "resource_requirements: [{name: large, num_cpus: 1, memory: 20g, runtime: PT1M}]
jobs:
- {name: 'j{i}', command: 'sleep 0.3', resource_requirements: large, parameters: {i: '1:12'}}",
    ));
    place.submit_and_wait().expect(0).says("12 completed");
    assert_eq!(at_once(&place), (1, 2), "sums over nodes would start three");
}

#[test]
fn memory_and_gpus_are_held_per_node() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(
        &spec(
            2,
            "resource_requirements:
- {name: gpu, num_cpus: 1, num_gpus: 1, memory: 100m, runtime: PT1M}
- {name: none, num_cpus: 1, memory: 100m, runtime: PT1M}
jobs:
- {name: 'g{i}', command: 'echo gpus=$CUDA_VISIBLE_DEVICES; sleep 1', resource_requirements: gpu, \
parameters: {i: '1:6'}}
- {name: plain, command: 'echo gpus=$CUDA_VISIBLE_DEVICES', resource_requirements: none}",
        )
        .replace("nodes: 2,", "nodes: 2, gres: 'gpu:2',"),
    );
    place.submit_and_wait().expect(0).says("7 completed");
    let (most, nodes) = at_once(&place);
    assert!(most <= 3 && nodes == 2, "two GPUs and one job without, at most: {most} on {nodes}");
    for attempt in place.place.results() {
        let output = std::fs::read_to_string(text(&attempt, "stdout")).expect("it has output");
        let gpus = output.trim().strip_prefix("gpus=").expect("it says");
        let is_plain = text(&attempt, "job") == "plain";
        let count = gpus.split(',').filter(|id| !id.is_empty() && *id != "NoDevFiles").count();
        assert_eq!(count, usize::from(!is_plain), "{output}");
    }
}

#[test]
fn a_job_over_its_memory_is_ended_by_the_evidence_of_its_step() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(&spec(
        1,
        "resource_requirements: [{name: small, num_cpus: 1, memory: 50m, runtime: PT1M}]
jobs:
- {name: greedy, command: 'python3 -c \"import time; x = bytearray(400 << 20); time.sleep(60)\"', \
resource_requirements: small}
- {name: fails, command: 'exit 137', resource_requirements: small}",
    ));
    place.submit_and_wait().expect(1);
    let greedy = &place.place.attempts("greedy")[0];
    assert_eq!((greedy["return_code"].as_i64(), text(greedy, "status")), (Some(137), "failed"));
    assert_eq!(greedy["outcome"]["outcome"], "out_of_memory", "{greedy}");
    let fails = &place.place.attempts("fails")[0];
    assert_eq!(fails["outcome"]["outcome"], "exited", "the same code by itself: {fails}");
}

#[test]
fn an_allocation_is_left_before_slurm_creates_no_more_steps() {
    let Some(cluster) = Cluster::acquire() else { return };
    // The cluster's MaxStepCount is 400.
    let place = cluster.place(&spec(
        4,
        "resource_requirements: [{name: one, num_cpus: 1, memory: 100m, runtime: PT1M}]
jobs: [{name: 'j{i}', command: 'true', resource_requirements: one, parameters: {i: '1:420'}}]",
    ));
    place.submit();
    let reason = "Slurm creates no more job steps for this allocation";
    place.until("the end of its steps", || {
        let nodes = place.place.json(&["nodes"]);
        let all = nodes.as_array().filter(|nodes| !nodes.is_empty())?;
        let is_so = |node: &Value| node["reason"].as_str().is_some_and(|why| why.contains(reason));
        all.iter().all(is_so).then_some(())
    });
    place.place.torc(&["nodes"]).expect(0).says("draining").says(reason);
    place.until("the end of what ran", || {
        let counts = &place.place.json(&["status"])["counts"];
        (counts["pending"] == 0 && counts["running"] == 0).then_some(())
    });
    let counts = place.place.json(&["status"])["counts"].clone();
    let (completed, ready) = (number(&counts, "completed"), number(&counts, "ready"));
    assert_eq!(completed + ready, 420, "none has failed: {counts}");
    assert!((340..=400).contains(&completed), "{counts}");
    place.place.torc(&["cancel"]).expect(0);
}

#[test]
fn more_steps_than_may_run_at_once_in_an_allocation_go_to_another() {
    let Some(cluster) = Cluster::acquire() else { return };
    let spec = spec(
        1,
        "resource_requirements: [{name: one, num_cpus: 1, memory: 10m, runtime: PT1M}]
jobs:
- {name: 'j{i}', command: 'until test -e go; do sleep 0.1; done', resource_requirements: one, \
parameters: {i: '1:5'}}",
    );
    let spec = spec
        .replace("scheduler: cpu}", "scheduler: cpu, num_allocations: 2}")
        .replace("execution_config: {", "execution_config: {max_parallel_steps: 2, ");
    let place = cluster.place(&spec);
    let waiting = place.start_and_wait();
    place.until_running(4);
    place.place.torc(&["explain", "j5"]).expect(0).says("max_parallel_steps").says("next expected");
    place.place.write("go", "");
    waiting.wait().expect(0).says("5 completed");
    assert_eq!(at_once(&place), (2, 2));
}

#[test]
fn threads_of_a_core_are_given_together() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(
        &spec(
            1,
            "resource_requirements: [{name: one, num_cpus: 1, memory: 10m, runtime: PT1M}]
jobs:
- {name: 'j{i}', command: 'sleep 1', resource_requirements: one, parameters: {i: '1:16'}}",
        )
        .replace("nodes: 1,", "nodes: 1, partition: threads,"),
    );
    place.submit_and_wait().expect(0).says("16 completed");
    assert_eq!(at_once(&place), (8, 1), "8 cores of two threads each");
}

#[test]
fn ranks_that_share_no_core_fit_a_node_or_are_refused() {
    let Some(cluster) = Cluster::acquire() else { return };
    // srun would wait for ever for cores that a node does not have.
    let wide = |cpus: u32, ranks: u32| {
        spec(
            2,
            &format!(
                "resource_requirements: [{{name: r, num_cpus: {cpus}, ntasks_per_node: {ranks}, \
num_nodes: 2, memory: 10m, runtime: PT1M}}]
jobs: [{{name: j, command: 'echo $SLURM_PROCID of $SLURM_NTASKS', resource_requirements: r}}]"
            ),
        )
        .replacen("nodes: 2,", "nodes: 2, partition: threads,", 1)
    };
    let refused = cluster.place(&wide(15, 5)).submit_and_wait().expect(4);
    refused.says("needs 20 CPUs per node for 5 ranks in whole cores, 4 each");
    let place = cluster.place(&wide(12, 4));
    place.submit_and_wait().expect(0).says("1 completed");
    let mut ranks: Vec<String> =
        place.place.output("wf1_j1_r1_a1.o").lines().map(str::to_owned).collect();
    ranks.sort();
    let expected: Vec<String> = (0..8).map(|rank| format!("{rank} of 8")).collect();
    assert_eq!(ranks, expected);
}

/// Variables that srun takes for options.
const POISON: [(&str, &str); 4] = [
    ("SLURM_MEM_PER_CPU", "1"),
    ("SLURM_TRES_PER_TASK", "cpu:7"),
    ("SLURM_CPU_BIND", "quiet,mask_cpu:0x1"),
    ("SLURM_NTASKS", "13"),
];

/// What a job on one node and the ranks of one on two see of these.
fn seen(place: &ClusterPlace<'_>) -> (String, Vec<String>) {
    place.place.set_env(POISON.map(|(name, value)| (name.to_owned(), value.to_owned())));
    place.submit_and_wait().expect(0).says("2 completed");
    let wide = place.place.output("wf1_j2_r1_a1.o");
    let mut ranks: Vec<String> = wide.lines().map(str::to_owned).collect();
    ranks.sort();
    (place.place.output("wf1_j1_r1_a1.o").trim().to_owned(), ranks)
}

/// One job of each kind, which say what they see.
const WITNESSES: &str = "
resource_requirements:
- {name: one, num_cpus: 3, memory: 100m, runtime: PT1M}
- {name: wide, num_cpus: 8, num_nodes: 2, memory: 100m, runtime: PT1M}
jobs:
- {name: one, command: &said 'echo $SLURM_PROCID $SLURM_CPUS_ON_NODE ${SLURM_MEM_PER_CPU-} \
${SLURM_TRES_PER_TASK-} ${SLURM_CPU_BIND-} ${SLURM_NTASKS-}', resource_requirements: one}
- {name: wide, command: *said, resource_requirements: wide}";

#[test]
fn a_poisoned_environment_of_the_spec_reaches_jobs_and_disturbs_nothing() {
    let Some(cluster) = Cluster::acquire() else { return };
    let env = POISON.map(|(name, value)| format!("{name}: '{value}'")).join(", ");
    let place = cluster.place(&spec(2, &format!("env: {{{env}}}{WITNESSES}")));
    let (one, ranks) = seen(&place);
    let own = POISON.map(|(_, value)| value).join(" ");
    assert_eq!(one, format!("0 3 {own}"));
    assert_eq!(ranks, [format!("0 8 {own}"), format!("1 8 {own}")]);
}

#[test]
fn a_poisoned_environment_of_the_submission_reaches_no_job() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(&spec(2, WITNESSES));
    let (one, ranks) = seen(&place);
    // The rest is what Slurm says of the step.
    assert_eq!(one, "0 3 quiet,none 1");
    assert_eq!(ranks, ["0 8 quiet,none 2", "1 8 quiet,none 2"]);
}

/// Nothing here can bind, since the nodes claim more CPUs than the machine has; what srun was asked can
/// be seen, and that jobs that are not to be bound are not.
#[test]
fn jobs_are_bound_to_cpus_as_configured() {
    let Some(cluster) = Cluster::acquire() else { return };
    let asked = |is_enabled: bool| {
        let place = cluster.place(
            &spec(
                1,
                "resource_requirements:
- {name: one, num_cpus: 1, memory: 10m, runtime: PT1M}
- {name: own, num_cpus: 1, memory: 10m, runtime: PT1M, cpu_bind: rank}
jobs:
- {name: usual, command: 'nproc; echo ${SLURM_CPU_BIND_TYPE-nothing}', resource_requirements: one}
- {name: own, command: 'nproc; echo $SLURM_CPU_BIND_TYPE', resource_requirements: own}",
            )
            .replace(
                "execution_config: {",
                &format!("execution_config: {{enable_cpu_bind: {is_enabled}, "),
            ),
        );
        place.submit_and_wait().expect(0).says("2 completed");
        [1, 2].map(|job| place.place.output(&format!("wf1_j{job}_r1_a1.o")))
    };
    let all = Command::new("nproc").output().expect("nproc starts").stdout;
    let all = String::from_utf8(all).expect("a number");
    assert_eq!(asked(false), [format!("{all}none\n"), format!("{all}rank\n")]);
    assert_eq!(asked(true), [format!("{all}nothing\n"), format!("{all}rank\n")]);
}

#[test]
fn a_runtime_equal_to_the_walltime_starts() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(&spec(
        1,
        "resource_requirements: [{name: long, num_cpus: 1, memory: 10m, runtime: PT20M}]
jobs: [{name: a, command: 'true', resource_requirements: long}]",
    ));
    place.submit_and_wait().expect(0).says("1 completed");
}

#[test]
fn a_time_limit_asks_first_and_terminates() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(
        &spec(
            1,
            "resource_requirements: [{name: short, num_cpus: 1, memory: 10m, runtime: PT3S}]
jobs:
- {name: stubborn, command: 'trap \"echo asked\" TERM; while true; do sleep 0.1; done', \
resource_requirements: short}
- {name: gentle, command: 'trap \"echo asked; exit 0\" TERM; while true; do sleep 0.1; done', \
resource_requirements: short}",
        )
        .replace("execution_config: {", "execution_config: {enforce_runtime: true, "),
    );
    place.submit_and_wait().expect(1);
    let stubborn = &place.place.attempts("stubborn")[0];
    assert_eq!(
        (stubborn["return_code"].as_i64(), text(stubborn, "status")),
        (Some(152), "terminated")
    );
    assert!(place.place.output("wf1_j1_r1_a1.o").contains("asked"));
    assert_eq!(text(&place.place.attempts("gentle")[0], "status"), "completed");
}
