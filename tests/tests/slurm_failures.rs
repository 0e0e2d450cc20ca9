//! What goes wrong on a real Slurm costs what it must, and nothing else.

use std::fs;

use nix::sys::signal::Signal;
use serde_json::Value;
use torc_tests::{Cluster, ClusterPlace, nodes, number, outcome, text};

fn held(allocations: u32, nodes: u32, jobs: &str) -> String {
    format!(
        "name: w
slurm_schedulers: [{{name: cpu, account: science, nodes: {nodes}, walltime: '00:20:00'}}]
actions: [{{trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: cpu, \
num_allocations: {allocations}}}]
execution_config: {{srun_termination_signal: TERM@5, sigkill_headroom_seconds: 10}}
compute_node_wait_for_new_jobs_seconds: 5
resource_requirements:
- {{name: half, num_cpus: 4, memory: 1g, runtime: PT5M}}
- {{name: whole, num_cpus: 8, memory: 1g, runtime: PT5M}}
- {{name: wide, num_cpus: 8, num_nodes: 2, memory: 1g, runtime: PT5M}}
jobs:
{jobs}"
    )
}

/// Jobs that wait until the file `go` is there.
const EIGHT: &str = "- {name: 'j{i}', command: 'echo $TORC_JOB_NAME >> ran; until test -e go; do sleep 0.2; done', \
                     resource_requirements: whole, parameters: {i: '1:8'}}";

