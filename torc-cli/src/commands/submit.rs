//! `torc submit`: a spec from file to a server that gets nodes from Slurm for it.

use std::path::Path;
use std::time::Duration;

use torc_core::engine::{Conclusion, JobStatus, Unstarted};
use torc_core::ids::WorkflowId;
use torc_core::wire::{
    AllocationStage, AttemptReport, RunState, SubmitReport, SubmitRequest, WorkflowReport,
};
use torc_core::workflow::Workflow;
use torc_server::access::Access;
use torc_server::server_process;
use torc_server::session::RunOutcome;
use torc_server::state_dir::StateDir;

use crate::args::{Format, PluginArgs, SubmitArgs};
use crate::commands::run;
use crate::commands::slurm;
use crate::executors;
use crate::exit::{Exit, Failure};
use crate::in_allocation;
use crate::interrupts::Interrupts;
use crate::launchers;
use crate::out::{errln, outln};
use crate::plugin_settings;
use crate::plugins;
use crate::render::{diagnostics, jobs, json};
use crate::scripts;
use crate::spec_file;
use crate::submitter;

/// How often a run that is followed is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

pub(crate) async fn execute(
    args: &SubmitArgs,
    dir: StateDir,
    format: Format,
) -> Result<Exit, Failure> {
    if args.in_allocation {
        return in_allocation::execute(args, &dir, format).await;
    }
    let spec = spec_file::read(&args.spec)?;
    diagnostics::print(&spec.source, &spec.problems);
    let Some(workflow) = spec.workflow.as_deref() else {
        if format == Format::Json {
            json(&diagnostics::listing(&spec.source, &spec.problems));
        }
        return Err(Failure::silent(Exit::SpecInvalid));
    };
    plugin_settings::refuse_wrong(&spec, plugin_settings::EVERYWHERE, &args.plugins, format)?;
    if !args.dry_run {
        // What cannot be is said before Slurm is asked for what there is.
        plugins::path_variable(&args.plugins)?;
    }
    let planned = slurm::plan_if_needed(workflow, &spec, &args.plan).await?;
    let workflow = planned.as_ref().unwrap_or(workflow);
    if args.dry_run {
        return scripts::print(workflow, &dir, format);
    }
    launchers::try_out(&workflow.header, &args.plugins)?;
    executors::try_out(&workflow.header, &args.plugins)?;
    let request = request(workflow.clone(), spec.path.as_deref(), &args.plugins)?;
    start_server(&dir, &args.plugins).await?;
    let SubmitReport { workflow: id } = Access::submit(&dir, &request).await?;
    if !args.wait {
        match format {
            Format::Json => json(&SubmitReport { workflow: id }),
            Format::Table => outln!("workflow {id} submitted; `torc status` shows where it stands"),
        }
        return Ok(Exit::Success);
    }
    errln!("workflow {id} submitted; Ctrl-C detaches, and the run goes on");
    follow(&dir, id, format).await
}

/// Makes sure that a server serves a state directory; a new one looks for plugins where this torc does.
pub(crate) async fn start_server(dir: &StateDir, plugins: &PluginArgs) -> Result<(), Failure> {
    // What is wrong with the options is told here, not in the server's log.
    plugins::shelf(plugins)?;
    let options = plugins::passed_on(plugins)?;
    let program = std::env::current_exe().map_err(|error| {
        Failure::new(Exit::Environment, format!("where torc itself lies is not known: {error}"))
    })?;
    if server_process::ensure_running(dir, &program, &options).await? {
        errln!("started a server for {}", dir.path().display());
    }
    Ok(())
}

/// The workflow with where it comes from, and what its jobs start from.
fn request(
    workflow: Workflow,
    spec_path: Option<&Path>,
    plugins: &PluginArgs,
) -> Result<SubmitRequest, Failure> {
    Ok(SubmitRequest {
        workflow,
        submission_dir: run::submission_dir()?,
        spec_path: spec_path.map(|path| path.to_string_lossy().into_owned()),
        env: submitter::environment(plugins)?,
        umask: submitter::umask(),
    })
}

/// Shows a run until it ends, or until somebody does not want to see it any more.
async fn follow(dir: &StateDir, id: WorkflowId, format: Format) -> Result<Exit, Failure> {
    let mut interrupts = Interrupts::listen()?;
    let mut last_line = String::new();
    loop {
        let access = Access::open(dir).await?;
        let report = access.workflow(Some(id)).await?;
        if !matches!(report.state, RunState::Running | RunState::Stopping) {
            return conclude(&access, report, format).await;
        }
        let line = line(&access, &report).await?;
        if line != last_line {
            errln!("{line}");
            last_line = line;
        }
        drop(access);
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = interrupts.next() => {
                errln!(
                    "detached: workflow {id} goes on; `torc status {id}` shows it, `torc cancel {id}` \
                     ends it"
                );
                return Ok(Exit::Interrupted);
            }
        }
    }
}

async fn line(access: &Access, report: &WorkflowReport) -> Result<String, Failure> {
    let of = |status| report.counts.get(&status).copied().unwrap_or(0);
    let ended: u32 =
        report.counts.iter().filter(|(status, _)| status.has_ended()).map(|(_, count)| count).sum();
    let running = of(JobStatus::Running) + of(JobStatus::Pending);
    let mut parts = vec![format!("{ended} of {} ended, {running} running", jobs(report.jobs))];
    let failed = of(JobStatus::Failed) + of(JobStatus::Terminated);
    if failed > 0 {
        parts.push(format!("{failed} failed"));
    }
    let allocations = access.allocations(Some(report.id)).await?;
    let count = |wanted: &[AllocationStage]| {
        allocations.iter().filter(|one| wanted.contains(&one.stage)).count()
    };
    let waiting = count(&[AllocationStage::Requested, AllocationStage::Submitted]);
    let active = count(&[AllocationStage::Active]);
    parts.push(format!("allocations: {active} active, {waiting} waiting"));
    let unreachable = count(&[AllocationStage::Unreachable]);
    if unreachable > 0 {
        parts.push(format!("{unreachable} unreachable"));
    }
    Ok(parts.join("; "))
}

async fn conclude(
    access: &Access,
    report: WorkflowReport,
    format: Format,
) -> Result<Exit, Failure> {
    let conclusion = match report.state {
        RunState::Ended => Conclusion::Complete,
        RunState::Interrupted => Conclusion::Stopped,
        _ => Conclusion::Stuck,
    };
    let (mut failed, mut unstarted) = (Vec::new(), Vec::new());
    let have_failed =
        |status: &JobStatus| matches!(status, JobStatus::Failed | JobStatus::Terminated);
    let mut counts = report.counts.iter();
    if conclusion == Conclusion::Stuck || counts.any(|(status, n)| have_failed(status) && *n > 0) {
        let jobs = access.jobs(Some(report.id)).await?;
        let causes = jobs.iter().filter_map(|job| Some((job.name.clone(), job.waiting.clone()?)));
        unstarted = Unstarted::group(causes);
        let ended_badly = jobs.into_iter().filter(|job| have_failed(&job.status));
        let latest = ended_badly.filter_map(|job| job.latest);
        let is_of_run = |attempt: &AttemptReport| Some(attempt.run) == report.run;
        failed = latest.filter(|one| is_of_run(one) && have_failed(&one.status)).collect();
    }
    run::conclude(&RunOutcome { conclusion, report, failed, unstarted }, false, format)
}
