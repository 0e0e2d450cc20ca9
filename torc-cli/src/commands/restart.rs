//! `torc restart`: goes on with an interrupted run, or runs again what did not complete.

use torc_server::session::Session;
use torc_server::state_dir::StateDir;
use torc_server::store::StoreError;

use crate::args::{Format, RestartArgs};
use crate::exit::{Exit, Failure};
use crate::host::Host;

pub(crate) async fn execute(
    args: &RestartArgs,
    dir: StateDir,
    format: Format,
) -> Result<Exit, Failure> {
    if !dir.database().exists() {
        return Err(StoreError::Missing(dir.path().to_path_buf()).into());
    }
    let host = Host::new(&args.resources, &dir)?;
    let session = Session::open(dir).await?;
    super::run::drive(session, args.workflow.workflow, host, format).await
}
