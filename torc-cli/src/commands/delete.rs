//! `torc delete`: workflows that are over, with all that is known of them.

use std::fs;
use std::io::IsTerminal;

use serde::Serialize;
use torc_core::ids::WorkflowId;
use torc_server::access::Access;
use torc_server::state_dir::StateDir;

use super::run::ask;
use crate::args::{DeleteArgs, Format};
use crate::exit::{Exit, Failure};
use crate::out::{errln, outln};
use crate::render::{counted, json};

#[derive(Serialize)]
struct Deleted {
    id: WorkflowId,
    /// Files of jobs' output that went with it.
    files: usize,
}

pub(crate) async fn execute(
    args: &DeleteArgs,
    dir: &StateDir,
    format: Format,
) -> Result<Exit, Failure> {
    confirm(args, dir).await?;
    let mut all = Vec::new();
    for id in &args.workflows {
        Access::delete(dir, *id).await?;
        let files = if args.keep_output { 0 } else { remove_output(dir, *id) };
        if format == Format::Table {
            outln!("workflow {id} is deleted, with {} of its jobs' output", counted(files, "file"));
        }
        all.push(Deleted { id: *id, files });
    }
    if format == Format::Json {
        json(&all);
    }
    Ok(Exit::Success)
}

/// All of them must be there before the first goes; whoever sits at a terminal is asked.
async fn confirm(args: &DeleteArgs, dir: &StateDir) -> Result<(), Failure> {
    let access = Access::open(dir).await?;
    let mut names = Vec::new();
    for id in &args.workflows {
        let report = access.workflow(Some(*id)).await?;
        names.push(format!("{id} `{}`", report.name));
    }
    if args.yes {
        return Ok(());
    }
    let all = names.join(", ");
    if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        let message = format!("this deletes workflow {all} for good; give --yes if that is meant");
        return Err(Failure::new(Exit::Usage, message));
    }
    if ask(&format!("Delete workflow {all} for good?")) {
        return Ok(());
    }
    Err(Failure::new(Exit::Usage, "nothing is deleted"))
}

/// Removes the files of a workflow's jobs and actions, which have its number in their names. How many there were.
fn remove_output(dir: &StateDir, id: WorkflowId) -> usize {
    let beginnings = ["job", "action"].map(|what| format!("{what}_wf{id}_"));
    let entries = fs::read_dir(dir.job_stdio()).into_iter().flatten().flatten();
    let is_its = |entry: &fs::DirEntry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        beginnings.iter().any(|beginning| name.starts_with(beginning))
    };
    let mut removed = 0;
    for entry in entries.filter(is_its) {
        match fs::remove_file(entry.path()) {
            Ok(()) => removed += 1,
            Err(error) => errln!("note: {} stays: {error}", entry.path().display()),
        }
    }
    removed
}
