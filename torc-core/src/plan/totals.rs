//! Requests that were probably meant for all nodes of a job together.
//!
//! All values of a job are per node. Somebody who is used to totals writes 256 CPUs and 4 nodes, and
//! waits for ever: no node has 256. That is seen where the nodes are known.

use crate::diagnostics::Problem;
use crate::resources::{MemoryRequest, whole_cores};
use crate::spec::units::written_memory;
use crate::traits::NodeShape;
use crate::workflow::{Requirements, Workflow};

/// Warns of each of the requirements in use that no node of these can meet, but that one could if
/// what is too much were divided by `num_nodes`. Empty for no shapes: nothing is known.
///
/// The problems have no place: a workflow does not know where it was written.
pub fn totals(workflow: &Workflow, shapes: &[NodeShape]) -> Vec<Problem> {
    let requirements = &workflow.header.requirements;
    let mut first_job: Vec<Option<&str>> = vec![None; requirements.len()];
    for job in &workflow.jobs {
        first_job[job.requirements as usize].get_or_insert(&job.name);
    }
    let used = requirements.iter().zip(first_job);
    used.filter_map(|(needs, job)| advice(needs, job?, shapes)).collect()
}

/// One amount of a request: its field, what is written, what a node has at most, and its share when
/// divided.
struct Amount {
    field: &'static str,
    written: String,
    most: String,
    share: String,
}

fn advice(needs: &Requirements, job: &str, shapes: &[NodeShape]) -> Option<Problem> {
    if needs.nodes < 2 || shapes.is_empty() || shapes.iter().any(|shape| holds(shape, needs)) {
        return None;
    }
    let (divided, amounts) = divide_what_is_too_much(needs, shapes);
    if amounts.is_empty() || !shapes.iter().any(|shape| holds(shape, &divided)) {
        return None;
    }
    let (name, nodes) = (&needs.name, needs.nodes);
    let list = |part: fn(&Amount) -> String| amounts.iter().map(part).collect::<Vec<_>>();
    let wanted = list(|amount| format!("{} {}", amount.field, amount.written)).join(" and ");
    let most = list(|amount| amount.most.clone()).join(" and ");
    let right = list(|amount| format!("`{}: {}`", amount.field, amount.share)).join(" and ");
    let message = format!(
        "`{name}` asks for {wanted} on each of {nodes} nodes, but no node has more than {most}"
    );
    let help = format!(
        "values are per node: if they are meant for all {nodes} nodes together, write {right} \
         (needed by the job `{job}`)"
    );
    Some(Problem::warning("plan::totals", message).help(help))
}

fn holds(shape: &NodeShape, needs: &Requirements) -> bool {
    let memory = match needs.memory {
        MemoryRequest::Bytes(bytes) => bytes,
        MemoryRequest::ShareOfCpus => 0,
    };
    shape.cpus >= whole_cores(needs.cpus, shape.threads_per_core)
        && shape.gpus >= needs.gpus
        && shape.memory >= memory
}

fn divide_what_is_too_much(
    needs: &Requirements,
    shapes: &[NodeShape],
) -> (Requirements, Vec<Amount>) {
    let mut divided = needs.clone();
    let mut amounts = Vec::new();
    let most_cpus = shapes.iter().map(|shape| shape.cpus).max().unwrap_or(0);
    let most_gpus = shapes.iter().map(|shape| shape.gpus).max().unwrap_or(0);
    let most_memory = shapes.iter().map(|shape| shape.memory).max().unwrap_or(0);
    let mut note = |field, [written, most, share]: [String; 3]| {
        amounts.push(Amount { field, written, most, share });
    };
    if needs.cpus > most_cpus {
        divided.cpus = needs.cpus.div_ceil(needs.nodes);
        note("num_cpus", [needs.cpus, most_cpus, divided.cpus].map(|count| count.to_string()));
    }
    if let MemoryRequest::Bytes(bytes) = needs.memory
        && bytes > most_memory
    {
        let share = bytes.div_ceil(u64::from(needs.nodes));
        divided.memory = MemoryRequest::Bytes(share);
        note("memory", [bytes, most_memory, share].map(written_memory));
    }
    if needs.gpus > most_gpus {
        divided.gpus = needs.gpus.div_ceil(needs.nodes);
        note("num_gpus", [needs.gpus, most_gpus, divided.gpus].map(|count| count.to_string()));
    }
    (divided, amounts)
}
