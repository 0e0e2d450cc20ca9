//! `torc slurm`: the batch scripts of a spec, and the allocations planned for one that asks for none.

use torc_core::traits::AllocationRequest;
use torc_core::workflow::{ActionKind, SchedulerSettings, Workflow};
use torc_executors::slurm::script;
use torc_server::state_dir::StateDir;

use crate::args::{Format, PlanArgs, SlurmCommand, SlurmScriptArgs};
use crate::commands::run;
use crate::exit::{Exit, Failure};
use crate::out::{errln, outln};
use crate::render::{diagnostics, json};
use crate::spec_file;

pub(crate) async fn execute(
    command: &SlurmCommand,
    dir: &StateDir,
    format: Format,
) -> Result<Exit, Failure> {
    match command {
        SlurmCommand::Script(args) => script(args, dir, format),
        SlurmCommand::Generate(args) => {
            let _ = args;
            Err(Failure::new(Exit::Usage, "not yet merged"))
        }
    }
}

fn script(args: &SlurmScriptArgs, dir: &StateDir, format: Format) -> Result<Exit, Failure> {
    let spec = spec_file::read(&args.spec)?;
    diagnostics::print(&spec.source, &spec.problems);
    match spec.workflow.as_deref() {
        Some(workflow) => print_scripts(workflow, dir),
        None => {
            if format == Format::Json {
                json(&diagnostics::listing(&spec.source, &spec.problems));
            }
            Err(Failure::silent(Exit::SpecInvalid))
        }
    }
}

/// The workflow with allocations planned for it, if it asks for none.
pub(crate) async fn plan_if_needed(
    workflow: &Workflow,
    args: &PlanArgs,
) -> Result<Option<Workflow>, Failure> {
    let _ = (workflow, args);
    Ok(None)
}

/// Prints the batch script of each scheduler, as it would be given to sbatch.
pub(crate) fn print_scripts(workflow: &Workflow, dir: &StateDir) -> Result<Exit, Failure> {
    let header = &workflow.header;
    let slurm = header.schedulers.iter().filter(|settings| settings.kind == "slurm");
    let mut is_first = true;
    for settings in slurm {
        if !std::mem::take(&mut is_first) {
            outln!("");
        }
        let request = request(settings, dir)?;
        let text =
            script::preview(&request).map_err(|error| Failure::new(Exit::SpecInvalid, error))?;
        outln!("# scheduler `{}`: {}", settings.name, wanted(workflow, settings));
        outln!("{}", text.trim_end());
    }
    if is_first {
        errln!("the spec has no Slurm scheduler, so there is no script");
    }
    Ok(Exit::Success)
}

/// How many allocations of a scheduler actions ask for.
fn wanted(workflow: &Workflow, settings: &SchedulerSettings) -> String {
    let header = &workflow.header;
    let count: u32 = header
        .actions
        .iter()
        .filter_map(|action| match action.kind {
            ActionKind::ScheduleNodes { scheduler, num_allocations, .. }
                if header.schedulers[scheduler as usize].name == settings.name =>
            {
                Some(num_allocations)
            }
            _ => None,
        })
        .sum();
    match count {
        0 => "no action asks for it".to_owned(),
        1 => "asked for once".to_owned(),
        count => format!("asked for {count} times"),
    }
}

/// What a server would ask for. Numbers that are not given yet stand as W and A.
fn request(settings: &SchedulerSettings, dir: &StateDir) -> Result<AllocationRequest, Failure> {
    let output_dir = dir.path().to_string_lossy().into_owned();
    let program = std::env::current_exe().map_err(|error| Failure::internal(&error))?;
    let words = ["worker", "--output-dir", &output_dir, "--workflow", "W", "--allocation", "A"];
    let command = std::iter::once(program.to_string_lossy().into_owned())
        .chain(words.map(str::to_owned))
        .collect();
    Ok(AllocationRequest {
        name: "torc_wfW_alA".to_owned(),
        nodes: settings.nodes(),
        walltime: Some(settings.walltime()),
        settings: settings.settings.clone(),
        command,
        working_dir: run::submission_dir()?,
        output: format!("{output_dir}/job_stdio/allocation_wfW_alA.log"),
        env: Vec::new(),
        umask: None,
        after: None,
    })
}
