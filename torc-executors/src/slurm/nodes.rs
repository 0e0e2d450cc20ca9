//! Which nodes of the allocation are good for new work. Pure.
//!
//! Slurm notices a dead node only after a while (slurm.conf(5), SlurmdTimeout), so a node that srun could
//! not reach is taken as down until Slurm has had the time to find out. A node that failed leaves the
//! allocation for good, even if it comes back. Each change is told once.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use torc_core::traits::NodeState;

use super::show::NodeFacts;

/// How long a suspicion holds against Slurm's word: longer than SlurmdTimeout's default of 300 s.
const SUSPICION: Duration = Duration::from_secs(330);

/// A change of a node's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) node: String,
    pub(super) state: NodeState,
    pub(super) reason: String,
}

#[derive(Clone, Debug)]
struct Entry {
    told: NodeState,
    /// What Slurm says, and its words.
    by_slurm: (NodeState, String),
    /// Why it is suspected, and until when.
    suspicion: Option<(String, Instant)>,
    has_left: bool,
}

impl Entry {
    fn judge(&self, exhausted: Option<&str>, now: Instant) -> (NodeState, String) {
        if self.has_left {
            let words = &self.by_slurm.1;
            return (NodeState::Down, format!("it is no longer part of the allocation ({words})"));
        }
        if self.by_slurm.0 == NodeState::Down {
            return self.by_slurm.clone();
        }
        if let Some((why, until)) = &self.suspicion
            && *until > now
        {
            return (NodeState::Down, why.clone());
        }
        match exhausted {
            Some(reason) => (NodeState::Draining, reason.to_owned()),
            None => self.by_slurm.clone(),
        }
    }
}

/// The nodes of an allocation.
#[derive(Clone, Debug)]
pub(super) struct Nodes {
    entries: BTreeMap<String, Entry>,
    exhausted: Option<String>,
}

impl Nodes {
    /// Nodes that are all good.
    pub(super) fn new(names: impl IntoIterator<Item = String>) -> Self {
        let entry = Entry {
            told: NodeState::Up,
            by_slurm: (NodeState::Up, "it was granted".to_owned()),
            suspicion: None,
            has_left: false,
        };
        let entries = names.into_iter().map(|name| (name, entry.clone())).collect();
        Self { entries, exhausted: None }
    }

    /// Their names.
    pub(super) fn names(&self) -> Vec<String> {
        self.entries.keys().cloned().collect()
    }

    /// Whether the allocation has lost a node.
    pub(super) fn has_lost_any(&self) -> bool {
        self.entries.values().any(|entry| entry.has_left)
    }

    /// Whether Slurm should be asked more often than seldom.
    pub(super) fn are_suspected(&self, now: Instant) -> bool {
        self.entries.values().any(|entry| {
            !entry.has_left && entry.suspicion.as_ref().is_some_and(|(_, until)| *until > now)
        })
    }

    /// A node could not be reached.
    pub(super) fn suspect(&mut self, names: &[String], why: &str, now: Instant) -> Vec<Change> {
        for name in names {
            let Some(entry) = self.entries.get_mut(name) else { continue };
            entry.suspicion = Some((why.to_owned(), now + SUSPICION));
        }
        self.changes(now)
    }

    /// Nodes have left the allocation.
    pub(super) fn lose(&mut self, names: &[String], words: &str, now: Instant) -> Vec<Change> {
        for name in names {
            let Some(entry) = self.entries.get_mut(name) else { continue };
            entry.has_left = true;
            words.clone_into(&mut entry.by_slurm.1);
        }
        self.changes(now)
    }

    /// Nothing more can be started on any node.
    pub(super) fn exhaust(&mut self, reason: &str, now: Instant) -> Vec<Change> {
        self.exhausted.get_or_insert_with(|| reason.to_owned());
        self.changes(now)
    }

    /// Slurm says this: the allocation has these nodes, and the nodes are like this.
    pub(super) fn observe(
        &mut self,
        members: &[String],
        facts: &[NodeFacts],
        now: Instant,
    ) -> Vec<Change> {
        let members: HashSet<&str> = members.iter().map(String::as_str).collect();
        for fact in facts {
            let Some(entry) = self.entries.get_mut(&fact.name) else { continue };
            if !entry.has_left {
                entry.by_slurm = (fact.state, fact.words.clone());
            }
        }
        for (name, entry) in &mut self.entries {
            entry.has_left |= !members.contains(name.as_str());
        }
        self.changes(now)
    }

