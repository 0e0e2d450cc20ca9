//! `torc submit --in-allocation` on a real Slurm: a batch job that runs a spec, without a server.

use std::fs;

use serde_json::Value;
use torc_tests::inside::{
    asking, assert_last_waited, direct, held, quick, sorted, spec, until_begun, used,
};
use torc_tests::{Cluster, ClusterPlace, nodes, text};

/// How a spec says that scheduler.
const CPU: &str = "- {name: cpu, account: science, nodes: 2, walltime: '00:10:00'}\n";

/// A spec with one scheduler of two nodes.
fn with_scheduler(jobs: &str) -> String {
    format!(
        "{}\nslurm_schedulers: [{{name: cpu, account: science, nodes: 2, walltime: '00:10:00', labels: [big]}}]",
        spec(jobs)
    )
}

/// Waits until the run that was submitted has written this.
#[track_caller]
fn until_it_says(place: &ClusterPlace<'_>, report: &Value, words: &str) {
    let said = || fs::read_to_string(text(report, "output")).unwrap_or_default();
    place.until("the end of the run", || said().contains(words).then_some(()));
}

/// Submits a run of `w.yaml`.
#[track_caller]
fn submit(place: &ClusterPlace<'_>, options: &[&str]) -> Value {
    let words = [&["submit", "w.yaml", "--in-allocation", "--format", "json"], options].concat();
    place.place.torc(&words).expect(0).json()
}

#[test]
fn a_run_is_submitted_as_a_batch_job_of_its_own() {
    let Some(cluster) = Cluster::acquire() else { return };
    let job = "- {name: 'j{i}', command: 'echo $MINE; pwd; sleep 0.5', resource_requirements: whole, \
               labels: [big], parameters: {i: '1:6'}}";
    let place = cluster.place(&with_scheduler(job));
    place.place.set_env([("MINE".to_owned(), "my own".to_owned())]);
    let report = submit(&place, &[]);
    until_it_says(&place, &report, "6 completed");
    assert_eq!(used(&place).len(), 2, "both nodes");
    let here = place.place.path().canonicalize().expect("it is there");
    assert_eq!(place.place.output("wf1_j1_r1_a1.o"), format!("my own\n{}\n", here.display()));
    assert_eq!(place.allocations()[0]["handle"], report["handle"]);
    assert!(!place.place.join("torc_output/server.json").exists(), "no server was there");
}

#[test]
fn what_cannot_be_run_as_a_batch_job_is_not_submitted() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place =
        cluster.place(&with_scheduler(&quick("j").replace("half, ", "half, labels: [big], ")));
    let refuse = |words: &[&str], code: i32| {
        let words = [&["submit", "--in-allocation"], words].concat();
        place.place.torc(&words).expect(code)
    };
    refuse(&["-"], 2).says("it cannot come from standard input");
    let spec = place.place.read("w.yaml");
    place.place.write("wide.yaml", spec.replace("num_cpus: 4", "num_cpus: 9"));
    refuse(&["wide.yaml"], 4).says("needs 9 CPUs per node; the largest node has 8");
    place.place.write("long.yaml", spec.replace("PT10S", "PT1H"));
    refuse(&["long.yaml"], 4);
    place.place.write("none.yaml", "name: n\njobs: [{name: j, command: 'true'}]");
    refuse(&["none.yaml"], 2).says("no Slurm scheduler");
    let second = "walltime: '00:10:00'}, {name: gpu, account: science, nodes: 1, walltime: '00:10:00', labels";
    place.place.write("two.yaml", spec.replace("walltime: '00:10:00', labels", second));
    refuse(&["two.yaml"], 2).says("choose it with --scheduler NAME, of `cpu`, `gpu`");
    refuse(&["two.yaml", "--scheduler", "more"], 2).says("it has `cpu`, `gpu`");
    refuse(&["two.yaml", "--scheduler", "gpu", "--dry-run"], 0).says("#SBATCH --nodes=1");
    let _server = place.place.serve();
    refuse(&["w.yaml"], 5).says("owns the state directory");
    let queue = cluster.slurm("squeue", &["--noheader"]).stdout;
    assert_eq!(queue.trim(), "", "nothing was submitted");
}

#[test]
fn in_mode_direct_the_batch_job_has_one_step_for_all_jobs_of_all_nodes() {
    let Some(cluster) = Cluster::acquire() else { return };
    let job = "- {name: 'j{i}', command: 'echo $SLURMD_NODENAME; sleep 0.3', labels: [big], \
               resource_requirements: whole, parameters: {i: '1:20'}}";
    let place = cluster.place(&direct(&with_scheduler(job)));
    let report = submit(&place, &[]);
    until_it_says(&place, &report, "20 completed");
    assert_eq!(used(&place).len(), 2, "both nodes");
    for attempt in place.place.results() {
        let output = fs::read_to_string(text(&attempt, "stdout")).expect("it has output");
        assert_eq!(output, format!("{}\n", nodes(&attempt)[0]), "{attempt}");
    }
    place.place.torc(&["status"]).expect(0).says("20 completed");
    let handle = text(&report, "handle");
    let steps = place.until("the steps in the accounting", || {
        let steps = cluster.accounting(handle, "JobName,State,NNodes");
        let is_over = |step: &Vec<String>| !matches!(&*step[1], "RUNNING" | "COMPLETING");
        (steps.len() > 1 && steps.iter().all(is_over)).then_some(steps)
    });
    let of_workers: Vec<_> = steps.iter().filter(|step| step[0] == "torc_workers").collect();
    assert!(of_workers.len() == 1 && of_workers[0][2] == "2", "{steps:?}");
    assert!(steps.len() <= 4, "the job, its batch step, and that of the workers: {steps:?}");
}

