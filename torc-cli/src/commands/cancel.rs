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
    let is_nothing = report.canceled == 0 && report.signaled == 0;
    match format {
        Format::Json => crate::render::json(&report),
        Format::Table if is_nothing && args.jobs.is_empty() => {
            outln!("nothing to cancel: no job of the workflow waits or runs");
        }
        Format::Table if is_nothing => {
            outln!("nothing to cancel: none of these jobs waits or runs");
        }
        Format::Table => outln!(
            "{} canceled, {} asked to end",
            crate::render::jobs(report.canceled),
            crate::render::jobs(report.signaled)
        ),
    }
    Ok(Exit::Success)
}
