//! What a job's own sruns left behind in Slurm is ended before the job's end is told.
//!
//! An srun that is killed leaves its step running, on other nodes, too. Slurm is asked about a job that
//! called for the private srun, and about every gang; jobs that end at the same time share a question.
//! Invariant: each end that comes in goes out once, unchanged, whatever Slurm answers.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::watch;
use tokio::time::Instant;
use torc_core::ids::StepId;
use torc_core::traits::{StepEvent, StepEvents};

use super::sruns;
use crate::slurm::steps::{self, Listed};
use crate::slurm::{SlurmAllocation, host_name, hostlist, is_alive};

/// The step that the node workers themselves are.
pub(super) const WORKERS: &str = "torc_workers";

/// Pauses between two looks at steps that are being ended: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// After this time an end is told even if Slurm still shows a step, as for a node that does not answer.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long what an earlier crew has left may take to go: its keeper gives an srun 40 s.
const EARLIER_ENDS_WITHIN: Duration = Duration::from_secs(60);

/// What tells the steps of Slurm's that a job started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traces {
    /// The job's step.
    pub step: StepId,
    /// Its nodes, if they were its alone; otherwise none.
    pub whole_nodes: Vec<String>,
    /// The process ids on this host that the sruns had which it called for, as far as they are known.
    pub sruns: Vec<u32>,
}

/// Whose processes those of sruns are.
#[derive(Clone, Debug)]
pub(super) struct Host {
    /// This host's name, as srun tells it to Slurm.
    pub(super) name: String,
    /// Whether a process of this host has ended.
    pub(super) is_gone: fn(u32) -> bool,
}

impl Host {
    /// This host.
    pub(super) fn this() -> Self {
        Self { name: host_name(), is_gone: |pid| !is_alive(pid) }
    }
}

impl Traces {
    /// Whether a step of Slurm's is one that this job, which has ended, left behind.
    ///
    /// On nodes that were the job's alone any step is, unless the srun that started it lives: somebody else
    /// may have come to look.
    fn lead_to(&self, listed: &Listed, host: &Host) -> bool {
        if listed.name == WORKERS {
            return false;
        }
        let here = listed.srun.as_ref().filter(|(name, _)| *name == host.name).map(|(_, pid)| *pid);
        listed.name == sruns::name(self.step)
            || here.is_some_and(|pid| {
                self.sruns.contains(&pid) || ((host.is_gone)(pid) && self.has_all(&listed.nodes))
            })
    }

    fn has_all(&self, nodes: &str) -> bool {
        let nodes = hostlist::expand(nodes, hostlist::MOST_NODES).unwrap_or_default();
        !nodes.is_empty() && nodes.iter().all(|node| self.whole_nodes.contains(node))
    }
}

