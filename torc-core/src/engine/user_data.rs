//! Files and user data of a running workflow: who reads and writes them, and the values that user data has now.
//!
//! Owns the values that were set since the workflow was submitted. Does not know who set them from where, nor
//! what is in a file. Invariant: as for the rest of the engine, they follow from the events.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value as Json;

use crate::diagnostics::nearest;
use crate::ids::JobId;
use crate::references::{self, USER_DATA};
use crate::time::Timestamp;
use crate::wire::{FileReport, UserDataReport};
use crate::workflow::{Header, Job, JobData};

use super::{Engine, Event, Refused};

/// Bytes of a value that is set, as compact JSON. All values are held in memory, and Linux passes a command
/// with its values of at most 128 KiB.
pub const LARGEST_VALUE: usize = 1 << 20;

/// Lists and objects within one another in a value that is set. A log with more could not be read back:
/// serde_json reads 128, and an event stands within several itself.
pub const DEEPEST_VALUE: usize = 100;

/// A value that was set while the workflow was there.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SetValue {
    value: Json,
    at: Timestamp,
    /// The job that set it; `None`: somebody else.
    by: Option<JobId>,
    /// When it became another value than before; `None`: it is the one that the spec has.
    changed_at: Option<Timestamp>,
}

/// By the index of the user data.
pub(super) type SetValues = BTreeMap<u32, SetValue>;

/// A value is not set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSet {
    /// There is no such user data.
    #[error("the workflow has no user data named `{name}`{}", hint(.nearest.as_deref()))]
    Unknown {
        /// As asked for.
        name: String,
        /// User data with a similar name.
        nearest: Option<String>,
    },
    /// It is too large.
    #[error(
        "the value of `{name}` has {bytes} bytes, and the largest that can be kept has {LARGEST_VALUE}; \
         write it to a file, and keep the file's path"
    )]
    TooLarge {
        /// The user data.
        name: String,
        /// As compact JSON.
        bytes: usize,
    },
    /// Its lists and objects are too deep.
    #[error(
        "the value of `{name}` has more than {DEEPEST_VALUE} lists and objects within one another"
    )]
    TooDeep {
        /// The user data.
        name: String,
    },
    /// There is no such job.
    #[error("the workflow has no job {0}")]
    UnknownJob(JobId),
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}

impl Engine {
    /// Sets user data. The event is applied.
    ///
    /// # Errors
    /// When there is no such user data or job, or the value is too large; nothing has changed then.
    pub fn set_user_data(
        &mut self,
        name: &str,
        value: Json,
        by: Option<JobId>,
        at: Timestamp,
    ) -> Result<Event, NotSet> {
        let item = self.find_user_data(name)?;
        let bytes = value.to_string().len();
        if bytes > LARGEST_VALUE {
            return Err(NotSet::TooLarge { name: name.to_owned(), bytes });
        }
        if depth(&value) > DEEPEST_VALUE {
            return Err(NotSet::TooDeep { name: name.to_owned() });
        }
        let event = Event::UserDataSet { at, item, value, by };
        self.apply(&event).map_err(|_| NotSet::UnknownJob(by.unwrap_or(JobId(0))))?;
        Ok(event)
    }

