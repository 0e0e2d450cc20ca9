//! A placer that decides by trying everything: every waiting job, every set of nodes, every time at
//! which a step is expected to end.
//!
//! Owns: the order of the queue, P4 and P5 in its own words. Does not know: any index, cache or formula
//! of the real placer; it shares with it the contract's types and nothing else. Invariant: it offers
//! all that may be decided, so that what it does not offer is against a rule. Only which of several sets
//! of nodes a job gets (P7) is left to a [`Guide`].

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::room::{Moment, Place, covers, need, whole};
use crate::ids::{JobId, NodeId};
use crate::resources::{Allocation, MemoryRequest, Placement, Request};
use crate::time::Timestamp;
use crate::traits::NodeState;
use crate::workflow::SortMethod;

const END_OF_TIME: Timestamp = Timestamp(u64::MAX);

/// A started job.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) request: Request,
    pub(super) placement: Placement,
    pub(super) started_at: Timestamp,
}

impl Step {
    /// When it ends if it keeps what it declared; `None` without a declared runtime.
    pub(super) fn declared_end(&self) -> Option<Timestamp> {
        self.request.runtime.map(|runtime| self.started_at + runtime)
    }
}

/// The one planned start.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Promise {
    pub(super) job: JobId,
    /// `None`: nodes are held without a time.
    pub(super) at: Option<Timestamp>,
    /// What is known to be the latest.
    pub(super) until: Timestamp,
    pub(super) nodes: Place,
}

/// Chooses where the rules leave a choice.
pub(super) trait Guide {
    /// What a job gets that starts now in one of these places.
    fn place(&mut self, world: &Reference, job: JobId, places: &[Place]) -> Placement;
    /// The promise that a blocked job gets.
    fn promise(&mut self, offers: Vec<Promise>) -> Promise;
}

/// Takes what comes first.
pub(super) struct First;

impl Guide for First {
    fn place(&mut self, world: &Reference, job: JobId, places: &[Place]) -> Placement {
        world.lowest_free(&world.waiting[&job], &places[0])
    }

    fn promise(&mut self, mut offers: Vec<Promise>) -> Promise {
        offers.swap_remove(0)
    }
}

/// All that a decision depends on.
#[derive(Clone, Debug)]
pub(super) struct Reference {
    pub(super) now: Timestamp,
    pub(super) sort: SortMethod,
    /// Steps at once in an allocation of a scheduler.
    pub(super) most_steps: Option<usize>,
    pub(super) allocations: Vec<Allocation>,
    /// Nodes that are not listed are up.
    pub(super) states: BTreeMap<NodeId, NodeState>,
    pub(super) running: BTreeMap<JobId, Step>,
    pub(super) waiting: BTreeMap<JobId, Request>,
    pub(super) promise: Option<Promise>,
}

impl Reference {
    pub(super) fn new(sort: SortMethod, now: Timestamp) -> Self {
        Self {
            now,
            sort,
            most_steps: None,
            allocations: Vec::new(),
            states: BTreeMap::new(),
            running: BTreeMap::new(),
            waiting: BTreeMap::new(),
            promise: None,
        }
    }

    /// A job waits. The promise is for the first of jobs that are alike.
    pub(super) fn submit(&mut self, job: JobId, request: Request) {
        if let Some(promise) = &mut self.promise
            && job < promise.job
            && self.waiting[&promise.job] == request
        {
            promise.job = job;
        }
        self.waiting.insert(job, request);
    }

    /// A job waits no longer, without having been started.
    pub(super) fn withdraw(&mut self, job: JobId) {
        self.waiting.remove(&job);
        self.promise = self.promise.take().filter(|promise| promise.job != job);
    }

