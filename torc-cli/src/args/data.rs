//! The arguments of the commands about files and user data, and of those that jobs call.

use std::path::PathBuf;

use clap::{Args as ArgGroup, Subcommand};
use torc_core::ids::WorkflowId;

use super::{WorkflowArg, workflow_id};

#[derive(Debug, ArgGroup)]
pub(crate) struct FilesArgs {
    #[command(flatten)]
    pub(crate) workflow: WorkflowArg,
}

#[derive(Debug, Subcommand)]
pub(crate) enum UserDataCommand {
    /// List the user data of a workflow with its present values
    List(UserDataListArgs),
    /// Print the present value of user data, as JSON
    Get(UserDataGetArgs),
    /// Set user data; jobs that are launched later see the new value
    Set(UserDataSetArgs),
}

/// Which workflow; inside a job, its own.
#[derive(Clone, Copy, Debug, ArgGroup)]
pub(crate) struct OwnWorkflowArg {
    /// The workflow's number [default: inside a job its own, else the one that runs, else the latest]
    #[arg(
        long,
        env = "TORC_WORKFLOW_ID",
        hide_env = true,
        value_name = "WORKFLOW",
        value_parser = workflow_id
    )]
    pub(crate) workflow: Option<WorkflowId>,
}

/// What can be done about jobs besides listing them.
#[derive(Debug, Subcommand)]
pub(crate) enum JobsPart {
    /// Add jobs to a workflow while it is there; inside a job, to its own
    Add(JobsAddArgs),
}

#[derive(Debug, ArgGroup)]
pub(crate) struct JobsAddArgs {
    /// The jobs, written as in a spec, in a YAML, JSON, JSON5 or KDL file, or `-` for standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) from: PathBuf,
    /// The job that they depend on, by its name [default: inside a job that job, else none]
    #[arg(long, value_name = "JOB")]
    pub(crate) job: Option<String>,
    #[command(flatten)]
    pub(crate) workflow: OwnWorkflowArg,
}

#[derive(Debug, ArgGroup)]
pub(crate) struct UserDataListArgs {
    #[command(flatten)]
    pub(crate) workflow: OwnWorkflowArg,
}

#[derive(Debug, ArgGroup)]
pub(crate) struct UserDataGetArgs {
    /// The name of the user data
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// Print a value that is a string without its quotes
    #[arg(long)]
    pub(crate) raw: bool,
    #[command(flatten)]
    pub(crate) workflow: OwnWorkflowArg,
}

#[derive(Debug, ArgGroup)]
pub(crate) struct UserDataSetArgs {
    /// The name of the user data
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// The value as JSON, or `-` for standard input
    #[arg(value_name = "VALUE", allow_hyphen_values = true)]
    pub(crate) value: String,
    /// The value is text as it stands, not JSON
    #[arg(long)]
    pub(crate) string: bool,
    #[command(flatten)]
    pub(crate) workflow: OwnWorkflowArg,
}
