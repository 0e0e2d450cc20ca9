//! Reads this host.

use std::fs;
use std::io;

use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::{Pid, gethostname};
use torc_core::resources::NodeInventory;
use torc_core::traits::ExecutorError;

use super::{cgroup, gpus};

/// What this host has cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum InventoryError {
    /// The CPUs.
    #[error("cannot read which CPUs this process may use: {0}")]
    Cpus(nix::Error),
    /// The memory.
    #[error("cannot read the size of memory from /proc/meminfo: {0}")]
    Memory(io::Error),
    /// The memory, again.
    #[error("/proc/meminfo does not say how much memory there is")]
    NoMemory,
}

impl From<InventoryError> for ExecutorError {
    fn from(error: InventoryError) -> Self {
        Self::Inventory(error.to_string())
    }
}

/// What this process may use of this host.
///
/// CPUs are those of its own affinity mask, the first ones only if a cgroup grants fewer CPUs' time;
/// memory is the host's, or what a cgroup leaves of it; GPUs are those of `CUDA_VISIBLE_DEVICES` or
/// `ROCR_VISIBLE_DEVICES` if one is set, else NVIDIA's device files.
///
/// # Errors
/// When the operating system does not tell.
pub fn inventory() -> Result<NodeInventory, InventoryError> {
    let limits = cgroup::limits();
    let affinity = sched_getaffinity(Pid::from_raw(0)).map_err(InventoryError::Cpus)?;
    let cores = members(&affinity).take(limits.cpus.unwrap_or(usize::MAX)).collect();
    let meminfo = fs::read_to_string("/proc/meminfo").map_err(InventoryError::Memory)?;
    let memory = total_memory(&meminfo).ok_or(InventoryError::NoMemory)?;
    Ok(NodeInventory {
        name: host_name(),
        cores,
        threads_per_core: 1,
        slots: None,
        memory: memory.min(limits.memory.unwrap_or(u64::MAX)),
        gpus: gpus::visible().into(),
    })
}

fn members(set: &CpuSet) -> impl Iterator<Item = u32> {
    let ids = (0..CpuSet::count()).filter(|&id| set.is_set(id).unwrap_or(false));
    ids.filter_map(|id| u32::try_from(id).ok())
}

/// Bytes.
fn total_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

fn host_name() -> Box<str> {
    let name = gethostname().ok().and_then(|name| name.into_string().ok());
    name.filter(|name| !name.is_empty()).unwrap_or_else(|| "localhost".to_owned()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_read() {
        assert_eq!(total_memory("MemTotal:       16 kB\nMemFree: 1 kB\n"), Some(16 * 1024));
        assert_eq!(total_memory("MemFree: 1 kB\n"), None);
    }

    #[test]
    fn this_host_has_what_this_process_may_use() {
        let host = inventory().expect("this host can be read");
        let affinity = sched_getaffinity(Pid::from_raw(0)).expect("has an affinity");
        assert!(!host.name.is_empty() && host.memory > 0 && host.cpus() > 0);
        assert!(host.cores.iter().all(|&id| affinity.is_set(id as usize) == Ok(true)));
        assert!(host.cores.is_sorted_by(|a, b| a < b));
    }
}
