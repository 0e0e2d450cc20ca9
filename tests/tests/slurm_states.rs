//! What Slurm and torc say of allocations that are not simply running, on a real Slurm, and what becomes
//! of the jobs in them: suspended, out of reach, without their first node, under another server.

use nix::sys::signal::Signal;
use serde_json::Value;
use torc_tests::{
    Cluster, ClusterPlace, RUN_PATIENCE, Started, allocated, nodes, number, outcome, text,
};

/// A spec whose jobs each take a whole node and wait for the file `go`, or one with their own name behind
/// it: so many jobs, on so many allocations of so many nodes.
fn waiting(jobs: u32, allocations: u32, nodes: u32) -> String {
    format!(
        "name: w
slurm_schedulers: [{{name: cpu, account: science, nodes: {nodes}, walltime: '00:20:00'}}]
actions: [{{trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: cpu, \
num_allocations: {allocations}}}]
execution_config: {{srun_termination_signal: TERM@5, sigkill_headroom_seconds: 10}}
resource_requirements: [{{name: whole, num_cpus: 8, memory: 1g, runtime: PT5M}}]
jobs:
- {{name: 'j{{i}}', command: 'echo $TORC_JOB_NAME >> ran; until test -e go -o -e go_$TORC_JOB_NAME; \
do sleep 0.1; done', resource_requirements: whole, parameters: {{i: '1:{jobs}'}}}}"
    )
}

/// Each job ran once, from its start to its end.
#[track_caller]
fn check_each_ran_once(place: &ClusterPlace<'_>, jobs: usize) {
    let mut ran = place.place.lines("ran");
    ran.sort();
    ran.dedup();
    assert_eq!((ran.len(), place.place.lines("ran").len()), (jobs, jobs), "started: {ran:?}");
    let attempts = place.place.results();
    assert!(attempts.iter().all(|one| one["outcome"]["code"] == 0), "{attempts:?}");
    assert_eq!(attempts.len(), jobs);
}

/// The names of the jobs that were started on these nodes.
fn jobs_on(place: &ClusterPlace<'_>, wanted: &[&str]) -> Vec<String> {
    let attempts = place.place.results();
    let here = attempts.iter().filter(|attempt| wanted.contains(&nodes(attempt)[0]));
    here.map(|attempt| text(attempt, "job").to_owned()).collect()
}

fn is_observed(allocation: &Value, state: &str) -> bool {
    allocation["observed"]["state"] == state
}

#[test]
fn a_suspended_allocation_is_called_so_and_goes_on() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(&waiting(2, 1, 2));
    let submitted = place.start_and_wait();
    place.until_running(2);
    let before = place.until_allocation("an observed run", |one| is_observed(one, "running"));
    let job = text(&before, "handle");
    cluster.slurm("scontrol", &["suspend", job]).expect(0);
    place.until_allocation("a suspended allocation", |one| is_observed(one, "suspended"));
    place.place.torc(&["allocations"]).expect(0).says("suspended");
    place.place.torc(&["status"]).expect(0);
    // Whoever sleeps cannot see it.
    place.place.write("go", "");
    assert_eq!(place.place.json(&["status"])["counts"]["running"], 2);
    cluster.slurm("scontrol", &["resume", job]).expect(0);
    submitted.wait().expect(0).says("2 completed");
    check_each_ran_once(&place, 2);
    assert_eq!(place.allocations().len(), 1);
}

#[test]
fn an_allocation_whose_nodes_are_being_made_ready_is_called_so() {
    let Some(cluster) = Cluster::acquire() else { return };
    let slow = waiting(1, 1, 1)
        .replace("account: science,", "account: science, extra: '--comment slow_prolog',");
    let place = cluster.place(&slow);
    place.place.write("go", "");
    let submitted = place.start_and_wait();
    place.until("nodes that are being made ready", || {
        // At first nobody knows the workflow.
        let told = place.place.torc(&["allocations", "--format", "json"]);
        let told: Value = serde_json::from_str(&told.stdout).ok()?;
        told.get(0).filter(|one| is_observed(one, "configuring")).map(drop)
    });
    place.place.torc(&["allocations"]).expect(0).says("configuring");
    submitted.wait().expect(0).says("1 completed");
}

