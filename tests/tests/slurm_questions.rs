//! What people ask before they submit, and while they wait, is answered by a real Slurm.

use std::net::TcpListener;
use std::process::Command;

use serde_json::Value;
use torc_tests::{Cluster, ClusterPlace, Ended, Started, not_run_here, torc};

/// What a check of `torc doctor --format json` found: its verdict, and its words.
#[track_caller]
fn finding<'a>(findings: &'a Value, check: &str) -> (&'a str, &'a str) {
    let list = findings.as_array().expect("a list");
    let found = list.iter().find(|finding| finding["check"] == check);
    let found = found.unwrap_or_else(|| panic!("no `{check}` in {findings:#}"));
    let word = |field: &str| found[field].as_str().expect("a string");
    (word("verdict"), word("found"))
}

#[track_caller]
fn doctor(place: &ClusterPlace<'_>, options: &[&str]) -> Ended {
    place.place.torc(&[&["doctor", "--format", "json"], options].concat())
}

const PROBE: [&str; 3] = ["--probe", "--account", "science"];

/// A job that has all nodes of the partition `main`, from now on.
fn fill(cluster: &Cluster) -> String {
    let all = ["--account=science", "--nodes=4", "--exclusive", "--parsable"];
    let rest = ["--time=10", "--output=/dev/null", "--wrap=sleep 600"];
    cluster.slurm("sbatch", &[&all[..], &rest].concat()).expect(0).stdout.trim().to_owned()
}

fn spec(options: &str, execution: &str) -> String {
    format!(
        "name: w
slurm_schedulers: [{{name: cpu, account: science, walltime: '00:10:00', {options}}}]
actions: [{{trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: cpu, \
num_allocations: 2}}]
{execution}
jobs: [{{name: a, command: 'true'}}, {{name: b, command: 'true', depends_on: [a]}}]"
    )
}

#[test]
fn a_healthy_cluster_is_found_healthy() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place("");
    let ended = doctor(&place, &PROBE).expect(0);
    let findings = ended.json();
    let check = |check: &str, words: &str| {
        let (verdict, found) = finding(&findings, check);
        assert_eq!(verdict, "good", "{check}: {found}");
        assert!(found.contains(words), "{check}: {found}");
    };
    check("slurm", "Slurm 2");
    check("partitions", "main (4 nodes, the default), threads (2 nodes)");
    check("accounting", "sacct answers");
    check("clock", " s apart from that of the controller");
    check("file system", "torc_output: ");
    check("server", "none runs");
    check("probe", "a port that was free");
    check("state directory", "node1 sees it, writes there, and respects locks");
    check("node clock", " s apart from that of node1");
    assert!(!place.place.join("torc_output").exists(), "nothing is left behind");
}

#[test]
fn the_probe_takes_the_port_that_the_server_will_have() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place("");
    // Below the ports that systems give to those who do not care which.
    let first = 20_000 + u16::try_from(std::process::id() % 8_000).expect("it is small");
    let mut free = (first..).filter_map(|port| TcpListener::bind(("::", port)).ok());
    let free = free.next().expect("a port");
    let port = free.local_addr().expect("it has an address").port();
    place.place.set_env([("TORC_SERVER_PORT".to_owned(), port.to_string())]);
    let taken = doctor(&place, &PROBE).expect(5).json();
    let (verdict, found) = finding(&taken, "probe");
    assert_eq!(verdict, "bad");
    assert!(found.contains(&format!("cannot listen on port {port}")), "{found}");
    drop(free);
    let (verdict, found) = own(&doctor(&place, &PROBE).expect(0).json());
    assert_eq!(verdict, "good", "{found}");
    assert!(found.ends_with(&format!(":{port}, server.port")), "{found}");
    let server = place.place.serve();
    let (verdict, found) = own(&doctor(&place, &PROBE).expect(0).json());
    assert_eq!(verdict, "good", "{found}");
    assert!(found.ends_with(&format!(":{port}, the server's port")), "{found}");
    place.place.torc(&["serve", "--stop"]).expect(0);
    server.wait().expect(0);
}

fn own(findings: &Value) -> (String, String) {
    let (verdict, found) = finding(findings, "probe");
    (verdict.to_owned(), found.to_owned())
}

