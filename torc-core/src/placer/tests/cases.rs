//! Small cases: up to four nodes in one or two allocations, up to six jobs, and what happens to them.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::super::Policy;
use super::model::{GIB, at, request};
use crate::ids::{AllocationId, NodeId};
use crate::resources::{Allocation, MemoryRequest, NodeInventory, Request};
use crate::traits::NodeState;
use crate::workflow::SortMethod;

/// When cases begin, in seconds.
pub(super) const BEGIN: u64 = 10_000;

/// What jobs take of the runtime that they declared.
#[derive(Clone, Copy, Debug)]
pub(super) enum Takes {
    All,
    /// So many tenths.
    Part(u64),
    /// So many seconds more.
    More(u64),
}

#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) request: Request,
    pub(super) takes: Takes,
    /// Runs from the beginning, if there is room: in which place, and for how many seconds by then.
    pub(super) runs: Option<(usize, u64)>,
    /// Seconds after the beginning at which it comes.
    pub(super) comes: u64,
    /// Is tried again when it has ended.
    pub(super) is_retried: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Site {
    pub(super) scheduler: Option<&'static str>,
    pub(super) labels: &'static [&'static str],
    /// (CPUs, GiB, GPUs, state).
    pub(super) nodes: Vec<(u32, u64, u32, NodeState)>,
    pub(super) threads: u32,
    /// Of the nodes, in turn.
    pub(super) slots: Vec<Option<u32>>,
    /// Seconds after the beginning.
    pub(super) ends: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Happening {
    Comes(usize),
    State(usize, NodeState),
    MoveEnd(usize, Option<u64>),
    Withdraw(usize),
    /// A decision without a reason.
    Nothing,
}

#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) sort: SortMethod,
    pub(super) policy: Policy,
    pub(super) most_steps: Option<u32>,
    pub(super) sites: Vec<Site>,
    pub(super) jobs: Vec<Job>,
    /// By seconds after the beginning.
    pub(super) happenings: Vec<(u64, Happening)>,
    /// Seconds that an allocation is listed after its end.
    pub(super) lingers: u64,
}

fn minutes(range: std::ops::Range<u64>) -> impl Strategy<Value = u64> {
    range.prop_map(|minutes| minutes * 60)
}

fn states() -> impl Strategy<Value = NodeState> {
    prop_oneof![12 => Just(NodeState::Up), 1 => Just(NodeState::Draining), 1 => Just(NodeState::Down)]
}

fn requests() -> impl Strategy<Value = Request> {
    let memory = prop_oneof![
        3 => Just(MemoryRequest::ShareOfCpus),
        1 => (0u64..13).prop_map(|gib| MemoryRequest::Bytes(gib * GIB)),
    ];
    let runtime = prop_oneof![1 => Just(None), 4 => minutes(1..8).prop_map(Some)];
    let cpus = prop_oneof![1 => 1u32..3, 3 => 3u32..5, 1 => 5u32..9];
    let gpus = prop_oneof![9 => Just(0u32), 2 => Just(1), 1 => Just(2)];
    let nodes = prop_oneof![6 => Just(1u32), 3 => Just(2), 1 => Just(3)];
    ((cpus, gpus, nodes), memory, runtime, 0..5, 0u8..16).prop_map(
        |((cpus, gpus, nodes), memory, runtime, priority, kind)| Request {
            priority: priority / 4,
            scheduler: (kind == 1).then(|| Arc::from("a")),
            labels: if kind == 2 { Arc::from([Box::from("x")]) } else { Arc::from([]) },
            memory,
            gpus,
            nodes,
            // Of 3 CPUs each where cores have two: two ranks take four of these.
            ntasks_per_node: if kind >= 8 && cpus % 2 == 0 { 2 } else { 1 },
            runtime: runtime.map(Duration::from_secs),
            ..request(cpus)
        },
    )
}

fn jobs(takes: impl Strategy<Value = Takes> + 'static) -> impl Strategy<Value = Job> {
    let runs = prop::option::of((0usize..8, minutes(0..4)));
    let comes = prop_oneof![2 => Just(0), 1 => 1u64..600];
    (requests(), takes, runs, comes, prop::bool::weighted(0.2)).prop_map(
        |(request, takes, runs, comes, is_retried)| Job { request, takes, runs, comes, is_retried },
    )
}

/// Most nodes have none; where there are any, all nodes of an allocation have as many, or each its own.
pub(super) fn slots() -> impl Strategy<Value = Vec<Option<u32>>> {
    prop_oneof![
        4 => Just(vec![None]),
        1 => (1u32..4).prop_map(|slots| vec![Some(slots)]),
        1 => prop::collection::vec(prop::option::of(1u32..4), 1..4),
    ]
}

