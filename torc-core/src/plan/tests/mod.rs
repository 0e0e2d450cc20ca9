//! Tests of planning.

mod properties;
mod stories;

use super::testing::{NoFiles, nodes, options, partition, standard};
use super::{PartitionShape, Plan, PlanOptions, plan};
use crate::spec::{Context, Format, load};
use crate::traits::NodeShape;
use crate::workflow::Workflow;

fn workflow(spec: &str) -> Workflow {
    let context = Context { user: Some("ada"), sources: &NoFiles };
    match load(spec.as_bytes(), Some(Format::Yaml), &context) {
        Ok(loaded) => loaded.workflow,
        Err(rejected) => panic!("{:?}\n{spec}", rejected.problems),
    }
}

fn planned(spec: &str, partitions: &[PartitionShape]) -> Plan {
    plan(&workflow(spec), partitions, &options()).expect("it can be planned")
}
