//! Jobs on several nodes of a real Slurm.

use std::net::TcpListener;
use std::process::Command;

use serde_json::Value;
use torc_tests::{
    Cluster, allocated, check_ranks, checkout, compile_allreduce, nodes, not_run_here, number,
    outcome, processes,
};

/// A port that nobody listened on a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
    listener.local_addr().expect("it is bound").port()
}

#[test]
fn an_mpi_job_has_its_ranks_on_exactly_its_nodes() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(
        "name: w
slurm_schedulers: [{name: cpu, account: science, nodes: 4, walltime: '00:10:00'}]
actions: [{trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: cpu}]
resource_requirements:
- {name: one, num_cpus: 8, num_nodes: 4, memory: 1g, runtime: PT1M, ntasks_per_node: 1, mpi: pmi2}
- {name: two, num_cpus: 8, num_nodes: 4, memory: 1g, runtime: PT1M, ntasks_per_node: 2, mpi: pmi2}
- {name: half, num_cpus: 8, num_nodes: 2, memory: 1g, runtime: PT1M, ntasks_per_node: 2, mpi: pmi2}
jobs:
- {name: one, command: ./allreduce, resource_requirements: one}
- {name: two, command: ./allreduce, resource_requirements: two, depends_on: [one]}
- {name: half, command: './allreduce; echo $(env | grep -c -F -e \"(x4)\" -e \"[1-4]\") $SLURM_JOB_NODELIST \
$SLURM_JOB_NUM_NODES $TORC_NODELIST', resource_requirements: half, depends_on: [two]}",
    );
    compile_allreduce(&place.place);
    place.submit_and_wait().expect(0).says("3 completed");
    for (job, ranks, width) in [("one", 4, 4), ("two", 8, 4), ("half", 4, 2)] {
        let attempt = &place.place.attempts(job)[0];
        assert_eq!(nodes(attempt).len(), width);
        check_ranks(attempt, ranks);
    }
    let half = &place.place.attempts("half")[0];
    let output = place.place.output("wf1_j3_r1_a1.o");
    let own: Vec<&str> = output.lines().filter(|line| !line.contains("rank")).collect();
    let list = nodes(half).join(",");
    assert!(
        !own.is_empty() && own.iter().all(|line| line.ends_with(&format!(" 2 {list}"))),
        "{output}"
    );
    assert!(
        own.iter().all(|line| line.starts_with("0 ")),
        "no variable tells of four nodes: {output}"
    );
}

#[test]
fn a_launcher_of_pytorch_finds_the_other_nodes_of_its_job() {
    let Some(cluster) = Cluster::acquire() else { return };
    // Debian's, whatever else is called python here.
    let python = "/usr/bin/python3";
    let imports = Command::new(python).args(["-c", "import torch.distributed"]).output();
    if !imports.is_ok_and(|imports| imports.status.success()) {
        not_run_here("torch.distributed.run on a real Slurm (no package python3-torch)");
        return;
    }
    // The names of the nodes mean nothing to this machine, which they all are. PyTorch 1.13 can read no
    // other kind of redirection under Python 3.11, not even the default.
    let place = cluster.place(&format!(
        "name: w
slurm_schedulers: [{{name: cpu, account: science, nodes: 4, walltime: '00:10:00'}}]
actions: [{{trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: cpu}}]
resource_requirements: [{{name: three, num_cpus: 8, num_nodes: 3, memory: 4g, runtime: PT5M}}]
jobs:
- name: train
  resource_requirements: three
  command: >-
    {python} -m torch.distributed.run --nnodes $SLURM_JOB_NUM_NODES --nproc_per_node 2 --rdzv_id
    $TORC_JOB_NAME --rdzv_backend c10d --rdzv_endpoint localhost:{port} --redirects 1 --tee 1 --log_dir logs
    {script}",
        port = free_port(),
        script = checkout().join("tests/slurm/allreduce.py").display(),
    ));
    place.submit_and_wait().expect(0).says("1 completed");
    let train = &place.place.attempts("train")[0];
    assert_eq!(nodes(train).len(), 3);
    check_ranks(train, 6);
}

