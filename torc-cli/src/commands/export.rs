//! `torc export`: a workflow with its results as a file.

use torc_server::access::Access;
use torc_server::state_dir::StateDir;

use crate::args::ExportArgs;
use crate::exit::{Exit, Failure};
use crate::render::json;

pub(crate) async fn execute(args: &ExportArgs, dir: &StateDir) -> Result<Exit, Failure> {
    json(&Access::open(dir).await?.export(args.workflow.workflow).await?);
    Ok(Exit::Success)
}
