//! What is asked and told about steps of the Slurm job: numbers by name, signals, limits.
//!
//! Thin: one command each, in batches. It keeps no books.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;
use torc_core::ids::StepId;

use super::allocation::SlurmAllocation;
use super::command::{Call, CommandError};
use super::evidence::is_about_communication;

/// Steps that are named in one command.
const BATCH: usize = 200;

/// How often a signal is sent when the controller does not answer.
const TRIES: u32 = 5;

const PAUSE: Duration = Duration::from_secs(3);

/// More than a keeper gives its sruns.
const END_WITHIN: Duration = Duration::from_secs(45);

const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// The numbers of the allocation's steps, by name.
///
/// # Errors
/// When Slurm cannot be asked now.
pub(super) async fn numbers(
    allocation: &SlurmAllocation,
) -> Result<HashMap<String, u32>, CommandError> {
    let args = ["--noheader", "--steps", "--jobs", allocation.job(), "--format", "%i|%j"];
    let answer = allocation.programs().run(Call::new("squeue", args)).await?;
    Ok(answer.text()?.lines().filter_map(number).collect())
}

/// `41.7|wf1_j2_r1_a1`; the batch script's step has no number.
fn number(line: &str) -> Option<(String, u32)> {
    let (id, name) = line.trim().split_once('|')?;
    let (_, number) = id.rsplit_once('.')?;
    Some((name.to_owned(), number.parse().ok()?))
}

