//! `torc plugin check`: whether a plugin is as it must be, check by check.
//!
//! What runs of the plugin runs in other processes: it may be broken in any way.

use std::path::{Path, PathBuf};

use torc_plugins::check::{self, Check, Verdict};
use torc_plugins::{Found, Kind, PluginError, Shelf, is_name};

use super::{failure, kit, probe};
use crate::args::{Format, PluginCheckArgs};
use crate::exit::{Exit, Failure};
use crate::out::errln;
use crate::plugins;
use crate::render::{json, table};

pub(super) fn execute(args: &PluginCheckArgs, format: Format) -> Result<Exit, Failure> {
    let shelf = plugins::shelf(&args.plugins)?;
    let path = file(&shelf, &args.plugin)?;
    let checks = checks(&shelf, &path, args)?;
    say_what_was_not_asked_for(&checks);
    match format {
        Format::Json => json(&checks),
        Format::Table => print(&checks),
    }
    let is_good = checks.iter().all(|check| check.verdict != Verdict::Failed);
    Ok(if is_good { Exit::Success } else { Exit::JobsFailed })
}

/// A name is looked up; anything else is a path.
fn file(shelf: &Shelf, plugin: &Path) -> Result<PathBuf, Failure> {
    if let Some(name) = plugin.to_str().filter(|name| is_name(name)) {
        let found = shelf.find(name).map_err(|error| match error {
            PluginError::NotFound { .. } if plugin.exists() => {
                Failure::new(Exit::Usage, format!("{error}; write ./{name} for the file"))
            }
            error => failure(&error),
        });
        return found.map(|found| found.path);
    }
    let path = std::path::absolute(plugin).and_then(|path| path.metadata().map(|_| path));
    path.map_err(|error| {
        Failure::new(Exit::Usage, format!("{} cannot be looked at: {error}", plugin.display()))
    })
}

/// All checks: what can be seen from outside, what the plugin says, how it takes calls, and what it does.
fn checks(shelf: &Shelf, path: &Path, args: &PluginCheckArgs) -> Result<Vec<Check>, Failure> {
    let own = std::env::current_exe().map_err(|error| Failure::internal(&error))?;
    let mut checks = check::of_file(shelf, path, &own);
    let Some(found) = Found::at(path) else { return Ok(checks) };
    match probe::about(&found) {
        Err(reason) => checks.push(Check::failed("loads", reason)),
        Ok(about) => {
            let (name, version, (major, minor)) = (&about.name, &about.version, about.abi);
            let words =
                format!("`{name}` {version}, built for version {major}.{minor} of the boundary");
            checks.push(Check::ok("loads", words));
            checks.extend(check::of_about(&about));
            let kinds: Vec<Kind> =
                about.interfaces.iter().filter_map(|id| Kind::named(id)).collect();
            let mut tested = Vec::new();
            for &kind in &kinds {
                let taken = probe::calls(path, kind, &args.settings);
                let opens = taken.first().is_none_or(|check| {
                    !check.check.ends_with(" opens") || check.verdict == Verdict::Ok
                });
                checks.extend(taken);
                if opens {
                    tested.push(kind);
                }
            }
            checks.extend(kit::checks(&found, &tested, args)?);
        }
    }
    Ok(checks)
}

/// A source of allocations of which nothing was asked is not known to be good.
fn say_what_was_not_asked_for(checks: &[Check]) {
    let left = checks.iter().filter(|check| check.found == kit::SUBMITS).count();
    if left > 0 {
        errln!(
            "warning: {left} checks were left out, which ask for real allocations: --submit, with the settings that \
             they need, runs them"
        );
    }
}

fn print(checks: &[Check]) {
    let rows = checks.iter().map(|check| {
        let verdict = match check.verdict {
            Verdict::Ok => "ok",
            Verdict::Failed => "FAILED",
            Verdict::LeftOut => "left out",
        };
        vec![check.check.clone(), verdict.to_owned(), check.found.clone()]
    });
    table(&["check", "verdict", "found"], rows);
}
