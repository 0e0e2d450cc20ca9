//! `torc disable`: leaves jobs out, and says what follows for those that depend on them.

use torc_core::wire::{DisableReport, NamedJobs};
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
    let report = Access::disable(dir, args.workflow.workflow, request).await?;
    match format {
        Format::Json => crate::render::json(&report),
        Format::Table => print(report),
    }
    Ok(Exit::Success)
}

fn print(report: DisableReport) {
    let DisableReport { disabled, canceled, run_without } = report;
    match disabled {
        0 => outln!("no job disabled: all of them were before"),
        _ => outln!("{} disabled", jobs(disabled)),
    }
    if canceled > 0 {
        outln!("{} depending on that: canceled, and not run until it is enabled", jobs(canceled));
    }
    if run_without > 0 {
        outln!("{} depending on that: to run without it, as the spec says", jobs(run_without));
    }
}
