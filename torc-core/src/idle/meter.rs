//! Measures what CPUs are used for while it is told what happens.
//!
//! Owns: the time that CPUs were held or idle, by cause. Does not know: which jobs wait, or what is
//! placed; it is told. Invariant: held and idle time add up to exactly the time for which CPUs were
//! there while the meter ran, to the millisecond. What is told late counts from the latest time that
//! was told before.

use std::time::Duration;

use super::{CpuTime, IdleCause};
use crate::ids::{AllocationId, NodeId};
use crate::resources::START_UP_GRACE;
use crate::time::Timestamp;

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

/// Measures held and idle time. Numbers of nodes and allocations are indices here, and are best dense.
#[derive(Clone, Debug, Default)]
pub struct IdleMeter {
    /// At the index of the allocation's number.
    sites: Vec<Option<Site>>,
    /// At the index of the node's number.
    nodes: Vec<Option<Node>>,
    /// The nodes that are held, each once.
    held: Vec<NodeId>,
    total: CpuTime,
    is_paused: bool,
}

/// The CPUs of an allocation.
#[derive(Clone, Debug)]
struct Site {
    ends_at: Option<Timestamp>,
    demand: Demand,
    /// All before has been counted.
    since: Timestamp,
    /// CPUs that jobs hold.
    used: u64,
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
    cpus: u64,
    used: u64,
    is_good: bool,
    is_held: bool,
}

impl Site {
    /// Counts until now.
    fn settle(&mut self, now: Timestamp, total: &mut CpuTime) {
        let since = self.since;
        self.since = since.max(now);
        let milliseconds = self.since.0 - since.0;
        total.held = total.held.saturating_add(self.used.saturating_mul(milliseconds));
        let idle = &mut total.idle;
        idle.add_ms(IdleCause::Draining, self.bad, milliseconds);
        idle.add_ms(IdleCause::Held, self.held, milliseconds);
        let open = self.open;
        match self.demand {
            Demand::Later => idle.add_ms(IdleCause::NoReadyJob, open, milliseconds),
            Demand::Over => idle.add_ms(IdleCause::Tail, open, milliseconds),
            Demand::Waiting { shortest } => {
                let last_start = self.last_start(shortest).clamp(since, self.since);
                idle.add_ms(IdleCause::NothingFits, open, last_start.0 - since.0);
                idle.add_ms(IdleCause::Walltime, open, self.since.0 - last_start.0);
            }
        }
    }

    /// The cause that free CPUs of a node have now.
    fn cause(&self, node: Node, now: Timestamp) -> IdleCause {
        match (node.is_good, node.is_held, self.demand) {
            (false, ..) => IdleCause::Draining,
            (true, true, _) => IdleCause::Held,
            (true, false, Demand::Later) => IdleCause::NoReadyJob,
            (true, false, Demand::Over) => IdleCause::Tail,
            (true, false, Demand::Waiting { shortest }) if now < self.last_start(shortest) => {
                IdleCause::NothingFits
            }
            (true, false, Demand::Waiting { .. }) => IdleCause::Walltime,
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
            let cpus = u64::from(cpus);
            open += cpus;
            let node_here = Node { site: allocation, cpus, used: 0, is_good: true, is_held: false };
            put(&mut self.nodes, node.0, node_here);
        }
        let demand = Demand::Later;
        let site = Site { ends_at, demand, since: now, used: 0, open, held: 0, bad: 0 };
        put(&mut self.sites, allocation.0, site);
    }

    /// The nodes of an allocation are gone.
    pub fn remove(&mut self, now: Timestamp, allocation: AllocationId) {
        self.settle(now, allocation);
        if let Some(site) = self.sites.get_mut(allocation.0 as usize) {
            *site = None;
            for node in &mut self.nodes {
                *node = node.filter(|node| node.site != allocation);
            }
        }
    }

    /// The end of an allocation moved.
    pub fn move_end(
        &mut self,
        now: Timestamp,
        allocation: AllocationId,
        ends_at: Option<Timestamp>,
    ) {
        if let Some(site) = self.settle(now, allocation) {
            site.ends_at = ends_at;
        }
    }

    /// A job holds CPUs of a node from now on.
    pub fn take(&mut self, now: Timestamp, node: NodeId, cpus: u64) {
        self.change(now, node, |node| node.used = node.used.saturating_add(cpus).min(node.cpus));
    }

    /// They are free again.
    pub fn give_back(&mut self, now: Timestamp, node: NodeId, cpus: u64) {
        self.change(now, node, |node| node.used = node.used.saturating_sub(cpus));
    }

    /// Whether a node takes new work changed.
    pub fn set_good(&mut self, now: Timestamp, node: NodeId, is_good: bool) {
        self.change(now, node, |node| node.is_good = is_good);
    }