/// Up to four nodes in one or two allocations.
fn sites() -> impl Strategy<Value = Vec<Site>> {
    let node = (prop_oneof![Just(4u32), Just(8)], prop_oneof![Just(8u64), Just(16)], 0u32..3);
    let node =
        (node, states()).prop_map(|((cpus, gib, gpus), state)| (cpus, gib, gpus, state)).boxed();
    let site = || (0u8..18, prop::option::of(minutes(4..30)), slots());
    let count = prop_oneof![1 => 1usize..3, 4 => 3usize..5];
    let nodes = count.prop_flat_map(move |count| prop::collection::vec(node.clone(), count));
    (nodes, 0usize..12, site(), site()).prop_map(|(mut first, split, one, other)| {
        let second = first.split_off(split.max(1).min(first.len()));
        let site = |nodes, (kind, ends, slots): (u8, Option<u64>, Vec<Option<u32>>)| Site {
            scheduler: [None, Some("a"), Some("b")][usize::from(kind % 3)],
            labels: if kind == 5 { &["w", "x"] } else { &[] },
            nodes,
            threads: 1 + u32::from(kind == 4),
            slots,
            ends,
        };
        let both = [site(first, one), site(second, other)];
        both.into_iter().filter(|site| !site.nodes.is_empty()).collect()
    })
}

pub(super) fn happenings() -> impl Strategy<Value = Vec<(u64, Happening)>> {
    let end = prop::option::of(minutes(0..20));
    let happening = prop_oneof![
        2 => (0usize..4, states()).prop_map(|(node, state)| Happening::State(node, state)),
        1 => (0usize..2, end).prop_map(|(site, end)| Happening::MoveEnd(site, end)),
        1 => (0usize..6).prop_map(Happening::Withdraw),
        2 => Just(Happening::Nothing),
    ];
    prop::collection::vec((0u64..900, happening), 0..4)
}

pub(super) fn cases(
    takes: impl Strategy<Value = Takes> + 'static,
    happenings: impl Strategy<Value = Vec<(u64, Happening)>>,
) -> impl Strategy<Value = Case> {
    let sort = prop_oneof![
        Just(SortMethod::None),
        Just(SortMethod::GpusRuntimeMemory),
        Just(SortMethod::GpusMemoryRuntime),
    ];
    let policy = prop_oneof![3 => Just(Policy::Pack), 1 => Just(Policy::Spread)];
    let lingers = prop_oneof![Just(0), Just(150)];
    let most_steps = prop_oneof![2 => Just(None), 1 => (1u32..4).prop_map(Some)];
    let count = prop_oneof![1 => 1usize..4, 3 => 4usize..7];
    let jobs = jobs(takes).boxed();
    let jobs = count.prop_flat_map(move |count| prop::collection::vec(jobs.clone(), count));
    (sort, policy, most_steps, sites(), jobs, happenings, lingers).prop_map(
        |(sort, policy, most_steps, sites, jobs, happenings, lingers)| Case {
            sort,
            policy,
            most_steps,
            sites,
            jobs,
            happenings,
            lingers,
        },
    )
}

pub(super) fn any_takes() -> impl Strategy<Value = Takes> {
    prop_oneof![
        3 => Just(Takes::All),
        1 => (0u64..10).prop_map(Takes::Part),
        1 => (1u64..600).prop_map(Takes::More),
    ]
}

impl Site {
    /// The allocation at `index`; its nodes are numbered from `first`.
    pub(super) fn allocation(&self, index: usize, first: usize) -> Allocation {
        let number = |index: usize| u32::try_from(index).expect("few");
        let slots = self.slots.iter().cycle();
        let nodes = self.nodes.iter().zip(slots).zip(first..);
        let nodes = nodes.map(|((&(cpus, gib, gpus, _), slots), index)| {
            let inventory = NodeInventory {
                name: format!("node{index}").into(),
                cores: (0..cpus).collect(),
                threads_per_core: self.threads,
                slots: slots.and_then(NonZeroU32::new),
                memory: gib * GIB,
                gpus: (0..gpus).map(|gpu| gpu.to_string().into()).collect(),
            };
            (NodeId(number(index)), inventory)
        });
        Allocation {
            id: AllocationId(number(index + 1)),
            scheduler: self.scheduler.map(Arc::from),
            labels: self.labels.iter().map(|label| Box::from(*label)).collect(),
            ends_at: self.ends.map(|ends| at(BEGIN + ends)),
            nodes: nodes.collect(),
            inherited: None,
        }
    }
}
