//! `torc run` inside an allocation of a real Slurm: all of its nodes, and no other server.

use std::fs;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use serde_json::Value;
use torc_tests::inside::{
    Batch, beside, held, pid_in, quick, sorted, spec, start_beside, until_begun, used,
};
use torc_tests::{
    Cluster, RUN_PATIENCE, Started, check_ranks, compile_allreduce, nodes, outcome, text, torc,
};

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
