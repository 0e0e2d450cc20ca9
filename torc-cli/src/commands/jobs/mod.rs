//! `torc jobs`: the jobs of a workflow.

mod add;

use torc_core::ids::JobId;
use torc_core::wire::JobReport;
use torc_server::access::Access;
use torc_server::state_dir::StateDir;

use crate::args::{Format, JobsArgs, JobsPart};
use crate::exit::{Exit, Failure};
use crate::render::{causes, duration_ms, status_cell, table};

pub(crate) async fn execute(
    args: &JobsArgs,
    dir: &StateDir,
    format: Format,
) -> Result<Exit, Failure> {
    if let Some(JobsPart::Add(add)) = &args.part {
        return add::execute(add, dir, format).await;
    }
    let mut jobs = Access::open(dir).await?.jobs(args.workflow.workflow).await?;
    crate::commands::check_names(&args.jobs, jobs.iter().map(|job| job.name.as_str()))?;
    let names: Vec<String> = jobs.iter().map(|job| job.name.clone()).collect();
    jobs.retain(|job| {
        (args.status.is_empty() || args.status.contains(&job.status))
            && (args.jobs.is_empty() || args.jobs.contains(&job.name))
    });
    match format {
        Format::Json => crate::render::json(&jobs),
        Format::Table => print(&jobs, &names),
    }
    Ok(Exit::Success)
}

/// `names`: of all jobs, at the index of their number.
fn print(jobs: &[JobReport], names: &[String]) {
    let name = |job: JobId| names.get(job.index()).cloned().unwrap_or_else(|| job.to_string());
    let rows = jobs.iter().map(|job| {
        let latest = job.latest.as_ref();
        vec![
            job.id.to_string(),
            job.name.clone(),
            status_cell(job.status),
            needs(job),
            latest.map_or_else(String::new, |attempt| attempt.nodes.join(",")),
            latest.map_or_else(String::new, |attempt| duration_ms(attempt.wall_ms)),
            latest
                .and_then(|attempt| attempt.return_code)
                .map_or_else(String::new, |code| code.to_string()),
            job.waiting.as_ref().map_or_else(String::new, |why| causes::briefly(why, name)),
        ]
    });
    table(&["id", "job", "status", "needs", "nodes", "time", "code", "waits for"], rows);
}

fn needs(job: &JobReport) -> String {
    let mut needs = format!("{} cpu", job.cpus);
    if job.gpus > 0 {
        needs += &format!(" {} gpu", job.gpus);
    }
    if job.nodes > 1 {
        needs = format!("{} nodes × {needs}", job.nodes);
    }
    needs
}