    /// One decision; returns the jobs that start, in order.
    pub(super) fn decide(&mut self, guide: &mut impl Guide) -> Vec<JobId> {
        let held = self.promise.take();
        let held = held.map(|held| (self.waiting[&held.job].priority, held));
        let outranks = |request: &Request| {
            held.as_ref().is_some_and(|(priority, _)| request.priority > *priority)
        };
        let (above, rest): (Vec<_>, Vec<_>) =
            self.queue().into_iter().partition(|job| outranks(&self.waiting[job]));
        let mut started = Vec::new();
        for job in above {
            started.extend(self.serve(job, None, guide));
        }
        if let Some((_, held)) = &held
            && self.promise.is_none()
        {
            started.extend(self.serve(held.job, Some(held), guide));
        }
        for job in rest {
            if !started.contains(&job) {
                started.extend(self.serve(job, None, guide));
            }
        }
        for job in self.waiting.keys() {
            assert_eq!(self.places_now(*job), [] as [Place; 0], "P4: {job} waits and may start");
        }
        started
    }

    /// Starts the job if it may start, or promises it a start if nobody has one.
    fn serve(
        &mut self,
        job: JobId,
        held: Option<&Promise>,
        guide: &mut impl Guide,
    ) -> Option<JobId> {
        let places = self.places_now(job);
        if !places.is_empty() {
            let placement = guide.place(self, job, &places);
            self.start(job, placement);
            return Some(job);
        }
        if self.promise.is_none() {
            let mut offers = self.offers(job);
            let nodes = held.filter(|held| held.at.is_none()).map(|held| &held.nodes);
            if let Some(kept) = nodes.and_then(|nodes| self.still_held(job, nodes, &offers)) {
                offers = vec![kept];
            }
            if !offers.is_empty() {
                self.promise = Some(guide.promise(offers));
            }
        }
        None
    }

    /// P1, P2 and P6: books a start, id by id.
    pub(super) fn start(&mut self, job: JobId, placement: Placement) {
        let request = self.waiting.remove(&job).expect("who starts has waited");
        for share in &placement.shares {
            let (allocation, inventory) = self.home(share.node);
            assert_eq!(allocation.id, placement.allocation, "one allocation");
            let has = [share.gpus.len() as u64, share.cores.len() as u64, share.memory];
            let due = if request.nodes > 1 { whole(inventory) } else { need(&request, inventory) };
            assert_eq!(has, due, "what {job} gets on node {}", share.node);
            let [gpus, cores] = self.free_ids(share.node, inventory);
            let are_free = |ids: &[u16], free: &BTreeSet<u16>| {
                ids.is_sorted_by(|a, b| a < b) && ids.iter().all(|id| free.contains(id))
            };
            assert!(are_free(&share.gpus, &gpus), "P1: GPUs {:?}", share.gpus);
            assert!(are_free(&share.cores, &cores), "P1: cores {:?}", share.cores);
        }
        self.running.insert(job, Step { request, placement, started_at: self.now });
    }

    /// The waiting jobs: priority, then the sort method, then the job's number.
    fn queue(&self) -> Vec<JobId> {
        let mut jobs: Vec<_> = self.waiting.iter().collect();
        jobs.sort_by_key(|(job, request)| {
            let runtime = request.runtime.unwrap_or(Duration::MAX).as_millis();
            let memory = match request.memory {
                MemoryRequest::Bytes(bytes) => u128::from(bytes),
                MemoryRequest::ShareOfCpus => 0,
            };
            let gpus = u128::from(request.gpus);
            let order = match self.sort {
                SortMethod::GpusRuntimeMemory => [gpus, runtime, memory],
                SortMethod::GpusMemoryRuntime => [gpus, memory, runtime],
                SortMethod::None => [0; 3],
            };
            (Reverse(request.priority), Reverse(order), **job)
        });
        jobs.into_iter().map(|(job, _)| *job).collect()
    }

    /// Where a waiting job may start now.
    pub(super) fn places_now(&self, job: JobId) -> Vec<Place> {
        let mut places = self.places(&self.waiting[&job], Moment::Now);
        if let Some(promise) = &self.promise {
            places.retain(|place| self.leaves_promise(promise, &self.waiting[&job], place));
        }
        places
    }

