//! How many nodes a stage gets, in one large allocation or in many small ones.
//!
//! Owns: the search over numbers of nodes, the estimate of the queue, and the walltimes. Does not
//! know: which jobs they are. Invariant: no allocation has more nodes than its site can give at
//! once, and none is shorter than its longest job.
//!
//! # What is compared
//!
//! Of two choices the better one has the smaller *nodes held at a time × (expected wait + makespan)²*:
//! twice the nodes must bring the end nearer by at least three tenths. How long an allocation waits in
//! the queue nobody knows; it is taken as [`LEAST_WAIT`] plus [`WAIT_FOR_ALL`] × the part of the
//! partition that it wants at once.

use std::time::Duration;

use super::model::{Layout, Strategy};
use super::simulate::{self, Nodes, Run, Work};
use super::sites::{Origin, Site};
use super::work::Sums;

/// The expected wait of the smallest allocation: some priority, some queue.
pub(super) const LEAST_WAIT: Duration = Duration::from_secs(15 * 60);

/// What is expected on top of an allocation that wants the whole partition.
const WAIT_FOR_ALL: f64 = 4.0 * 3600.0;

/// Walltime over makespan: jobs take a little longer than they declare. Where the walltime of a
/// partition is too short for all of them, a fourth more allocations are asked for instead.
pub(super) const SAFETY: f64 = 1.25;

/// What many small ones must be better by: several allocations are more to look after than one.
const WORTH_MANY: f64 = 0.75;

/// More small allocations than this are a crowd in the queue, and sites bound them: they get more
/// nodes each instead.
const MOST_ALLOCATIONS: u32 = 50;

/// The walltime of jobs without a runtime on a partition without a limit.
const UNLIMITED: Duration = Duration::from_secs(24 * 3600);

/// Starts of jobs that the search may simulate, so that a hundred thousand jobs are planned in
/// seconds. The most promising numbers of nodes go first.
pub(super) const BUDGET: usize = 200_000;

/// What is decided about a stage.
pub(super) struct Question<'q> {
    pub(super) work: &'q Work,
    pub(super) sums: Sums,
    pub(super) site: &'q Site,
    /// Nodes of the widest job.
    pub(super) width: u32,
    pub(super) strategy: Strategy,
    /// The user's bound on nodes at once.
    pub(super) max_nodes: Option<u32>,
    /// What an allocation must last beyond its last job: jobs start a little late, and what still
    /// runs near its end is asked to end.
    pub(super) reserve: Duration,
}

/// The best of each kind, and which is chosen.
pub(super) struct Choice {
    pub(super) one: Option<Layout>,
    pub(super) many: Option<Layout>,
    pub(super) many_is_chosen: bool,
}

/// A layout with its cost.
struct Priced {
    cost: f64,
    layout: Layout,
}

