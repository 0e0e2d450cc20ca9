//! `torc run` inside an allocation of a real Slurm: all of its nodes, and no other server.

use std::fs;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use torc_tests::{
    Cluster, ClusterPlace, Ended, RUN_PATIENCE, Started, check_ranks, compile_allreduce, nodes,
    outcome, text, torc,
};

/// Jobs are asked to end 15 seconds before the end of the allocation.
const EXECUTION: &str =
    "execution_config: {srun_termination_signal: TERM@5, sigkill_headroom_seconds: 10}";

/// A spec of jobs of these kinds.
fn spec(jobs: &str) -> String {
    format!(
        "name: w
{EXECUTION}
resource_requirements:
- {{name: half, num_cpus: 4, memory: 1g, runtime: PT10S}}
- {{name: whole, num_cpus: 8, memory: 1g, runtime: PT10S}}
- {{name: ranks, num_cpus: 8, num_nodes: 2, memory: 1g, runtime: PT10S, ntasks_per_node: 2, mpi: pmi2}}
jobs:
{jobs}"
    )
}

/// A job that waits until the file `go` is there; what asks it to end is written down.
fn held(name: &str, needs: &str) -> String {
    format!(
        "- {{name: {name}, resource_requirements: {needs}, command: 'trap \"echo $TORC_JOB_NAME >> asked; exit 9\" \
         TERM; echo $TORC_JOB_NAME >> began; until test -e go; do sleep 0.1; done; \
         echo $TORC_JOB_NAME >> done'}}\n"
    )
}

/// A job that ends at once.
fn quick(name: &str) -> String {
    format!(
        "- {{name: {name}, resource_requirements: half, command: 'echo $TORC_JOB_NAME >> done'}}\n"
    )
}

/// A command that salloc runs beside an allocation of two nodes for so many minutes: on no node of it.
fn beside(place: &ClusterPlace<'_>, minutes: u32, words: &[&str]) -> Command {
    let mut command = Command::new("salloc");
    place.place.prepare(&mut command);
    let minutes = format!("--time={minutes}");
    command.args(["--account=science", "--nodes=2", "--exclusive", "--mem=0", "--no-kill"]);
    command.arg(&minutes).args(words);
    command
}

/// `torc` with these words, in a shell of salloc.
#[track_caller]
fn start_beside(place: &ClusterPlace<'_>, minutes: u32, words: &[&str]) -> Started {
    let torc = torc().to_str().expect("a path");
    Started::start_for(beside(place, minutes, &[&[torc], words].concat()), RUN_PATIENCE)
}

/// A batch script that ends with this command, from its submission to its end. What it printed, and with
/// what it ended.
struct Batch<'c> {
    cluster: &'c Cluster,
    job: String,
    submitted: Started,
}

impl<'c> Batch<'c> {
    #[track_caller]
    fn submit(place: &ClusterPlace<'c>, minutes: u32, last: &str) -> Self {
        let torc = torc().to_str().expect("a path");
        let text = format!(
            "#!/bin/bash
#SBATCH --account=science --nodes=2 --exclusive --mem=0 --no-kill --time={minutes} --output=batch.log
{}\n",
            last.replace("TORC", torc)
        );
        place.place.write("batch.sh", text);
        let mut command = Command::new("sbatch");
        place.place.prepare(&mut command);
        command.args(["--parsable", "--wait", "batch.sh"]);
        let mut submitted = Started::start_for(command, RUN_PATIENCE);
        let job = submitted.wait_until_it_prints("").trim().to_owned();
        Self { cluster: place.cluster, job, submitted }
    }

    /// Waits for its end.
    #[track_caller]
    fn wait(self) -> Ended {
        self.submitted.wait()
    }

    #[track_caller]
    fn update(&self, what: &str) {
        let job = format!("JobId={}", self.job);
        self.cluster.slurm("scontrol", &["update", &job, what]).expect(0);
    }
}

/// The nodes on which attempts ran, without repeats.
fn used(place: &ClusterPlace<'_>) -> Vec<String> {
    let attempts = place.place.results();
    let mut used: Vec<String> = attempts.iter().flat_map(nodes).map(str::to_owned).collect();
    used.sort_unstable();
    used.dedup();
    used
}

fn sorted(place: &ClusterPlace<'_>, file: &str) -> Vec<String> {
    let mut lines = place.place.lines(file);
    lines.sort_unstable();
    lines
}

/// Waits until so many jobs have begun.
#[track_caller]
fn until_begun(place: &ClusterPlace<'_>, count: usize) {
    let begun = || fs::read_to_string(place.place.join("began")).unwrap_or_default();
    place.until("the beginning of the jobs", || (begun().lines().count() >= count).then_some(()));
}

