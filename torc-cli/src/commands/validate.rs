//! `torc validate`: every problem of a spec, without running anything.

use serde::Serialize;
use torc_core::workflow::Workflow;

use crate::args::{Format, ValidateArgs};
use crate::exit::{Exit, Failure};
use crate::out::outln;
use crate::plugin_settings;
use crate::render::counted;
use crate::render::diagnostics::{self, ProblemReport};
use crate::spec_file;

/// What a valid spec amounts to.
#[derive(Serialize)]
struct Validation {
    problems: Vec<ProblemReport>,
    workflow: Option<Size>,
}

#[derive(Serialize)]
struct Size {
    name: String,
    jobs: usize,
    dependencies: usize,
    files: usize,
    user_data: usize,
    gangs: usize,
}

pub(crate) fn execute(args: &ValidateArgs, format: Format) -> Result<Exit, Failure> {
    let mut spec = spec_file::read(&args.spec)?;
    let size = spec.workflow.as_deref().map(Size::of);
    let mut exit = if size.is_some() { Exit::Success } else { Exit::SpecInvalid };
    if exit == Exit::Success {
        let roles = plugin_settings::EVERYWHERE;
        let looked = plugin_settings::look(&spec.plugin_uses, roles, &args.plugins)?;
        exit = looked.exit();
        spec.problems.extend(looked.wrong.into_iter().chain(looked.unknown));
        spec.problems.sort_by_key(|problem| problem.span.map_or(0, |span| span.start));
    }
    let size = size.filter(|_| exit == Exit::Success);
    match format {
        Format::Json => crate::render::json(&Validation {
            problems: diagnostics::reports(&spec.source, &spec.problems),
            workflow: size,
        }),
        Format::Table => {
            diagnostics::print(&spec.source, &spec.problems);
            if let Some(size) = size {
                outln!(
                    "{} is valid: workflow `{}` with {}, {}, {}, {}, {}",
                    spec.source.name,
                    size.name,
                    counted(size.jobs, "job"),
                    counted(size.dependencies, "dependency"),
                    counted(size.files, "file"),
                    counted(size.user_data, "user data item"),
                    counted(size.gangs, "multi-node job"),
                );
            }
        }
    }
    Ok(exit)
}

impl Size {
    fn of(workflow: &Workflow) -> Self {
        let header = &workflow.header;
        let is_gang = |requirements: u32| header.requirements[requirements as usize].nodes > 1;
        Self {
            name: header.name.clone(),
            jobs: workflow.jobs.len(),
            dependencies: workflow.jobs.iter().map(|job| job.depends_on.len()).sum(),
            files: header.files.len(),
            user_data: header.user_data.len(),
            gangs: workflow.jobs.iter().filter(|job| is_gang(job.requirements)).count(),
        }
    }
}
