//! What tests plan with: clusters, and random specs that are small enough to be read when they fail.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::{PartitionShape, PlanOptions, Strategy as Size};
use crate::spec::Sources;
use crate::traits::NodeShape;

/// No file is there.
pub(crate) struct NoFiles;

impl Sources for NoFiles {
    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        Err(format!("{path} is not there"))
    }
}

pub(crate) fn nodes(count: u32, cpus: u32, gib: u64, gpus: u32) -> NodeShape {
    NodeShape { cpus, threads_per_core: 1, memory: gib << 30, gpus, count }
}

pub(crate) fn partition(name: &str, hours: u64, nodes: &[NodeShape]) -> PartitionShape {
    PartitionShape {
        name: name.into(),
        nodes: nodes.to_vec(),
        max_walltime: Some(Duration::from_secs(3600 * hours)),
        max_nodes: None,
        is_default: name == "standard",
    }
}

/// A hundred nodes of 64 CPUs for two days.
pub(crate) fn standard() -> PartitionShape {
    partition("standard", 48, &[nodes(100, 64, 256, 0)])
}

pub(crate) fn options() -> PlanOptions {
    PlanOptions { account: Some("p".into()), ..PlanOptions::default() }
}

/// Requirements `r0` to `r3`, some of which fit nowhere.
fn requirements() -> impl Strategy<Value = Vec<Json>> {
    let one = (
        prop_oneof![1..9_u32, Just(64), 60..140_u32],
        prop_oneof![4 => Just(1), 2 => 2..5_u32, 1 => 9..14_u32],
        prop_oneof![3 => Just(0), 1 => 1..3_u32],
        prop_oneof![3 => Just(4_u64), 1 => 100..600_u64],
        1..900_u64,
    );
    prop::collection::vec(one, 4).prop_map(|all| {
        (0..)
            .zip(all)
            .map(|(index, (cpus, nodes, gpus, gib, minutes)): (usize, _)| {
                json!({
                    "name": format!("r{index}"), "num_cpus": cpus, "num_nodes": nodes,
                    "num_gpus": gpus, "memory": format!("{gib}g"), "runtime": format!("PT{minutes}M"),
                })
            })
            .collect()
    })
}

/// An item of one or several jobs, which depends on items before it.
fn item(number: usize) -> impl Strategy<Value = Json> {
    (0..6_usize, 1..4_u32, prop::collection::vec(0..=number, 0..3), any::<bool>(), 0..8_u32)
        .prop_map(move |(needs, count, before, spread, label)| {
            let before = before.iter().filter(|before| **before < number);
            let before: Vec<_> = before.map(|before| format!("^j{before}_")).collect();
            let mut job = json!({
                "name": format!("j{number}_{{i}}"),
                "command": "x",
                "parameters": {"i": format!("0:{count}")},
                "depends_on_regexes": before,
            });
            if needs < 4 {
                job["resource_requirements"] = json!(format!("r{needs}"));
            } else if spread {
                job["resource_requirements"] = json!("r{i}");
                job["parameters"]["i"] = json!("0:3");
            }
            if label == 0 {
                job["labels"] = json!(["near"]);
            }
            job
        })
}

/// A spec as JSON.
pub(crate) fn spec() -> impl Strategy<Value = Json> {
    let items = (1_usize..7).prop_flat_map(|count| (0..count).map(item).collect::<Vec<_>>());
    (requirements(), items).prop_map(|(requirements, jobs)| {
        json!({"name": "w", "resource_requirements": requirements, "jobs": jobs})
    })
}

fn shape() -> impl Strategy<Value = NodeShape> {
    (
        1..12_u32,
        prop::sample::select(vec![4, 64, 128]),
        prop::sample::select(vec![32, 256, 512]),
        0..3_u32,
    )
        .prop_map(|(count, cpus, gib, gpus)| nodes(count, cpus, gib, gpus))
}

/// One to three partitions; the first is the default.
pub(crate) fn cluster() -> impl Strategy<Value = Vec<PartitionShape>> {
    let one = (
        prop::collection::vec(shape(), 1..3),
        prop_oneof![Just(None), (1..30_u64).prop_map(Some)],
        prop_oneof![2 => Just(None), 1 => (1..6_u32).prop_map(Some)],
    );
    prop::collection::vec(one, 1..4).prop_map(|all| {
        (0..)
            .zip(all)
            .map(|(index, (nodes, hours, max_nodes)): (usize, _)| PartitionShape {
                name: format!("p{index}"),
                nodes,
                max_walltime: hours.map(|hours| Duration::from_secs(3600 * hours)),
                max_nodes,
                is_default: index == 0,
            })
            .collect()
    })
}

pub(crate) fn choices() -> impl Strategy<Value = PlanOptions> {
    let kinds = vec![Size::Auto, Size::One, Size::Many];
    (prop::sample::select(kinds), prop_oneof![3 => Just(None), 1 => (1..8_u32).prop_map(Some)])
        .prop_map(|(strategy, max_nodes)| PlanOptions { strategy, max_nodes, ..options() })
}
