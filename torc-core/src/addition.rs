//! Jobs that are added to a workflow while it is there.
//!
//! Owns what an addition is once all its references are resolved, and how a workflow grows by it. Does not know how
//! it was written, nor what has begun. Invariant: the grown workflow is a workflow like any other: numbers stay,
//! and what is new follows what was there.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ids::JobId;
use crate::workflow::{
    FailureHandler, Family, File, Job, JobData, Requirements, Trigger, UserData, Workflow,
};

/// What a workflow remembers so that jobs can be added to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Growth {
    /// How jobs name what they depend on, read and write, ascending by job. Those that name nothing are not there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub written: Vec<(JobId, WrittenLinks)>,
    /// The regexes by which actions select jobs, by the action's index.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub action_regexes: Vec<(u32, Vec<Box<str>>)>,
    /// The jobs that were added, ascending.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub added: Vec<AddedJobs>,
}

impl Growth {
    /// Whether there is nothing to remember.
    pub fn is_empty(&self) -> bool {
        self.written.is_empty() && self.action_regexes.is_empty() && self.added.is_empty()
    }

    /// How a job names what it depends on, reads and writes.
    pub fn written_of(&self, job: JobId) -> Option<&WrittenLinks> {
        let place = self.written.binary_search_by_key(&job, |(job, _)| *job).ok()?;
        Some(&self.written[place].1)
    }

    /// In which iteration a job was added; 0: it is the spec's.
    pub fn iteration_of(&self, job: JobId) -> u32 {
        let after = self.added.partition_point(|added| added.first <= job);
        after.checked_sub(1).map_or(0, |place| self.added[place].iteration)
    }
}

/// Jobs that were added together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddedJobs {
    /// The first of them; the others follow it.
    pub first: JobId,
    /// The job that added them; `None`: somebody else.
    pub by: Option<JobId>,
    /// One more than that of the job that added them; from outside 1.
    pub iteration: u32,
}

/// What a job can name: other jobs, and data in four relations.
pub const LINK_FIELDS: [(&str, &str); 5] = [
    ("depends_on", "depends_on_regexes"),
    ("input_files", "input_files_regexes"),
    ("output_files", "output_files_regexes"),
    ("input_user_data", "input_user_data_regexes"),
    ("output_user_data", "output_user_data_regexes"),
];

/// How a job names what it depends on, reads and writes, with its parameters filled in. In the order of
/// [`LINK_FIELDS`]; each list is sorted and has no repeats.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrittenLinks {
    /// Names.
    #[serde(rename = "n")]
    pub names: [Vec<Box<str>>; 5],
    /// Regexes.
    #[serde(rename = "r")]
    pub regexes: [Vec<Box<str>>; 5],
}

impl WrittenLinks {
    /// Whether nothing is named.
    pub fn is_empty(&self) -> bool {
        self.names.iter().chain(&self.regexes).all(Vec::is_empty)
    }

    /// The first field in which two jobs differ.
    pub fn difference(&self, other: &Self) -> Option<&'static str> {
        let names = (0..5).find(|kind| self.names[*kind] != other.names[*kind]);
        let regexes = (0..5).find(|kind| self.regexes[*kind] != other.regexes[*kind]);
        names.map(|kind| LINK_FIELDS[kind].0).or(regexes.map(|kind| LINK_FIELDS[kind].1))
    }
}

/// Jobs to be added, with all their references resolved in the workflow that results.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Addition {
    /// The job that adds them; `None`: somebody else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<JobId>,
    /// See [`AddedJobs::iteration`].
    pub iteration: u32,
    /// Resource requirements that were not there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub requirements: Vec<Requirements>,
    /// Failure handlers that were not there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failure_handlers: Vec<FailureHandler>,
    /// Files that were not there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<File>,
    /// User data that was not there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub user_data: Vec<UserData>,
    /// The jobs, numbered after those that were there.
    pub jobs: Vec<Job>,
    /// Those of them that parameters made.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub families: Vec<Family>,
    /// How they name what they depend on, read and write.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub written: Vec<(JobId, WrittenLinks)>,
    /// Jobs that were there and have not begun, and now depend on other jobs or data.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub relinked: Vec<Relinked>,
    /// Jobs that actions select from now on besides the others, by the action's index.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub selected: Vec<(u32, Vec<JobId>)>,
}

/// A job that was there, with what it depends on, reads and writes from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relinked {
    /// The job.
    pub job: JobId,
    /// All that it depends on.
    pub depends_on: Box<[JobId]>,
    /// All that it reads and writes.
    pub data: Option<Box<JobData>>,
}

/// An addition that does not fit the workflow: its log, or the archive that it came from, is damaged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the jobs to be added refer to something that is not there")]
pub struct Unfit;

