//! `torc slurm`: the batch scripts of a spec, and the allocations planned for one that asks for none.

use torc_core::plan::{self, PartitionShape, Plan, PlanOptions, Reach, Strategy};
use torc_core::traits::{NodeShape, SchedulerError};
use torc_core::workflow::{ActionKind, SchedulerSettings, Workflow};
use torc_executors::slurm::{Partition, SlurmScheduler, SlurmSettings};
use torc_server::state_dir::StateDir;

use crate::args::{Cut, Format, PlanArgs, SlurmCommand, SlurmGenerateArgs, SlurmScriptArgs};
use crate::commands::serve;
use crate::exit::{Exit, Failure};
use crate::out::{errln, pass_on};
use crate::render::{diagnostics, json};
use crate::scripts;
use crate::settings::Settings;
use crate::spec_file::{self, SpecFile};

pub(crate) async fn execute(
    command: &SlurmCommand,
    dir: &StateDir,
    format: Format,
) -> Result<Exit, Failure> {
    match command {
        SlurmCommand::Script(args) => script(args, dir, format),
        SlurmCommand::Generate(args) => generate(args, format).await,
    }
}

fn script(args: &SlurmScriptArgs, dir: &StateDir, format: Format) -> Result<Exit, Failure> {
    let spec = spec_file::read(&args.spec)?;
    scripts::print(spec_file::valid(&spec, format)?, dir, format)
}

async fn generate(args: &SlurmGenerateArgs, format: Format) -> Result<Exit, Failure> {
    let spec = spec_file::read(&args.spec)?;
    let workflow = spec_file::valid(&spec, format)?;
    let plan = plan(workflow, &spec, &args.plan).await?;
    if format == Format::Json {
        json(&plan);
        return Ok(Exit::Success);
    }
    errln!("{plan}");
    refuse_never(&plan)?;
    let completed = spec_file::complete(&spec, &plan)?;
    for name in &completed.unpinned {
        errln!("note: the jobs of `{name}` belong to several schedulers, so none is named there");
    }
    pass_on(completed.text.as_bytes());
    Ok(Exit::Success)
}

/// The workflow with allocations planned for it, if it asks for none and an account is named. What
/// looks like totals where values are per node is said on the way.
///
/// # Errors
/// When the cluster cannot be asked, or the workflow cannot be planned.
pub(crate) async fn plan_if_needed(
    workflow: &Workflow,
    spec: &SpecFile,
    args: &PlanArgs,
) -> Result<Option<Workflow>, Failure> {
    let asks = |kind: &ActionKind| matches!(kind, ActionKind::ScheduleNodes { .. });
    let is_planned = workflow.header.actions.iter().any(|action| asks(&action.kind));
    match (is_planned, args.are_given()) {
        (true, false) => {
            // What the cluster has is only good to know here; the server checks what can never run.
            let is_slurm = |found: &SchedulerSettings| found.kind == "slurm";
            if workflow.header.schedulers.iter().any(is_slurm)
                && let Ok(partitions) = partitions().await
            {
                warn_of_totals(workflow, spec, &reach(workflow, &partitions, &[]));
            }
            Ok(None)
        }
        (true, true) => Err(Failure::new(
            Exit::Usage,
            "the spec asks for its allocations itself; leave the options of planning out, or remove \
             its `schedule_nodes` actions to have them planned",
        )),
        (false, _) => {
            let plan = plan(workflow, spec, args).await?;
            errln!("{plan}");
            refuse_never(&plan)?;
            Ok(Some(plan::complete(workflow, &plan)))
        }
    }
}

async fn plan(workflow: &Workflow, spec: &SpecFile, args: &PlanArgs) -> Result<Plan, Failure> {
    let partitions = partitions().await?;
    let planned = args.partition.as_deref();
    let planned: Vec<_> =
        partitions.iter().filter(|one| planned.is_none_or(|name| one.name == name)).collect();
    warn_of_totals(workflow, spec, &reach(workflow, &partitions, &planned));
    let options = PlanOptions {
        account: args.account.clone(),
        partition: args.partition.clone(),
        strategy: match args.strategy {
            Cut::Auto => Strategy::Auto,
            Cut::One => Strategy::One,
            Cut::Many => Strategy::Many,
        },
        max_nodes: args.max_nodes,
        slurm_defaults: spec.slurm_defaults.clone(),
    };
    plan::plan(workflow, &partitions, &options).map_err(|error| Failure::new(Exit::Usage, error))
}

/// Says which requests look like totals over nodes, where values are per node.
fn warn_of_totals(workflow: &Workflow, spec: &SpecFile, reach: &Reach) {
    diagnostics::print(&spec.source, &plan::totals(workflow, reach, &spec.requirement_places));
}

/// The nodes that jobs can get: those of the partitions of each scheduler, and of the partitions that are
/// planned with.
fn reach(workflow: &Workflow, partitions: &[PartitionShape], planned: &[&PartitionShape]) -> Reach {
    let of = |settings| nodes_of(settings, partitions);
    Reach {
        of_schedulers: workflow.header.schedulers.iter().map(of).collect(),
        planned: nodes(planned.iter().copied()),
    }
}

/// The nodes that allocations of a scheduler can have: all that there are where its partition is not known.
fn nodes_of(settings: &SchedulerSettings, partitions: &[PartitionShape]) -> Vec<NodeShape> {
    if settings.kind != "slurm" {
        return Vec::new();
    }
    let named = SlurmSettings::read(&settings.name, &settings.settings)
        .ok()
        .and_then(|settings| settings.partitions());
    let found = nodes(partitions.iter().filter(|partition| match &named {
        Some(names) => names.contains(&partition.name),
        None => partition.is_default,
    }));
    if found.is_empty() { nodes(partitions) } else { found }
}

fn nodes<'p>(partitions: impl IntoIterator<Item = &'p PartitionShape>) -> Vec<NodeShape> {
    partitions.into_iter().flat_map(|partition| partition.nodes.iter().cloned()).collect()
}

/// The partitions of this cluster that take requests.
async fn partitions() -> Result<Vec<PartitionShape>, Failure> {
    let scheduler = SlurmScheduler::new(serve::programs(&Settings::load()?));
    let partitions = scheduler.partitions().await.map_err(|error: SchedulerError| {
        Failure::new(Exit::Environment, format!("{error}; `torc doctor` says what is missing"))
    })?;
    let usable = partitions.into_iter().filter(Partition::takes_requests);
    Ok(usable
        .map(|partition| PartitionShape {
            max_walltime: partition.time_limit.finite(),
            max_nodes: partition.max_nodes,
            is_default: partition.is_default,
            nodes: partition.kinds.into_iter().map(|kind| kind.shape).collect(),
            name: partition.name,
        })
        .collect())
}

fn refuse_never(plan: &Plan) -> Result<(), Failure> {
    if plan.never.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = plan
        .never
        .iter()
        .map(|never| match never.jobs.len() {
            1 => format!("\n  `{}`: {}", never.example, never.reason),
            count => format!("\n  `{}` and {} like it: {}", never.example, count - 1, never.reason),
        })
        .collect();
    let count: usize = plan.never.iter().map(|never| never.jobs.len()).sum();
    let jobs = crate::render::jobs(u32::try_from(count).unwrap_or(u32::MAX));
    Err(Failure::new(Exit::NeverRuns, format!("{jobs} can never run here:{}", lines.concat())))
}
