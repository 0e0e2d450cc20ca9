//! A planned scheduler as a spec writes it.
//!
//! Owns: the fields that a stage needs, and the names of new schedulers. Invariant: whatever nodes
//! Slurm gives by these settings, the jobs of the stage fit on them.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Map, Value as Json};

use super::model::{Layout, PartitionShape, PlanOptions};
use super::stages::Draft;
use crate::spec::units;
use crate::traits::NodeShape;
use crate::workflow::SchedulerSettings;

/// What a stage asks for.
pub(super) struct Request<'r> {
    /// The least that each node must have.
    pub(super) node: &'r NodeShape,
    pub(super) partition: Option<&'r PartitionShape>,
    pub(super) draft: &'r Draft,
    pub(super) layout: &'r Layout,
    pub(super) needs_gpus: bool,
}

impl Request<'_> {
    /// The settings, as a spec writes them.
    pub(super) fn settings(&self, options: &PlanOptions) -> Json {
        let mut settings = Map::new();
        let mut set = |name: &str, value: Json| settings.insert(name.to_owned(), value);
        if let Some(account) = &options.account {
            set("account", account.clone().into());
        }
        if let Some(partition) = self.partition {
            set("partition", partition.name.clone().into());
        }
        set("nodes", self.layout.nodes.into());
        set("walltime", units::clock(self.layout.walltime).into());
        if self.needs_gpus {
            set("gres", format!("gpu:{}", self.node.gpus).into());
        }
        // Where the partition has lesser nodes, too, they are ruled out.
        if self.has_less_than(self.node.memory, |shape| shape.memory) {
            set("mem", format!("{}M", self.node.memory >> 20).into());
        }
        if self.has_less_than(self.node.cpus.into(), |shape| shape.cpus.into()) {
            set("extra", format!("--mincpus={}", self.node.cpus).into());
        }
        if !self.draft.labels.is_empty() {
            let labels = self.draft.labels.iter().map(|label| Json::from(&**label));
            set("labels", labels.collect());
        }
        if self.must_take_turns(options) {
            set("serialize_allocations", true.into());
        }
        if !options.slurm_defaults.is_empty() {
            set("defaults", Json::Object(options.slurm_defaults.clone()));
        }
        Json::Object(settings)
    }

    fn has_less_than(&self, least: u64, amount: fn(&NodeShape) -> u64) -> bool {
        let shapes = self.partition.into_iter().flat_map(|partition| &partition.nodes);
        shapes.filter(|shape| shape.count > 0).any(|shape| amount(shape) < least)
    }

    /// Whether two of the allocations at once would have more nodes than the user allows.
    fn must_take_turns(&self, options: &PlanOptions) -> bool {
        self.layout.num_allocations > 1
            && options.max_nodes.is_some_and(|most| self.layout.nodes.saturating_mul(2) > most)
    }
}

/// Names for new schedulers: `stage_1`, `stage_2`, …, without those that are taken.
pub(super) struct Names {
    taken: HashSet<Arc<str>>,
    last: u32,
}

impl Names {
    pub(super) fn of(schedulers: &[SchedulerSettings]) -> Self {
        Self { taken: schedulers.iter().map(|known| known.name.clone()).collect(), last: 0 }
    }

    pub(super) fn next(&mut self) -> Arc<str> {
        loop {
            self.last += 1;
            let name: Arc<str> = format!("stage_{}", self.last).into();
            if !self.taken.contains(&name) {
                return name;
            }
        }
    }
}
