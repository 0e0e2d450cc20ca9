//! What the settings of a Slurm scheduler mean, as far as planning and warnings need it.
//!
//! Owns: the defaults of the fields and the units of sbatch. Does not know: how a request is written
//! for sbatch, and of the options in `extra` and `slurm_defaults` only what is about CPUs. Invariant: a value that it cannot
//! read counts as not given, so that nobody is warned of what was not understood.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value as Json;

use super::slurm_cpus::{SharedCpus, shared_cpus, shared_gpus};
use super::units;
use crate::resources::Request;
use crate::workflow::SchedulerSettings;

/// The walltime of a scheduler that states none.
const DEFAULT_WALLTIME: Duration = Duration::from_secs(3600);

impl SchedulerSettings {
    /// The labels of the workers in its allocations. Sorted, without repeats.
    pub fn labels(&self) -> Arc<[Box<str>]> {
        let listed = self.settings["labels"].as_array().into_iter().flatten();
        let mut labels: Vec<Box<str>> =
            listed.filter_map(|label| label.as_str()).map(Box::from).collect();
        labels.sort_unstable();
        labels.dedup();
        labels.into()
    }

    /// Nodes of each of its allocations.
    pub fn nodes(&self) -> u32 {
        self.settings["nodes"].as_u64().and_then(|nodes| u32::try_from(nodes).ok()).unwrap_or(1)
    }

    /// The time limit of each of its allocations.
    pub fn walltime(&self) -> Duration {
        let written = self.settings["walltime"].as_str();
        written.and_then(|text| units::walltime(text).ok()).unwrap_or(DEFAULT_WALLTIME)
    }

    /// Whether its allocations run one after another.
    pub fn is_serialized(&self) -> bool {
        self.settings["serialize_allocations"].as_bool().unwrap_or(false)
    }

    /// Whether a job with this request may run in its allocations, as far as the spec tells.
    pub fn may_serve(&self, request: &Request) -> bool {
        request.may_run_under(Some(&self.name), &self.labels()) && request.nodes <= self.nodes()
    }
}

/// A Slurm scheduler of a workflow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SlurmSettings {
    /// Nodes of each of its allocations.
    pub(crate) nodes: u32,
    /// How long each of them lasts.
    pub(crate) walltime: Duration,
    /// Bytes on each node; `None`: all that the node has.
    pub(crate) memory: Option<u64>,
    /// CPUs on each node, where it shares nodes with others; `None`: all that the node has, or it is not
    /// known.
    pub(crate) cpus: Option<SharedCpus>,
    /// GPUs on each node, where it shares nodes with others; `None`: all that the node has, or it is not known.
    pub(crate) gpus: Option<u32>,
    /// The partition; `None`: the cluster's default.
    pub(crate) partition: Option<String>,
    /// The labels of its workers. Sorted, without repeats.
    pub(crate) labels: Arc<[Box<str>]>,
}

impl SlurmSettings {
    /// The settings of a scheduler; `None` for one that is not Slurm.
    pub(crate) fn of(scheduler: &SchedulerSettings) -> Option<Self> {
        if scheduler.kind != "slurm" {
            return None;
        }
        let text = |name: &str| scheduler.settings.get(name).and_then(Json::as_str);
        Some(Self {
            nodes: scheduler.nodes(),
            walltime: scheduler.walltime(),
            memory: scheduler.settings.get("mem").and_then(memory),
            cpus: shared_cpus(&scheduler.settings, scheduler.nodes()),
            gpus: shared_gpus(&scheduler.settings),
            partition: text("partition").map(str::to_owned),
            labels: scheduler.labels(),
        })
    }
}

/// Bytes of `--mem`: an integer and K, M, G or T, M where none is given; 0 is all memory (sbatch(1)).
fn memory(value: &Json) -> Option<u64> {
    let text = match value {
        Json::String(text) => text.trim().to_owned(),
        other => other.to_string(),
    };
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let shift: u32 = match unit.to_ascii_lowercase().trim_end_matches("ib").trim_end_matches('b') {
        "" | "m" => 20,
        "k" => 10,
        "g" => 30,
        "t" => 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift).filter(|bytes| *bytes > 0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(settings: Json) -> SlurmSettings {
        let scheduler = SchedulerSettings { name: "s".into(), kind: "slurm".into(), settings };
        SlurmSettings::of(&scheduler).expect("it is a Slurm scheduler")
    }

    #[test]
    fn what_is_not_given_has_its_default() {
        let expected = SlurmSettings {
            nodes: 1,
            walltime: Duration::from_secs(3600),
            memory: None,
            cpus: None,
            gpus: None,
            partition: None,
            labels: Arc::from([]),
        };
        assert_eq!(of(json!({})), expected);
        assert_eq!(of(json!({"nodes": "many", "walltime": 7, "mem": []})), expected);
    }

    #[test]
    fn what_is_given_is_read() {
        let found = of(json!({
            "nodes": 4, "walltime": "1-00:00:00", "partition": "long", "labels": ["b", "a", "b"],
        }));
        assert_eq!((found.nodes, found.walltime.as_secs()), (4, 86_400));
        assert_eq!(found.partition.as_deref(), Some("long"));
        assert_eq!(*found.labels, ["a".into(), "b".into()]);
    }

    #[test]
    fn mem_is_in_mebibytes_unless_it_says() {
        let check = |value: Json, expected: Option<u64>| {
            assert_eq!(memory(&value), expected, "{value}");
        };
        check(json!(2048), Some(2 << 30));
        check(json!("512"), Some(512 << 20));
        check(json!("100G"), Some(100 << 30));
        check(json!("1t"), Some(1 << 40));
        check(json!("4GB"), Some(4 << 30));
        check(json!("0"), None);
        check(json!("much"), None);
        check(json!(-1), None);
        check(json!("99999999999999999T"), None);
    }
}
