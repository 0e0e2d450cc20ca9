//! Recovery scripts: what runs between a launch that failed and the next one of its job.
//!
//! Owns which jobs wait for one. Does not know how scripts are run. A script is begun by an event of its
//! own: a log in which there is none, from before scripts were run, means what it meant. Invariant: a job
//! whose script is under way is blocked, and no job it depends on can begin anew meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{AttemptId, JobId};
use crate::time::Timestamp;
use crate::workflow::FailureHandler;

use super::status::{Change, JobStatus};
use super::verdict::script_for;
use super::{Effect, Engine, Event, FailedLaunch, LaunchContext, Phase, Refused};

/// Which jobs have scripts to be run.
#[derive(Debug, Default)]
pub(super) struct Scripts {
    /// Jobs that are ready again, and whose scripts have not begun.
    wanted: BTreeSet<JobId>,
    /// The launches whose scripts are to be run, or run, and since when.
    begun: BTreeMap<JobId, (AttemptId, Timestamp)>,
}

impl Scripts {
    /// A run begins.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// A job is not ready any more.
    pub(super) fn forget(&mut self, job: JobId) {
        self.wanted.remove(&job);
    }

    /// Whether none is to be run, nor runs.
    pub(super) fn is_empty(&self) -> bool {
        self.wanted.is_empty() && self.begun.is_empty()
    }

    /// The jobs whose scripts are under way.
    pub(super) fn jobs(&self) -> impl Iterator<Item = JobId> {
        self.begun.keys().copied()
    }
}

/// A recovery script, ready to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveryScript {
    /// For `bash -c`.
    pub text: String,
    /// What is set on top of the submitter's environment.
    pub env: Vec<(String, String)>,
    /// The working folder: where the workflow was submitted.
    pub working_dir: String,
    /// The file that its output is appended to.
    pub output: String,
}

impl Engine {
    /// Begins the scripts of the jobs that are to be tried again. The events are applied; the effects are
    /// to be done once the events are stored. To be asked before [`Self::dispatch`].
    pub fn begin_recoveries(&mut self, now: Timestamp) -> (Vec<Event>, Vec<Effect>) {
        let (mut events, mut effects) = (Vec::new(), Vec::new());
        if self.phase != Phase::Running {
            return (events, effects);
        }
        let wanted: Vec<JobId> = self.scripts.wanted.iter().copied().collect();
        for job in wanted {
            let attempt = AttemptId(self.jobs[job.index()].launches);
            let began = Event::RecoveryBegan { at: now, job, attempt };
            if let Ok(follows) = self.apply(&began) {
                events.push(began);
                effects.extend(follows);
            }
        }
        (events, effects)
    }

    /// The launches whose scripts are to be run, or run. After a crash they are run again.
    pub fn recoveries_under_way(&self) -> impl Iterator<Item = FailedLaunch> {
        self.scripts
            .begun
            .iter()
            .map(|(job, (attempt, _))| FailedLaunch { job: *job, attempt: *attempt })
    }

    /// The script of a launch that is under way.
    pub fn recovery_script(
        &self,
        failed: FailedLaunch,
        context: &LaunchContext,
    ) -> Option<RecoveryScript> {
        let FailedLaunch { job, attempt } = failed;
        self.scripts.begun.get(&job).filter(|(begun, _)| *begun == attempt)?;
        let text = self.script_after_failure(job)?.to_owned();
        let id = self.step_id(job, attempt);
        let code = self.latest_return_code(job).map_or_else(String::new, |code| code.to_string());
        let mut env = self.step_env(id, &self.workflow.jobs[job.index()], context);
        env.insert("TORC_RETURN_CODE".to_owned(), code);
        Some(RecoveryScript {
            text,
            env: env.into_iter().collect(),
            working_dir: context.submission_dir.to_string(),
            output: super::launch::beside_stdio(id, "recovery.log", &context.output_dir),
        })
    }

    /// The launch that failed and since when its script runs, of a job that waits for it.
    pub(super) fn recovering_since(&self, job: JobId) -> Option<(AttemptId, Timestamp)> {
        self.scripts.begun.get(&job).copied()
    }

    /// Whether the script of a job is under way.
    pub(super) fn is_recovering(&self, job: JobId) -> bool {
        self.scripts.begun.contains_key(&job)
    }

    /// A job is ready again at the cost of a retry: its script comes first, if it has one.
    pub(super) fn want_recovery(&mut self, job: JobId) {
        if self.script_after_failure(job).is_some() {
            self.scripts.wanted.insert(job);
        }
    }

    pub(super) fn begin_recovery(
        &mut self,
        at: Timestamp,
        failed: FailedLaunch,
    ) -> Result<Vec<Effect>, Refused> {
        let FailedLaunch { job, attempt } = failed;
        let launches = self.jobs[self.known(job)?.index()].launches;
        if launches != attempt.0 || !self.scripts.wanted.contains(&job) {
            return Err(Refused::StaleAttempt { job, attempt });
        }
        self.change(job, Change::Recovering)?;
        self.scripts.begun.insert(job, (attempt, at));
        Ok(vec![Effect::RunRecovery(failed)])
    }

    pub(super) fn end_recovery(&mut self, failed: FailedLaunch, code: i32) -> Result<(), Refused> {
        let FailedLaunch { job, attempt } = failed;
        let is_under_way = self.scripts.begun.get(&job).is_some_and(|(begun, _)| *begun == attempt);
        if !is_under_way {
            return Err(Refused::StaleAttempt { job, attempt });
        }
        self.scripts.begun.remove(&job);
        self.change(job, if code == 0 { Change::Unblocked } else { Change::Failed })?;
        self.settle_dependents(job)
    }

    /// A job is not to be tried again: whose script is to be ended.
    pub(super) fn call_off_recovery(&mut self, job: JobId) -> Option<FailedLaunch> {
        debug_assert!(matches!(self.status(job), JobStatus::Blocked | JobStatus::Ready));
        let (attempt, _) = self.scripts.begun.remove(&job)?;
        Some(FailedLaunch { job, attempt })
    }

    /// What is to be run before a job is tried again after its latest launch.
    fn script_after_failure(&self, job: JobId) -> Option<&str> {
        let outcome = &self.latest_attempt(job)?.end.as_ref()?.outcome;
        let header = &self.workflow.header;
        let handler =
            |index: u32| -> Option<&FailureHandler> { header.failure_handlers.get(index as usize) };
        let handler = self.workflow.jobs[job.index()].failure_handler.and_then(handler);
        script_for(outcome, &header.execution, handler)
    }

    fn latest_return_code(&self, job: JobId) -> Option<i32> {
        let outcome = &self.latest_attempt(job)?.end.as_ref()?.outcome;
        super::return_code(outcome, &self.workflow.header.execution)
    }
}
