//! The executor that a spec names, where it is a plugin.
//!
//! Owns: opening it, which of its nodes are used, and where its events go once somebody listens. Does not know: what
//! runs there. Invariants: it says which nodes it has before anything is stored or launched; no node is more than the
//! plugin says, and inside an allocation none is another's, or more than was given there.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use torc_core::ids::StepId;
use torc_core::resources::NodeInventory;
use torc_core::traits::{
    Executor, ExecutorError, Step, StepEvent, StepEvents, StepSignal, StepState,
};
use torc_core::workflow::{ExecutionMode, Header};
use torc_plugins::PluginExecutor;
use torc_server::allocation_request::WorkerExecutor;
use torc_server::clock::now;

use crate::args::{PluginArgs, ResourceArgs};
use crate::exit::{Exit, Failure};
use crate::plugins::shelf;

/// How long the plugin may take to end, when nothing runs any more that should.
const ENDS_WITHIN: Duration = Duration::from_secs(5);

/// Whether the executor of a workflow can be opened here: most likely it can be on the nodes, then.
///
/// # Errors
/// When there is no such plugin, or it is not trusted, no executor, or does not take its settings.
pub(crate) fn try_out(header: &Header, args: &PluginArgs) -> Result<(), Failure> {
    let Some(executor) = WorkerExecutor::of(header) else { return Ok(()) };
    open(&executor, args, Arc::default()).map(|opened| opened.shutdown(Duration::ZERO))
}

fn open(
    executor: &WorkerExecutor,
    args: &PluginArgs,
    outlet: Arc<Outlet>,
) -> Result<PluginExecutor, Failure> {
    let WorkerExecutor { name, settings } = executor;
    let shelf = shelf(args)?;
    let plugin = shelf.plugin(name);
    let opened = plugin.and_then(|plugin| PluginExecutor::open(&plugin, settings, outlet, now));
    opened.map_err(|error| {
        let own = ExecutionMode::NAMES.map(|(name, _)| format!("`{name}`")).join(", ");
        let message = format!(
            "`execution_config.mode` is `{name}`, which is none of torc's own ({own}), and as a plugin it cannot be \
             used: {error}"
        );
        Failure::new(Exit::Environment, message)
    })
}

/// Where the plugin's events go, once somebody listens. Until then it has no steps.
#[derive(Default)]
struct Outlet(OnceLock<Arc<dyn StepEvents>>);

impl StepEvents for Outlet {
    fn emit(&self, event: StepEvent) {
        // It has no steps before: what it tells then is about none of them.
        if let Some(events) = self.0.get() {
            events.emit(event);
        }
    }
}

/// An executor that a plugin is, on those of its nodes that are used.
pub(crate) struct Guest {
    name: Box<str>,
    plugin: Arc<PluginExecutor>,
    outlet: Arc<Outlet>,
    nodes: Vec<NodeInventory>,
}

impl Guest {
    /// Opens it, and asks which nodes it has.
    ///
    /// # Errors
    /// As [`try_out`], and when it does not say which nodes it has.
    pub(crate) async fn open(
        executor: &WorkerExecutor,
        args: &PluginArgs,
    ) -> Result<Self, Failure> {
        let outlet = Arc::new(Outlet::default());
        let plugin = Arc::new(open(executor, args, Arc::clone(&outlet))?);
        let nodes = plugin.inventory().await;
        let nodes = nodes.map_err(|error| Failure::new(Exit::Environment, error))?;
        Ok(Self { name: executor.name.clone(), plugin, outlet, nodes })
    }

