//! The command line.

mod data;
mod exec;
mod forecast;
mod plugin;

use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Args as ArgGroup, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use torc_core::engine::JobStatus;
use torc_core::ids::WorkflowId;
use torc_core::workflow::USUAL_PARALLEL_STEPS;

pub(crate) use self::data::{
    FilesArgs, JobsAddArgs, JobsPart, UserDataCommand, UserDataGetArgs, UserDataListArgs,
    UserDataSetArgs,
};
pub(crate) use self::exec::ExecArgs;
pub(crate) use self::forecast::{ForecastArgs, NodeArgs, Packing, SimulateArgs};
pub(crate) use self::plugin::{
    Language, PluginArgs, PluginCheckArgs, PluginCommand, PluginInfoArgs, PluginListArgs,
    PluginNewArgs, PluginProbeArgs, PluginRunArgs,
};

/// Runs workflows of many command-line jobs on one machine or many nodes.
#[derive(Debug, Parser)]
#[command(name = "torc", version, max_term_width = 100, after_help = EXIT_CODES)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Where torc keeps its database and jobs' output.
    #[arg(
        long,
        global = true,
        env = "TORC_OUTPUT_DIR",
        default_value = "torc_output",
        value_name = "DIR"
    )]
    pub(crate) output_dir: PathBuf,
    /// Where that comes from.
    #[arg(skip)]
    pub(crate) output_dir_source: Option<ValueSource>,
    /// How results are printed on standard output.
    #[arg(long, global = true, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
    /// When to use colour.
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto)]
    pub(crate) color: Color,
}

impl Args {
    /// Reads this process's command line. What is wrong with it ends the process, as clap does.
    pub(crate) fn read() -> Self {
        let mut matches = Self::command().get_matches();
        let source = matches.value_source("output_dir");
        let read = Self::from_arg_matches_mut(&mut matches);
        let mut args = read.unwrap_or_else(|error| error.format(&mut Self::command()).exit());
        args.output_dir_source = source;
        args
    }
}

const EXIT_CODES: &str = "\
Exit codes:
  0    all jobs completed
  1    some jobs failed, were canceled or terminated, or could not be started; a plugin failed
  2    wrong usage
  3    the spec is invalid
  4    it can never run here
  5    something outside torc is not as it must be (state directory in use, damaged, not writable)
  70   an error in torc
  130  interrupted";

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// For programs; the shapes are documented and stable.
    Json,
}

