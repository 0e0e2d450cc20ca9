//! The top level of a spec.

use std::cell::RefCell;
use std::collections::HashSet;

use serde_json::{Map, Value as Json};

use super::{
    ActionItem, DataItem, FileItem, JobItem, Key, Node, PluginsNamed, Spanned, StdioOverride, Text,
    Value, action, each, env, execution, item, resources, scheduler,
};
use crate::addition::Growth;
use crate::diagnostics::{Problem, Span};
use crate::spec::decode::{Fields, wrong_type};
use crate::spec::fields;
use crate::spec::plugin_uses::{PluginItem, PluginUse};
use crate::spec::problems::Problems;
use crate::workflow::{
    ExecutionConfig, ExecutionMode, FailureHandler, Header, Requirements, SchedulerSettings,
    SortMethod,
};

/// A whole spec as written.
#[derive(Debug)]
pub(crate) struct Document {
    /// What needs neither expansion nor names; its lists of named things are empty.
    pub(crate) header: Header,
    pub(crate) parameters: Vec<(Key, Node)>,
    pub(crate) parameters_file: Option<Text>,
    pub(crate) requirements: Vec<Spanned<Requirements>>,
    pub(crate) failure_handlers: Vec<Spanned<FailureHandler>>,
    pub(crate) schedulers: Vec<Spanned<SchedulerSettings>>,
    pub(crate) files: Vec<FileItem>,
    pub(crate) user_data: Vec<DataItem>,
    pub(crate) jobs: Vec<JobItem>,
    pub(crate) actions: Vec<ActionItem>,
    pub(crate) stdio_overrides: Vec<StdioOverride>,
    /// Long options of sbatch for every Slurm scheduler.
    pub(crate) slurm_defaults: Map<String, Json>,
    /// Where they were written.
    pub(crate) slurm_defaults_place: Option<Span>,
    /// Whether steps are executed in Slurm mode, as far as the spec tells.
    pub(crate) is_slurm_mode: bool,
    /// The settings of plugins, by their names.
    pub(crate) plugin_items: Vec<PluginItem>,
    /// The plugins that `execution_config` names.
    pub(crate) plugins_named: PluginsNamed,
    /// Those that `schedulers` names.
    pub(crate) scheduler_plugins: Vec<PluginUse>,
}

/// Reads a spec. `user` is who owns it when it does not say.
///
/// Problems go to `problems`; `None` when it is not even a map.
pub(crate) fn read(root: Node, user: Option<&str>, problems: &Problems<'_>) -> Option<Document> {
    let mut fields = Fields::open(root, &fields::SPEC, problems)?;
    let name = name(&mut fields);
    let slurm_defaults_place = fields.node_span("slurm_defaults");
    let defaults = scheduler::defaults(&mut fields);
    let mut schedulers = each(&mut fields, "slurm_schedulers", |node, problems| {
        scheduler::slurm(node, &defaults, problems)
    });
    let has_slurm = !schedulers.is_empty();
    let scheduler_plugins = RefCell::default();
    let mut others = each(&mut fields, "schedulers", |node, problems| {
        scheduler::other(node, &scheduler_plugins, problems)
    });
    let (execution, stdio_overrides, plugins_named) = fields
        .node("execution_config")
        .and_then(|node| execution::read(node, has_slurm, problems))
        .unwrap_or_default();
    if execution.mode == ExecutionMode::Slurm {
        scheduler::check_mode(&others, problems);
    }
    schedulers.append(&mut others);
    let is_slurm_mode = match execution.mode {
        ExecutionMode::Slurm => true,
        ExecutionMode::Auto => has_slurm,
        ExecutionMode::Direct | ExecutionMode::Plugin => false,
    };
    if !fields.has("jobs") {
        fields.missing("jobs", "[{name: hello, command: echo hello}]");
    }
    accepted_only(&mut fields);
    let plugin_items = plugins(&mut fields);
    let document = Document {
        parameters: fields.map("parameters"),
        parameters_file: fields.text("parameters_file", "runs.csv"),
        requirements: each(&mut fields, "resource_requirements", resources::requirements),
        failure_handlers: each(&mut fields, "failure_handlers", resources::handler),
        schedulers,
        files: each(&mut fields, "files", item::file),
        user_data: each(&mut fields, "user_data", item::user_data),
        jobs: each(&mut fields, "jobs", item::job),
        actions: each(&mut fields, "actions", action::action),
        stdio_overrides,
        slurm_defaults: defaults,
        slurm_defaults_place,
        is_slurm_mode,
        header: Header {
            plugins: plugin_items.iter().map(|item| item.written.to_json()).collect(),
            ..header(&mut fields, name, user, execution)
        },
        plugin_items,
        plugins_named,
        scheduler_plugins: scheduler_plugins.into_inner(),
    };
    fields.finish();
    Some(document)
}

fn name(fields: &mut Fields<'_, '_>) -> String {
    let Some(name) = fields.required_text("name", "my_workflow") else {
        return String::new();
    };
    if let Some(problem) = crate::spec::lower::bad_name("a workflow", &name.value, name.span) {
        fields.problems().push(problem);
    }
    name.value.into()
}

