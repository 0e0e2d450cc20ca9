//! Where this torc looks for plugins, and which it trusts: from options, settings and the environment.

use std::path::PathBuf;

use torc_core::traits::Placer;
use torc_plugins::{Places, PluginError, PluginPlacer, Shelf, Trust};
use torc_server::placers::Placers;

use crate::args::PluginArgs;
use crate::exit::{Exit, Failure};
use crate::settings::Settings;

/// The variable with folders of plugins, as PATH has them.
pub(crate) const PATH_VARIABLE: &str = "TORC_PLUGIN_PATH";

/// The plugins that there are.
///
/// # Errors
/// When the settings cannot be read, or name a group that is not there.
pub(crate) fn shelf(args: &PluginArgs) -> Result<Shelf, Failure> {
    let settings = Settings::load()?;
    let relative = args.plugin_path.iter().chain(&settings.plugin_path.value);
    if let Some(folder) = relative.clone().find(|folder| !folder.is_absolute()) {
        let message = format!(
            "the folder of plugins {} is relative; give an absolute one, since what it means would depend on \
             the current folder",
            folder.display()
        );
        return Err(Failure::new(Exit::Usage, message));
    }
    let places = Places {
        given: relative.cloned().collect(),
        variable: std::env::var_os(PATH_VARIABLE),
        data: data_folder(),
        program: std::env::current_exe().ok(),
    };
    let groups = settings.trusted_groups.value.iter().map(|group| number_of(group));
    let trust = Trust { groups: groups.collect::<Result<_, _>>()? };
    Ok(Shelf::new(places.folders(), trust, settings.plugin_pins.value))
}

/// What the variable is to be for others to look where `--plugin-path` says; `None`: that says nothing.
pub(crate) fn path_variable(args: &PluginArgs) -> Option<String> {
    if args.plugin_path.is_empty() {
        return None;
    }
    let variable = std::env::var_os(PATH_VARIABLE);
    let before = variable.iter().flat_map(std::env::split_paths);
    let joined = std::env::join_paths(args.plugin_path.iter().cloned().chain(before)).ok()?;
    joined.into_string().ok()
}

/// The placers that plugins are.
///
/// # Errors
/// As [`shelf`].
pub(crate) fn placers(args: &PluginArgs) -> Result<Placers, Failure> {
    let shelf = shelf(args)?;
    Ok(Placers::new(move |name, settings| {
        let opened = shelf.plugin(name).and_then(|plugin| PluginPlacer::open(&plugin, settings));
        let boxed = |placer| Box::new(placer) as Box<dyn Placer>;
        opened.map(boxed).map_err(|error: PluginError| error.to_string())
    }))
}

/// How another torc is told of the same folders. One that starts in the background has the same environment.
///
/// # Errors
/// When the name of one is not UTF-8.
pub(crate) fn passed_on(args: &PluginArgs) -> Result<Vec<String>, Failure> {
    let of = |folder: &PathBuf| match folder.to_str() {
        Some(folder) => Ok(format!("--plugin-path={folder}")),
        None => {
            let message = format!("the path {} is not UTF-8", folder.display());
            Err(Failure::new(Exit::Environment, message))
        }
    };
    args.plugin_path.iter().map(of).collect()
}

fn data_folder() -> Option<PathBuf> {
    let folder = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from);
    folder
        .filter(|folder| folder.is_absolute())
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/share")))
}

/// A group by its name or number.
fn number_of(group: &str) -> Result<u32, Failure> {
    if let Ok(number) = group.parse() {
        return Ok(number);
    }
    match nix::unistd::Group::from_name(group) {
        Ok(Some(found)) => Ok(found.gid.as_raw()),
        _ => {
            let message = format!("plugins.trusted_groups: there is no group `{group}` here");
            Err(Failure::new(Exit::Environment, message))
        }
    }
}