/// When to use colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Color {
    pub(crate) fn write_global(self) {
        match self {
            Self::Auto => anstream::ColorChoice::Auto,
            Self::Always => anstream::ColorChoice::Always,
            Self::Never => anstream::ColorChoice::Never,
        }
        .write_global();
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a workflow to its end on this machine, or on the nodes of the Slurm allocation it is in
    Run(RunArgs),
    /// Run commands without a spec: those of a file, or one with many parameters
    Exec(ExecArgs),
    /// Write a commented spec to begin with
    New(NewArgs),
    /// Check a spec and report every problem in it
    Validate(ValidateArgs),
    /// Write a spec in another format, or print the JSON Schema of all
    #[command(subcommand)]
    Spec(SpecCommand),
    /// Draw the graph of a spec or a workflow, for Graphviz or Mermaid
    Graph(GraphArgs),
    /// List the workflows of this state directory, or of all that you have
    List(ListArgs),
    /// Delete workflows with all that is known of them
    Delete(DeleteArgs),
    /// Print a workflow with its results, for `torc import` elsewhere
    Export(ExportArgs),
    /// Take in a workflow that `torc export` printed
    Import(ImportArgs),
    /// Show where a workflow stands
    Status(StatusArgs),
    /// List the jobs of a workflow, or add some
    Jobs(JobsArgs),
    /// List the files of a workflow: who writes and reads each, and whether it is there
    Files(FilesArgs),
    /// List, print or set the values that jobs hand to each other
    #[command(subcommand)]
    UserData(UserDataCommand),
    /// List the attempts of jobs with exit codes, times and resources used
    Results(ResultsArgs),
    /// Print the output of a job
    Logs(LogsArgs),
    /// Cancel a workflow, or some of its jobs
    Cancel(CancelArgs),
    /// Leave jobs out until they are enabled again
    Disable(NamedJobsArgs),
    /// Take jobs in again that were left out
    Enable(NamedJobsArgs),
    /// Go on with an interrupted workflow, or run again what did not complete or has changed
    Restart(RestartArgs),
    /// Submit a workflow to Slurm: a server asks for its nodes and runs its jobs there
    Submit(SubmitArgs),
    /// Say why a job or an allocation waits, or how it ended
    Explain(ExplainArgs),
    /// List the allocations of a workflow: where they stand, and what runs on their nodes
    Allocations(AllocationsArgs),
    /// List the nodes that a workflow has: what runs on each, and what is held for which job
    Nodes(NodesArgs),
    /// Run the server of a state directory; `torc submit` starts it when none runs
    Serve(ServeArgs),
    /// Run the steps of one allocation for a server; batch scripts start it
    #[command(hide = true)]
    Worker(WorkerArgs),
    /// Run the steps of one node for the worker of its allocation, which has it started
    #[command(hide = true)]
    NodeWorker(NodeWorkerArgs),
    /// Start a command on another host of a job; what starts ranks calls it like rsh
    #[command(hide = true)]
    NodeStart(NodeStartArgs),
    /// Show what would be given to Slurm
    #[command(subcommand)]
    Slurm(SlurmCommand),
    /// Forecast how a workflow would go on the nodes that it declares, without starting anything
    Plan(ForecastArgs),
    /// Compare one large allocation with many small ones for a workflow, or replay the log of a machine
    Simulate(SimulateArgs),
    /// Find, check, try and begin plugins: a site's own launchers, schedulers, placers and executors
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Check whether workflows can be submitted from here, and what is missing
    Doctor(DoctorArgs),
    /// Show each setting, its value, and where that comes from
    Config,
    /// Print a script by which a shell completes torc's commands and options
    Completions(CompletionsArgs),
}

#[derive(Debug, ArgGroup)]
pub(crate) struct NewArgs {
    /// What the spec shows
    #[arg(value_enum, value_name = "KIND")]
    pub(crate) kind: Starter,
    /// The file to write, or `-` for standard output [default: KIND.yaml]
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Starter {
    /// A few jobs that depend on each other by files, on one machine
    Local,
    /// Many independent jobs, with retries
    Jobs,
    /// Single-node jobs and a job on four nodes, on this machine or on Slurm
    MultiNode,
    /// An MPI program on Slurm
    Mpi,
    /// A job for each combination of parameters
    Sweep,
}

#[derive(Debug, ArgGroup)]
pub(crate) struct CompletionsArgs {
    /// Which shell
    #[arg(value_enum, value_name = "SHELL")]
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Debug, ArgGroup)]
pub(crate) struct RunArgs {
    /// The spec: a YAML, JSON, JSON5 or KDL file, or `-` for standard input
    #[arg(value_name = "SPEC")]
    pub(crate) spec: PathBuf,
    #[command(flatten)]
    pub(crate) resources: ResourceArgs,
    #[command(flatten)]
    pub(crate) plugins: PluginArgs,
    #[command(flatten)]
    pub(crate) resume: ResumeArgs,
}

/// What to do about an interrupted run.
#[derive(Clone, Copy, Debug, ArgGroup)]
pub(crate) struct ResumeArgs {
    /// Go on with an interrupted run of the same spec
    #[arg(long, conflicts_with = "new")]
    pub(crate) resume: bool,
    /// Start anew although an earlier run of the same spec was interrupted
    #[arg(long)]
    pub(crate) new: bool,
}

