//! Where this torc looks for plugins, and which it trusts: from options, settings and the environment.

use std::ffi::OsString;
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
///
/// # Errors
/// When they could not be told of a folder.
pub(crate) fn path_variable(args: &PluginArgs) -> Result<Option<String>, Failure> {
    if args.plugin_path.is_empty() {
        return Ok(None);
    }
    joined(&args.plugin_path, std::env::var_os(PATH_VARIABLE))
        .map(Some)
        .map_err(|words| Failure::new(Exit::Usage, words))
}

/// These folders, and then those that the variable has.
fn joined(given: &[PathBuf], variable: Option<OsString>) -> Result<String, String> {
    let before = variable.iter().flat_map(std::env::split_paths);
    let folders: Vec<PathBuf> = given.iter().cloned().chain(before).collect();
    let untold = |folder: &PathBuf, why: &str| {
        format!(
            "the workers of a workflow cannot be told of the folder of plugins {}: {why}; give it another \
             name, or a link without that",
            folder.display()
        )
    };
    if let Some(folder) = folders.iter().find(|folder| folder.to_str().is_none()) {
        return Err(untold(folder, "its name is not UTF-8"));
    }
    let joined = std::env::join_paths(&folders).ok().and_then(|text| text.into_string().ok());
    joined.ok_or_else(|| {
        let has_colon = |folder: &&PathBuf| folder.to_string_lossy().contains(':');
        let folder = folders.iter().find(has_colon).cloned().unwrap_or_default();
        let why = format!("{PATH_VARIABLE} has colons between folders, and its name has one");
        untold(&folder, &why)
    })
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

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    #[test]
    fn workers_are_told_of_all_folders_or_it_is_said_of_which_they_cannot() {
        #[track_caller]
        fn check(given: &[&[u8]], variable: Option<&[u8]>, expected: Result<&str, &str>) {
            let text = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
            let given: Vec<PathBuf> = given.iter().map(|bytes| text(bytes).into()).collect();
            match (joined(&given, variable.map(text)), expected) {
                (Ok(found), expected) => assert_eq!(Ok(&*found), expected),
                (Err(words), Err(expected)) => assert!(words.contains(expected), "{words}"),
                (found, expected) => panic!("{found:?}, and not {expected:?}"),
            }
        }
        check(&[b"/a", b"/b c"], Some(b"/c:/d"), Ok("/a:/b c:/c:/d"));
        check(&[b"/a"], None, Ok("/a"));
        check(&[b"/a", b"/b:c"], None, Err("/b:c: TORC_PLUGIN_PATH has colons between"));
        check(&[b"/caf\xe9"], None, Err("/caf\u{fffd}: its name is not UTF-8"));
        check(&[b"/a"], Some(b"/caf\xe9"), Err("/caf\u{fffd}: its name is not UTF-8"));
    }
}
