//! `execution_config`: how steps are executed.

use super::{Key, Node, Text, Value};
use crate::diagnostics::{Problem, Span};
use crate::launch_template::{LaunchTemplate, TemplateError};
use crate::placer::Policy;
use crate::spec::decode::{Fields, as_text, wrong_type};
use crate::spec::fields;
use crate::spec::problems::Problems;
use crate::spec::units;
use crate::workflow::{ExecutionConfig, ExecutionMode, LauncherSetting, Stdio, StdioMode};

/// A job whose output goes elsewhere than the workflow's.
pub(crate) type StdioOverride = (Key, Stdio);

/// The plugins that are named here, with their places.
#[derive(Clone, Debug, Default)]
pub(crate) struct PluginsNamed {
    pub(crate) executor: Option<Text>,
    pub(crate) launcher: Option<Text>,
    pub(crate) placer: Option<Text>,
}

/// The mode, once it is known whether the spec has Slurm schedulers.
fn effective_mode(mode: ExecutionMode, has_slurm_schedulers: bool) -> ExecutionMode {
    match mode {
        ExecutionMode::Auto if has_slurm_schedulers => ExecutionMode::Slurm,
        other => other,
    }
}

/// Reads `execution_config`.
pub(super) fn read(
    node: Node,
    has_slurm_schedulers: bool,
    problems: &Problems<'_>,
) -> Option<(ExecutionConfig, Vec<StdioOverride>, PluginsNamed)> {
    let mut fields = Fields::open(node, &fields::EXECUTION, problems)?;
    let defaults = ExecutionConfig::default();
    let mode_place = fields.value_span("mode");
    let (mode, executor) = mode(&mut fields);
    let fields_of_mode = ModeFields {
        mode: effective_mode(mode, has_slurm_schedulers),
        plugin: executor.as_deref(),
        problems,
    };
    let overrides = fields
        .map("job_stdio_overrides")
        .into_iter()
        .filter_map(|(job, node)| Some((job, stdio(node, problems)?)))
        .collect();
    let (launcher_place, placer_place) =
        (fields.value_span("launcher"), fields.value_span("placer"));
    let mut config = ExecutionConfig {
        mode,
        executor: executor.clone(),
        sigkill_headroom_seconds: seconds(&mut fields, "sigkill_headroom_seconds")
            .unwrap_or(defaults.sigkill_headroom_seconds),
        timeout_exit_code: exit_code(&mut fields, "timeout_exit_code")
            .map_or(defaults.timeout_exit_code, |(code, _)| code),
        staggered_start: fields.flag("staggered_start").is_none_or(|flag| flag.value),
        stdio: fields.node("stdio").and_then(|node| stdio(node, problems)).unwrap_or_default(),
        launcher: launcher(&mut fields, &fields_of_mode),
        placer: placer(&mut fields),
        enforce_runtime: fields.flag("enforce_runtime").is_some_and(|flag| flag.value),
        max_parallel_steps: fields.count("max_parallel_steps"),
        ..defaults
    };
    direct_only(&mut fields, &mut config, &fields_of_mode);
    slurm_only(&mut fields, &mut config, &fields_of_mode);
    fields.finish();
    let launcher = match &config.launcher {
        Some(LauncherSetting::Plugin(name)) => Some(&**name),
        _ => None,
    };
    let named = |name: Option<&str>, span| Some(Text::new(name?.into(), span?));
    let plugins = PluginsNamed {
        executor: named(config.executor_plugin(), mode_place),
        launcher: named(launcher, launcher_place),
        placer: named(config.placer_plugin(), placer_place),
    };
    Some((config, overrides, plugins))
}

/// One of torc's own executors, or the name of a plugin that is one.
fn mode(fields: &mut Fields<'_, '_>) -> (ExecutionMode, Option<Box<str>>) {
    let usual = (ExecutionMode::default(), None);
    let Some(text) = fields.text("mode", "direct") else { return usual };
    let own = ExecutionMode::NAMES.into_iter().find(|(name, _)| *name == &*text.value);
    match (own, super::bad_plugin_name(&text)) {
        (Some((_, mode)), _) => (mode, None),
        (None, None) => (ExecutionMode::Plugin, Some(text.value)),
        (None, Some(problem)) => {
            fields.problems().push(problem);
            usual
        }
    }
}

