//! One decision: who starts now, and what is promised.
//!
//! Owns: the order in which classes are looked at, who respects the promise, and when it passes on.
//! Does not know: how nodes are found or starts foreseen. Invariant: when a pass ends without having
//! met its limit, every waiting job that did not start could not, or is kept from it by the promise.
//!
//! A pass goes through the classes in queue order. The first that is blocked gets the promise, and
//! those after it respect it. A promise that is held from before comes into force earlier: only
//! classes of a higher priority are looked at before its job is.

use super::amounts::Amounts;
use super::fleet::{NEVER, Site};
use super::promise::{Promise, Prospect, prospect};
use super::queue::{Key, Least};
use super::search;
use super::whole_node::{WholeNodePlacer, expected_end};
use crate::ids::AllocationId;
use crate::resources::{NodeShare, Placement, START_UP_GRACE};
use crate::time::Timestamp;
use crate::traits::{Plan, Start};

/// Jobs for which a start is foreseen in vain, before a pass does without a promise. The next pass goes on
/// where this one gave up, so that every job has its turn.
pub(super) const VAIN_FORECASTS: u32 = 16;

struct Pass {
    now: Timestamp,
    limit: usize,
    starts: Vec<Start>,
    /// The last class that was looked at.
    cursor: Option<Key>,
    /// The promise is in force: those who come now respect it.
    in_force: bool,
    /// The last class for which a start was foreseen in vain.
    vain: Option<Key>,
    vain_count: u32,
    /// Classes before the first that was looked at for a promise are still to be looked at.
    has_skipped: bool,
    openings: Openings,
    /// Starts until the openings are worth another look.
    openings_last: usize,
}

/// Which part of the queue is looked at.
#[derive(Clone, Copy)]
enum Part {
    /// Classes of a higher priority than this.
    Above(i32),
    All,
}

impl Part {
    fn contains(self, key: &Key) -> bool {
        match self {
            Self::Above(priority) => key.priority.0 > priority,
            Self::All => true,
        }
    }
}

/// What became possible since classes were found blocked: bounds from above.
#[derive(Default)]
struct Openings {
    /// The most of each that is free on a touched node.
    open: Amounts,
    /// The same for nodes of the promise.
    held: Amounts,
    /// The longest runtime that may use those, in milliseconds.
    held_for: u64,
    /// What any runtime may use on the node of a promised single-node job.
    beside: Amounts,
    /// The most idle nodes of an allocation, when a touched node is idle: open ones, and all.
    idle: [u32; 2],
    /// The longest runtime that any allocation admits, in milliseconds.
    longest: u64,
}

impl Openings {
    fn may_serve(&self, least: &Least) -> bool {
        if least.fresh {
            return true;
        }
        let leaves_in_time = |runtime| runtime <= self.held_for;
        least.walltime <= self.longest
            && (self.open.covers(least.single)
                || self.beside.covers(least.single)
                || (leaves_in_time(least.single_runtime) && self.held.covers(least.single))
                || least.gang_nodes <= self.idle[0]
                || (leaves_in_time(least.gang_runtime) && least.gang_nodes <= self.idle[1]))
    }
}

/// Decides.
pub(super) fn plan(placer: &mut WholeNodePlacer, now: Timestamp, limit: usize) -> Plan {
    placer.note_time(now);
    let vain = placer.gave_up_at.take();
    let mut pass = Pass {
        now,
        limit,
        starts: Vec::new(),
        cursor: None,
        in_force: false,
        vain,
        vain_count: 0,
        has_skipped: vain.is_some(),
        openings: Openings::default(),
        openings_last: 0,
    };
    if let Some(promise) = &placer.promise {
        let priority = promise.priority;
        placer.serve(&mut pass, Part::Above(priority));
        if !pass.in_force && !pass.is_full() {
            placer.serve_promised(&mut pass);
        }
    }
    placer.serve(&mut pass, Part::All);
    if !pass.is_full() {
        placer.touched.clear();
    }
    placer.gave_up_at = pass.vain.filter(|_| pass.vain_count >= VAIN_FORECASTS);
    if placer.promise.as_ref().is_some_and(|promise| promise.is_stale) {
        placer.renew_promise(now);
    }
    Plan {
        starts: pass.starts,
        planned: placer.planned_start().into_iter().collect(),
        held: placer.held(now).into_iter().collect(),
        failure: None,
    }
}

impl Pass {
    fn is_full(&self) -> bool {
        self.starts.len() >= self.limit
    }
}

