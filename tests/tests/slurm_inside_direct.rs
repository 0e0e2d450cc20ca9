//! `torc run` in mode direct inside an allocation of a real Slurm: it leads a worker on each node.

use std::fs;

use nix::sys::signal::{Signal, kill};
use torc_tests::inside::{
    Batch, asking, assert_last_waited, beside, direct, held, pid_in, quick, sorted, spec,
    start_beside, until_begun, used,
};
use torc_tests::{Cluster, RUN_PATIENCE, Started, nodes, now, number, outcome, text, torc};

#[test]
fn a_worker_on_each_node_runs_the_jobs() {
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
fn commands_for_workers_run_on_each_node() {
    let Some(cluster) = Cluster::acquire() else { return };
    let actions = "
actions:
- {trigger_type: on_workflow_start, action_type: run_commands, commands: ['echo $TORC_RUN_ID >> start']}
- {trigger_type: on_worker_start, action_type: run_commands, persistent: true, commands: ['echo $SLURMD_NODENAME >> came']}
- {trigger_type: on_worker_complete, action_type: run_commands, persistent: true, commands: ['echo $SLURMD_NODENAME >> left']}";
    let place = cluster.place(&(direct(&spec(&quick("a"))) + actions));
    start_beside(&place, 5, &["run", "w.yaml"]).wait().expect(0).says("1 completed");
    let said = |name: &str| sorted(&place, &format!("torc_output/{name}"));
    assert_eq!(said("start"), ["1"]);
    let came = said("came");
    assert_eq!(came.len(), 2, "{came:?}");
    assert!(came[0] != came[1] && came == said("left"), "{came:?} {:?}", said("left"));
}

#[test]
fn a_batch_script_that_is_cancelled_leaves_the_rest_to_the_next() {
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
fn a_run_that_is_killed_leaves_nothing_running() {
    let Some(cluster) = Cluster::acquire() else { return };
    let jobs = held("a", "whole") + &held("b", "whole");
    let place = cluster.place(&direct(&spec(&jobs)));
    let torc = torc().to_str().expect("a path");
    let script = format!("{torc} run w.yaml & echo $! > pid; wait; {torc} restart");
    let words = ["bash", "-c", &script];
    let shell = Started::start_for(beside(&place, 5, &words), RUN_PATIENCE);
    until_begun(&place, 2);
    kill(pid_in(&place), Signal::SIGKILL).expect("it is there");
    until_begun(&place, 4);
    // The first ones are gone when the second ones begin.
    place.place.write("go", "");
    shell.wait().expect(0);
    assert_eq!(sorted(&place, "done"), ["a", "b"], "each was done once");
    let attempts = place.place.results();
    let completed = attempts.iter().filter(|one| outcome(one) == "exited").count();
    assert_eq!(completed, 2, "{attempts:?}");
}

#[test]
fn inside_a_step_jobs_run_beside_it() {
    let Some(cluster) = Cluster::acquire() else { return };
    let jobs = "- {name: 'j{i}', resource_requirements: whole, parameters: {i: '1:4'}, \
                command: 'env | grep ^PMI; cat /proc/$PPID/comm; sleep 0.3'}
- {name: wide, resource_requirements: ranks, command: 'srun --mpi=none printenv SLURMD_NODENAME'}";
    let place = cluster.place(&direct(&spec(jobs)));
    let torc = torc().to_str().expect("a path");
    let step = ["srun", "--nodes=1", "--ntasks=1", "--mpi=pmi2", torc, "run", "w.yaml"];
    let ended = Started::start_for(beside(&place, 5, &step), RUN_PATIENCE).wait();
    ended.expect(0).says("5 completed");
    assert_eq!(used(&place).len(), 2, "both nodes");
    for job in 1..=4 {
        let output = place.place.output(&format!("wf1_j{job}_r1_a1.o"));
        assert_eq!(output, "torc-keeper\n", "a worker's, and no step around it shows");
    }
    let ranks = place.place.output("wf1_j5_r1_a1.o");
    let mut ranks: Vec<&str> = ranks.lines().collect();
    ranks.sort_unstable();
    let wide = &place.place.attempts("wide")[0];
    let [first, second] = nodes(wide)[..] else { panic!("{wide}") };
    assert_eq!(ranks, [first, first, second, second]);
}

/// Looks come each half minute: this is after the last of them before jobs would be asked to end.
#[test]
fn an_end_that_moves_away_at_the_last_moment_ends_nothing() {
    const ASKED_BEFORE: u64 = 12_000;
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(&direct(&spec(&held("j", "whole"))));
    let batch = Batch::submit(&place, 1, "exec TORC run w.yaml");
    until_begun(&place, 1);
    let asked_at = number(&place.allocations()[0], "ends_at") - ASKED_BEFORE;
    let until = |what, moment| place.until(what, || (now() >= moment).then_some(()));
    until("a moment shortly before it matters", asked_at - 9_000);
    batch.update("TimeLimit=20");
    until("a moment after which a job would have been asked", asked_at + 4_000);
    place.place.write("go", "");
    batch.wait().expect(0);
    assert!(!place.place.join("asked").exists(), "its end was not there yet");
    assert_eq!(sorted(&place, "done"), ["j"]);
}

#[test]
fn nodes_take_as_many_jobs_as_the_actions_agree_upon() {
    let Some(cluster) = Cluster::acquire() else { return };
    let jobs: String = ["a", "b", "c", "d", "e"].map(|name| held(name, "whole")).concat();
    let spec = |schedulers| direct(&spec(&jobs)) + &asking(schedulers);
    let place = cluster.place(&spec(&[("cpu", 2), ("other", 2)]));
    let run = start_beside(&place, 5, &["run", "w.yaml"]);
    until_begun(&place, 4);
    assert_eq!(place.place.lines("began").len(), 4, "two whole nodes' worth on each node");
    place.place.write("go", "");
    let ended = run.wait().expect(0);
    ended.says("each node takes 2 jobs at once, whatever they need").says("5 completed");
    ended.says("when its actions ask for nodes, and for how many allocations, has no effect");
    assert_last_waited(&place);
    place.place.write("w.yaml", spec(&[("cpu", 2), ("other", 3)]));
    let ended = start_beside(&place, 5, &["run", "w.yaml"]).wait().expect(0);
    ended.says("the actions differ in `max_parallel_jobs`, so it has no effect");
    let words = ["run", "w.yaml", "--scheduler", "other"];
    start_beside(&place, 5, &words).wait().expect(0).says("each node takes 3 jobs at once");
    start_beside(&place, 5, &["run", "w.yaml", "--scheduler", "others"]).wait().expect(2);
}

#[test]
fn a_node_that_idles_is_given_back_when_that_is_asked_for() {
    let Some(cluster) = Cluster::acquire() else { return };
    let jobs = direct(&spec(&held("a", "whole")))
        .replace("mode: direct,", "mode: direct, release_idle_nodes: true,")
        + "\ncompute_node_wait_for_new_jobs_seconds: 1";
    let place = cluster.place(&jobs);
    let run = start_beside(&place, 5, &["run", "w.yaml"]);
    until_begun(&place, 1);
    place.until("one node less", || {
        let shown = cluster.slurm("squeue", &["--noheader", "--format=%D"]).expect(0);
        (shown.stdout.trim() == "1").then_some(())
    });
    place.place.write("go", "");
    run.wait().expect(0).says("1 completed").says("all nodes but these were given back");
}
