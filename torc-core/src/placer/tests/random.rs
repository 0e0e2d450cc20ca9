//! A random walk over everything that can happen, checked after every step by the model, and the
//! properties of single decisions: the same input gives the same plan, and a rebuilt placer decides
//! as one that was told everything.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::super::{Policy, WholeNodePlacer, feasibility};
use super::cases::slots;
use super::model::{GIB, Model, request};
use crate::ids::{AllocationId, JobId, NodeId};
use crate::resources::{MemoryRequest, Request};
use crate::time::Timestamp;
use crate::traits::{NodeState, Placer, Waiting};
use crate::workflow::SortMethod;

#[derive(Clone, Debug)]
enum Event {
    Submit {
        request: Request,
        count: usize,
    },
    Withdraw(usize),
    End(usize),
    Pass(u64),
    Plan(usize),
    Allocate {
        nodes: Vec<(u32, u64, u32)>,
        slots: Vec<Option<u32>>,
        walltime: Option<u64>,
        kind: u8,
    },
    Deallocate(usize),
    MoveEnd(usize, Option<u64>),
    SetState(usize, NodeState),
    Restart,
}

fn requests() -> impl Strategy<Value = Request> {
    let runtime = prop_oneof![1 => Just(None), 3 => (1u64..8).prop_map(|n| Some(n * 60))];
    let memory = prop_oneof![
        2 => Just(MemoryRequest::ShareOfCpus),
        1 => (0u64..10).prop_map(|gib| MemoryRequest::Bytes(gib * GIB)),
    ];
    let shape = (1u32..9, 0u32..3, prop_oneof![3 => Just(1u32), 1 => 2u32..4]);
    (shape, memory, runtime, 0..3, 0u8..8).prop_map(
        |((cpus, gpus, nodes), memory, runtime, priority, kind)| Request {
            priority: priority / 2,
            gpus: gpus.saturating_sub(1),
            nodes,
            memory,
            runtime: runtime.map(Duration::from_secs),
            scheduler: (kind == 1).then(|| Arc::from("a")),
            labels: if kind == 2 { Arc::from([Box::from("x")]) } else { Arc::from([]) },
            ..request(cpus)
        },
    )
}

fn states() -> impl Strategy<Value = NodeState> {
    prop_oneof![3 => Just(NodeState::Up), 1 => Just(NodeState::Draining), 1 => Just(NodeState::Down)]
}

fn allocations() -> impl Strategy<Value = Event> {
    let node = (prop_oneof![Just(4u32), Just(8)], prop_oneof![Just(8u64), Just(16)], 0u32..3);
    let walltime = prop_oneof![Just(None), (1u64..20).prop_map(|n| Some(n * 60))];
    (prop::collection::vec(node, 1..5), slots(), walltime, 0u8..6)
        .prop_map(|(nodes, slots, walltime, kind)| Event::Allocate { nodes, slots, walltime, kind })
}

fn events() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (requests(), 1usize..4).prop_map(|(request, count)| Event::Submit { request, count }),
        1 => (0usize..8).prop_map(Event::Withdraw),
        8 => (0usize..8).prop_map(Event::End),
        5 => (1u64..240).prop_map(Event::Pass),
        2 => (0usize..3).prop_map(Event::Plan),
        2 => allocations(),
        1 => (0usize..4).prop_map(Event::Deallocate),
        1 => (0usize..4, prop::option::of(1u64..20)).prop_map(|(n, end)| Event::MoveEnd(n, end)),
        2 => (0usize..8, states()).prop_map(|(node, state)| Event::SetState(node, state)),
        2 => Just(Event::Restart),
    ]
}

fn sorts() -> impl Strategy<Value = SortMethod> {
    prop_oneof![
        Just(SortMethod::GpusRuntimeMemory),
        Just(SortMethod::GpusMemoryRuntime),
        Just(SortMethod::None),
    ]
}

fn policies() -> impl Strategy<Value = Policy> {
    prop_oneof![3 => Just(Policy::Pack), 1 => Just(Policy::Spread)]
}

/// One of several, or none when there are none.
fn pick<T>(items: impl Iterator<Item = T>, index: usize) -> Option<T> {
    let mut items: Vec<_> = items.collect();
    (!items.is_empty()).then(|| items.swap_remove(index % items.len()))
}

impl Model {
    fn happen(&mut self, event: Event) {
        let later = |model: &Self, minutes: u64| model.now + Duration::from_secs(minutes * 60);
        match event {
            Event::Submit { request, count } => drop(self.submit_many(count, &request)),
            Event::Withdraw(index) => {
                if let Some(job) = pick(self.waiting.keys().copied(), index) {
                    self.withdraw(job);
                }
            }
            Event::End(index) => {
                if let Some(job) = pick(self.running.keys().copied(), index) {
                    self.end(job);
                }
            }
            Event::Pass(seconds) => self.now = self.now + Duration::from_secs(seconds),
            Event::Plan(limit) => drop(self.plan_at_most(limit)),
            Event::Allocate { nodes, slots, walltime, kind } => {
                let ends_at = walltime.map(|seconds| self.now + Duration::from_secs(seconds));
                let scheduler = [None, Some("a"), Some("b")][usize::from(kind) % 3];
                let labels: &[&str] = if kind == 5 { &["w", "x"] } else { &[] };
                self.threads_per_core = 1 + u32::from(kind % 2);
                self.slots = slots;
                self.allocate_for(scheduler, labels, &nodes, ends_at);
            }
            Event::Deallocate(index) => {
                if let Some(id) = pick(self.allocations.keys().copied(), index) {
                    self.deallocate(id);
                    let on_it = |job: &JobId| self.running[job].placement.allocation == id;
                    let lost: Vec<_> = self.running.keys().copied().filter(on_it).collect();
                    for job in lost.into_iter().skip(index % 2) {
                        self.end(job);
                    }
                }
            }
            Event::MoveEnd(index, minutes) => {
                if let Some(id) = pick(self.allocations.keys().copied(), index) {
                    let ends_at = minutes.map(|minutes| later(self, minutes));
                    self.move_end(id, ends_at);
                }
            }
            Event::SetState(index, state) => {
                let nodes = self.allocations.values().flat_map(|allocation| &allocation.nodes);
                if let Some(node) = pick(nodes.map(|(node, _)| *node), index) {
                    self.set_state(node, state);
                }
            }
            Event::Restart => self.check_rebuild(),
        }
    }