/// Ends one of four allocations of one node under its job. What torc says: the attempt's outcome, and the
/// allocation's cause.
#[track_caller]
fn end_one_of_four(
    cluster: &Cluster,
    end: impl FnOnce(&ClusterPlace<'_>, &[Value]),
) -> [String; 2] {
    let place = cluster.place(&held(4, 1, EIGHT));
    let waiting = place.start_and_wait();
    place.until_running(4);
    end(&place, &place.allocations());
    let cause = place.until("the end of an allocation", || {
        let allocations = place.allocations();
        let ended = allocations.iter().find(|allocation| allocation["stage"] == "ended")?;
        ended["cause"].as_str().map(str::to_owned)
    });
    place.place.write("go", "");
    waiting.wait().expect(0).says("8 completed");
    let attempts = place.place.results();
    assert_eq!(attempts.len(), 9, "one was lost, and ran again");
    let lost: Vec<&Value> = attempts.iter().filter(|one| outcome(one) != "exited").collect();
    assert_eq!(lost.len(), 1);
    [outcome(lost[0]).to_owned(), cause]
}

#[test]
fn a_cancelled_allocation_gives_its_jobs_to_the_others() {
    let Some(cluster) = Cluster::acquire() else { return };
    let said = end_one_of_four(&cluster, |_, allocations| {
        cluster.slurm("scancel", &[text(&allocations[1], "handle")]).expect(0);
    });
    assert_eq!(said, ["lost", "cancelled"]);
}

#[test]
fn a_job_that_ends_well_when_its_allocation_is_cancelled_has_ended_well() {
    let Some(cluster) = Cluster::acquire() else { return };
    // Both are asked to end by Slurm. Only one of them takes it well.
    let jobs = "- {name: well, command: 'trap \"sleep 1; echo well >> ran; exit 0\" TERM; \
                touch ready1; while :; do sleep 0.1; done', resource_requirements: half}
- {name: ill, command: 'touch ready2; while :; do sleep 0.1; done', resource_requirements: half}";
    let place = cluster.place(&held(1, 1, jobs));
    let waiting = place.start_and_wait();
    let are_ready = || place.place.join("ready1").exists() && place.place.join("ready2").exists();
    place.until("the start of both", || are_ready().then_some(()));
    cluster.slurm("scancel", &[text(&place.allocations()[0], "handle")]).expect(0);
    waiting.wait().expect(1).says("1 completed").says("1 ready");
    let attempts = place.place.results();
    let ends: Vec<(&str, &str)> = attempts
        .iter()
        .map(|attempt| (attempt["job"].as_str().unwrap_or_default(), outcome(attempt)))
        .collect();
    assert_eq!(ends, [("well", "exited"), ("ill", "lost")]);
    assert_eq!(place.place.lines("ran"), ["well"], "it ran once");
    assert_eq!(place.allocations()[0]["cause"], "cancelled");
}

#[test]
fn a_preempted_allocation_gives_its_jobs_to_the_others() {
    let Some(cluster) = Cluster::acquire() else { return };
    let said = end_one_of_four(&cluster, |_, _| {
        let urgent =
            ["--qos=urgent", "--nodes=1", "--exclusive", "--output=/dev/null", "--wrap=sleep 600"];
        cluster.slurm("sbatch", &urgent).expect(0);
    });
    assert_eq!(said, ["preempted", "preempted"]);
}

#[test]
fn an_allocation_that_times_out_gives_its_jobs_to_the_others() {
    let Some(cluster) = Cluster::acquire() else { return };
    let said = end_one_of_four(&cluster, |place, allocations| {
        // A worker that works would have ended its job before.
        place.paralyse_worker(1);
        let job = format!("JobId={}", text(&allocations[0], "handle"));
        cluster.slurm("scontrol", &["update", &job, "EndTime=now+3"]).expect(0);
    });
    assert_eq!(said, ["lost", "timed_out"]);
}

#[test]
fn one_large_allocation_that_is_cancelled_loses_only_what_ran() {
    let Some(cluster) = Cluster::acquire() else { return };
    let quick = EIGHT.replace("until", "test ${TORC_JOB_NAME#j} -le 4 || until");
    let place = cluster.place(&held(1, 4, &quick));
    let waiting = place.start_and_wait();
    place.until_counted(4, 4);
    cluster.slurm("scancel", &[text(&place.allocations()[0], "handle")]).expect(0);
    waiting.wait().expect(1).says("4 ready");
    place.place.torc(&["explain", "j5"]).expect(0).says("`torc restart` asks for nodes again");
    place.place.write("go", "");
    place.place.torc(&["restart"]).expect(0);
    place.until_over();
    let attempts = place.place.results();
    let count = |wanted| attempts.iter().filter(|one| outcome(one) == wanted).count();
    assert_eq!((count("exited"), count("lost")), (8, 4), "{attempts:?}");
}

#[test]
fn a_dead_node_takes_what_runs_on_it_and_the_rest_goes_on() {
    let Some(cluster) = Cluster::acquire() else { return };
    let jobs = "- {name: 'j{i}', command: 'until test -e go; do sleep 0.2; done', \
                resource_requirements: whole, parameters: {i: '1:2'}}
- {name: wide, command: 'until test -e go; do sleep 0.2; done', resource_requirements: wide, priority: 1}";
    let place = cluster.place(&held(1, 4, jobs));
    let waiting = place.start_and_wait();
    place.until_running(3);
    let wide = place.place.attempts("wide")[0].clone();
    // Not the first node of the allocation: losing that ends it.
    let victim = nodes(&wide)[1];
    let first = place.allocations()[0]["nodes"][0]["name"].as_str().expect("a name").to_owned();
    assert_ne!(victim, first);
    let dead = cluster.fail_node(victim, false);
    let down = place.until("the node's failure to be seen", || {
        let nodes = place.place.json(&["nodes"]);
        let down = nodes.as_array()?.iter().find(|node| node["state"] == "down")?.clone();
        Some(down)
    });
    assert_eq!(down["name"], victim);
    place.place.write("go", "");
    let ended = waiting.wait();
    drop(dead);
    ended.expect(0).says("3 completed");
    let attempts = place.place.attempts("wide");
    assert_eq!(attempts.len(), 2, "{attempts:?}");
    assert_eq!(outcome(&attempts[0]), "node_failed");
    assert!(!nodes(&attempts[1]).contains(&victim), "it is not used again");
    assert_eq!(place.place.attempts("j1").len(), 1, "the others went on");
}

#[test]
fn a_killed_server_takes_its_worker_back() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(&held(1, 4, EIGHT));
    place.submit();
    place.until_running(4);
    place.kill_server();
    place.place.write("go", "");
    // What runs ends while nobody is there.
    let journal = place.place.join("torc_output/journal/wf1_al1.jsonl");
    place.until("four ends in the journal", || {
        let lines = fs::read_to_string(&journal).ok()?.lines().count();
        (lines == 4).then_some(())
    });
    let serving = place.place.serve();
    place.until_over();
    let mut ran = place.place.lines("ran");
    ran.sort();
    assert_eq!(ran, ["j1", "j2", "j3", "j4", "j5", "j6", "j7", "j8"], "each ran once");
    place.place.torc(&["serve", "--stop"]).expect(0);
    serving.wait().expect(0);
}