#[test]
fn a_probe_that_waits_in_the_queue_is_not_a_closed_port() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place("");
    fill(&cluster);
    let findings = doctor(&place, &[&PROBE[..], &["--patience", "3s"]].concat()).expect(0).json();
    let (verdict, found) = finding(&findings, "probe");
    assert_eq!(verdict, "warning");
    assert!(found.contains("did not start within 3 s"), "{found}");
    assert!(found.contains(" in main, "), "{found}");
    assert_eq!(probes(&cluster), "", "its job is gone");
    let command = place.place.command(&[&["doctor"], &PROBE[..]].concat());
    let waiting = Started::start(command);
    place.until("the job of the probe", || (!probes(&cluster).is_empty()).then_some(()));
    waiting.signal(nix::sys::signal::Signal::SIGINT);
    waiting.wait().expect(130);
    assert_eq!(probes(&cluster), "", "its job is gone");
    assert!(!place.place.join("torc_output").exists(), "nothing is left behind");
}

/// The jobs of probes that wait or run.
#[track_caller]
fn probes(cluster: &Cluster) -> String {
    let args = ["--noheader", "--name=torc_probe", "--states=PENDING,RUNNING"];
    cluster.slurm("squeue", &args).expect(0).stdout.trim().to_owned()
}

#[test]
fn a_node_that_does_not_see_the_state_directory_says_so() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place("");
    std::fs::create_dir(place.place.join("torc_output")).expect("it is new");
    // Only for what is started here: the nodes see the folder below.
    let own = |command: &str| {
        let mut unshare = Command::new("unshare");
        place.place.prepare(&mut unshare);
        let script = format!("mount -t tmpfs none torc_output && {command}");
        unshare.args(["--mount", "sh", "-c", &script]).arg(torc());
        Started::start(unshare).wait()
    };
    if own("true").code != Some(0) {
        return not_run_here("a file system that only one host has (no mounting here)");
    }
    let findings = own("\"$0\" doctor --format json --probe --account science").expect(5).json();
    let (verdict, found) = finding(&findings, "state directory");
    assert_eq!(verdict, "bad");
    assert!(found.starts_with("node1 does not see "), "{found}");
    assert_eq!(finding(&findings, "file system").0, "good");
    assert_eq!(finding(&findings, "probe").0, "good");
}

#[test]
fn a_probe_that_slurm_refuses_says_so() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place("");
    let ended = doctor(&place, &["--probe", "--account", "nobodys"]).expect(5);
    let (verdict, found) = own(&ended.json());
    assert_eq!(verdict, "bad", "{found}");
    assert!(found.contains("nvalid account"), "{found}");
    ended.says("Slurm refuses the job");
}

#[test]
fn what_settings_leave_too_little_for_is_not_submitted() {
    let Some(cluster) = Cluster::acquire() else { return };
    let refused = |options: &str, words: [&str; 2]| {
        let needs = "resource_requirements: [{name: r, num_cpus: 4, memory: 2g, runtime: PT1M}]";
        let spec = spec(options, needs)
            .replace("walltime: '00:10:00', walltime", "walltime")
            .replace("command: 'true'", "command: 'true', resource_requirements: r");
        let place = cluster.place(&spec);
        let ended = place.place.torc(&["submit", "w.yaml"]).expect(4);
        words.iter().for_each(|words| {
            ended.says(words);
        });
        place.place.torc(&["serve", "--stop"]);
        assert_eq!(cluster.slurm("squeue", &["--noheader"]).expect(0).stdout, "");
    };
    refused("mem: 1g", ["needs 2.0 GiB per node; the largest node has 1.0 GiB", "(`mem`)"]);
    refused("walltime: '00:03:00'", ["no time is left", "its walltime is 180 s"]);
    refused(
        "exclusive: false, extra: --cpus-per-task=2",
        ["needs 4 CPUs per node; the largest node has 2", "asks for no more than 2 CPUs of each"],
    );
}

/// The script that Slurm has of a job, with the numbers that torc did not know before.
#[track_caller]
fn submitted(cluster: &Cluster, allocation: &Value) -> String {
    let job = allocation["handle"].as_str().expect("Slurm has it");
    let shown = cluster.slurm("scontrol", &["write", "batch_script", job, "-"]).expect(0).stdout;
    let number = allocation["id"].as_u64().expect("a number");
    let text = shown
        .replace(&format!("wf1_al{number}"), "wfW_alA")
        .replace(&format!("--workflow 1 --allocation {number} "), "--workflow W --allocation A ");
    let (before, after) = text.split_once(&format!("-wf1-al{number}")).expect("its mark");
    let (before, _) = before.rsplit_once("torc-").expect("its mark");
    format!("{before}torc-KEY-wfW-alA{after}").trim().to_owned()
}

