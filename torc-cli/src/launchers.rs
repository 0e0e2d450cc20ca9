//! The launcher that a spec names, ready to be asked.

use std::sync::Arc;

use serde_json::{Map, Value};
use torc_core::traits::Launcher;
use torc_core::workflow::{Header, LauncherSetting};
use torc_plugins::{PluginError, PluginLauncher};

use crate::args::PluginArgs;
use crate::exit::{Exit, Failure};
use crate::plugins::shelf;

/// Whether the launcher of a workflow can be opened here: most likely it can be on the nodes, then.
///
/// # Errors
/// As [`open`].
pub(crate) fn try_out(header: &Header, args: &PluginArgs) -> Result<(), Failure> {
    let setting = header.execution.launcher.as_ref();
    setting.map_or(Ok(()), |one| open(one, &header.settings_of_launcher(), args).map(drop))
}

/// Opens a launcher. `settings`: those of the plugin, where it is one.
///
/// # Errors
/// When there is no such plugin, or it is not trusted, no launcher, or does not open.
pub(crate) fn open(
    setting: &LauncherSetting,
    settings: &Map<String, Value>,
    args: &PluginArgs,
) -> Result<Arc<dyn Launcher>, Failure> {
    match setting {
        LauncherSetting::Template { argv } => Ok(Arc::new(argv.clone())),
        LauncherSetting::Plugin(name) => {
            let plugin = shelf(args)?.plugin(name);
            let opened = plugin.and_then(|plugin| PluginLauncher::open(&plugin, settings));
            opened.map(|launcher| Arc::new(launcher) as _).map_err(|error| match error {
                PluginError::WrongSettings { .. } => Failure::new(Exit::Usage, error),
                error => Failure::new(Exit::Environment, error),
            })
        }
    }
}