/// The steps of torc's that a Slurm job has now.
fn steps(cluster: &Cluster, job: &str) -> usize {
    let args = ["--steps", "--noheader", "--format=%j", "--jobs", job];
    let names = cluster.slurm("squeue", &args).stdout;
    names.lines().filter(|name| name.starts_with("wf1_j")).count()
}

#[test]
fn beside_an_allocation_all_of_its_nodes_are_used_and_nothing_runs_in_the_shell() {
    let Some(cluster) = Cluster::acquire() else { return };
    let jobs =
        "- {name: 'j{i}', resource_requirements: whole, parameters: {i: '1:8'}, scheduler: gpu, \
                command: 'cat /proc/$PPID/comm; echo $SLURMD_NODENAME; sleep 0.5'}
- {name: ranks, command: ./allreduce, resource_requirements: ranks}";
    let schedulers = "slurm_schedulers:
- {name: cpu, account: science, nodes: 1, walltime: '00:10:00'}
- {name: gpu, account: science, nodes: 1, walltime: '00:10:00', labels: [big]}";
    let place = cluster.place(&format!("{}\n{schedulers}", spec(jobs)));
    compile_allreduce(&place.place);
    let ended = start_beside(&place, 10, &["run", "w.yaml"]).wait().expect(0);
    ended.says("9 completed").says("stands for every scheduler").does_not_say("this machine");
    ended.does_not_say("started once");
    check_ranks(&place.place.attempts("ranks")[0], 4);
    assert_eq!(used(&place).len(), 2, "both nodes");
    for attempt in place.place.results().iter().filter(|one| text(one, "job") != "ranks") {
        let output = fs::read_to_string(text(attempt, "stdout")).expect("it has output");
        assert_eq!(output, format!("slurmstepd\n{}\n", nodes(attempt)[0]), "{attempt}");
    }
    let allocation = &place.allocations()[0];
    let handle = text(allocation, "handle");
    ended.says(&format!("the 2 nodes of Slurm job {handle}"));
    let explained = place.place.torc(&["explain", "--allocation", "1"]).expect(0);
    explained.says(&format!("allocation 1 ({handle}), which the run was started in, is ended"));
}

#[test]
fn a_batch_script_uses_all_of_its_nodes() {
    let Some(cluster) = Cluster::acquire() else { return };
    let job = "- {name: 'j{i}', command: 'sleep 0.5', resource_requirements: whole, parameters: {i: '1:6'}}";
    let place = cluster.place(&spec(job));
    Batch::submit(&place, 10, "TORC run w.yaml; echo ended $?").wait().expect(0);
    let said = place.place.read("batch.log");
    assert!(said.contains("6 completed") && said.contains("ended 0"), "{said}");
    assert_eq!(used(&place).len(), 2, "both nodes");
}

#[test]
fn inside_a_step_jobs_run_beside_it() {
    let Some(cluster) = Cluster::acquire() else { return };
    let jobs = "- {name: 'j{i}', resource_requirements: whole, parameters: {i: '1:4'}, \
                command: 'env | grep ^PMI; true'}
- {name: ranks, command: ./allreduce, resource_requirements: ranks}";
    let place = cluster.place(&spec(jobs));
    compile_allreduce(&place.place);
    let torc = torc().to_str().expect("a path");
    let step = ["srun", "--nodes=1", "--ntasks=1", "--mpi=pmi2", torc, "run", "w.yaml"];
    let ended = Started::start_for(beside(&place, 10, &step), RUN_PATIENCE).wait();
    ended.expect(0).says("5 completed");
    assert_eq!(used(&place).len(), 2, "both nodes");
    check_ranks(&place.place.attempts("ranks")[0], 4);
    for job in 1..=4 {
        assert_eq!(
            place.place.output(&format!("wf1_j{job}_r1_a1.o")),
            "",
            "a step around it shows"
        );
    }
}

