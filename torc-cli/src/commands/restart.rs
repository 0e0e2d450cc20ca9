//! `torc restart`: goes on with an interrupted run, or runs again what did not complete or has changed; in the
//! run under way, if there is one, what did not complete. Or says what it would do.

use torc_core::wire::{RestartReport, RestartRequest};
use torc_core::workflow::Header;
use torc_server::access::{Access, AccessError};
use torc_server::session::Session;
use torc_server::state_dir::StateDir;
use torc_server::store::StoreError;

use crate::args::{Format, RestartArgs};
use crate::commands::submit;
use crate::exit::{Exit, Failure};
use crate::inside::Ground;
use crate::out::{errln, outln};
use crate::plugin_settings;
use crate::plugins;
use crate::render::{jobs, json, restart_plan};
use crate::spec_file;

pub(crate) async fn execute(
    args: &RestartArgs,
    dir: StateDir,
    format: Format,
) -> Result<Exit, Failure> {
    if !dir.database().exists() {
        return Err(StoreError::Missing(dir.path().to_path_buf()).into());
    }
    let request = request(args, format)?;
    let id = args.workflow.workflow;
    if args.dry_run {
        let plan = Access::open(&dir).await?.plan_restart(id, request).await?;
        match format {
            Format::Json => json(&plan),
            Format::Table => restart_plan::print(&plan),
        }
        return Ok(Exit::Success);
    }
    if let Some(report) = Access::restart_live(&dir, id, &request).await? {
        return put_back(args, report, format);
    }
    let stored = Access::stored(&dir, id).await?;
    if stored.was_submitted {
        submit::start_server(&dir, &args.plugins).await?;
        let restarted = Access::restart_live(&dir, id, &request).await?;
        let report = restarted.ok_or(AccessError::NoServer)?;
        return put_back(args, report, format);
    }
    let header: &Header =
        request.spec.as_ref().map_or(&stored.workflow.header, |spec| &spec.header);
    let ground = Ground::find(&args.resources, header, &args.plugins, &dir).await?;
    ground.place.announce();
    let placers = plugins::placers(&args.plugins)?;
    let session = Session::open(dir).await?.with_placers(placers);
    super::run::drive(session, (id, Some(request)), ground, format).await
}

/// What is wished, with what the spec says that was named.
fn request(args: &RestartArgs, format: Format) -> Result<RestartRequest, Failure> {
    let Some(path) = &args.spec else {
        return Ok(RestartRequest { spec: None, all: args.all });
    };
    let spec = spec_file::read(path)?;
    let workflow = spec_file::valid(&spec, format)?.clone();
    plugin_settings::refuse_wrong(&spec, plugin_settings::HERE, &args.plugins, format)?;
    drop(spec);
    let workflow = std::sync::Arc::unwrap_or_clone(workflow);
    Ok(RestartRequest { spec: Some(workflow), all: args.all })
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
