//! Mode direct on a real Slurm that loses nodes: the first of an allocation, and those of gangs.
//!
//! Whatever is lost, nothing of an attempt may be there any more when the next one begins.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use torc_tests::{
    Cluster, ClusterPlace, DeadNode, Started, allocated, compile_allreduce_with, direct_spec,
    nodes, outcome, processes, text,
};

/// Jobs of a whole node that wait until the file `go` is there. Who holds the lock runs.
const LOCKED: &str = "jobs:
- {name: 'j{i}', resource_requirements: whole, parameters: {i: '1:4'}, command: 'exec 9> lock.$TORC_JOB_NAME; \
flock --nonblock 9 || echo $TORC_JOB_NAME >> twice; until test -e go; do sleep 0.1; done; \
echo $TORC_JOB_NAME >> done'}";

/// Has the first node of the first allocation die under its jobs, and waits until that is over.
#[track_caller]
fn lose_batch_host<'c>(place: &ClusterPlace<'c>) -> DeadNode<'c> {
    let handle = text(&place.allocations()[0], "handle").to_owned();
    let asked = ["--noheader", "--format=%B", "--jobs", &handle];
    let host = place.cluster.slurm("squeue", &asked).expect(0).stdout;
    let dead = place.cluster.fail_node(host.trim(), true);
    place.until_allocation("the end of the allocation", |one| one["stage"] == "ended");
    dead
}

/// The outcomes of attempts, sorted.
fn outcomes(attempts: &[Value]) -> Vec<&str> {
    let mut outcomes: Vec<&str> = attempts.iter().map(outcome).collect();
    outcomes.sort_unstable();
    outcomes
}

/// Each of the locked jobs has been done once, and two attempts of it were never there at once.
#[track_caller]
fn check_done_once(place: &ClusterPlace<'_>) {
    assert!(!place.place.join("twice").exists(), "{}", place.place.read("twice"));
    let mut done = place.place.lines("done");
    done.sort_unstable();
    assert_eq!(done, ["j1", "j2", "j3", "j4"]);
}

#[test]
fn the_jobs_of_an_allocation_that_loses_its_first_node_go_to_another() {
    let Some(cluster) = Cluster::acquire() else { return };
    let spec =
        direct_spec(2, LOCKED).replace("scheduler: cpu,", "scheduler: cpu, num_allocations: 2,");
    let place = cluster.place(&spec);
    let waiting = place.start_and_wait();
    place.until_running(4);
    let _dead = lose_batch_host(&place);
    place.place.write("go", "");
    waiting.wait().expect(0).says("4 completed");
    check_done_once(&place);
    let attempts = place.place.results();
    assert_eq!(
        outcomes(&attempts),
        ["exited", "exited", "exited", "exited", "node_failed", "node_failed"]
    );
    assert_eq!(place.allocations().len(), 2, "no more were asked for");
}

#[test]
fn what_an_allocation_that_lost_its_first_node_left_is_done_after_a_restart() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(&direct_spec(2, LOCKED));
    let waiting = place.start_and_wait();
    place.until_running(2);
    let _dead = lose_batch_host(&place);
    waiting.wait().expect(1).says("4 ready");
    place.place.write("go", "");
    place.place.torc(&["restart"]).expect(0);
    place.until_over();
    check_done_once(&place);
    let attempts = place.place.results();
    assert_eq!(
        outcomes(&attempts),
        ["exited", "exited", "exited", "exited", "node_failed", "node_failed"]
    );
    let handles: Vec<Value> = place.allocations().iter().map(|one| one["handle"].clone()).collect();
    assert!(handles.len() == 2 && handles[0] != handles[1], "{handles:?}");
}

/// What each rank runs: it looks for ranks of the first attempt, and then waits until the file `go` is there, as a
/// process that names its own attempt.
const RANK: &str = "\
pgrep -f rank_[1]_of_$TORC_OUTPUT_DIR >> left_before_$TORC_ATTEMPT_ID
bash -c 'until test -e go; do sleep 0.1; done' rank_${TORC_ATTEMPT_ID}_of_$TORC_OUTPUT_DIR
";

/// The ranks of an attempt of the gang that are there.
fn ranks_of(place: &ClusterPlace<'_>, attempt: u32) -> usize {
    let dir = place.place.join("torc_output");
    processes(&format!("rank_{attempt}_of_{}$", dir.display())).len()
}

/// A gang with this command and two single jobs, each on a node of its own. The gang loses one of its nodes (0 is
/// its first), and runs again on nodes of which one is another's before.
#[track_caller]
fn lose_node_of_gang(place: &ClusterPlace<'_>, which: usize) {
    place.place.write("rank", RANK);
    let waiting: Started = place.start_and_wait();
    place.until("all ranks", || (ranks_of(place, 1) == 4).then_some(()));
    place.until_running(3);
    let first = place.place.attempts("wide")[0].clone();
    let victim = nodes(&first)[which];
    assert_ne!(victim, allocated(&place.allocations()[0])[0], "losing that ends all");
    let _dead = place.cluster.fail_node(victim, true);
    place.until("the end of the first attempt", || {
        (outcome(&place.place.attempts("wide")[0]) != "none").then_some(())
    });
    assert_eq!(ranks_of(place, 1), 0, "nothing is left once its end is told");
    place.place.write("go_b", "");
    place.until("the second attempt", || (ranks_of(place, 2) == 4).then_some(()));
    place.place.write("go", "");
    waiting.wait().expect(0).says("3 completed");
    assert_eq!(place.place.read("left_before_2"), "", "at its start");
    let attempts = place.place.attempts("wide");
    assert_eq!(attempts.iter().map(outcome).collect::<Vec<_>>(), ["node_failed", "exited"]);
    assert!(!nodes(&attempts[1]).contains(&victim), "{attempts:?}");
    for job in ["a", "b"] {
        let attempts = place.place.attempts(job);
        assert_eq!(attempts.iter().map(outcome).collect::<Vec<_>>(), ["exited"], "it went on");
    }
}