    fn changes(&mut self, now: Instant) -> Vec<Change> {
        let exhausted = self.exhausted.as_deref();
        let mut changes = Vec::new();
        for (name, entry) in &mut self.entries {
            let (state, reason) = entry.judge(exhausted, now);
            if state != entry.told {
                entry.told = state;
                changes.push(Change { node: name.clone(), state, reason });
            }
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    fn fact(name: &str, state: NodeState) -> NodeFacts {
        let words = format!("{state:?} says Slurm");
        NodeFacts { name: name.to_owned(), cpus: 8, cores: 8, megabytes: 1, state, words }
    }

    fn render(changes: &[Change]) -> Vec<String> {
        let one = |c: &Change| format!("{} {:?}: {}", c.node, c.state, c.reason);
        changes.iter().map(one).collect()
    }

    #[test]
    fn each_change_is_told_once() {
        let zero = Instant::now();
        let mut nodes = Nodes::new(names(&["a", "b"]));
        let both = names(&["a", "b"]);
        let drained = [fact("a", NodeState::Draining), fact("b", NodeState::Up)];
        let changes = nodes.observe(&both, &drained, zero);
        assert_eq!(render(&changes), ["a Draining: Draining says Slurm"]);
        assert_eq!(nodes.observe(&both, &drained, zero), []);
        let changes = nodes.observe(&both, &[fact("a", NodeState::Up)], zero);
        assert_eq!(render(&changes), ["a Up: Up says Slurm"]);
        assert_eq!(nodes.observe(&both, &[fact("z", NodeState::Down)], zero), []);
    }

    #[test]
    fn a_node_that_left_never_comes_back() {
        let zero = Instant::now();
        let mut nodes = Nodes::new(names(&["a", "b"]));
        let changes = nodes.observe(&names(&["b"]), &[fact("a", NodeState::Down)], zero);
        let told = ["a Down: it is no longer part of the allocation (Down says Slurm)"];
        assert_eq!(render(&changes), told);
        assert!(nodes.has_lost_any());
        assert_eq!(nodes.observe(&names(&["b"]), &[fact("a", NodeState::Up)], zero), []);
        let changes = nodes.lose(&names(&["b", "z"]), "Node failure", zero);
        assert_eq!(
            render(&changes),
            ["b Down: it is no longer part of the allocation (Node failure)"]
        );
        assert_eq!(nodes.observe(&names(&["a", "b"]), &[], zero), []);
    }

    #[test]
    fn a_suspicion_holds_until_slurm_must_know_better() {
        let zero = Instant::now();
        let both = names(&["a", "b"]);
        let up = [fact("a", NodeState::Up)];
        let mut nodes = Nodes::new(both.clone());
        let changes = nodes.suspect(&names(&["a"]), "unreachable", zero);
        assert_eq!(render(&changes), ["a Down: unreachable"]);
        assert!(!nodes.has_lost_any());
        assert!(nodes.are_suspected(zero));
        assert_eq!(nodes.observe(&both, &up, zero + SUSPICION / 2), []);
        let changes = nodes.observe(&both, &up, zero + SUSPICION);
        assert_eq!(render(&changes), ["a Up: Up says Slurm"]);
        assert!(!nodes.are_suspected(zero + SUSPICION));
    }

    #[test]
    fn an_exhausted_allocation_drains() {
        let zero = Instant::now();
        let mut nodes = Nodes::new(names(&["a", "b"]));
        nodes.lose(&names(&["a"]), "failed", zero);
        let changes = nodes.exhaust("no more steps", zero);
        assert_eq!(render(&changes), ["b Draining: no more steps"]);
        assert_eq!(nodes.observe(&names(&["b"]), &[fact("b", NodeState::Up)], zero), []);
        let changes = nodes.observe(&names(&["b"]), &[fact("b", NodeState::Down)], zero);
        assert_eq!(render(&changes), ["b Down: Down says Slurm"]);
    }
}
