//! `torc enable`: takes jobs in again that were left out.

use torc_core::wire::{EnableReport, NamedJobs};
use torc_server::access::Access;
use torc_server::state_dir::StateDir;

use crate::args::{Format, NamedJobsArgs};
use crate::exit::{Exit, Failure};
use crate::out::outln;
use crate::render::jobs;

pub(crate) async fn execute(
    args: &NamedJobsArgs,
    dir: &StateDir,
    format: Format,
) -> Result<Exit, Failure> {
    let request = NamedJobs { jobs: args.jobs.clone() };
    let report = Access::enable(dir, args.workflow.workflow, request).await?;
    match format {
        Format::Json => crate::render::json(&report),
        Format::Table => print(report),
    }
    Ok(Exit::Success)
}

fn print(report: EnableReport) {
    let EnableReport { enabled, put_back, waits_for_restart } = report;
    match (enabled, waits_for_restart) {
        (0, _) => outln!("no job enabled: none of them was disabled"),
        (_, false) => outln!("{} enabled", jobs(enabled)),
        (_, true) => outln!("{} enabled: `torc restart` runs what is left", jobs(enabled)),
    }
    if put_back > 0 {
        outln!("{} depending on that: waiting again", jobs(put_back));
    }
}
