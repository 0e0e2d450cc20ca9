//! `slurm_schedulers`, `slurm_defaults` and `schedulers`: where allocations come from.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value as Json};

use super::{Key, Node, Spanned, Text, Value, malformed, text_or_whole};
use crate::diagnostics::{Problem, Span};
use crate::spec::decode::{Fields, wrong_type};
use crate::spec::fields;
use crate::spec::plugin_uses::PluginUse;
use crate::spec::problems::{Problems, excerpt};
use crate::spec::units;
use crate::workflow::SchedulerSettings;

/// What only a scheduler itself may say, or what torc derives.
const FORBIDDEN_DEFAULTS: [&str; 8] =
    ["partition", "nodes", "walltime", "time", "mem", "gres", "name", "job-name"];

/// Reads `slurm_defaults` into long options of sbatch.
pub(super) fn defaults(fields: &mut Fields<'_, '_>) -> Map<String, Json> {
    let problems = fields.problems();
    let mut options = Map::new();
    let mut first_places: HashMap<String, Span> = HashMap::new();
    for (key, node) in fields.map("slurm_defaults") {
        let option = key.value.trim_start_matches("--").replace('_', "-");
        if let Some(first) = first_places.get(&option) {
            problems.push(in_two_spellings(&key, &option, problems.line(*first)));
            continue;
        }
        first_places.insert(option.clone(), key.span);
        if FORBIDDEN_DEFAULTS.contains(&&*option) {
            let message = format!("`slurm_defaults` cannot set `{}`", key.value);
            problems.push(
                Problem::error("spec::forbidden-default", message)
                    .at(key.span, "not a default")
                    .help("set it on each of the `slurm_schedulers`"),
            );
            continue;
        }
        match node.value {
            Value::Seq(_) | Value::Map(_) => {
                let message = "a default must be text, a number or a boolean";
                wrong_type(problems, &node, message, &format!("{}: value", key.value));
            }
            _ => {
                options.insert(option, node.to_json());
            }
        }
    }
    options
}

fn in_two_spellings(second: &Key, option: &str, first_line: usize) -> Problem {
    let message = format!(
        "`slurm_defaults` has the option `{}` twice: `{}` is another spelling of it",
        excerpt(option),
        excerpt(&second.value)
    );
    Problem::error("spec::duplicate-key", message)
        .at(second.span, "for the second time")
        .help(format!("the first is on line {first_line}; keep one"))
}

/// Reads one entry of `slurm_schedulers`.
pub(super) fn slurm(
    node: Node,
    defaults: &Map<String, Json>,
    problems: &Problems<'_>,
) -> Option<Spanned<SchedulerSettings>> {
    let mut settings = match node.to_json() {
        Json::Object(map) => map,
        _ => Map::new(),
    };
    settings.retain(|key, value| key != "name" && !value.is_null());
    if !defaults.is_empty() {
        settings.insert("defaults".to_owned(), Json::Object(defaults.clone()));
    }
    let mut fields = Fields::open(node, &fields::SLURM_SCHEDULER, problems)?;
    let name = fields.required_text("name", "cpu_nodes");
    if !fields.has("account") && !defaults.contains_key("account") {
        fields.missing("account", "my_project");
    }
    for (field, example) in [
        ("account", "my_project"),
        ("partition", "standard"),
        ("qos", "normal"),
        ("gres", "gpu:2"),
        ("extra", "--constraint=skylake"),
    ] {
        fields.text(field, example);
    }
    for (field, example) in [("mem", "100G"), ("tmp", "50G")] {
        text_or_whole(&mut fields, field, example);
    }
    fields.whole("ntasks_per_node");
    fields.flag("exclusive");
    common(&mut fields, problems);
    fields.finish();
    named(name?, "slurm", settings)
}

/// The fields that mean the same whatever the type.
fn common(fields: &mut Fields<'_, '_>, problems: &Problems<'_>) {
    fields.whole("nodes");
    fields.flag("serialize_allocations");
    fields.texts("labels");
    if let Some(text) = fields.text("walltime", "04:00:00")
        && let Err(error) = units::walltime(&text.value)
    {
        problems.push(malformed("spec::bad-walltime", text.span, error));
    }
}

/// Reads one entry of `schedulers`: what is not torc's own is for the plugin of its type.
/// `plugins` gets that one.
pub(super) fn other(
    node: Node,
    plugins: &RefCell<Vec<PluginUse>>,
    problems: &Problems<'_>,
) -> Option<Spanned<SchedulerSettings>> {
    let written = node.clone();
    let mut settings = match node.to_json() {
        Json::Object(map) => map,
        _ => Map::new(),
    };
    settings.retain(|key, value| key != "name" && key != "type" && !value.is_null());
    let mut fields = Fields::open(node, &fields::SCHEDULER, problems)?;
    let name = fields.required_text("name", "here");
    let kind = fields.required_text("type", "gridengine");
    common(&mut fields, problems);
    fields.rest();
    let (name, kind) = (name?, kind?);
    if &*kind.value == "slurm" {
        problems.push(
            Problem::error("spec::unknown-value", "a Slurm scheduler is not one of `schedulers`")
                .at(kind.span, "slurm")
                .help("move it to `slurm_schedulers`"),
        );
    }
    if !matches!(&*kind.value, "slurm" | "local") {
        plugins.borrow_mut().push(PluginUse::of_scheduler(&kind, written));
    }
    named(name, &kind.value, settings)
}

/// Reports those of other types that mode slurm is for, where it is asked for: only Slurm has srun.
pub(super) fn check_mode(others: &[Spanned<SchedulerSettings>], problems: &Problems<'_>) {
    for found in others.iter().filter(|found| found.value.kind != "local") {
        let kind = excerpt(&found.value.kind);
        let message = format!(
            "the scheduler `{}` has the type `{kind}`, but this workflow has mode slurm",
            excerpt(&found.value.name)
        );
        problems.push(
            Problem::error("spec::other-mode", message)
                .at(found.span, "not in mode slurm")
                .help("set `mode: direct`, or leave `mode` out: srun starts jobs on Slurm only"),
        );
    }
}

fn named(
    name: Text,
    kind: &str,
    settings: Map<String, Json>,
) -> Option<Spanned<SchedulerSettings>> {
    let found = SchedulerSettings {
        name: Arc::from(&*name.value),
        kind: kind.to_owned(),
        settings: Json::Object(settings),
    };
    Some(Spanned::new(found, name.span))
}
