//! What of this machine a run may use, from the command line's options.

use std::num::NonZeroU32;

use torc_core::resources::NodeInventory;
use torc_core::time::Timestamp;
use torc_executors::host::{self, PerNode};
use torc_executors::local::LocalConfig;
use torc_server::clock::now;
use torc_server::session::RunOptions;
use torc_server::state_dir::StateDir;

use crate::args::ResourceArgs;
use crate::exit::{Exit, Failure};

/// CPUs of all pretended nodes together: far more than there is to try out, and not more than a
/// database row takes.
const MOST_CPUS: u32 = 1 << 20;

/// This machine, as far as a run may use it.
pub(crate) struct Host {
    pub(crate) options: RunOptions,
    pub(crate) config: LocalConfig,
}

impl Host {
    /// Finds out what there is, and cuts it as the options say.
    pub(crate) fn new(args: &ResourceArgs, dir: &StateDir) -> Result<Self, Failure> {
        let inventory =
            host::inventory().map_err(|error| Failure::new(Exit::Environment, error))?;
        let per_node = PerNode { cpus: args.num_cpus, memory: args.memory_gb, gpus: args.num_gpus };
        let count = args.nodes.and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN);
        let cpus = per_node.cpus.unwrap_or(1).saturating_mul(count.get());
        if cpus > MOST_CPUS {
            let message = format!("{cpus} CPUs are more than torc pretends to have ({MOST_CPUS})");
            return Err(Failure::new(Exit::Usage, message));
        }
        let mut nodes = host::pretend(&inventory, count, per_node)
            .map_err(|error| Failure::new(Exit::Usage, error))?;
        for node in &mut nodes {
            node.slots = args.slots;
        }
        if args.pin {
            check_pinning(&inventory, &nodes)?;
        }
        let mut config =
            LocalConfig::new(nodes.clone(), dir.scratch(), std::env::vars_os().collect());
        config.pin = args.pin;
        let options = RunOptions {
            nodes,
            labels: labels(args),
            scheduler: args.scheduler.as_deref().map(Box::from),
            ends_at: end(args),
            max_parallel_jobs: args.max_parallel_jobs,
            inside: None,
        };
        Ok(Self { options, config })
    }
}

/// The labels that a run's nodes have.
pub(crate) fn labels(args: &ResourceArgs) -> Vec<Box<str>> {
    args.labels.iter().map(|label| label.as_str().into()).collect()
}

/// When a run's time is up, if that is said.
pub(crate) fn end(args: &ResourceArgs) -> Option<Timestamp> {
    args.end_time.or(args.time_limit.map(|limit| now() + limit))
}

/// Jobs can be bound to real CPUs only.
fn check_pinning(host: &NodeInventory, nodes: &[NodeInventory]) -> Result<(), Failure> {
    let is_real = |node: &&NodeInventory| node.cores.iter().all(|core| host.cores.contains(core));
    match nodes.iter().find(|node| !is_real(node)) {
        None => Ok(()),
        Some(node) => Err(Failure::new(
            Exit::Usage,
            format!(
                "--pin cannot bind jobs on {}: it pretends to have CPUs that are not there, or not \
                 this process's to use ({} of {} here); leave --pin out or pretend less",
                node.name,
                node.cpus(),
                host.cpus(),
            ),
        )),
    }
}