impl Question<'_> {
    /// The best of each kind.
    pub(super) fn choose(&self) -> Choice {
        let (mut one, mut many): (Option<Priced>, Option<Priced>) = (None, None);
        for units in self.candidates() {
            let (run, walltime) = self.simulate(units);
            if let Some(size) = self.one_large(units) {
                let run = Run { held: run.held_together, ..run };
                keep_better(&mut one, self.priced(run, walltime, size));
            }
            if let Some(size) = self.many_small(units) {
                keep_better(&mut many, self.priced(run, walltime, size));
            }
        }
        let many_is_chosen = match (&one, &many) {
            (None, _) => true,
            (_, None) => false,
            (Some(one), Some(many)) => match self.strategy {
                Strategy::One => false,
                Strategy::Many => true,
                Strategy::Auto => many.cost < one.cost * WORTH_MANY,
            },
        };
        let layout = |priced: Option<Priced>| priced.map(|priced| priced.layout);
        Choice { one: layout(one), many: layout(many), many_is_chosen }
    }

    /// The smallest allocation that can run every job.
    fn unit(&self) -> u32 {
        match self.site.origin {
            Origin::Planned => self.width.max(1),
            Origin::Given(_) => self.site.at_once.max(1),
        }
    }

    /// Numbers of units that are worth a look: by estimate, the most promising of each kind.
    fn candidates(&self) -> Vec<u32> {
        let bound = self.max_nodes.unwrap_or(self.site.node.count).min(self.site.node.count);
        let jobs = u32::try_from(self.sums.jobs).unwrap_or(u32::MAX);
        let most = (bound / self.unit()).min(jobs).max(1);
        let mut numbers = Vec::new();
        let mut next = 1;
        while next < most {
            numbers.push(next);
            next += (next / 4).max(1);
        }
        numbers.push(most);
        let looks = (BUDGET / self.sums.jobs.max(1) / 2).clamp(1, 5);
        let best = |wanted: Strategy, layout: fn(&Self, u32) -> Option<(u32, u32)>| {
            let is_wanted = self.strategy == Strategy::Auto || self.strategy == wanted;
            let possible =
                numbers.iter().filter(|units| is_wanted && layout(self, **units).is_some());
            let mut found: Vec<u32> = possible.copied().collect();
            found.sort_by(|left, right| {
                let estimate = |units| self.estimate(units, layout(self, units).unwrap_or((1, 1)));
                estimate(*left).total_cmp(&estimate(*right))
            });
            found.truncate(looks);
            found
        };
        let mut chosen = best(Strategy::One, Self::one_large);
        chosen.extend(best(Strategy::Many, Self::many_small));
        if chosen.is_empty() {
            // Many were asked for where there is nothing to split.
            chosen.push(1);
        }
        chosen.sort_unstable();
        chosen.dedup();
        chosen
    }

    /// What the cost would be if all nodes were busy all the time.
    fn estimate(&self, units: u32, (nodes, _): (u32, u32)) -> f64 {
        let all = f64::from(units) * f64::from(self.unit());
        let makespan = (self.sums.packed / all).max(self.sums.chain.as_secs_f64());
        let turnaround = self.wait(nodes) + makespan;
        all * turnaround * turnaround
    }

    fn wait(&self, nodes: u32) -> f64 {
        LEAST_WAIT.as_secs_f64()
            + WAIT_FOR_ALL * f64::from(nodes) / f64::from(self.site.node.count.max(1))
    }

    /// The stage on so many units, and the walltime for it.
    fn simulate(&self, units: u32) -> (Run, Duration) {
        self.simulate_on(self.unit(), units)
    }

    /// The stage in one allocation of so many nodes.
    pub(super) fn in_one(&self, nodes: u32) -> Layout {
        let (run, walltime) = self.simulate_on(nodes, 1);
        layout(run, walltime, (nodes, in_turn(1, run.rounds)), self.sums.busy)
    }

    /// The stage on allocations of `each` nodes, and the walltime for it.
    fn simulate_on(&self, each: u32, allocations: u32) -> (Run, Duration) {
        let mut nodes = Nodes { kind: &self.site.node, each, allocations, limit: None };
        let longest = self.site.limit.unwrap_or(Duration::MAX);
        let at_least = self.sums.busy / f64::from(each) / f64::from(allocations);
        let mut run = None;
        if self.walltime_for(at_least) <= longest {
            let whole = simulate::run(self.work, &nodes);
            let wanted = self.walltime_for(whole.makespan.as_secs_f64());
            let is_given = matches!(self.site.origin, Origin::Given(_));
            if wanted <= longest && self.sums.unknown == 0 && !is_given {
                return (whole, wanted);
            }
            run = Some(whole);
        }
        let walltime = self.site.limit.unwrap_or_else(|| {
            self.walltime_for(run.map_or(0.0, |run| run.makespan.as_secs_f64())).max(UNLIMITED)
        });
        let usable = walltime.saturating_sub(self.reserve).max(self.sums.longest);
        match run.filter(|run| run.makespan <= usable) {
            Some(run) => (run, walltime),
            None => {
                nodes.limit = Some(usable);
                (simulate::run(self.work, &nodes), walltime)
            }
        }
    }

    /// In whole minutes, for a makespan in seconds.
    fn walltime_for(&self, makespan: f64) -> Duration {
        let seconds = |seconds| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        let at_least = seconds(makespan).max(self.sums.longest).saturating_add(self.reserve);
        let wanted = seconds(makespan * SAFETY).max(at_least);
        let seconds = wanted.as_secs().saturating_add(u64::from(wanted.subsec_nanos() > 0));
        Duration::from_secs(seconds.div_ceil(60).saturating_mul(60))
    }

    /// One allocation of so many units, as nodes of each and number of them; `None`: not possible.
    fn one_large(&self, units: u32) -> Option<(u32, u32)> {
        let nodes = units.checked_mul(self.unit())?;
        let half = self.site.node.count.div_ceil(2).max(self.unit());
        let most = self.max_nodes.unwrap_or(half).min(self.site.at_once);
        let is_possible = match self.site.origin {
            Origin::Planned => nodes <= most || units == 1,
            Origin::Given(_) => units == 1,
        };
        is_possible.then_some((nodes, 1))
    }

    /// The same of at least two allocations.
    fn many_small(&self, units: u32) -> Option<(u32, u32)> {
        let each = units.div_ceil(MOST_ALLOCATIONS);
        let count = units.div_ceil(each);
        let nodes = each.checked_mul(self.unit())?;
        (count > 1 && nodes <= self.site.at_once).then_some((nodes, count))
    }

    fn priced(&self, run: Run, walltime: Duration, (nodes, count): (u32, u32)) -> Priced {
        let makespan = run.makespan.as_secs_f64().max(1.0);
        let turnaround = self.wait(nodes) + makespan;
        let cost = run.held / makespan * turnaround * turnaround;
        let count = in_turn(count, run.rounds);
        Priced { cost, layout: layout(run, walltime, (nodes, count), self.sums.busy) }
    }
}

/// How many allocations to ask for when as many as this follow each other in so many rounds. Those
/// that find nothing left to do end at once; without reserve, jobs that take longer would be left.
fn in_turn(at_once: u32, rounds: u32) -> u32 {
    let count = at_once.saturating_mul(rounds);
    if rounds > 1 { count.saturating_add(count.div_ceil(4)) } else { count }
}

fn keep_better(best: &mut Option<Priced>, found: Priced) {
    if best.as_ref().is_none_or(|best| found.cost < best.cost) {
        *best = Some(found);
    }
}

/// The layout of a run on `count` allocations of `nodes` nodes.
fn layout(run: Run, walltime: Duration, (nodes, count): (u32, u32), busy: f64) -> Layout {
    let hours = walltime.as_secs_f64() / 3600.0;
    Layout {
        nodes,
        num_allocations: count,
        walltime,
        makespan: run.makespan,
        node_hours: run.held / 3600.0,
        node_hours_at_most: f64::from(nodes) * f64::from(count) * hours,
        utilisation: if run.held > 0.0 { (busy / run.held).min(1.0) } else { 1.0 },
    }
}
