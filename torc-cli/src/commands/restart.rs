//! `torc restart`: goes on with an interrupted run, or runs again what did not complete; in the run
//! under way, if there is one.

use torc_core::wire::RestartReport;
use torc_server::access::{Access, AccessError};
use torc_server::session::Session;
use torc_server::state_dir::StateDir;
use torc_server::store::StoreError;

use crate::args::{Format, RestartArgs};
use crate::commands::submit;
use crate::exit::{Exit, Failure};
use crate::inside::Ground;
use crate::out::{errln, outln};
use crate::plugins;
use crate::render::{jobs, json};

pub(crate) async fn execute(
    args: &RestartArgs,
    dir: StateDir,
    format: Format,
) -> Result<Exit, Failure> {
    if !dir.database().exists() {
        return Err(StoreError::Missing(dir.path().to_path_buf()).into());
    }
    if let Some(report) = Access::restart_live(&dir, args.workflow.workflow).await? {
        return put_back(args, report, format);
    }
    let stored = Access::stored(&dir, args.workflow.workflow).await?;
    if stored.was_submitted {
        submit::start_server(&dir, &args.plugins).await?;
        let restarted = Access::restart_live(&dir, args.workflow.workflow).await?;
        let report = restarted.ok_or(AccessError::NoServer)?;
        return put_back(args, report, format);
    }
    let ground =
        Ground::find(&args.resources, &stored.workflow.header, &args.plugins, &dir).await?;
    ground.place.announce();
    let placers = plugins::placers(&args.plugins)?;
    let session = Session::open(dir).await?.with_placers(placers);
    super::run::drive(session, args.workflow.workflow, ground, format).await
}

/// A run is under way in another process, and goes on with what was put back.
fn put_back(args: &RestartArgs, report: RestartReport, format: Format) -> Result<Exit, Failure> {
    match format {
        Format::Json => json(&report),
        Format::Table if report.is_new_run => {
            outln!("{} in a new run; `torc status` shows where it stands", jobs(report.put_back));
        }
        Format::Table => outln!("{} put back into the run under way", jobs(report.put_back)),
    }
    if args.resources.are_given() {
        errln!("note: the options that say what of this machine to use have no effect on that run");
    }
    Ok(Exit::Success)
}
