//! The arguments of the commands about files and user data.

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
