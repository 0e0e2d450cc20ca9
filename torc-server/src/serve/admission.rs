//! Whether a server can run a workflow that is submitted to it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use torc_core::engine::Engine;
use torc_core::ids::WorkflowId;
use torc_core::resources::Allocation;
use torc_core::time::Timestamp;
use torc_core::traits::{AllocationRequest, NodeShape, Scheduler, Shapes};
use torc_core::workflow::{ActionKind, SchedulerSettings, Workflow};

use crate::admission::{check_feasibility, check_inputs, offers};
use crate::handle::{KnownShapes, RequestError};
use crate::session::RunError;
use crate::store::StoreError;
use crate::stored::placer_for;

/// How long a scheduler has to say what nodes it has. Whoever submits waits for it, with less patience
/// than a scheduler's own programs have.
const SHAPES_WITHIN: Duration = Duration::from_secs(10);

/// A workflow was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SubmitError {
    /// It cannot be run: input files are missing, or jobs can never run.
    #[error(transparent)]
    Run(#[from] RunError),
    /// Jobs fit nothing that its schedulers could give. All of it, over several lines.
    #[error("{0}")]
    NoFit(String),
    /// The server could not do it.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// It was stored, and its beginning was not.
    #[error(
        "workflow {0} was taken, but its run could not begin, since the database cannot be written at \
         the moment; the server's log says why, and the server tries again by itself. Do not submit \
         it again"
    )]
    NotBegun(WorkflowId),
    /// It asks for what is not to be had this way.
    #[error("{0}")]
    Unservable(String),
}

impl From<StoreError> for SubmitError {
    fn from(error: StoreError) -> Self {
        Self::Request(error.into())
    }
}

/// What can be told of a workflow without asking anybody.
///
/// # Errors
/// When it cannot be run, with the reason and what to do.
pub(super) fn check_itself(workflow: &Workflow, submission_dir: &Path) -> Result<(), SubmitError> {
    check_kind(workflow)?;
    check_files(workflow, submission_dir)
}

/// Whether the files are there that jobs read and none writes.
///
/// # Errors
/// With all that are missing.
pub(crate) fn check_files(workflow: &Workflow, submission_dir: &Path) -> Result<(), SubmitError> {
    Ok(check_inputs(workflow, submission_dir)?)
}

/// Whether its jobs fit the nodes that its schedulers could give, and what their settings leave of those.
/// What is not known is no reason to refuse.
///
/// # Errors
/// With all jobs that can never run, and why.
pub(crate) fn check_fit(workflow: &Arc<Workflow>, shapes: &KnownShapes) -> Result<(), SubmitError> {
    let offers = offers(&workflow.header, shapes);
    let could_be: Vec<Allocation> =
        offers.iter().flat_map(|offer| offer.kinds().iter().cloned()).collect();
    let engine = Engine::new(WorkflowId(0), workflow.clone(), placer_for(workflow));
    check_feasibility(&engine, &could_be, Timestamp::default()).map_err(|never| {
        let mut words = never.full_text();
        for (settings, offer) in workflow.header.schedulers.iter().zip(&offers) {
            for limit in offer.limits() {
                words.push_str(&format!("\n  scheduler `{}`: {limit}", settings.name));
            }
        }
        SubmitError::NoFit(words)
    })
}

fn check_kind(workflow: &Workflow) -> Result<(), SubmitError> {
    let header = &workflow.header;
    let refuse = |why: String| Err(SubmitError::Unservable(why));
    if let Some(other) = header.schedulers.iter().find(|settings| settings.kind != "slurm") {
        return refuse(format!(
            "scheduler `{}` is of type {}; a server asks Slurm only, `torc run` stands for the rest",
            other.name, other.kind
        ));
    }
    let asks =
        header.actions.iter().any(|action| matches!(action.kind, ActionKind::ScheduleNodes { .. }));
    if !asks {
        return refuse(
            "no action of this workflow asks for nodes; add one of type `schedule_nodes`, or let \
             torc plan them: `torc submit SPEC --account ACCOUNT`"
                .to_owned(),
        );
    }
    Ok(())
}

/// What is known of the nodes that each scheduler could give. All are asked at once, and one that takes
/// too long is one of which nothing is known.
pub(crate) async fn shapes(workflow: &Workflow, scheduler: &dyn Scheduler) -> KnownShapes {
    let asked = workflow.header.schedulers.iter().zip(0u32..).map(async |(settings, index)| {
        let answer = tokio::time::timeout(SHAPES_WITHIN, shapes_of(settings, scheduler)).await;
        let shapes = answer.unwrap_or_else(|_| {
            let seconds = SHAPES_WITHIN.as_secs();
            tracing::warn!(scheduler = %settings.name, "its nodes are not known after {seconds} s");
            None
        });
        Some((index, shapes?))
    });
    join_all(asked).await.into_iter().flatten().collect()
}

async fn shapes_of(
    settings: &SchedulerSettings,
    scheduler: &dyn Scheduler,
) -> Option<Vec<NodeShape>> {
    let request = AllocationRequest {
        name: settings.name.to_string(),
        nodes: settings.nodes(),
        walltime: Some(settings.walltime()),
        settings: settings.settings.clone(),
        command: Vec::new(),
        working_dir: String::new(),
        output: String::new(),
        env: Vec::new(),
        umask: None,
        after: None,
    };
    match scheduler.shapes(&request).await {
        Ok(Shapes::Known(shapes)) => Some(shapes),
        Ok(Shapes::Unknown) => None,
        Err(error) => {
            tracing::warn!(scheduler = %settings.name, %error, "its nodes are not known");
            None
        }
    }
}