#[test]
fn an_allocation_that_is_ending_is_called_so() {
    let Some(cluster) = Cluster::acquire() else { return };
    // Slurm waits some seconds for what does not heed its SIGTERM.
    let stubborn = waiting(1, 1, 1).replace("command: '", "command: 'trap \"\" TERM; ");
    let place = cluster.place(&stubborn);
    let submitted = place.start_and_wait();
    place.until_running(1);
    cluster.slurm("scancel", &[text(&place.allocations()[0], "handle")]).expect(0);
    place.until_allocation("its ending", |one| is_observed(one, "completing"));
    submitted.wait().expect(1).says("1 ready");
    let attempts = place.place.results();
    assert_eq!((attempts.len(), outcome(&attempts[0])), (1, "lost"));
}

#[test]
fn a_waiting_allocation_has_slurms_reason() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(&waiting(1, 1, 4));
    let others = ["--parsable", "--nodes=4", "--exclusive", "--output=/dev/null"];
    let other = cluster.slurm("sbatch", &[&others[..], &["--wrap=sleep 600"]].concat()).expect(0);
    let submitted = place.start_and_wait();
    let until_it_waits_for = |reason: &str| {
        place.until(&format!("an allocation that waits for {reason}"), || {
            // At first nobody knows the workflow.
            let told = place.place.torc(&["allocations", "--format", "json"]);
            let told: Value = serde_json::from_str(&told.stdout).ok()?;
            let is_so = |one: &Value| is_observed(one, "pending") && one["reason"] == reason;
            told.get(0).filter(|one| is_so(one)).cloned()
        })
    };
    let waits = until_it_waits_for("Resources");
    assert_eq!((&waits["stage"], &waits["granted_at"]), (&Value::from("submitted"), &Value::Null));
    let job = text(&waits, "handle");
    cluster.slurm("scontrol", &["hold", job]).expect(0);
    until_it_waits_for("JobHeldAdmin");
    place.place.torc(&["allocations"]).expect(0).says("pending").says("JobHeldAdmin");
    place.place.torc(&["explain", "j1"]).expect(0).says("is pending").says("JobHeldAdmin");
    cluster.slurm("scontrol", &["release", job]).expect(0);
    cluster.slurm("scancel", &[other.stdout.trim()]).expect(0);
    place.until_running(1);
    place.place.write("go", "");
    submitted.wait().expect(0).says("1 completed");
}

#[test]
fn an_allocation_is_never_requeued() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(&waiting(2, 1, 2));
    let submitted = place.start_and_wait();
    place.until_running(2);
    let job = text(&place.allocations()[0], "handle").to_owned();
    for verb in ["requeue", "requeuehold"] {
        let refused = cluster.slurm("scontrol", &[verb, &job]);
        assert_ne!(refused.code, Some(0), "{verb}: {refused:?}");
    }
    place.until_allocation("what it was before", |one| {
        one["stage"] == "active" && is_observed(one, "running")
    });
    place.place.write("go", "");
    submitted.wait().expect(0).says("2 completed");
    check_each_ran_once(&place, 2);
}

#[test]
fn the_death_of_its_node_ends_an_allocation_and_its_job_goes_to_another() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(&waiting(2, 2, 1));
    let submitted = place.start_and_wait();
    place.until_running(2);
    let allocations = place.allocations();
    let lost = allocated(&allocations[0]);
    let hit = jobs_on(&place, &lost);
    let _dead = cluster.fail_node(lost[0], true);
    let ended = place.until_allocation("its end", |one| one["stage"] == "ended");
    assert_eq!(ended["cause"], "node_failed", "{ended}");
    place.place.torc(&["allocations", "--all"]).expect(0).says("node failed");
    place.place.write("go", "");
    submitted.wait().expect(0).says("2 completed");
    let attempts = place.place.results();
    let failed = attempts.iter().filter(|one| outcome(one) == "node_failed");
    assert_eq!(failed.map(|one| text(one, "job")).collect::<Vec<_>>(), hit);
    assert_eq!(attempts.len(), 3, "one job ran twice: {attempts:?}");
    let others = allocated(&allocations[1]);
    let again = attempts.iter().filter(|one| number(one, "attempt") == 2);
    assert!(again.clone().all(|one| others.contains(&nodes(one)[0])), "{attempts:?}");
}

