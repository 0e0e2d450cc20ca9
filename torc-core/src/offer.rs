//! What a scheduler offers: the allocations that it would give, as far as that is known before one is
//! asked for.
//!
//! Owns: what the settings of a scheduler leave of its nodes and of its time. Does not know: who asks,
//! and what is granted in the end. Invariant: what fits no offer could start in no allocation that is
//! like it, by the placer's own rules; what is not known is no reason to say so.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::ids::{AllocationId, NodeId};
use crate::placer::feasibility;
use crate::resources::{Allocation, MemoryRequest, NodeInventory, Request, whole_cores};
use crate::spec::units::written_memory;
use crate::spec::{SharedCpus, SlurmSettings};
use crate::time::Timestamp;
use crate::traits::NodeShape;
use crate::workflow::{Header, SchedulerSettings};

/// What an allocation of a scheduler could be.
#[derive(Clone, Debug)]
pub struct Offer {
    kinds: Vec<Allocation>,
    limits: Vec<Limit>,
}

/// What the settings of a scheduler withhold of what it could give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Nothing may start there.
    NoTime {
        /// How long an allocation lasts.
        walltime: Duration,
        /// How long before its end jobs are asked to end.
        margin: Duration,
    },
    /// Bytes of memory on each node.
    Memory(u64),
    /// CPUs on each node, which is shared.
    Cpus(u32),
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTime { walltime, margin } => write!(
                f,
                "its walltime is {} s, and jobs are asked to end {} s before the end, so nothing may \
                 start there; raise `walltime`",
                walltime.as_secs(),
                margin.as_secs()
            ),
            Self::Memory(bytes) => write!(
                f,
                "it asks for no more than {} of memory on each node (`mem`)",
                written_memory(*bytes)
            ),
            Self::Cpus(cpus) => {
                write!(f, "it shares its nodes, and asks for no more than {cpus} CPUs of each")
            }
        }
    }
}

impl Offer {
    /// That of a scheduler which has these kinds of node; none: its nodes are not known, and they are
    /// taken to have whatever some job asks for.
    pub fn of(header: &Header, settings: &SchedulerSettings, shapes: &[NodeShape]) -> Self {
        let needs = &header.requirements;
        let widest = needs.iter().map(|needs| needs.nodes).max().unwrap_or(1);
        let mut nodes = settings.nodes().min(widest.max(1));
        let mut kinds = shapes.to_vec();
        if shapes.is_empty() {
            kinds.push(ample(header));
        } else {
            let all = shapes.iter().map(|shape| shape.count).fold(0, u32::saturating_add);
            nodes = nodes.min(all);
        }
        let limits = limits(header, settings, &kinds);
        let slots = header.slots_under(&settings.name);
        let kinds = kinds.iter().flat_map(|shape| {
            slots.iter().map(|slots| allocation(header, settings, (shape, *slots), nodes))
        });
        Self { kinds: kinds.collect(), limits }
    }

    /// An allocation of each kind, and of each way in which actions ask for it, at the time zero.
    pub fn kinds(&self) -> &[Allocation] {
        &self.kinds
    }

    /// What its settings withhold.
    pub fn limits(&self) -> &[Limit] {
        &self.limits
    }

    /// Whether a job with this request could run in an allocation of it.
    pub fn fits(&self, request: &Request) -> bool {
        feasibility(request, &self.kinds, Timestamp::default()).is_ok()
    }
}

/// An allocation of a scheduler on so many nodes of this shape and with so many slots, at the time zero. It
/// has ended by then if torc would ask what runs there to end before it began.
pub(crate) fn allocation(
    header: &Header,
    settings: &SchedulerSettings,
    (shape, slots): (&NodeShape, Option<NonZeroU32>),
    nodes: u32,
) -> Allocation {
    let walltime = settings.walltime();
    let lasts = walltime > stop_margin(header, settings);
    let shape = left_of(settings, shape);
    let named = (1..=nodes)
        .map(|number| NodeInventory { slots, ..shape.inventory(&format!("node{number}")) });
    Allocation {
        id: AllocationId(1),
        scheduler: Some(settings.name.clone()),
        labels: settings.labels(),
        ends_at: Some(Timestamp::default() + if lasts { walltime } else { Duration::ZERO }),
        nodes: (0..).map(NodeId).zip(named).collect(),
        inherited: None,
    }
}

fn stop_margin(header: &Header, settings: &SchedulerSettings) -> Duration {
    header.execution.stop_margin(settings.kind == "slurm" && header.is_slurm_mode())
}

