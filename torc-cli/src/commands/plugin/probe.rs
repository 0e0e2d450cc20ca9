//! `torc plugin probe`, hidden: a plugin is loaded in a process of its own, for another torc that waits for what comes
//! of it. Both sides are here.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use torc_plugins::check::{self, Check, Promise, Site, promises};
use torc_plugins::probe::{self, Reply};
use torc_plugins::{About, Found, Kind};

use crate::args::{PluginArgs, PluginProbeArgs};
use crate::exit::{Exit, Failure};
use crate::plugins;

/// How long a plugin may take to be loaded, and to say what it is.
const LOADS_WITHIN: Duration = Duration::from_secs(10);
/// How long it may take to be loaded, opened and called: a little more than each of its calls may.
const TAKES_CALLS_WITHIN: Duration = Duration::from_secs(45);

/// Asks for [`check::of_requests`].
const REQUESTS: &str = "requests";

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
    let asked = look_at(path, kind, settings, &[], TAKES_CALLS_WITHIN);
    asked.unwrap_or_else(|reason| {
        vec![Check::failed(format!("{} takes calls", kind.word()), reason)]
    })
}

/// What it says to requests that cannot be read.
pub(super) fn requests(plugin: &Found, kind: Kind, settings: &Map<String, Value>) -> Vec<Check> {
    let options = ["--check", REQUESTS].map(OsString::from);
    let asked = look_at(&plugin.path, kind, settings, &options, TAKES_CALLS_WITHIN);
    asked.unwrap_or_else(|reason| {
        vec![Check::failed(
            check::requests_name(kind),
            format!("plugin `{}`: {reason}", plugin.name),
        )]
    })
}

/// Whether it keeps a promise.
pub(super) fn promise(
    plugin: &Found,
    kind: Kind,
    settings: &Map<String, Value>,
    promise: Promise,
    site: &Site,
) -> Vec<Check> {
    let scheduler = Value::Object(site.scheduler.clone()).to_string();
    let mut options =
        ["--check", promise.name, "--submit", &scheduler, "--folder"].map(OsString::from).to_vec();
    options.push(site.folder.clone().into_os_string());
    let asked = look_at(&plugin.path, kind, settings, &options, promise.limit);
    asked.unwrap_or_else(|reason| {
        vec![Check::failed(promise.name, format!("plugin `{}`: {reason}", plugin.name))]
    })
}

fn look_at(
    path: &Path,
    kind: Kind,
    settings: &Map<String, Value>,
    more: &[OsString],
    within: Duration,
) -> Result<Vec<Check>, String> {
    let settings = Value::Object(settings.clone()).to_string();
    let options = ["--calls", kind.id(), "--settings", &settings].map(OsString::from);
    let path = path.as_os_str().to_owned();
    let args: Vec<OsString> =
        [path].into_iter().chain(options).chain(more.iter().cloned()).collect();
    match ask(&args, within)? {
        Said::Checks(checks) => Ok(checks),
        Said::NotLoaded(reason) => Err(reason),
        Said::About(_) => Err("its probe says something else than it was asked".to_owned()),
    }
}

fn ask<T: DeserializeOwned>(args: &[OsString], within: Duration) -> Result<T, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let words = ["plugin", "probe"].map(OsString::from);
    let args: Vec<OsString> = words.into_iter().chain(args.iter().cloned()).collect();
    probe::ask(&program, &args, within).map_err(|error| error.to_string())
}

/// The other side.
pub(super) fn execute(args: &PluginProbeArgs) -> Result<Exit, Failure> {
    let silent = |error: std::io::Error| Failure::new(Exit::Environment, error);
    let reply = Reply::within(limit(args)).map_err(silent)?;
    reply.give(&look(args)?).map_err(silent)?;
    Ok(Exit::Success)
}

fn limit(args: &PluginProbeArgs) -> Duration {
    let Some(kind) = args.calls else { return LOADS_WITHIN };
    let promise = promises(kind).find(|promise| Some(promise.name) == args.check.as_deref());
    promise.map_or(TAKES_CALLS_WITHIN, |promise| promise.limit)
}

fn look(args: &PluginProbeArgs) -> Result<Said, Failure> {
    let shelf = plugins::shelf(&PluginArgs::default())?;
    let Some(found) = Found::at(&args.path) else {
        let reason = format!("{} has no name of a plugin", args.path.display());
        return Ok(Said::NotLoaded(reason));
    };
    let plugin = match shelf.take(&found) {
        Ok(plugin) => plugin,
        Err(error) => return Ok(Said::NotLoaded(error.to_string())),
    };
    let Some(kind) = args.calls else { return Ok(Said::About(plugin.about().clone())) };
    Ok(Said::Checks(match args.check.as_deref() {
        None => check::of_calls(&plugin, kind, &args.settings),
        Some(REQUESTS) => vec![check::of_requests(&plugin, kind, &args.settings)],
        Some(name) => {
            let site = Site { folder: args.folder.clone(), scheduler: args.submit.clone() };
            vec![check::of_promise(&plugin, kind, &args.settings, name, &site)]
        }
    }))
}