#[test]
fn a_gang_starts_as_promised_beside_small_jobs_and_alone_on_its_nodes() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(
        "name: w
slurm_schedulers: [{name: cpu, account: science, nodes: 4, walltime: '00:20:00'}]
actions: [{trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: cpu}]
resource_requirements:
- {name: small, num_cpus: 4, memory: 1g, runtime: PT2S}
- {name: wide, num_cpus: 8, num_nodes: 2, memory: 1g, runtime: PT5S}
jobs:
- {name: 's{i:02d}', command: 'sleep 1', resource_requirements: small, parameters: {i: '1:60'}}
- {name: seed, command: 'true', resource_requirements: small, priority: 1}
- {name: wide, command: 'sleep 2', resource_requirements: wide, depends_on: [seed]}",
    );
    place.submit_and_wait().expect(0).says("62 completed");
    let attempts = place.place.results();
    let wide = attempts.iter().find(|attempt| attempt["job"] == "wide").expect("it ran");
    let (from, to) = (number(wide, "started_at"), number(wide, "ended_at"));
    let mine = nodes(wide);
    let during = |attempt: &&Value| {
        attempt["job"] != "wide"
            && number(attempt, "started_at") < to
            && number(attempt, "ended_at") > from
    };
    let beside: Vec<&Value> = attempts.iter().filter(during).collect();
    assert!(beside.iter().all(|attempt| !mine.contains(&nodes(attempt)[0])), "it is alone");
    assert!(!beside.is_empty(), "the other nodes keep working");
    let after = |attempt: &&Value| number(attempt, "started_at") >= to;
    let after = attempts.iter().filter(after).count();
    assert!(after >= 10, "it did not wait for all small jobs: {after} came after it");
}

#[test]
fn a_stage_gets_its_own_allocation_when_its_jobs_are_ready() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(
        "name: w
slurm_schedulers:
- {name: prep, account: science, nodes: 2, walltime: '00:10:00'}
- {name: train, account: science, nodes: 4, walltime: '00:10:00'}
actions:
- {trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: prep}
- {trigger_type: on_jobs_ready, jobs: [train], action_type: schedule_nodes, scheduler: train}
compute_node_wait_for_new_jobs_seconds: 1
resource_requirements:
- {name: part, num_cpus: 4, memory: 1g, runtime: PT1M}
- {name: all, num_cpus: 8, num_nodes: 4, memory: 1g, runtime: PT1M}
jobs:
- {name: 'prep{i}', command: 'true', resource_requirements: part, scheduler: prep, parameters: {i: '1:6'}}
- {name: train, command: 'echo $SLURM_NNODES', resource_requirements: all, scheduler: train, \
depends_on_regexes: ['^prep']}",
    );
    place.submit_and_wait().expect(0).says("7 completed");
    let allocations = place.allocations();
    let widths: Vec<u64> =
        allocations.iter().map(|one| one["num_nodes"].as_u64().expect("a number")).collect();
    assert_eq!(widths, [2, 4]);
    let last_prep = place
        .place
        .results()
        .iter()
        .filter(|attempt| attempt["job"] != "train")
        .map(|attempt| number(attempt, "ended_at"))
        .max()
        .expect("they ran");
    assert!(number(&allocations[1], "requested_at") >= last_prep, "not before its jobs were ready");
    assert_eq!(nodes(&place.place.attempts("train")[0]).len(), 4);
}