/// What of this machine to use; inside a Slurm allocation, what of that.
#[derive(Clone, Debug, ArgGroup)]
#[command(next_help_heading = "Resources")]
pub(crate) struct ResourceArgs {
    /// CPUs to use, per node [default: all that this process may use]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_535))]
    pub(crate) num_cpus: Option<u32>,
    /// Memory to use, per node, in GiB [default: all]
    #[arg(long, value_name = "GIB", value_parser = gibibytes)]
    pub(crate) memory_gb: Option<u64>,
    /// GPUs to use, per node [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(..=1_024))]
    pub(crate) num_gpus: Option<u32>,
    /// Pretend that this machine is N nodes, each with its share of it or with what the options
    /// above say
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) nodes: Option<u32>,
    /// Jobs to run at once, at most
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_parallel_jobs: Option<u32>,
    /// Jobs at once on this machine, whatever they need
    #[arg(skip)]
    pub(crate) slots: Option<NonZeroU32>,
    /// End after this time: 90s, 10m, 1h30m, 01:30:00 or PT1H30M
    #[arg(long, value_name = "TIME", conflicts_with = "end_time", value_parser = crate::render::parse_duration)]
    pub(crate) time_limit: Option<std::time::Duration>,
    /// End at this time: 18:00, 2026-11-22T18:00 or 2026-11-22T18:00:00Z
    #[arg(long, value_name = "TIME", value_parser = crate::render::parse_end_time)]
    pub(crate) end_time: Option<torc_core::time::Timestamp>,
    /// Bind each job to the CPUs it was given
    #[arg(long)]
    pub(crate) pin: bool,
    /// A label of this worker: it takes only jobs whose labels it has all of
    #[arg(long = "label", value_name = "LABEL")]
    pub(crate) labels: Vec<String>,
    /// The scheduler of the spec that the nodes stand for: they have its labels and, in mode direct inside an
    /// allocation, take as many jobs at once as its actions say
    #[arg(long, value_name = "NAME")]
    pub(crate) scheduler: Option<String>,
}

impl ResourceArgs {
    /// Whether any of them is there.
    pub(crate) fn are_given(&self) -> bool {
        let numbers = [self.num_cpus, self.num_gpus, self.nodes, self.max_parallel_jobs];
        numbers.iter().any(Option::is_some)
            || self.memory_gb.is_some()
            || self.time_limit.is_some()
            || self.end_time.is_some()
            || self.pin
            || self.scheduler.is_some()
            || !self.labels.is_empty()
    }
}

#[derive(Debug, ArgGroup)]
pub(crate) struct ValidateArgs {
    /// The spec: a YAML, JSON, JSON5 or KDL file, or `-` for standard input
    #[arg(value_name = "SPEC")]
    pub(crate) spec: PathBuf,
    #[command(flatten)]
    pub(crate) plugins: PluginArgs,
}

#[derive(Debug, ArgGroup)]
pub(crate) struct ListArgs {
    /// Those of all state directories in which you have run anything
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, ArgGroup)]
pub(crate) struct DeleteArgs {
    /// The workflows' numbers
    #[arg(value_name = "WORKFLOW", required = true, value_parser = workflow_id)]
    pub(crate) workflows: Vec<WorkflowId>,
    /// Leave the files of their jobs' output where they are
    #[arg(long)]
    pub(crate) keep_output: bool,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
}

#[derive(Debug, ArgGroup)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    pub(crate) workflow: WorkflowArg,
}

#[derive(Debug, ArgGroup)]
pub(crate) struct ImportArgs {
    /// The archive, or `-` for standard input
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

#[derive(Debug, ArgGroup)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) workflow: WorkflowArg,
    /// Keep showing it until the run ends
    #[arg(long)]
    pub(crate) watch: bool,
}

/// Which workflow.
#[derive(Clone, Copy, Debug, ArgGroup)]
pub(crate) struct WorkflowArg {
    /// The workflow's number [default: the one that runs, else the latest]
    #[arg(value_name = "WORKFLOW", value_parser = workflow_id)]
    pub(crate) workflow: Option<WorkflowId>,
}