#[test]
fn a_server_that_takes_over_goes_on_with_what_runs() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(&waiting(24, 1, 4));
    place.submit();
    place.until_running(4);
    let take_over = || {
        let before = place.server_pid();
        let command = place.place.command(&["serve", "--takeover", "--idle-exit", "0s"]);
        let mut server = Started::start_for(command, RUN_PATIENCE);
        server.wait_until_it_says("serving");
        assert_ne!(place.server_pid(), before);
        server
    };
    let second = take_over();
    assert_eq!(place.place.json(&["status"])["counts"]["running"], 4, "they go on");
    place.until_allocation("its worker's return", |one| one["stage"] == "active");
    // The next one comes while jobs end and start.
    place.place.write("go", "");
    place.until("some ends", || {
        (number(&place.place.json(&["status"])["counts"], "completed") >= 4).then_some(())
    });
    let third = take_over();
    second.wait().expect(0);
    place.until_over();
    check_each_ran_once(&place, 24);
    assert_eq!(place.allocations().len(), 1);
    place.place.torc(&["serve", "--stop"]).expect(0);
    third.wait().expect(0);
}

#[test]
fn what_runs_out_of_reach_is_not_lost() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(&waiting(4, 2, 2));
    let submitted = place.start_and_wait();
    place.until_running(4);
    let allocations = place.allocations();
    let away = jobs_on(&place, &allocated(&allocations[0]));
    let near = jobs_on(&place, &allocated(&allocations[1]));
    place.signal_worker(Signal::SIGSTOP, 1);
    // One ends while its worker says nothing. One ends elsewhere: there is room for what seems lost.
    for job in [&away[0], &near[0]] {
        place.place.write(&format!("go_{job}"), "");
    }
    // Nothing shortens the 45 s of silence.
    let silent =
        place.until_allocation("the silence to be noticed", |one| one["stage"] == "unreachable");
    assert!(is_observed(&silent, "running"), "Slurm says that it lives: {silent}");
    place.place.torc(&["allocations"]).expect(0).says("unreachable");
    place.until_counted(3, 1);
    place.signal_worker(Signal::SIGCONT, 1);
    place.until_counted(2, 2);
    place.until_allocation("its return", |one| one["stage"] == "active");
    place.place.write("go", "");
    submitted.wait().expect(0).says("4 completed");
    check_each_ran_once(&place, 4);
}

#[test]
fn a_served_workflow_tells_its_nodes_jobs_and_output() {
    let Some(cluster) = Cluster::acquire() else { return };
    let spec = waiting(1, 1, 1)
        .replace("nodes: 1,", "nodes: 1, gres: 'gpu:2',")
        .replace("num_cpus: 8, memory: 1g", "num_cpus: 3, num_gpus: 1, memory: 3g")
        .replace(">> ran; until", ">> ran; echo hello from $TORC_JOB_NAME; until");
    let place = cluster.place(&spec);
    let submitted = place.start_and_wait();
    place.until_running(1);
    let found = place.place.json(&["nodes"]);
    let node = &found[0];
    const GIB: u64 = 1 << 30;
    let held = |what: &str| (number(node, &format!("{what}_used")), number(node, what));
    assert_eq!(held("memory"), (3 * GIB, 32 * GIB), "{found}");
    assert_eq!((held("gpus"), held("cpus")), ((1, 2), (3, 8)), "{found}");
    let job = &node["jobs"][0];
    assert_eq!((text(job, "job"), number(job, "memory")), ("j1", 3 * GIB), "{found}");
    assert_eq!((number(job, "cpus"), number(job, "gpus")), (3, 1), "{found}");
    assert_eq!(number(node, "allocation"), 1);
    place.place.torc(&["nodes"]).expect(0).says("3/8").says("1/2").says("j1 (3 cpu)");
    place.place.expect_jobs("j1 running");
    place.place.torc(&["jobs"]).expect(0).says("running").says(text(node, "name"));
    place.until("the job's words", || {
        let logs = place.place.torc(&["logs", "j1"]).expect(0);
        logs.stdout.contains("hello from j1").then_some(())
    });
    let follower = place.place.start(&["logs", "j1", "--follow"]);
    place.place.write("go", "");
    follower.wait().expect(0).says("hello from j1");
    submitted.wait().expect(0).says("1 completed");
    place.until("the return of its node", || {
        (place.place.json(&["nodes"]) == Value::Array(Vec::new())).then_some(())
    });
}

#[test]
fn a_server_takes_no_work_from_another_user() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(&waiting(1, 1, 1));
    let server = place.place.serve();
    place.place.torc_of_another_user(&["submit", "w.yaml"]).expect(5).does_not_say("workflow 1");
    let queue = cluster.slurm("squeue", &["--noheader"]).expect(0);
    assert_eq!(queue.stdout, "");
    place.place.write("go", "");
    // The same spec is its owner's first workflow.
    place.submit_and_wait().expect(0).says("workflow 1 submitted").says("1 completed");
    for args in [&["status"][..], &["jobs"], &["logs", "j1"], &["allocations"], &["nodes"]] {
        let ended = place.place.torc_of_another_user(args).expect(5);
        ended.does_not_say("completed").does_not_say("j1");
    }
    place.place.torc(&["serve", "--stop"]).expect(0);
    server.wait().expect(0);
}