fn header(
    fields: &mut Fields<'_, '_>,
    name: String,
    user: Option<&str>,
    execution: ExecutionConfig,
) -> Header {
    let string = |text: Text| String::from(text.value);
    Header {
        name,
        user: fields.text("user", "ada").map(string).or_else(|| user.map(str::to_owned)),
        description: fields.text("description", "what it computes").map(string),
        project: fields.text("project", "climate").map(string),
        metadata: metadata(fields),
        env: env(fields).into_iter().map(|(name, value)| (name.value, value.value)).collect(),
        sort_method: sort_method(fields),
        requirements: Vec::new(),
        failure_handlers: Vec::new(),
        schedulers: Vec::new(),
        actions: Vec::new(),
        files: Vec::new(),
        user_data: Vec::new(),
        execution,
        resource_monitor: resource_monitor(fields),
        use_pending_failed: use_pending_failed(fields),
        max_dynamic_iterations: dynamic_jobs(fields),
        growth: Growth::default(),
        wait_for_new_jobs_seconds: fields
            .count::<u64>("compute_node_wait_for_new_jobs_seconds")
            .unwrap_or(90),
        ignore_workflow_completion: fields
            .flag("compute_node_ignore_workflow_completion")
            .is_some_and(|flag| flag.value),
        wait_for_server_minutes: fields
            .count::<u64>("compute_node_wait_for_healthy_database_minutes")
            .unwrap_or(20),
        plugins: Vec::new(),
        families: Vec::new(),
    }
}

fn sort_method(fields: &mut Fields<'_, '_>) -> SortMethod {
    let methods = [
        ("gpus_runtime_memory", SortMethod::GpusRuntimeMemory),
        ("gpus_memory_runtime", SortMethod::GpusMemoryRuntime),
        ("none", SortMethod::None),
    ];
    fields.choice("jobs_sort_method", &methods).map_or_else(SortMethod::default, |m| m.value)
}

/// Fields that are accepted because specs in use have them.
fn accepted_only(fields: &mut Fields<'_, '_>) {
    let problems = fields.problems();
    if let Some((key, _)) = fields.take("access_groups") {
        let instead = "has no effect: torc's server is one user's";
        problems.not_run("`access_groups`", instead, key.span);
    }
    if let Some(flag) = fields.flag("enable_ro_crate").filter(|flag| flag.value) {
        problems.not_run("an RO-Crate", "is not written by this release of torc", flag.span);
    }
    let buffer = "compute_node_expiration_buffer_seconds";
    if let Some(number) = fields.whole(buffer) {
        let what = "`compute_node_expiration_buffer_seconds`";
        problems.not_run(what, "is ignored; `sigkill_headroom_seconds` does this", number.span);
    }
    if let Some((key, _)) = fields.take("slurm_config") {
        problems.push(
            Problem::error("spec::slurm-config", "`slurm_config` is now `execution_config`")
                .at(key.span, "renamed")
                .help("write `execution_config: {mode: slurm, ...}` with the same settings"),
        );
    }
}

fn metadata(fields: &mut Fields<'_, '_>) -> Option<Json> {
    let node = fields.node("metadata")?;
    match node.value {
        Value::Str(_) | Value::Map(_) => Some(node.to_json()),
        _ => {
            let message = "`metadata` must be a JSON string or a map";
            wrong_type(fields.problems(), &node, message, "metadata: {key: value}");
            None
        }
    }
}

fn use_pending_failed(fields: &mut Fields<'_, '_>) -> bool {
    let Some(flag) = fields.flag("use_pending_failed").filter(|flag| flag.value) else {
        return false;
    };
    let instead = "is not acted upon by this release of torc; such jobs are failed";
    fields.problems().not_run("`use_pending_failed`", instead, flag.span);
    true
}

fn dynamic_jobs(fields: &mut Fields<'_, '_>) -> Option<u32> {
    let problems = fields.problems();
    let mut inner = Fields::open(fields.node("dynamic_jobs")?, &fields::DYNAMIC_JOBS, problems)?;
    if !inner.has("max_iterations") {
        inner.missing("max_iterations", "3");
    }
    let bound = inner.count("max_iterations");
    inner.finish();
    bound
}

/// The plugins' settings; at most one item of each plugin.
fn plugins(fields: &mut Fields<'_, '_>) -> Vec<PluginItem> {
    let names = RefCell::new(HashSet::new());
    each(fields, "plugins", |node, problems| {
        let written = node.clone();
        let mut inner = Fields::open(node, &fields::PLUGIN, problems)?;
        let name = inner.required_text("name", "flux")?;
        if let Some(problem) = super::bad_plugin_name(&name) {
            problems.push(problem);
        } else if !names.borrow_mut().insert(name.value.clone()) {
            let message = format!("the settings of the plugin `{}` are there already", name.value);
            problems.push(
                Problem::error("spec::duplicate-name", message)
                    .at(name.span, "for the second time")
                    .help("write all settings of a plugin in one item"),
            );
        }
        Some(PluginItem { name, written })
    })
}

/// Kept as written; unknown keys are tolerated, known ones have their types.
fn resource_monitor(fields: &mut Fields<'_, '_>) -> Option<Json> {
    let problems = fields.problems();
    let (key, node) = fields.take("resource_monitor")?;
    let json = node.to_json();
    let mut monitor = Fields::open(node, &fields::MONITOR, problems)?;
    for name in ["sample_interval_seconds", "flush_interval_seconds"] {
        monitor.whole(name);
    }
    monitor.flag("generate_plots");
    sampling(&mut monitor);
    for name in ["jobs", "compute_node"] {
        if let Some(node) = monitor.node(name)
            && let Some(mut inner) = Fields::open(node, &fields::SAMPLING, problems)
        {
            sampling(&mut inner);
            inner.flag("cpu");
            inner.flag("memory");
        }
    }
    let instead = "is not acted upon by this release of torc";
    problems.not_run("`resource_monitor`", instead, key.span);
    Some(json)
}

fn sampling(fields: &mut Fields<'_, '_>) {
    fields.flag("enabled");
    fields.choice("granularity", &[("summary", ()), ("time_series", ())]);
}
