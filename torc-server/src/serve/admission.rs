//! Whether a server can run a workflow that is submitted to it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use torc_core::engine::Engine;
use torc_core::ids::WorkflowId;
use torc_core::resources::Allocation;
use torc_core::time::Timestamp;
use torc_core::traits::{AllocationRequest, NodeShape, Scheduler, SchedulerError, Shapes};
use torc_core::workflow::{ActionKind, SchedulerSettings, Workflow};

use crate::admission::{check_feasibility, check_inputs, offers};
use crate::handle::{KnownShapes, RequestError};
use crate::placers::PlacerError;
use crate::schedulers::Schedulers;
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
    /// The placer that it names cannot be had.
    #[error(transparent)]
    Placer(#[from] PlacerError),
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
    /// There is no scheduler of a type that it asks.
    #[error("{0}")]
    NoScheduler(String),
}

impl From<SubmitError> for RequestError {
    /// For a workflow that is there already and is defined anew.
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Request(error) => error,
            SubmitError::Run(error) => Self::NeverRuns(error.full_text()),
            SubmitError::NoFit(words) => Self::NeverRuns(words),
            SubmitError::Placer(error) => error.into(),
            SubmitError::NoScheduler(words) => Self::Lacking(words),
            SubmitError::NotBegun(_) | SubmitError::Unservable(_) => {
                Self::Refused(error.to_string())
            }
        }
    }
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

/// Whether there are schedulers of all types that it asks, and whether those that are plugins take their
/// settings; Slurm's are checked with the spec. What is known of the nodes that each could give.
///
/// # Errors
/// With the first that is missing, or refuses.
pub(super) async fn ask_schedulers(
    workflow: &Workflow,
    schedulers: &Schedulers,
) -> Result<KnownShapes, SubmitError> {
    let asked = workflow.header.schedulers.iter().map(|settings| admit(settings, schedulers));
    let mut known = KnownShapes::new();
    for (index, answer) in (0..).zip(join_all(asked).await) {
        if let Some(shapes) = answer? {
            known.insert(index, shapes);
        }
    }
    Ok(known)
}

async fn admit(
    settings: &SchedulerSettings,
    schedulers: &Schedulers,
) -> Result<Option<Vec<NodeShape>>, SubmitError> {
    let about = |words: String| format!("scheduler `{}`: {words}", settings.name);
    let kind = &settings.kind;
    let opened = tokio::time::timeout(SHAPES_WITHIN, schedulers.of(kind)).await;
    let opened = opened.unwrap_or_else(|_| {
        Err(format!("`{kind}` did not open within {} s", SHAPES_WITHIN.as_secs()))
    });
    let scheduler = opened.map_err(|words| SubmitError::NoScheduler(about(words)))?;
    if kind == "slurm" {
        return Ok(shapes_of(settings, &*scheduler).await);
    }
    match ask_shapes(settings, &*scheduler).await {
        Err(SchedulerError::Refused(words)) => Err(SubmitError::Unservable(about(words))),
        answer => Ok(known_or_not(settings, answer)),
    }
}

fn check_kind(workflow: &Workflow) -> Result<(), SubmitError> {
    let header = &workflow.header;
    let refuse = |why: String| Err(SubmitError::Unservable(why));
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

/// What is known of the nodes that each scheduler could give. All are asked at once.
pub(super) async fn shapes(workflow: &Workflow, schedulers: &Schedulers) -> KnownShapes {
    let asked = workflow.header.schedulers.iter().zip(0u32..).map(async |(settings, index)| {
        let answer = match schedulers.ask(&settings.kind).await {
            Ok(scheduler) => ask_shapes(settings, &*scheduler).await,
            Err(error) => Err(error),
        };
        Some((index, known_or_not(settings, answer)?))
    });
    join_all(asked).await.into_iter().flatten().collect()
}

/// What is known of the nodes that a scheduler could give.
pub(crate) async fn shapes_of(
    settings: &SchedulerSettings,
    scheduler: &dyn Scheduler,
) -> Option<Vec<NodeShape>> {
    known_or_not(settings, ask_shapes(settings, scheduler).await)
}

/// Asks a scheduler what nodes it could give. One that takes too long does not answer.
async fn ask_shapes(
    settings: &SchedulerSettings,
    scheduler: &dyn Scheduler,
) -> Result<Shapes, SchedulerError> {
    let outline = outline(settings);
    let answer = tokio::time::timeout(SHAPES_WITHIN, scheduler.shapes(&outline)).await;
    answer.unwrap_or_else(|_| {
        let words = format!("no answer within {} s", SHAPES_WITHIN.as_secs());
        Err(SchedulerError::Unavailable(words))
    })
}

fn known_or_not(
    settings: &SchedulerSettings,
    answer: Result<Shapes, SchedulerError>,
) -> Option<Vec<NodeShape>> {
    match answer {
        Ok(Shapes::Known(shapes)) => Some(shapes),
        Ok(Shapes::Unknown) => None,
        Err(error) => {
            tracing::warn!(scheduler = %settings.name, %error, "its nodes are not known");
            None
        }
    }
}

/// A request as far as its nodes are concerned.
fn outline(settings: &SchedulerSettings) -> AllocationRequest {
    AllocationRequest {
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
    }
}