#[derive(Debug, ArgGroup)]
#[command(disable_help_subcommand = true, args_conflicts_with_subcommands = true)]
pub(crate) struct JobsArgs {
    #[command(subcommand)]
    pub(crate) part: Option<JobsPart>,
    #[command(flatten)]
    pub(crate) workflow: WorkflowArg,
    /// Only jobs with one of these statuses
    #[arg(long, value_name = "STATUS", value_parser = job_status)]
    pub(crate) status: Vec<JobStatus>,
    /// Only jobs with one of these names
    #[arg(long = "job", value_name = "NAME")]
    pub(crate) jobs: Vec<String>,
}

#[derive(Debug, ArgGroup)]
pub(crate) struct ResultsArgs {
    #[command(flatten)]
    pub(crate) workflow: WorkflowArg,
    /// Only attempts of these jobs
    #[arg(long = "job", value_name = "NAME")]
    pub(crate) jobs: Vec<String>,
    /// Only attempts that ended and did not complete
    #[arg(long)]
    pub(crate) failed: bool,
}

#[derive(Debug, ArgGroup)]
pub(crate) struct LogsArgs {
    /// The job's name
    pub(crate) job: String,
    /// The workflow's number [default: the one that runs, else the latest]
    #[arg(long, value_name = "WORKFLOW", value_parser = workflow_id)]
    pub(crate) workflow: Option<WorkflowId>,
    /// Keep printing until the job ends
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only standard output
    #[arg(long, conflicts_with = "stderr")]
    pub(crate) stdout: bool,
    /// Only standard error
    #[arg(long)]
    pub(crate) stderr: bool,
    /// An earlier attempt, by the name that `torc results` shows, such as wf1_j2_r1_a1
    #[arg(long, value_name = "STEP")]
    pub(crate) attempt: Option<String>,
}

#[derive(Debug, ArgGroup)]
pub(crate) struct CancelArgs {
    #[command(flatten)]
    pub(crate) workflow: WorkflowArg,
    /// Only these jobs, and what depends on them
    #[arg(long = "job", value_name = "NAME")]
    pub(crate) jobs: Vec<String>,
}

#[derive(Debug, ArgGroup)]
pub(crate) struct NamedJobsArgs {
    #[command(flatten)]
    pub(crate) workflow: WorkflowArg,
    /// The job; may be repeated
    #[arg(long = "job", value_name = "NAME", required = true)]
    pub(crate) jobs: Vec<String>,
}

#[derive(Debug, ArgGroup)]
pub(crate) struct RestartArgs {
    #[command(flatten)]
    pub(crate) workflow: WorkflowArg,
    /// What the workflow's spec says now: what it defines otherwise runs again, what is new in it runs, and
    /// what it does not have any more is left out
    #[arg(long, value_name = "FILE")]
    pub(crate) spec: Option<PathBuf>,
    /// Run all jobs again, also those that have completed
    #[arg(long)]
    pub(crate) all: bool,
    /// Say which jobs would run and why; nothing is started or changed
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) resources: ResourceArgs,
    #[command(flatten)]
    pub(crate) plugins: PluginArgs,
}

#[derive(Debug, ArgGroup)]
pub(crate) struct SubmitArgs {
    /// The spec: a YAML, JSON, JSON5 or KDL file, or `-` for standard input
    #[arg(value_name = "SPEC")]
    pub(crate) spec: PathBuf,
    /// Follow the run to its end; Ctrl-C detaches, and the run goes on
    #[arg(long)]
    pub(crate) wait: bool,
    /// Print the batch scripts instead of submitting anything
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Submit one batch job that runs `torc run SPEC` on its nodes: no server stays on this host
    #[arg(long, conflicts_with_all = ["wait", "account", "partition", "strategy", "max_nodes"])]
    pub(crate) in_allocation: bool,
    /// With --in-allocation: whose nodes to ask for, where the spec has several Slurm schedulers
    #[arg(long, value_name = "NAME", requires = "in_allocation")]
    pub(crate) scheduler: Option<String>,
    /// With --in-allocation: go on with the earlier run of the same spec, which has jobs left
    #[arg(long, requires = "in_allocation", conflicts_with = "new")]
    pub(crate) resume: bool,
    /// With --in-allocation: start anew although an earlier run of the same spec has jobs left
    #[arg(long, requires = "in_allocation")]
    pub(crate) new: bool,
    #[command(flatten)]
    pub(crate) plan: PlanArgs,
    #[command(flatten)]
    pub(crate) plugins: PluginArgs,
}

