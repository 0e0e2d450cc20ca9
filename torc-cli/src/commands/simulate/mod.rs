//! `torc simulate`: in virtual time, the jobs of a log or a workflow.

mod log;
mod workflow;

use torc_server::state_dir::StateDir;

use crate::args::{Format, SimulateArgs};
use crate::exit::{Exit, Failure};

pub(crate) async fn execute(
    args: &SimulateArgs,
    dir: &StateDir,
    format: Format,
) -> Result<Exit, Failure> {
    match (&args.swf, &args.spec) {
        (Some(log), _) => log::execute(args, log, format),
        (None, Some(spec)) => workflow::execute(args, spec, dir, format).await,
        (None, None) => Err(Failure::new(Exit::Usage, "name a spec, or a log with --swf")),
    }
}
