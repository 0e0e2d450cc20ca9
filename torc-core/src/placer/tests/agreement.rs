//! Small cases, played in virtual time: at every decision the placer must do what the reference allows
//! and leave nothing that it would do, and promises must be kept.
//!
//! `PROPTEST_CASES` says how many cases, if not the usual number.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use proptest::prelude::*;

use super::super::WholeNodePlacer;
use super::cases::{BEGIN, Case, Happening, Job, Takes, any_takes, cases, happenings};
use super::model::at;
use super::reference::{First, Guide, Promise, Reference, Step};
use super::room::Place;
use crate::ids::{ClassId, JobId};
use crate::resources::{Allocation, Placement, Request};
use crate::time::Timestamp;
use crate::traits::{
    Delta, NotNowReason, Placer, PlannedStart, RunningStep, Snapshot, Start, Waiting, WaitingJob,
};

/// Goes where the placer went, and fails where it must not go.
struct Follow {
    starts: VecDeque<Start>,
    planned: Vec<PlannedStart>,
}

impl Guide for Follow {
    fn place(&mut self, _: &Reference, job: JobId, places: &[Place]) -> Placement {
        let start = self.starts.pop_front();
        let start = start.unwrap_or_else(|| panic!("P4: {job} may start on one of {places:?}"));
        assert_eq!(start.job, job, "the next to start on one of {places:?}");
        let place = start.placement.shares.iter().map(|share| share.node).collect();
        assert!(places.contains(&place), "{job} starts on {place:?}, not on one of {places:?}");
        start.placement
    }

    fn promise(&mut self, offers: Vec<Promise>) -> Promise {
        let is_planned = |offer: &Promise| {
            let as_told =
                PlannedStart { job: offer.job, at: offer.until, nodes: offer.nodes.clone() };
            self.planned == [as_told]
        };
        let chosen = offers.iter().position(is_planned);
        let chosen = chosen.unwrap_or_else(|| panic!("P5: {:?}, not {offers:?}", self.planned));
        self.planned.clear();
        offers[chosen].clone()
    }
}

/// A first promise with a time, until its job starts.
struct Pledge {
    made_at: Timestamp,
    at: Timestamp,
    priority: i32,
}

/// A case under way.
struct Play {
    case: Case,
    world: Reference,
    /// `None`: the reference decides by itself.
    placer: Option<WholeNodePlacer>,
    classes: Vec<Request>,
    due: BTreeSet<(Timestamp, JobId)>,
    to_come: Vec<(Timestamp, Happening)>,
    pledges: BTreeMap<JobId, Pledge>,
    retried: BTreeSet<JobId>,
}

impl Play {
    fn new(case: Case, by_the_placer: bool) -> Self {
        let mut world = Reference::new(case.sort, at(BEGIN));
        world.most_steps = case.most_steps.map(|most| most as usize);
        let placer = by_the_placer
            .then(|| WholeNodePlacer::new(case.sort, case.policy).with_most_steps(case.most_steps));
        let mut play = Self {
            world,
            placer,
            classes: Vec::new(),
            due: BTreeSet::new(),
            to_come: Vec::new(),
            pledges: BTreeMap::new(),
            retried: BTreeSet::new(),
            case,
        };
        play.set_the_scene();
        play
    }

    fn set_the_scene(&mut self) {
        let mut first = 0;
        for (index, site) in self.case.sites.iter().enumerate() {
            let allocation = site.allocation(index, first);
            first += site.nodes.len();
            let nodes = allocation.nodes.iter().zip(&site.nodes);
            self.world.states.extend(nodes.map(|((node, _), (.., state))| (*node, *state)));
            self.world.allocations.push(allocation);
        }
        let (jobs, happenings) = (self.case.jobs.clone(), self.case.happenings.clone());
        for (index, job) in jobs.iter().enumerate() {
            if !self.classes.contains(&job.request) {
                self.classes.push(job.request.clone());
            }
            if !self.runs_from_the_beginning(JobId::from_index(index), job) {
                self.to_come.push((at(BEGIN + job.comes), Happening::Comes(index)));
            }
        }
        self.to_come.extend(happenings.iter().map(|(when, what)| (at(BEGIN + when), *what)));
        self.to_come.sort_by_key(|(when, _)| *when);
        let snapshot = self.snapshot();
        if let Some(placer) = &mut self.placer {
            placer.rebuild(&snapshot);
        }
    }

    fn runs_from_the_beginning(&mut self, id: JobId, job: &Job) -> bool {
        let Some((choice, seconds)) = job.runs else { return false };
        self.world.waiting.insert(id, job.request.clone());
        let places = self.world.places_now(id);
        if places.is_empty() {
            self.world.waiting.remove(&id);
            return false;
        }
        let placement = self.world.lowest_free(&job.request, &places[choice % places.len()]);
        self.world.start(id, placement);
        let step = self.world.running.get_mut(&id).expect("started");
        step.started_at = at(BEGIN - seconds);
        self.expect_end(id);
        true
    }

