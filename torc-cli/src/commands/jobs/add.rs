//! `torc jobs add`: more jobs for a workflow that is there.

use std::cell::RefCell;
use std::collections::BTreeMap;

use torc_core::diagnostics::{Problem, SourceText};
use torc_core::ids::JobId;
use torc_core::spec::{Format as SpecFormat, Rejected, Sources, check_fragment};
use torc_core::wire::{AddJobsAnswer, AddJobsRequest, AddedJobsReport, ProblemInText};
use torc_server::access::Access;
use torc_server::spec_folders::SpecFolders;
use torc_server::state_dir::StateDir;

use crate::args::{Format, JobsAddArgs};
use crate::calling_job;
use crate::exit::{Exit, Failure};
use crate::out::outln;
use crate::render::{counted, diagnostics, json};
use crate::spec_file;

pub(crate) async fn execute(
    args: &JobsAddArgs,
    dir: &StateDir,
    format: Format,
) -> Result<Exit, Failure> {
    let workflow = args.workflow.workflow;
    let (bytes, source) = spec_file::bytes(&args.from)?;
    let written = SpecFormat::from_extension(&source.name);
    let sources = Recorded { folders: spec_file::folders(&args.from), read: RefCell::default() };
    if let Err(Rejected { problems }) = check_fragment(&bytes, written, &sources) {
        return Err(rejected(&source, &problems, format));
    }
    let request = AddJobsRequest {
        text: source.text.to_string(),
        format: written,
        sources: sources.read.into_inner(),
        by: adder(args, dir).await?,
    };
    match Access::add_jobs(dir, workflow, &request).await? {
        AddJobsAnswer::Added { report, warnings } => {
            diagnostics::print(&source, &of_here(warnings));
            match format {
                Format::Json => json(&report),
                Format::Table => outln!("{}", words(&report)),
            }
            Ok(Exit::Success)
        }
        AddJobsAnswer::Rejected { problems } => Err(rejected(&source, &of_here(problems), format)),
        AddJobsAnswer::TooLate { error } => Err(Failure::new(Exit::JobsFailed, error)),
        AddJobsAnswer::Never { error } => Err(Failure::new(Exit::NeverRuns, error)),
    }
}

fn words(report: &AddedJobsReport) -> String {
    let added = counted(report.added.len(), "job");
    let known = match report.present.len() {
        0 => String::new(),
        count => format!(", {count} there already"),
    };
    format!("{added} added to workflow {}{known}", report.workflow)
}

/// The job that the new ones depend on: the one that is named, or in which this process runs.
async fn adder(args: &JobsAddArgs, dir: &StateDir) -> Result<Option<JobId>, Failure> {
    let workflow = args.workflow.workflow;
    let Some(name) = &args.job else { return calling_job::of(dir, workflow) };
    let jobs = Access::open(dir).await?.jobs(workflow).await?;
    crate::commands::check_names(
        std::slice::from_ref(name),
        jobs.iter().map(|job| job.name.as_str()),
    )?;
    Ok(jobs.iter().find(|job| job.name == *name).map(|job| job.id))
}

fn rejected(source: &SourceText, problems: &[Problem], format: Format) -> Failure {
    diagnostics::print(source, problems);
    if format == Format::Json {
        json(&diagnostics::listing(source, problems));
    }
    Failure::silent(Exit::SpecInvalid)
}

/// Problems that somebody else found in the text that is here.
fn of_here(problems: Vec<ProblemInText>) -> Vec<Problem> {
    let here = |problem: ProblemInText| {
        let ProblemInText { code, severity, message, span, label, help } = problem;
        // As long as this process lives, like the codes of its own problems; there are few.
        Problem { code: code.leak(), severity, message, span, label, help }
    };
    problems.into_iter().map(here).collect()
}

/// The files that a text names, kept for whoever adds the jobs: it may have another folder.
struct Recorded {
    folders: SpecFolders,
    read: RefCell<BTreeMap<String, Result<Vec<u8>, String>>>,
}

impl Sources for Recorded {
    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        let read = self.folders.read(path);
        self.read.borrow_mut().insert(path.to_owned(), read.clone());
        read
    }
}
