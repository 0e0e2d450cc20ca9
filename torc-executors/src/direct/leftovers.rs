//! What a job's own sruns left behind in Slurm is ended before the job's end is told.
//!
//! An srun that is killed leaves its step running, on other nodes, too. Slurm is asked about a job that
//! called for the private srun, and about every gang; jobs that end at the same time share a question. What tells whose
//! a step is lies in the crew's folder, so that any of its hosts can tell.
//! Invariant: each end that comes in goes out once, unchanged, whatever Slurm answers.

use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::watch;
use tokio::time::Instant;
use torc_core::ids::StepId;
use torc_core::traits::{StepEvent, StepEvents};

use super::notes::Notes;
use super::traces::{Finding, Host, Hosts, Traces, WORKERS};
use super::{folder, sruns};
use crate::slurm::SlurmAllocation;
use crate::slurm::steps::{self, Listed, Srun};

/// Pauses between two looks at steps that are being ended: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// After this time an end is told even if Slurm still shows a step, as for a node that does not answer.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long what an earlier crew has left may take to go: its keeper gives an srun 40 s.
const EARLIER_ENDS_WITHIN: Duration = Duration::from_secs(60);

/// How long workers whose srun is gone may take to end before others are started.
const ORPHANS_END_WITHIN: Duration = Duration::from_secs(20);

/// How long a job whose node worker is gone may take to be killed: its keeper does that at once.
const KILLED_WITHIN: Duration = Duration::from_secs(5);

/// A job may start a step in the moment in which it is killed: one look more than finds nothing.
const LOOKS_AT_LEAST: u32 = 2;

