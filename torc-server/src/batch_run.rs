//! A run in a batch job of its own: `torc run` in an allocation, where no process may stay on a login node.
//!
//! Owns what the scheduler is asked for, and what must hold before it is asked. Nothing is stored but the
//! name of the request: the run does that once it begins. Invariants: what could never run in the allocation
//! is not asked for, and nothing while another batch job waits or runs for the same state directory: it would
//! find something else there than what it was asked for with. Two that are asked for at the very same moment are
//! not told apart.

use std::path::Path;
use std::sync::Arc;

use torc_core::ids::WorkflowId;
use torc_core::traits::{
    AllocationHandle, AllocationRequest, AllocationState, Scheduler, SchedulerError,
};
use torc_core::workflow::{ActionKind, ExecutionMode, SchedulerSettings, Workflow};

use crate::access::{Access, AccessError};
use crate::earlier::Earlier;
use crate::serve::admission::{self, SubmitError};
use crate::session::{StandInError, slots};
use crate::state_dir::{Owner, StateDir};
use crate::store::{Origin, StoreError, Submitter};

/// The run, and what it is asked for with.
pub struct BatchRun<'a> {
    /// The workflow of the spec.
    pub workflow: &'a Workflow,
    /// Which of its schedulers gives the allocation; the allocation stands for all of them.
    pub scheduler: &'a SchedulerSettings,
    /// The spec, absolute.
    pub spec: &'a str,
    /// What it begins with.
    pub beginning: Beginning,
    /// The program, absolute.
    pub program: &'a str,
    /// What it is told besides.
    pub options: &'a [String],
    /// The state directory, absolute.
    pub output_dir: &'a str,
    /// The folder that it is submitted from, absolute.
    pub submission_dir: &'a str,
    /// Who submits it.
    pub submitter: &'a Submitter,
    /// A name that no other request has, of letters, digits, `-`, `_` and `.`.
    pub mark: &'a str,
}

/// What a run in an allocation of its own begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// The spec, as a workflow that is new.
    Anew,
    /// What this workflow has left.
    GoOn(WorkflowId),
}

/// It was not asked for.
#[derive(Debug, thiserror::Error)]
pub enum BatchRunError {
    /// Another batch job was asked for that is not over.
    #[error(
        "Slurm job {handle}, which was submitted to run in the state directory {dir}, {state}; it has to end \
         first: `squeue -j {handle}` shows it, `scancel {handle}` ends it. Or choose another --output-dir"
    )]
    Queued {
        /// Its number.
        handle: AllocationHandle,
        /// Where it was to run.
        dir: String,
        /// Where it stands.
        state: String,
    },
    /// Jobs can never run there, or input files are missing. All of it, over several lines.
    #[error("{0}")]
    NeverRuns(String),
    /// It cannot be run this way.
    #[error("{0}")]
    Unservable(String),
    /// Somebody owns the state directory.
    #[error(
        "{0} owns the state directory, and `torc run` would not get it; choose another --output-dir, or \
         submit to a server: `torc submit` without --in-allocation"
    )]
    Owned(Box<Owner>),
    /// One allocation cannot stand for what its scheduler is asked for.
    #[error(transparent)]
    StandIn(#[from] StandInError),
    /// The state directory cannot be looked at or written.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The scheduler did not take it.
    #[error(transparent)]
    Scheduler(#[from] SchedulerError),
}

impl From<StoreError> for BatchRunError {
    fn from(error: StoreError) -> Self {
        Self::Access(error.into())
    }
}

impl From<SubmitError> for BatchRunError {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Run(error) => Self::NeverRuns(error.full_text()),
            SubmitError::NoFit(words) => Self::NeverRuns(words),
            other => Self::Unservable(other.to_string()),
        }
    }
}

