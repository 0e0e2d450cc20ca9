//! Requests that were probably meant for all nodes of a job together.
//!
//! All values of a job are per node. Somebody who is used to totals writes 256 CPUs and 4 nodes, and
//! waits for ever: no node has 256. That is seen where the nodes are known.

use super::classes::Classes;
use crate::diagnostics::{Problem, Span};
use crate::resources::{MemoryRequest, Request, whole_cores};
use crate::spec::units::written_memory;
use crate::traits::NodeShape;
use crate::workflow::{Requirements, Workflow};

/// The kinds of node that the jobs of a workflow can get.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// By scheduler of the workflow, those of its allocations; empty: nothing is known of them.
    pub of_schedulers: Vec<Vec<NodeShape>>,
    /// Those of allocations that are planned besides; empty: none are.
    pub planned: Vec<NodeShape>,
}

impl Reach {
    /// Those that a job with this request and pin can get; empty: nothing is known of some of them, or
    /// there are none.
    fn of(&self, workflow: &Workflow, request: &Request, pin: Option<u32>) -> Vec<&NodeShape> {
        let mut found = Vec::new();
        for (settings, shapes) in workflow.header.schedulers.iter().zip(&self.of_schedulers) {
            if !request.may_run_under(Some(&settings.name), &settings.labels()) {
                continue;
            }
            if shapes.is_empty() {
                return Vec::new();
            }
            if request.nodes <= settings.nodes() {
                found.extend(shapes);
            }
        }
        if pin.is_none() {
            found.extend(&self.planned);
        }
        found
    }
}

/// Warns of each of the requirements in use that no node which a job with them can get can meet, but that
/// one could if what is too much were divided by `num_nodes`.
///
/// `places`: where the requirements were written, in the workflow's order
/// ([`crate::spec::Loaded::requirement_places`]).
pub fn totals(workflow: &Workflow, reach: &Reach, places: &[Span]) -> Vec<Problem> {
    let classes = Classes::of(workflow);
    let mut advised = vec![false; workflow.header.requirements.len()];
    let mut found = Vec::new();
    let mut seen = 0;
    for (job, class) in workflow.jobs.iter().zip(&classes.of_job) {
        let (class, needs) = (*class as usize, job.requirements as usize);
        // Classes are numbered in the order of their first jobs.
        let is_first = class == seen;
        seen += usize::from(is_first);
        if !is_first || advised[needs] {
            continue;
        }
        let shapes = reach.of(workflow, &classes.requests[class], classes.pins[class]);
        let requirements = &workflow.header.requirements[needs];
        if let Some(problem) = advice(requirements, &job.name, &shapes) {
            advised[needs] = true;
            found.push(match places.get(needs) {
                Some(place) => problem.at(*place, "more than a node has"),
                None => problem,
            });
        }
    }
    found
}

/// One amount of a request: its field, what is written, what a node has at most, and its share when
/// divided.
struct Amount {
    field: &'static str,
    written: String,
    most: String,
    share: String,
}

fn advice(needs: &Requirements, job: &str, shapes: &[&NodeShape]) -> Option<Problem> {
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
        "`{name}` asks for {wanted} on each of {nodes} nodes, but no node that it can get has \
         more than {most}"
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
    shapes: &[&NodeShape],
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