#[test]
fn what_is_said_of_this_machine_counts_inside_an_allocation_too() {
    let Some(cluster) = Cluster::acquire() else { return };
    let job = "- {name: j, command: 'cat /proc/$PPID/comm', resource_requirements: small}";
    let place =
        cluster.place(&spec(job).replace("name: half, num_cpus: 4", "name: small, num_cpus: 1"));
    let words = ["run", "w.yaml", "--num-cpus", "1"];
    let ended = start_beside(&place, 10, &words).wait().expect(0);
    ended.says("--num-cpus is about this machine, so jobs run on this host only");
    assert_ne!(place.place.output("wf1_j1_r1_a1.o"), "slurmstepd\n");
    let job = "- {name: j, resource_requirements: half, command: 'TORC run inner.yaml --output-dir inner'}";
    let job = job.replace("TORC", torc().to_str().expect("a path"));
    place
        .place
        .write("w.yaml", spec(&job))
        .write("inner.yaml", "name: i\njobs: [{name: i, command: 'true'}]");
    start_beside(&place, 10, &["run", "w.yaml"]).wait().expect(0).says("1 completed");
    let said = place.place.output("wf2_j1_r1_a1.e");
    assert!(said.contains("this run is part of a job of another one"), "{said}");
}

#[test]
fn a_heterogeneous_job_is_refused() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(&spec(&quick("j")));
    let mut command = Command::new("salloc");
    place.place.prepare(&mut command);
    command.args(["--account=science", "--nodes=1", ":", "--account=science", "--nodes=1"]);
    command.arg(torc()).args(["run", "w.yaml"]);
    let ended = Started::start_for(command, RUN_PATIENCE).wait().expect(5);
    ended.says("the allocation is a heterogeneous job (SLURM_HET_SIZE is 2)");
    assert!(!place.place.join("torc_output/torc.db").exists(), "nothing was stored");
}

#[test]
fn an_allocation_that_is_over_is_no_place_to_run() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(&spec(&quick("j")));
    let batch = Batch::submit(&place, 10, "true");
    place.place.set_env([("SLURM_JOB_ID".to_owned(), batch.job.clone())]);
    batch.wait().expect(0);
    place.place.torc(&["run", "w.yaml"]).expect(5).says("it is COMPLET");
    place.place.set_env([("SLURM_JOB_ID".to_owned(), "4000000".to_owned())]);
    place.place.torc(&["run", "w.yaml"]).expect(5).says("it is unknown to Slurm");
}

#[test]
fn what_does_not_end_in_time_is_asked_and_goes_on_in_the_next_allocation() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster
        .place(&spec(&[quick("a"), quick("b"), held("c", "half"), held("d", "whole")].concat()));
    Batch::submit(&place, 1, "TORC run w.yaml; echo ended $? after $SECONDS").wait().expect(0);
    let said = place.place.read("batch.log");
    assert!(
        said.contains("2 completed, 2 terminated") && said.contains("ended 1 after 4"),
        "{said}"
    );
    assert_eq!(sorted(&place, "asked"), ["c", "d"], "each was asked once");
    place.place.write("go", "");
    start_beside(&place, 10, &["restart"]).wait().expect(0).says("4 completed");
    assert_eq!(sorted(&place, "done"), ["a", "b", "c", "d"], "nothing ran twice to its end");
    let handles: Vec<Value> = place.allocations().iter().map(|one| one["handle"].clone()).collect();
    assert!(handles.len() == 2 && handles[0] != handles[1], "{handles:?}");
}

#[test]
fn an_end_that_moves_away_ends_nothing() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(&spec(&held("j", "half")));
    let batch = Batch::submit(&place, 1, "exec TORC run w.yaml");
    until_begun(&place, 1);
    let ends_at = place.allocations()[0]["ends_at"].clone();
    batch.update("TimeLimit=20");
    // It is not asked for before the old one is near.
    place.until_allocation("another end", |one| one["ends_at"] != ends_at);
    place.place.write("go", "");
    batch.wait().expect(0);
    assert!(!place.place.join("asked").exists());
}

#[test]
fn a_cancelled_batch_job_leaves_what_ran_to_the_next() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place =
        cluster.place(&spec(&[quick("a"), held("b", "whole"), held("c", "whole")].concat()));
    let batch = Batch::submit(&place, 10, "exec TORC run w.yaml");
    until_begun(&place, 2);
    cluster.slurm("scancel", &[&batch.job]).expect(0);
    batch.wait();
    assert_eq!(sorted(&place, "asked"), ["b", "c"], "Slurm asked them, and torc did not again");
    place.until("the last words of the run", || {
        place.place.read("batch.log").contains("2 ready, 1 completed").then_some(())
    });
    place.place.write("go", "");
    start_beside(&place, 10, &["restart"]).wait().expect(0).says("3 completed");
    assert_eq!(sorted(&place, "done"), ["a", "b", "c"]);
    let lost = place.place.results().iter().filter(|one| outcome(one) == "lost").count();
    assert_eq!(lost, 2, "that its allocation ended is nothing against a job");
}

