//! Idle CPUs and why they are idle, one cause for each at each moment.
//!
//! Owns: the time that CPUs were free, by cause. Does not know: which jobs wait, or what is placed; it
//! is told. Invariant: the causes add up to exactly the time for which CPUs were there and nobody held
//! them, to the millisecond.
//!
//! The causes form a closed list. The first that applies is the one:
//!
//! 1. *draining*: the node takes nothing new, or has failed.
//! 2. *held for a planned start*: the node is promised to a job that cannot start yet.
//! 3. *no ready job*: nothing that may run there waits, but something may become ready; and *tail*:
//!    nothing more ever will, and what is left is running.
//! 4. *walltime too short*: the shortest job that waits would outlast the allocation.
//! 5. *nothing fits*: jobs wait, and each needs more than is free.
//!
//! *Starting up* is the time of an allocation before its nodes could be given to anybody; whoever
//! knows it adds it.

use std::collections::HashMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{AllocationId, NodeId};
use crate::resources::START_UP_GRACE;
use crate::time::Timestamp;

/// Why CPUs are idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdleCause {
    /// The allocation has begun, and its nodes could not be used yet.
    StartingUp,
    /// The node takes nothing new.
    Draining,
    /// The node is held for a job that was promised it.
    Held,
    /// No job is ready that may run there.
    NoReadyJob,
    /// No job that has not started is left.
    Tail,
    /// Every job that waits would outlast the allocation.
    Walltime,
    /// Jobs wait, but each needs more than is free.
    NothingFits,
}

impl IdleCause {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::StartingUp,
        Self::Draining,
        Self::Held,
        Self::NoReadyJob,
        Self::Tail,
        Self::Walltime,
        Self::NothingFits,
    ];

    /// The words for it.
    pub fn words(self) -> &'static str {
        match self {
            Self::StartingUp => "starting up",
            Self::Draining => "draining",
            Self::Held => "held for a planned start",
            Self::NoReadyJob => "no ready job",
            Self::Tail => "tail",
            Self::Walltime => "walltime too short",
            Self::NothingFits => "nothing fits",
        }
    }
}

/// Idle time by cause, in milliseconds of one CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdleTime {
    /// See [`IdleCause::StartingUp`].
    pub starting_up: u64,
    /// See [`IdleCause::Draining`].
    pub draining: u64,
    /// See [`IdleCause::Held`].
    pub held: u64,
    /// See [`IdleCause::NoReadyJob`].
    pub no_ready_job: u64,
    /// See [`IdleCause::Tail`].
    pub tail: u64,
    /// See [`IdleCause::Walltime`].
    pub walltime: u64,
    /// See [`IdleCause::NothingFits`].
    pub nothing_fits: u64,
}

impl IdleTime {
    /// What has this cause.
    pub fn of(&self, cause: IdleCause) -> u64 {
        match cause {
            IdleCause::StartingUp => self.starting_up,
            IdleCause::Draining => self.draining,
            IdleCause::Held => self.held,
            IdleCause::NoReadyJob => self.no_ready_job,
            IdleCause::Tail => self.tail,
            IdleCause::Walltime => self.walltime,
            IdleCause::NothingFits => self.nothing_fits,
        }
    }

    /// Adds so many CPUs that were idle for so long.
    pub fn add(&mut self, cause: IdleCause, cpus: u64, time: Duration) {
        let time = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let field = match cause {
            IdleCause::StartingUp => &mut self.starting_up,
            IdleCause::Draining => &mut self.draining,
            IdleCause::Held => &mut self.held,
            IdleCause::NoReadyJob => &mut self.no_ready_job,
            IdleCause::Tail => &mut self.tail,
            IdleCause::Walltime => &mut self.walltime,
            IdleCause::NothingFits => &mut self.nothing_fits,
        };
        *field = field.saturating_add(cpus.saturating_mul(time));
    }

    /// All causes together.
    pub fn sum(&self) -> u64 {
        IdleCause::ALL.iter().map(|cause| self.of(*cause)).sum()
    }
}

/// What waits for the nodes of an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Nothing that may run there is ready, but something may be one day.
    Later,
    /// Nothing will ever wait there again.
    Over,
    /// Ready jobs.
    Waiting {
        /// The shortest runtime that one of them declares; zero for one that declares none.
        shortest: Duration,
    },
}

/// Measures idle time while it is told what happens, in the order of time.
#[derive(Debug, Default)]
pub struct IdleMeter {
    sites: HashMap<AllocationId, Site>,
    nodes: HashMap<NodeId, Node>,
    held: Vec<NodeId>,
    total: IdleTime,
}

/// The free CPUs of an allocation.
#[derive(Debug)]
struct Site {
    ends_at: Option<Timestamp>,
    demand: Demand,
    /// All before has been counted.
    since: Timestamp,
    /// Free CPUs of nodes that may be given to anybody.
    open: u64,
    /// Of nodes that are held.
    held: u64,
    /// Of nodes that take nothing new.
    bad: u64,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    site: AllocationId,
    free: u64,
    is_good: bool,
    is_held: bool,
}

