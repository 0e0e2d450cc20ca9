//! `torc submit --in-allocation`: a spec from file to a batch job that runs it, without a server.

use std::io::IsTerminal;
use std::path::Path;

use serde::Serialize;
use torc_core::ids::WorkflowId;
use torc_core::workflow::{SchedulerSettings, Workflow};
use torc_executors::slurm::{SlurmScheduler, duration};
use torc_server::batch_run::{self, BatchRun, BatchRunError, Beginning};
use torc_server::clock::now;
use torc_server::earlier::Earlier;
use torc_server::state_dir::StateDir;
use torc_server::store::{Origin, Submitter};

use crate::args::{Format, SubmitArgs};
use crate::commands::run::{self, ask};
use crate::commands::serve;
use crate::executors;
use crate::exit::{Exit, Failure};
use crate::launchers;
use crate::out::outln;
use crate::plugin_settings;
use crate::plugins;
use crate::render::{self, json};
use crate::scripts;
use crate::settings::Settings;
use crate::spec_file;
use crate::submitter;

/// The warning that no action asks for nodes.
const NOTHING_SCHEDULED: &str = "spec::nothing-scheduled";

/// What was submitted.
#[derive(Serialize)]
struct Report {
    /// Slurm's number of the job.
    handle: String,
    /// The file that the words of its `torc` go to.
    output: String,
    /// The workflow that it goes on with; `None`: it begins a new one.
    workflow: Option<WorkflowId>,
}

pub(crate) async fn execute(
    args: &SubmitArgs,
    dir: &StateDir,
    format: Format,
) -> Result<Exit, Failure> {
    if args.spec == Path::new("-") {
        return Err(Failure::new(
            Exit::Usage,
            "with --in-allocation the spec is read when the batch job begins, so it cannot come from \
             standard input; write it to a file",
        ));
    }
    let mut spec = spec_file::read(&args.spec)?;
    // No action has to ask for the nodes that a run is given.
    spec.problems.retain(|problem| problem.code != NOTHING_SCHEDULED);
    let workflow = spec_file::valid(&spec, format)?;
    plugin_settings::refuse_wrong(&spec, plugin_settings::HERE, &args.plugins, format)?;
    let scheduler = choose(workflow, args.scheduler.as_deref())?;
    let program = std::env::current_exe().map_err(|error| Failure::internal(&error))?;
    let options = plugins::passed_on(&args.plugins)?;
    let path = spec.path.as_deref().unwrap_or(&args.spec);
    let submitter = Submitter {
        env: if args.dry_run { Vec::new() } else { submitter::environment(&args.plugins)? },
        umask: submitter::umask(),
    };
    let slurm = SlurmScheduler::new(serve::programs(&Settings::load()?));
    if !args.dry_run {
        launchers::try_out(&workflow.header, &args.plugins)?;
        let placers = plugins::placers(&args.plugins)?;
        let tried = placers.try_out(&workflow.header);
        tried.map_err(|error| Failure::new(Exit::Environment, error))?;
        executors::try_out(&workflow.header, &args.plugins)?;
        batch_run::refuse_second(dir, &slurm).await?;
    }
    let origin = run::origin(&spec)?;
    let submission_dir = origin.submission_dir.clone();
    let earlier = earlier(args, dir, workflow, origin).await?;
    let run = BatchRun {
        workflow,
        scheduler,
        spec: text(path)?,
        beginning: earlier.map_or(Beginning::Anew, |earlier| Beginning::GoOn(earlier.id)),
        program: text(&program)?,
        options: &options,
        output_dir: text(dir.path())?,
        submission_dir: &submission_dir,
        submitter: &submitter,
        mark: &format!("{}-{}", now().0, std::process::id()),
    };
    run.check_itself()?;
    if args.dry_run {
        return scripts::print_run(&run, format);
    }
    let handle = run.submit(dir, &slurm).await?.to_string();
    report(&run, earlier, handle, format);
    Ok(Exit::Success)
}