#[test]
fn the_scripts_that_are_shown_are_those_that_are_submitted() {
    let Some(cluster) = Cluster::acquire() else { return };
    fill(&cluster);
    let execution = "execution_config: {sigkill_headroom_seconds: 33, max_parallel_steps: 7}\n\
                     compute_node_wait_for_healthy_database_minutes: 11";
    let options = "serialize_allocations: true, extra: '--nice=3 --comment=\"for me\"', mem: 100M";
    let place = cluster.place(&spec(options, execution));
    let shown = place.place.json(&["submit", "w.yaml", "--dry-run"]);
    assert_eq!(shown, place.place.json(&["slurm", "script", "w.yaml"]));
    let table = place.place.torc(&["slurm", "script", "w.yaml"]).expect(0);
    let scripts = shown.as_array().expect("a list");
    assert_eq!(scripts.len(), 2, "the first, and those that follow");
    place.submit();
    let allocations = place.until("both requests", || {
        let allocations = place.allocations();
        let have = allocations.iter().filter(|one| one["handle"].is_string()).count();
        (have == 2).then_some(allocations)
    });
    let before = allocations[0]["handle"].as_str().expect("Slurm has it");
    for (index, script) in scripts.iter().enumerate() {
        let shown = script["script"].as_str().expect("a string").trim();
        let real = submitted(&cluster, &allocations[index])
            .replace(&format!("afterany:{before}"), "afterany:J");
        assert_eq!(shown, real);
        table.says(shown);
        assert_eq!(script["allocations"], 2);
        assert_eq!(script["is_following"], index == 1);
    }
}

#[test]
fn an_allocation_that_waits_is_explained_with_what_is_before_it() {
    let Some(cluster) = Cluster::acquire() else { return };
    let filler = fill(&cluster);
    let place = cluster.place(&spec("nodes: 4", ""));
    // Between the filler, which runs, and the allocations, one more that waits.
    let between = fill(&cluster);
    place.submit();
    let explanation = place.until("an allocation in the queue", || {
        let ended = place.place.torc(&["explain", "--allocation", "1", "--format", "json"]);
        let explanation: Value = serde_json::from_str(&ended.stdout).ok()?;
        // At first Slurm gives no reason, or no priority.
        let is_ranked = explanation["queue"]["ahead"] == 1;
        (is_ranked && explanation["allocation"]["observed"]["state"] == "pending")
            .then_some(explanation)
    });
    assert_eq!(explanation["state"], "running");
    assert_eq!(explanation["allocation"]["stage"], "submitted");
    let queue = explanation["queue"].as_object().expect("it waits");
    let fields: Vec<&str> = queue.keys().map(String::as_str).collect();
    let documented = [
        "allocation",
        "handle",
        "partition",
        "priority",
        "reason",
        "expected_start",
        "ahead",
        "others",
    ];
    assert_eq!(fields, documented);
    assert_eq!(queue["handle"], explanation["allocation"]["handle"]);
    assert_eq!(queue["partition"], "main");
    let job = place.place.json(&["explain", "a"]);
    assert!(job["queue"].as_array().expect("a list").iter().any(|one| one["allocation"] == 1));
    assert_eq!(place.place.json(&["explain", "b"])["queue"], Value::Array(Vec::new()));
    let words = place.place.torc(&["explain", "--allocation", "1"]).expect(0);
    words.says("allocation 1 (").says("is pending since").says(" waits in main: ");
    words.says(" others there may start before it");
    place.place.torc(&["explain", "a"]).expect(0).says(" waits in main: ");
    place.place.torc(&["explain", "--allocation", "9"]).expect(2).says("there is no allocation 9");
    cluster.slurm("scancel", &[&filler, &between]).expect(0);
    place.until("the end of the workflow", || {
        (place.place.json(&["status"])["state"] == "ended").then_some(())
    });
    let ended = place.place.json(&["explain", "--allocation", "1"]);
    assert!(ended["queue"].is_null(), "{ended:#}");
}