/// Ends the steps of Slurm's that jobs left behind, and returns when none is left, or some time after Slurm
/// has stopped to get any further. For jobs whose own node worker is gone.
pub async fn end_steps_of(allocation: &SlurmAllocation, jobs: &[Traces]) {
    let (host, at_latest) = (Host::this(), Instant::now() + PATIENCE);
    let mut pause = FIRST_PAUSE;
    while !jobs.is_empty() && Instant::now() < at_latest {
        match steps::list(allocation).await {
            Ok(listed) => {
                let is_left =
                    |step: &&Listed| jobs.iter().any(|traces| traces.lead_to(step, &host));
                let left: Vec<u32> =
                    listed.iter().filter(is_left).map(|step| step.number).collect();
                if left.is_empty() {
                    return;
                }
                steps::signal(allocation, Signal::SIGKILL as i32, &left).await;
            }
            Err(error) => tracing::warn!(%error, "it is not known whether jobs left steps behind"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Ends what an earlier crew of this allocation has left, whose leader was killed, and returns when none of it is
/// there any more, or some time after: the srun of its workers, and steps that their jobs had started.
pub async fn clear_earlier(allocation: &SlurmAllocation) {
    let (host, at_latest) = (Host::this(), Instant::now() + EARLIER_ENDS_WITHIN);
    let mut pause = FIRST_PAUSE;
    while Instant::now() < at_latest {
        match steps::list(allocation).await {
            Ok(listed) => {
                let left = left_by_earlier(&listed, &host);
                if left.is_none() {
                    return;
                }
                steps::signal(allocation, Signal::SIGKILL as i32, &left.unwrap_or_default()).await;
            }
            Err(error) => tracing::warn!(%error, "it is not known what an earlier torc has left"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    tracing::warn!("steps of an earlier torc are still there, and are not waited for any longer");
}

/// The steps to be killed now; `None`: nothing is left to wait for. Workers whose srun lives are ended by its keeper;
/// once they are gone, nobody watches over the steps of their jobs.
fn left_by_earlier(listed: &[Listed], host: &Host) -> Option<Vec<u32>> {
    let (workers, others): (Vec<&Listed>, Vec<&Listed>) =
        listed.iter().partition(|step| step.name == WORKERS);
    let of_jobs = others.into_iter().filter(|step| sruns::is_of_a_job(&step.name));
    let of_jobs: Vec<u32> = of_jobs.map(|step| step.number).collect();
    if workers.is_empty() {
        return (!of_jobs.is_empty()).then_some(of_jobs);
    }
    let is_orphan = |step: &&Listed| {
        let srun = step.srun.as_ref().filter(|(name, _)| *name == host.name);
        srun.is_some_and(|(_, pid)| (host.is_gone)(*pid))
    };
    Some(workers.into_iter().filter(is_orphan).map(|step| step.number).collect())
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
pub(super) fn start(allocation: SlurmAllocation, events: Arc<dyn StepEvents>) -> (Gate, Arc<Held>) {
    let (ends, inbox) = tokio::sync::mpsc::unbounded_channel();
    let held = Arc::new(Held::new());
    let task = Sweep {
        allocation,
        host: Host::this(),
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
            Ok(listed) => Some(listed),
            Err(error) => {
                tracing::warn!(%error, "it is not known whether jobs left steps behind; asked again");
                None
            }
        };
        let mut left = Vec::new();
        for (ended, at_latest) in std::mem::take(&mut self.waiting) {
            let numbers = listed.as_ref().map(|listed| self.left_of(&ended, listed));
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

    fn left_of(&self, ended: &Ended, listed: &[Listed]) -> Vec<u32> {
        let left = listed.iter().filter(|step| ended.traces.lead_to(step, &self.host));
        left.map(|step| step.number).collect()
    }

    fn tell(&self, ended: Ended) {
        self.held.remove(ended.traces.step);
        self.events.emit(ended.event);
    }
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
    use super::*;

    fn listed(name: &str, nodes: &str, host: &str, pid: u32) -> Listed {
        let srun = Some((host.to_owned(), pid));
        Listed { number: 1, name: name.to_owned(), nodes: nodes.to_owned(), srun }
    }

    #[test]
    fn steps_are_known_by_their_names_their_sruns_or_their_nodes() {
        let host = Host { name: "here".to_owned(), is_gone: |pid| pid < 100 };
        let step: StepId = "wf1_j2_r1_a1".parse().expect("a step");
        let single = Traces { step, whole_nodes: Vec::new(), sruns: vec![7, 107] };
        let nodes = ["node3", "node4"].map(str::to_owned).to_vec();
        let gang = Traces { step, whole_nodes: nodes, sruns: Vec::new() };
        let check = |traces: &Traces, listed: &Listed, expected: bool| {
            assert_eq!(traces.lead_to(listed, &host), expected, "{traces:?} {listed:?}");
        };
        for traces in [&single, &gang] {
            check(traces, &listed("torc_wf1_j2_r1_a1", "node1", "there", 900), true);
            check(traces, &listed("torc_wf1_j2_r1_a11", "node1", "there", 7), false);
            check(traces, &listed("torc_workers", "node3", "here", 7), false);
            check(traces, &listed("mine", "node1", "here", 8), false);
            check(traces, &Listed { srun: None, ..listed("mine", "node3", "", 0) }, false);
        }
        check(&single, &listed("mine", "node1", "here", 7), true);
        check(&single, &listed("mine", "node1", "here", 107), true);
        check(&single, &listed("mine", "node1", "there", 7), false);
        check(&gang, &listed("mine", "node[3-4]", "here", 7), true);
        check(&gang, &listed("mine", "node4", "here", 7), true);
        check(&gang, &listed("mine", "node[2-4]", "here", 7), false);
        check(&gang, &listed("mine", "node4", "here", 200), false);
        check(&gang, &listed("mine", "node4", "login", 7), false);
        check(&gang, &listed("mine", "", "here", 7), false);
    }

    #[test]
    fn what_an_earlier_crew_left_goes_in_its_order() {
        let step = |number, name: &str, pid| Listed {
            number,
            name: name.to_owned(),
            nodes: "n1".to_owned(),
            srun: Some(("here".to_owned(), pid)),
        };
        let host = Host { name: "here".to_owned(), is_gone: |pid| pid > 100 };
        let left = |steps: &[Listed]| left_by_earlier(steps, &host);
        let others = [step(0, "mine", 200), step(1, "wf1_j1_r1_a1", 200)];
        assert_eq!(left(&others), None, "a user's, and one of mode slurm");
        let job = step(2, "torc_wf1_j1_r1_a1", 200);
        let (ending, orphan) = (step(3, WORKERS, 1), step(4, WORKERS, 200));
        assert_eq!(left(&[ending.clone(), job.clone()]), Some(vec![]), "its keeper ends it");
        assert_eq!(left(&[orphan, ending, job.clone()]), Some(vec![4]));
        assert_eq!(left(&[job]), Some(vec![2]));
    }
}
