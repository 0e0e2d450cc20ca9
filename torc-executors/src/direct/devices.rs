//! Which CPUs and GPUs of this host the numbers and names of a placement stand for.
//!
//! A placement counts what Slurm granted on a node; a process there has ids of its own for the same
//! devices. Where the two do not have equally many, nothing is bound: a wrong id would be worse than none.
//! Reads what this process may use; knows no job.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;

use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;
use torc_core::resources::NodeInventory;
use torc_core::traits::StepNode;

/// Variables by which Slurm shows a task its GPUs, the first that is set counts.
const GPU_LISTS: [&str; 3] =
    ["CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"];

/// This node's devices by what placements call them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Devices {
    /// Operating system's ids by the numbers of the grant; `None`: jobs are not bound.
    cores: Option<HashMap<u32, u32>>,
    /// What a job here must be told, by the names of the grant.
    gpus: HashMap<Box<str>, Box<str>>,
}

impl Devices {
    /// The devices of `node`, which this process runs on with this environment. Says so in the log if jobs
    /// cannot be bound to CPUs.
    pub(super) fn of(node: &NodeInventory, env: &[(OsString, OsString)]) -> Self {
        let affinity = match sched_getaffinity(Pid::from_raw(0)) {
            Ok(set) => in_cores(&members(&set), siblings_of),
            Err(error) => {
                tracing::warn!(%error, "it is not known which CPUs this process may use");
                Vec::new()
            }
        };
        let devices = Self { cores: paired(&node.cores, &affinity), gpus: gpus(&node.gpus, env) };
        if devices.cores.is_none() {
            let (granted, usable) = (node.cores.len(), affinity.len());
            tracing::warn!(
                node = %node.name, granted, usable,
                "jobs are not bound to CPUs: this process may not use as many CPUs as Slurm granted"
            );
        }
        devices
    }

    /// Whether jobs can be bound to CPUs.
    pub(super) fn can_pin(&self) -> bool {
        self.cores.is_some()
    }

    /// The same node in this host's own ids.
    pub(super) fn inventory(&self, node: &NodeInventory) -> NodeInventory {
        NodeInventory {
            cores: self.own_cores(&node.cores),
            gpus: self.own_gpus(&node.gpus),
            ..node.clone()
        }
    }

    /// A share of the node in this host's own ids.
    pub(super) fn translate(&self, share: &mut StepNode) {
        share.cores = self.own_cores(&share.cores);
        share.gpus = self.own_gpus(&share.gpus);
    }

    fn own_cores(&self, cores: &[u32]) -> Box<[u32]> {
        let Some(own) = &self.cores else { return cores.into() };
        cores.iter().map(|core| own.get(core).copied().unwrap_or(*core)).collect()
    }

    fn own_gpus(&self, gpus: &[Box<str>]) -> Box<[Box<str>]> {
        gpus.iter().map(|gpu| self.gpus.get(gpu).unwrap_or(gpu).clone()).collect()
    }
}

/// Each of the grant's numbers with the id at its place, if there is one for each.
fn paired(granted: &[u32], own: &[u32]) -> Option<HashMap<u32, u32>> {
    let fits = !granted.is_empty() && granted.len() == own.len();
    fits.then(|| granted.iter().copied().zip(own.iter().copied()).collect())
}

fn gpus(granted: &[Box<str>], env: &[(OsString, OsString)]) -> HashMap<Box<str>, Box<str>> {
    let value = |name: &&str| env.iter().find(|(known, _)| known == name)?.1.to_str();
    let Some(list) = GPU_LISTS.iter().find_map(value) else { return HashMap::new() };
    let own: Vec<&str> = list.split(',').collect();
    if own.len() != granted.len() {
        return HashMap::new();
    }
    granted.iter().cloned().zip(own.into_iter().map(Box::from)).collect()
}

fn members(set: &CpuSet) -> Vec<u32> {
    let ids = (0..CpuSet::count()).filter(|&id| set.is_set(id).unwrap_or(false));
    ids.filter_map(|id| u32::try_from(id).ok()).collect()
}

/// The ids in an order in which the threads of a core are neighbours, as in what Slurm counts.
fn in_cores(ids: &[u32], first_sibling: impl Fn(u32) -> Option<u32>) -> Vec<u32> {
    let mut ordered = ids.to_vec();
    ordered.sort_by_cached_key(|&id| (first_sibling(id).unwrap_or(id), id));
    ordered
}

/// The first of the threads of a CPU's core, as Linux tells it: `0,4` or `0-1`.
fn siblings_of(id: u32) -> Option<u32> {
    let path = format!("/sys/devices/system/cpu/cpu{id}/topology/thread_siblings_list");
    let list = fs::read_to_string(path).ok()?;
    list.split([',', '-']).next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Box<[Box<str>]> {
        list.iter().map(|&name| name.into()).collect()
    }

    fn env(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
    }

    #[test]
    fn numbers_stand_for_the_cpus_at_their_places() {
        let check = |own: &[u32], expected: &[u32]| {
            let devices = Devices { cores: paired(&[0, 1, 2, 3], own), gpus: HashMap::new() };
            assert_eq!(devices.can_pin(), own.len() == 4, "{own:?}");
            assert_eq!(*devices.own_cores(&[1, 3]), *expected, "{own:?}");
        };
        check(&[4, 6, 8, 10], &[6, 10]);
        check(&[0, 4, 1, 5], &[4, 5]);
        check(&[0, 1], &[1, 3]);
        check(&[0, 1, 2, 3, 4], &[1, 3]);
        check(&[], &[1, 3]);
        assert_eq!(paired(&[], &[]), None);
    }

    #[test]
    fn threads_of_a_core_are_neighbours() {
        assert_eq!(in_cores(&[0, 1, 2, 3], |id| Some(id % 2)), [0, 2, 1, 3]);
        assert_eq!(in_cores(&[3, 5, 9], |_| None), [3, 5, 9]);
    }

    #[test]
    fn names_stand_for_the_devices_at_their_places() {
        let check = |pairs: &[(&str, &str)], expected: &[&str]| {
            let devices = Devices { cores: None, gpus: gpus(&names(&["2", "5"]), &env(pairs)) };
            assert_eq!(devices.own_gpus(&names(&["5", "2"])), names(expected), "{pairs:?}");
        };
        check(&[("CUDA_VISIBLE_DEVICES", "0,1")], &["1", "0"]);
        check(&[("ROCR_VISIBLE_DEVICES", "GPU-a,GPU-b")], &["GPU-b", "GPU-a"]);
        check(&[("CUDA_VISIBLE_DEVICES", "0,1,2,3")], &["5", "2"]);
        check(&[("CUDA_VISIBLE_DEVICES", "")], &["5", "2"]);
        check(&[], &["5", "2"]);
    }
}
