//! The batch scripts of a workflow, as a server gives them to sbatch.
//!
//! Owns how they are shown. What is in them comes from where the server takes it, too. Numbers that
//! nobody has given yet stand as words, which no real number looks like.

use std::sync::Arc;

use serde::Serialize;
use torc_core::traits::AllocationHandle;
use torc_core::workflow::{ActionKind, SchedulerSettings, Workflow};
use torc_executors::slurm::script;
use torc_server::allocation_request::{self, Asking, Names};
use torc_server::batch_run::BatchRun;
use torc_server::state_dir::StateDir;
use torc_server::store::Submitter;

use crate::args::Format;
use crate::commands::submission_dir;
use crate::exit::{Exit, Failure};
use crate::out::{errln, outln};
use crate::render::json;
use crate::submitter;

/// The workflow's and the allocation's number.
const NAMES: Names<'_> = Names { workflow: &"W", allocation: &"A" };
/// The name of the database.
const KEY: &str = "KEY";
/// Slurm's number of the allocation before.
const BEFORE: &str = "J";

/// A script, and for which allocations it is.
#[derive(Serialize)]
struct Script {
    /// The scheduler of the spec.
    scheduler: Arc<str>,
    /// How many of its allocations actions ask for.
    allocations: u32,
    /// It is for those that begin after the one before: of a scheduler with `serialize_allocations` all
    /// but the first.
    is_following: bool,
    /// What sbatch is started with.
    args: Vec<String>,
    /// Its standard input.
    script: String,
}

/// Prints the batch scripts of each scheduler.
///
/// # Errors
/// When a scheduler cannot be written as a script.
pub(crate) fn print(workflow: &Workflow, dir: &StateDir, format: Format) -> Result<Exit, Failure> {
    let scripts = all(workflow, dir)?;
    if scripts.is_empty() {
        errln!("the spec has no Slurm scheduler, so there is no script");
    }
    if format == Format::Json {
        json(&scripts);
        return Ok(Exit::Success);
    }
    for (index, script) in scripts.iter().enumerate() {
        if index > 0 {
            outln!("");
        }
        outln!("# scheduler `{}`: {}", script.scheduler, purpose(script));
        outln!("{}", script.script.trim_end());
    }
    Ok(Exit::Success)
}

/// Prints the batch script of a run in an allocation of its own.
///
/// # Errors
/// When its scheduler cannot be written as a script.
pub(crate) fn print_run(run: &BatchRun<'_>, format: Format) -> Result<Exit, Failure> {
    let rendered = script::render(&run.request(), &run.key())
        .map_err(|error| Failure::new(Exit::SpecInvalid, error))?;
    let script = Script {
        scheduler: run.scheduler.name.clone(),
        allocations: 1,
        is_following: false,
        args: rendered.args,
        script: rendered.text,
    };
    if format == Format::Json {
        json(&[script]);
    } else {
        outln!("# scheduler `{}`: a run of its own", script.scheduler);
        outln!("{}", script.script.trim_end());
    }
    Ok(Exit::Success)
}

fn all(workflow: &Workflow, dir: &StateDir) -> Result<Vec<Script>, Failure> {
    let program = std::env::current_exe().map_err(|error| Failure::internal(&error))?;
    let submitter = Submitter { env: Vec::new(), umask: submitter::umask() };
    let asking = Asking {
        workflow,
        program: &program.to_string_lossy(),
        output_dir: &dir.path().to_string_lossy(),
        submission_dir: &submission_dir()?,
        submitter: &submitter,
    };
    let mut scripts = Vec::new();
    for settings in workflow.header.schedulers.iter().filter(|one| one.kind == "slurm") {
        scripts.push(one(&asking, settings, None)?);
        if settings.is_serialized() {
            scripts.push(one(&asking, settings, Some(AllocationHandle(BEFORE.to_owned())))?);
        }
    }
    Ok(scripts)
}

fn one(
    asking: &Asking<'_>,
    settings: &SchedulerSettings,
    after: Option<AllocationHandle>,
) -> Result<Script, Failure> {
    let is_following = after.is_some();
    let request = asking.request(settings, NAMES, after);
    let rendered = script::render(&request, &allocation_request::key(KEY, NAMES))
        .map_err(|error| Failure::new(Exit::SpecInvalid, error))?;
    Ok(Script {
        scheduler: settings.name.clone(),
        allocations: asked_for(asking.workflow, settings),
        is_following,
        args: rendered.args,
        script: rendered.text,
    })
}

/// How many allocations of a scheduler actions ask for.
fn asked_for(workflow: &Workflow, settings: &SchedulerSettings) -> u32 {
    let header = &workflow.header;
    let counts = header.actions.iter().filter_map(|action| match action.kind {
        ActionKind::ScheduleNodes { scheduler, num_allocations, .. }
            if header.schedulers[scheduler as usize].name == settings.name =>
        {
            Some(num_allocations)
        }
        _ => None,
    });
    counts.sum()
}

fn purpose(script: &Script) -> String {
    if script.is_following {
        return "each one after the first, when the one before has ended".to_owned();
    }
    match script.allocations {
        0 => "no action asks for it".to_owned(),
        1 => "asked for once".to_owned(),
        count => format!("asked for {count} times"),
    }
}