/// Reports fields of the mode that the spec does not have.
struct ModeFields<'p, 'a> {
    mode: ExecutionMode,
    /// The executor, where that is a plugin's.
    plugin: Option<&'p str>,
    problems: &'p Problems<'a>,
}

impl ModeFields<'_, '_> {
    /// Of a field that says something of each step, which an executor is told of, wherever it comes from.
    fn check_for_steps(&self, name: &str, span: Span, is_default: bool) {
        self.check(ExecutionMode::Direct, name, span, is_default || self.plugin.is_some());
    }

    fn check(&self, of: ExecutionMode, name: &str, span: Span, is_default: bool) {
        if is_default || self.mode == of || self.mode == ExecutionMode::Auto {
            return;
        }
        let (of, mode) = match of {
            ExecutionMode::Direct => ("direct", self.plugin.unwrap_or("slurm")),
            _ => ("slurm", self.plugin.unwrap_or("direct")),
        };
        let message = format!("`{name}` is for mode {of}, but this workflow has mode {mode}");
        self.problems.push(
            Problem::error("spec::other-mode", message)
                .at(span, format!("only in mode {of}"))
                .help(format!(
                    "remove it, or set `mode: {of}` (auto counts as slurm where the spec has \
                     slurm_schedulers)"
                )),
        );
    }
}

fn direct_only(
    fields: &mut Fields<'_, '_>,
    config: &mut ExecutionConfig,
    mode: &ModeFields<'_, '_>,
) {
    const OF: ExecutionMode = ExecutionMode::Direct;
    if let Some(flag) = fields.flag("limit_resources") {
        mode.check_for_steps("limit_resources", flag.span, flag.value);
        config.limit_resources = flag.value;
    }
    if let Some(text) = super::text_or_whole(fields, "termination_signal", "SIGTERM") {
        match units::signal(&text.value) {
            Ok(signal) => {
                let is_default = signal == config.termination_signal;
                mode.check_for_steps("termination_signal", text.span, is_default);
                config.termination_signal = signal;
            }
            Err(error) => {
                mode.problems.push(super::malformed("spec::bad-signal", text.span, error));
            }
        }
    }
    if let Some(lead) = fields.whole("sigterm_lead_seconds") {
        let value = u64::try_from(lead.value).unwrap_or_default();
        let is_default = value == config.sigterm_lead_seconds;
        mode.check_for_steps("sigterm_lead_seconds", lead.span, is_default);
        config.sigterm_lead_seconds = value;
    }
    if let Some((code, span)) = exit_code(fields, "oom_exit_code") {
        mode.check_for_steps("oom_exit_code", span, code == config.oom_exit_code);
        config.oom_exit_code = code;
    }
    if let Some(flag) = fields.flag("release_idle_nodes") {
        mode.check(OF, "release_idle_nodes", flag.span, !flag.value);
        config.release_idle_nodes = flag.value;
    }
    if let Some(text) = fields.text("srun_mpi", "none") {
        mode.check(OF, "srun_mpi", text.span, false);
        config.srun_mpi = Some(text.value.into());
    }
}

fn slurm_only(
    fields: &mut Fields<'_, '_>,
    config: &mut ExecutionConfig,
    mode: &ModeFields<'_, '_>,
) {
    const OF: ExecutionMode = ExecutionMode::Slurm;
    const USUAL_SIGNAL: &str = "TERM@120";
    if let Some(text) = fields.text("srun_termination_signal", USUAL_SIGNAL) {
        mode.check(OF, "srun_termination_signal", text.span, &*text.value == USUAL_SIGNAL);
        match units::slurm_signal(&text.value) {
            Ok(_) => config.srun_termination_signal = Some(text.value.into()),
            Err(error) => {
                mode.problems.push(super::malformed("spec::bad-signal", text.span, error));
            }
        }
    }
    if let Some(flag) = fields.flag("enable_cpu_bind") {
        mode.check(OF, "enable_cpu_bind", flag.span, !flag.value);
        config.enable_cpu_bind = flag.value;
    }
}