impl Site {
    /// Counts what was idle until now.
    fn settle(&mut self, now: Timestamp, total: &mut IdleTime) {
        let since = self.since;
        self.since = since.max(now);
        total.add(IdleCause::Draining, self.bad, now.since(since));
        total.add(IdleCause::Held, self.held, now.since(since));
        match self.demand {
            Demand::Later => total.add(IdleCause::NoReadyJob, self.open, now.since(since)),
            Demand::Over => total.add(IdleCause::Tail, self.open, now.since(since)),
            Demand::Waiting { shortest } => {
                let last_start = self.last_start(shortest).clamp(since, now.max(since));
                total.add(IdleCause::NothingFits, self.open, last_start.since(since));
                total.add(IdleCause::Walltime, self.open, now.since(last_start));
            }
        }
    }

    /// When a job of this runtime could start here at the latest.
    fn last_start(&self, runtime: Duration) -> Timestamp {
        let Some(ends_at) = self.ends_at else { return Timestamp(u64::MAX) };
        let by_runtime = (ends_at + START_UP_GRACE).since(Timestamp::default() + runtime);
        (Timestamp::default() + by_runtime).min(ends_at)
    }

    fn free_of(&mut self, node: Node) -> &mut u64 {
        match (node.is_good, node.is_held) {
            (false, _) => &mut self.bad,
            (true, true) => &mut self.held,
            (true, false) => &mut self.open,
        }
    }
}

impl IdleMeter {
    /// Nodes are there from now on, all of their CPUs free.
    pub fn add(
        &mut self,
        now: Timestamp,
        allocation: AllocationId,
        ends_at: Option<Timestamp>,
        nodes: impl Iterator<Item = (NodeId, u32)>,
    ) {
        let mut open = 0;
        for (node, cpus) in nodes {
            let free = u64::from(cpus);
            open += free;
            self.nodes.insert(node, Node { site: allocation, free, is_good: true, is_held: false });
        }
        let demand = Demand::Later;
        let site = Site { ends_at, demand, since: now, open, held: 0, bad: 0 };
        self.sites.insert(allocation, site);
    }

    /// The nodes of an allocation are gone.
    pub fn remove(&mut self, now: Timestamp, allocation: AllocationId) {
        if let Some(mut site) = self.sites.remove(&allocation) {
            site.settle(now, &mut self.total);
            self.nodes.retain(|_, node| node.site != allocation);
        }
    }

    /// The end of an allocation moved.
    pub fn move_end(
        &mut self,
        now: Timestamp,
        allocation: AllocationId,
        ends_at: Option<Timestamp>,
    ) {
        if let Some(site) = self.sites.get_mut(&allocation) {
            site.settle(now, &mut self.total);
            site.ends_at = ends_at;
        }
    }

    /// A job holds CPUs of a node from now on.
    pub fn take(&mut self, now: Timestamp, node: NodeId, cpus: u64) {
        self.change(now, node, |node| node.free = node.free.saturating_sub(cpus));
    }

    /// They are free again.
    pub fn give_back(&mut self, now: Timestamp, node: NodeId, cpus: u64) {
        self.change(now, node, |node| node.free = node.free.saturating_add(cpus));
    }

    /// Whether a node takes new work changed.
    pub fn set_good(&mut self, now: Timestamp, node: NodeId, is_good: bool) {
        self.change(now, node, |node| node.is_good = is_good);
    }

    /// From now on these nodes are held for planned starts, and no others.
    pub fn hold(&mut self, now: Timestamp, nodes: &[NodeId]) {
        if self.held == nodes {
            return;
        }
        let before = std::mem::replace(&mut self.held, nodes.to_vec());
        before.iter().for_each(|node| self.change(now, *node, |node| node.is_held = false));
        nodes.iter().for_each(|node| self.change(now, *node, |node| node.is_held = true));
    }

    /// What waits for an allocation changed.
    pub fn set_demand(&mut self, now: Timestamp, allocation: AllocationId, demand: Demand) {
        if let Some(site) = self.sites.get_mut(&allocation)
            && site.demand != demand
        {
            site.settle(now, &mut self.total);
            site.demand = demand;
        }
    }

    /// Adds what was idle before the nodes of an allocation could be used.
    pub fn add_starting_up(&mut self, cpus: u64, time: Duration) {
        self.total.add(IdleCause::StartingUp, cpus, time);
    }

    /// The idle time until now.
    pub fn until(&mut self, now: Timestamp) -> IdleTime {
        for site in self.sites.values_mut() {
            site.settle(now, &mut self.total);
        }
        self.total
    }

