//! The plugins that a spec names, with what it sets for each, and where that was written.
//!
//! Knows no plugin, and not what its settings have to be: whoever has the plugin asks here where to point. Invariant:
//! each use has the very settings that the plugin will be given.

use serde_json::{Map, Value as Json};

use super::fields::SCHEDULER;
use super::model::Document;
use super::problems::Problems;
use super::tree::{Node, Text, Value};
use crate::diagnostics::{Problem, Span};
use crate::workflow::Header;

/// A step on the way to a value within another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathStep {
    /// To the value of a field.
    Field(String),
    /// To an item of a list, from 0.
    Item(usize),
}

/// What a spec has a plugin for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PluginRole {
    /// It runs the steps.
    Executor,
    /// It says how a step is started.
    Launcher,
    /// It places the jobs.
    Placer,
    /// It gives allocations.
    Scheduler,
}

/// That a spec names a plugin.
#[derive(Clone, Debug, PartialEq)]
pub struct PluginUse {
    /// The plugin's name.
    pub plugin: String,
    /// What for.
    pub role: PluginRole,
    /// What the spec sets for it.
    pub settings: Map<String, Json>,
    /// Where the settings are, or where the plugin is named if there are none.
    head: Span,
    written: Option<Node>,
}

/// Settings of a plugin, as one item of the spec has them.
#[derive(Clone, Debug)]
pub(crate) struct PluginItem {
    /// The plugin's name.
    pub(crate) name: Text,
    /// The whole item.
    pub(crate) written: Node,
}

impl PluginUse {
    /// That the spec names a scheduler's plugin, to which the fields of its entry are handed that are not torc's.
    pub(crate) fn of_scheduler(kind: &Text, entry: Node) -> Self {
        let mut settings = object(&entry);
        settings.retain(|field, value| SCHEDULER.field(field).is_none() && !value.is_null());
        Self {
            plugin: kind.value.to_string(),
            role: PluginRole::Scheduler,
            settings,
            head: kind.span,
            written: Some(entry),
        }
    }

    fn of_item(role: PluginRole, name: &Text, items: &[PluginItem], header: &Header) -> Self {
        let item = items.iter().find(|item| item.name.value == name.value);
        Self {
            plugin: name.value.to_string(),
            role,
            settings: header.settings_of(&name.value),
            head: item.map_or(name, |item| &item.name).span,
            written: item.map(|item| item.written.clone()),
        }
    }

    /// Where a value of the settings was written; of one that is nowhere, what it would be in.
    pub fn place(&self, path: &[PathStep]) -> Span {
        let mut found = self.written.as_ref();
        let mut place = self.head;
        for step in path {
            let next = match (found.map(|node| &node.value), step) {
                (Some(Value::Map(entries)), PathStep::Field(field)) => {
                    entries.iter().find(|(key, _)| *key.value == **field).map(|(_, node)| node)
                }
                (Some(Value::Seq(items)), PathStep::Item(index)) => items.get(*index),
                _ => None,
            };
            let Some(next) = next else { break };
            place = next.span;
            found = Some(next);
        }
        place
    }

    /// Where the name of a field was written that is in the value at `path`.
    pub fn place_of_field(&self, path: &[PathStep], field: &str) -> Span {
        let mut found = self.written.as_ref();
        for step in path {
            found = match (found.map(|node| &node.value), step) {
                (Some(Value::Map(_)), PathStep::Field(field)) => {
                    found.and_then(|node| node.get(field))
                }
                (Some(Value::Seq(items)), PathStep::Item(index)) => items.get(*index),
                _ => None,
            };
        }
        match found.map(|node| &node.value) {
            Some(Value::Map(entries)) => entries
                .iter()
                .find(|(key, _)| *key.value == *field)
                .map_or_else(|| self.place(path), |(key, _)| key.span),
            _ => self.place(path),
        }
    }
}

fn object(node: &Node) -> Map<String, Json> {
    match node.to_json() {
        Json::Object(object) => object,
        _ => Map::new(),
    }
}

/// The plugins that a spec names.
pub(crate) fn uses(document: &Document) -> Vec<PluginUse> {
    let named = [
        (PluginRole::Executor, &document.plugins_named.executor),
        (PluginRole::Launcher, &document.plugins_named.launcher),
        (PluginRole::Placer, &document.plugins_named.placer),
    ];
    let named = named.into_iter().filter_map(|(role, name)| Some((role, name.as_ref()?)));
    let (items, header) = (&document.plugin_items, &document.header);
    let of_items = named.map(|(role, name)| PluginUse::of_item(role, name, items, header));
    of_items.chain(document.scheduler_plugins.iter().cloned()).collect()
}

/// Warns of settings that no plugin is given.
pub(crate) fn check_unused(items: &[PluginItem], uses: &[PluginUse], problems: &Problems<'_>) {
    for PluginItem { name, .. } in items {
        let of_it = |used: &&PluginUse| *used.plugin == *name.value;
        if uses.iter().filter(of_it).any(|used| used.role != PluginRole::Scheduler) {
            continue;
        }
        let (label, help) = if uses.iter().any(|used| of_it(&used)) {
            let help = "write them in the entry of `schedulers` that has it as its type";
            ("a scheduler is not given these", help.to_owned())
        } else {
            let known = uses.iter().map(|used| &*used.plugin);
            let help = problems.did_you_mean(&name.value, known).unwrap_or_else(|| {
                "name it as `mode`, `launcher` or `placer` of `execution_config`, or remove it"
                    .to_owned()
            });
            ("nothing in this spec names it", help)
        };
        let message = format!("the settings of the plugin `{}` are not used", name.value);
        problems
            .push(Problem::warning("spec::unused-plugin", message).at(name.span, label).help(help));
    }
}
