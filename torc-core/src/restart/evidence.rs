//! What is to be looked at on disk before a restart is decided, and what was found.
//!
//! Only jobs that have completed are looked at: all others run again anyway.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::reason::Reason;
use crate::engine::{Engine, JobStatus};
use crate::fingerprint::{Files, Fingerprint, LARGEST_READ};
use crate::ids::JobId;
use crate::time::Timestamp;
use crate::workflow::Workflow;

/// What is to be looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checklist {
    jobs: Vec<ToCheck>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct ToCheck {
    job: JobId,
    outputs: Vec<Arc<str>>,
    inputs: Vec<(Arc<str>, Before)>,
}

/// What is known of an input file from before.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Before {
    /// It was like this when the job had completed.
    Seen(Fingerprint),
    /// It was none of the job's.
    New,
    /// Nobody has looked: the job ended at this time.
    EndedAt(Timestamp),
}

/// What was found: why jobs that have completed run again, by their numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    reasons: BTreeMap<JobId, Vec<Reason>>,
}

impl Checklist {
    /// What to look at for the jobs of a workflow, as they are defined now.
    pub fn of(engine: &Engine, workflow: &Workflow) -> Self {
        let begun = engine.workflow().jobs.len();
        let completed = (0..begun)
            .map(JobId::from_index)
            .filter(|job| engine.status(*job) == JobStatus::Completed);
        let jobs = completed.filter_map(|job| {
            let data = workflow.jobs[job.index()].data.as_deref()?;
            let path = |file: &u32| workflow.header.files[*file as usize].path.clone();
            let input = |file: &u32| {
                let path = path(file);
                let before = before(engine, job, &path)?;
                Some((path, before))
            };
            Some(ToCheck {
                job,
                outputs: data.output_files.iter().map(path).collect(),
                inputs: data.input_files.iter().filter_map(input).collect(),
            })
        });
        Self { jobs: jobs.collect() }
    }

    /// Looks at all of it.
    pub fn evidence(&self, files: &mut impl Files) -> Evidence {
        let mut looks = Looks { files, known: HashMap::new(), digests: HashMap::new() };
        let mut reasons = BTreeMap::new();
        for one in &self.jobs {
            let mut found = Vec::new();
            for path in &one.outputs {
                if looks.look(path).is_none() {
                    found.push(Reason::OutputGone { file: path.to_string() });
                }
            }
            found.extend(one.inputs.iter().filter_map(|(path, before)| looks.input(path, before)));
            if !found.is_empty() {
                reasons.insert(one.job, found);
            }
        }
        Evidence { reasons }
    }
}

impl Evidence {
    /// Why a job that has completed runs again, as far as files tell.
    pub fn of(&self, job: JobId) -> &[Reason] {
        self.reasons.get(&job).map_or(&[], Vec::as_slice)
    }
}

fn before(engine: &Engine, job: JobId, path: &str) -> Option<Before> {
    if let Some(seen) = engine.inputs_seen(job) {
        return Some(seen.of(path).cloned().map_or(Before::New, Before::Seen));
    }
    let end = engine.latest_attempt(job)?.end.as_ref()?;
    Some(Before::EndedAt(end.at))
}

/// Looks at each file once, however many jobs have it.
struct Looks<'a, F> {
    files: &'a mut F,
    known: HashMap<Arc<str>, Option<Fingerprint>>,
    digests: HashMap<Arc<str>, Option<Box<str>>>,
}

impl<F: Files> Looks<'_, F> {
    fn look(&mut self, path: &Arc<str>) -> Option<Fingerprint> {
        let files = &mut *self.files;
        self.known.entry(path.clone()).or_insert_with(|| files.look(path)).clone()
    }

    fn input(&mut self, path: &Arc<str>, before: &Before) -> Option<Reason> {
        let file = path.to_string();
        let Some(now) = self.look(path) else { return Some(Reason::InputGone { file }) };
        let is_same = match before {
            Before::New => return Some(Reason::InputAdded { file }),
            Before::EndedAt(at) => now.modified_ns / 1_000_000 <= at.0,
            Before::Seen(seen) if seen.looks_like(&now) => true,
            Before::Seen(seen) => seen.size == now.size && self.has_content(path, seen),
        };
        (!is_same).then_some(Reason::InputChanged { file })
    }

    fn has_content(&mut self, path: &Arc<str>, seen: &Fingerprint) -> bool {
        if seen.digest.is_none() || seen.size > LARGEST_READ {
            return false;
        }
        let files = &mut *self.files;
        let digest = self.digests.entry(path.clone()).or_insert_with(|| files.digest(path));
        *digest == seen.digest
    }
}
