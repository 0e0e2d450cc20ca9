//! `torc results`: every attempt, with exit code, times and what it used.

use torc_core::engine::JobStatus;
use torc_core::wire::AttemptReport;
use torc_server::access::Access;
use torc_server::state_dir::StateDir;

use crate::args::{Format, ResultsArgs};
use crate::exit::{Exit, Failure};
use crate::render::{bytes, cause, duration_ms, local_time, status_cell, table};

pub(crate) async fn execute(
    args: &ResultsArgs,
    dir: &StateDir,
    format: Format,
) -> Result<Exit, Failure> {
    let access = Access::open(dir).await?;
    if !args.jobs.is_empty() {
        let jobs = access.jobs(args.workflow.workflow).await?;
        super::check_names(&args.jobs, jobs.iter().map(|job| job.name.as_str()))?;
    }
    let mut attempts = access.attempts(args.workflow.workflow).await?;
    attempts.retain(|attempt| {
        (args.jobs.is_empty() || args.jobs.contains(&attempt.job))
            && (!args.failed
                || attempt.status.has_ended() && attempt.status != JobStatus::Completed)
    });
    match format {
        Format::Json => crate::render::json(&attempts),
        Format::Table => print(&attempts),
    }
    Ok(Exit::Success)
}

fn print(attempts: &[AttemptReport]) {
    let rows = attempts.iter().map(|attempt| {
        vec![
            attempt.step.clone(),
            attempt.job.clone(),
            status_cell(attempt.status),
            attempt.return_code.map_or_else(String::new, |code| code.to_string()),
            attempt.nodes.join(","),
            local_time(attempt.started_at.unwrap_or(attempt.dispatched_at)),
            duration_ms(attempt.wall_ms),
            attempt.cpu_ms.map_or_else(String::new, duration_ms),
            attempt.peak_memory.map_or_else(String::new, bytes),
            attempt.outcome.as_ref().map_or_else(String::new, cause),
        ]
    });
    let header =
        ["attempt", "job", "status", "code", "nodes", "start", "time", "cpu", "memory", "cause"];
    table(&header, rows);
}
