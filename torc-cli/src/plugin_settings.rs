//! Whether the settings that a spec has for plugins are what these take, each fault with its place in the spec.
//!
//! Owns: that question, asked before a plugin is opened. Does not know: what plugins take, which the schema says that
//! each has. Invariant: the plugin's own code runs in another process, so one that is broken ends nothing here.

use torc_core::diagnostics::Problem;
use torc_core::spec::{PluginRole, PluginUse};
use torc_plugins::settings::{Wrong, judge};

use crate::args::{Format, PluginArgs};
use crate::commands::plugin::about;
use crate::exit::{Exit, Failure};
use crate::plugins::shelf;
use crate::render::{diagnostics, json};
use crate::spec_file::SpecFile;

/// The code of a schema that is none.
const BAD_SCHEMA: &str = "plugin::schema";

/// Which uses of plugins are looked at.
pub(crate) type Roles = &'static [PluginRole];

/// What a run on the spot needs: it has no use for schedulers.
pub(crate) const HERE: Roles = &[PluginRole::Executor, PluginRole::Launcher, PluginRole::Placer];
/// What a server and its workers need.
pub(crate) const EVERYWHERE: Roles =
    &[PluginRole::Executor, PluginRole::Launcher, PluginRole::Placer, PluginRole::Scheduler];

/// Shows what is wrong with the settings of plugins that can be found here, and refuses them. Of others whoever opens
/// them tells.
///
/// # Errors
/// When there is something wrong.
pub(crate) fn refuse_wrong(
    spec: &SpecFile,
    roles: Roles,
    args: &PluginArgs,
    format: Format,
) -> Result<(), Failure> {
    let found = look(&spec.plugin_uses, roles, args)?;
    if found.wrong.is_empty() {
        return Ok(());
    }
    diagnostics::print(&spec.source, &found.wrong);
    if format == Format::Json {
        json(&diagnostics::listing(&spec.source, &found.wrong));
    }
    Err(Failure::silent(found.exit()))
}

/// What was found of the settings of plugins.
#[derive(Default)]
pub(crate) struct Looked {
    /// Errors, in the order of the spec.
    pub(crate) wrong: Vec<Problem>,
    /// Warnings of settings that nobody could look at.
    pub(crate) unknown: Vec<Problem>,
}

impl Looked {
    /// How a command ends that looked: a schema that is none is not the user's slip.
    pub(crate) fn exit(&self) -> Exit {
        match self.wrong.as_slice() {
            [] => Exit::Success,
            wrong if wrong.iter().any(|problem| problem.code == BAD_SCHEMA) => Exit::Environment,
            _ => Exit::Usage,
        }
    }
}

/// Looks at the settings of plugins.
///
/// # Errors
/// When it is not known where plugins are looked for.
pub(crate) fn look(uses: &[PluginUse], roles: Roles, args: &PluginArgs) -> Result<Looked, Failure> {
    let mut looked = Looked::default();
    let mut uses = uses.iter().filter(|used| roles.contains(&used.role)).peekable();
    if uses.peek().is_none() {
        return Ok(looked);
    }
    let shelf = shelf(args)?;
    for used in uses {
        let name = &used.plugin;
        let found = shelf.find(name).map_err(|error| error.to_string());
        match found.and_then(|found| about(&found)) {
            Ok(about) => match judge(about.schema.as_ref(), &used.settings) {
                Ok(wrong) => looked.wrong.extend(wrong.iter().map(|one| problem(used, one))),
                Err(reason) => looked.wrong.push(bad_schema(used, &reason)),
            },
            Err(reason) => {
                let message =
                    format!("the settings of the plugin `{name}` were not looked at: {reason}");
                let problem = Problem::warning("plugin::settings-unknown", message);
                looked.unknown.push(problem.at(used.place(&[]), "this plugin").help(
                    "`torc plugin list` shows which there are, and why others are not; \
                     `--plugin-path DIR` adds a folder",
                ));
            }
        }
    }
    looked.wrong.sort_by_key(|problem| problem.span.map_or(0, |span| span.start));
    Ok(looked)
}

fn problem(used: &PluginUse, wrong: &Wrong) -> Problem {
    let span = match &wrong.field {
        Some(field) => used.place_of_field(&wrong.at, field),
        None => used.place(&wrong.at),
    };
    let message = format!("plugin `{}`: {}", used.plugin, wrong.message);
    let help = wrong.help.clone().unwrap_or_else(|| {
        format!("`torc plugin info {}` shows what the plugin takes", used.plugin)
    });
    Problem::error("plugin::settings", message).at(span, &*wrong.label).help(help)
}

fn bad_schema(used: &PluginUse, reason: &str) -> Problem {
    let name = &used.plugin;
    let message = format!("plugin `{name}`: the schema of its settings is none: {reason}");
    let help = format!("tell its author; `torc plugin check {name}` shows the same");
    Problem::error(BAD_SCHEMA, message).at(used.place(&[]), "this plugin").help(help)
}
