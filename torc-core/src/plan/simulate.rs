//! A stage in virtual time: the placer itself decides, every job takes as long as it declares.
//!
//! Owns: the clock and the dependencies among the jobs of one stage; those on other stages count as
//! met. Does not know: why these nodes. Invariant: the same work on the same nodes gives the same
//! numbers, and an allocation holds its nodes as long as torc would keep it: until nothing is left
//! that it could start, and the last job on it has ended.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use super::sites::allocation;
use crate::ids::{AllocationId, ClassId, JobId};
use crate::placer::{Policy, WholeNodePlacer};
use crate::resources::Request;
use crate::time::Timestamp;
use crate::traits::{Delta, NodeShape, Placer, WaitingJob};
use crate::workflow::SortMethod;

/// The jobs of a stage.
pub(super) struct Work {
    /// What the jobs of each class ask for; every runtime is known.
    pub(super) classes: Vec<Request>,
    /// By job.
    pub(super) class_of: Vec<u32>,
    /// By job: the jobs that wait for it.
    pub(super) dependents: Vec<Box<[u32]>>,
    /// By job: how many jobs it waits for.
    pub(super) waits: Vec<u32>,
    /// The order among jobs of the same priority.
    pub(super) sort: SortMethod,
    /// How single-node jobs are put onto nodes.
    pub(super) policy: Policy,
    /// Steps at once in an allocation, at most.
    pub(super) most_steps: Option<u32>,
}

/// The nodes for it.
#[derive(Clone, Debug)]
pub(super) struct Nodes<'n> {
    pub(super) kind: &'n NodeShape,
    /// Nodes of each allocation.
    pub(super) each: u32,
    /// Allocations at once.
    pub(super) allocations: u32,
    /// How long an allocation lasts, after which as many new ones follow; `None`: long enough.
    pub(super) limit: Option<Duration>,
}

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Run {
    /// Until the last job has ended.
    pub(super) makespan: Duration,
    /// Seconds, summed over the nodes, for which allocations held them.
    pub(super) held: f64,
    /// The same if the nodes were those of one allocation.
    pub(super) held_together: f64,
    /// How many times the allocations were asked for anew, and once.
    pub(super) rounds: u32,
}

/// Runs the work on the nodes.
pub(super) fn run(work: &Work, nodes: &Nodes<'_>) -> Run {
    let mut simulation = Simulation::new(work, nodes);
    loop {
        let started = simulation.start_ready();
        if simulation.end_next() {
            continue;
        }
        let is_stuck = started == 0 && simulation.round_started == simulation.now;
        if simulation.left == 0 || is_stuck {
            return simulation.finish();
        }
        simulation.next_round();
    }
}

struct Simulation<'s> {
    work: &'s Work,
    nodes: &'s Nodes<'s>,
    placer: WholeNodePlacer,
    now: Timestamp,
    due: BinaryHeap<Reverse<(Timestamp, u32)>>,
    waits: Vec<u32>,
    /// Jobs that have not started.
    left: usize,
    round_started: Timestamp,
    last_start: Timestamp,
    /// By allocation: the end of its last job.
    ends: Vec<Timestamp>,
    held: f64,
    held_together: f64,
    rounds: u32,
}

impl<'s> Simulation<'s> {
    fn new(work: &'s Work, nodes: &'s Nodes<'s>) -> Self {
        let mut placer =
            WholeNodePlacer::new(work.sort, work.policy).with_most_steps(work.most_steps);
        for (class, request) in (0..).map(ClassId).zip(&work.classes) {
            placer.apply(&[Delta::ClassAdded { class, request: request.clone() }]);
        }
        for number in 0..nodes.allocations {
            let first = number.saturating_mul(nodes.each);
            let id = AllocationId(number);
            let granted = allocation(id, first, nodes.kind, nodes.each, nodes.limit);
            placer.apply(&[Delta::AllocationAdded(granted)]);
        }
        let mut simulation = Self {
            work,
            nodes,
            placer,
            now: Timestamp::default(),
            due: BinaryHeap::new(),
            waits: work.waits.clone(),
            left: work.class_of.len(),
            round_started: Timestamp::default(),
            last_start: Timestamp::default(),
            ends: vec![Timestamp::default(); nodes.allocations as usize],
            held: 0.0,
            held_together: 0.0,
            rounds: 1,
        };
        for (job, _) in (0_u32..).zip(&work.waits).filter(|(_, waits)| **waits == 0) {
            simulation.add(job);
        }
        simulation
    }

    fn add(&mut self, job: u32) {
        let class = ClassId(self.work.class_of[job as usize]);
        let job = JobId::from_index(job as usize);
        self.placer.apply(&[Delta::JobReady(WaitingJob { job, class })]);
    }

    fn start_ready(&mut self) -> usize {
        let starts = self.placer.plan(self.now, usize::MAX).starts;
        for start in &starts {
            let index = u32::try_from(start.job.index()).unwrap_or(u32::MAX);
            let class = self.work.class_of[index as usize] as usize;
            let end = self.now + self.work.classes[class].runtime.unwrap_or_default();
            self.due.push(Reverse((end, index)));
            let allocation = &mut self.ends[start.placement.allocation.0 as usize];
            *allocation = end.max(*allocation);
            self.last_start = self.now;
        }
        self.left -= starts.len();
        starts.len()
    }

    /// Ends all jobs that are due next; whether there were any.
    fn end_next(&mut self) -> bool {
        let Some(Reverse((due, _))) = self.due.peek() else { return false };
        self.now = *due;
        while let Some(Reverse((due, job))) = self.due.peek().copied()
            && due == self.now
        {
            self.due.pop();
            self.placer.apply(&[Delta::StepEnded(JobId::from_index(job as usize))]);
            let work = self.work;
            for dependent in &work.dependents[job as usize] {
                self.waits[*dependent as usize] -= 1;
                if self.waits[*dependent as usize] == 0 {
                    self.add(*dependent);
                }
            }
        }
        true
    }

    /// The allocations have nothing left that could start in time, and have ended; as many new ones
    /// take their place. The nodes stay the same ones, idle, and get a new end.
    fn next_round(&mut self) {
        self.count_held();
        self.round_started = self.now;
        self.last_start = self.now;
        self.rounds += 1;
        let ends_at = self.nodes.limit.map(|limit| self.now + limit);
        for allocation in (0..self.nodes.allocations).map(AllocationId) {
            self.placer.apply(&[Delta::AllocationEndMoved { allocation, ends_at }]);
        }
        self.ends.fill(self.now);
    }

    fn count_held(&mut self) {
        let mut longest = 0.0_f64;
        for end in &self.ends {
            let end = self.last_start.max(*end);
            let held = end.since(self.round_started).as_secs_f64();
            self.held += held * f64::from(self.nodes.each);
            longest = longest.max(held);
        }
        let nodes = f64::from(self.nodes.each) * f64::from(self.nodes.allocations);
        self.held_together += longest * nodes;
    }

    fn finish(mut self) -> Run {
        self.count_held();
        Run {
            makespan: self.now.since(Timestamp::default()),
            held: self.held,
            held_together: self.held_together,
            rounds: self.rounds,
        }
    }
}
