//! Taking a workflow in: checked, stored, begun.
//!
//! What is begun is brought to its end whether somebody still waits for it or not, and whoever waits is
//! told that it was taken only when that is durable.

use std::path::Path;
use std::sync::Arc;

use torc_core::ids::WorkflowId;
use torc_core::wire::SubmitRequest;

use super::admission::{self, SubmitError};
use super::runs::Runs;
use crate::clock::now;
use crate::handle::RequestError;
use crate::store::{Origin, Submitter};

impl Runs {
    /// Stores a workflow and begins its first run.
    ///
    /// # Errors
    /// When it cannot be run here or not be stored; nothing was done then. Also when its beginning could
    /// not be stored after it; the error says that it was taken all the same.
    pub(crate) async fn submit(
        self: &Arc<Self>,
        request: SubmitRequest,
    ) -> Result<WorkflowId, SubmitError> {
        // Whoever asked may go away at any moment, and this with them.
        let submission = tokio::spawn(self.clone().take(request));
        submission.await.unwrap_or_else(|_| Err(RequestError::Over.into()))
    }

    async fn take(self: Arc<Self>, request: SubmitRequest) -> Result<WorkflowId, SubmitError> {
        let _busy = self.busy();
        let workflow = Arc::new(request.workflow);
        admission::check_itself(&workflow, Path::new(&request.submission_dir))?;
        let shapes = admission::ask_schedulers(&workflow, &self.schedulers).await?;
        admission::check_fit(&workflow, &shapes)?;
        self.placers.open(&workflow.header)?;
        let workflow = Arc::try_unwrap(workflow).unwrap_or_else(|shared| (*shared).clone());
        let origin = Origin {
            submission_dir: request.submission_dir,
            spec_path: request.spec_path,
            submitted_at: now(),
            submitter: Some(Submitter { env: request.env, umask: request.umask }),
        };
        let only_one = self.beginning.lock().await;
        let id = self.store.add(workflow, origin).await.ok_or(RequestError::Over)??;
        let stored = self.load(Some(id)).await?;
        let (_, begun) = self.begin_run(stored, Some(shapes))?;
        drop(only_one);
        begun.await.map(|()| id).map_err(|_| SubmitError::NotBegun(id))
    }
}