    /// A placer that is rebuilt from a snapshot decides as this one does, once this one has
    /// forgotten whom it promised a start.
    fn check_rebuild(&mut self) {
        let snapshot = self.snapshot();
        let mut rebuilt = WholeNodePlacer::new(self.placer.queue.sort(), self.placer.policy);
        rebuilt.rebuild(&snapshot);
        self.placer.set_promise(None);
        let told = self.placer.plan(self.now, usize::MAX);
        assert_eq!(told, rebuilt.plan(self.now, usize::MAX));
        for job in self.waiting.keys().filter(|job| told.starts.iter().all(|s| s.job != **job)) {
            assert_eq!(self.placer.explain(*job, self.now), rebuilt.explain(*job, self.now));
        }
        self.take(told);
    }

    /// P9: a cause for every waiting job, and for no other.
    fn check_explanations(&self) {
        let allocations: Vec<_> = self.allocations.values().cloned().collect();
        for (job, class) in &self.waiting {
            let never = feasibility(&self.classes[class.0 as usize], &allocations, self.now).err();
            match self.why(*job) {
                Waiting::Never(reason) => assert_eq!(Some(reason), never),
                Waiting::NotNow(_) => assert!(never.is_none() || allocations.is_empty()),
            }
        }
        assert!(self.running.keys().all(|job| self.placer.explain(*job, self.now).is_none()));
    }
}

proptest! {
    #[test]
    fn every_rule_holds_after_every_event(
        sort in sorts(),
        policy in policies(),
        slots in slots(),
        events in prop::collection::vec(events(), 1..60),
    ) {
        let mut model = Model::new(sort, policy).with_slots(slots);
        model.allocate(&[(8, 16, 0), (8, 16, 2), (4, 8, 0)], None);
        for event in events {
            let is_partial = matches!(event, Event::Plan(_));
            model.happen(event);
            if !is_partial {
                model.plan();
                model.check_explanations();
            }
        }
    }

    #[test]
    fn the_same_input_gives_the_same_plan(
        sort in sorts(),
        policy in policies(),
        slots in slots(),
        requests in prop::collection::vec(requests(), 1..20),
    ) {
        let plan = || {
            let mut model = Model::new(sort, policy).with_slots(slots.clone());
            model.allocate(&[(8, 16, 2), (4, 8, 0), (8, 16, 0), (8, 16, 0)], None);
            for request in &requests {
                model.submit(request);
            }
            model.placer.plan(model.now, usize::MAX)
        };
        prop_assert_eq!(plan(), plan());
    }

    #[test]
    fn what_is_feasible_starts_on_empty_nodes(
        request in requests(),
        nodes in prop::collection::vec((1u32..10, 1u64..12, 0u32..3), 1..5),
        slots in slots(),
        walltime in prop::option::of(1u64..600),
    ) {
        let mut model = Model::new(SortMethod::None, Policy::Pack).with_slots(slots);
        let ends_at = walltime.map(|seconds| model.now + Duration::from_secs(seconds));
        model.allocate(&nodes, ends_at);
        let job = model.submit(&request);
        let allocations: Vec<_> = model.allocations.values().cloned().collect();
        match feasibility(&request, &allocations, model.now) {
            Ok(()) => prop_assert_eq!(model.plan(), [job]),
            Err(reason) => {
                prop_assert_eq!(model.plan(), []);
                prop_assert_eq!(model.why(job), Waiting::Never(reason));
                prop_assert_eq!(&model.planned, &None);
            }
        }
    }
}

#[test]
fn nonsense_is_ignored() {
    use crate::ids::ClassId;
    use crate::traits::{Delta, WaitingJob};
    let mut model = Model::new(SortMethod::None, Policy::Pack);
    model.allocate(&[(2, 4, 0)], None);
    let job = model.submit(&request(2));
    model.plan();
    model.placer.apply(&[
        Delta::StepEnded(JobId(99)),
        Delta::JobWithdrawn(JobId(99)),
        Delta::JobWithdrawn(job),
        Delta::JobReady(WaitingJob { job, class: ClassId(0) }),
        Delta::JobReady(WaitingJob { job: JobId(7), class: ClassId(7) }),
        Delta::ClassAdded { class: ClassId(5), request: request(1) },
        Delta::AllocationRemoved(AllocationId(9)),
        Delta::AllocationEndMoved { allocation: AllocationId(9), ends_at: None },
        Delta::NodeStateChanged { node: NodeId(9), state: NodeState::Down },
        Delta::AllocationAdded(model.allocations[&AllocationId(1)].clone()),
    ]);
    let next = model.submit(&request(1));
    assert_eq!(model.plan(), [], "the node is full, and there is only one");
    model.end(job);
    model.now = Timestamp(0);
    assert_eq!(model.plan(), [next], "time that goes back does no harm");
}