/// What allocations are planned with, for a spec that asks for none.
#[derive(Debug, ArgGroup)]
#[command(next_help_heading = "Planning, for a spec without schedule_nodes")]
pub(crate) struct PlanArgs {
    /// The account that is charged [default: `account` of the spec's `slurm_defaults`]
    #[arg(long, value_name = "ACCOUNT")]
    pub(crate) account: Option<String>,
    /// The partition whose nodes are asked for [default: the cluster's default, and another where a
    /// job needs it]
    #[arg(long, value_name = "PARTITION")]
    pub(crate) partition: Option<String>,
    /// One large allocation a stage, many small ones, or what the plan recommends
    #[arg(long, value_enum, default_value_t = Cut::Auto)]
    pub(crate) strategy: Cut,
    /// Nodes that a stage has at once, at most [default: half of the partition for one large
    /// allocation, all of it for many small ones]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_nodes: Option<u32>,
}

impl PlanArgs {
    /// Whether any of them is there.
    pub(crate) fn are_given(&self) -> bool {
        self.account.is_some()
            || self.partition.is_some()
            || self.strategy != Cut::Auto
            || self.max_nodes.is_some()
    }
}

/// How allocations are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Cut {
    /// What the plan recommends.
    Auto,
    /// One large allocation a stage.
    One,
    /// Many small ones.
    Many,
}

#[derive(Debug, ArgGroup)]
pub(crate) struct ExplainArgs {
    /// The job's name
    #[arg(value_name = "JOB", required_unless_present = "allocation")]
    pub(crate) job: Option<String>,
    /// An allocation instead of a job, by the number that `torc allocations` shows
    #[arg(long, value_name = "N", conflicts_with = "job")]
    pub(crate) allocation: Option<u32>,
    /// The workflow's number [default: the one that runs, else the latest]
    #[arg(long, value_name = "WORKFLOW", value_parser = workflow_id)]
    pub(crate) workflow: Option<WorkflowId>,
}

#[derive(Debug, ArgGroup)]
pub(crate) struct AllocationsArgs {
    #[command(flatten)]
    pub(crate) workflow: WorkflowArg,
    /// Also those that are over
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, ArgGroup)]
pub(crate) struct NodesArgs {
    #[command(flatten)]
    pub(crate) workflow: WorkflowArg,
}

#[derive(Debug, ArgGroup)]
pub(crate) struct ServeArgs {
    /// The TCP port to listen on [default: the setting `server.port`, else any that is free]
    #[arg(long, value_name = "PORT")]
    pub(crate) port: Option<u16>,
    /// End after this time without work; 0s: never [default: the setting `server.idle_exit`, else 10m]
    #[arg(long, value_name = "TIME", value_parser = crate::render::parse_duration_or_zero)]
    pub(crate) idle_exit: Option<std::time::Duration>,
    /// Have the server that runs now end first; its workflows go on here
    #[arg(long)]
    pub(crate) takeover: bool,
    /// Have the server that runs now end; what runs in allocations goes on
    #[arg(long, conflicts_with_all = ["port", "idle_exit", "takeover"])]
    pub(crate) stop: bool,
    #[command(flatten)]
    pub(crate) plugins: PluginArgs,
    /// Leave the terminal, and say on standard output whether the server can be reached
    #[arg(long, hide = true)]
    pub(crate) detached: bool,
}

