//! `torc plugin`: plugins are found, looked at, checked, tried and begun.

mod check;
mod info;
mod kit;
mod list;
mod new;
mod probe;
mod run;

pub(crate) use probe::about;
use torc_plugins::{Kind, PluginError};

use crate::args::{Format, PluginCommand};
use crate::exit::{Exit, Failure};

pub(crate) fn execute(command: &PluginCommand, format: Format) -> Result<Exit, Failure> {
    match command {
        PluginCommand::List(args) => list::execute(args, format),
        PluginCommand::Info(args) => info::execute(args, format),
        PluginCommand::Check(args) => check::execute(args, format),
        PluginCommand::New(args) => new::execute(args, format),
        PluginCommand::Run(args) => run::execute(args),
        PluginCommand::Probe(args) => probe::execute(args),
    }
}

/// What a plugin is, as people say it. Interfaces that this torc does not know stay as they are.
fn kinds(interfaces: &[String]) -> Vec<&str> {
    interfaces.iter().map(|id| Kind::named(id).map_or(id.as_str(), |kind| kind.word())).collect()
}

/// A plugin that is not there is a slip of who typed its name, and so are settings that it does not take; any other has
/// failed.
fn failure(error: &PluginError) -> Failure {
    let exit = match error {
        PluginError::NotFound { .. }
        | PluginError::BadName(_)
        | PluginError::WrongSettings { .. } => Exit::Usage,
        _ => Exit::JobsFailed,
    };
    Failure::new(exit, error)
}