#[test]
fn an_allocation_that_is_taken_away_ends_the_run_beside_it() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster
        .place(&spec(&[held("a", "whole"), held("b", "whole"), held("c", "whole")].concat()));
    let run = start_beside(&place, 10, &["run", "w.yaml"]);
    until_begun(&place, 2);
    let job = text(&place.allocations()[0], "handle").to_owned();
    cluster.slurm("scancel", &[&job]).expect(0);
    let ended = run.wait();
    ended.says("the allocation is over").says("3 ready");
    assert_eq!(place.place.attempts("c").len(), 0, "nothing was started where nothing could run");
}

#[test]
fn an_interrupted_run_asks_its_jobs_and_goes_on_later() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster
        .place(&spec(&[held("a", "whole"), held("b", "whole"), held("c", "whole")].concat()));
    let words = [
        "bash",
        "-c",
        "\"$0\" run w.yaml & echo $! > pid; wait $!; echo run ended $?; exec \"$0\" restart",
    ];
    let torc = torc().to_str().expect("a path");
    let run = Started::start_for(beside(&place, 10, &[&words[..], &[torc]].concat()), RUN_PATIENCE);
    until_begun(&place, 2);
    kill(pid_in(&place), Signal::SIGTERM).expect("it runs");
    place.until("both have been asked", || {
        let asked = fs::read_to_string(place.place.join("asked")).ok()?;
        (asked.lines().count() == 2).then_some(())
    });
    place.place.write("go", "");
    let ended = run.wait().expect(0);
    ended.says("run ended 130").says("3 completed");
    assert_eq!(sorted(&place, "asked"), ["a", "b"]);
    assert_eq!(sorted(&place, "done"), ["a", "b", "c"]);
}

/// The process that a shell of the test's left word of.
#[track_caller]
fn pid_in(place: &ClusterPlace<'_>) -> Pid {
    Pid::from_raw(place.place.read("pid").trim().parse().expect("a process id"))
}

#[test]
fn a_run_that_is_killed_leaves_no_steps_and_goes_on() {
    let Some(cluster) = Cluster::acquire() else { return };
    // Who holds the lock runs.
    let job = |name| {
        format!(
            "- {{name: {name}, resource_requirements: whole, command: 'exec 9> lock.$TORC_JOB_NAME; \
             flock --nonblock 9 || echo $TORC_JOB_NAME >> twice; echo $TORC_JOB_NAME >> began; \
             until test -e go; do sleep 0.1; done; echo $TORC_JOB_NAME >> done'}}\n"
        )
    };
    let place = cluster.place(&spec(&[job("a"), job("b"), job("c")].concat()));
    let words = "\"$0\" run w.yaml & echo $! > pid; wait $!; echo run ended $?; until test -e again; \
                 do sleep 0.1; done; \"$0\" restart & echo $! > pid; wait $!; exec \"$0\" restart";
    let torc = torc().to_str().expect("a path");
    let command = beside(&place, 10, &["bash", "-c", words, torc]);
    let run = Started::start_for(command, RUN_PATIENCE);
    until_begun(&place, 2);
    let slurm_job = text(&place.allocations()[0], "handle").to_owned();
    assert_eq!(steps(&cluster, &slurm_job), 2);
    kill(pid_in(&place), Signal::SIGKILL).expect("it runs");
    place.until("no step is left", || (steps(&cluster, &slurm_job) == 0).then_some(()));
    place.place.write("again", "");
    until_begun(&place, 4);
    // This time the next torc comes at once.
    kill(pid_in(&place), Signal::SIGKILL).expect("it runs");
    until_begun(&place, 6);
    place.place.write("go", "");
    run.wait().expect(0).says("run ended 137").says("3 completed");
    assert!(!place.place.join("twice").exists(), "{}", place.place.read("twice"));
    assert_eq!(sorted(&place, "done"), ["a", "b", "c"]);
}

#[test]
fn a_node_that_fails_costs_its_jobs_only() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(&spec(&[held("a", "whole"), held("b", "whole")].concat()));
    let run = start_beside(&place, 10, &["run", "w.yaml"]);
    until_begun(&place, 2);
    let attempts = place.place.results();
    let victim = nodes(&attempts[1])[0];
    let _dead = cluster.fail_node(victim, true);
    place.until_allocation("a node that is down", |one| {
        let states = one["nodes"].as_array().into_iter().flatten();
        states.filter(|node| node["state"] == "down").count() == 1
    });
    place.place.write("go", "");
    run.wait().expect(0).says("2 completed");
    let name = text(&attempts[1], "job");
    let ends: Vec<Value> = place.place.attempts(name);
    assert_eq!((outcome(&ends[0]), outcome(&ends[1])), ("node_failed", "exited"));
    assert_ne!(nodes(&ends[1])[0], victim);
    assert_eq!(place.place.results().len(), 3);
}

