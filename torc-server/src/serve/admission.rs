//! Whether a server can run a workflow that is submitted to it.

use std::path::Path;
use std::sync::Arc;

use torc_core::engine::Engine;
use torc_core::ids::{AllocationId, NodeId, WorkflowId};
use torc_core::resources::Allocation;
use torc_core::traits::{AllocationRequest, NodeShape, Scheduler, Shapes};
use torc_core::workflow::{ActionKind, ExecutionMode, SchedulerSettings, Workflow};

use crate::admission::{check_feasibility, check_inputs};
use crate::clock::now;
use crate::handle::RequestError;
use crate::session::RunError;
use crate::store::StoreError;
use crate::stored::placer_for;

/// A workflow was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SubmitError {
    /// It cannot be run: input files are missing, or jobs can never run.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The server could not do it.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// It asks for what is not to be had this way.
    #[error("{0}")]
    Unservable(String),
}

impl From<StoreError> for SubmitError {
    fn from(error: StoreError) -> Self {
        Self::Request(error.into())
    }
}

/// # Errors
/// When it cannot be run, with the reason and what to do.
pub(super) async fn check(
    workflow: &Arc<Workflow>,
    submission_dir: &Path,
    scheduler: &dyn Scheduler,
) -> Result<(), SubmitError> {
    check_kind(workflow)?;
    check_inputs(workflow, submission_dir)?;
    let mut allocations = Vec::new();
    for settings in &workflow.header.schedulers {
        match shapes(settings, scheduler).await {
            Some(shapes) => allocations.extend(could_be(settings, &shapes)),
            // What is not known is no reason to refuse.
            None => return Ok(()),
        }
    }
    let engine = Engine::new(WorkflowId(0), workflow.clone(), placer_for(workflow));
    Ok(check_feasibility(&engine, &allocations)?)
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
    if header.execution.mode == ExecutionMode::Direct {
        return refuse(
            "mode direct is not available with `torc submit` in this release; use mode slurm, or \
             `torc run` on one machine"
                .to_owned(),
        );
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

/// What is known of the nodes that a scheduler could give.
pub(super) async fn shapes(
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

/// An allocation of each kind of node that a scheduler could give.
fn could_be<'a>(
    settings: &'a SchedulerSettings,
    shapes: &'a [NodeShape],
) -> impl Iterator<Item = Allocation> + 'a {
    shapes.iter().map(|shape| {
        let node = shape.inventory("node");
        Allocation {
            id: AllocationId(1),
            scheduler: Some(settings.name.clone()),
            labels: settings.labels(),
            ends_at: Some(now() + settings.walltime()),
            nodes: (0..settings.nodes()).map(|number| (NodeId(number), node.clone())).collect(),
        }
    })
}