/// The earlier run that is to be gone on with, if there is one and that is wished.
async fn earlier(
    args: &SubmitArgs,
    dir: &StateDir,
    workflow: &Workflow,
    origin: Origin,
) -> Result<Option<Earlier>, Failure> {
    let earlier = match batch_run::earlier(dir, workflow, &origin).await {
        // What would be submitted can be shown although it could not be now.
        Err(BatchRunError::Owned(_)) if args.dry_run && !args.resume => None,
        found => found?,
    };
    let state_dir = dir.path().display();
    let Some(earlier) = earlier else {
        let words = format!(
            "no run of this very spec is in {state_dir} that has jobs left to go on with; leave \
             --resume out, or see `torc restart` if the spec has changed"
        );
        return if args.resume { Err(Failure::new(Exit::Usage, words)) } else { Ok(None) };
    };
    if args.new {
        return Ok(None);
    }
    let Earlier { id, left, jobs, .. } = earlier;
    let found = format!("workflow {id} of this spec has {left} of {} left", render::jobs(jobs));
    let is_interactive = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    match (args.resume, is_interactive) {
        (true, _) => Ok(Some(earlier)),
        (false, true) => Ok(ask(&format!("The {found}. Go on with it?")).then_some(earlier)),
        (false, false) => Err(Failure::new(
            Exit::Usage,
            format!(
                "{found} in {state_dir}; say what the batch job is to do: with --resume it goes on with \
                 them, and what has completed stays so; with --new it starts anew"
            ),
        )),
    }
}

fn report(run: &BatchRun<'_>, earlier: Option<Earlier>, handle: String, format: Format) {
    let request = run.request();
    if format == Format::Json {
        let workflow = earlier.map(|earlier| earlier.id);
        json(&Report { handle, output: request.output, workflow });
        return;
    }
    let nodes = match request.nodes {
        1 => "1 node".to_owned(),
        count => format!("{count} nodes"),
    };
    let name = &run.scheduler.name;
    let walltime = duration::render(run.scheduler.walltime());
    outln!("Slurm job {handle} submitted: {nodes} of scheduler `{name}` for {walltime}");
    if let Some(Earlier { id, left, jobs, .. }) = earlier {
        outln!("  it goes on with workflow {id}, which has {left} of {} left", render::jobs(jobs));
    }
    outln!("  `squeue -j {handle}` shows where it waits, and `scancel {handle}` ends it");
    outln!("  when it has begun, its torc writes to {}", request.output);
    outln!(
        "  `torc status` shows the workflow: on the job's first node, and anywhere when it has ended"
    );
}

/// The scheduler whose nodes the run gets.
fn choose<'w>(
    workflow: &'w Workflow,
    wanted: Option<&str>,
) -> Result<&'w SchedulerSettings, Failure> {
    let all: Vec<&SchedulerSettings> =
        workflow.header.schedulers.iter().filter(|one| one.kind == "slurm").collect();
    let names = all.iter().map(|one| format!("`{}`", one.name)).collect::<Vec<_>>().join(", ");
    let refuse = |words: String| Err(Failure::new(Exit::Usage, words));
    match (all.as_slice(), wanted) {
        ([], _) => refuse(
            "the spec has no Slurm scheduler to say what to ask for; add one to `slurm_schedulers`, or \
             have it planned: `torc slurm generate`"
                .to_owned(),
        ),
        ([one], None) => Ok(one),
        (several, None) => refuse(format!(
            "the spec has {} Slurm schedulers, and a run has the nodes of one: choose it with \
             --scheduler NAME, of {names}",
            several.len()
        )),
        (all, Some(name)) => match all.iter().find(|one| &*one.name == name) {
            Some(one) => Ok(one),
            None => refuse(format!("the spec has no Slurm scheduler `{name}`; it has {names}")),
        },
    }
}

fn text(path: &Path) -> Result<&str, Failure> {
    path.to_str().ok_or_else(|| {
        let words = format!("the path {} is not UTF-8", path.display());
        Failure::new(Exit::Environment, words)
    })
}

impl From<BatchRunError> for Failure {
    fn from(error: BatchRunError) -> Self {
        match error {
            BatchRunError::Access(error) => error.into(),
            BatchRunError::NeverRuns(words) => Self::new(Exit::NeverRuns, words),
            BatchRunError::Unservable(words) => Self::new(Exit::Usage, words),
            BatchRunError::StandIn(error) => Self::new(Exit::Usage, error),
            BatchRunError::Queued { .. }
            | BatchRunError::Owned(_)
            | BatchRunError::Scheduler(_) => Self::new(Exit::Environment, error),
        }
    }
}