/// Sends a signal to all processes of these steps. A step that has ended, or whose tasks have, is no
/// error: scancel complains about some that it has signalled, and about none that are gone.
pub(crate) async fn signal(allocation: &SlurmAllocation, signal: i32, numbers: &[u32]) {
    for batch in numbers.chunks(BATCH) {
        let mut args = vec![format!("--signal={signal}")];
        args.extend(batch.iter().map(|number| format!("{}.{number}", allocation.job())));
        let mut tries = 1;
        while let Err(error) =
            allocation.programs().run(Call::new("scancel", args.iter().cloned())).await
        {
            let is_unheard = match error.stderr() {
                Some(words) => is_about_communication(words),
                None => matches!(error, CommandError::TimedOut { .. }),
            };
            if !is_unheard || tries == TRIES {
                tracing::debug!(%error, signal, ?batch, "scancel");
                break;
            }
            tracing::warn!(%error, signal, ?batch, "a signal may not have been heard, and is sent again");
            tries += 1;
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Sets how long a step may run, from its start on, rounded up to minutes (scontrol(1), TimeLimit).
pub(super) async fn set_limit(allocation: &SlurmAllocation, number: u32, limit: Duration) {
    let step = format!("StepId={}.{number}", allocation.job());
    let limit = format!("TimeLimit={}", limit.as_secs().div_ceil(60).max(1));
    let call = Call::new("scontrol", ["update", &step, &limit]);
    if let Err(error) = allocation.programs().run(call).await {
        tracing::warn!(%error, "a step keeps a time limit from before its allocation was extended");
    }
}

/// Kills what an earlier executor of this host left behind in the allocation: steps of torc's whose srun
/// is gone. Such a step would hold its resources until the allocation ends.
pub(super) async fn clear(
    allocation: &SlurmAllocation,
    host: &str,
    is_alive: impl Fn(u32) -> bool,
) {
    // There is no step, most often.
    let Ok(listed) = list(allocation).await else { return };
    let left = orphans(&listed, host, is_alive);
    if !left.is_empty() {
        tracing::warn!(steps = ?left, "steps of an earlier torc are killed: their srun is gone");
        signal(allocation, nix::sys::signal::Signal::SIGKILL as i32, &left).await;
    }
}

/// Waits until no step of these names is left in the allocation: the keeper of an earlier executor ends its
/// sruns within some time, and what they started must not run beside its next launch. Slurm may be slow, or
/// they may be another torc's; then nothing is gained by waiting on.
pub(super) async fn wait_for_end(allocation: &SlurmAllocation, names: &[String]) {
    if names.is_empty() {
        return;
    }
    let deadline = Instant::now() + END_WITHIN;
    while Instant::now() < deadline {
        let Ok(there) = numbers(allocation).await else { return };
        if !names.iter().any(|name| there.contains_key(name)) {
            return;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    tracing::warn!("steps of an earlier torc are still there, and are not waited for any longer");
}

/// An srun, as Slurm knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Srun {
    /// The host that it runs on, without a domain.
    pub host: String,
    /// Its process id there.
    pub pid: u32,
}

/// A step of the allocation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Its number within the Slurm job.
    pub(crate) number: u32,
    /// The first word of its name.
    pub(crate) name: String,
    /// Its nodes, as a host list.
    pub(crate) nodes: String,
    /// What started it.
    pub(crate) srun: Option<Srun>,
}

/// The allocation's steps that have numbers.
///
/// # Errors
/// When Slurm cannot be asked now.
pub(crate) async fn list(allocation: &SlurmAllocation) -> Result<Vec<Listed>, CommandError> {
    let call = Call::new("scontrol", ["show", "step", allocation.job()]);
    match allocation.programs().run(call).await {
        Ok(answer) => Ok(listed(answer.text()?)),
        // It says so in this way that there is no step, or no such job any more.
        Err(CommandError::Failed { stderr, .. }) if !is_about_communication(&stderr) => {
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}

/// Reads `scontrol show step`.
fn listed(text: &str) -> Vec<Listed> {
    let mut found: Vec<Listed> = Vec::new();
    let mut is_numbered = false;
    for word in text.split_whitespace() {
        if let Some(id) = word.strip_prefix("StepId=") {
            let number = id.rsplit_once('.').and_then(|(_, number)| number.parse().ok());
            is_numbered = number.is_some();
            found.extend(number.map(|number| Listed { number, ..Listed::default() }));
        }
        let Some(step) = found.last_mut().filter(|_| is_numbered) else { continue };
        if let Some(name) = word.strip_prefix("Name=") {
            name.clone_into(&mut step.name);
        } else if let Some(nodes) = word.strip_prefix("NodeList=") {
            nodes.clone_into(&mut step.nodes);
        } else if let Some((host, pid)) =
            word.strip_prefix("SrunHost:Pid=").and_then(|srun| srun.rsplit_once(':'))
        {
            step.srun = pid.parse().ok().map(|pid| Srun { host: host.to_owned(), pid });
        }
    }
    found
}

/// The numbers of torc's steps that were started by a process of `host` that is gone.
fn orphans(listed: &[Listed], host: &str, is_alive: impl Fn(u32) -> bool) -> Vec<u32> {
    let is_orphan = |step: &&Listed| {
        step.name.parse::<StepId>().is_ok()
            && step.srun.as_ref().is_some_and(|srun| srun.host == host && !is_alive(srun.pid))
    };
    listed.iter().filter(is_orphan).map(|step| step.number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read() {
        let check = |line: &str, expected: Option<(&str, u32)>| {
            let expected = expected.map(|(name, number)| (name.to_owned(), number));
            assert_eq!(number(line), expected, "{line}");
        };
        check("41.7|wf1_j2_r1_a1", Some(("wf1_j2_r1_a1", 7)));
        check("41_3.12|a|b", Some(("a|b", 12)));
        check("41.batch|batch", None);
        check("41.extern|extern", None);
        check("", None);
    }

    #[test]
    fn steps_without_an_srun_are_found() {
        let step = |number: &str, name: &str, srun: &str| {
            format!(
                "StepId=41.{number} UserId=0 StartTime=x TimeLimit=UNLIMITED\n   State=RUNNING Partition=p NodeList=n\n   Nodes=1 CPUs=2 Tasks=1 Name={name} Network=(null)\n   SrunHost:Pid={srun}\n   TresPerStep=cpu:2\n\n"
            )
        };
        let text = [
            step("0", "wf1_j1_r1_a1", "here:10"),
            step("1", "wf1_j2_r1_a1", "here:11"),
            step("2", "wf1_j3_r1_a1", "there:10"),
            step("3", "bash", "here:10"),
            step("batch", "wf1_j4_r1_a1", "here:10"),
            step("5", "wf1_j5_r1_a1", "here:x"),
        ];
        let found = listed(&text.concat());
        assert_eq!(orphans(&found, "here", |pid| pid == 11), [0]);
        let numbers: Vec<u32> = found.iter().map(|step| step.number).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 5]);
        let (nodes, srun) = (found[2].nodes.as_str(), found[2].srun.clone());
        assert_eq!((nodes, srun), ("n", Some(Srun { host: "there".to_owned(), pid: 10 })));
        assert_eq!(listed("Job 41 has no steps"), []);
    }
}
