//! What a job is told about the GPUs it may use, and the CPUs it is bound to. Pure.

use std::collections::BTreeMap;

use torc_core::traits::{Step, StepNode};

/// The variables that make each vendor's runtime see the given GPUs only.
const GPU_VARIABLES: [&str; 3] =
    ["CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"];

/// Adds the variables that name the GPUs of the nodes that are `here`; they win over others of that
/// name, and are left alone for a step without GPUs.
pub(super) fn add_gpus(
    env: &mut BTreeMap<String, String>,
    nodes: &[StepNode],
    here: impl Fn(&str) -> bool,
) {
    let mut gpus: Vec<&str> = Vec::new();
    for gpu in nodes.iter().filter(|node| here(&node.name)).flat_map(|node| &node.gpus) {
        if !gpus.contains(&&**gpu) {
            gpus.push(gpu);
        }
    }
    if !gpus.is_empty() {
        let devices = gpus.join(",");
        env.extend(GPU_VARIABLES.map(|name| (name.to_owned(), devices.clone())));
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

    fn check(nodes: &[StepNode], here: &[&str], expected: Option<&str>) {
        let user = || BTreeMap::from([("CUDA_VISIBLE_DEVICES".to_owned(), "user's".to_owned())]);
        let mut env = user();
        add_gpus(&mut env, nodes, |name| here.contains(&name));
        let found: Vec<&str> = env.values().map(String::as_str).collect();
        match expected {
            Some(devices) => assert_eq!(found, [devices; 3]),
            None => assert_eq!(env, user()),
        }
    }

    #[test]
    fn a_job_without_gpus_keeps_the_users_gpu_variables() {
        check(&[node("a", &[4, 6], &[])], &["a"], None);
    }

    #[test]
    fn a_gang_sees_all_gpus_of_pretended_nodes_but_only_its_own_hosts_of_real_ones() {
        let nodes = [node("n1", &[0, 1], &["0"]), node("n2", &[2, 3, 4], &["1", "0"])];
        check(&nodes, &["n1", "n2"], Some("0,1"));
        check(&nodes, &["n1"], Some("0"));
    }
}
