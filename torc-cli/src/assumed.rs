//! What commands in virtual time assume, and say, about nodes and jobs.

use serde::Serialize;
use torc_core::forecast::{Forecast, ForecastError, NeverRan};
use torc_core::traits::NodeShape;
use torc_executors::host;

use crate::args::NodeArgs;
use crate::exit::{Exit, Failure};
use crate::out::errln;
use crate::render::{bytes, clock, counted};

/// What each node has, as JSON.
#[derive(Serialize)]
pub(crate) struct Node {
    cpus: u32,
    memory: u64,
    gpus: u32,
}

impl Node {
    pub(crate) fn of(shape: &NodeShape) -> Self {
        Self { cpus: shape.cpus, memory: shape.memory, gpus: shape.gpus }
    }

    /// "4 CPUs, 8.0 GiB and 1 GPU".
    pub(crate) fn words(&self) -> String {
        let (cpus, gpus) = (counted(self.cpus as usize, "CPU"), counted(self.gpus as usize, "GPU"));
        format!("{cpus}, {} and {gpus}", bytes(self.memory))
    }
}

/// What the options say, and what this machine has where they are silent.
pub(crate) fn node(args: &NodeArgs) -> Result<NodeShape, Failure> {
    let mut node = NodeShape { cpus: 0, threads_per_core: 1, memory: 0, gpus: 0, count: 1 };
    if !args.are_complete() {
        let here = host::inventory().map_err(|error| Failure::new(Exit::Environment, error))?;
        (node.cpus, node.memory, node.gpus) = (here.cpus(), here.memory, here.gpu_count());
    }
    Ok(NodeShape {
        cpus: args.cpus_per_node.unwrap_or(node.cpus),
        memory: args.memory_per_node.unwrap_or(node.memory),
        gpus: args.gpus_per_node.unwrap_or(node.gpus),
        ..node
    })
}

/// There is no forecast.
pub(crate) fn no_forecast(error: ForecastError) -> Failure {
    match error {
        ForecastError::TooLarge { .. } => Failure::new(Exit::Usage, error),
        ForecastError::Refused(_) => Failure::internal(&error),
    }
}

/// That a runtime was assumed.
pub(crate) fn note_unknown_runtimes(forecast: &Forecast) {
    if forecast.unknown_runtimes > 0 {
        errln!(
            "note: no runtime is declared by {}; {} is assumed (--default-runtime)",
            counted(forecast.unknown_runtimes, "job"),
            clock(forecast.default_runtime)
        );
    }
}

/// Which jobs would not run, and why.
pub(crate) fn never_runs(found: &Forecast, args: &NodeArgs) -> Failure {
    let line = |group: &NeverRan| {
        let NeverRan { jobs, example, reason } = group;
        match jobs {
            1 => format!("\n  `{example}`: {reason}"),
            jobs => format!("\n  `{example}` and {} like it: {reason}", jobs - 1),
        }
    };
    let lines: String = found.never.iter().map(line).collect();
    let jobs = counted(found.jobs - found.completed, "job");
    let help = if args.are_complete() {
        ""
    } else {
        "\nwhat nodes have is taken from this machine where --cpus-per-node, --memory-per-node-gb and \
         --gpus-per-node do not say it"
    };
    Failure::new(Exit::NeverRuns, format!("{jobs} would never run there:{lines}{help}"))
}