#[test]
fn in_mode_direct_nodes_take_as_many_jobs_as_the_action_says_that_would_ask_for_them() {
    let Some(cluster) = Cluster::acquire() else { return };
    let jobs: String = ["a", "b", "c", "d", "e"].map(|name| held(name, "whole")).concat();
    let spec = |schedulers| direct(&spec(&jobs)) + &asking(schedulers);
    let place = cluster.place(&spec(&[("cpu", 2), ("other", 1)]));
    let report = submit(&place, &["--scheduler", "cpu"]);
    until_begun(&place, 4);
    assert_eq!(place.place.lines("began").len(), 4, "two whole nodes' worth on each node");
    place.place.write("go", "");
    until_it_says(&place, &report, "5 completed");
    assert_last_waited(&place);
    cluster.until_empty();
    place.place.write("differ.yaml", spec(&[("cpu", 2), ("cpu", 3)]).replacen(CPU, "", 1));
    let refused = place.place.torc(&["submit", "--in-allocation", "differ.yaml"]).expect(2);
    refused.says("differ in `max_parallel_jobs` (`2`, `3`)");
}

/// Jobs of which two end at once and two when they may, in an allocation of a minute.
fn for_a_minute() -> String {
    let jobs = [quick("a"), quick("b"), held("c", "half"), held("d", "half")].concat();
    spec(&jobs)
        + &asking(&[("cpu", 0)]).replace(", max_parallel_jobs: 0", "").replace("00:10", "00:01")
}

#[test]
fn a_second_one_goes_on_where_the_first_stopped_if_it_is_told_so() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(&for_a_minute());
    let refuse = |options: &[&str], code: i32| {
        let words = [&["submit", "w.yaml", "--in-allocation"], options].concat();
        place.place.torc(&words).expect(code)
    };
    refuse(&["--resume"], 2).says("no run of this very spec").says("jobs left to go on with");
    let first = submit(&place, &[]);
    assert_eq!(first["workflow"], Value::Null);
    refuse(&[], 5).says(&format!("Slurm job {}, which was submitted", text(&first, "handle")));
    until_begun(&place, 2);
    refuse(&["--new"], 5).says("is running; it has to end first");
    until_it_says(&place, &first, "2 completed, 2 terminated");
    cluster.until_empty();
    place.place.write("go", "");
    let refused = refuse(&[], 2);
    refused.says("workflow 1 of this spec has 2 of 4 jobs left").says("--resume").says("--new");
    refuse(&["--dry-run", "--resume"], 0).says(" restart 1 --output-dir ");
    refuse(&["--dry-run", "--new"], 0).says(" run ");
    assert_eq!(place.allocations().len(), 1, "nothing was submitted");
    let second = submit(&place, &["--resume"]);
    assert_eq!(second["workflow"], 1);
    until_it_says(&place, &second, "4 completed");
    assert_eq!(sorted(&place, "done"), ["a", "b", "c", "d"], "nothing ran twice to its end");
    cluster.until_empty();
    let third = submit(&place, &[]);
    until_it_says(&place, &third, "4 completed");
    assert_eq!(place.place.lines("done").len(), 8, "all had completed, so it is wanted again");
}

#[test]
fn a_run_that_was_cancelled_with_its_batch_job_can_be_gone_on_with_or_not() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(&direct(&for_a_minute().replace("00:01", "00:10")));
    let first = submit(&place, &[]);
    until_begun(&place, 2);
    cluster.slurm("scancel", &[text(&first, "handle")]).expect(0);
    until_it_says(&place, &first, "2 ready, 2 completed");
    cluster.until_empty();
    place.place.torc(&["submit", "w.yaml", "--in-allocation"]).expect(2).says("--resume");
    place.place.write("go", "");
    let second = submit(&place, &["--new"]);
    until_it_says(&place, &second, "4 completed");
    assert_eq!(place.place.lines("done").len(), 6);
    cluster.until_empty();
    let changed = place.place.read("w.yaml").replace("echo $TORC_JOB_NAME >> done", "true");
    place.place.write("w.yaml", changed);
    let words = ["submit", "w.yaml", "--in-allocation", "--resume"];
    place.place.torc(&words).expect(2).says("see `torc restart` if the spec has changed");
}