/// Job `a` has its nodes from the start; those of `b` are asked for once it and `c`, which waits for `a`,
/// are ready.
const LATE: &str = "name: w
slurm_schedulers:
- {name: first, account: science, walltime: '00:10:00'}
- {name: late, account: science, walltime: '00:10:00'}
actions:
- {trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: first}
- {trigger_type: on_jobs_ready, jobs: [b, c], action_type: schedule_nodes, scheduler: late}
compute_node_wait_for_new_jobs_seconds: 5
jobs:
- {name: a, command: 'until test -e go; do sleep 0.2; done', scheduler: first}
- {name: b, command: 'true', scheduler: late}
- {name: c, command: 'true', depends_on: [a], scheduler: late}";

#[test]
fn nodes_that_are_not_asked_for_yet_are_explained_with_what_their_action_waits_for() {
    let Some(cluster) = Cluster::acquire() else { return };
    let filler = fill(&cluster);
    let place = cluster.place(LATE);
    let waiting = place.start_and_wait();
    place.until("an allocation in the queue", || {
        let ended = place.place.torc(&["explain", "a", "--format", "json"]);
        let explained: Value = serde_json::from_str(&ended.stdout).ok()?;
        (explained["queue"][0]["allocation"] == 1).then_some(())
    });
    let told = "its nodes (`late`) are asked for once b and c are ready; c is not";
    let check = || {
        let explained = place.place.json(&["explain", "b"]);
        let expected = serde_json::json!({
            "waiting": "not_asked", "scheduler": "late", "cause": "on_jobs_ready",
            "jobs": {"count": 2, "first": ["b", "c"]}, "missing": {"count": 1, "first": ["c"]},
        });
        assert_eq!(explained["job"]["waiting"], expected);
        assert_eq!(
            [&explained["allocations"], &explained["queue"]],
            [&Value::Array(Vec::new()); 2]
        );
        place.place.torc(&["explain", "b"]).expect(0).says(told).does_not_say("never");
    };
    check();
    cluster.slurm("scancel", &[&filler]).expect(0);
    place.until_running(1);
    check();
    let handle = place.allocations()[0]["handle"].as_str().expect("Slurm has it").to_owned();
    cluster.slurm("scancel", &[&handle]).expect(0);
    let summary = waiting.wait().expect(1);
    summary.says("the rest could not be started in the time there was");
    let over = "the allocation that it fits was over before its turn: cancelled";
    summary.says(&format!("a: {over}"));
    summary.says("b: its nodes (`late`) were to be asked for once b and c were ready; c was not");
    place.place.torc(&["explain", "a"]).expect(0).says(over);
}

#[test]
fn what_slurm_refused_is_why_jobs_did_not_run_from_the_server_and_from_the_store() {
    let Some(cluster) = Cluster::acquire() else { return };
    let text = spec("nodes: 1", "").replace("account: science", "account: nobodys");
    let place = cluster.place(&text.replace("num_allocations: 2", "num_allocations: 5"));
    let summary = place.submit_and_wait().expect(1);
    summary.says("no nodes were granted, so nothing could be started");
    summary.says("a: its nodes (`cpu`) were refused 5 times: ").says("nvalid account");
    let check = || {
        let told = place.place.torc(&["explain", "a"]).expect(0);
        told.says("its nodes (`cpu`) were refused 5 times: ").says("nvalid account");
        let job = place.place.torc(&["jobs", "--status", "ready"]).expect(0);
        job.says("nodes (`cpu`), refused 5 times: ").says("nvalid account");
        let cause = &place.place.json(&["explain", "a"])["job"]["waiting"];
        assert_eq!([&cause["waiting"], &cause["cause"]], ["left_over", "refused"]);
        assert_eq!(cause["times"], 5);
    };
    check();
    place.place.torc(&["serve", "--stop"]).expect(0);
    check();
}

#[test]
fn nodes_that_were_too_small_are_why_a_job_did_not_run() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(
        "name: w
slurm_schedulers: [{name: cpu, account: science, walltime: '00:10:00', exclusive: false, mem: 100M}]
actions: [{trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: cpu}]
compute_node_wait_for_new_jobs_seconds: 1
resource_requirements: [{name: wide, num_cpus: 4, memory: 10m, runtime: PT1M}]
jobs: [{name: a, command: 'true', resource_requirements: wide}]",
    );
    let numbers = "needs 4 CPUs per node; the largest node has ";
    let told = format!("it could not start on the nodes there were: {numbers}");
    place.submit_and_wait().expect(1).says(&format!("a: {told}")).says("core-hours");
    place.place.torc(&["explain", "a"]).expect(0).says(&told).does_not_say("it waits for");
    place.place.torc(&["jobs"]).expect(0).says(&format!("never: {numbers}"));
}