    /// From now on these nodes are held for planned starts, and no others.
    pub fn hold(&mut self, now: Timestamp, nodes: impl IntoIterator<Item = NodeId>) {
        let mut nodes: Vec<NodeId> = nodes.into_iter().collect();
        nodes.sort_unstable();
        nodes.dedup();
        if self.held == nodes {
            return;
        }
        for node in std::mem::take(&mut self.held) {
            self.change(now, node, |node| node.is_held = false);
        }
        for node in &nodes {
            self.change(now, *node, |node| node.is_held = true);
        }
        self.held = nodes;
    }

    /// What waits for an allocation changed.
    pub fn set_demand(&mut self, now: Timestamp, allocation: AllocationId, demand: Demand) {
        let site = self.sites.get(allocation.0 as usize).and_then(Option::as_ref);
        if site.is_some_and(|site| site.demand != demand)
            && let Some(site) = self.settle(now, allocation)
        {
            site.demand = demand;
        }
    }

    /// Adds what was idle before the nodes of an allocation could be used.
    pub fn add_starting_up(&mut self, cpus: u64, time: Duration) {
        if !self.is_paused {
            self.total.idle.add(IdleCause::StartingUp, cpus, time);
        }
    }

    /// Nobody could give nodes away from `since` until now: all that was free counts as draining.
    pub fn pass_over(&mut self, since: Timestamp, now: Timestamp) {
        self.settle_all(since);
        for site in self.sites.iter_mut().flatten() {
            let bad = site.bad;
            site.bad += site.open + site.held;
            let (open, held) = (std::mem::take(&mut site.open), std::mem::take(&mut site.held));
            if !self.is_paused {
                site.settle(now, &mut self.total);
            }
            (site.open, site.held, site.bad) = (open, held, bad);
        }
    }

    /// Counts from now on, beginning with nothing.
    pub fn restart(&mut self, now: Timestamp) {
        self.resume(now);
        self.total = CpuTime::default();
    }

    /// Counts nothing more from now on.
    pub fn pause(&mut self, now: Timestamp) {
        self.settle_all(now);
        self.is_paused = true;
    }

    /// Counts again, if it does not anyway.
    pub fn resume(&mut self, now: Timestamp) {
        self.settle_all(now);
        self.is_paused = false;
    }

    /// What became of the time until now.
    pub fn until(&self, now: Timestamp) -> CpuTime {
        let mut total = self.total;
        if !self.is_paused {
            for site in self.sites.iter().flatten() {
                site.clone().settle(now, &mut total);
            }
        }
        total
    }

    /// Why CPUs of a node are free now; `None`: none is.
    pub fn cause(&self, node: NodeId, now: Timestamp) -> Option<IdleCause> {
        let node = (*self.nodes.get(node.0 as usize)?)?;
        let site = self.sites.get(node.site.0 as usize)?.as_ref()?;
        (node.used < node.cpus).then(|| site.cause(node, now))
    }

    fn settle_all(&mut self, now: Timestamp) {
        for index in 0..self.sites.len() {
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            self.settle(now, AllocationId(index));
        }
    }

    /// Counts what an allocation's CPUs did until now.
    fn settle(&mut self, now: Timestamp, allocation: AllocationId) -> Option<&mut Site> {
        let site = self.sites.get_mut(allocation.0 as usize)?.as_mut()?;
        if self.is_paused {
            site.since = site.since.max(now);
        } else {
            site.settle(now, &mut self.total);
        }
        Some(site)
    }

    fn change(&mut self, now: Timestamp, node: NodeId, change: impl FnOnce(&mut Node)) {
        let Some(Some(before)) = self.nodes.get(node.0 as usize).copied() else { return };
        let Some(site) = self.settle(now, before.site) else { return };
        let mut after = before;
        change(&mut after);
        *site.free_of(before) -= before.cpus - before.used;
        *site.free_of(after) += after.cpus - after.used;
        site.used = site.used + after.used - before.used;
        self.nodes[node.0 as usize] = Some(after);
    }
}