/// A spec with one scheduler of two nodes.
fn with_scheduler(jobs: &str) -> String {
    format!(
        "{}\nslurm_schedulers: [{{name: cpu, account: science, nodes: 2, walltime: '00:10:00', labels: [big]}}]",
        spec(jobs)
    )
}

#[test]
fn a_run_is_submitted_as_a_batch_job_of_its_own() {
    let Some(cluster) = Cluster::acquire() else { return };
    let job = "- {name: 'j{i}', command: 'echo $MINE; pwd; sleep 0.5', resource_requirements: whole, \
               labels: [big], parameters: {i: '1:6'}}";
    let place = cluster.place(&with_scheduler(job));
    place.place.set_env([("MINE".to_owned(), "my own".to_owned())]);
    let words = ["submit", "w.yaml", "--in-allocation", "--format", "json"];
    let report = place.place.torc(&words).expect(0).json();
    let log = text(&report, "output");
    place.until("the end of the run", || {
        fs::read_to_string(log).unwrap_or_default().contains("6 completed").then_some(())
    });
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

/// The same spec in mode direct, whose jobs end 12 seconds before the end of the allocation.
fn direct(spec: &str) -> String {
    spec.replace(
        EXECUTION,
        "execution_config: {mode: direct, sigterm_lead_seconds: 5, sigkill_headroom_seconds: 7}",
    )
}

#[test]
fn in_mode_direct_a_worker_on_each_node_runs_the_jobs() {
    let Some(cluster) = Cluster::acquire() else { return };
    let jobs = "- {name: 'j{i}', resource_requirements: whole, parameters: {i: '1:8'}, \
                command: 'cat /proc/$PPID/comm; echo $SLURMD_NODENAME; sleep 0.3'}
- {name: wide, resource_requirements: ranks, command: 'srun --mpi=none printenv SLURMD_NODENAME'}";
    let place = cluster.place(&direct(&spec(jobs)));
    start_beside(&place, 5, &["run", "w.yaml"]).wait().expect(0).says("9 completed");
    let used = used(&place);
    assert_eq!(used.len(), 2, "{used:?}");
    for attempt in place.place.results() {
        let output = fs::read_to_string(text(&attempt, "stdout")).expect("it has output");
        let mut lines: Vec<&str> = output.lines().collect();
        lines.sort_unstable();
        match nodes(&attempt)[..] {
            [node] => assert_eq!(lines, [node, "torc-keeper"], "a worker's"),
            [first, second] => assert_eq!(lines, [first, first, second, second]),
            _ => panic!("{attempt}"),
        }
    }
}

#[test]
fn in_mode_direct_a_batch_script_that_is_cancelled_leaves_the_rest_to_the_next() {
    let Some(cluster) = Cluster::acquire() else { return };
    let jobs = held("a", "whole") + &held("b", "whole") + &quick("c");
    let place = cluster.place(&direct(&spec(&jobs)));
    let batch = Batch::submit(&place, 5, "exec TORC run w.yaml");
    until_begun(&place, 2);
    cluster.slurm("scancel", &[&batch.job]).expect(0);
    batch.wait();
    assert_eq!(sorted(&place, "asked"), ["a", "b"], "each was asked once");
    place.place.write("go", "");
    let ended = Batch::submit(&place, 5, "exec TORC restart").wait();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(sorted(&place, "done"), ["a", "b", "c"], "each was done once");
}

#[test]
fn in_mode_direct_a_run_that_is_killed_leaves_nothing_running() {
    let Some(cluster) = Cluster::acquire() else { return };
    let jobs = held("a", "whole") + &held("b", "whole");
    let place = cluster.place(&direct(&spec(&jobs)));
    let torc = torc().to_str().expect("a path");
    let script = format!("{torc} run w.yaml & echo $! > pid; wait; {torc} restart");
    let words = ["bash", "-c", &script];
    let shell = Started::start_for(beside(&place, 5, &words), RUN_PATIENCE);
    until_begun(&place, 2);
    let pid: i32 = place.place.read("pid").trim().parse().expect("a process id");
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("it is there");
    until_begun(&place, 4);
    // The first ones are gone when the second ones begin.
    place.place.write("go", "");
    shell.wait().expect(0);
    assert_eq!(sorted(&place, "done"), ["a", "b"], "each was done once");
    let attempts = place.place.results();
    let completed = attempts.iter().filter(|one| outcome(one) == "exited").count();
    assert_eq!(completed, 2, "{attempts:?}");
}
