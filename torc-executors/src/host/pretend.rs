//! Cuts one host into nodes that only seem to be several, so that a multi-node workflow can be tried
//! on a laptop. Pure.

use std::num::NonZeroU32;

use torc_core::resources::NodeInventory;

/// What each node has, where it is not to be its share of the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PerNode {
    /// CPUs.
    pub cpus: Option<u32>,
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// GPUs.
    pub gpus: Option<u32>,
}

/// A host cannot be cut like this.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PretendError {
    /// A node would get no CPU.
    #[error(
        "{cpus} CPUs cannot be shared by {nodes} nodes: each needs at least one; say with --num-cpus how many each node pretends to have"
    )]
    TooFewCpus {
        /// CPUs of the host.
        cpus: u32,
        /// Nodes asked for.
        nodes: u32,
    },
    /// A node was to have no CPU.
    #[error("a node must have at least one CPU")]
    NoCpus,
    /// A node was to have more CPUs or GPUs than an index can count.
    #[error("a node cannot have more than {limit} CPUs or GPUs", limit = u16::MAX)]
    TooMany,
}

/// Cuts a host into `nodes` nodes named `node1`, `node2`, …; a single one keeps the host's name.
///
/// Each gets an equal share, rounded down, or what `each` says. No CPU or GPU is given to two nodes:
/// where there are too few, nodes get ids above all real ones, which jobs cannot be pinned to.
///
/// # Errors
/// When a node would have no CPU, or too many to count.
pub fn pretend(
    host: &NodeInventory,
    nodes: NonZeroU32,
    each: PerNode,
) -> Result<Vec<NodeInventory>, PretendError> {
    let count = nodes.get();
    let cpus = match each.cpus {
        Some(0) => return Err(PretendError::NoCpus),
        Some(cpus) => cpus,
        None => host.cpus() / count,
    };
    if cpus == 0 {
        return Err(PretendError::TooFewCpus { cpus: host.cpus(), nodes: count });
    }
    let gpus = each.gpus.unwrap_or(host.gpu_count() / count);
    if cpus.max(gpus) > u32::from(u16::MAX) {
        return Err(PretendError::TooMany);
    }
    let memory = each.memory.unwrap_or(host.memory / u64::from(count));
    let mut all_cores = cores(&host.cores);
    let mut all_gpus = devices(&host.gpus);
    let node = |number: u32| NodeInventory {
        name: if count == 1 { host.name.clone() } else { format!("node{number}").into() },
        cores: all_cores.by_ref().take(cpus as usize).collect(),
        threads_per_core: 1,
        slots: None,
        memory,
        gpus: all_gpus.by_ref().take(gpus as usize).collect(),
    };
    Ok((1..=count).map(node).collect())
}

/// The real CPUs, then virtual ones without end.
fn cores(real: &[u32]) -> impl Iterator<Item = u32> {
    let first = real.iter().max().map_or(0, |&last| last.saturating_add(1));
    real.iter().copied().chain(first..)
}

/// The real GPUs, then virtual ones without end.
fn devices(real: &[Box<str>]) -> impl Iterator<Item = Box<str>> {
    let numbers = real.iter().filter_map(|id| id.parse::<u32>().ok());
    let first = numbers.max().map_or(0, |last| last.saturating_add(1));
    real.iter().cloned().chain((first..).map(|number| number.to_string().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> NodeInventory {
        NodeInventory {
            name: "laptop".into(),
            cores: [0, 2, 4, 6, 8].into(),
            threads_per_core: 1,
            slots: None,
            memory: 100,
            gpus: ["3".into(), "1".into()].into(),
        }
    }

    fn check(nodes: u32, each: PerNode, expected: &[(&str, &[u32], u64, &[&str])]) {
        let nodes = NonZeroU32::new(nodes).expect("positive");
        let found = pretend(&host(), nodes, each).expect("can be cut");
        let found: Vec<_> = found
            .iter()
            .map(|node| {
                let gpus: Vec<&str> = node.gpus.iter().map(|gpu| &**gpu).collect();
                (&*node.name, &*node.cores, node.memory, gpus)
            })
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|&(name, cores, memory, gpus)| (name, cores, memory, gpus.to_vec()))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn each_node_gets_its_share() {
        let share = PerNode::default();
        check(1, share, &[("laptop", &[0, 2, 4, 6, 8], 100, &["3", "1"])]);
        check(2, share, &[("node1", &[0, 2], 50, &["3"]), ("node2", &[4, 6], 50, &["1"])]);
    }

    #[test]
    fn what_is_said_for_each_node_may_exceed_the_host() {
        let each = PerNode { cpus: Some(4), memory: Some(70), gpus: Some(2) };
        check(
            2,
            each,
            &[
                ("node1", &[0, 2, 4, 6], 70, &["3", "1"]),
                ("node2", &[8, 9, 10, 11], 70, &["4", "5"]),
            ],
        );
        let fewer = PerNode { cpus: Some(1), ..PerNode::default() };
        check(1, fewer, &[("laptop", &[0], 100, &["3", "1"])]);
    }

    #[test]
    fn impossible_cuts_are_refused() {
        let six = NonZeroU32::new(6).expect("positive");
        let error = |each| pretend(&host(), six, each).expect_err("cannot be cut");
        let too_few = PretendError::TooFewCpus { cpus: 5, nodes: 6 };
        assert_eq!(error(PerNode::default()), too_few);
        assert_eq!(error(PerNode { cpus: Some(0), ..PerNode::default() }), PretendError::NoCpus);
        let many = PerNode { cpus: Some(70_000), ..PerNode::default() };
        assert_eq!(error(many), PretendError::TooMany);
    }
}
