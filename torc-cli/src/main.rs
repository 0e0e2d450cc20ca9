//! The `torc` command: reads arguments, calls one thing in the libraries, presents what comes back,
//! and chooses the exit code.

mod args;
mod assumed;
mod calling_job;
mod commands;
mod executors;
mod exit;
mod finding;
mod host;
mod in_allocation;
mod inside;
mod interrupts;
mod launchers;
mod led_crew;
mod led_hosts;
mod out;
mod plugin_settings;
mod plugins;
mod probe;
mod queue;
mod render;
mod sbatch;
mod scripts;
mod settings;
mod spec_file;
mod submitter;

use std::process::ExitCode;

use tracing_subscriber::EnvFilter;

use crate::exit::{Exit, Failure};

/// Says what torc logs about itself.
const LOG_VARIABLE: &str = "TORC_LOG";

fn main() -> ExitCode {
    // The process that keeps jobs is this very program, started again.
    if let Some(code) = torc_executors::keeper::run_if_asked() {
        return code;
    }
    let args = args::Args::read();
    args.color.write_global();
    let is_served = matches!(args.command, args::Command::Serve(_) | args::Command::Worker(_));
    let filter = EnvFilter::try_from_env(LOG_VARIABLE).unwrap_or_else(|_| {
        // What runs without a person says in its log what it does.
        EnvFilter::new(if is_served { "info" } else { "error" })
    });
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let runtime = match runtime(&args.command).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::internal(&error).report(args.format).into(),
    };
    let exit = match runtime.block_on(commands::execute(&args)) {
        Ok(exit) => exit,
        Err(failure) => failure.report(args.format),
    };
    out::flush();
    match out::state() {
        out::Output::Failed(reason) if exit == Exit::Success => {
            let message = format!("cannot write to standard output: {reason}");
            Failure::new(Exit::Environment, message).report(args::Format::Table).into()
        }
        _ => exit.into(),
    }
}

/// One thread beside the database's, since what runs in parallel are the jobs; a server's connections have threads of
/// their own, and so have those of a crew, whose other side must not take a file system that hangs for a worker that does.
fn runtime(command: &args::Command) -> tokio::runtime::Builder {
    let threads = match command {
        args::Command::Serve(_) => 2,
        args::Command::Worker(_) | args::Command::NodeWorker(_) => 4,
        _ => return tokio::runtime::Builder::new_current_thread(),
    };
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(threads);
    builder
}
