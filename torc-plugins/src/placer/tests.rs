//! Behind the boundary torc's own placer decides as it does without; and what of a placer that does not work
//! is seen.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use torc_core::ids::{AllocationId, ClassId, JobId, NodeId};
use torc_core::placer::WholeNodePlacer;
use torc_core::resources::{Allocation, MemoryRequest, NodeInventory, Request};
use torc_core::time::Timestamp;
use torc_core::traits::{
    Delta, NodeState, Placer, RunningStep, Snapshot, Start, Waiting, WaitingJob,
};
use torc_core::workflow::SortMethod;
use torc_plugin::messages;

use super::{ExplainRequest, PlanRequest, PluginPlacer, RebuildRequest};
use crate::shelf::Shelf;
use crate::tests::{example, folder, program};

fn settings(value: Value) -> Map<String, Value> {
    value.as_object().cloned().expect("an object")
}

fn wrapped() -> PluginPlacer {
    PluginPlacer::open(&example("wrapped"), &settings(json!({"sort": "none"}))).expect("it opens")
}

fn request(cpus: u32, nodes: u32, minutes: Option<u64>) -> Request {
    Request {
        priority: 0,
        scheduler: None,
        labels: [].into(),
        cpus,
        memory: MemoryRequest::ShareOfCpus,
        gpus: 0,
        nodes,
        ntasks_per_node: 1,
        runtime: minutes.map(|minutes| Duration::from_secs(60 * minutes)),
    }
}

fn allocation(id: u32, first: u32, cpus: &[u32], ends_at: Option<Timestamp>) -> Allocation {
    let node = |(node, cpus): (u32, &u32)| {
        let inventory = NodeInventory {
            name: format!("n{node}").into(),
            cores: (0..*cpus).collect(),
            threads_per_core: 1,
            memory: u64::from(*cpus) << 30,
            gpus: [].into(),
            slots: None,
        };
        (NodeId(node), inventory)
    };
    let nodes = (first..).zip(cpus).map(node).collect();
    let (id, labels) = (AllocationId(id), [].into());
    Allocation { id, scheduler: None, labels, ends_at, nodes, inherited: None }
}

#[derive(Clone, Debug)]
enum Event {
    Submit(Request),
    Withdraw(usize),
    End(usize),
    Pass(u64),
    Plan(usize),
    Allocate(Vec<u32>, Option<u64>),
    Deallocate(usize),
    MoveEnd(usize, Option<u64>),
    SetState(usize, NodeState),
    Explain(usize),
    Rebuild,
}

fn events() -> impl Strategy<Value = Event> {
    let minutes = || prop::option::of(1u64..9);
    let states = prop_oneof![Just(NodeState::Up), Just(NodeState::Draining), Just(NodeState::Down)];
    let cpus = prop::collection::vec(1u32..9, 1..4);
    prop_oneof![
        8 => (1u32..9, prop_oneof![3 => Just(1u32), 1 => 2u32..4], minutes(), 0..2)
            .prop_map(|(cpus, nodes, runtime, priority)| {
                Event::Submit(Request { priority, ..request(cpus, nodes, runtime) })
            }),
        1 => (0usize..8).prop_map(Event::Withdraw),
        6 => (0usize..8).prop_map(Event::End),
        3 => (1u64..240).prop_map(Event::Pass),
        6 => prop_oneof![0usize..3, Just(usize::MAX)].prop_map(Event::Plan),
        2 => (cpus, minutes()).prop_map(|(cpus, minutes)| Event::Allocate(cpus, minutes)),
        1 => (0usize..4).prop_map(Event::Deallocate),
        1 => (0usize..4, minutes()).prop_map(|(which, minutes)| Event::MoveEnd(which, minutes)),
        2 => (0usize..8, states).prop_map(|(which, state)| Event::SetState(which, state)),
        3 => (0usize..8).prop_map(Event::Explain),
        1 => Just(Event::Rebuild),
    ]
}

/// Both placers, and what they were told.
struct Pair {
    own: WholeNodePlacer,
    wrapped: PluginPlacer,
    now: Timestamp,
    known: Snapshot,
    jobs: u32,
    allocations: u32,
    nodes: u32,
}

impl Pair {
    fn new() -> Self {
        let own = WholeNodePlacer::new(SortMethod::None, Default::default());
        let (wrapped, now, known) = (wrapped(), Timestamp(1_000_000), Snapshot::default());
        Self { own, wrapped, now, known, jobs: 0, allocations: 0, nodes: 0 }
    }

    fn tell(&mut self, delta: Delta) {
        self.own.apply(std::slice::from_ref(&delta));
        self.wrapped.apply(&[delta]);
    }

    fn submit(&mut self, request: Request) {
        let known = self.known.classes.iter().position(|known| *known == request);
        let index = known.unwrap_or(self.known.classes.len());
        let class = ClassId(u32::try_from(index).expect("few"));
        if known.is_none() {
            self.known.classes.push(request.clone());
            self.tell(Delta::ClassAdded { class, request });
        }
        self.jobs += 1;
        let waiting = WaitingJob { job: JobId(self.jobs), class };
        self.known.waiting.push(waiting);
        self.tell(Delta::JobReady(waiting));
    }