/// Kills the chosen ones of an allocation's steps, again and again. True once there is nothing more to choose; false
/// when so much time has passed before.
async fn kill(
    allocation: &SlurmAllocation,
    within: Duration,
    mut choose: impl FnMut(&[Listed]) -> Option<Vec<u32>>,
) -> bool {
    let at_latest = Instant::now() + within;
    let mut pause = FIRST_PAUSE;
    while Instant::now() < at_latest {
        match steps::list(allocation).await {
            Ok(listed) => {
                let Some(chosen) = choose(&listed) else { return true };
                if !chosen.is_empty() {
                    steps::signal(allocation, Signal::SIGKILL as i32, &chosen).await;
                }
            }
            Err(error) => tracing::warn!(%error, "it is not known which steps were left behind"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    false
}

/// Ends the steps of Slurm's that jobs left behind, and returns when none is left, or some time after Slurm
/// has stopped to get any further. For jobs whose own node worker is gone, of the crew that has this folder.
pub async fn end_steps_of(allocation: &SlurmAllocation, crew: &Path, jobs: &[Traces]) {
    if jobs.is_empty() {
        return;
    }
    let (host, notes) = (Host::this(), Notes::of(crew));
    let noted = |traces: &Traces| {
        let mut traces = traces.clone();
        traces.sruns.extend(notes.called_by(traces.step).unwrap_or_default());
        traces
    };
    let killed_by = Instant::now() + KILLED_WITHIN;
    let mut looks = 0;
    let is_done = kill(allocation, PATIENCE, |listed| {
        // Until they are killed they may call for more.
        let jobs: Vec<Traces> = jobs.iter().map(noted).collect();
        let hosts = Hosts::of(&host, &notes, listed);
        looks += 1;
        let left = left_by(&jobs, listed, &hosts, Instant::now() < killed_by);
        left.or((looks < LOOKS_AT_LEAST).then(Vec::new))
    });
    if !is_done.await {
        let steps: Vec<StepId> = jobs.iter().map(|traces| traces.step).collect();
        tracing::warn!(?steps, "what these have left may run on");
    }
}

/// The steps to be killed now; `None`: nothing is left to wait for. Whether the jobs may not have been killed yet.
fn left_by(jobs: &[Traces], listed: &[Listed], hosts: &Hosts, may_live: bool) -> Option<Vec<u32>> {
    let found = |step: &Listed, finding| jobs.iter().any(|job| job.find(step, hosts) == finding);
    let left = listed.iter().filter(|step| found(step, Finding::Left));
    let left: Vec<u32> = left.map(|step| step.number).collect();
    let is_over =
        left.is_empty() && !(may_live && listed.iter().any(|step| found(step, Finding::Watched)));
    (!is_over).then_some(left)
}

/// Ends what an earlier crew of this allocation has left, whose leader was killed and whose folder is below this one,
/// and returns when none of it is there any more, or some time after: the srun of its workers, and steps that their
/// jobs had started.
pub async fn clear_earlier(allocation: &SlurmAllocation, below: &Path) {
    let host = Host::this();
    let crews = folder::of_job(below, allocation.job());
    let crews: Vec<Notes> = crews.iter().map(|crew| Notes::of(crew)).collect();
    let is_done = kill(allocation, EARLIER_ENDS_WITHIN, |listed| {
        // Its jobs may be calling for more until they are killed.
        let sruns: Vec<Srun> = crews.iter().flat_map(Notes::all).collect();
        left_by_earlier(listed, &host, &sruns)
    });
    if !is_done.await {
        tracing::warn!(
            "steps of an earlier torc are still there, and are not waited for any longer"
        );
    }
}

/// The steps to be killed now; `None`: nothing is left to wait for. Workers whose srun lives are ended by its keeper;
/// once they are gone, nobody watches over the steps of their jobs, which called for these sruns.
fn left_by_earlier(listed: &[Listed], host: &Host, sruns: &[Srun]) -> Option<Vec<u32>> {
    let (workers, others): (Vec<&Listed>, Vec<&Listed>) =
        listed.iter().partition(|step| step.name == WORKERS);
    let is_of_a_job = |step: &&Listed| {
        sruns::started_by(&step.name).is_some()
            || sruns::is_of_a_command(&step.name)
            || step.srun.as_ref().is_some_and(|srun| sruns.contains(srun))
    };
    let of_jobs: Vec<u32> =
        others.into_iter().filter(is_of_a_job).map(|step| step.number).collect();
    if workers.is_empty() {
        return (!of_jobs.is_empty()).then_some(of_jobs);
    }
    Some(orphans(&workers, host))
}

/// The steps whose srun was on this host, and is gone.
fn orphans(steps: &[&Listed], host: &Host) -> Vec<u32> {
    let is_orphan = |step: &&&Listed| step.srun.as_ref().is_some_and(|srun| host.is_gone(srun));
    steps.iter().filter(is_orphan).map(|step| step.number).collect()
}

/// Ends workers of nodes that an srun has left which is gone, and returns when none is left, or some time after: before
/// others are started in their place.
pub async fn end_orphaned_workers(allocation: &SlurmAllocation) {
    let host = Host::this();
    let is_done = kill(allocation, ORPHANS_END_WITHIN, |listed| {
        let workers: Vec<&Listed> = listed.iter().filter(|step| step.name == WORKERS).collect();
        let left = orphans(&workers, &host);
        (!left.is_empty()).then_some(left)
    });
    if !is_done.await {
        tracing::warn!(
            "workers whose srun is gone are still there, and are not waited for any longer"
        );
    }
}

/// A job that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// What it may have left behind.
    pub(super) traces: Traces,
    /// What is to be told.
    pub(super) event: StepEvent,
}

/// The jobs whose ends are held back.
#[derive(Debug)]
pub(super) struct Held {
    steps: Mutex<HashSet<StepId>>,
    count: watch::Sender<usize>,
    is_slurms_matter: AtomicBool,
}

impl Held {
    /// None.
    pub(super) fn new() -> Self {
        let count = watch::Sender::new(0);
        Self { steps: Mutex::default(), count, is_slurms_matter: AtomicBool::new(false) }
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<StepId>> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn insert(&self, step: StepId) {
        self.lock().insert(step);
        self.count.send_modify(|count| *count += 1);
    }

    fn remove(&self, step: StepId) {
        self.lock().remove(&step);
        self.count.send_modify(|count| *count -= 1);
    }

    /// Whether the end of this step is held back.
    pub(super) fn contains(&self, step: StepId) -> bool {
        self.lock().contains(&step)
    }

    /// Slurm takes the allocation away, with all that is left: no end need be held back any more.
    pub(super) fn leave_to_slurm(&self) {
        self.is_slurms_matter.store(true, Ordering::Release);
        // Wakes up who waits to look again.
        self.count.send_modify(|_| ());
    }

    /// Whether no end need be held back any more.
    pub(super) fn is_left_to_slurm(&self) -> bool {
        self.is_slurms_matter.load(Ordering::Acquire)
    }

    /// Returns once no end need be held back any more.
    async fn left_to_slurm(&self) {
        // The sender lives as long as this.
        let _ = self.count.subscribe().wait_for(|_| self.is_left_to_slurm()).await;
    }

    /// Returns once no end is held back.
    pub(super) async fn none_left(&self) {
        // The sender lives as long as this.
        let _ = self.count.subscribe().wait_for(|&count| count == 0).await;
    }
}

/// The way in for ends.
#[derive(Clone)]
pub(super) struct Gate {
    held: Arc<Held>,
    ends: UnboundedSender<Ended>,
    events: Arc<dyn StepEvents>,
}

impl Gate {
    /// Takes an end, which is told when nothing of its job is left.
    pub(super) fn take(&self, ended: Ended) {
        self.held.insert(ended.traces.step);
        if let Err(unsent) = self.ends.send(ended) {
            // The task has ended with its runtime.
            self.held.remove(unsent.0.traces.step);
            self.events.emit(unsent.0.event);
        }
    }
}

/// Starts the task that ends what is left of jobs, on the current runtime.
pub(super) fn start(
    allocation: SlurmAllocation,
    notes: Notes,
    events: Arc<dyn StepEvents>,
) -> (Gate, Arc<Held>) {
    let (ends, inbox) = tokio::sync::mpsc::unbounded_channel();
    let held = Arc::new(Held::new());
    let task = Sweep {
        allocation,
        host: Host::this(),
        notes,
        events: Arc::clone(&events),
        held: Arc::clone(&held),
        inbox,
        waiting: Vec::new(),
    };
    tokio::spawn(task.run());
    (Gate { held: Arc::clone(&held), ends, events }, held)
}

/// The task.
struct Sweep {
    allocation: SlurmAllocation,
    host: Host,
    notes: Notes,
    events: Arc<dyn StepEvents>,
    held: Arc<Held>,
    inbox: UnboundedReceiver<Ended>,
    /// With the time when each is told at the latest.
    waiting: Vec<(Ended, Instant)>,
}

impl Sweep {
    async fn run(mut self) {
        let held = Arc::clone(&self.held);
        let mut pause = FIRST_PAUSE;
        let mut is_closed = false;
        loop {
            let received = tokio::select! {
                received = self.inbox.recv(), if !is_closed => {
                    is_closed = received.is_none();
                    received
                }
                () = tokio::time::sleep(pause), if !self.waiting.is_empty() => None,
                () = held.left_to_slurm(), if !self.waiting.is_empty() => None,
                else => return,
            };
            pause = match received {
                Some(_) => FIRST_PAUSE,
                None => (pause * 2).min(LONGEST_PAUSE),
            };
            self.waiting.extend(received.map(entered));
            while let Ok(ended) = self.inbox.try_recv() {
                self.waiting.push(entered(ended));
            }
            tokio::select! {
                biased;
                () = self.look() => {}
                // While it waits for an answer all ends still wait here, so it may be left off.
                () = held.left_to_slurm() => {}
            }
        }
    }

    /// Asks once, ends what is left, and tells the ends of which nothing is.
    async fn look(&mut self) {
        if self.held.is_left_to_slurm() {
            return std::mem::take(&mut self.waiting)
                .into_iter()
                .for_each(|(ended, _)| self.tell(ended));
        }
        let listed = match steps::list(&self.allocation).await {
            Ok(listed) => Some((Hosts::of(&self.host, &self.notes, &listed), listed)),
            Err(error) => {
                tracing::warn!(%error, "it is not known whether jobs left steps behind; asked again");
                None
            }
        };
        let mut left = Vec::new();
        for (ended, at_latest) in std::mem::take(&mut self.waiting) {
            let numbers =
                listed.as_ref().map(|(hosts, listed)| left_of(&ended.traces, listed, hosts));
            if numbers.as_ref().is_some_and(Vec::is_empty) {
                self.tell(ended);
            } else if at_latest <= Instant::now() {
                tracing::warn!(step = %ended.traces.step, ?numbers, "what its sruns started may run on");
                self.tell(ended);
            } else {
                left.extend(numbers.into_iter().flatten());
                self.waiting.push((ended, at_latest));
            }
        }
        if !left.is_empty() {
            tracing::info!(steps = ?left, "steps that ended jobs have left behind are killed");
            steps::signal(&self.allocation, Signal::SIGKILL as i32, &left).await;
        }
    }

    fn tell(&self, ended: Ended) {
        self.held.remove(ended.traces.step);
        self.events.emit(ended.event);
    }
}

/// The steps that a job has left.
fn left_of(job: &Traces, listed: &[Listed], hosts: &Hosts) -> Vec<u32> {
    let left = listed.iter().filter(|step| job.find(step, hosts) == Finding::Left);
    left.map(|step| step.number).collect()
}

fn entered(ended: Ended) -> (Ended, Instant) {
    (ended, Instant::now() + PATIENCE)
}

/// No end is swallowed, if the task is dropped with its runtime.
impl Drop for Sweep {
    fn drop(&mut self) {
        for (ended, _) in std::mem::take(&mut self.waiting) {
            self.tell(ended);
        }
        while let Ok(ended) = self.inbox.try_recv() {
            self.tell(ended);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::traces::tests::{hosts, listed, srun, traces};
    use super::*;

    #[test]
    fn a_job_that_may_not_have_been_killed_yet_is_waited_for() {
        let jobs = [traces(&["node3", "node4"], &[]), traces(&[], &[("there", 8)])];
        let left = |steps: &[Listed], may_live| left_by(&jobs, steps, &hosts(), may_live);
        let step = |number, nodes, host, pid| Listed { number, ..listed("mine", nodes, host, pid) };
        let (watched, gone) = (step(1, "node4", "here", 200), step(2, "node4", "node4", 7));
        let (noted, other) = (step(3, "node1", "there", 8), step(4, "node1", "here", 7));
        assert_eq!(left(&[], true), None);
        assert_eq!(left(std::slice::from_ref(&other), true), None);
        assert_eq!(left(&[watched.clone(), other.clone()], true), Some(vec![]));
        assert_eq!(left(&[watched.clone(), other.clone()], false), None);
        assert_eq!(left(&[watched, gone, noted, other], true), Some(vec![2, 3]));
    }

    #[test]
    fn what_an_earlier_crew_left_goes_in_its_order() {
        let step = |number, name: &str, pid| Listed { number, ..listed(name, "n1", "here", pid) };
        let host = Host { name: "here".to_owned(), is_gone: |pid| pid > 100 };
        let left = |steps: &[Listed]| left_by_earlier(steps, &host, &[srun("here", 300)]);
        let others = [step(0, "mine", 200), step(1, "wf1_j1_r1_a1", 200)];
        assert_eq!(left(&others), None, "a user's, and one of mode slurm");
        assert_eq!(left(&[step(6, "torc_command", 200)]), Some(vec![6]));
        let (job, noted) = (step(2, "torc_wf1_j1_r1_a1", 200), step(5, "mine", 300));
        let (ending, orphan) = (step(3, WORKERS, 1), step(4, WORKERS, 200));
        assert_eq!(left(&[ending.clone(), job.clone()]), Some(vec![]), "its keeper ends it");
        assert_eq!(left(&[orphan, ending, job.clone()]), Some(vec![4]));
        assert_eq!(left(&[job, noted]), Some(vec![2, 5]));
    }
}
