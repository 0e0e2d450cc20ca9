//! An earlier run of the same spec from the same folder, which a new one might go on with.
//!
//! Owns when a run is that, and what it has left to do. Does not know who goes on with it, or whether anybody
//! does. Invariant: only the latest workflow of a state directory is looked at.

use torc_core::ids::WorkflowId;
use torc_core::restart::Revision;
use torc_core::workflow::Workflow;

use crate::store::{Origin, Store, StoreError};
use crate::stored::StoredView;

/// The workflow that a spec was run as before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Earlier {
    /// Which.
    pub id: WorkflowId,
    /// Its run has not come to its end.
    pub is_interrupted: bool,
    /// It was submitted to a server.
    pub was_submitted: bool,
    /// Its jobs that would run again: those that have not completed, and what depends on them.
    pub left: u32,
    /// All of its jobs.
    pub jobs: u32,
}

impl Earlier {
    /// The latest workflow, if it is this very one and was begun from the same place.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) async fn find(
        store: &mut Store,
        workflow: &Workflow,
        origin: &Origin,
    ) -> Result<Option<Self>, StoreError> {
        if origin.spec_path.is_none() || store.workflow_ids().await?.is_empty() {
            return Ok(None);
        }
        let StoredView { engine, origin: stored, .. } = StoredView::load(store, None, "").await?;
        let is_from_there =
            stored.spec_path == origin.spec_path && stored.submission_dir == origin.submission_dir;
        let is_same = || Revision::between(engine.workflow(), workflow).is_nothing_for(&engine);
        if !is_from_there || !is_same() {
            return Ok(None);
        }
        let left = engine.unfinished_jobs().into_iter().map(|(first, last)| last.0 - first.0 + 1);
        Ok(Some(Self {
            id: engine.id(),
            is_interrupted: engine.can_resume(),
            was_submitted: stored.submitter.is_some(),
            left: left.sum(),
            jobs: u32::try_from(workflow.jobs.len()).unwrap_or(u32::MAX),
        }))
    }

    /// Whether there is something to go on with.
    pub fn has_more(&self) -> bool {
        self.is_interrupted || self.left > 0
    }
}