    fn plan(&mut self, limit: usize) {
        let plan = self.own.plan(self.now, limit);
        assert_eq!(self.wrapped.plan(self.now, limit), plan);
        for Start { job, placement } in plan.starts {
            let place = self.known.waiting.iter().position(|waiting| waiting.job == job);
            let WaitingJob { class, .. } = self.known.waiting.remove(place.expect("it waited"));
            let started_at = self.now;
            self.known.running.push(RunningStep { job, class, placement, started_at });
        }
    }

    fn end(&mut self, index: usize) {
        let RunningStep { job, .. } = self.known.running.remove(index);
        self.tell(Delta::StepEnded(job));
    }

    fn deallocate(&mut self, index: usize) {
        let gone = self.known.allocations.remove(index);
        let is_there = |step: &RunningStep| step.placement.allocation == gone.id;
        while let Some(lost) = self.known.running.iter().position(is_there) {
            self.end(lost);
        }
        self.known
            .node_states
            .retain(|(node, _)| gone.nodes.iter().all(|(known, _)| known != node));
        self.tell(Delta::AllocationRemoved(gone.id));
    }

    fn happen(&mut self, event: Event) {
        let later = |minutes: Option<u64>, now: Timestamp| {
            minutes.map(|minutes| now + Duration::from_secs(60 * minutes))
        };
        let (waiting, running) = (self.known.waiting.len(), self.known.running.len());
        let allocations = self.known.allocations.len();
        match event {
            Event::Submit(request) => self.submit(request),
            Event::Withdraw(which) if waiting > 0 => {
                let WaitingJob { job, .. } = self.known.waiting.remove(which % waiting);
                self.tell(Delta::JobWithdrawn(job));
            }
            Event::End(which) if running > 0 => self.end(which % running),
            Event::Pass(seconds) => self.now = self.now + Duration::from_secs(seconds),
            Event::Plan(limit) => self.plan(limit),
            Event::Allocate(cpus, minutes) => {
                self.allocations += 1;
                let ends_at = later(minutes, self.now);
                let allocation = allocation(self.allocations, self.nodes, &cpus, ends_at);
                self.nodes += u32::try_from(cpus.len()).expect("few");
                self.known.allocations.push(allocation.clone());
                self.tell(Delta::AllocationAdded(allocation));
            }
            Event::Deallocate(which) if allocations > 0 => self.deallocate(which % allocations),
            Event::MoveEnd(which, minutes) if allocations > 0 => {
                let moved = &mut self.known.allocations[which % allocations];
                moved.ends_at = later(minutes, self.now);
                let (allocation, ends_at) = (moved.id, moved.ends_at);
                self.tell(Delta::AllocationEndMoved { allocation, ends_at });
            }
            Event::SetState(which, state) => self.set_state(which, state),
            Event::Explain(which) if waiting > 0 => {
                let job = self.known.waiting[which % waiting].job;
                let told: Option<Waiting> = self.wrapped.explain(job, self.now);
                assert_eq!(told, self.own.explain(job, self.now));
            }
            Event::Rebuild => {
                self.own.rebuild(&self.known);
                self.wrapped.rebuild(&self.known);
            }
            _ => {}
        }
    }

