//! A run in a batch job of its own: `torc run` in an allocation, where no process may stay on a login node.
//!
//! Owns what the scheduler is asked for, and what must hold before it is asked. Nothing is stored: the run
//! does that once it begins. Invariant: what could never run in the allocation is not asked for.

use std::path::Path;
use std::sync::Arc;

use torc_core::traits::{AllocationHandle, AllocationRequest, Scheduler, SchedulerError};
use torc_core::workflow::{ActionKind, ExecutionMode, SchedulerSettings, Workflow};

use crate::access::{Access, AccessError};
use crate::serve::admission::{self, SubmitError};
use crate::session::{StandInError, slots};
use crate::state_dir::{Owner, StateDir};
use crate::store::{StoreError, Submitter};

/// The run, and what it is asked for with.
pub struct BatchRun<'a> {
    /// The workflow of the spec.
    pub workflow: &'a Workflow,
    /// Which of its schedulers gives the allocation; the allocation stands for all of them.
    pub scheduler: &'a SchedulerSettings,
    /// The spec, absolute.
    pub spec: &'a str,
    /// The program, absolute.
    pub program: &'a str,
    /// The state directory, absolute.
    pub output_dir: &'a str,
    /// The folder that it is submitted from, absolute.
    pub submission_dir: &'a str,
    /// Who submits it.
    pub submitter: &'a Submitter,
    /// A name that no other request has, of letters, digits, `-`, `_` and `.`.
    pub mark: &'a str,
}

/// It was not asked for.
#[derive(Debug, thiserror::Error)]
pub enum BatchRunError {
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
        let words =
            [self.program, "run", self.spec, "--output-dir", self.output_dir, scheduler.as_str()];
        words.map(str::to_owned).into()
    }

    /// Whether one allocation can stand for all that actions ask its scheduler for.
    ///
    /// # Errors
    /// When it cannot.
    pub fn check_itself(&self) -> Result<(), BatchRunError> {
        let header = &self.workflow.header;
        if header.execution.mode == ExecutionMode::Direct {
            slots(header, Some(&self.scheduler.name))?;
        }
        Ok(())
    }

    /// Asks for it, if it could run and the state directory is nobody's.
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
        refuse_owned(dir).await?;
        dir.make_folders()?;
        let key = self.key();
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
        let shapes = admission::shapes(&alone, scheduler).await;
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

/// A run in an allocation takes the state directory over, so nobody may have it.
async fn refuse_owned(dir: &StateDir) -> Result<(), BatchRunError> {
    if !dir.database().exists() {
        return Ok(());
    }
    match Access::open(dir).await? {
        Access::Live(owner, _) => Err(BatchRunError::Owned(owner)),
        Access::Stored(..) => Ok(()),
    }
}
