//! Mode direct on a real Slurm: what it leaves behind, whatever goes wrong, how it begins where Slurm does not answer at
//! once, and what commands of actions see.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use torc_tests::{
    Cluster, ClusterPlace, Ended, RUN_PATIENCE, Started, nodes, outcome, processes, torc,
};

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

/// The worker of a node of the only crew.
fn node_worker(place: &ClusterPlace<'_>, node: &str) -> Pid {
    let wanted = format!("SLURMD_NODENAME={node}");
    let is_there = |pid: &Pid| {
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        name.trim() == "torc"
            && environ.split(|byte| *byte == 0).any(|one| one == wanted.as_bytes())
    };
    let scratch = place.place.join("torc_output/scratch");
    let found = processes(&format!("node-worker .*--scratch {}/", scratch.display()));
    // Its keeper is the same program.
    *found.iter().filter(|pid| is_there(pid)).min().unwrap_or_else(|| panic!("no worker on {node}"))
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

/// What a job does that needs so much: the first time it starts a step of the name `mine` in this way, and is held; the
/// second time it writes down which steps there are.
#[track_caller]
fn a_killed_workers_job_leaves_no_step(needs: &str, start: &str) {
    let Some(cluster) = Cluster::acquire() else { return };
    let job = format!("- {{name: job, command: 'bash job.sh', resource_requirements: {needs}}}");
    let place = cluster.place(&spec(&job));
    place.place.write(
        "job.sh",
        format!(
            "steps() {{ squeue --steps --noheader --format=%j --jobs $SLURM_JOB_ID; }}
if [ -e first ]; then
    steps > second
else
    {start} &
    until steps | grep -qx mine; do sleep 0.1; done
    echo > first
fi
until [ -e go ]; do sleep 0.1; done
"
        ),
    );
    let waiting = place.start_and_wait();
    until_lines(&place, "first", 1);
    let attempt = place.place.attempts("job")[0].clone();
    kill(node_worker(&place, nodes(&attempt)[0]), Signal::SIGKILL).expect("it is there");
    until_lines(&place, "second", 1);
    place.place.write("go", "");
    waiting.wait().expect(0).says("1 completed");
    let mut second = place.place.lines("second");
    second.sort_unstable();
    assert_eq!(second, ["batch", "torc_workers"], "none was left");
    assert_eq!(outcome(&place.place.attempts("job")[0]), "lost");
    assert_eq!(scratch(&place), [""; 0], "nothing is left in the state directory either");
}

#[test]
fn what_a_killed_workers_job_called_for_is_ended_before_it_runs_again() {
    a_killed_workers_job_leaves_no_step("one", "srun --job-name=mine sleep 1000");
}

/// The nodes of the cluster share a host, and so a name; it is given another here, as on hosts of their own.
#[test]
fn what_a_killed_workers_gang_started_is_ended_wherever_its_srun_was() {
    a_killed_workers_job_leaves_no_step(
        "wide",
        "other=$(sed -n 2p $TORC_HOSTFILE)
    unshare --uts bash -c 'hostname $0; exec \"$@\"' $other $(type -ap srun | sed -n 2p) --overlap \\
        --job-name=mine --nodes=1 --ntasks=1 --nodelist=$other sleep 1000",
    );
}

#[test]
fn commands_of_actions_see_what_a_job_of_their_node_sees() {
    let Some(cluster) = Cluster::acquire() else { return };
    let job = "- {name: job, command: 'until test -e go; do sleep 0.1; done', resource_requirements: one}";
    let command = "echo ${SLURM_PROCID-no} ${SLURM_STEP_ID-no} $SLURM_JOB_NODELIST $SLURM_CPUS_ON_NODE \
                   $CUDA_VISIBLE_DEVICES; srun printenv SLURM_STEP_NODELIST";
    let place = cluster.place(&spec(job).replace(
        "actions: [",
        &format!(
            "actions: [{{trigger_type: on_worker_start, action_type: run_commands, persistent: true, \
             commands: ['{command}']}}, "
        ),
    ));
    let waiting = place.start_and_wait();
    for name in ["node1", "node2", "node3", "node4"] {
        let log = format!("torc_output/job_stdio/action_wf1_r1_x1_al1_{name}.log");
        until_lines(&place, &log, 2);
        assert_eq!(place.place.read(&log), format!("no no {name} 8 0,1\n{name}\n"));
    }
    place.place.write("go", "");
    waiting.wait().expect(0).says("1 completed");
}

/// A folder of Slurm's programs whose srun cannot start the workers of the nodes so many times.
fn hesitant_slurm(place: &ClusterPlace<'_>, times: u32) -> PathBuf {
    let folder = place.place.join("slurm");
    fs::create_dir(&folder).expect("is made");
    let found = |name: &str| {
        let path = std::env::var_os("PATH").expect("a path");
        let mut files = std::env::split_paths(&path).map(|folder| folder.join(name));
        files.find(|file| file.is_file()).expect("is installed")
    };
    for name in ["sbatch", "squeue", "scontrol", "scancel", "sacct", "sacctmgr", "sinfo"] {
        symlink(found(name), folder.join(name)).expect("is made");
    }
    let tried = place.place.join("tried");
    let srun = format!(
        "#!/bin/bash
case \"$*\" in *--job-name=torc_workers*)
    echo >> {tried}
    if [ \"$(wc -l < {tried})\" -le {times} ]; then
        echo 'srun: error: Unable to create step for job 7: Socket timed out on send/recv operation' >&2
        exit 1
    fi ;;
esac
exec {real} \"$@\"
",
        tried = tried.display(),
        real = found("srun").display()
    );
    place.place.write("slurm/srun", srun);
    let program = fs::Permissions::from_mode(0o755);
    fs::set_permissions(folder.join("srun"), program).expect("is a program");
    folder
}

#[test]
fn workers_that_cannot_be_started_now_are_started_later() {
    let Some(cluster) = Cluster::acquire() else { return };
    let job = "- {name: wide, command: 'srun -N2 -n2 true', resource_requirements: wide}\n- {name: 'j{i}', \
               command: 'sleep 0.1', resource_requirements: one, parameters: {i: '1:8'}}";
    let place = cluster.place(&spec(job));
    let programs = hesitant_slurm(&place, 1).to_string_lossy().into_owned();
    place.place.set_env([("TORC_SLURM_PROGRAMS".to_owned(), programs)]);
    place.submit_and_wait().expect(0).says("9 completed");
    assert_eq!(place.place.lines("tried").len(), 2, "all nodes at once, both times");
    assert_eq!(place.place.results().len(), 9, "nothing was lost");
}
