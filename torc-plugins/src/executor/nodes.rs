//! Which nodes a plugin can say that it has.
//!
//! Owns: what torc's books take for granted of them. Pure.

use std::collections::BTreeSet;

use torc_core::resources::NodeInventory;

/// # Errors
/// When they cannot be, in words about the first that cannot.
pub(super) fn check(nodes: &[NodeInventory]) -> Result<(), String> {
    if nodes.is_empty() {
        return Err("it has no node".to_owned());
    }
    let mut names = BTreeSet::new();
    for node in nodes {
        let name = &*node.name;
        if name.trim().is_empty() || !names.insert(name) {
            return Err(format!("each node has a name of its own, and one is called `{name}`"));
        }
        let cores: BTreeSet<u32> = node.cores.iter().copied().collect();
        if cores.is_empty() || cores.len() != node.cores.len() {
            return Err(format!("node `{name}` has no CPUs, or one of them twice"));
        }
        let grain = node.threads_per_core as usize;
        if grain == 0 || !cores.len().is_multiple_of(grain) {
            let count = cores.len();
            return Err(format!("node `{name}` has {count} CPUs, which are not cores of {grain}"));
        }
        if node.gpus.iter().collect::<BTreeSet<_>>().len() != node.gpus.len() {
            return Err(format!("node `{name}` has a GPU twice"));
        }
        if cores.len().max(node.gpus.len()) > usize::from(u16::MAX) {
            return Err(format!("node `{name}` has more CPUs or GPUs than {}", u16::MAX));
        }
        if node.memory == 0 || i64::try_from(node.memory).is_err() {
            return Err(format!("node `{name}` has {} bytes of memory", node.memory));
        }
    }
    Ok(())
}
