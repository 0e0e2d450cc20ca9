//! Workflows on a real Slurm: what its accounting tells of steps, and what is missing without it.

use serde_json::Value;
use torc_tests::{Cluster, ClusterPlace};

/// At the same time, so in an allocation each, a job that computes for a while, holds memory and completes, and one that fails.
const SPEC: &str = "name: w
slurm_schedulers: [{name: cpu, account: science, nodes: 1, walltime: '00:20:00'}]
actions: [{trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: cpu, \
num_allocations: 2}]
resource_requirements: [{name: whole, num_cpus: 8, memory: 500m, runtime: PT1M}]
jobs:
- {name: busy, resource_requirements: whole, command: 'touch b; until [ -e f ]; do sleep 0.1; done; \
python3 -c \"import time; \
held = bytearray(120 << 20); any(time.process_time() > 1.5 for _ in iter(int, 1)); time.sleep(2)\"'}
- {name: fails, resource_requirements: whole, command: 'touch f; until [ -e b ]; do sleep 0.1; done; exit 3'}
";

/// Has the accounting asked as often as it can be.
fn ask_often(place: &ClusterPlace<'_>) {
    place.place.set_env([("TORC_SLURM_ACCOUNTING_POLL".to_owned(), "1s".to_owned())]);
}

/// Waits until all attempts have what the accounting tells.
fn accounted(place: &ClusterPlace<'_>) -> Vec<Value> {
    place.until("figures of all attempts", || {
        let results = place.place.results();
        results.iter().all(|attempt| attempt["scheduler_state"].is_string()).then_some(results)
    })
}

/// The numbers and words that Slurm's own accounting has of a job's steps.
fn check(place: &ClusterPlace<'_>, results: &[Value]) {
    let of = |job: &str| {
        let found = results.iter().find(|attempt| attempt["job"] == job);
        found.unwrap_or_else(|| panic!("no attempt of {job} in {results:?}"))
    };
    let busy = of("busy");
    assert_eq!(busy["scheduler_state"], "COMPLETED", "{busy}");
    assert!(
        busy["cpu_ms"].as_u64().is_some_and(|spent| (1_500..60_000).contains(&spent)),
        "{busy}"
    );
    let peak = busy["peak_memory"].as_u64().unwrap_or_default();
    assert!((120 << 20..500 << 20).contains(&peak), "{busy}");
    assert_eq!(of("fails")["scheduler_state"], "FAILED", "{}", of("fails"));
    let steps = place.cluster.accounting(&slurm_jobs(place).join(","), "JobName,State");
    for attempt in results {
        let row = [&attempt["step"], &attempt["scheduler_state"]].map(|field| field.as_str());
        let is_same = |step: &&Vec<String>| step.iter().map(|field| Some(field.as_str())).eq(row);
        assert!(steps.iter().any(|step| is_same(&step)), "{attempt} is not in {steps:?}");
    }
}

/// Slurm's numbers of the allocations.
fn slurm_jobs(place: &ClusterPlace<'_>) -> Vec<String> {
    let handle = |allocation: &Value| allocation["handle"].as_str().expect("a job id").to_owned();
    place.allocations().iter().map(handle).collect()
}

/// That the accounting was found missing, and nobody complained.
fn check_is_quiet(place: &ClusterPlace<'_>) {
    let log = place.until("the first question", || {
        Some(place.server_log()).filter(|log| log.contains("there is no accounting"))
    });
    let complaints = log.lines().filter(|line| line.contains("ERROR") || line.contains("WARN"));
    let complaints: Vec<&str> = complaints.filter(|line| line.contains("account")).collect();
    assert!(complaints.is_empty(), "{complaints:?}");
    assert_eq!(log.matches("there is no accounting").count(), 1, "said once:\n{log}");
    for attempt in place.place.results() {
        assert!(attempt["scheduler_state"].is_null(), "{attempt}");
    }
}

#[test]
fn figures_and_states_appear_in_results_after_the_end() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(SPEC);
    ask_often(&place);
    place.submit_and_wait().expect(1);
    check(&place, &accounted(&place));
}

#[test]
fn a_server_that_is_started_again_asks_for_what_is_missing() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(SPEC);
    ask_often(&place);
    use_sacct(&place, "echo 'sacct: error: Connection refused' >&2\nexit 1");
    place.submit_and_wait().expect(1);
    place.kill_server();
    let path = std::env::var_os("PATH").expect("a PATH");
    let real = std::env::split_paths(&path).map(|folder| folder.join("sacct"));
    let real = real.into_iter().find(|file| file.exists()).expect("there is a sacct");
    use_sacct(&place, &format!("echo \"$*\" >> \"$0.calls\"\nexec {} \"$@\"", real.display()));
    let _server = place.place.serve();
    check(&place, &accounted(&place));
    let calls = place.place.lines("programs/sacct.calls");
    // The others are about allocations.
    let mut about_steps = calls.iter().filter(|call| !call.contains("--allocations"));
    let asked = format!("--jobs={}", slurm_jobs(&place).join(","));
    assert!(about_steps.next().is_some_and(|call| call.ends_with(&asked)), "{asked}: {calls:?}");
}

#[test]
fn a_workflow_completes_where_no_accounting_is_kept() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(SPEC);
    ask_often(&place);
    use_sacct(&place, "echo 'Slurm accounting storage is disabled' >&2\nexit 1");
    place.submit_and_wait().expect(1).says("1 completed");
    check_is_quiet(&place);
}

#[test]
fn a_workflow_completes_where_there_is_no_sacct() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(SPEC);
    ask_often(&place);
    let folder = place.place.join("programs");
    std::fs::create_dir(&folder).expect("a folder");
    let path = std::env::var_os("PATH").expect("a PATH");
    for file in std::env::split_paths(&path).filter_map(|folder| folder.read_dir().ok()).flatten() {
        let file = file.expect("it is listed");
        if file.file_name() != "sacct" {
            // What comes first in PATH counts.
            let _ = std::os::unix::fs::symlink(file.path(), folder.join(file.file_name()));
        }
    }
    place.place.set_env([("PATH".to_owned(), folder.display().to_string())]);
    place.submit_and_wait().expect(1).says("1 completed");
    check_is_quiet(&place);
}

/// Puts this script before Slurm's sacct.
fn use_sacct(place: &ClusterPlace<'_>, script: &str) {
    let folder = place.place.join("programs");
    std::fs::create_dir_all(&folder).expect("a folder");
    let file = folder.join("sacct");
    std::fs::write(&file, format!("#!/bin/sh\n{script}\n")).expect("a program");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&file, mode).expect("it can be executed");
    let folder = folder.display().to_string();
    place.place.set_env([("TORC_SLURM_PROGRAMS".to_owned(), folder)]);
}