/// The gang starts first of the two that leave no node to the third.
fn beside_gang(command: &str) -> String {
    direct_spec(
        4,
        &format!(
            "jobs:
- {{name: a, command: 'until test -e go; do sleep 0.1; done', resource_requirements: whole, priority: 2}}
- {{name: wide, command: '{command}', resource_requirements: ranks, priority: 1}}
- {{name: b, command: 'until test -e go_b; do sleep 0.1; done', resource_requirements: whole}}"
        ),
    )
}

#[test]
fn a_gang_that_loses_its_first_node_runs_again_when_its_ranks_are_gone() {
    let Some(cluster) = Cluster::acquire() else { return };
    lose_node_of_gang(&cluster.place(&beside_gang("srun bash rank")), 0);
}

#[test]
fn a_gang_of_srun_that_loses_another_node_runs_again() {
    let Some(cluster) = Cluster::acquire() else { return };
    lose_node_of_gang(&cluster.place(&beside_gang("srun bash rank")), 1);
}

/// The ranks of a launcher of MPI find each other before they wait.
#[track_caller]
fn lose_node_of_mpi(library: &str, launcher: &str) {
    let Some(cluster) = Cluster::acquire() else { return };
    let command = format!("{launcher} ./allreduce && {launcher} bash rank");
    let place = cluster.place(&beside_gang(&command));
    compile_allreduce_with(&place.place, library);
    lose_node_of_gang(&place, 1);
    let output = place.place.read("torc_output/job_stdio/job_wf1_j2_r1_a2.o");
    assert_eq!(output.lines().filter(|line| line.contains(" of 4 on ")).count(), 4, "{output}");
}

#[test]
fn a_gang_of_mpich_that_loses_a_node_runs_again() {
    lose_node_of_mpi("mpich", "mpiexec.hydra");
}

#[test]
fn a_gang_of_open_mpi_that_loses_a_node_runs_again() {
    lose_node_of_mpi("openmpi", "OMPI_MCA_btl=tcp,self mpirun.openmpi --allow-run-as-root");
}

const OPEN_MPI: &str = "OMPI_MCA_btl=tcp,self mpirun.openmpi --allow-run-as-root bash rank";

/// The processes on a node that have this in their command line, and belong to the place.
fn on_node(place: &ClusterPlace<'_>, node: &str, pattern: &str) -> Vec<Pid> {
    let is_there = |pid: &Pid| {
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let wanted = [
            format!("SLURMD_NODENAME={node}"),
            format!("SLURM_SUBMIT_DIR={}", place.place.path().display()),
        ];
        let has =
            |wanted: &String| environ.split(|byte| *byte == 0).any(|one| one == wanted.as_bytes());
        wanted.iter().all(has)
    };
    processes(pattern).into_iter().filter(is_there).collect()
}

/// A node of which nothing is heard any more still has its connections, while a launcher, or a fast network, may
/// notice at once.
#[test]
fn a_gang_that_notices_the_loss_of_a_node_before_torc_has_not_failed_by_itself() {
    let Some(cluster) = Cluster::acquire() else { return };
    let place = cluster.place(&beside_gang(OPEN_MPI));
    place.place.write("rank", RANK);
    let waiting = place.start_and_wait();
    place.until("all ranks", || (ranks_of(&place, 1) == 4).then_some(()));
    place.until_running(3);
    let first = place.place.attempts("wide")[0].clone();
    let [leader, victim] = nodes(&first)[..] else { panic!("two nodes: {first}") };
    for pid in on_node(&place, victim, "node-worker ") {
        kill(pid, Signal::SIGSTOP).expect("it is there");
    }
    for pid in on_node(&place, victim, "orted") {
        kill(pid, Signal::SIGKILL).expect("it is there");
    }
    place.until("the end of the launcher", || {
        on_node(&place, leader, "^mpirun.openmpi").is_empty().then_some(())
    });
    let _dead = cluster.fail_node(victim, true);
    place.until("the end of the first attempt", || {
        (outcome(&place.place.attempts("wide")[0]) != "none").then_some(())
    });
    place.place.write("go_b", "").write("go", "");
    waiting.wait().expect(0).says("3 completed");
    let attempts = place.place.attempts("wide");
    let [first, second] = &attempts[..] else { panic!("two attempts: {attempts:?}") };
    // Its worker's connection may end before Slurm says that the node has failed.
    assert!(["node_failed", "lost"].contains(&outcome(first)), "{first}");
    assert_eq!(outcome(second), "exited");
}
