//! What a job is told about the nodes it runs on. Pure.

use std::collections::BTreeMap;

use torc_core::traits::{Step, StepNode};

/// The variables that make each vendor's runtime see the given GPUs only.
const GPU_VARIABLES: [&str; 3] =
    ["CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"];

/// Adds the variables about a step's nodes to its environment; they win over others of that name.
///
/// `TORC_NODELIST` and `TORC_CPUS_PER_NODE` are lists with commas in node order, one entry a node.
/// The GPU variables name the GPUs of the nodes that are `here`, and are left alone for a step
/// without GPUs.
pub(super) fn add_nodes(
    env: &mut BTreeMap<String, String>,
    nodes: &[StepNode],
    hostfile: &str,
    here: impl Fn(&str) -> bool,
) {
    let list = |text: fn(&StepNode) -> String| nodes.iter().map(text).collect::<Vec<_>>().join(",");
    let mut set = |name: &str, value: String| {
        env.insert(name.to_owned(), value);
    };
    set("TORC_NODELIST", list(|node| node.name.to_string()));
    set("TORC_NUM_NODES", nodes.len().to_string());
    set("TORC_CPUS_PER_NODE", list(|node| node.cores.len().to_string()));
    set("TORC_HOSTFILE", hostfile.to_owned());
    let mut gpus: Vec<&str> = Vec::new();
    for gpu in nodes.iter().filter(|node| here(&node.name)).flat_map(|node| &node.gpus) {
        if !gpus.contains(&&**gpu) {
            gpus.push(gpu);
        }
    }
    if !gpus.is_empty() {
        let devices = gpus.join(",");
        GPU_VARIABLES.iter().for_each(|name| set(name, devices.clone()));
    }
}

/// The CPUs of a step on the nodes that are `here`, in node order, without repeats.
pub(super) fn cores(step: &Step, here: impl Fn(&str) -> bool) -> Vec<u32> {
    let nodes = step.nodes.iter().filter(|node| here(&node.name));
    let mut cores: Vec<u32> = nodes.flat_map(|node| node.cores.iter().copied()).collect();
    cores.sort_unstable();
    cores.dedup();
    cores
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, cores: &[u32], gpus: &[&str]) -> StepNode {
        StepNode {
            name: name.into(),
            cores: cores.into(),
            gpus: gpus.iter().map(|&gpu| gpu.into()).collect(),
            memory: 0,
        }
    }

    fn check(nodes: &[StepNode], here: &[&str], expected: &[(&str, &str)]) {
        let mut env = BTreeMap::from([("CUDA_VISIBLE_DEVICES".to_owned(), "user's".to_owned())]);
        add_nodes(&mut env, nodes, "/hosts", |name| here.contains(&name));
        let found: Vec<(&str, &str)> = env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_job_without_gpus_keeps_the_users_gpu_variables() {
        check(
            &[node("a", &[4, 6], &[])],
            &["a"],
            &[
                ("CUDA_VISIBLE_DEVICES", "user's"),
                ("TORC_CPUS_PER_NODE", "2"),
                ("TORC_HOSTFILE", "/hosts"),
                ("TORC_NODELIST", "a"),
                ("TORC_NUM_NODES", "1"),
            ],
        );
    }

    #[test]
    fn a_gang_sees_all_gpus_of_pretended_nodes_but_only_its_own_hosts_of_real_ones() {
        let nodes = [node("n1", &[0, 1], &["0"]), node("n2", &[2, 3, 4], &["1", "0"])];
        let expected = |devices| {
            [
                ("CUDA_VISIBLE_DEVICES", devices),
                ("HIP_VISIBLE_DEVICES", devices),
                ("ROCR_VISIBLE_DEVICES", devices),
                ("TORC_CPUS_PER_NODE", "2,3"),
                ("TORC_HOSTFILE", "/hosts"),
                ("TORC_NODELIST", "n1,n2"),
                ("TORC_NUM_NODES", "2"),
            ]
        };
        check(&nodes, &["n1", "n2"], &expected("0,1"));
        check(&nodes, &["n1"], &expected("0"));
    }
}
