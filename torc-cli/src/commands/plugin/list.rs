//! `torc plugin list`: each plugin that there is, and why some are not loaded.

use std::path::PathBuf;

use serde::Serialize;
use torc_plugins::{About, Found};

use super::{kinds, probe};
use crate::args::{Format, PluginListArgs};
use crate::exit::{Exit, Failure};
use crate::out::outln;
use crate::plugins;
use crate::render::{json, table};

/// So many are looked at together.
const AT_ONCE: usize = 8;

#[derive(Serialize)]
struct Row {
    name: String,
    version: Option<String>,
    interfaces: Vec<String>,
    path: PathBuf,
    /// Why it is not loaded.
    reason: Option<String>,
}

pub(super) fn execute(args: &PluginListArgs, format: Format) -> Result<Exit, Failure> {
    let shelf = plugins::shelf(&args.plugins)?;
    let all = shelf.all();
    let rows: Vec<Row> = all.chunks(AT_ONCE).flat_map(look).collect();
    match format {
        Format::Json => json(&rows),
        Format::Table if rows.is_empty() => {
            let folders = shelf.folders().iter().map(|folder| folder.display().to_string());
            outln!("there are no plugins in {}", folders.collect::<Vec<_>>().join(", "));
        }
        Format::Table => print(&rows),
    }
    Ok(Exit::Success)
}

/// Looks at some at once: one that hangs holds up no other.
fn look(found: &[Found]) -> Vec<Row> {
    std::thread::scope(|scope| {
        let probes: Vec<_> =
            found.iter().map(|found| (found, scope.spawn(|| probe::about(found)))).collect();
        let ended = probes.into_iter().map(|(found, probe)| (found, probe.join()));
        let said = ended.map(|(found, said)| {
            row(found, said.unwrap_or_else(|_| Err("it could not be probed".to_owned())))
        });
        said.collect()
    })
}

fn row(found: &Found, said: Result<About, String>) -> Row {
    let (name, path) = (found.name.clone(), found.path.clone());
    match said {
        Ok(About { version, interfaces, .. }) => {
            Row { name, version: Some(version), interfaces, path, reason: None }
        }
        Err(reason) => {
            Row { name, version: None, interfaces: Vec::new(), path, reason: Some(reason) }
        }
    }
}

fn print(rows: &[Row]) {
    let cells = rows.iter().map(|row| {
        let kinds = match row.reason {
            None => kinds(&row.interfaces).join(", "),
            Some(_) => "not loaded".to_owned(),
        };
        let version = row.version.clone().unwrap_or_default();
        vec![row.name.clone(), version, kinds, row.path.display().to_string()]
    });
    table(&["name", "version", "kinds", "path"], cells);
    for row in rows {
        if let Some(reason) = &row.reason {
            outln!("{}: {reason}", row.name);
        }
    }
}
