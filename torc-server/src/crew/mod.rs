//! A crew: one worker on each node of an allocation, led by the worker of the allocation (mode direct).
//!
//! To whoever launches steps it is one executor like any other. The scheduler starts the workers of the nodes,
//! all at once; each connects to the leader, runs what it is told to as its own child processes, and reports.
//! So the scheduler sees one step for all jobs, and the server one worker.
//!
//! A worker that loses the leader ends what it runs: nothing outlives who watches over it, and a job that is
//! given to another node does not run twice.

mod asker;
mod books;
mod doubts;
mod help;
mod helpers;
mod node;
mod paced;
mod post;
mod service;
mod survey;

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{oneshot, watch};
use torc_core::ids::{AllocationId, StepId};
use torc_core::resources::NodeInventory;
use torc_core::traits::{Executor, ExecutorError, Step, StepEvents, StepSignal, StepState};
use torc_core::wire::link::Parting;
use torc_executors::direct::Traces;
use torc_executors::slurm::Standing;

use crate::action_command::ActionProcess;
use crate::clock::now;
pub use asker::{AskError, Stream, start_on_node};
use books::{Books, Now};
pub use node::{NodeEnd, NodeError, NodeLease, NodeParts, NodeWindUp, Surround, work_on_node};
pub use post::{Access, AccessError, Post, PostError};
pub use service::News;
use service::{Input, Service};
use survey::Survey;

/// The folder, beside the crew's file, for output of what jobs start on their other nodes.
pub const HELPERS: &str = "helpers";

/// What the scheduler does for a crew.
#[async_trait]
pub trait Overseer: Send + Sync {
    /// Where the allocation stands now.
    async fn standing(&self) -> Standing;
    /// Ends what these jobs have left in the allocation, whose workers are gone.
    async fn clear(&self, jobs: &[Traces]);
    /// Gives all nodes but these back. Whether they are; one that could not be is tried again.
    async fn keep_only(&self, nodes: &[String]) -> bool;
    /// Ends the workers that are left, and returns when none is.
    async fn end_workers(&self);
}

/// What a crew is made of.
pub struct CrewParts {
    /// The engine's number of the allocation.
    pub allocation: AllocationId,
    /// Its nodes.
    pub nodes: Vec<NodeInventory>,
    /// What each has is not known before its worker has told it.
    pub are_unseen: bool,
    /// Where their workers come in.
    pub post: Post,
    /// What the scheduler does.
    pub overseer: Arc<dyn Overseer>,
}

/// Runs steps on the nodes of an allocation, by a worker on each. Dropping it ends whatever still runs.
pub struct Crew {
    inputs: UnboundedSender<Input>,
    overseer: Arc<dyn Overseer>,
    ended: watch::Receiver<()>,
}

impl Crew {
    /// Starts a task on the current runtime that reports to `events`.
    pub fn start(parts: CrewParts, events: Arc<dyn StepEvents>) -> Self {
        let CrewParts { allocation, nodes, are_unseen, post, overseer } = parts;
        let time = Now { instant: Instant::now(), at: now() };
        let books = Books::new(allocation, nodes.iter().map(|node| node.name.clone()), time);
        let survey = Survey::new(nodes, are_unseen);
        let Post { listener, file, tell, inputs } = post;
        let outputs = file.with_file_name(HELPERS);
        let service = Service::new(books, survey, events, Arc::clone(&overseer), outputs);
        let (ending, ended) = watch::channel(());
        tokio::spawn(async move {
            service.run(inputs).await;
            listener.close().await;
            if let Err(error) = std::fs::remove_file(&file) {
                tracing::debug!(%error, file = %file.display(), "the crew's file is left");
            }
            // Its end is what tells.
            drop(ending);
        });
        Self { inputs: tell, overseer, ended }
    }

    /// Tells what the scheduler says.
    pub fn hear(&self, news: News) {
        // There is nothing to be done about it any more otherwise.
        let _ = self.inputs.send(Input::News(news));
    }

    /// Runs a command on a node, once its worker has come. Its exit code: 128 + n after signal n. `None` when that
    /// worker is lost: the command may have run, or may run for as long as the worker needs to notice.
    pub async fn run_on(&self, node: &str, process: ActionProcess) -> Option<i32> {
        let (answer, code) = oneshot::channel();
        // Once its task has ended there is no worker any more.
        let _ = self.inputs.send(Input::Run(node.into(), Box::new(process), answer));
        code.await.ok()
    }

    /// Has a node's worker end before the others, if nothing runs there. That of the allocation's first node stays.
    pub fn release(&self, node: &str, parting: Parting) {
        let _ = self.inputs.send(Input::Release(node.into(), parting));
    }

    /// Lets what runs come to an end of its own, and the workers with it. Jobs are asked to end as by
    /// [`StepSignal::Cancel`]; when the scheduler takes the allocation away, it kills them in its own time. Ends are
    /// reported as they come; nothing is launched any more.
    pub async fn wind_up(&self) {
        let _ = self.inputs.send(Input::WindUp { is_taken: false });
        // The scheduler may be slow to answer, and the jobs' time is short.
        let is_taken = async {
            if self.overseer.standing().await != Standing::Lives {
                let _ = self.inputs.send(Input::WindUp { is_taken: true });
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = self.ended() => {}
            () = is_taken => {}
        }
    }

    /// Ends whatever still runs, and returns when no worker is left.
    pub async fn shutdown(&self) {
        let _ = self.inputs.send(Input::Close);
        self.ended().await;
    }

    async fn ended(&self) {
        let mut ended = self.ended.clone();
        // Nothing is ever sent: an error is the end of the task.
        while ended.changed().await.is_ok() {}
    }

    fn send(&self, input: Input) -> Result<(), ExecutorError> {
        self.inputs.send(input).map_err(|_| ExecutorError::Gone("its task has ended".to_owned()))
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        // It has ended already otherwise.
        let _ = self.inputs.send(Input::Close);
    }
}

#[async_trait]
impl Executor for Crew {
    async fn inventory(&self) -> Result<Vec<NodeInventory>, ExecutorError> {
        let (answer, known) = oneshot::channel();
        self.send(Input::Survey(answer))?;
        known.await.map_err(|_| ExecutorError::Gone("its task has ended".to_owned()))
    }

    async fn launch(&self, step: Step) -> Result<(), ExecutorError> {
        self.send(Input::Launch(Box::new(step)))
    }

    async fn signal(&self, step: StepId, signal: StepSignal) -> Result<(), ExecutorError> {
        self.send(Input::Signal(step, signal))
    }

    async fn reconcile(&self, steps: &[StepId]) -> Result<Vec<StepState>, ExecutorError> {
        let (answer, known) = oneshot::channel();
        self.send(Input::Asked(answer))?;
        let gone = |_| ExecutorError::Gone("its task has ended".to_owned());
        let running: Vec<StepId> = known.await.map_err(gone)?;
        // Ends are reported and then forgotten; steps do not survive an earlier crew.
        let state = |step: &StepId| {
            if running.contains(step) { StepState::Running } else { StepState::Unknown }
        };
        Ok(steps.iter().map(state).collect())
    }
}

#[cfg(test)]
mod tests;
