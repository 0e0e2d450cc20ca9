//! What the nodes of an allocation have for torc: what Slurm granted on them. Pure.
//!
//! CPUs are numbered from 0 on each node: Slurm picks the real ones when it starts a step. A step is
//! given whole cores, so all threads of a core go to one job.

use std::collections::HashMap;

use torc_core::resources::NodeInventory;

use super::show::{Grant, JobFacts, NodeFacts};

const MIB: u64 = 1 << 20;

/// The nodes, in Slurm's order.
///
/// `counts` are the CPUs by node that the allocation's environment names: fewer than were granted where
/// only one thread of a core may be used (`--hint=nomultithread`); and all that is known where scontrol
/// shows no details. A node of which neither is known is left out.
pub(super) fn inventory(
    job: &JobFacts,
    nodes: &[NodeFacts],
    counts: &HashMap<String, u32>,
) -> Vec<NodeInventory> {
    let facts: HashMap<&str, &NodeFacts> =
        nodes.iter().map(|node| (node.name.as_str(), node)).collect();
    let mut grants: HashMap<&str, &Grant> = HashMap::new();
    for grant in &job.grants {
        grants.extend(grant.nodes.iter().map(|node| (node.as_str(), grant)));
    }
    let entry = |name: &String| {
        let (grant, facts) =
            (grants.get(name.as_str()).copied(), facts.get(name.as_str()).copied());
        node(name, grant, facts, counts.get(name).copied())
    };
    job.nodes.iter().filter_map(entry).collect()
}

fn node(
    name: &str,
    grant: Option<&Grant>,
    facts: Option<&NodeFacts>,
    count: Option<u32>,
) -> Option<NodeInventory> {
    let granted = grant.map(|grant| grant.cpus).filter(|&cpus| cpus > 0).or(count)?;
    let cpus = count.map_or(granted, |count| count.min(granted)).max(1);
    let threads = facts.map_or(1, |facts| facts.cpus.checked_div(facts.cores).unwrap_or(1)).max(1);
    // With one thread of each core left, each CPU is a core.
    let threads_per_core = (threads * cpus / granted).max(1);
    let whole_cores = (cpus / threads_per_core).max(1) * threads_per_core;
    let megabytes = match grant.map_or(0, |grant| grant.megabytes) {
        // This Slurm does not give memory out; then the CPUs' share is taken.
        0 => facts.map_or(0, |facts| {
            facts.megabytes * u64::from(granted) / u64::from(facts.cpus.max(granted))
        }),
        megabytes => megabytes,
    };
    Some(NodeInventory {
        name: name.into(),
        cores: (0..whole_cores).collect(),
        threads_per_core,
        slots: None,
        memory: megabytes.saturating_mul(MIB),
        gpus: grant.map_or_else(Box::default, |grant| {
            grant.gpus.iter().map(|gpu| gpu.to_string().into()).collect()
        }),
    })
}

#[cfg(test)]
mod tests {
    use torc_core::traits::NodeState;

    use super::*;

    fn grant(nodes: &[&str], cpus: u32, megabytes: u64, gpus: &[u32]) -> Grant {
        Grant {
            nodes: nodes.iter().map(|&name| name.to_owned()).collect(),
            cpus,
            megabytes,
            gpus: gpus.to_vec(),
        }
    }

    fn facts(name: &str, cpus: u32, cores: u32) -> NodeFacts {
        NodeFacts {
            name: name.to_owned(),
            cpus,
            cores,
            megabytes: 1000,
            state: NodeState::Up,
            words: String::new(),
        }
    }

    fn find(grants: &[Grant], nodes: &[NodeFacts], counts: &[(&str, u32)]) -> Vec<String> {
        let job = JobFacts {
            state: "RUNNING".to_owned(),
            began_at: None,
            ends_at: None,
            nodes: vec!["n1".to_owned(), "n2".to_owned()],
            grants: grants.to_vec(),
            is_preempted: false,
        };
        let counts = counts.iter().map(|&(name, count)| (name.to_owned(), count)).collect();
        let found = inventory(&job, nodes, &counts);
        found
            .iter()
            .map(|node| {
                assert!(node.cores.iter().zip(0..).all(|(&core, number)| core == number));
                let (cpus, threads) = (node.cores.len(), node.threads_per_core);
                let (megabytes, gpus) = (node.memory / MIB, node.gpus.join(","));
                format!("{}: {cpus} CPUs by {threads}, {megabytes} MB, GPUs {gpus}", node.name)
            })
            .collect()
    }

    #[test]
    fn nodes_have_what_was_granted() {
        let grants = [grant(&["n2"], 3, 70, &[1]), grant(&["n1", "n9"], 8, 50, &[])];
        let found = find(&grants, &[facts("n1", 8, 8), facts("n2", 8, 8)], &[]);
        assert_eq!(found, ["n1: 8 CPUs by 1, 50 MB, GPUs ", "n2: 3 CPUs by 1, 70 MB, GPUs 1"]);
    }

    #[test]
    fn cores_are_whole() {
        let grants = [grant(&["n1", "n2"], 10, 50, &[])];
        let nodes = [facts("n1", 16, 8), facts("n2", 8, 8)];
        // The first counts threads; the second has as many CPUs as cores, whatever its threads are.
        let found = find(&grants, &nodes, &[("n1", 10), ("n2", 10)]);
        assert_eq!(found, ["n1: 10 CPUs by 2, 50 MB, GPUs ", "n2: 10 CPUs by 1, 50 MB, GPUs "]);
        // Without multithreading the environment names cores.
        let found = find(&grants, &nodes, &[("n1", 5), ("n2", 10)]);
        assert_eq!(found[0], "n1: 5 CPUs by 1, 50 MB, GPUs ");
        let found = find(&[grant(&["n1"], 5, 50, &[])], &nodes, &[]);
        assert_eq!(found, ["n1: 4 CPUs by 2, 50 MB, GPUs "]);
    }

    #[test]
    fn what_is_not_shown_is_taken_from_elsewhere() {
        let nodes = [facts("n1", 8, 8), facts("n2", 8, 8)];
        let found = find(&[grant(&["n1"], 4, 0, &[])], &nodes, &[]);
        assert_eq!(found, ["n1: 4 CPUs by 1, 500 MB, GPUs "]);
        let found = find(&[], &nodes, &[("n2", 2)]);
        assert_eq!(found, ["n2: 2 CPUs by 1, 250 MB, GPUs "]);
        assert_eq!(find(&[], &[], &[]), [""; 0]);
    }
}