#[derive(Debug, ArgGroup)]
pub(crate) struct WorkerArgs {
    /// The workflow to work for
    #[arg(long, value_parser = workflow_id)]
    pub(crate) workflow: WorkflowId,
    /// Its allocation
    #[arg(long)]
    pub(crate) allocation: u32,
    /// Steps at once, at most
    #[arg(
        long,
        default_value_t = USUAL_PARALLEL_STEPS,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub(crate) max_parallel_steps: u32,
    /// Seconds before the end of the allocation at which Slurm itself ends a step
    #[arg(long, default_value_t = 60)]
    pub(crate) headroom: u64,
    /// Minutes for which to go on without a server while nothing runs
    #[arg(long, default_value_t = 20)]
    pub(crate) patience: u64,
    /// How steps are started
    #[arg(long, value_enum, default_value_t = WorkerMode::Slurm)]
    pub(crate) mode: WorkerMode,
    /// Seconds that the allocation lasts, in mode host
    #[arg(long, required_if_eq("mode", "host"))]
    pub(crate) walltime: Option<u64>,
    /// Hosts that the allocation is to have, in mode host
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) hosts: u32,
    /// `--mpi` of the srun that starts the workers of the nodes in mode direct
    #[arg(long, value_name = "TYPE")]
    pub(crate) srun_mpi: Option<String>,
    /// Let the workers of the nodes come one after the other
    #[arg(long)]
    pub(crate) staggered: bool,
    /// What starts the commands of jobs but in mode slurm, and its settings, in JSON
    #[arg(long, value_name = "JSON")]
    pub(crate) launcher: Option<String>,
    /// The plugin that launches steps in modes plugin and host, and its settings, in JSON
    #[arg(long, value_name = "JSON", required_if_eq("mode", "plugin"))]
    pub(crate) executor: Option<String>,
}

/// How the steps of an allocation are started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum WorkerMode {
    /// Each by an srun
    Slurm,
    /// As child processes of a worker on each node
    Direct,
    /// As child processes of this worker, or of one on each host: the allocation is not Slurm's
    Host,
    /// By a plugin, which is loaded here, on nodes of the allocation of Slurm's
    Plugin,
}

#[derive(Debug, ArgGroup)]
pub(crate) struct NodeWorkerArgs {
    /// The file that tells how the worker of the allocation is reached
    #[arg(long)]
    pub(crate) access: PathBuf,
    /// The folder of the crew
    #[arg(long)]
    pub(crate) scratch: PathBuf,
    /// Slurm's srun
    #[arg(long, required_unless_present = "host")]
    pub(crate) srun: Option<PathBuf>,
    /// Come after the workers of the nodes before this one
    #[arg(long)]
    pub(crate) staggered: bool,
    /// This host, where the allocation is not Slurm's, as its scheduler calls it
    #[arg(long, conflicts_with = "srun")]
    pub(crate) host: Option<String>,
    /// CPUs that were granted on it
    #[arg(long, requires = "host", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) cpus: Option<u32>,
}

