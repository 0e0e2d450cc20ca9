//! The jobs of a stage, made ready for simulation, and what is known of them in sum.

use std::collections::HashMap;
use std::time::Duration;

use super::classes::Classes;
use super::simulate::Work;
use super::sites::bare;
use crate::placer::Policy;
use crate::resources::{Request, whole_cores};
use crate::traits::NodeShape;
use crate::workflow::{ExecutionMode, Header, Job, USUAL_PARALLEL_STEPS, Workflow};

/// What a job without a declared runtime counts for in the simulation: the runtime of requirements
/// that state none.
pub const ASSUMED_RUNTIME: Duration = Duration::from_secs(3600);

/// What is known of the jobs of a stage in sum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sums {
    /// Jobs.
    pub(super) jobs: usize,
    /// Jobs that declare no runtime.
    pub(super) unknown: usize,
    /// Seconds of a whole node in which its busiest resource would work.
    pub(super) busy: f64,
    /// Seconds of a whole node that the jobs take, each packed with jobs of its own class.
    pub(super) packed: f64,
    /// The longest runtime.
    pub(super) longest: Duration,
    /// The longest chain of jobs that wait for each other, in time.
    pub(super) chain: Duration,
}

/// The work of these jobs (indices, ascending) on nodes of this kind.
pub(super) fn work(
    workflow: &Workflow,
    classes: &Classes,
    jobs: &[u32],
    node: &NodeShape,
) -> (Work, Sums) {
    let place: HashMap<u32, u32> = jobs.iter().copied().zip(0..).collect();
    let mut known: HashMap<u32, u32> = HashMap::new();
    let mut requests: Vec<Request> = Vec::new();
    let mut unknown_classes = Vec::new();
    let mut local_class = |class: u32| {
        *known.entry(class).or_insert_with(|| {
            let request = bare(&classes.requests[class as usize]);
            unknown_classes.push(request.runtime.is_none());
            let runtime = Some(request.runtime.unwrap_or(ASSUMED_RUNTIME));
            requests.push(Request { runtime, ..request });
            u32::try_from(requests.len() - 1).unwrap_or(u32::MAX)
        })
    };
    let class_of: Vec<u32> =
        jobs.iter().map(|job| local_class(classes.of_job[*job as usize])).collect();
    let (dependents, waits) = dependencies(&workflow.jobs, jobs, &place);
    let header = &workflow.header;
    let work = Work {
        classes: requests,
        class_of,
        dependents,
        waits,
        sort: header.sort_method,
        policy: Policy::of(&header.execution),
        most_steps: most_steps(header),
    };
    let sums = sums(&work, &unknown_classes, node);
    (work, sums)
}

/// Steps at once in a planned allocation: a workflow without schedulers is of mode slurm once it has them.
fn most_steps(header: &Header) -> Option<u32> {
    match header.execution.mode {
        ExecutionMode::Direct | ExecutionMode::Plugin => header.execution.max_parallel_steps,
        _ => Some(header.execution.max_parallel_steps.unwrap_or(USUAL_PARALLEL_STEPS)),
    }
}

type Dependents = Vec<Box<[u32]>>;

fn dependencies(all: &[Job], jobs: &[u32], place: &HashMap<u32, u32>) -> (Dependents, Vec<u32>) {
    let mut dependents: Vec<Vec<u32>> = vec![Vec::new(); jobs.len()];
    let mut waits = vec![0; jobs.len()];
    for (index, job) in (0_u32..).zip(jobs) {
        for before in &all[*job as usize].depends_on {
            let before = u32::try_from(before.index()).unwrap_or(u32::MAX);
            if let Some(before) = place.get(&before) {
                dependents[*before as usize].push(index);
                waits[index as usize] += 1;
            }
        }
    }
    (dependents.into_iter().map(Vec::into_boxed_slice).collect(), waits)
}

fn sums(work: &Work, unknown_classes: &[bool], node: &NodeShape) -> Sums {
    let mut sums = Sums {
        jobs: work.class_of.len(),
        unknown: 0,
        busy: 0.0,
        packed: 0.0,
        longest: Duration::ZERO,
        chain: chain(work),
    };
    for class in &work.class_of {
        let request = &work.classes[*class as usize];
        let runtime = request.runtime.unwrap_or_default();
        let (share, packed) = shares(request, node);
        sums.unknown += usize::from(unknown_classes[*class as usize]);
        sums.busy += share * runtime.as_secs_f64();
        sums.packed += packed * runtime.as_secs_f64();
        sums.longest = sums.longest.max(runtime);
    }
    sums
}

/// Nodes that a job keeps busy, and nodes that it takes beside jobs of its own class.
pub(super) fn shares(request: &Request, node: &NodeShape) -> (f64, f64) {
    if request.is_gang() {
        let nodes = f64::from(request.nodes);
        return (nodes, nodes);
    }
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let part = |needs: u64, has: u64| {
        if needs == 0 {
            (0.0, 0.0)
        } else {
            (needs as f64 / has as f64, 1.0 / (has / needs) as f64)
        }
    };
    let memory = request.memory_on(node.cpus, node.memory);
    let parts = [
        part(whole_cores(request.cpus, node.threads_per_core).into(), node.cpus.into()),
        part(memory, node.memory),
        part(request.gpus.into(), node.gpus.into()),
    ];
    let most = |amounts: [f64; 3]| amounts.into_iter().fold(0.0, f64::max).min(1.0);
    (most(parts.map(|(share, _)| share)), most(parts.map(|(_, packed)| packed)))
}

/// The longest chain, in time.
fn chain(work: &Work) -> Duration {
    let runtime =
        |job: usize| work.classes[work.class_of[job] as usize].runtime.unwrap_or_default();
    let mut waits = work.waits.clone();
    let mut ends: Vec<Duration> = (0..waits.len()).map(runtime).collect();
    let mut ready: Vec<usize> = (0..waits.len()).filter(|job| waits[*job] == 0).collect();
    let mut longest = Duration::ZERO;
    while let Some(job) = ready.pop() {
        let end = ends[job];
        longest = longest.max(end);
        for dependent in &work.dependents[job] {
            let dependent = *dependent as usize;
            ends[dependent] = ends[dependent].max(end.saturating_add(runtime(dependent)));
            waits[dependent] -= 1;
            if waits[dependent] == 0 {
                ready.push(dependent);
            }
        }
    }
    longest
}