    /// Uses no more than these options say.
    ///
    /// # Errors
    /// When they ask for more than there is, or for what is the plugin's own to decide.
    pub(crate) fn narrowed(self, args: &ResourceArgs) -> Result<Self, Failure> {
        let usage = |message: String| Failure::new(Exit::Usage, message);
        let name = &self.name;
        if args.pin {
            return Err(usage(format!(
                "--pin is for jobs that torc starts itself; plugin `{name}` decides which CPUs it binds jobs to"
            )));
        }
        let share = Share {
            nodes: args.nodes,
            cpus: args.num_cpus,
            memory: args.memory_gb,
            gpus: args.num_gpus,
        };
        let nodes = share.of(&self.nodes).map_err(|words| {
            usage(format!(
                "{words}; with plugin `{name}` the options can only take less than it has"
            ))
        })?;
        Ok(Self { nodes, ..self })
    }

    /// Uses no more than an allocation has that this process is in.
    ///
    /// # Errors
    /// When the plugin has a node that is not the allocation's.
    pub(crate) fn within(self, allocation: &[NodeInventory]) -> Result<Self, Failure> {
        let given = |node: &NodeInventory| {
            let found = allocation.iter().find(|given| given.name == node.name);
            found.map(|given| no_more_than(node, given)).ok_or_else(|| node.name.clone())
        };
        let nodes: Result<Vec<_>, _> = self.nodes.iter().map(given).collect();
        let nodes = nodes.map_err(|foreign| {
            let names: Vec<&str> = allocation.iter().map(|node| &*node.name).collect();
            let message = format!(
                "plugin `{}`: inventory: its node `{foreign}` is none of this allocation, which has {}",
                self.name,
                names.join(", ")
            );
            Failure::new(Exit::Environment, message)
        })?;
        Ok(Self { nodes, ..self })
    }

    /// The plugin's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The nodes that are used.
    pub(crate) fn nodes(&self) -> &[NodeInventory] {
        &self.nodes
    }

    /// From now on events go there.
    pub(crate) fn report_to(&self, events: Arc<dyn StepEvents>) {
        // Whoever came first has been told of steps.
        let _ = self.outlet.0.set(events);
    }

    /// Lets what runs come to an end of its own.
    pub(crate) async fn wind_up(&self) {
        self.plugin.wind_up().await;
    }

    /// Ends what still runs, and the plugin.
    pub(crate) async fn shutdown(&self) {
        let plugin = Arc::clone(&self.plugin);
        // It waits for the plugin; that it panics is told by the runtime.
        let _ = tokio::task::spawn_blocking(move || plugin.shutdown(ENDS_WITHIN)).await;
    }
}

#[async_trait]
impl Executor for Guest {
    async fn inventory(&self) -> Result<Vec<NodeInventory>, ExecutorError> {
        Ok(self.nodes.clone())
    }

    async fn launch(&self, step: Step) -> Result<(), ExecutorError> {
        self.plugin.launch(step).await
    }

    async fn signal(&self, step: StepId, signal: StepSignal) -> Result<(), ExecutorError> {
        self.plugin.signal(step, signal).await
    }

    async fn reconcile(&self, steps: &[StepId]) -> Result<Vec<StepState>, ExecutorError> {
        self.plugin.reconcile(steps).await
    }
}

/// A node, with no more of anything than another has.
fn no_more_than(node: &NodeInventory, given: &NodeInventory) -> NodeInventory {
    let share = Share {
        cpus: Some(given.cpus().min(node.cpus())),
        memory: Some(given.memory.min(node.memory)),
        gpus: Some(given.gpu_count().min(node.gpu_count())),
        ..Share::default()
    };
    share.of_node(node).unwrap_or_else(|_| node.clone())
}

/// How much of each node is used, and of how many nodes; `None`: all.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    nodes: Option<u32>,
    cpus: Option<u32>,
    memory: Option<u64>,
    gpus: Option<u32>,
}

impl Share {
    fn of(self, nodes: &[NodeInventory]) -> Result<Vec<NodeInventory>, String> {
        let count = self.nodes.map_or(nodes.len(), |count| count as usize);
        let first = nodes.get(..count).ok_or_else(|| {
            format!("--nodes asks for {count} nodes, and there are {}", nodes.len())
        })?;
        first.iter().map(|node| self.of_node(node)).collect()
    }

