//! Tests of planning.

mod properties;
mod stories;
mod totals;

use super::testing::{NoFiles, nodes, options, partition, standard};
use super::{PartitionShape, Plan, PlanOptions, plan};
use crate::spec::{Context, Format, Loaded, load};
use crate::traits::NodeShape;
use crate::workflow::Workflow;

fn loaded(spec: &str) -> Loaded {
    let context = Context { user: Some("ada"), sources: &NoFiles };
    match load(spec.as_bytes(), Some(Format::Yaml), &context) {
        Ok(loaded) => loaded,
        Err(rejected) => panic!("{:?}\n{spec}", rejected.problems),
    }
}

fn workflow(spec: &str) -> Workflow {
    loaded(spec).workflow
}

fn planned(spec: &str, partitions: &[PartitionShape]) -> Plan {
    plan(&workflow(spec), partitions, &options()).expect("it can be planned")
}
