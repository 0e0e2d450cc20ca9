//! Workflows as wholes: one with all that happened to it as a file, and back.
//!
//! Owns the format of that file, and what must hold of one that comes from elsewhere. Does not know who asks.
//! Invariant: what is taken in replays, so that every later look at it works.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use torc_core::engine::{Engine, Event};
use torc_core::ids::WorkflowId;
use torc_core::time::Timestamp;
use torc_core::wire::RunState;
use torc_core::workflow::Workflow;

use crate::clock::now;
use crate::store::{Origin, StoredWorkflow};
use crate::stored::{StoredView, placer_for};

/// The version of the format. A reader takes this one and older ones.
pub const VERSION: u32 = 1;

/// A workflow with all that happened to it. The environment that it was submitted with is not among it: it may
/// hold secrets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Archive {
    /// The version of this format.
    pub torc_archive: u32,
    /// The release of torc that wrote it.
    pub torc: String,
    /// When it was written.
    pub exported_at: Timestamp,
    /// When the workflow was submitted.
    pub submitted_at: Timestamp,
    /// Where: its jobs' working folder.
    pub submission_dir: String,
    /// The spec's file; null: standard input.
    pub spec_path: Option<String>,
    /// What was submitted.
    pub workflow: Workflow,
    /// What happened, in order.
    pub events: Vec<Event>,
}

/// A file is not a workflow that can be taken in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    /// It is something else.
    #[error("this is not an archive that `torc export` wrote: {0}")]
    Unreadable(String),
    /// A later torc wrote it.
    #[error(
        "this archive has version {found}, and this torc reads up to {VERSION}; use a newer torc"
    )]
    TooNew {
        /// Its version.
        found: u32,
    },
    /// What it says cannot have happened.
    #[error("this archive is damaged: {0}")]
    Damaged(String),
}

impl Archive {
    pub(crate) fn of(stored: StoredWorkflow) -> Self {
        let StoredWorkflow { origin, workflow, events, .. } = stored;
        Self {
            torc_archive: VERSION,
            torc: env!("CARGO_PKG_VERSION").to_owned(),
            exported_at: now(),
            submitted_at: origin.submitted_at,
            submission_dir: origin.submission_dir,
            spec_path: origin.spec_path,
            workflow: Arc::unwrap_or_clone(workflow),
            events,
        }
    }

    /// Reads one.
    ///
    /// # Errors
    /// When it is none, of a later version, or tells what cannot be.
    pub fn read(bytes: &[u8]) -> Result<Self, ArchiveError> {
        #[derive(Deserialize)]
        struct Head {
            torc_archive: u32,
        }
        let unreadable = |error: serde_json::Error| ArchiveError::Unreadable(error.to_string());
        let Head { torc_archive: found } = serde_json::from_slice(bytes).map_err(unreadable)?;
        if found > VERSION {
            return Err(ArchiveError::TooNew { found });
        }
        let archive: Self = serde_json::from_slice(bytes).map_err(unreadable)?;
        archive.check()?;
        Ok(archive)
    }

    /// Everything refers to what there is, and the events can have happened.
    pub(crate) fn check(&self) -> Result<(), ArchiveError> {
        let references = self.workflow.check_references();
        references.map_err(|error| ArchiveError::Damaged(error.to_string()))?;
        let workflow = Arc::new(self.workflow.clone());
        let placer = placer_for(&workflow);
        Engine::replay(WorkflowId(1), workflow, placer, self.events.clone())
            .map(drop)
            .map_err(|refused| ArchiveError::Damaged(refused.to_string()))
    }

    pub(crate) fn origin(&self) -> Origin {
        Origin {
            submission_dir: self.submission_dir.clone(),
            spec_path: self.spec_path.clone(),
            submitted_at: self.submitted_at,
            submitter: None,
        }
    }
}

/// Why a workflow that nobody drives cannot be deleted, if it cannot: its schedulers may still have something of it.
pub(crate) fn refusal(stored: &StoredView) -> Option<String> {
    let report = stored.view(now()).workflow();
    let was_submitted = stored.origin.submitter.is_some();
    let goes_on = !matches!(report.state, RunState::Ended | RunState::New);
    (was_submitted && goes_on).then(|| {
        format!("workflow {} was submitted and has not ended; `torc cancel {0}` ends it", report.id)
    })
}

/// The same of one that is driven.
pub(crate) fn refusal_of_driven(id: WorkflowId) -> String {
    format!("workflow {id} runs; wait for its end, or `torc cancel {id}`")
}
