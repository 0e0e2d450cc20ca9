//! What is different about a job between two definitions of its workflow, as far as its results may depend
//! on it. What does not count: where and when it runs (priority, labels, scheduler), what becomes of its
//! failure, where its output goes.

use std::collections::{BTreeSet, HashMap};

use serde_json::Value;

use super::reason::{Changed, Reason};
use crate::ids::JobId;
use crate::resources::MemoryRequest;
use crate::spec::units;
use crate::workflow::{Header, Job, Requirements, Workflow};

/// Two definitions of one workflow, in which jobs have the same numbers.
pub(super) struct Comparison<'a> {
    old: &'a Workflow,
    new: &'a Workflow,
    old_values: HashMap<&'a str, &'a Option<Value>>,
    has_other_launcher: bool,
}

impl<'a> Comparison<'a> {
    pub(super) fn of(old: &'a Workflow, new: &'a Workflow) -> Self {
        let values = old.header.user_data.iter().map(|item| (&*item.name, &item.data));
        let launch = |header: &Header| {
            let launcher = header.execution.launcher.clone();
            (launcher, header.settings_of_launcher(), header.execution.executor.clone())
        };
        let has_other_launcher = launch(&old.header) != launch(&new.header);
        Self { old, new, old_values: values.collect(), has_other_launcher }
    }

    /// What is different about a job that both have.
    pub(super) fn changes(&self, job: JobId) -> Vec<Reason> {
        let (old, new) = (&self.old.jobs[job.index()], &self.new.jobs[job.index()]);
        let mut reasons = Vec::new();
        if (&old.command, &old.invocation_script) != (&new.command, &new.invocation_script) {
            reasons.push(Reason::CommandChanged);
        }
        let names = self.env(old, new);
        if !names.is_empty() {
            reasons.push(Reason::EnvChanged { names });
        }
        let changes = differences(
            &self.old.header.requirements[old.requirements as usize],
            &self.new.header.requirements[new.requirements as usize],
        );
        if !changes.is_empty() {
            reasons.push(Reason::RequirementsChanged { changes });
        }
        if self.has_other_launcher {
            reasons.push(Reason::LauncherChanged);
        }
        if old.depends_on != new.depends_on {
            let added = self.names(new, old);
            let removed = self.names(old, new);
            reasons.push(Reason::DependenciesChanged { added, removed });
        }
        reasons.extend(self.user_data(new));
        reasons
    }

    /// The variables that a job sees otherwise, or only in one of the two.
    fn env(&self, old: &Job, new: &Job) -> Vec<String> {
        let (before, after) = (env(&self.old.header, old), env(&self.new.header, new));
        let differs = |name: &&str| before.get(*name) != after.get(*name);
        let names: BTreeSet<&str> = before.keys().chain(after.keys()).copied().collect();
        names.into_iter().filter(differs).map(str::to_owned).collect()
    }

    /// The jobs that one definition of a job depends on and another does not.
    fn names(&self, one: &Job, other: &Job) -> Vec<String> {
        let only = one.depends_on.iter().filter(|job| !other.depends_on.contains(job));
        only.map(|job| self.new.jobs[job.index()].name.to_string()).collect()
    }

    fn user_data(&self, new: &Job) -> Vec<Reason> {
        let Some(data) = new.data.as_deref() else { return Vec::new() };
        let read = data.input_user_data.iter();
        read.map(|index| &self.new.header.user_data[*index as usize])
            .filter(|item| self.old_values.get(&*item.name).is_none_or(|old| **old != item.data))
            .map(|item| Reason::UserDataChanged { name: item.name.to_string() })
            .collect()
    }
}

/// What a job finds set beyond torc's own environment.
fn env<'a>(header: &'a Header, job: &'a Job) -> HashMap<&'a str, &'a str> {
    let own = job.env.as_deref().into_iter().flatten();
    header.env.iter().chain(own).map(|(name, value)| (&**name, &**value)).collect()
}

fn differences(old: &Requirements, new: &Requirements) -> Vec<Changed> {
    let words = |needs: &Requirements| {
        let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".to_owned());
        [
            ("num_cpus", needs.cpus.to_string()),
            ("num_gpus", needs.gpus.to_string()),
            ("num_nodes", needs.nodes.to_string()),
            ("memory", memory(needs.memory)),
            ("runtime", needs.runtime.map_or_else(|| "unknown".to_owned(), units::clock)),
            ("ntasks_per_node", needs.ntasks_per_node.to_string()),
            ("mpi", text(&needs.mpi)),
            ("cpu_bind", text(&needs.cpu_bind)),
        ]
    };
    let pairs = words(old).into_iter().zip(words(new));
    pairs
        .filter(|((_, from), (_, to))| from != to)
        .map(|((field, from), (_, to))| Changed { field: field.to_owned(), from, to })
        .collect()
}

fn memory(memory: MemoryRequest) -> String {
    match memory {
        MemoryRequest::ShareOfCpus => "its share".to_owned(),
        MemoryRequest::Bytes(bytes) => units::written_memory(bytes),
    }
}
