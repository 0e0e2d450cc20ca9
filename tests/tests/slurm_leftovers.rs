//! What mode direct leaves behind on a real Slurm, whatever goes wrong: nothing.

use std::fs;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use torc_tests::{Cluster, ClusterPlace, Ended, RUN_PATIENCE, Started, torc};

/// A spec of jobs in mode direct, with an action for `torc submit` on four nodes.
fn spec(rest: &str) -> String {
    format!(
        "name: w
slurm_schedulers: [{{name: cpu, account: science, nodes: 4, walltime: '00:20:00'}}]
actions: [{{trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: cpu}}]
execution_config: {{mode: direct, sigterm_lead_seconds: 5, sigkill_headroom_seconds: 10}}
compute_node_wait_for_new_jobs_seconds: 5
resource_requirements:
- {{name: one, num_cpus: 1, memory: 100m, runtime: PT5M}}
- {{name: wide, num_cpus: 8, num_nodes: 2, memory: 1g, runtime: PT5M}}
jobs:
{rest}"
    )
}

/// Runs a batch script on two nodes, to its end.
#[track_caller]
fn start_batch(place: &ClusterPlace<'_>, text: &str) -> Started {
    let head = "#!/bin/bash
#SBATCH --account=science --nodes=2 --exclusive --mem=0 --no-kill --time=10 --output=batch.log\n";
    place.place.write("batch.sh", format!("{head}{text}\n"));
    let mut command = Command::new("sbatch");
    place.place.prepare(&mut command);
    command.args(["--wait", "batch.sh"]).arg(torc());
    Started::start_for(command, RUN_PATIENCE)
}

/// Waits until a file has so many lines.
fn until_lines(place: &ClusterPlace<'_>, name: &str, count: usize) {
    let path = place.place.join(name);
    place.until(name, || {
        let text = fs::read_to_string(&path).unwrap_or_default();
        (text.lines().count() >= count).then_some(())
    });
}

/// What crews keep in the state directory.
fn scratch(place: &ClusterPlace<'_>) -> Vec<String> {
    let entries =
        fs::read_dir(place.place.join("torc_output/scratch")).expect("it is there").flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn the_folder_of_a_crew_goes_with_it() {
    let Some(cluster) = Cluster::acquire() else { return };
    let jobs = "- {name: 'j{i}', command: 'echo $TORC_JOB_NAME >> began; until test -e go; do sleep 0.1; done', \
                resource_requirements: one, parameters: {i: '1:2'}}
- {name: wide, command: 'test -s $TORC_HOSTFILE && srun hostname', resource_requirements: wide, depends_on: [j1, j2]}";
    let place = cluster.place(&spec(jobs));
    fs::create_dir(place.place.join("tmp")).expect("is made");
    let waiting = start_batch(
        &place,
        "export TMPDIR=$PWD/tmp; \"$1\" run w.yaml & echo $! > pid; wait $!; ls torc_output/scratch > left; \"$1\" restart",
    );
    until_lines(&place, "began", 2);
    let crew = scratch(&place);
    assert_eq!(crew.len(), 1, "{crew:?}");
    let pid = place.place.read("pid").trim().parse().expect("a process id");
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("it runs");
    until_lines(&place, "left", 1);
    assert_eq!(place.place.lines("left"), crew, "nobody was there to remove it");
    place.place.write("go", "");
    let ended: Ended = waiting.wait();
    let log = place.place.read("batch.log");
    ended.expect(0);
    assert!(log.contains("3 completed"), "{log}");
    assert_eq!(scratch(&place), [""; 0], "neither its own, nor that of the killed one");
    let tmp = fs::read_dir(place.place.join("tmp")).expect("it is there");
    assert_eq!(tmp.count(), 0);
}