    /// The index of user data.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn find_user_data(&self, name: &str) -> Result<u32, NotSet> {
        let known = &self.workflow.header.user_data;
        let found = (0u32..).zip(known).find(|(_, item)| &*item.name == name);
        found.map(|(index, _)| index).ok_or_else(|| NotSet::Unknown {
            name: name.to_owned(),
            nearest: nearest(name, known.iter().map(|item| &*item.name)).map(str::to_owned),
        })
    }

    pub(super) fn keep_user_data(&mut self, item: u32, set: SetValue) -> Result<(), Refused> {
        if item as usize >= self.workflow.header.user_data.len() {
            return Err(Refused::UnknownUserData(item));
        }
        set.by.map(|job| self.known(job)).transpose()?;
        let is_same = *self.user_data_value(item) == set.value;
        let before = self.user_data.get(&item).and_then(|before| before.changed_at);
        let changed_at = if is_same { before } else { Some(set.at) };
        self.user_data.insert(item, SetValue { changed_at, ..set });
        Ok(())
    }

    /// These jobs begin anew: what of their user data is ephemeral has the spec's value again. `is_new_run`: so
    /// has what no job writes.
    pub(super) fn forget_ephemeral(&mut self, jobs: &[JobId], is_new_run: bool) {
        if self.user_data.is_empty() {
            return;
        }
        let header = &self.workflow.header;
        let mut forgotten = vec![false; header.user_data.len()];
        let written = |job: &Job| job.data.clone().unwrap_or_default().output_user_data;
        if is_new_run {
            forgotten.fill(true);
            let all = self.workflow.jobs.iter().flat_map(written);
            all.for_each(|item| forgotten[item as usize] = false);
        }
        let anew = jobs.iter().flat_map(|job| written(&self.workflow.jobs[job.index()]));
        anew.for_each(|item| forgotten[item as usize] = true);
        self.user_data.retain(|item, _| {
            let item = *item as usize;
            !(forgotten[item] && header.user_data[item].is_ephemeral)
        });
    }

    /// The names of the user data that a job reads and that have another value now than when its latest attempt
    /// began.
    pub fn user_data_changed_since(&self, job: JobId) -> Vec<&str> {
        let data = self.workflow.jobs[job.index()].data.as_deref();
        let (Some(data), Some(attempt)) = (data, self.latest_attempt(job)) else {
            return Vec::new();
        };
        let is_later = |item: &&u32| {
            let changed = self.user_data.get(*item).and_then(|set| set.changed_at);
            changed.is_some_and(|at| at > attempt.dispatched_at)
        };
        let read = data.input_user_data.iter().filter(is_later);
        read.map(|item| &*self.workflow.header.user_data[*item as usize].name).collect()
    }

    /// The values that were set, by the names that user data has in another definition of the workflow.
    pub(super) fn user_data_in(&self, header: &Header) -> SetValues {
        let name = |item: &u32| &self.workflow.header.user_data[*item as usize].name;
        let known = (0..).zip(&header.user_data).map(|(index, item)| (&item.name, index));
        let known: BTreeMap<&Arc<str>, u32> = known.collect();
        let kept = self
            .user_data
            .iter()
            .filter_map(|(item, set)| Some((*known.get(name(item))?, set.clone())));
        kept.collect()
    }

    /// The present value; null where it has none.
    pub fn user_data_value(&self, item: u32) -> &Json {
        const NONE: &Json = &Json::Null;
        let of_spec = || self.workflow.header.user_data[item as usize].data.as_ref();
        self.user_data.get(&item).map(|set| &set.value).or_else(of_spec).unwrap_or(NONE)
    }

    /// A text of a job with the present values of the user data that it refers to.
    pub(super) fn with_user_data<'t>(&self, job: &Job, text: &'t str) -> Cow<'t, str> {
        let Some(data) = job.data.as_deref() else { return Cow::Borrowed(text) };
        let related = [&data.input_user_data, &data.output_user_data];
        references::replace(text, &USER_DATA, |which, name| {
            let known = &self.workflow.header.user_data;
            let is_meant = |item: &&u32| &*known[**item as usize].name == name;
            let item = related[which].iter().find(is_meant)?;
            Some(Cow::Owned(self.user_data_value(*item).to_string()))
        })
    }

    /// The workflow's user data with its present values, in the order of the spec.
    pub fn user_data_reports(&self) -> Vec<UserDataReport> {
        let header = &self.workflow.header;
        let mut producers = self.jobs_by(header.user_data.len(), |data| &data.output_user_data);
        let mut consumers = self.jobs_by(header.user_data.len(), |data| &data.input_user_data);
        let items = (0u32..).zip(&header.user_data);
        items
            .map(|(index, item)| {
                let set = self.user_data.get(&index);
                UserDataReport {
                    name: item.name.to_string(),
                    value: self.user_data_value(index).clone(),
                    has_value: set.is_some() || item.data.is_some(),
                    is_ephemeral: item.is_ephemeral,
                    producers: std::mem::take(&mut producers[index as usize]),
                    consumers: std::mem::take(&mut consumers[index as usize]),
                    set_at: set.map(|set| set.at),
                    set_by: set.and_then(|set| set.by).map(|job| self.job_name(job)),
                }
            })
            .collect()
    }

    /// The workflow's files, in the order of the spec. Whether they are there, somebody else has to look; their
    /// `location` is their path.
    pub fn file_reports(&self) -> Vec<FileReport> {
        let files = &self.workflow.header.files;
        let mut producers = self.jobs_by(files.len(), |data| &data.output_files);
        let mut consumers = self.jobs_by(files.len(), |data| &data.input_files);
        let report = |(index, file): (usize, &crate::workflow::File)| FileReport {
            name: file.name.to_string(),
            path: file.path.to_string(),
            location: file.path.to_string(),
            producers: std::mem::take(&mut producers[index]),
            consumers: std::mem::take(&mut consumers[index]),
            exists: false,
            size: None,
            modified_at: None,
        };
        files.iter().enumerate().map(report).collect()
    }

    /// The names of the jobs that have each of so many things in this relation.
    fn jobs_by(&self, count: usize, relation: impl Fn(&JobData) -> &[u32]) -> Vec<Vec<String>> {
        let mut jobs = vec![Vec::new(); count];
        for job in &self.workflow.jobs {
            for item in job.data.as_deref().map_or(&[][..], &relation) {
                jobs[*item as usize].push(job.name.to_string());
            }
        }
        jobs
    }

    fn job_name(&self, job: JobId) -> String {
        self.workflow.jobs[job.index()].name.to_string()
    }
}

impl SetValue {
    pub(super) fn new(value: &Json, at: Timestamp, by: Option<JobId>) -> Self {
        Self { value: value.clone(), at, by, changed_at: Some(at) }
    }
}

/// Lists and objects within one another.
fn depth(value: &Json) -> usize {
    match value {
        Json::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Json::Object(entries) => 1 + entries.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}
