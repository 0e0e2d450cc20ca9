//! `torc cancel`: ends a workflow, or some of its jobs.

use torc_core::wire::CancelRequest;
use torc_server::access::Access;
use torc_server::state_dir::StateDir;

use crate::args::{CancelArgs, Format};
use crate::exit::{Exit, Failure};
use crate::out::outln;

pub(crate) async fn execute(
    args: &CancelArgs,
    dir: &StateDir,
    format: Format,
) -> Result<Exit, Failure> {
    let request = CancelRequest { jobs: (!args.jobs.is_empty()).then(|| args.jobs.clone()) };
    let report = Access::open(dir).await?.cancel(args.workflow.workflow, &request).await?;
    match format {
        Format::Json => crate::render::json(&report),
        Format::Table => outln!(
            "{} canceled, {} asked to end",
            crate::render::jobs(report.canceled),
            crate::render::jobs(report.signaled)
        ),
    }
    Ok(Exit::Success)
}