/// With `--no-kill`, Slurm leaves the others of its nodes running.
#[test]
fn the_death_of_its_first_node_ends_an_allocation_and_its_jobs_go_to_another() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(&waiting(4, 2, 2));
    let submitted = place.start_and_wait();
    place.until_running(4);
    let allocations = place.allocations();
    let lost = allocated(&allocations[0]);
    let mut hit = jobs_on(&place, &lost);
    let _dead = cluster.fail_node(lost[0], true);
    let ended = place.until_allocation("its end", |one| one["stage"] == "ended");
    assert_eq!(ended["cause"], "node_failed", "{ended}");
    place.place.torc(&["allocations", "--all"]).expect(0).says("node failed");
    place.place.write("go", "");
    submitted.wait().expect(0).says("4 completed");
    let attempts = place.place.results();
    let failed = attempts.iter().filter(|one| outcome(one) == "node_failed");
    let mut failed: Vec<&str> = failed.map(|one| text(one, "job")).collect();
    failed.sort_unstable();
    hit.sort();
    assert_eq!(failed, hit);
    assert_eq!(attempts.len(), 6, "two jobs ran twice: {attempts:?}");
    let others = allocated(&allocations[1]);
    let again = attempts.iter().filter(|one| number(one, "attempt") == 2);
    assert!(again.clone().all(|one| others.contains(&nodes(one)[0])), "{attempts:?}");
}

#[test]
fn nothing_new_starts_in_a_suspended_allocation() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(&waiting(2, 2, 1).replace(
        "\njobs:",
        "\njobs:\n- {name: last, command: 'true', resource_requirements: whole, depends_on: [j1, j2]}",
    ));
    let submitted = place.start_and_wait();
    place.until_running(2);
    let allocations = place.allocations();
    let other = &allocations[1];
    place.place.write(&format!("go_{}", jobs_on(&place, &allocated(other))[0]), "");
    place.until_counted(1, 1);
    cluster.slurm("scontrol", &["suspend", text(other, "handle")]).expect(0);
    place.until("its suspension", || {
        is_observed(&place.allocations()[1], "suspended").then_some(())
    });
    place.place.write("go", "");
    submitted.wait().expect(0).says("3 completed");
    let last = &place.place.attempts("last")[0];
    assert_eq!(nodes(last), allocated(&allocations[0]), "the other one was idle: {last}");
}

#[test]
fn an_allocation_that_nothing_left_could_use_leaves_the_queue() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(
        "name: w
slurm_schedulers:
- {name: two, account: science, nodes: 2, walltime: '00:10:00', serialize_allocations: true}
- {name: one, account: science, walltime: '00:10:00'}
actions:
- {trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: two, num_allocations: 2}
- {trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: one}
compute_node_wait_for_new_jobs_seconds: 0
resource_requirements: [{name: wide, num_nodes: 2, num_cpus: 8, memory: 1g, runtime: PT1M}]
jobs:
- {name: 'wide{i}', command: 'until test -e go{i}; do sleep 0.1; done', scheduler: two, \
resource_requirements: wide, parameters: {i: '1:2'}}
- {name: last, command: 'until test -e go_last; do sleep 0.1; done', scheduler: one}",
    );
    let submitted = place.start_and_wait();
    place.until_running(2);
    place.until("its place in the queue", || {
        is_observed(&place.allocations()[1], "pending").then_some(())
    });
    // One of them waits, so its allocation waits; then it finds room without.
    place.place.write("go1", "");
    place.until_counted(2, 1);
    place.place.write("go2", "");
    let withdrawn = place.until("its end", || {
        let allocation = place.allocations()[1].clone();
        (allocation["stage"] == "ended").then_some(allocation)
    });
    assert_eq!(
        (&withdrawn["cause"], &withdrawn["granted_at"]),
        (&"cancelled".into(), &Value::Null)
    );
    let reason = text(&withdrawn, "reason");
    assert!(reason.starts_with("no job that is left could run in it"), "{reason}");
    place.until_counted(1, 2);
    place.place.write("go_last", "");
    submitted.wait().expect(0).says("3 completed");
    assert_eq!(place.allocations().len(), 3, "nothing is asked for again");
}
