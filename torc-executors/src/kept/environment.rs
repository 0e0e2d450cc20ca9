//! What a job is told about the nodes it runs on. Pure.

use std::collections::BTreeMap;

use torc_core::traits::StepNode;

/// Adds the variables about a step's nodes to its environment; they win over others of that name.
///
/// `TORC_NODELIST` and `TORC_CPUS_PER_NODE` are lists with commas in node order, one entry a node.
pub(crate) fn add_nodes(env: &mut BTreeMap<String, String>, nodes: &[StepNode], hostfile: &str) {
    let list = |text: fn(&StepNode) -> String| nodes.iter().map(text).collect::<Vec<_>>().join(",");
    let variables = [
        ("TORC_NODELIST", list(|node| node.name.to_string())),
        ("TORC_NUM_NODES", nodes.len().to_string()),
        ("TORC_CPUS_PER_NODE", list(|node| node.cores.len().to_string())),
        ("TORC_HOSTFILE", hostfile.to_owned()),
    ];
    env.extend(variables.map(|(name, value)| (name.to_owned(), value)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_listed_in_their_order() {
        let node = |name: &str, cores: &[u32]| StepNode {
            name: name.into(),
            cores: cores.into(),
            gpus: Box::default(),
            memory: 0,
        };
        let mut env = BTreeMap::from([("TORC_NUM_NODES".to_owned(), "user's".to_owned())]);
        add_nodes(&mut env, &[node("n2", &[4, 6]), node("n1", &[0])], "/hosts");
        let found: Vec<(&str, &str)> = env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let expected = [
            ("TORC_CPUS_PER_NODE", "2,1"),
            ("TORC_HOSTFILE", "/hosts"),
            ("TORC_NODELIST", "n2,n1"),
            ("TORC_NUM_NODES", "2"),
        ];
        assert_eq!(found, expected);
    }
}