    fn change(&mut self, now: Timestamp, node: NodeId, change: impl FnOnce(&mut Node)) {
        let Some(node) = self.nodes.get_mut(&node) else { return };
        let Some(site) = self.sites.get_mut(&node.site) else { return };
        site.settle(now, &mut self.total);
        *site.free_of(*node) -= node.free;
        change(node);
        *site.free_of(*node) += node.free;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: AllocationId = AllocationId(1);

    fn at(second: u64) -> Timestamp {
        Timestamp(second * 1000)
    }

    /// Idle CPU-seconds by cause, those that are not zero.
    fn seconds(meter: &mut IdleMeter, now: u64) -> String {
        let idle = meter.until(at(now));
        let of = |cause: &IdleCause| format!("{} {}", cause.words(), idle.of(*cause) / 1000);
        let causes = IdleCause::ALL.iter().filter(|cause| idle.of(**cause) > 0);
        causes.map(of).collect::<Vec<_>>().join(", ")
    }

    /// Two nodes of 8 CPUs until second 1000.
    fn two_nodes() -> IdleMeter {
        let mut meter = IdleMeter::default();
        meter.add(at(0), A, Some(at(1000)), [(NodeId(1), 8), (NodeId(2), 8)].into_iter());
        meter
    }

    fn waiting(shortest: u64) -> Demand {
        Demand::Waiting { shortest: Duration::from_secs(shortest) }
    }

    #[test]
    fn each_idle_cpu_has_one_cause() {
        let mut meter = two_nodes();
        assert_eq!(seconds(&mut meter, 10), "no ready job 160");
        meter.take(at(10), NodeId(1), 5);
        meter.set_demand(at(10), A, waiting(60));
        assert_eq!(seconds(&mut meter, 20), "no ready job 160, nothing fits 110");
        meter.hold(at(20), &[NodeId(2)]);
        meter.set_good(at(20), NodeId(1), false);
        let expected =
            "draining 30, held for a planned start 80, no ready job 160, nothing fits 110";
        assert_eq!(seconds(&mut meter, 30), expected);
        meter.give_back(at(30), NodeId(1), 5);
        meter.set_good(at(30), NodeId(1), true);
        meter.hold(at(30), &[]);
        meter.set_demand(at(30), A, Demand::Over);
        let expected = expected.replace("160, ", "160, tail 160, ");
        assert_eq!(seconds(&mut meter, 40), expected);
        meter.remove(at(41), A);
        assert_eq!(meter.until(at(90)).tail, 176_000);
        meter.add_starting_up(16, Duration::from_secs(2));
        assert_eq!(meter.until(at(90)).starting_up, 32_000);
    }

    #[test]
    fn a_walltime_becomes_too_short_between_two_events() {
        let mut meter = two_nodes();
        // With two minutes of grace it could start until second 520.
        meter.set_demand(at(0), A, waiting(600));
        assert_eq!(seconds(&mut meter, 530), "walltime too short 160, nothing fits 8320");
        meter.move_end(at(530), A, None);
        assert_eq!(seconds(&mut meter, 540), "walltime too short 160, nothing fits 8480");
    }

    #[test]
    fn nothing_starts_after_the_end() {
        let mut meter = two_nodes();
        meter.set_demand(at(0), A, waiting(1));
        assert_eq!(seconds(&mut meter, 1010), "walltime too short 160, nothing fits 16000");
    }

    #[derive(Clone, Debug)]
    enum Event {
        Take(u32, u64),
        GiveBack(u32, u64),
        Good(u32, bool),
        Hold(Vec<u32>),
        Demand(u8),
    }

    fn events() -> impl Strategy<Value = Event> {
        prop_oneof![
            (1u32..3, 1u64..9).prop_map(|(node, cpus)| Event::Take(node, cpus)),
            (1u32..3, 1u64..9).prop_map(|(node, cpus)| Event::GiveBack(node, cpus)),
            (1u32..3, any::<bool>()).prop_map(|(node, is_good)| Event::Good(node, is_good)),
            prop::collection::vec(1u32..3, 0..2).prop_map(Event::Hold),
            (0u8..3).prop_map(Event::Demand),
        ]
    }

    proptest! {
        #[test]
        fn the_causes_add_up_to_the_idle_time(
            happened in prop::collection::vec((0u64..90, events()), 0..60),
        ) {
            let mut meter = two_nodes();
            let (mut now, mut idle, mut taken) = (0, 0, [0u64; 2]);
            for (pause, event) in happened {
                idle += pause * (16 - taken[0] - taken[1]);
                now += pause;
                match event {
                    Event::Take(node, cpus) => {
                        let used = &mut taken[node as usize - 1];
                        let cpus = cpus.min(8 - *used);
                        *used += cpus;
                        meter.take(at(now), NodeId(node), cpus);
                    }
                    Event::GiveBack(node, cpus) => {
                        let used = &mut taken[node as usize - 1];
                        let cpus = cpus.min(*used);
                        *used -= cpus;
                        meter.give_back(at(now), NodeId(node), cpus);
                    }
                    Event::Good(node, is_good) => meter.set_good(at(now), NodeId(node), is_good),
                    Event::Hold(nodes) => {
                        let nodes: Vec<NodeId> = nodes.into_iter().map(NodeId).collect();
                        meter.hold(at(now), &nodes);
                    }
                    Event::Demand(0) => meter.set_demand(at(now), A, Demand::Later),
                    Event::Demand(1) => meter.set_demand(at(now), A, Demand::Over),
                    Event::Demand(_) => meter.set_demand(at(now), A, waiting(600)),
                }
            }
            prop_assert_eq!(meter.until(at(now)).sum(), idle * 1000);
        }
    }
}