/// What the settings of a scheduler leave of such a node.
fn left_of(settings: &SchedulerSettings, shape: &NodeShape) -> NodeShape {
    let Some(slurm) = SlurmSettings::of(settings) else { return shape.clone() };
    let cpus = match slurm.cpus {
        Some(SharedCpus::Stated(cpus)) => whole_cores(cpus, shape.threads_per_core),
        // A partition may give more by itself.
        Some(SharedCpus::Unstated) | None => u32::MAX,
    };
    NodeShape {
        cpus: cpus.min(shape.cpus),
        memory: slurm.memory.unwrap_or(u64::MAX).min(shape.memory),
        ..shape.clone()
    }
}

fn limits(header: &Header, settings: &SchedulerSettings, shapes: &[NodeShape]) -> Vec<Limit> {
    let (walltime, margin) = (settings.walltime(), stop_margin(header, settings));
    let mut found = Vec::new();
    if walltime <= margin {
        found.push(Limit::NoTime { walltime, margin });
    }
    let left = || shapes.iter().map(|shape| (shape, left_of(settings, shape)));
    if left().any(|(shape, left)| left.memory < shape.memory) {
        found.extend(left().map(|(_, left)| left.memory).max().map(Limit::Memory));
    }
    if left().any(|(shape, left)| left.cpus < shape.cpus) {
        found.extend(left().map(|(_, left)| left.cpus).max().map(Limit::Cpus));
    }
    found
}