#[derive(Debug, ArgGroup)]
pub(crate) struct NodeStartArgs {
    /// The file that tells how the worker of the allocation is reached
    #[arg(long)]
    pub(crate) access: PathBuf,
    /// Options of rsh or ssh, a host, and a command
    #[arg(last = true)]
    pub(crate) words: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SpecCommand {
    /// Print a spec in another format; comments do not come along
    Convert(SpecConvertArgs),
    /// Print the JSON Schema of specs, by which editors complete and check
    Schema,
}

#[derive(Debug, ArgGroup)]
pub(crate) struct SpecConvertArgs {
    /// The spec: a YAML, JSON, JSON5 or KDL file, or `-` for standard input
    #[arg(value_name = "SPEC")]
    pub(crate) spec: PathBuf,
    /// The format to write
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub(crate) to: SpecFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum SpecFormat {
    Yaml,
    Json,
    Json5,
    Kdl,
}

#[derive(Debug, ArgGroup)]
pub(crate) struct GraphArgs {
    /// A spec, or the number of a workflow of this state directory; without it, the workflow that runs now, else
    /// the latest
    #[arg(value_name = "SPEC|WORKFLOW")]
    pub(crate) target: Option<PathBuf>,
    /// The language of the picture
    #[arg(long, value_enum, value_name = "LANGUAGE", default_value_t = GraphLanguage::Dot)]
    pub(crate) to: GraphLanguage,
    /// Give each job a box, also those that parameters made of one entry
    #[arg(long)]
    pub(crate) all_jobs: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum GraphLanguage {
    /// Of Graphviz: `torc graph | dot -Tsvg > graph.svg`
    Dot,
    /// A flowchart of Mermaid, as Markdown pages show it
    Mermaid,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SlurmCommand {
    /// Print the batch script of each scheduler of a spec
    Script(SlurmScriptArgs),
    /// Plan the allocations of a spec that asks for none, and print the completed spec
    Generate(SlurmGenerateArgs),
}

#[derive(Debug, ArgGroup)]
pub(crate) struct SlurmScriptArgs {
    /// The spec: a YAML, JSON, JSON5 or KDL file, or `-` for standard input
    #[arg(value_name = "SPEC")]
    pub(crate) spec: PathBuf,
}

#[derive(Debug, ArgGroup)]
pub(crate) struct SlurmGenerateArgs {
    /// The spec: a YAML, JSON, JSON5 or KDL file, or `-` for standard input
    #[arg(value_name = "SPEC")]
    pub(crate) spec: PathBuf,
    #[command(flatten)]
    pub(crate) plan: PlanArgs,
}

#[derive(Debug, ArgGroup)]
#[command(disable_help_subcommand = true, args_conflicts_with_subcommands = true)]
pub(crate) struct DoctorArgs {
    #[command(subcommand)]
    pub(crate) part: Option<DoctorPart>,
    /// Also start a job of one node, to see whether compute nodes run torc, reach this host and see the
    /// state directory
    #[arg(long)]
    pub(crate) probe: bool,
    /// How long the job of --probe may wait in the queue: 90s, 10m, 1h30m
    #[arg(
        long,
        value_name = "TIME",
        requires = "probe",
        default_value = "2m",
        value_parser = crate::render::parse_duration
    )]
    pub(crate) patience: std::time::Duration,
    /// The account that the job of --probe is charged to
    #[arg(long, value_name = "ACCOUNT", requires = "probe")]
    pub(crate) account: Option<String>,
    /// Its partition
    #[arg(long, value_name = "PARTITION", requires = "probe")]
    pub(crate) partition: Option<String>,
}

/// What torc starts itself for a check.
#[derive(Debug, Subcommand)]
pub(crate) enum DoctorPart {
    /// Take the database of the state directory over, as if no other process owned it
    #[command(hide = true)]
    SecondOwner,
    /// Tell how a trial's folder and these addresses of its host look from here
    #[command(hide = true)]
    FromNode {
        /// Each `host:port`
        addresses: Vec<String>,
    },
}

fn workflow_id(text: &str) -> Result<WorkflowId, String> {
    match text.parse::<u32>() {
        Ok(number) if number > 0 => Ok(WorkflowId(number)),
        _ => Err("a workflow is named by its number, such as 1".to_owned()),
    }
}

fn job_status(text: &str) -> Result<JobStatus, String> {
    JobStatus::ALL.into_iter().find(|status| status.word() == text).ok_or_else(|| {
        let known: Vec<&str> = JobStatus::ALL.iter().map(|status| status.word()).collect();
        format!("known are {}", known.join(", "))
    })
}

fn gibibytes(text: &str) -> Result<u64, String> {
    const GIB: f64 = (1u64 << 30) as f64;
    const LARGEST: f64 = 1e6;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the range is checked"
    )]
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number <= LARGEST => Ok((number * GIB) as u64),
        _ => Err("expected a number of GiB, such as 16 or 1.5".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Args::command().debug_assert();
    }
}