impl WholeNodePlacer {
    fn note_time(&mut self, now: Timestamp) {
        let Self { fleet, promise, .. } = self;
        // A promise in a closed site counts on the end of any step there.
        let site = promise.as_ref().and_then(|promise| fleet.site(promise.forecast.site));
        let opening = site.filter(|site| site.is_closed).map(Site::slots).unwrap_or_default();
        fleet.note_time(now, |slot| {
            if let Some(promise) = promise
                && (promise.forecast.slots.contains(&slot) || opening.contains(&slot))
            {
                promise.is_stale = true;
            }
        });
    }

    /// Starts what may start in a part of the queue, in order, and gives the promise to the first
    /// that is blocked, if none is in force.
    fn serve(&mut self, pass: &mut Pass, part: Part) {
        while !pass.is_full() {
            if pass.openings_last == 0 {
                self.look_for_openings(pass);
            }
            let may = |least: &Least| pass.openings.may_serve(least);
            let next = self.queue.next(pass.cursor, &may).filter(|key| part.contains(key));
            if let Some(blocked) = self.first_blocked(pass, part, next) {
                self.promise_to(blocked, pass);
                continue;
            }
            let Some(key) = next else { return };
            if self.start(key, pass) {
                pass.openings_last = pass.openings_last.saturating_sub(1);
            } else {
                self.queue.set_fresh(key.class, false);
            }
            pass.cursor = Some(key);
        }
    }

    /// The first class that is to be promised a start: one before `next` is known to be blocked.
    fn first_blocked(&self, pass: &mut Pass, part: Part, next: Option<Key>) -> Option<Key> {
        if pass.in_force || pass.vain_count >= VAIN_FORECASTS {
            return None;
        }
        let after = |vain: Option<Key>| {
            let first = self.queue.next(vain, &|least: &Least| least.promisable);
            first.filter(|key| part.contains(key))
        };
        let mut first = after(pass.vain);
        if first.is_none() && std::mem::take(&mut pass.has_skipped) {
            pass.vain = None;
            first = after(None);
        }
        first.filter(|first| next.is_none_or(|next| *first < next))
    }

    /// Starts the job that the promise is for, or renews the promise and brings it into force.
    fn serve_promised(&mut self, pass: &mut Pass) {
        let Some(promise) = &self.promise else { return };
        let Some(key) = self.queue.key(promise.class) else { return self.set_promise(None) };
        if self.start(key, pass) {
            self.set_promise(None);
        } else {
            self.queue.set_fresh(key.class, false);
            self.renew_promise(pass.now);
            pass.in_force = self.promise.is_some();
        }
        pass.openings_last = 0;
    }

    /// Looks at the forecast of the promise again, if it may have changed.
    fn renew_promise(&mut self, now: Timestamp) {
        let Some(promise) = &self.promise else { return };
        let class = &self.classes[promise.class.0 as usize];
        let old = &promise.forecast;
        let ask = self.ask(class, now);
        let ends = self.fleet.site(old.site).map(|site| site.allocation.ends_at.unwrap_or(NEVER));
        let is_admitted = |start: Timestamp| {
            ends.is_some_and(|ends| ends >= search::earliest_end(&class.request, start))
        };
        let is_valid = !promise.is_stale && is_admitted(old.at.map_or(now, |at| at.max(now)));
        if is_valid {
            return;
        }
        let mut renewed = match prospect(&self.fleet, ask) {
            Prospect::Start(forecast) => forecast,
            Prospect::TooLate | Prospect::Unplaceable => return self.set_promise(None),
        };
        let is_usable = |slot: &u32| self.fleet.node(*slot).is_usable();
        if renewed.at.is_none()
            && old.at.is_none()
            && is_admitted(now)
            && old.slots.iter().all(is_usable)
        {
            renewed.slots.clone_from(&old.slots);
            renewed.site = old.site;
            renewed.until = ends.unwrap_or(NEVER);
        }
        let Promise { job, class, priority, is_gang, .. } = *promise;
        let forecast = renewed;
        self.set_promise(Some(Promise {
            job,
            class,
            priority,
            is_gang,
            forecast,
            is_stale: false,
        }));
    }

    /// Promises a start to the first job of a class that is blocked, if one can be foreseen.
    fn promise_to(&mut self, key: Key, pass: &mut Pass) {
        let class = &self.classes[key.class.0 as usize];
        match prospect(&self.fleet, self.ask(class, pass.now)) {
            Prospect::Start(forecast) => {
                let promise = Promise {
                    job: key.job,
                    class: key.class,
                    priority: key.priority.0,
                    is_gang: class.request.is_gang(),
                    forecast,
                    is_stale: false,
                };
                self.set_promise(Some(promise));
                pass.in_force = true;
                pass.openings_last = 0;
            }
            Prospect::TooLate => {
                pass.vain = Some(key);
                pass.vain_count += 1;
            }
            Prospect::Unplaceable => self.queue.set_unpromisable(key.class),
        }
    }