    fn snapshot(&self) -> Snapshot {
        let running = self.world.running.iter().map(|(job, step)| RunningStep {
            job: *job,
            class: self.class(&step.request),
            placement: step.placement.clone(),
            started_at: step.started_at,
        });
        Snapshot {
            classes: self.classes.clone(),
            allocations: self.world.allocations.clone(),
            node_states: self.world.states.iter().map(|(node, state)| (*node, *state)).collect(),
            running: running.collect(),
            waiting: Vec::new(),
        }
    }

    fn class(&self, request: &Request) -> ClassId {
        let class = self.classes.iter().position(|known| known == request).expect("known");
        ClassId(u32::try_from(class).expect("few"))
    }

    fn tell(&mut self, delta: Delta) {
        if let Some(placer) = &mut self.placer {
            placer.apply(&[delta]);
        }
    }

    /// Notes when a step will really end.
    fn expect_end(&mut self, job: JobId) {
        let step = &self.world.running[&job];
        let declared = step.request.runtime.unwrap_or(Duration::from_secs(400));
        let takes = match self.case.jobs[job.index()].takes {
            Takes::All => declared,
            Takes::Part(tenths) => declared * u32::try_from(tenths).expect("few") / 10,
            Takes::More(seconds) => declared + Duration::from_secs(seconds),
        };
        // Who should have ended before the beginning does so after it.
        let soon = self.world.now + Duration::from_secs(u64::from(takes < Duration::from_secs(60)));
        self.due.insert(((step.started_at + takes).max(soon), job));
    }

    fn run(mut self) {
        self.decide();
        while let Some(now) = self.next() {
            self.world.now = now;
            while let Some(&(end, job)) = self.due.first()
                && end <= now
            {
                self.due.pop_first();
                self.end(job);
            }
            while self.to_come.first().is_some_and(|(when, _)| *when <= now) {
                let (_, happening) = self.to_come.remove(0);
                self.happen(happening);
            }
            self.expire();
            self.decide();
        }
        assert!(self.pledges.is_empty(), "promised and never started: {:?}", self.pledges.keys());
    }

    fn expiry(&self, allocation: &Allocation) -> Option<Timestamp> {
        Some(allocation.ends_at? + Duration::from_secs(self.case.lingers))
    }

    fn next(&self) -> Option<Timestamp> {
        let ends = self.due.first().map(|(end, _)| *end);
        let comes = self.to_come.first().map(|(when, _)| *when);
        let planned = self.world.promise.as_ref().and_then(|promise| promise.at);
        let planned = planned.filter(|at| *at > self.world.now);
        let expires = self.world.allocations.iter().filter_map(|one| self.expiry(one));
        ends.into_iter().chain(comes).chain(planned).chain(expires).min()
    }

    fn end(&mut self, job: JobId) {
        let step = self.world.running.remove(&job).expect("it runs");
        self.tell(Delta::StepEnded(job));
        if self.case.jobs[job.index()].is_retried && self.retried.insert(job) {
            self.submit(job, step.request);
        }
    }