impl BatchRun<'_> {
    /// What the scheduler is asked for.
    pub fn request(&self) -> AllocationRequest {
        let Self { output_dir, mark, .. } = self;
        AllocationRequest {
            name: "torc_run".to_owned(),
            nodes: self.scheduler.nodes(),
            walltime: Some(self.scheduler.walltime()),
            settings: self.scheduler.settings.clone(),
            command: self.command(),
            working_dir: self.submission_dir.to_owned(),
            output: format!("{output_dir}/job_stdio/run_{mark}.log"),
            env: self.submitter.env.clone(),
            umask: Some(self.submitter.umask),
            after: None,
        }
    }

    /// By which the request is found again in the scheduler's queue.
    pub fn key(&self) -> String {
        format!("torc-run-{}", self.mark)
    }

    /// The allocation has the labels of its scheduler, and takes as many jobs at once: the run is its worker.
    fn command(&self) -> Vec<String> {
        let scheduler = format!("--scheduler={}", self.scheduler.name);
        let (verb, what) = match self.beginning {
            Beginning::Anew => ("run", self.spec.to_owned()),
            Beginning::GoOn(workflow) => ("restart", workflow.to_string()),
        };
        let words = [self.program, verb, &what, "--output-dir", self.output_dir, &scheduler];
        words.map(str::to_owned).into_iter().chain(self.options.iter().cloned()).collect()
    }

    /// Whether one allocation can stand for all that actions ask its scheduler for.
    ///
    /// # Errors
    /// When it cannot.
    pub fn check_itself(&self) -> Result<(), BatchRunError> {
        let header = &self.workflow.header;
        if matches!(header.execution.mode, ExecutionMode::Direct | ExecutionMode::Plugin) {
            slots(header, Some(&self.scheduler.name))?;
        }
        Ok(())
    }

    /// Asks for it, if it could run.
    ///
    /// # Errors
    /// When it could not, or the scheduler does not take it.
    pub async fn submit(
        &self,
        dir: &StateDir,
        scheduler: &dyn Scheduler,
    ) -> Result<AllocationHandle, BatchRunError> {
        self.check_itself()?;
        self.check(scheduler).await?;
        dir.make_folders()?;
        let key = self.key();
        // A person may have been asked since it was looked at.
        refuse_second(dir, scheduler).await?;
        leave_word(dir, &key)?;
        match scheduler.submit(&self.request(), &key).await {
            // It may have taken the request although its answer did not come.
            Err(SchedulerError::Unavailable(reason)) => match scheduler.find(&key).await {
                Ok(Some(handle)) => Ok(handle),
                _ => Err(SchedulerError::Unavailable(reason).into()),
            },
            answer => Ok(answer?),
        }
    }

    async fn check(&self, scheduler: &dyn Scheduler) -> Result<(), BatchRunError> {
        let alone = Arc::new(self.alone());
        admission::check_files(&alone, Path::new(self.submission_dir))?;
        let shapes = admission::shapes_of(self.scheduler, scheduler).await;
        let shapes = shapes.into_iter().map(|shapes| (0, shapes)).collect();
        Ok(admission::check_fit(&alone, &shapes)?)
    }

    /// The workflow with this scheduler alone, which stands for all of them, and what asks for it.
    fn alone(&self) -> Workflow {
        let mut alone = self.workflow.clone();
        let name = &self.scheduler.name;
        let index = alone.header.schedulers.iter().position(|known| known.name == *name);
        alone.header.schedulers = vec![self.scheduler.clone()];
        alone.header.actions.retain_mut(|action| match &mut action.kind {
            ActionKind::ScheduleNodes { scheduler, .. } => {
                let is_it = index == usize::try_from(*scheduler).ok();
                *scheduler = 0;
                is_it
            }
            ActionKind::RunCommands(_) => false,
        });
        for job in &mut alone.jobs {
            job.scheduler = None;
        }
        alone
    }
}

/// The run of the same spec that was begun in a state directory before, if it has something left that can go
/// on in an allocation.
///
/// # Errors
/// When somebody owns the directory, as the run in the allocation has to, or it cannot be read.
pub async fn earlier(
    dir: &StateDir,
    workflow: &Workflow,
    origin: &Origin,
) -> Result<Option<Earlier>, BatchRunError> {
    if !dir.database().exists() {
        return Ok(None);
    }
    let store = match Access::open(dir).await? {
        Access::Live(owner, _) => return Err(BatchRunError::Owned(owner)),
        Access::Stored(store, _) => store,
    };
    let mut store = store.into_inner();
    let found = Earlier::find(&mut store, workflow, origin).await?;
    store.close().await?;
    // What was submitted to a server goes on with a server.
    Ok(found.filter(|earlier| earlier.has_more() && !earlier.was_submitted))
}

/// An error while a batch job that was asked for before waits or runs for a state directory.
///
/// # Errors
/// When there is one, or the scheduler cannot be asked.
pub async fn refuse_second(dir: &StateDir, scheduler: &dyn Scheduler) -> Result<(), BatchRunError> {
    // A file that is not there, or is not what was written, tells of none.
    let Ok(key) = std::fs::read_to_string(dir.batch_run()) else { return Ok(()) };
    let Some(handle) = scheduler.find(key.trim()).await? else { return Ok(()) };
    let states = scheduler.observe(std::slice::from_ref(&handle)).await?;
    match states.into_iter().next().and_then(standing) {
        None => Ok(()),
        Some(state) => {
            let dir = dir.path().display().to_string();
            Err(BatchRunError::Queued { handle, dir, state })
        }
    }
}

/// Where a batch job stands that is not over. It is when its torc is gone, whatever else of it still ends.
fn standing(state: AllocationState) -> Option<String> {
    match state {
        AllocationState::Pending { reason, .. } if reason.is_empty() => {
            Some("waits in the queue".to_owned())
        }
        AllocationState::Pending { reason, .. } => Some(format!("waits in the queue ({reason})")),
        AllocationState::Configuring
        | AllocationState::Running { .. }
        | AllocationState::Headless => Some("is running".to_owned()),
        AllocationState::Suspended => Some("is suspended".to_owned()),
        AllocationState::Unclear { words } => Some(format!("is {words}")),
        AllocationState::Completing | AllocationState::Ended { .. } | AllocationState::Unknown => {
            None
        }
    }
}

/// Leaves word of a request before it is made, so that it is found also when its answer is lost.
fn leave_word(dir: &StateDir, key: &str) -> Result<(), StoreError> {
    let (target, draft) = (dir.batch_run(), dir.batch_run().with_extension("new"));
    let written = std::fs::write(&draft, key).and_then(|()| std::fs::rename(&draft, &target));
    written.map_err(|error| StoreError::NotWritable { path: target, reason: error.to_string() })
}

#[cfg(test)]
mod tests;