/// How much of everything there is that jobs refer to.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    jobs: usize,
    requirements: usize,
    failure_handlers: usize,
    schedulers: usize,
    files: usize,
    user_data: usize,
}

impl Extent {
    /// That of a workflow.
    pub fn of(workflow: &Workflow) -> Self {
        let header = &workflow.header;
        Self {
            jobs: workflow.jobs.len(),
            requirements: header.requirements.len(),
            failure_handlers: header.failure_handlers.len(),
            schedulers: header.schedulers.len(),
            files: header.files.len(),
            user_data: header.user_data.len(),
        }
    }

    fn with(self, addition: &Addition) -> Self {
        Self {
            jobs: self.jobs + addition.jobs.len(),
            requirements: self.requirements + addition.requirements.len(),
            failure_handlers: self.failure_handlers + addition.failure_handlers.len(),
            files: self.files + addition.files.len(),
            user_data: self.user_data + addition.user_data.len(),
            ..self
        }
    }

    /// Whether there is such a job.
    pub fn has_job(&self, job: JobId) -> bool {
        (1..=self.jobs).contains(&(job.0 as usize))
    }

    /// Whether all that a job refers to is there.
    pub fn holds(&self, job: &Job) -> bool {
        let within = |index: Option<u32>, length| index.is_none_or(|one| (one as usize) < length);
        within(Some(job.requirements), self.requirements)
            && within(job.failure_handler, self.failure_handlers)
            && within(job.scheduler, self.schedulers)
            && self.holds_links(&job.depends_on, job.data.as_deref())
    }

    fn holds_links(&self, depends_on: &[JobId], data: Option<&JobData>) -> bool {
        let within = |all: &[u32], length| all.iter().all(|one| (*one as usize) < length);
        depends_on.iter().all(|job| self.has_job(*job))
            && data.is_none_or(|data| {
                within(&data.input_files, self.files)
                    && within(&data.output_files, self.files)
                    && within(&data.input_user_data, self.user_data)
                    && within(&data.output_user_data, self.user_data)
            })
    }
}

impl Addition {
    /// Whether it fits a workflow.
    ///
    /// # Errors
    /// When it refers to something that is not there.
    pub fn check(&self, workflow: &Workflow) -> Result<(), Unfit> {
        let before = Extent::of(workflow);
        let after = before.with(self);
        let actions = &workflow.header.actions;
        let fits = self.by.is_none_or(|job| before.has_job(job))
            && self.jobs.iter().all(|job| after.holds(job))
            && self.relinked.iter().all(|one| {
                before.has_job(one.job) && after.holds_links(&one.depends_on, one.data.as_deref())
            })
            && self.selected.iter().all(|(action, jobs)| {
                (*action as usize) < actions.len() && jobs.iter().all(|job| after.has_job(*job))
            });
        if fits { Ok(()) } else { Err(Unfit) }
    }

    /// Makes a workflow grow.
    ///
    /// # Errors
    /// When it does not fit; nothing has changed then.
    pub fn extend(&self, workflow: &mut Workflow) -> Result<(), Unfit> {
        self.check(workflow)?;
        let first = JobId::from_index(workflow.jobs.len());
        let header = &mut workflow.header;
        header.requirements.extend_from_slice(&self.requirements);
        header.failure_handlers.extend_from_slice(&self.failure_handlers);
        header.files.extend_from_slice(&self.files);
        header.user_data.extend_from_slice(&self.user_data);
        header.families.extend_from_slice(&self.families);
        header.growth.written.extend_from_slice(&self.written);
        let Self { by, iteration, .. } = *self;
        header.growth.added.push(AddedJobs { first, by, iteration });
        for (action, jobs) in &self.selected {
            let trigger = &mut header.actions[*action as usize].trigger;
            if let Trigger::OnJobsReady(all) | Trigger::OnJobsComplete(all) = trigger {
                let mut more = std::mem::take(all).into_vec();
                more.extend_from_slice(jobs);
                more.sort_unstable();
                more.dedup();
                *all = more.into();
            }
        }
        for one in &self.relinked {
            let job = &mut workflow.jobs[one.job.index()];
            job.depends_on.clone_from(&one.depends_on);
            job.data.clone_from(&one.data);
        }
        workflow.jobs.extend_from_slice(&self.jobs);
        Ok(())
    }

    /// The numbers of the jobs that it adds to a workflow of so many.
    pub fn numbers(&self, before: usize) -> impl Iterator<Item = JobId> + use<> {
        (before..before + self.jobs.len()).map(JobId::from_index)
    }
}

/// The workflow that results. What else holds it keeps the one that was.
pub(crate) fn grown(workflow: &mut Arc<Workflow>, addition: &Addition) -> Result<(), Unfit> {
    addition.extend(Arc::make_mut(workflow))
}