    /// Starts the first job of a class, if it may start now.
    fn start(&mut self, key: Key, pass: &mut Pass) -> bool {
        let class = &self.classes[key.class.0 as usize];
        let mut ask = self.ask(class, pass.now);
        if pass.in_force
            && let Some(promise) = &self.promise
        {
            if promise.class == key.class {
                return false;
            }
            self.hold_back(&mut ask, promise);
        }
        let (one, many);
        let slots = if class.request.is_gang() {
            let Some(slots) = search::gang(&self.fleet, ask) else { return false };
            many = slots;
            many.as_slice()
        } else {
            let Some(slot) = search::single(&self.fleet, ask) else { return false };
            one = slot;
            std::slice::from_ref(&one)
        };
        let ends = expected_end(pass.now, class.request.runtime);
        let placement = self.placement(key, slots);
        self.fleet.book(key.job, ends, &placement.shares);
        self.queue.remove(key.job);
        pass.starts.push(Start { job: key.job, placement });
        if let Some(promise) = &mut self.promise
            && !pass.in_force
        {
            // It outranks the promise, and may have taken what was promised.
            promise.is_stale |= slots.iter().any(|slot| promise.forecast.slots.contains(slot));
        }
        true
    }

    /// Narrows a question to what the promise leaves.
    pub(super) fn hold_back(&self, ask: &mut search::Ask<'_>, promise: &Promise) {
        if promise.leaves_in_time(ask.request, ask.now) {
            return;
        }
        ask.may_use_held = false;
        if let [slot] = *promise.forecast.slots
            && !promise.is_gang
        {
            let promised = &self.classes[promise.class.0 as usize].request;
            let need = self.fleet.node(slot).total.needed(ask.request);
            let fits_beside = promise.beside(&self.fleet, promised).covers(need);
            if ask.request.is_gang() || !fits_beside {
                ask.barred = Some(slot);
            }
        }
    }

    /// What the first job of a class gets on these nodes.
    fn placement(&self, key: Key, slots: &[u32]) -> Placement {
        let request = &self.classes[key.class.0 as usize].request;
        let shares = slots.iter().map(|&slot| {
            let node = self.fleet.node(slot);
            let takes =
                if request.is_gang() { node.total.idle() } else { node.total.needed(request) };
            NodeShare {
                node: node.id,
                cores: node.cores.choose(takes.cpus),
                gpus: node.gpus.choose(takes.gpus),
                memory: takes.memory,
            }
        });
        let site = slots.first().and_then(|&slot| self.fleet.site(self.fleet.node(slot).site));
        Placement {
            allocation: site.map_or(AllocationId(0), |site| site.allocation.id),
            shares: shares.collect(),
        }
    }

    /// Takes stock of what became possible.
    fn look_for_openings(&mut self, pass: &mut Pass) {
        self.touched.slots.sort_unstable();
        self.touched.slots.dedup();
        let in_force = self.promise.as_ref().filter(|_| pass.in_force);
        let mut found = Openings { longest: self.longest_runtime(pass.now), ..Openings::default() };
        if self.touched.all {
            (found.open, found.idle) = (Amounts::MAX, [u32::MAX; 2]);
        }
        if let Some(promise) = in_force {
            found.held_for = promise.forecast.until.0.saturating_sub(pass.now.0);
        }
        let mut is_any_idle = false;
        for &slot in &self.touched.slots {
            let node = self.fleet.node(slot);
            if !node.is_usable() {
                continue;
            }
            is_any_idle |= node.is_idle();
            match in_force {
                Some(promise) if promise.forecast.slots.binary_search(&slot).is_ok() => {
                    found.held = found.held.most(node.bounds());
                    let promised = &self.classes[promise.class.0 as usize].request;
                    if !promise.is_gang {
                        let beside = promise.beside(&self.fleet, promised);
                        found.beside = node.total.bounds(beside);
                    }
                }
                _ => found.open = found.open.most(node.bounds()),
            }
        }
        if is_any_idle && !self.touched.all {
            for site in self.fleet.live_sites() {
                let [open, held] = site.idle_count;
                found.idle[0] = found.idle[0].max(open + if pass.in_force { 0 } else { held });
                found.idle[1] = found.idle[1].max(open + held);
            }
        }
        pass.openings = found;
        // Openings only shrink with starts; a fresh look every few keeps the whole pass linear.
        pass.openings_last = (self.touched.slots.len() / 8).max(1);
    }

    fn longest_runtime(&self, now: Timestamp) -> u64 {
        let ends = self.fleet.pools.iter().filter_map(|pool| pool.groups.keys().next_back());
        let last = ends.max().copied().unwrap_or_default() + START_UP_GRACE;
        last.0.saturating_sub(now.0)
    }
}
