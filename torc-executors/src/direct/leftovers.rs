//! What a job's own sruns left behind in Slurm is ended before the job's end is told.
//!
//! An srun that is killed leaves its step running, on other nodes, too. Slurm is asked about a job that
//! called for the private srun, and about every gang; jobs that end at the same time share a question.
//! Invariant: each end that comes in goes out once, unchanged, whatever Slurm answers.

use std::collections::HashSet;
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
use crate::slurm::{SlurmAllocation, hostlist};

/// The step that the node workers themselves are.
pub(super) const WORKERS: &str = "torc_workers";

/// Pauses between two looks at steps that are being ended: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// After this time an end is told even if Slurm still shows a step, as for a node that does not answer.
const PATIENCE: Duration = Duration::from_secs(120);

/// A job that has ended, and what tells its steps.
#[derive(Debug)]
pub(super) struct Ended {
    /// The job's step.
    pub(super) step: StepId,
    /// Its nodes, if they were its alone.
    pub(super) whole_nodes: Vec<String>,
    /// The process ids that the sruns had which it called for.
    pub(super) sruns: Vec<u32>,
    /// What is to be told.
    pub(super) event: StepEvent,
}

impl Ended {
    /// Whether a step of Slurm's is one of this job's; `is_gone`: whether a process of a host has ended.
    fn has_left(&self, listed: &Listed, host: &str, is_gone: impl Fn(u32) -> bool) -> bool {
        if listed.name == WORKERS {
            return false;
        }
        if listed.name == sruns::name(self.step) {
            return true;
        }
        let Some((_, pid)) = listed.srun.as_ref().filter(|(its_host, _)| its_host == host) else {
            return false;
        };
        self.sruns.contains(pid) || (is_gone(*pid) && self.has_all(&listed.nodes))
    }

    fn has_all(&self, nodes: &str) -> bool {
        let nodes = hostlist::expand(nodes, hostlist::MOST_NODES).unwrap_or_default();
        !nodes.is_empty() && nodes.iter().all(|node| self.whole_nodes.contains(node))
    }
}

/// The jobs whose ends are held back.
#[derive(Debug)]
pub(super) struct Held {
    steps: Mutex<HashSet<StepId>>,
    count: watch::Sender<usize>,
}

impl Held {
    /// None.
    pub(super) fn new() -> Self {
        Self { steps: Mutex::default(), count: watch::Sender::new(0) }
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
        self.held.insert(ended.step);
        if let Err(unsent) = self.ends.send(ended) {
            // The task has ended with its runtime.
            self.held.remove(unsent.0.step);
            self.events.emit(unsent.0.event);
        }
    }
}

/// Starts the task that ends what is left of jobs, on the current runtime.
pub(super) fn start(
    allocation: SlurmAllocation,
    host: String,
    is_gone: fn(u32) -> bool,
    events: Arc<dyn StepEvents>,
) -> (Gate, Arc<Held>) {
    let (ends, inbox) = tokio::sync::mpsc::unbounded_channel();
    let held = Arc::new(Held::new());
    let task = Sweep {
        allocation,
        host,
        is_gone,
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
    host: String,
    is_gone: fn(u32) -> bool,
    events: Arc<dyn StepEvents>,
    held: Arc<Held>,
    inbox: UnboundedReceiver<Ended>,
    /// With the time when each is told at the latest.
    waiting: Vec<(Ended, Instant)>,
}

impl Sweep {
    async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let received = if self.waiting.is_empty() {
                pause = FIRST_PAUSE;
                match self.inbox.recv().await {
                    Some(ended) => Some(ended),
                    None => return,
                }
            } else {
                // A closed channel must not make this loop spin.
                let patience = tokio::time::timeout(pause, self.inbox.recv());
                match patience.await {
                    Ok(None) => {
                        tokio::time::sleep(pause).await;
                        None
                    }
                    Ok(Some(ended)) => Some(ended),
                    Err(_) => None,
                }
            };
            let is_news = received.is_some();
            self.waiting.extend(received.map(entered));
            while let Ok(ended) = self.inbox.try_recv() {
                self.waiting.push(entered(ended));
            }
            self.look().await;
            pause = if is_news { FIRST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
        }
    }

    /// Asks once, ends what is left, and tells the ends of which nothing is.
    async fn look(&mut self) {
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
                tracing::warn!(step = %ended.step, ?numbers, "what its sruns started may run on");
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
        let left = listed.iter().filter(|step| ended.has_left(step, &self.host, self.is_gone));
        left.map(|step| step.number).collect()
    }

    fn tell(&self, ended: Ended) {
        self.held.remove(ended.step);
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
