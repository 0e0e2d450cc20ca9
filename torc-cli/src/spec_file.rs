//! Reading a spec: the file system's side of what torc-core asks for.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use torc_core::diagnostics::{Problem, SourceText, Span};
use torc_core::plan::Plan;
use torc_core::spec::{Completed, Context, Format, Loaded, PluginRole, PluginUse, Rejected, load};
use torc_core::workflow::{LauncherSetting, Workflow};
use torc_server::spec_folders::SpecFolders;

use crate::args;
use crate::exit::{Exit, Failure};
use crate::render::{diagnostics, json};
use crate::sbatch;
use crate::settings::Settings;

/// A spec that was read, or the problems that it has.
pub(crate) struct SpecFile {
    pub(crate) source: SourceText,
    /// Absolute; `None`: standard input.
    pub(crate) path: Option<PathBuf>,
    pub(crate) workflow: Option<Arc<Workflow>>,
    /// Errors and warnings, in the order of the text.
    pub(crate) problems: Vec<Problem>,
    /// Options of sbatch for all schedulers.
    pub(crate) slurm_defaults: serde_json::Map<String, serde_json::Value>,
    /// Where the workflow's resource requirements were written, in their order.
    pub(crate) requirement_places: Vec<Span>,
    /// The plugins that it names.
    pub(crate) plugin_uses: Vec<PluginUse>,
    bytes: Vec<u8>,
    /// Where the files that it names are looked for.
    folders: SpecFolders,
}

/// Reads a spec; `-` is standard input.
pub(crate) fn read(path: &Path) -> Result<SpecFile, Failure> {
    let is_stdin = is_stdin(path);
    let (bytes, source) = bytes(path)?;
    let format = Format::from_extension(&source.name);
    let absolute = std::path::absolute(path)
        .map_err(|error| Failure::new(Exit::Environment, format!("the current folder: {error}")))?;
    let folders = folders(path);
    let mut spec = of(bytes, source, format, (!is_stdin).then_some(absolute), folders);
    spec.take_launcher_of_site()?;
    Ok(spec)
}

impl SpecFile {
    /// The name of a launcher stands for the settings' template of that name, where they have one. From then on the
    /// workflow has the template itself: what the settings of other hosts say does not matter.
    fn take_launcher_of_site(&mut self) -> Result<(), Failure> {
        let Some(workflow) = self.workflow.as_mut().and_then(Arc::get_mut) else { return Ok(()) };
        let execution = &mut workflow.header.execution;
        let Some(LauncherSetting::Plugin(name)) = &execution.launcher else { return Ok(()) };
        let Some(template) = Settings::load()?.launchers.remove(&**name) else { return Ok(()) };
        execution.launcher = Some(LauncherSetting::Template { argv: template.value });
        self.plugin_uses.retain(|used| used.role != PluginRole::Launcher);
        Ok(())
    }
}

/// Reads a spec that torc itself wrote, in JSON; `name` is what its problems call it.
pub(crate) fn written(name: &str, text: String) -> SpecFile {
    let source = SourceText { name: name.into(), text: text.as_str().into() };
    of(text.into_bytes(), source, Some(Format::Json), None, SpecFolders::here())
}

fn of(
    bytes: Vec<u8>,
    source: SourceText,
    format: Option<Format>,
    path: Option<PathBuf>,
    folders: SpecFolders,
) -> SpecFile {
    let user = std::env::var("USER").ok();
    let context = Context { user: user.as_deref(), sources: &folders };
    let (workflow, problems, slurm_defaults, requirement_places, plugin_uses) =
        match load(&bytes, format, &context) {
            Ok(loaded) => {
                let unsayable = sbatch::problems(&loaded);
                let Loaded {
                    workflow,
                    mut warnings,
                    slurm_defaults,
                    requirement_places,
                    plugin_uses,
                    ..
                } = loaded;
                let workflow = unsayable.is_empty().then(|| Arc::new(workflow));
                if workflow.is_none() {
                    warnings.extend(unsayable);
                    warnings.sort_by_key(|problem| problem.span.map_or(0, |span| span.start));
                }
                (workflow, warnings, slurm_defaults, requirement_places, plugin_uses)
            }
            Err(Rejected { problems }) => {
                (None, problems, serde_json::Map::new(), Vec::new(), Vec::new())
            }
        };
    SpecFile {
        source,
        path,
        workflow,
        problems,
        slurm_defaults,
        requirement_places,
        plugin_uses,
        bytes,
        folders,
    }
}

/// The workflow of a spec, after its problems were shown.
///
/// # Errors
/// When it has none: the spec is invalid.
pub(crate) fn valid(spec: &SpecFile, format: args::Format) -> Result<&Arc<Workflow>, Failure> {
    diagnostics::print(&spec.source, &spec.problems);
    spec.workflow.as_ref().ok_or_else(|| {
        if format == args::Format::Json {
            json(&diagnostics::listing(&spec.source, &spec.problems));
        }
        Failure::silent(Exit::SpecInvalid)
    })
}

/// The text of a spec with what its plan adds.
pub(crate) fn complete(spec: &SpecFile, plan: &Plan) -> Result<Completed, Failure> {
    let user = std::env::var("USER").ok();
    let context = Context { user: user.as_deref(), sources: &spec.folders };
    let format = Format::from_extension(&spec.source.name);
    torc_core::spec::complete(&spec.bytes, format, &context, plan)
        .map_err(|error| Failure::new(Exit::SpecInvalid, error))
}

/// The bytes of a spec, and its text for messages.
pub(crate) fn bytes(path: &Path) -> Result<(Vec<u8>, SourceText), Failure> {
    let bytes = if is_stdin(path) { read_stdin() } else { std::fs::read(path) };
    let bytes = bytes.map_err(|error| {
        Failure::new(Exit::SpecInvalid, format!("cannot read {}: {error}", path.display()))
    })?;
    let name = if is_stdin(path) { "standard input".into() } else { path.to_string_lossy() };
    let text = String::from_utf8_lossy(&bytes).into();
    Ok((bytes, SourceText { name: (&*name).into(), text }))
}

/// Where the files that a spec names are looked for.
pub(crate) fn folders(path: &Path) -> SpecFolders {
    if is_stdin(path) { SpecFolders::here() } else { SpecFolders::of(path) }
}

fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

fn read_stdin() -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::io::stdin().lock().read_to_end(&mut bytes)?;
    Ok(bytes)
}
