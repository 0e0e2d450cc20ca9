//! The command line of `torc plugin`.

use std::path::PathBuf;

use clap::{Args as ArgGroup, Subcommand, ValueEnum};
use serde_json::{Map, Value};
use torc_plugins::Kind;
use torc_plugins::check::promises;

/// Where plugins are looked for first.
#[derive(Debug, Default, ArgGroup)]
#[command(next_help_heading = "Plugins")]
pub(crate) struct PluginArgs {
    /// A folder with plugins, absolute; may be given several times, and goes before all others
    #[arg(long, value_name = "DIR")]
    pub(crate) plugin_path: Vec<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PluginCommand {
    /// List the plugins that there are, and why some are not loaded
    List(PluginListArgs),
    /// Show all that a plugin says of itself, its file, and whether it is trusted
    Info(PluginInfoArgs),
    /// Check a plugin: its file, what it says of itself, how it takes calls, and what it does
    Check(PluginCheckArgs),
    /// Begin a plugin: write a small launcher that works, with all that it is built from
    New(PluginNewArgs),
    /// Call a method of a plugin, and print its answer
    Run(PluginRunArgs),
    /// Load a plugin for another process of torc, and tell it what comes of that
    #[command(hide = true)]
    Probe(PluginProbeArgs),
}

#[derive(Debug, ArgGroup)]
pub(crate) struct PluginListArgs {
    #[command(flatten)]
    pub(crate) plugins: PluginArgs,
}

#[derive(Debug, ArgGroup)]
pub(crate) struct PluginInfoArgs {
    /// The plugin's name
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) plugins: PluginArgs,
}

#[derive(Debug, ArgGroup)]
pub(crate) struct PluginCheckArgs {
    /// The plugin's file, with a `/` in it, or its name
    #[arg(value_name = "PATH|NAME")]
    pub(crate) plugin: PathBuf,
    /// The settings to open it with
    #[arg(long, value_name = "JSON", default_value = "{}", value_parser = object)]
    pub(crate) settings: Map<String, Value>,
    /// Also ask a scheduler for real allocations, with these settings of a spec's scheduler [default: {}]
    #[arg(long, value_name = "JSON", num_args = 0..=1, require_equals = true, default_missing_value = "{}",
        value_parser = object)]
    pub(crate) submit: Option<Map<String, Value>>,
    /// The folder, seen by all nodes, in which steps and allocations leave files meanwhile [default: the current one]
    #[arg(long, value_name = "DIR")]
    pub(crate) folder: Option<PathBuf>,
    /// Of the checks of what it does only this one; may be given several times
    #[arg(long, value_name = "CHECK", value_parser = promise)]
    pub(crate) only: Vec<String>,
    /// Leave this check of what it does out; may be given several times
    #[arg(long, value_name = "CHECK", value_parser = promise)]
    pub(crate) without: Vec<String>,
    #[command(flatten)]
    pub(crate) plugins: PluginArgs,
}

#[derive(Debug, ArgGroup)]
pub(crate) struct PluginNewArgs {
    /// What it is written in
    #[arg(long, value_enum)]
    pub(crate) lang: Language,
    /// The plugin's name
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// The folder to write it to, empty or not there yet [default: NAME]
    #[arg(value_name = "DIR")]
    pub(crate) folder: Option<PathBuf>,
}

/// What a plugin is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Language {
    /// A library in Rust
    Rust,
    /// A library in C
    C,
    /// A program, in Python 3 to begin with
    Process,
    /// No code: a launcher template in a spec
    Template,
}

#[derive(Debug, ArgGroup)]
pub(crate) struct PluginRunArgs {
    /// The plugin's name
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// The method, such as `plan`
    #[arg(value_name = "METHOD")]
    pub(crate) method: String,
    /// The request: a file with JSON, or `-` for standard input
    #[arg(value_name = "FILE")]
    pub(crate) request: PathBuf,
    /// The interface to open: launcher, executor, scheduler or placer [default: the one that has the method]
    #[arg(long, value_name = "INTERFACE", value_parser = kind)]
    pub(crate) interface: Option<Kind>,
    /// The settings to open it with
    #[arg(long, value_name = "JSON", default_value = "{}", value_parser = object)]
    pub(crate) settings: Map<String, Value>,
    #[command(flatten)]
    pub(crate) plugins: PluginArgs,
}

#[derive(Debug, ArgGroup)]
pub(crate) struct PluginProbeArgs {
    /// The plugin's file
    #[arg(value_name = "PATH")]
    pub(crate) path: PathBuf,
    /// Also see how this interface takes calls
    #[arg(long, value_name = "INTERFACE", value_parser = kind)]
    pub(crate) calls: Option<Kind>,
    /// What to look at of it: `requests`, or a check of the kit [default: that it opens, and is strict]
    #[arg(long, value_name = "CHECK", requires = "calls")]
    pub(crate) check: Option<String>,
    /// The settings to open it with
    #[arg(long, value_name = "JSON", default_value = "{}", value_parser = object)]
    pub(crate) settings: Map<String, Value>,
    /// Those of the allocations that it is asked for
    #[arg(long, value_name = "JSON", default_value = "{}", value_parser = object)]
    pub(crate) submit: Map<String, Value>,
    /// The folder in which steps and allocations leave files
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub(crate) folder: PathBuf,
}

fn kind(text: &str) -> Result<Kind, String> {
    Kind::named(text).ok_or_else(|| {
        let known: Vec<&str> = Kind::ALL.iter().map(|kind| kind.word()).collect();
        format!("known are {}", known.join(", "))
    })
}

fn promise(text: &str) -> Result<String, String> {
    let mut all = Kind::ALL.into_iter().flat_map(promises).map(|promise| promise.name);
    match all.any(|name| name == text) {
        true => Ok(text.to_owned()),
        false => {
            Err("there is no such check of what plugins do; `torc plugin check` names them"
                .to_owned())
        }
    }
}

fn object(text: &str) -> Result<Map<String, Value>, String> {
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err("settings are a JSON object, such as {\"program\": \"mpiexec\"}".to_owned()),
        Err(error) => Err(format!("it is no JSON: {error}")),
    }
}
