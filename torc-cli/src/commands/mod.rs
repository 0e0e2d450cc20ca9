//! The commands, one file each: typed arguments, one call into a library, a rendering.

mod allocations;
mod cancel;
mod completions;
mod config;
mod delete;
mod disable;
mod doctor;
mod enable;
mod exec;
mod explain;
mod export;
mod files;
mod graph;
mod import;
mod jobs;
mod list;
mod logs;
mod new;
mod nodes;
mod plan;
pub(crate) mod plugin;
mod restart;
mod results;
pub(crate) mod run;
pub(crate) mod serve;
mod simulate;
mod slurm;
mod spec;
mod status;
mod submit;
mod user_data;
mod validate;
pub(crate) mod worker;

use std::collections::HashSet;

use torc_server::state_dir::StateDir;

pub(crate) use run::submission_dir;

use crate::args::{Args, Command};
use crate::exit::{Exit, Failure};

/// Does what the command line says.
pub(crate) async fn execute(args: &Args) -> Result<Exit, Failure> {
    let dir = StateDir::at(&args.output_dir).map_err(|error| {
        Failure::new(
            Exit::Environment,
            format!("cannot use {}: {error}", args.output_dir.display()),
        )
    })?;
    match &args.command {
        Command::Run(run) => run::execute(run, dir, args.format).await,
        Command::Exec(exec) => exec::execute(exec, dir, args.format).await,
        Command::New(new) => new::execute(new),
        Command::Validate(validate) => validate::execute(validate, args.format),
        Command::Spec(command) => spec::execute(command, args.format),
        Command::Graph(graph) => graph::execute(graph, &dir, args.format).await,
        Command::List(list) => list::execute(list, &dir, args.format).await,
        Command::Delete(delete) => delete::execute(delete, &dir, args.format).await,
        Command::Export(export) => export::execute(export, &dir).await,
        Command::Import(import) => import::execute(import, &dir, args.format).await,
        Command::Status(status) => status::execute(status, &dir, args.format).await,
        Command::Jobs(jobs) => jobs::execute(jobs, &dir, args.format).await,
        Command::Files(files) => files::execute(files, &dir, args.format).await,
        Command::UserData(command) => user_data::execute(command, &dir, args.format).await,
        Command::Results(results) => results::execute(results, &dir, args.format).await,
        Command::Logs(logs) => logs::execute(logs, &dir).await,
        Command::Cancel(cancel) => cancel::execute(cancel, &dir, args.format).await,
        Command::Disable(named) => disable::execute(named, &dir, args.format).await,
        Command::Enable(named) => enable::execute(named, &dir, args.format).await,
        Command::Restart(restart) => restart::execute(restart, dir, args.format).await,
        Command::Submit(submit) => submit::execute(submit, dir, args.format).await,
        Command::Explain(explain) => explain::execute(explain, &dir, args.format).await,
        Command::Allocations(allocations) => {
            allocations::execute(allocations, &dir, args.format).await
        }
        Command::Nodes(nodes) => nodes::execute(nodes, &dir, args.format).await,
        Command::Serve(serve) => serve::execute(serve, dir).await,
        Command::Worker(worker) => worker::execute(worker, dir).await,
        Command::NodeWorker(worker) => worker::execute_on_node(worker).await,
        Command::NodeStart(start) => worker::start_on_host(start).await,
        Command::Slurm(command) => slurm::execute(command, &dir, args.format).await,
        Command::Plan(plan) => plan::execute(plan, args.format),
        Command::Simulate(simulate) => simulate::execute(simulate, &dir, args.format).await,
        Command::Plugin(command) => plugin::execute(command, args.format),
        Command::Doctor(doctor) => doctor::execute(doctor, &dir, args.format).await,
        Command::Config => config::execute(args, &dir),
        Command::Completions(completions) => completions::execute(completions),
    }
}

/// Names given on the command line must exist.
fn check_names<'a>(
    wanted: &[String],
    known: impl Iterator<Item = &'a str> + Clone,
) -> Result<(), Failure> {
    let names: HashSet<&str> = known.clone().collect();
    match wanted.iter().find(|name| !names.contains(name.as_str())) {
        None => Ok(()),
        Some(name) => {
            let hint = torc_core::diagnostics::nearest(name, known)
                .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
            Err(Failure::new(Exit::Usage, format!("there is no job `{name}`{hint}")))
        }
    }
}
