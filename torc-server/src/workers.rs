//! The workers of one workflow that are connected now, as the executor that the driver launches on.
//!
//! Owns which connection belongs to which allocation. Does not know what became of a step: a launch or
//! signal for a worker that is away is dropped here, and made good when it connects again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use torc_core::ids::{AllocationId, StepId};
use torc_core::resources::NodeInventory;
use torc_core::traits::{Executor, ExecutorError, Step, StepSignal, StepState};
use torc_core::wire::link::ToWorker;

use crate::link::channel::Sender;

/// The way to a connected worker. Cheap to clone.
#[derive(Clone)]
pub(crate) struct WorkerLink {
    /// A number that no other connection has.
    pub(crate) id: u64,
    pub(crate) sender: Sender<ToWorker>,
}

impl WorkerLink {
    /// Sends a message. To a worker that has gone away meanwhile it is of no use.
    pub(crate) fn send(&self, message: ToWorker) {
        if let Err(error) = self.sender.send(&message) {
            tracing::debug!(%error, "a worker does not get a message");
        }
    }
}

/// The workers of one workflow.
#[derive(Default)]
pub(crate) struct Workers {
    links: Mutex<HashMap<AllocationId, WorkerLink>>,
}

impl Workers {
    fn links(&self) -> MutexGuard<'_, HashMap<AllocationId, WorkerLink>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on this connection is the worker's.
    pub(crate) fn register(&self, allocation: AllocationId, link: WorkerLink) {
        self.links().insert(allocation, link);
    }

    /// A connection is gone. Another one of the same worker stays.
    pub(crate) fn unregister(&self, allocation: AllocationId, link: u64) {
        let mut links = self.links();
        let is_current = links.get(&allocation).is_some_and(|current| current.id == link);
        if is_current {
            links.remove(&allocation);
        }
    }

    /// The worker of an allocation, if it is connected.
    pub(crate) fn get(&self, allocation: AllocationId) -> Option<WorkerLink> {
        self.links().get(&allocation).cloned()
    }
}

#[async_trait]
impl Executor for Workers {
    async fn inventory(&self) -> Result<Vec<NodeInventory>, ExecutorError> {
        // Each worker brings its own nodes along.
        Ok(Vec::new())
    }

    async fn launch(&self, step: Step) -> Result<(), ExecutorError> {
        if let Some(link) = self.get(step.allocation) {
            link.send(ToWorker::Launch(Box::new(step)));
        }
        Ok(())
    }

    async fn signal(&self, step: StepId, signal: StepSignal) -> Result<(), ExecutorError> {
        // Only one worker knows the step; the others have nothing to do.
        for link in self.links().values() {
            link.send(ToWorker::Signal(step, signal));
        }
        Ok(())
    }

    async fn reconcile(&self, steps: &[StepId]) -> Result<Vec<StepState>, ExecutorError> {
        // Until its worker or the scheduler says otherwise, a step runs.
        Ok(vec![StepState::Running; steps.len()])
    }
}