    /// The first CPUs and GPUs of a node.
    fn of_node(self, node: &NodeInventory) -> Result<NodeInventory, String> {
        let name = &node.name;
        let grain = node.threads_per_core.max(1);
        let cpus = self.cpus.map_or(node.cpus(), |cpus| cpus - cpus % grain);
        if cpus == 0 {
            return Err(format!(
                "node `{name}` gives its CPUs in cores of {grain}, and less is none"
            ));
        }
        let too_much = |option: &str, has: u64| {
            format!("{option} asks for more than node `{name}` has: {has}")
        };
        let cores = node.cores.get(..cpus as usize);
        let cores = cores.ok_or_else(|| too_much("--num-cpus", node.cpus().into()))?;
        let gpus = self.gpus.unwrap_or_else(|| node.gpu_count());
        let gpus = node.gpus.get(..gpus as usize);
        let gpus = gpus.ok_or_else(|| too_much("--num-gpus", node.gpu_count().into()))?;
        let memory = self.memory.unwrap_or(node.memory);
        if memory > node.memory {
            const GIB: u64 = 1 << 30;
            return Err(too_much("--memory-gb", node.memory / GIB));
        }
        Ok(NodeInventory { cores: cores.into(), gpus: gpus.into(), memory, ..node.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, cpus: u32, threads_per_core: u32) -> NodeInventory {
        NodeInventory {
            name: name.into(),
            cores: (8..8 + cpus).collect(),
            threads_per_core,
            slots: None,
            memory: 1_000,
            gpus: ["a", "b"].map(Box::from).into(),
        }
    }

    #[test]
    fn options_take_less_and_never_more() {
        #[track_caller]
        fn check(share: Share, expected: Result<(usize, &[u32], u64, usize), &str>) {
            let found = share.of(&[node("n1", 4, 2), node("n2", 4, 2)]);
            let found = found.map(|nodes| {
                let first = nodes[0].clone();
                (nodes.len(), first.cores, first.memory, first.gpus.len())
            });
            let expected = expected.map(|(nodes, cores, memory, gpus)| {
                (nodes, Box::<[u32]>::from(cores), memory, gpus)
            });
            assert_eq!(found, expected.map_err(str::to_owned));
        }
        let all = Share::default();
        check(all, Ok((2, &[8, 9, 10, 11], 1_000, 2)));
        check(Share { nodes: Some(1), memory: Some(10), ..all }, Ok((1, &[8, 9, 10, 11], 10, 2)));
        check(Share { cpus: Some(3), gpus: Some(0), ..all }, Ok((2, &[8, 9], 1_000, 0)));
        check(Share { nodes: Some(3), ..all }, Err("--nodes asks for 3 nodes, and there are 2"));
        let grain = "node `n1` gives its CPUs in cores of 2, and less is none";
        check(Share { cpus: Some(1), ..all }, Err(grain));
        check(
            Share { cpus: Some(6), ..all },
            Err("--num-cpus asks for more than node `n1` has: 4"),
        );
        check(
            Share { gpus: Some(3), ..all },
            Err("--num-gpus asks for more than node `n1` has: 2"),
        );
        let memory = "--memory-gb asks for more than node `n1` has: 0";
        check(Share { memory: Some(1_001), ..all }, Err(memory));
    }

    #[test]
    fn a_node_is_no_more_than_what_an_allocation_has_of_it() {
        let less =
            no_more_than(&node("n1", 8, 1), &NodeInventory { memory: 5, ..node("n1", 2, 1) });
        assert_eq!((less.cores.len(), less.memory, less.gpus.len()), (2, 5, 2));
        let more = no_more_than(&node("n1", 2, 1), &node("n1", 8, 1));
        assert_eq!(more, node("n1", 2, 1));
    }
}