fn seconds(fields: &mut Fields<'_, '_>, name: &'static str) -> Option<u64> {
    let found = fields.whole(name)?;
    u64::try_from(found.value).ok()
}

fn exit_code(fields: &mut Fields<'_, '_>, name: &'static str) -> Option<(i32, Span)> {
    let found = fields.whole(name)?;
    Some((i32::try_from(found.value).ok()?, found.span))
}

/// Reads `stdio` of a job or of the workflow.
pub(super) fn stdio(node: Node, problems: &Problems<'_>) -> Option<Stdio> {
    let mut fields = Fields::open(node, &fields::STDIO, problems)?;
    let modes = [
        ("separate", StdioMode::Separate),
        ("combined", StdioMode::Combined),
        ("no_stdout", StdioMode::NoStdout),
        ("no_stderr", StdioMode::NoStderr),
        ("none", StdioMode::None),
    ];
    let found = Stdio {
        mode: fields.choice("mode", &modes).map_or(StdioMode::Separate, |mode| mode.value),
        delete_on_success: fields.flag("delete_on_success").is_some_and(|flag| flag.value),
    };
    fields.finish();
    Some(found)
}

/// The name of one of torc's own placers, or of a plugin.
fn placer(fields: &mut Fields<'_, '_>) -> Option<String> {
    let text: Text = fields.text("placer", "pack")?;
    if !Policy::is_known(&text.value)
        && let Some(problem) = super::bad_plugin_name(&text)
    {
        fields.problems().push(problem);
    }
    Some(text.value.into())
}

/// A launcher's name, or a template with an `argv`.
fn launcher(fields: &mut Fields<'_, '_>, of_mode: &ModeFields<'_, '_>) -> Option<LauncherSetting> {
    const EXAMPLE: &str = "launcher: {argv: [mpirun, -n, \"{ntasks}\", --, \"{command}\"]}";
    let problems = fields.problems();
    let node = fields.node("launcher")?;
    of_mode.check_for_steps("launcher", node.span, false);
    let span = node.span;
    match node.value {
        Value::Str(name) => {
            let name = Text::new(name, span);
            match super::bad_plugin_name(&name) {
                None => Some(LauncherSetting::Plugin(name.value)),
                Some(problem) => {
                    problems.push(problem);
                    None
                }
            }
        }
        Value::Map(_) => template(node, problems),
        _ => {
            wrong_type(problems, &node, "`launcher` must be a name or a template", EXAMPLE);
            None
        }
    }
}

fn template(node: Node, problems: &Problems<'_>) -> Option<LauncherSetting> {
    let whole = node.span;
    let mut fields = Fields::open(node, &fields::LAUNCHER, problems)?;
    if !fields.has("argv") {
        fields.missing("argv", "[mpirun, --, \"{command}\"]");
        fields.finish();
        return None;
    }
    let words: Vec<Option<Text>> = fields
        .list("argv")
        .into_iter()
        .map(|word| as_text(problems, word, "an item of `argv` must be a string", "-", "mpirun"))
        .collect();
    fields.finish();
    let words: Vec<Text> = words.into_iter().collect::<Option<_>>()?;
    let spans: Vec<Span> = words.iter().map(|word| word.span).collect();
    let words: Vec<String> = words.into_iter().map(|word| word.value.into()).collect();
    match LaunchTemplate::try_from(words) {
        Ok(argv) => Some(LauncherSetting::Template { argv }),
        Err(error) => {
            let span = error.word().and_then(|word| spans.get(word)).copied().unwrap_or(whole);
            let problem = Problem::error("spec::bad-launcher", error.to_string());
            problems.push(problem.at(span, "here").help(help(&error)));
            None
        }
    }
}

fn help(error: &TemplateError) -> String {
    let places: Vec<String> = TemplateError::places().map(|name| format!("{{{name}}}")).collect();
    let places = places.join(", ");
    match error {
        TemplateError::UnknownPlace { nearest: Some(nearest), .. } => {
            format!("did you mean `{{{nearest}}}`? There are {places}")
        }
        _ => format!(
            "an example is [mpirun, -n, \"{{ntasks}}\", --, \"{{command}}\"]; there are {places}"
        ),
    }
}