/// The planned start holds with the runtimes that are declared, and jobs that keep them let it be kept.
#[test]
fn a_gang_starts_by_its_planned_start() {
    const RUNTIME: u64 = 6_000;
    /// From a decision to the first process on a busy machine.
    const SLACK: u64 = 2_000;
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(
        "name: w
slurm_schedulers: [{name: cpu, account: science, nodes: 4, walltime: '00:20:00'}]
actions: [{trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: cpu}]
resource_requirements:
- {name: small, num_cpus: 4, memory: 1g, runtime: PT6S}
- {name: wide, num_cpus: 8, num_nodes: 3, memory: 1g, runtime: PT8S}
jobs:
- {name: 's{i:02d}', command: 'sleep 4', resource_requirements: small, parameters: {i: '1:32'}}
- {name: seed, command: 'until test -e go; do sleep 0.1; done', resource_requirements: small, priority: 1}
- {name: wide, command: 'true', resource_requirements: wide, depends_on: [seed]}",
    );
    let submitted = place.start_and_wait();
    place.until("all nodes at work", || {
        let status = place.place.torc(&["status", "--format", "json"]);
        let report: Value = serde_json::from_str(&status.stdout).ok()?;
        (report["counts"]["running"] == 8).then_some(())
    });
    place.place.write("go", "");
    let planned = place.until("the planned start", || {
        let report = place.place.json(&["status"]);
        // Before it is ready, another job has one.
        let planned = report["planned"].as_array()?.iter().find(|one| one["job"] == "wide")?;
        Some(planned.clone())
    });
    let told = place.place.json(&["explain", "wide"]);
    assert!(number(&told["planned"], "at") <= number(&planned, "at"), "{told}");
    place.place.torc(&["explain", "wide"]).expect(0).says("planned start in");
    submitted.wait().expect(0).says("34 completed");
    let attempts = place.place.results();
    let of = |job: &str| attempts.iter().find(|one| one["job"] == job).expect("it ran");
    let (ready, dispatched) = (number(of("seed"), "ended_at"), number(of("wide"), "dispatched_at"));
    let started = number(of("wide"), "started_at");
    assert!(dispatched <= number(&planned, "at"), "promised {planned}, came at {dispatched}");
    let running = attempts
        .iter()
        .filter(|one| number(one, "dispatched_at") <= ready && number(one, "ended_at") > ready);
    let expected_ends = running.map(|one| number(one, "dispatched_at") + RUNTIME);
    let last = expected_ends.max().expect("the nodes were at work");
    assert!(started <= last + SLACK, "{started} is after {last}, when all of them should be done");
    let after = attempts.iter().filter(|one| number(one, "started_at") > started).count();
    assert!(after >= 4, "small jobs were still waiting: {after}");
}

#[test]
fn what_is_left_of_a_gang_ends_before_it_runs_again() {
    let Some(cluster) = Cluster::acquire() else { return };
    // Each rank has a child that names its attempt; before it starts one, it looks for those of the first.
    let place = cluster.place(
        "name: w
slurm_schedulers: [{name: cpu, account: science, nodes: 4, walltime: '00:10:00'}]
actions: [{trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: cpu}]
resource_requirements: [{name: wide, num_cpus: 8, num_nodes: 2, memory: 1g, runtime: PT5M}]
jobs:
- name: wide
  resource_requirements: wide
  command: |
    pgrep -f rank_[1]_of_$TORC_OUTPUT_DIR > left_before_$TORC_ATTEMPT_ID.$SLURM_PROCID
    bash -c 'until test -e go; do sleep 0.1; done' rank_${TORC_ATTEMPT_ID}_of_$TORC_OUTPUT_DIR",
    );
    let submitted = place.start_and_wait();
    place.until_running(1);
    let ranks_of = |attempt: u32| {
        let dir = place.place.join("torc_output");
        processes(&format!("rank_{attempt}_of_{}$", dir.display())).len()
    };
    place.until("both ranks", || (ranks_of(1) == 2).then_some(()));
    let first = place.place.attempts("wide")[0].clone();
    let victim = nodes(&first)[1];
    assert_ne!(victim, allocated(&place.allocations()[0])[0], "losing that ends all");
    let _dead = cluster.fail_node(victim, true);
    place.until("the second attempt", || (ranks_of(2) == 2).then_some(()));
    assert_eq!(ranks_of(1), 0);
    place.place.write("go", "");
    submitted.wait().expect(0).says("1 completed");
    for rank in 0..2 {
        assert_eq!(place.place.read(&format!("left_before_2.{rank}")), "", "at its start");
    }
    let attempts = place.place.attempts("wide");
    assert_eq!(attempts.iter().map(outcome).collect::<Vec<_>>(), ["node_failed", "exited"]);
    assert!(!nodes(&attempts[1]).contains(&victim), "{attempts:?}");
}