fn put<T>(places: &mut Vec<Option<T>>, index: u32, value: T) {
    let index = index as usize;
    if places.len() <= index {
        places.resize_with(index + 1, || None);
    }
    places[index] = Some(value);
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
    fn seconds(meter: &IdleMeter, now: u64) -> String {
        let idle = meter.until(at(now)).idle;
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
        assert_eq!(seconds(&meter, 10), "no ready job 160");
        meter.take(at(10), NodeId(1), 5);
        meter.set_demand(at(10), A, waiting(60));
        assert_eq!(seconds(&meter, 20), "no ready job 160, nothing fits 110");
        meter.hold(at(20), [NodeId(2)]);
        meter.set_good(at(20), NodeId(1), false);
        let expected =
            "draining 30, held for a planned start 80, no ready job 160, nothing fits 110";
        assert_eq!(seconds(&meter, 30), expected);
        meter.give_back(at(30), NodeId(1), 5);
        meter.set_good(at(30), NodeId(1), true);
        meter.hold(at(30), []);
        meter.set_demand(at(30), A, Demand::Over);
        let expected = expected.replace("160, ", "160, tail 160, ");
        assert_eq!(seconds(&meter, 40), expected);
        meter.remove(at(41), A);
        assert_eq!(meter.until(at(90)).idle.tail, 176_000);
        meter.add_starting_up(16, Duration::from_secs(2));
        assert_eq!(meter.until(at(90)).idle.starting_up, 32_000);
    }

    #[test]
    fn a_walltime_becomes_too_short_between_two_events() {
        let mut meter = two_nodes();
        // With two minutes of grace it could start until second 520.
        meter.set_demand(at(0), A, waiting(600));
        assert_eq!(seconds(&meter, 530), "walltime too short 160, nothing fits 8320");
        meter.move_end(at(530), A, None);
        assert_eq!(seconds(&meter, 540), "walltime too short 160, nothing fits 8480");
    }

    #[test]
    fn the_nodes_of_other_allocations_stay() {
        let mut meter = two_nodes();
        meter.add(at(0), AllocationId(2), None, [(NodeId(3), 4)].into_iter());
        meter.remove(at(0), A);
        meter.take(at(5), NodeId(3), 3);
        assert_eq!(seconds(&meter, 10), "no ready job 25");
        let causes = [1, 3].map(|node| meter.cause(NodeId(node), at(10)));
        assert_eq!(causes, [None, Some(IdleCause::NoReadyJob)]);
    }

    #[test]
    fn nothing_starts_after_the_end() {
        let mut meter = two_nodes();
        meter.set_demand(at(0), A, waiting(1));
        assert_eq!(seconds(&meter, 1010), "walltime too short 160, nothing fits 16000");
    }

    #[test]
    fn time_without_a_run_is_not_counted_and_time_without_a_server_is_draining() {
        let mut meter = two_nodes();
        meter.take(at(0), NodeId(1), 8);
        meter.pass_over(at(10), at(15));
        assert_eq!(seconds(&meter, 20), "draining 40, no ready job 120");
        meter.pause(at(20));
        meter.give_back(at(30), NodeId(1), 8);
        meter.pass_over(at(30), at(40));
        assert_eq!(
            (seconds(&meter, 50).as_str(), meter.until(at(50)).held),
            ("draining 40, no ready job 120", 160_000)
        );
        meter.resume(at(50));
        assert_eq!(seconds(&meter, 51), "draining 40, no ready job 136");
        meter.restart(at(60));
        assert_eq!(meter.until(at(60)), CpuTime::default());
        assert_eq!(seconds(&meter, 61), "no ready job 16");
        assert_eq!(seconds(&meter, 30), "", "late news count from the latest on");
    }

    #[test]
    fn each_node_has_its_cause_now() {
        let mut meter = two_nodes();
        meter.take(at(0), NodeId(1), 8);
        let causes =
            |meter: &IdleMeter, now| [1, 2, 3].map(|node| meter.cause(NodeId(node), at(now)));
        assert_eq!(causes(&meter, 0), [None, Some(IdleCause::NoReadyJob), None]);
        meter.set_demand(at(0), A, waiting(600));
        assert_eq!(causes(&meter, 519), [None, Some(IdleCause::NothingFits), None]);
        assert_eq!(causes(&meter, 520), [None, Some(IdleCause::Walltime), None]);
        meter.hold(at(0), [NodeId(2)]);
        assert_eq!(causes(&meter, 520), [None, Some(IdleCause::Held), None]);
        meter.set_good(at(0), NodeId(2), false);
        assert_eq!(causes(&meter, 520), [None, Some(IdleCause::Draining), None]);
        meter.set_demand(at(0), A, Demand::Over);
        meter.give_back(at(0), NodeId(1), 1);
        assert_eq!(causes(&meter, 520), [Some(IdleCause::Tail), Some(IdleCause::Draining), None]);
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
                        meter.hold(at(now), nodes.into_iter().map(NodeId));
                    }
                    Event::Demand(0) => meter.set_demand(at(now), A, Demand::Later),
                    Event::Demand(1) => meter.set_demand(at(now), A, Demand::Over),
                    Event::Demand(_) => meter.set_demand(at(now), A, waiting(600)),
                }
            }
            let time = meter.until(at(now));
            prop_assert_eq!((time.idle.sum(), time.sum()), (idle * 1000, now * 16_000));
        }
    }
}
