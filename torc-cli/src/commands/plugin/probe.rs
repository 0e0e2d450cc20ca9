//! `torc plugin probe`, hidden: a plugin is loaded in a process of its own, for another torc that waits for what comes
//! of it. Both sides are here.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use torc_plugins::check::{self, Check};
use torc_plugins::probe::{self, Reply};
use torc_plugins::{About, Found, Kind};

use crate::args::{PluginArgs, PluginProbeArgs};
use crate::exit::{Exit, Failure};
use crate::plugins;

/// How long a plugin may take to be loaded, and to say what it is.
const LOADS_WITHIN: Duration = Duration::from_secs(10);
/// How long it may take to be loaded, opened and called: a little more than each of its calls may.
const TAKES_CALLS_WITHIN: Duration = Duration::from_secs(45);

/// What a probe says.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Said {
    About(About),
    Checks(Vec<Check>),
    /// Why the plugin is not loaded.
    NotLoaded(String),
}

/// What a plugin says of itself, or why it is not loaded.
pub(crate) fn about(found: &Found) -> Result<About, String> {
    match ask(&[found.path.clone().into_os_string()], LOADS_WITHIN)? {
        Said::About(about) => Ok(about),
        Said::NotLoaded(reason) => Err(reason),
        Said::Checks(_) => Err("its probe says something else than it was asked".to_owned()),
    }
}

/// How an interface of a plugin takes calls.
pub(super) fn calls(path: &Path, kind: Kind, settings: &Map<String, Value>) -> Vec<Check> {
    let settings = Value::Object(settings.clone()).to_string();
    let options = ["--calls", kind.id(), "--settings", &settings].map(OsString::from);
    let args: Vec<OsString> = [path.as_os_str().to_owned()].into_iter().chain(options).collect();
    let reason = match ask(&args, TAKES_CALLS_WITHIN) {
        Ok(Said::Checks(checks)) => return checks,
        Ok(Said::NotLoaded(reason)) | Err(reason) => reason,
        Ok(Said::About(_)) => "its probe says something else than it was asked".to_owned(),
    };
    vec![Check::failed(format!("{} takes calls", kind.word()), reason)]
}

fn ask<T: DeserializeOwned>(args: &[OsString], within: Duration) -> Result<T, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let words = ["plugin", "probe"].map(OsString::from);
    let args: Vec<OsString> = words.into_iter().chain(args.iter().cloned()).collect();
    probe::ask(&program, &args, within).map_err(|error| error.to_string())
}

/// The other side.
pub(super) fn execute(args: &PluginProbeArgs) -> Result<Exit, Failure> {
    let limit = if args.calls.is_some() { TAKES_CALLS_WITHIN } else { LOADS_WITHIN };
    let silent = |error: std::io::Error| Failure::new(Exit::Environment, error);
    let reply = Reply::within(limit).map_err(silent)?;
    reply.give(&look(args)?).map_err(silent)?;
    Ok(Exit::Success)
}

fn look(args: &PluginProbeArgs) -> Result<Said, Failure> {
    let shelf = plugins::shelf(&PluginArgs::default())?;
    let Some(found) = Found::at(&args.path) else {
        let reason = format!("{} has no name of a plugin", args.path.display());
        return Ok(Said::NotLoaded(reason));
    };
    Ok(match (shelf.take(&found), args.calls) {
        (Err(error), _) => Said::NotLoaded(error.to_string()),
        (Ok(plugin), None) => Said::About(plugin.about().clone()),
        (Ok(plugin), Some(kind)) => Said::Checks(check::of_calls(&plugin, kind, &args.settings)),
    })
}
