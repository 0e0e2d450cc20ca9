//! A workload in virtual time.
//!
//! Jobs come when they were submitted, start when the placer says so, and end when they end, whatever
//! they declared. Time goes from one of these to the next; it stops besides where a planned start is
//! due, since a job that overran has then changed what is foreseen. All that happens at the same
//! moment happens before the placer decides: first ends, then submissions. CPUs are there from the first
//! submission to the last end; what of that nobody held has its causes.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

use crate::idle::{Demand, IdleMeter, IdleTime};
use crate::ids::{ClassId, JobId};
use crate::placer::{Policy, WholeNodePlacer, feasibility};
use crate::resources::{Allocation, NodeShare, Request};
use crate::time::Timestamp;
use crate::traits::{Delta, Placer, WaitingJob};
use crate::workflow::SortMethod;

/// A job of a workload.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkloadJob {
    /// When it is submitted.
    pub submitted: Timestamp,
    /// What it asks for, with the runtime that it declares.
    pub request: Request,
    /// How long it really takes.
    pub runtime: Duration,
}

/// When and where a job ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheduled {
    /// When it started.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// What it held on each of its nodes, in their order.
    pub shares: Box<[NodeShare]>,
    /// The first start that it was promised, if it was promised any with a time.
    pub promised: Option<Timestamp>,
}

impl Scheduled {
    /// CPUs that it held, over all of its nodes.
    pub fn cpus(&self) -> u64 {
        self.shares.iter().map(|share| share.cores.len() as u64).sum()
    }
}

/// How a workload went.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Replay {
    /// By job; `None`: it could never run on these nodes.
    pub jobs: Vec<Option<Scheduled>>,
    /// Decisions of the placer.
    pub decisions: u64,
    /// What was idle, and why.
    pub idle: IdleTime,
}

/// Runs a workload, in the order of its submissions, on nodes that are there from the beginning.
pub fn replay(
    workload: &[WorkloadJob],
    allocation: &Allocation,
    sort: SortMethod,
    policy: Policy,
) -> Replay {
    let mut clock = Clock::new(workload, allocation, sort, policy);
    let mut last = Timestamp::default();
    while let Some(now) = clock.next() {
        last = now;
        clock.end_until(now);
        clock.submit_until(now);
        clock.decide(now);
    }
    let idle = clock.meter.until(last).idle;
    Replay { jobs: clock.jobs, decisions: clock.decisions, idle }
}

struct Clock<'w> {
    workload: &'w [WorkloadJob],
    allocation: &'w Allocation,
    placer: WholeNodePlacer,
    classes: HashMap<&'w Request, Option<ClassId>>,
    class_count: u32,
    /// The next job to be submitted.
    next_job: usize,
    due: BinaryHeap<Reverse<(Timestamp, JobId)>>,
    /// The planned start that is due next.
    planned_at: Option<Timestamp>,
    /// By job that waits: the first start that it was promised.
    promised: HashMap<JobId, Timestamp>,
    jobs: Vec<Option<Scheduled>>,
    decisions: u64,
    /// Jobs that wait.
    waiting: usize,
    meter: IdleMeter,
}

impl<'w> Clock<'w> {
    fn new(
        workload: &'w [WorkloadJob],
        allocation: &'w Allocation,
        sort: SortMethod,
        policy: Policy,
    ) -> Self {
        let mut placer = WholeNodePlacer::new(sort, policy);
        placer.apply(&[Delta::AllocationAdded(allocation.clone())]);
        let mut meter = IdleMeter::default();
        let begins_at = workload.first().map(|job| job.submitted).unwrap_or_default();
        let nodes = allocation.nodes.iter().map(|(node, has)| (*node, has.cpus()));
        meter.add(begins_at, allocation.id, allocation.ends_at, nodes);
        Self {
            workload,
            allocation,
            placer,
            classes: HashMap::new(),
            class_count: 0,
            next_job: 0,
            due: BinaryHeap::new(),
            planned_at: None,
            promised: HashMap::new(),
            jobs: vec![None; workload.len()],
            decisions: 0,
            waiting: 0,
            meter,
        }
    }

    /// When something happens next. A planned start alone means nothing.
    fn next(&self) -> Option<Timestamp> {
        let submission = self.workload.get(self.next_job).map(|job| job.submitted);
        let end = self.due.peek().map(|Reverse((end, _))| *end);
        let next = submission.into_iter().chain(end).min()?;
        Some(self.planned_at.map_or(next, |planned| planned.min(next)))
    }

    fn end_until(&mut self, now: Timestamp) {
        while let Some(Reverse((end, job))) = self.due.peek().copied()
            && end <= now
        {
            self.due.pop();
            self.placer.apply(&[Delta::StepEnded(job)]);
            let Some(Some(at)) = self.jobs.get(job.index()) else { continue };
            for share in &at.shares {
                self.meter.give_back(end, share.node, share.cores.len() as u64);
            }
        }
    }

    fn submit_until(&mut self, now: Timestamp) {
        while let Some(job) = self.workload.get(self.next_job)
            && job.submitted <= now
        {
            if let Some(class) = self.class(&job.request) {
                let job = JobId::from_index(self.next_job);
                self.placer.apply(&[Delta::JobReady(WaitingJob { job, class })]);
                self.waiting += 1;
            }
            self.next_job += 1;
        }
    }

    fn demand(&self) -> Demand {
        if self.waiting > 0 {
            // The nodes have no end that a job could outlast.
            Demand::Waiting { shortest: Duration::ZERO }
        } else if self.next_job < self.workload.len() {
            Demand::Later
        } else {
            Demand::Over
        }
    }

    /// The class of a request; `None`: it can never run.
    fn class(&mut self, request: &'w Request) -> Option<ClassId> {
        if let Some(known) = self.classes.get(request) {
            return *known;
        }
        let allocations = std::slice::from_ref(self.allocation);
        let class = feasibility(request, allocations, Timestamp::default())
            .is_ok()
            .then_some(ClassId(self.class_count));
        if let Some(class) = class {
            self.class_count += 1;
            self.placer.apply(&[Delta::ClassAdded { class, request: request.clone() }]);
        }
        self.classes.insert(request, class);
        class
    }

    fn decide(&mut self, now: Timestamp) {
        let plan = self.placer.plan(now, usize::MAX);
        self.decisions += 1;
        for start in plan.starts {
            let ended = now + self.workload[start.job.index()].runtime;
            self.due.push(Reverse((ended, start.job)));
            self.waiting -= 1;
            for share in &start.placement.shares {
                self.meter.take(now, share.node, share.cores.len() as u64);
            }
            self.jobs[start.job.index()] = Some(Scheduled {
                started: now,
                ended,
                shares: start.placement.shares.into(),
                promised: self.promised.remove(&start.job),
            });
        }
        self.meter.hold(now, plan.held.iter().flat_map(|(_, nodes)| nodes.iter().copied()));
        self.meter.set_demand(now, self.allocation.id, self.demand());
        let is_known = |at: &Timestamp| *at < Timestamp(u64::MAX);
        for planned in plan.planned.iter().filter(|planned| is_known(&planned.at)) {
            self.promised.entry(planned.job).or_insert(planned.at);
        }
        let due = plan.planned.iter().map(|planned| planned.at);
        self.planned_at = due.filter(|at| *at > now && is_known(at)).min();
    }
}