    fn set_state(&mut self, which: usize, state: NodeState) {
        let nodes = self.known.allocations.iter().flat_map(|one| &one.nodes);
        let nodes: Vec<NodeId> = nodes.map(|(node, _)| *node).collect();
        let Some(node) = nodes.get(which % nodes.len().max(1)).copied() else { return };
        let mut states: BTreeMap<_, _> = self.known.node_states.drain(..).collect();
        match state {
            NodeState::Up => states.remove(&node),
            other => states.insert(node, other),
        };
        self.known.node_states = states.into_iter().collect();
        self.tell(Delta::NodeStateChanged { node, state });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn behind_the_boundary_the_same_is_decided(events in prop::collection::vec(events(), 1..60)) {
        let mut pair = Pair::new();
        pair.happen(Event::Allocate(vec![8, 8, 4], None));
        for event in events {
            pair.happen(event);
        }
        pair.plan(usize::MAX);
        pair.now = pair.now + Duration::from_secs(60);
        pair.plan(usize::MAX);
    }
}

#[test]
fn what_is_asked_is_what_authors_read() {
    let deltas = || vec![Delta::StepEnded(JobId(7))];
    let (job, now) = (JobId(3), Timestamp(5));
    let said = serde_json::to_vec(&PlanRequest { deltas: deltas(), now, limit: 9 }).expect("JSON");
    let heard: messages::PlanRequest = serde_json::from_slice(&said).expect("it is understood");
    assert_eq!((heard.deltas.len(), heard.now, heard.limit), (1, 5, 9));
    let said = serde_json::to_vec(&ExplainRequest { deltas: deltas(), job, now }).expect("JSON");
    let heard: messages::Explain = serde_json::from_slice(&said).expect("it is understood");
    assert_eq!((heard.deltas.len(), heard.job, heard.now), (1, 3, 5));
    let snapshot = Snapshot { classes: vec![request(1, 1, None)], ..Snapshot::default() };
    let said = serde_json::to_vec(&RebuildRequest { snapshot: &snapshot }).expect("JSON");
    let heard: messages::Rebuild = serde_json::from_slice(&said).expect("it is understood");
    assert_eq!(heard.snapshot.classes[0].cpus, 1);
}

/// A placer with a fault, with a node of two CPUs and two jobs of one.
fn faulty(fault: &str) -> PluginPlacer {
    let settings = settings(json!({ "fault": fault }));
    let opened = PluginPlacer::open(&example("faulty_placer"), &settings).expect("it opens");
    let mut placer = opened.with_patience(Duration::from_secs(20));
    tell(&mut placer);
    placer
}

fn tell(placer: &mut PluginPlacer) {
    let (class, request) = (ClassId(0), request(1, 1, None));
    let ready = |job| Delta::JobReady(WaitingJob { job: JobId(job), class });
    placer.apply(&[Delta::AllocationAdded(allocation(1, 0, &[2], None))]);
    placer.apply(&[Delta::ClassAdded { class, request }, ready(1), ready(2)]);
}

const NOW: Timestamp = Timestamp(1_000);

/// How its plan fails; it is not asked again afterwards.
#[track_caller]
fn check_failure(mut placer: PluginPlacer, expected: &str) {
    let plan = placer.plan(NOW, 9);
    let words = plan.failure.clone().expect("it fails");
    assert!(words.starts_with(expected), "{words}");
    assert_eq!(plan.starts, []);
    assert_eq!(placer.plan(NOW, 9), plan, "nobody knows what it still knows");
    assert_eq!(placer.explain(JobId(1), NOW), None);
}

#[test]
fn each_way_to_fail_is_told_in_the_next_plan() {
    let works = faulty("").plan(NOW, 9);
    assert_eq!((works.starts.len(), works.failure), (2, None));
    check_failure(faulty("panics"), "plan: it panicked: a bug in a plan");
    check_failure(faulty("garbage"), "plan: its answer cannot be understood: ");
    check_failure(faulty("unsupported"), "plan: it does not know this method");
    check_failure(faulty("gives up"), "plan: the licence has ended; it is not called any more");
    let hangs = faulty("hangs").with_patience(Duration::from_millis(100));
    check_failure(hangs, "plan: it did not return within 100 ms; it is not called any more");
    let explains = faulty("cannot explain");
    assert_eq!(explains.explain(JobId(1), NOW), None);
    check_failure(explains, "explain: it does not know this method");
    let mut rebuilds = faulty("cannot rebuild");
    rebuilds.rebuild(&Snapshot::default());
    check_failure(rebuilds, "rebuild: it panicked: a bug in a rebuild");
    let settings = settings(json!({ "fault": "does not open" }));
    let refused = PluginPlacer::open(&example("faulty_placer"), &settings).err();
    let words = refused.expect("it does not open").to_string();
    assert_eq!(words, "plugin `faulty_placer`: open: no such partition");
}

/// A placer that is a program, which plans nothing.
fn told(plan: &str) -> (tempfile::TempDir, PluginPlacer) {
    let (folder, trust) = folder();
    let shelf = Shelf::new(Vec::new(), trust, Default::default());
    let text = format!(
        r#"
import json, os, sys
for line in sys.stdin:
    said = json.loads(line)
    answer = {{"op": said["op"], "status": "ok"}}
    if said["method"] == "describe":
        answer["result"] = {{"name": "told", "version": "1", "abi": [1, 0], "interfaces": ["torc.placer/1"]}}
    elif said["method"] == "plan":
        {plan}
    print(json.dumps(answer), flush=True)
    if said["method"] == "explain":
        os._exit(3)
"#
    );
    let plugin = shelf.take(&program(folder.path(), &text)).expect("it is a plugin");
    let mut placer = PluginPlacer::open(&plugin, &Map::new()).expect("it opens");
    tell(&mut placer);
    (folder, placer)
}

#[test]
fn a_program_that_is_gone_is_not_started_again_without_what_it_knew() {
    let (_folder, placer) = told("os._exit(7)");
    check_failure(placer, "plan: its process is gone: it exited with code 7");
    let (_folder, mut placer) = told(r#"answer["result"] = {}"#);
    assert_eq!(placer.plan(NOW, 9), torc_core::traits::Plan::default());
    // It ends after this answer, between two calls.
    let _ = placer.explain(JobId(1), NOW);
    check_failure_soon(placer);
}

/// When and by what its end is seen is the system's business; from then on there is no plan.
fn check_failure_soon(mut placer: PluginPlacer) {
    let began = std::time::Instant::now();
    loop {
        if let Some(words) = placer.plan(NOW, 9).failure {
            assert!(words.contains(": its process is gone: "), "{words}");
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "its end is never seen");
    }
}
