//! `torc list`: the workflows of a state directory, or of all that a user has.

use serde::Serialize;
use torc_core::engine::JobStatus;
use torc_core::wire::WorkflowReport;
use torc_server::access::{Access, AccessError};
use torc_server::known_dirs;
use torc_server::state_dir::StateDir;

use crate::args::{Format, ListArgs};
use crate::exit::{Exit, Failure};
use crate::out::{errln, outln};
use crate::render::{duration_ms, json, local_time, table};

/// A workflow and where it is.
#[derive(Serialize)]
struct Listed {
    output_dir: String,
    #[serde(flatten)]
    report: WorkflowReport,
}

pub(crate) async fn execute(
    args: &ListArgs,
    dir: &StateDir,
    format: Format,
) -> Result<Exit, Failure> {
    let mut listed = Vec::new();
    if args.all {
        for dir in known_dirs::all() {
            match of(&dir).await {
                Ok(mut more) => listed.append(&mut more),
                Err(error) => errln!("note: {} cannot be looked at: {error}", dir.path().display()),
            }
        }
    } else {
        listed = of(dir).await?;
    }
    match format {
        Format::Json => json(&listed),
        Format::Table if listed.is_empty() => {
            outln!("no workflow has been run{}", place(args, dir))
        }
        Format::Table => print(&listed, args.all),
    }
    Ok(Exit::Success)
}

fn place(args: &ListArgs, dir: &StateDir) -> String {
    if args.all { String::new() } else { format!(" in {}", dir.path().display()) }
}

async fn of(dir: &StateDir) -> Result<Vec<Listed>, AccessError> {
    let access = Access::open(dir).await?;
    let output_dir = dir.path().to_string_lossy();
    let mut listed = Vec::new();
    for id in access.workflow_ids().await? {
        let report = access.workflow(Some(id)).await?;
        listed.push(Listed { output_dir: output_dir.to_string(), report });
    }
    Ok(listed)
}

fn print(listed: &[Listed], with_places: bool) {
    let mut header =
        vec!["id", "workflow", "state", "jobs", "completed", "failed", "began", "time"];
    if with_places {
        header.push("output directory");
    }
    let rows = listed.iter().map(|Listed { output_dir, report }| {
        let count = |statuses: &[JobStatus]| {
            let counts = statuses.iter().filter_map(|status| report.counts.get(status));
            counts.sum::<u32>().to_string()
        };
        let mut row = vec![
            report.id.to_string(),
            report.name.clone(),
            report.state.word().to_owned(),
            report.jobs.to_string(),
            count(&[JobStatus::Completed]),
            count(&[JobStatus::Failed, JobStatus::Terminated, JobStatus::PendingFailed]),
            report.started_at.map_or_else(String::new, local_time),
            report.started_at.map_or_else(String::new, |_| duration_ms(report.wall_ms)),
        ];
        if with_places {
            row.push(output_dir.clone());
        }
        row
    });
    table(&header, rows);
}