    fn submit(&mut self, job: JobId, request: Request) {
        // The promise passes to the first of those that are alike.
        let waiting = &self.world.waiting;
        self.pledges.retain(|later, _| *later < job || waiting[later] != request);
        let class = self.class(&request);
        self.world.submit(job, request);
        self.tell(Delta::JobReady(WaitingJob { job, class }));
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Nothing => {}
            Happening::Comes(index) => {
                let request = self.case.jobs[index].request.clone();
                self.submit(JobId::from_index(index), request);
            }
            Happening::Withdraw(index) => {
                let job = JobId::from_index(index);
                self.pledges.remove(&job);
                if self.world.waiting.contains_key(&job) {
                    self.world.withdraw(job);
                    self.tell(Delta::JobWithdrawn(job));
                }
            }
            Happening::State(index, state) => {
                let nodes = self.world.allocations.iter().flat_map(|one| &one.nodes);
                let node = nodes.map(|(node, _)| *node).nth(index);
                if let Some(node) = node {
                    self.pledges.clear();
                    self.world.states.insert(node, state);
                    self.tell(Delta::NodeStateChanged { node, state });
                }
            }
            Happening::MoveEnd(index, seconds) => {
                let ends_at = seconds.map(|seconds| self.world.now + Duration::from_secs(seconds));
                if let Some(allocation) = self.world.allocations.get_mut(index) {
                    self.pledges.clear();
                    allocation.ends_at = ends_at;
                    let allocation = allocation.id;
                    self.tell(Delta::AllocationEndMoved { allocation, ends_at });
                }
            }
        }
    }

    /// Removes the allocations whose time is over, with what ran there.
    fn expire(&mut self) {
        let now = self.world.now;
        let is_over = |one: &&Allocation| self.expiry(one).is_some_and(|expiry| expiry <= now);
        let over: Vec<_> = self.world.allocations.iter().filter(is_over).cloned().collect();
        for allocation in over {
            let is_there = |step: &Step| step.placement.allocation == allocation.id;
            let lost = self.world.running.iter().filter(|(_, step)| is_there(step));
            for job in lost.map(|(job, _)| *job).collect::<Vec<_>>() {
                self.due.retain(|(_, due)| *due != job);
                self.end(job);
            }
            let is_held_there = |promise: &Promise| {
                allocation.nodes.iter().any(|(node, _)| promise.nodes.contains(node))
            };
            self.world.promise = self.world.promise.take().filter(|held| !is_held_there(held));
            self.world.allocations.retain(|one| one.id != allocation.id);
            self.tell(Delta::AllocationRemoved(allocation.id));
        }
    }

    fn decide(&mut self) {
        let started = if let Some(placer) = &mut self.placer {
            let plan = placer.plan(self.world.now, usize::MAX);
            let mut follow = Follow { starts: plan.starts.into(), planned: plan.planned };
            let started = self.world.decide(&mut follow);
            assert_eq!(follow.starts, [], "started against the rules");
            assert_eq!(follow.planned, [], "promised against the rules");
            started
        } else {
            self.world.decide(&mut First)
        };
        for job in &started {
            self.expect_end(*job);
        }
        self.check_pledges(&started);
        self.check_causes();
    }

    /// Who was promised a start has started by then, unless a step ran longer than it declared, or a
    /// higher priority came first.
    fn check_pledges(&mut self, started: &[JobId]) {
        let Self { world, pledges, .. } = self;
        for job in started {
            pledges.remove(job);
        }
        let promised = world.promise.as_ref().map(|promise| world.waiting[&promise.job].priority);
        let first =
            started.iter().map(|job| world.running[job].request.priority).max().max(promised);
        pledges.retain(|_, pledge| {
            let overran = world.running.values().filter_map(|step| step.declared_end());
            let overran = overran.filter(|end| *end <= world.now).max() >= Some(pledge.made_at);
            !overran && first.is_none_or(|first| first <= pledge.priority)
        });
        for (job, pledge) in pledges.iter() {
            assert!(world.now < pledge.at, "P5: {job} was promised {}", pledge.at);
        }
        if let Some(promise) = &world.promise
            && let Some(at) = promise.at.filter(|at| *at > world.now)
        {
            let priority = world.waiting[&promise.job].priority;
            let pledge = Pledge { made_at: world.now, at, priority };
            pledges.entry(promise.job).or_insert(pledge);
        }
    }

    /// P3 and P9: the cause that the placer gives for each waiting job is the one there is.
    fn check_causes(&self) {
        let Self { world, placer: Some(placer), .. } = self else { return };
        let boundless = Reference { most_steps: None, ..world.clone() };
        for (job, request) in &world.waiting {
            let promise = world.promise.as_ref();
            let own = promise.filter(|promise| promise.job == *job);
            let cause = placer.explain(*job, world.now).expect("it waits");
            let is_never = !world.allocations.is_empty() && !world.is_possible(request);
            assert_eq!(matches!(cause, Waiting::Never(_)), is_never, "P3: {request:?}");
            let is_right = match &cause {
                Waiting::NotNow(NotNowReason::NoAllocation) => world.allocations.is_empty(),
                Waiting::Never(_) => is_never,
                Waiting::NotNow(NotNowReason::HeldForPlannedStart { job: holder, until }) => {
                    let is_held = promise.is_some_and(|it| it.job == *holder && it.until == *until);
                    is_held && world.has_room_now(*job)
                }
                Waiting::NotNow(NotNowReason::NotEnoughFree { expected_at, .. }) => {
                    let earliest = world.earliest(request).map(|(at, _)| at);
                    request.nodes == 1 && !boundless.has_room_now(*job) && *expected_at == earliest
                }
                Waiting::NotNow(NotNowReason::WaitsForIdleNodes { planned_at, .. }) => {
                    let planned = own.and_then(|promise| promise.at);
                    request.nodes > 1 && !boundless.has_room_now(*job) && *planned_at == planned
                }
                Waiting::NotNow(NotNowReason::TooManySteps { most, expected_at }) => {
                    let expected = own.and_then(|promise| promise.at);
                    let expected = expected.or(world.opens_at(&boundless.places_of(request)));
                    Some(*most as usize) == world.most_steps
                        && !world.has_room_now(*job)
                        && boundless.has_room_now(*job)
                        && *expected_at == expected
                }
                Waiting::NotNow(NotNowReason::Queued) => false,
            };
            assert!(is_right, "P9: {job} ({request:?}) waits because of {cause:?}");
        }
        for job in world.running.keys() {
            assert_eq!(placer.explain(*job, world.now), None, "it runs");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn the_placer_decides_as_the_reference_whatever_happens(
        case in cases(any_takes(), happenings()),
    ) {
        Play::new(case, true).run();
    }

    #[test]
    fn promises_are_kept_when_declared_runtimes_are(case in cases(Just(Takes::All), Just(vec![]))) {
        Play::new(case.clone(), true).run();
        Play::new(case, false).run();
    }
}
