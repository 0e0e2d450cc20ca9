//! `torc plugin info`: all that a plugin says of itself, its file, and whether that is trusted.

use std::path::PathBuf;

use serde::Serialize;
use torc_plugins::{About, Found, Shelf, digest};

use super::{failure, kinds, probe};
use crate::args::{Format, PluginInfoArgs};
use crate::exit::{Exit, Failure};
use crate::out::outln;
use crate::plugins;
use crate::render::{json, table};

#[derive(Serialize)]
struct Info {
    name: String,
    path: PathBuf,
    /// As sha256sum(1) has it; `None`: the file cannot be read.
    sha256: Option<String>,
    is_pinned: bool,
    is_trusted: bool,
    /// Each thing that keeps it from being trusted.
    distrust: Vec<String>,
    /// Why it is not loaded.
    reason: Option<String>,
    about: Option<About>,
}

pub(super) fn execute(args: &PluginInfoArgs, format: Format) -> Result<Exit, Failure> {
    let shelf = plugins::shelf(&args.plugins)?;
    let found = shelf.find(&args.name).map_err(|error| failure(&error))?;
    let info = info(&shelf, found);
    match format {
        Format::Json => json(&info),
        Format::Table => print(&info),
    }
    Ok(if info.about.is_some() { Exit::Success } else { Exit::JobsFailed })
}

fn info(shelf: &Shelf, found: Found) -> Info {
    let wrong = shelf.trust().all_wrong(&found.path);
    let distrust: Vec<String> = wrong.iter().map(ToString::to_string).collect();
    let (about, reason) = match probe::about(&found) {
        Ok(about) => (Some(about), None),
        Err(reason) => (None, Some(reason)),
    };
    Info {
        sha256: digest(&found.path).ok(),
        is_pinned: shelf.pin(&found.name).is_some(),
        is_trusted: distrust.is_empty(),
        distrust,
        reason,
        about,
        name: found.name,
        path: found.path,
    }
}

fn print(info: &Info) {
    let mut rows = vec![("name", info.name.clone())];
    if let Some(about) = &info.about {
        rows.push(("version", about.version.clone()));
        rows.extend(about.description.iter().map(|words| ("description", words.clone())));
        rows.push(("kinds", kinds(&about.interfaces).join(", ")));
        rows.push(("interfaces", about.interfaces.join(", ")));
        rows.push(("boundary", format!("version {}.{}", about.abi.0, about.abi.1)));
    }
    rows.push(("path", info.path.display().to_string()));
    let pinned = if info.is_pinned { ", which the configuration wants" } else { "" };
    let digest = info.sha256.as_ref().map(|digest| format!("{digest}{pinned}"));
    rows.push(("sha256", digest.unwrap_or_else(|| "it cannot be read".to_owned())));
    rows.push(("trust", if info.is_trusted { "trusted" } else { "not trusted" }.to_owned()));
    table(&["what", "found"], rows.into_iter().map(|(what, found)| vec![what.to_owned(), found]));
    for words in &info.distrust {
        outln!("not trusted: {words}");
    }
    if let Some(reason) = &info.reason {
        outln!("not loaded: {reason}");
    }
    if let Some(schema) = info.about.as_ref().and_then(|about| about.schema.as_ref()) {
        outln!("schema of its settings: {schema:#}");
    }
}
