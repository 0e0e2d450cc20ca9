//! The options of `torc exec`.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args as ArgGroup;

use super::{PluginArgs, ResourceArgs, ResumeArgs};
use crate::render::parse_duration;

#[derive(Debug, ArgGroup)]
pub(crate) struct ExecArgs {
    /// A file with a shell command on each line, or `-` for standard input; empty lines and those that begin with
    /// `#` are left out
    #[arg(short = 'C', long = "commands", value_name = "FILE", conflicts_with_all = ["parameters", "command"])]
    pub(crate) commands: Option<PathBuf>,
    /// A parameter of the command, such as `i=1:100`, `x=[a, b]` or `f=@files.txt`; with several, each value of one
    /// goes with each of the others
    #[arg(long = "param", value_name = "NAME=VALUES", value_parser = parameter)]
    pub(crate) parameters: Vec<(String, String)>,
    /// The first value of each parameter goes with the first of the others, and so on
    #[arg(long, requires = "parameters")]
    pub(crate) zip: bool,
    /// The program and its arguments, or one word that is a shell command; `{NAME}` in it is a parameter
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
    /// Jobs to run at once, at most; without a size of jobs, exactly so many, whatever the CPUs
    #[arg(short = 'j', long = "jobs", value_name = "N")]
    pub(crate) jobs: Option<NonZeroU32>,
    /// How often a job that fails is tried again
    #[arg(long, value_name = "N")]
    pub(crate) retries: Option<u32>,
    /// What the workflow is called
    #[arg(long, value_name = "NAME", default_value = "exec")]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) size: SizeArgs,
    #[command(flatten)]
    pub(crate) resources: ResourceArgs,
    #[command(flatten)]
    pub(crate) plugins: PluginArgs,
    #[command(flatten)]
    pub(crate) resume: ResumeArgs,
}

/// What each job takes.
#[derive(Debug, ArgGroup)]
#[command(next_help_heading = "Each job")]
pub(crate) struct SizeArgs {
    /// CPUs of each job [default: 1]
    #[arg(long, value_name = "N")]
    pub(crate) cpus: Option<u32>,
    /// Memory of each job, as 512m or 4g; a job that takes more is ended [default: its CPUs' share, not enforced]
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory: Option<String>,
    /// GPUs of each job
    #[arg(long, value_name = "N")]
    pub(crate) gpus: Option<u32>,
    /// A job that runs longer is ended: 90s, 10m, 1h30m, 01:30:00 or PT1H30M
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) timeout: Option<Duration>,
}

impl SizeArgs {
    /// Whether it is said how many of them fit.
    pub(crate) fn is_given(&self) -> bool {
        self.cpus.is_some() || self.memory.is_some() || self.gpus.is_some()
    }
}

fn parameter(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, values)) if !name.is_empty() => Ok((name.to_owned(), values.to_owned())),
        _ => Err("expected NAME=VALUES, such as i=1:100".to_owned()),
    }
}
