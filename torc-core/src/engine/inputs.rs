//! What the input files of jobs were like when they completed.
//!
//! Owns the last that was seen of each job's. Does not look at files, and decides nothing: a restart compares.

use std::sync::Arc;

use crate::fingerprint::Fingerprint;
use crate::ids::{AttemptId, JobId, RunId};

use super::{Engine, JobStatus, Refused};

/// The input files of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenInputs {
    run: RunId,
    attempt: AttemptId,
    /// Their paths, and what they were like.
    files: Vec<(Arc<str>, Fingerprint)>,
}

impl SeenInputs {
    /// What a file was like; `None`: it was not among them.
    pub fn of(&self, path: &str) -> Option<&Fingerprint> {
        self.files.iter().find(|(known, _)| **known == *path).map(|(_, seen)| seen)
    }
}

impl Engine {
    /// The input files of a job that has completed, by their index; none of one that has not, or reads none.
    pub fn inputs_to_see(&self, job: JobId) -> Vec<(u32, Arc<str>)> {
        let definition = &self.workflow.jobs[job.index()];
        let Some(data) = definition.data.as_deref() else { return Vec::new() };
        if self.status(job) != JobStatus::Completed {
            return Vec::new();
        }
        let file = |index: &u32| (*index, self.workflow.header.files[*index as usize].path.clone());
        data.input_files.iter().map(file).collect()
    }

    /// What the input files of the latest attempt of a job were like; `None`: nobody has looked.
    pub fn inputs_seen(&self, job: JobId) -> Option<&SeenInputs> {
        let latest = self.latest_attempt(job)?;
        self.inputs
            .get(&job)
            .filter(|seen| (seen.run, seen.attempt) == (latest.run, latest.attempt))
    }

    pub(super) fn see_inputs(
        &mut self,
        (job, run, attempt): (JobId, RunId, AttemptId),
        files: &[(u32, Fingerprint)],
    ) -> Result<(), Refused> {
        self.known(job)?;
        let is_latest = self
            .latest_attempt(job)
            .is_some_and(|latest| (latest.run, latest.attempt) == (run, attempt));
        if !is_latest {
            return Err(Refused::StaleAttempt { job, attempt });
        }
        let known = &self.workflow.header.files;
        let named = files.iter().map(|(index, seen)| {
            let file = known.get(*index as usize).ok_or(Refused::UnknownFile(*index))?;
            Ok((file.path.clone(), seen.clone()))
        });
        let files = named.collect::<Result<_, Refused>>()?;
        self.inputs.insert(job, SeenInputs { run, attempt, files });
        Ok(())
    }
}
