//! `torc graph`: a picture of a spec, or of where a workflow stands.

use std::path::Path;

use torc_core::graph::{Graph, GraphJob};
use torc_core::ids::WorkflowId;
use torc_core::wire::JobReport;
use torc_server::access::Access;
use torc_server::state_dir::StateDir;

use crate::args::{Format, GraphArgs, GraphLanguage};
use crate::exit::{Exit, Failure};
use crate::out::pass_on;
use crate::spec_file;

pub(crate) async fn execute(
    args: &GraphArgs,
    dir: &StateDir,
    format: Format,
) -> Result<Exit, Failure> {
    let (title, graph) = match &args.target {
        Some(path) if number(path).is_none() => of_spec(path, args, format)?,
        target => of_workflow(target.as_deref().and_then(number), args, dir).await?,
    };
    let text = match args.to {
        GraphLanguage::Dot => graph.dot(&title),
        GraphLanguage::Mermaid => graph.mermaid(&title),
    };
    pass_on(text.as_bytes());
    Ok(Exit::Success)
}

/// The workflow that is meant, where no file has this name.
fn number(target: &Path) -> Option<WorkflowId> {
    let number = target.to_str()?.parse().ok().filter(|number| *number > 0)?;
    (!target.exists()).then_some(WorkflowId(number))
}

fn of_spec(path: &Path, args: &GraphArgs, format: Format) -> Result<(String, Graph), Failure> {
    let spec = spec_file::read(path)?;
    let workflow = spec_file::valid(&spec, format)?;
    Ok((workflow.header.name.clone(), Graph::of_workflow(workflow, !args.all_jobs)))
}

async fn of_workflow(
    id: Option<WorkflowId>,
    args: &GraphArgs,
    dir: &StateDir,
) -> Result<(String, Graph), Failure> {
    let access = Access::open(dir).await?;
    let report = access.workflow(id).await?;
    let jobs = access.jobs(Some(report.id)).await?;
    let graph = Graph::new(jobs.iter().map(of_report), !args.all_jobs);
    Ok((format!("workflow {}: {}, {}", report.id, report.name, report.state.word()), graph))
}

fn of_report(job: &JobReport) -> GraphJob<'_> {
    GraphJob {
        name: &job.name,
        family: job.family.as_deref(),
        nodes: job.nodes,
        status: Some(job.status),
        depends_on: &job.depends_on,
    }
}