#[test]
fn a_killed_worker_ends_its_allocation_and_its_jobs_go_back() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(&held(2, 1, EIGHT));
    let waiting = place.start_and_wait();
    place.until_running(2);
    place.signal_worker(Signal::SIGKILL, 1);
    place.until("the end of its allocation", || {
        (place.allocations()[0]["stage"] == "ended").then_some(())
    });
    place.place.write("go", "");
    waiting.wait().expect(0).says("8 completed");
    let lost = place.place.results().iter().filter(|one| outcome(one) == "lost").count();
    assert_eq!(lost, 1);
}

#[test]
fn a_server_and_a_worker_killed_at_once_lose_nothing() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(&held(2, 1, EIGHT));
    place.submit();
    place.until_running(2);
    place.kill_server();
    place.signal_worker(Signal::SIGKILL, 1);
    place.place.write("go", "");
    let serving = place.place.serve();
    place.until_over();
    let attempts = place.place.results();
    let count = |wanted| attempts.iter().filter(|one| outcome(one) == wanted).count();
    assert_eq!((count("exited"), count("lost")), (8, 1), "{attempts:?}");
    place.place.torc(&["serve", "--stop"]).expect(0);
    serving.wait().expect(0);
}

#[test]
fn detaching_leaves_the_run_alone_and_cancel_ends_it() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(&held(1, 1, EIGHT));
    let mut waiting = place.start_and_wait();
    waiting.wait_until_it_says("1 running");
    waiting.signal(Signal::SIGINT);
    waiting.wait().expect(130).says("detached");
    assert_eq!(place.place.json(&["status"])["state"], "running");
    let report = place.place.json(&["cancel"]);
    assert_eq!((report["canceled"].as_u64(), report["signaled"].as_u64()), (Some(7), Some(1)));
    place.until_over();
    let job = text(&place.allocations()[0], "handle").to_owned();
    place.until("the end of the allocation", || {
        let squeue = cluster.slurm("squeue", &["--noheader", "--jobs", &job]);
        squeue.stdout.trim().is_empty().then_some(())
    });
}

#[test]
fn explanations_name_what_stands_in_the_way() {
    let Some(cluster) = Cluster::acquire() else { return };
    let jobs = "- {name: 'j{i}', command: 'until test -e go; do sleep 0.2; done', \
                resource_requirements: whole, parameters: {i: '1:3'}, priority: 2}
- {name: wide, command: 'true', resource_requirements: wide, priority: 1}
- {name: last, command: 'true', resource_requirements: whole, depends_on: [wide]}";
    let place = cluster.place(&held(1, 4, jobs));
    let waiting = place.start_and_wait();
    place.until_running(3);
    let wide = place.place.torc(&["explain", "wide"]).expect(0);
    wide.says("it waits for 1 more idle nodes").says("planned start in").says("held for it");
    wide.says("allocation 1").says("is active");
    place.place.torc(&["explain", "last"]).expect(0).says("it waits for wide");
    let nodes = place.place.torc(&["nodes"]).expect(0);
    nodes.says("wide since ").says(" until ").says("8/8").says("nothing fits");
    place.place.torc(&["allocations"]).expect(0).says("active").says("node1 ");
    place.place.write("go", "");
    waiting.wait().expect(0);
    let idle = &place.place.json(&["status"])["idle_cpu_ms"];
    assert!(number(idle, "nothing_fits") > 0, "node4 alone was no use to the wide one: {idle}");
    assert!(number(idle, "starting_up") > 0, "the worker had to begin: {idle}");
    place.place.torc(&["explain", "wide"]).expect(0).says("is completed");
}
