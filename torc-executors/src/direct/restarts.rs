//! Where the workers of nodes are started again whose srun has ended. Pure.
//!
//! Owns how often that is tried, and how soon. Does not know how workers are started. Invariant: it comes to an end:
//! each time there is a node fewer to try, or its nodes have a try less.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// How long to wait before each try, where no node was named that could be left out. Slurm's controller may be busy, or
/// be started again itself. Together less than a leader waits for the workers.
const PAUSES: [Duration; 3] =
    [Duration::from_secs(2), Duration::from_secs(10), Duration::from_secs(30)];

/// The tries so far in an allocation.
#[derive(Debug, Default)]
pub struct Restarts {
    failed: HashSet<String>,
    tries: HashMap<String, usize>,
}

/// What to do about the nodes of an srun that has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restart {
    /// Workers are to be started on these.
    pub again: Vec<String>,
    /// After so long.
    pub after: Duration,
    /// These have lost theirs for good.
    pub lost: Vec<String>,
}

impl Restarts {
    /// These nodes have failed, or cannot be reached: nothing is started there any more.
    pub fn leave_out(&mut self, nodes: &[String]) {
        self.failed.extend(nodes.iter().cloned());
    }

    /// These nodes without those that were left out.
    pub fn still_good(&self, nodes: &[String]) -> Vec<String> {
        nodes.iter().filter(|node| !self.failed.contains(*node)).cloned().collect()
    }

    /// An srun of these nodes has ended: it could not start all workers and ended those that it had started
    /// (`is_aborted`), or has never started one on some nodes (`unstarted`).
    pub fn decide(&mut self, nodes: &[String], unstarted: &[String], is_aborted: bool) -> Restart {
        let good = self.still_good(nodes);
        let is_smaller = good.len() < nodes.len();
        let wanted = if is_aborted { good } else { self.still_good(unstarted) };
        let tried = wanted.iter().filter_map(|node| self.tries.get(node)).max().copied();
        let pause = if is_aborted && is_smaller {
            // The rest are not to blame.
            Some(Duration::ZERO)
        } else {
            let pause = PAUSES.get(tried.unwrap_or(0)).filter(|_| !wanted.is_empty()).copied();
            wanted.iter().for_each(|node| *self.tries.entry(node.clone()).or_default() += 1);
            pause
        };
        let (again, after) = pause.map_or_else(Default::default, |pause| (wanted, pause));
        let lost = nodes.iter().filter(|node| !again.contains(node)).cloned().collect();
        Restart { again, after, lost }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|&name| name.to_owned()).collect()
    }

    fn restart(again: &[&str], seconds: u64, lost: &[&str]) -> Restart {
        Restart { again: names(again), after: Duration::from_secs(seconds), lost: names(lost) }
    }

    #[test]
    fn a_launch_that_fails_for_no_nodes_fault_is_tried_some_times() {
        let mut restarts = Restarts::default();
        let all = names(&["n1", "n2"]);
        for seconds in [2, 10, 30] {
            assert_eq!(restarts.decide(&all, &all, true), restart(&["n1", "n2"], seconds, &[]));
        }
        assert_eq!(restarts.decide(&all, &all, true), restart(&[], 0, &["n1", "n2"]));
        // Other nodes have tries of their own.
        let other = names(&["n3"]);
        assert_eq!(restarts.decide(&other, &other, true), restart(&["n3"], 2, &[]));
    }

    #[test]
    fn a_node_that_is_named_is_left_out_and_the_rest_started_at_once() {
        let mut restarts = Restarts::default();
        let all = names(&["n1", "n2", "n3"]);
        restarts.leave_out(&names(&["n2"]));
        let expected = restart(&["n1", "n3"], 0, &["n2"]);
        assert_eq!(restarts.decide(&all, &[], true), expected);
        restarts.leave_out(&names(&["n3"]));
        let rest = names(&["n1", "n3"]);
        assert_eq!(restarts.decide(&rest, &[], true), restart(&["n1"], 0, &["n3"]));
        // It has all its tries still.
        let last = names(&["n1"]);
        assert_eq!(restarts.decide(&last, &last, true), restart(&["n1"], 2, &[]));
        restarts.leave_out(&last);
        assert_eq!(restarts.decide(&last, &[], true), restart(&[], 0, &["n1"]));
        assert_eq!(restarts.still_good(&all), [""; 0]);
    }

    #[test]
    fn an_srun_that_just_ends_is_tried_again_where_it_had_started_nothing() {
        let mut restarts = Restarts::default();
        let all = names(&["n1", "n2", "n3"]);
        let decided = restarts.decide(&all, &names(&["n2", "n3"]), false);
        assert_eq!(decided, restart(&["n2", "n3"], 2, &["n1"]));
        restarts.leave_out(&names(&["n3"]));
        let rest = names(&["n2", "n3"]);
        assert_eq!(restarts.decide(&rest, &rest, false), restart(&["n2"], 10, &["n3"]));
        assert_eq!(restarts.decide(&names(&["n2"]), &[], false), restart(&[], 0, &["n2"]));
        let started = restarts.decide(&all, &[], false);
        assert_eq!(started, restart(&[], 0, &["n1", "n2", "n3"]), "all had come, and are lost");
    }
}