    /// P5: who is past its runtime, or has none, is not expected to end before its allocation.
    pub(super) fn expected_end(&self, step: &Step) -> Option<Timestamp> {
        step.declared_end().filter(|end| *end >= self.now)
    }

    /// The earliest time at which there is room by the expected ends, and where.
    pub(super) fn earliest(&self, request: &Request) -> Option<(Timestamp, Vec<Place>)> {
        let ends = self.running.values().filter_map(|step| self.expected_end(step));
        let ends: BTreeSet<_> = ends.collect();
        let mut room = ends.into_iter().map(|end| (end, self.places(request, Moment::Then(end))));
        room.find(|(_, places)| !places.is_empty())
    }

    /// The promises that a blocked job may be given.
    fn offers(&self, job: JobId) -> Vec<Promise> {
        let request = &self.waiting[&job];
        let offer = |at: Option<Timestamp>, nodes: Place| {
            let ends_at = self.home(nodes[0]).0.ends_at.unwrap_or(END_OF_TIME);
            Promise { job, at, until: at.unwrap_or(ends_at), nodes }
        };
        if let Some((at, places)) = self.earliest(request) {
            return places.into_iter().map(|nodes| offer(Some(at), nodes)).collect();
        }
        let places = self.places(request, Moment::Idle).into_iter();
        let places = places.filter(|place| self.waits_for_unknown_ends(request, place));
        places.map(|nodes| offer(None, nodes)).collect()
    }

    /// Whether no time can be foreseen for this place, rather than one that is too late.
    fn waits_for_unknown_ends(&self, request: &Request, place: &Place) -> bool {
        let in_the_end = Moment::Then(END_OF_TIME);
        if request.nodes == 1 {
            return self.steps_on(place[0], in_the_end).any(|_| true);
        }
        let allocation = self.home(place[0]).0;
        let nodes = allocation.nodes.iter();
        let idle = nodes.filter(|(node, has)| self.has_room(request, *node, has, in_the_end));
        idle.count() < request.nodes as usize || self.is_closed(allocation, in_the_end)
    }

    /// Nodes that are held without a time are kept while they will do and no time can be foreseen.
    fn still_held(&self, job: JobId, nodes: &Place, offers: &[Promise]) -> Option<Promise> {
        let timeless = offers.first().filter(|offer| offer.at.is_none())?;
        let places = self.places(&self.waiting[&job], Moment::Idle);
        places.contains(nodes).then(|| Promise {
            until: self.home(nodes[0]).0.ends_at.unwrap_or(END_OF_TIME),
            nodes: nodes.clone(),
            ..timeless.clone()
        })
    }

    /// P5: whether the promised job still gets its nodes in time if the other one starts here.
    fn leaves_promise(&self, promise: &Promise, request: &Request, place: &Place) -> bool {
        let is_gone = request.runtime.is_some_and(|runtime| self.now + runtime <= promise.until);
        if is_gone || !place.iter().any(|node| promise.nodes.contains(node)) {
            return true;
        }
        let promised = &self.waiting[&promise.job];
        if promised.nodes > 1 || request.nodes > 1 {
            return false;
        }
        let node = promise.nodes[0];
        let (_, inventory) = self.home(node);
        let (takes, wants) = (need(request, inventory), need(promised, inventory));
        let free_now = self.free(node, inventory, Moment::Now);
        let (free, wants) = match promise.at {
            Some(at) => (self.free(node, inventory, Moment::Then(at)), wants),
            // It lacks no more than it does already.
            None => (free_now, std::array::from_fn(|i| wants[i].min(free_now[i]))),
        };
        covers(free_now, takes) && covers(std::array::from_fn(|i| free[i] - takes[i]), wants)
    }
}
