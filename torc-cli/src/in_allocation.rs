//! `torc submit --in-allocation`: a spec from file to a batch job that runs it, without a server.

use std::path::Path;

use serde::Serialize;
use torc_core::workflow::{SchedulerSettings, Workflow};
use torc_executors::slurm::{SlurmScheduler, duration};
use torc_server::batch_run::{BatchRun, BatchRunError};
use torc_server::clock::now;
use torc_server::state_dir::StateDir;
use torc_server::store::Submitter;

use crate::args::{Format, SubmitArgs};
use crate::commands::{serve, submission_dir};
use crate::exit::{Exit, Failure};
use crate::out::outln;
use crate::render::json;
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
    /// The file that the words of its `torc run` go to.
    output: String,
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
    let scheduler = choose(workflow, args.scheduler.as_deref())?;
    let program = std::env::current_exe().map_err(|error| Failure::internal(&error))?;
    let path = spec.path.as_deref().unwrap_or(&args.spec);
    let submitter = Submitter {
        env: if args.dry_run { Vec::new() } else { submitter::environment() },
        umask: submitter::umask(),
    };
    let run = BatchRun {
        workflow,
        scheduler,
        spec: text(path)?,
        program: text(&program)?,
        output_dir: text(dir.path())?,
        submission_dir: &submission_dir()?,
        submitter: &submitter,
        mark: &format!("{}-{}", now().0, std::process::id()),
    };
    run.check_itself()?;
    if args.dry_run {
        return scripts::print_run(&run, format);
    }
    let slurm = SlurmScheduler::new(serve::programs(&Settings::load()?));
    let handle = run.submit(dir, &slurm).await?.to_string();
    report(&run, handle, format);
    Ok(Exit::Success)
}

fn report(run: &BatchRun<'_>, handle: String, format: Format) {
    let request = run.request();
    if format == Format::Json {
        json(&Report { handle, output: request.output });
        return;
    }
    let nodes = match request.nodes {
        1 => "1 node".to_owned(),
        count => format!("{count} nodes"),
    };
    let name = &run.scheduler.name;
    let walltime = duration::render(run.scheduler.walltime());
    outln!("Slurm job {handle} submitted: {nodes} of scheduler `{name}` for {walltime}");
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
            BatchRunError::Owned(_) | BatchRunError::Scheduler(_) => {
                Self::new(Exit::Environment, error)
            }
        }
    }
}
