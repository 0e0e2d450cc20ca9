//! What tests of runs inside an allocation share: jobs that can be held, and ways to come inside.
//!
//! Each file that these jobs write to has a line for each time that it happened, with the job's name.

use std::fs;
use std::process::Command;

use nix::unistd::Pid;

use crate::{Cluster, ClusterPlace, Ended, RUN_PATIENCE, Started, nodes, number, torc};

/// Jobs are asked to end 15 seconds before the end of the allocation.
const EXECUTION: &str =
    "execution_config: {srun_termination_signal: TERM@5, sigkill_headroom_seconds: 10}";

/// A spec of jobs of these kinds.
pub fn spec(jobs: &str) -> String {
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
pub fn held(name: &str, needs: &str) -> String {
    format!(
        "- {{name: {name}, resource_requirements: {needs}, command: 'trap \"echo $TORC_JOB_NAME >> asked; exit 9\" \
         TERM; echo $TORC_JOB_NAME >> began; until test -e go; do sleep 0.1; done; \
         echo $TORC_JOB_NAME >> done'}}\n"
    )
}

/// The last of the jobs was given its place by one that had ended.
///
/// # Panics
/// When it was not, or nothing ran.
#[track_caller]
pub fn assert_last_waited(place: &ClusterPlace<'_>) {
    let attempts = place.place.results();
    let last = attempts.iter().map(|attempt| number(attempt, "dispatched_at")).max();
    let first_end = attempts.iter().map(|attempt| number(attempt, "ended_at")).min();
    assert!(last.is_some() && last >= first_end, "{attempts:?}");
}

/// A job that ends at once.
pub fn quick(name: &str) -> String {
    format!(
        "- {{name: {name}, resource_requirements: half, command: 'echo $TORC_JOB_NAME >> done'}}\n"
    )
}

/// A command that salloc runs beside an allocation of two nodes for so many minutes: on no node of it.
pub fn beside(place: &ClusterPlace<'_>, minutes: u32, words: &[&str]) -> Command {
    let mut command = Command::new("salloc");
    place.place.prepare(&mut command);
    let minutes = format!("--time={minutes}");
    command.args(["--account=science", "--nodes=2", "--exclusive", "--mem=0", "--no-kill"]);
    command.arg(&minutes).args(words);
    command
}

/// `torc` with these words, in a shell of salloc.
///
/// # Panics
/// When salloc cannot be started.
#[track_caller]
pub fn start_beside(place: &ClusterPlace<'_>, minutes: u32, words: &[&str]) -> Started {
    let torc = torc().to_str().expect("a path");
    Started::start_for(beside(place, minutes, &[&[torc], words].concat()), RUN_PATIENCE)
}

/// A batch script that ends with this command, from its submission to its end. What it printed, and with
/// what it ended.
pub struct Batch<'c> {
    cluster: &'c Cluster,
    /// Slurm's number of it.
    pub job: String,
    submitted: Started,
}

impl<'c> Batch<'c> {
    /// Submits it.
    ///
    /// # Panics
    /// When sbatch does not take it.
    #[track_caller]
    pub fn submit(place: &ClusterPlace<'c>, minutes: u32, last: &str) -> Self {
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
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    pub fn wait(self) -> Ended {
        self.submitted.wait()
    }

    /// Changes its job.
    ///
    /// # Panics
    /// When Slurm does not allow it.
    #[track_caller]
    pub fn update(&self, what: &str) {
        let job = format!("JobId={}", self.job);
        self.cluster.slurm("scontrol", &["update", &job, what]).expect(0);
    }
}

/// The nodes on which attempts ran, without repeats.
///
/// # Panics
/// When torc does not tell.
#[track_caller]
pub fn used(place: &ClusterPlace<'_>) -> Vec<String> {
    let attempts = place.place.results();
    let mut used: Vec<String> = attempts.iter().flat_map(nodes).map(str::to_owned).collect();
    used.sort_unstable();
    used.dedup();
    used
}

/// The lines of a file that jobs wrote, sorted.
pub fn sorted(place: &ClusterPlace<'_>, file: &str) -> Vec<String> {
    let mut lines = place.place.lines(file);
    lines.sort_unstable();
    lines
}

/// Waits until so many jobs have begun.
///
/// # Panics
/// When they do not begin.
#[track_caller]
pub fn until_begun(place: &ClusterPlace<'_>, count: usize) {
    let begun = || fs::read_to_string(place.place.join("began")).unwrap_or_default();
    place.until("the beginning of the jobs", || (begun().lines().count() >= count).then_some(()));
}

/// The process that a shell of the test's left word of.
///
/// # Panics
/// When there is none.
#[track_caller]
pub fn pid_in(place: &ClusterPlace<'_>) -> Pid {
    Pid::from_raw(place.place.read("pid").trim().parse().expect("a process id"))
}

/// A scheduler of two nodes, and an action that asks for it; its nodes take so many jobs at once.
pub fn asking(schedulers: &[(&str, u32)]) -> String {
    let part = |line: &dyn Fn(&str, u32) -> String| {
        schedulers.iter().map(|(name, most)| line(name, *most)).collect::<String>()
    };
    let settings = part(&|name, _| {
        format!("- {{name: {name}, account: science, nodes: 2, walltime: '00:10:00'}}\n")
    });
    let actions = part(&|name, most| {
        format!(
            "- {{trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: {name}, \
             max_parallel_jobs: {most}}}\n"
        )
    });
    format!("slurm_schedulers:\n{settings}actions:\n{actions}")
}

/// The same spec in mode direct, whose jobs end 12 seconds before the end of the allocation.
pub fn direct(spec: &str) -> String {
    spec.replace(
        EXECUTION,
        "execution_config: {mode: direct, sigterm_lead_seconds: 5, sigkill_headroom_seconds: 7}",
    )
}
