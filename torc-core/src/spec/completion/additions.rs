//! What a plan adds to a spec, as parts of a tree.

use std::iter;

use serde_json::Value as Json;

use super::items;
use super::pins::{Pin, Selection, pins, selection};
use crate::diagnostics::Span;
use crate::plan::{self, Plan, Stage};
use crate::spec::lower::Lowered;
use crate::spec::tree::{Node, Spanned, Value};
use crate::workflow::{ExecutionMode, Trigger, Workflow};

/// What a plan adds.
pub(super) struct Additions<'a> {
    /// New entries of `slurm_schedulers`.
    pub(super) schedulers: Vec<Node>,
    /// New entries of `actions`.
    pub(super) actions: Vec<Node>,
    /// By entry of `jobs`.
    pub(super) pins: Vec<Pin>,
    /// `execution_config` gets `mode: direct`.
    pub(super) sets_direct_mode: bool,
    before: &'a Lowered,
    item_names: Vec<&'a str>,
    summary: String,
}

impl<'a> Additions<'a> {
    /// `root` is the tree of the spec, its variables replaced.
    pub(super) fn of(root: &'a Node, before: &'a Lowered, plan: &Plan) -> Self {
        let name = |item: &'a Node| match item.get("name").map(|name| &name.value) {
            Some(Value::Str(name)) => &**name,
            _ => "",
        };
        let item_names: Vec<&str> = items(root.get("jobs")).iter().map(name).collect();
        let new = plan.stages.iter().filter(|stage| !stage.is_given);
        let action = |stage: &Stage| {
            let jobs = match &stage.trigger {
                Trigger::OnJobsReady(jobs) => Some(selection(jobs, before, &item_names)),
                _ => None,
            };
            action(stage, jobs)
        };
        let execution = &before.workflow.header.execution;
        Self {
            schedulers: new.map(scheduler).collect(),
            actions: plan.stages.iter().map(action).collect(),
            pins: pins(before, plan),
            sets_direct_mode: execution.mode == ExecutionMode::Auto
                && plan::is_for_direct(execution),
            before,
            item_names,
            summary: plan.to_string(),
        }
    }

    /// The workflow that the completed spec must read as.
    pub(super) fn expected(&self, plan: &Plan) -> Workflow {
        let before = &self.before.workflow;
        let mut expected = plan::complete(before, plan);
        let pins = self.pins.iter().zip(&self.before.jobs_of_items);
        let pin_of_job = pins.flat_map(|(pin, count)| iter::repeat_n(pin, *count as usize));
        for ((job, old), pin) in expected.jobs.iter_mut().zip(&before.jobs).zip(pin_of_job) {
            if *pin == Pin::Several {
                job.scheduler = old.scheduler;
            }
        }
        expected
    }

    /// The entries of `jobs` that could not be pinned.
    pub(super) fn unpinned(&self) -> impl Iterator<Item = &str> {
        let all = self.pins.iter().zip(&self.item_names);
        all.filter(|(pin, _)| **pin == Pin::Several).map(|(_, name)| *name)
    }

    /// Adds everything to a tree.
    pub(super) fn apply(&self, root: &mut Node) {
        if let Some(jobs) = root.get_mut("jobs")
            && let Value::Seq(items) = &mut jobs.value
        {
            for (item, pin) in items.iter_mut().zip(&self.pins) {
                if let Pin::To(scheduler) = pin {
                    item.set("scheduler", text(scheduler));
                }
            }
        }
        for (list, new) in [("slurm_schedulers", &self.schedulers), ("actions", &self.actions)] {
            if new.is_empty() {
                continue;
            }
            let mut all = items(root.get(list)).to_vec();
            all.extend_from_slice(new);
            root.set(list, node(Value::Seq(all)));
        }
        if self.sets_direct_mode
            && let Some(execution) = root.get_mut("execution_config")
        {
            execution.set("mode", text("direct"));
        }
    }

    /// The plan as a comment of YAML.
    pub(super) fn comment(&self) -> String {
        let lines = iter::once("Planned by `torc slurm generate`:").chain(self.summary.lines());
        lines.map(|line| format!("# {}\n", line.replace(char::is_control, " "))).collect()
    }
}

fn node(value: Value) -> Node {
    Node::new(value, Span::default())
}

fn text(text: &str) -> Node {
    node(Value::Str(text.into()))
}

fn map(entries: Vec<(&str, Node)>) -> Node {
    let entry = |(key, value): (&str, Node)| (Spanned::new(key.into(), Span::default()), value);
    node(Value::Map(entries.into_iter().map(entry).collect()))
}

fn texts(all: Vec<String>) -> Node {
    node(Value::Seq(all.iter().map(|item| text(item)).collect()))
}

fn scheduler(stage: &Stage) -> Node {
    let mut entries = vec![("name", text(&stage.scheduler.name))];
    let settings = stage.scheduler.settings.as_object();
    let settings = settings.into_iter().flatten();
    // The defaults stand in the spec already.
    let own = settings.filter(|(name, _)| *name != "defaults");
    entries.extend(own.map(|(name, value)| (name.as_str(), from_json(value))));
    map(entries)
}

fn action(stage: &Stage, jobs: Option<Selection>) -> Node {
    let moment = if jobs.is_some() { "on_jobs_ready" } else { "on_workflow_start" };
    let mut entries = vec![("trigger_type", text(moment))];
    let Selection { names, regexes } = jobs.unwrap_or_default();
    if !names.is_empty() {
        entries.push(("jobs", texts(names)));
    }
    if !regexes.is_empty() {
        entries.push(("job_name_regexes", texts(regexes)));
    }
    entries.push(("action_type", text("schedule_nodes")));
    entries.push(("scheduler", text(&stage.scheduler.name)));
    if stage.chosen.num_allocations > 1 {
        entries.push(("num_allocations", node(Value::Int(stage.chosen.num_allocations.into()))));
    }
    map(entries)
}

fn from_json(value: &Json) -> Node {
    node(match value {
        Json::Null => Value::Null,
        Json::Bool(flag) => Value::Bool(*flag),
        Json::Number(number) => match number.as_i64() {
            Some(number) => Value::Int(number),
            None => Value::Float(number.as_f64().unwrap_or(f64::INFINITY)),
        },
        Json::String(text) => Value::Str(text.as_str().into()),
        Json::Array(items) => Value::Seq(items.iter().map(from_json).collect()),
        Json::Object(entries) => {
            return map(entries.iter().map(|(key, value)| (&**key, from_json(value))).collect());
        }
    })
}