/// A node that has whatever some job asks for.
fn ample(header: &Header) -> NodeShape {
    let needs = || header.requirements.iter();
    let memory = needs().map(|needs| match needs.memory {
        MemoryRequest::Bytes(bytes) => bytes,
        MemoryRequest::ShareOfCpus => 0,
    });
    NodeShape {
        cpus: needs().map(|needs| needs.cpus).max().unwrap_or(1),
        threads_per_core: 1,
        memory: memory.max().unwrap_or_default(),
        gpus: needs().map(|needs| needs.gpus).max().unwrap_or_default(),
        count: u32::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Context, Sources, load};
    use crate::traits::NeverReason;
    use crate::workflow::{ActionKind, ExecutionMode, Workflow};

    struct NoSources;

    impl Sources for NoSources {
        fn read(&self, _: &str) -> Result<Vec<u8>, String> {
            Err("no such file".to_owned())
        }
    }

    /// A workflow of one job, whose scheduler has these settings beside its name.
    fn workflow(settings: &str, needs: &str) -> Workflow {
        let spec = format!(
            "name: w
slurm_schedulers: [{{name: s, account: a, {settings}}}]
actions: [{{trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: s}}]
resource_requirements: [{{name: r, {needs}}}]
jobs: [{{name: a, command: x, resource_requirements: r}}]"
        );
        let context = Context { user: None, sources: &NoSources };
        load(spec.as_bytes(), None, &context).expect("the spec is valid").workflow
    }

    fn node(threads_per_core: u32) -> NodeShape {
        NodeShape { cpus: 8, threads_per_core, memory: 32 << 30, gpus: 0, count: 4 }
    }

    /// Whether the job fits, where the nodes are known and where they are not.
    #[track_caller]
    fn check(settings: &str, needs: &str, expected: [bool; 2]) {
        let workflow = workflow(settings, needs);
        let fits = |shapes: &[NodeShape]| {
            let offer = Offer::of(&workflow.header, &workflow.header.schedulers[0], shapes);
            offer.fits(&workflow.request(&workflow.jobs[0]))
        };
        assert_eq!([fits(&[node(1)]), fits(&[])], expected, "{settings}; {needs}");
    }

    #[test]
    fn nodes_have_what_is_asked_for_and_no_more() {
        check("", "num_cpus: 8, memory: 32g", [true; 2]);
        check("", "num_cpus: 9", [false, true]);
        check("", "memory: 33g", [false, true]);
        check("", "num_gpus: 1", [false, true]);
        check("mem: 1g", "memory: 1g", [true; 2]);
        check("mem: 1g", "memory: 2g", [false; 2]);
        check("mem: 64g", "memory: 33g", [false, true]);
        check("nodes: 2", "num_nodes: 2", [true; 2]);
        check("nodes: 2", "num_nodes: 3", [false; 2]);
        check("nodes: 8", "num_nodes: 5", [false, true]);
    }

    #[test]
    fn shared_nodes_give_the_cpus_that_are_asked_for() {
        check("exclusive: false, extra: -c4", "num_cpus: 4", [true; 2]);
        check("exclusive: false, extra: -c4", "num_cpus: 5", [false; 2]);
        check("exclusive: false", "num_cpus: 4", [true; 2]);
        check("extra: -c4", "num_cpus: 8", [false; 2]);
        check("exclusive: true, extra: -c4", "num_cpus: 8", [true; 2]);
        let workflow = workflow("extra: -c3", "num_cpus: 4");
        let offer = |shape| Offer::of(&workflow.header, &workflow.header.schedulers[0], &[shape]);
        assert!(!offer(node(1)).fits(&workflow.request(&workflow.jobs[0])));
        assert!(
            offer(node(2)).fits(&workflow.request(&workflow.jobs[0])),
            "Slurm gives whole cores"
        );
    }

    #[test]
    fn what_takes_a_slot_may_be_larger_than_a_node() {
        #[track_caller]
        fn check(mode: &str, most: &[&str], needs: &str, expected: bool) {
            let mut made = workflow("nodes: 2, mem: 1g", needs);
            let modes = [ExecutionMode::Direct, ExecutionMode::Slurm];
            made.header.execution.mode = modes[usize::from(mode == "slurm")];
            let asking = made.header.actions[0].clone();
            made.header.actions = most
                .iter()
                .map(|most| {
                    let mut action = asking.clone();
                    if let ActionKind::ScheduleNodes { max_parallel_jobs, .. } = &mut action.kind {
                        *max_parallel_jobs = most.parse().ok();
                    }
                    action
                })
                .collect();
            let offer = Offer::of(&made.header, &made.header.schedulers[0], &[node(1)]);
            let fits = offer.fits(&made.request(&made.jobs[0]));
            assert_eq!(fits, expected, "{mode} {most:?} {needs}");
        }
        check("direct", &["4"], "num_cpus: 9, memory: 33g", true);
        check("direct", &["", "4"], "num_cpus: 9, memory: 33g", true);
        check("direct", &["", "4"], "num_cpus: 8, memory: 1g, num_nodes: 2", true);
        check("direct", &[""], "num_cpus: 9", false);
        check("direct", &[], "num_cpus: 9", false);
        check("direct", &["4"], "num_gpus: 1", false);
        check("direct", &["4"], "memory: 2g, num_nodes: 2", false);
        check("slurm", &["4"], "num_cpus: 9", false);
    }

    #[test]
    fn nothing_starts_where_it_would_be_asked_to_end_at_once() {
        check("walltime: '00:03:01'", "runtime: PT1M", [true; 2]);
        check("walltime: '00:03:00'", "runtime: PT1M", [false; 2]);
        check("walltime: '01:00:00'", "runtime: PT1H2M", [true; 2]);
        check("walltime: '01:00:00'", "runtime: PT1H3M", [false; 2]);
    }

    #[test]
    fn what_settings_withhold_is_told() {
        let check = |settings: &str, expected: &[&str]| {
            let workflow = workflow(settings, "memory: 2g");
            let settings = &workflow.header.schedulers[0];
            let offer = Offer::of(&workflow.header, settings, &[node(1)]);
            let limits: Vec<String> = offer.limits().iter().map(ToString::to_string).collect();
            assert_eq!(limits, expected);
        };
        check("mem: 32g", &[]);
        check("mem: 1g", &["it asks for no more than 1g of memory on each node (`mem`)"]);
        check("extra: -c4", &["it shares its nodes, and asks for no more than 4 CPUs of each"]);
        check(
            "walltime: '00:02:00'",
            &[
                "its walltime is 120 s, and jobs are asked to end 180 s before the end, so nothing may \
               start there; raise `walltime`",
            ],
        );
    }

    #[test]
    fn refusals_have_numbers() {
        let check = |settings: &str, expected: NeverReason| {
            let workflow = workflow(settings, "num_cpus: 4, memory: 2g");
            let settings = &workflow.header.schedulers[0];
            let offer = Offer::of(&workflow.header, settings, &[node(1)]);
            let refusal = feasibility(
                &workflow.request(&workflow.jobs[0]),
                offer.kinds(),
                Timestamp::default(),
            );
            assert_eq!(refusal, Err(expected));
        };
        check("mem: 1g", NeverReason::Memory { needs: 2 << 30, largest: 1 << 30 });
        check("extra: -c2", NeverReason::Cpus { needs: 4, largest: 2 });
        check(
            "walltime: '00:01:00'",
            NeverReason::Walltime { runtime_ms: 3_600_000, longest_ms: 0 },
        );
    }
}
