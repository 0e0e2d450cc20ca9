//! What jobs on several nodes start on their other nodes, as launchers of ranks do.
//!
//! Owns: which helper runs where, for whom, and what waits for its end. Does not know: connections, processes.
//! Invariant: the end of a job is let go only when none of its helpers is left. Pure.

use std::collections::BTreeMap;

use torc_core::ids::{AttemptId, StepId};
use torc_core::traits::{Outcome, StepEvent};

use super::books::Place;

/// Helpers are launched as steps, whose numbers no attempt of a job ever reaches.
const FIRST: u32 = 1 << 31;

/// The exit code of what did not end by itself.
const LOST: i32 = 255;
const SIGNAL_CODE_BASE: i32 = 128;

/// What waits for the end of a job's helpers.
#[derive(Debug, PartialEq)]
pub(super) enum Held {
    /// The end of the job, as the worker of that place reported it.
    End(Place, Box<StepEvent>),
    /// All else that it had left is gone.
    Cleared,
}

#[derive(Debug)]
struct Helper {
    owner: StepId,
    place: Place,
    /// The connection of who asked for it.
    link: u64,
}

/// A helper that has ended: who is to be told, and what need not wait any more.
#[derive(Debug, PartialEq)]
pub(super) struct Ended {
    pub(super) link: u64,
    pub(super) freed: Option<(StepId, Held)>,
}

/// The helpers that run.
#[derive(Debug, Default)]
pub(super) struct Helpers {
    count: u32,
    running: BTreeMap<StepId, Helper>,
    held: BTreeMap<StepId, Held>,
}

impl Helpers {
    /// A job starts one at a place. The step that it is launched as.
    pub(super) fn begin(&mut self, owner: StepId, place: Place, link: u64) -> StepId {
        let attempt = AttemptId(FIRST | (self.count & (FIRST - 1)));
        self.count = self.count.wrapping_add(1);
        let step = StepId { attempt, ..owner };
        self.running.insert(step, Helper { owner, place, link });
        step
    }

    /// Whether this step is a helper.
    pub(super) fn knows(&self, step: StepId) -> bool {
        self.running.contains_key(&step)
    }

    /// The helpers of a job, and where they run.
    pub(super) fn of(&self, owner: StepId) -> Vec<(StepId, Place)> {
        let own = self.running.iter().filter(|(_, helper)| helper.owner == owner);
        own.map(|(step, helper)| (*step, helper.place)).collect()
    }

    /// The helper that was asked for over this connection, and where it runs.
    pub(super) fn asked_over(&self, link: u64) -> Option<(StepId, Place)> {
        let mut asked = self.running.iter().filter(|(_, helper)| helper.link == link);
        asked.next().map(|(step, helper)| (*step, helper.place))
    }

    /// The helpers at a place.
    pub(super) fn at(&self, place: Place) -> Vec<StepId> {
        let there = self.running.iter().filter(|(_, helper)| helper.place == place);
        there.map(|(step, _)| *step).collect()
    }

    /// Something waits until a job has no helper any more.
    pub(super) fn hold(&mut self, owner: StepId, held: Held) {
        self.held.insert(owner, held);
    }

    /// A helper has ended.
    pub(super) fn end(&mut self, step: StepId) -> Option<Ended> {
        let Helper { owner, link, .. } = self.running.remove(&step)?;
        let is_last = self.running.values().all(|helper| helper.owner != owner);
        let held = if is_last { self.held.remove(&owner) } else { None };
        Some(Ended { link, freed: held.map(|held| (owner, held)) })
    }
}

/// The exit code of a helper that ended like this.
pub(super) fn code_of(outcome: &Outcome) -> i32 {
    match outcome {
        Outcome::Exited { code } => *code,
        Outcome::Signaled { signal } => SIGNAL_CODE_BASE + signal,
        _ => LOST,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::id;
    use super::*;

    #[test]
    fn an_end_waits_for_the_last_helper() {
        let mut helpers = Helpers::default();
        let (first, second) = (helpers.begin(id(1), 1, 10), helpers.begin(id(1), 2, 11));
        let other = helpers.begin(id(2), 2, 12);
        assert!(helpers.knows(first) && !helpers.knows(id(1)) && first != second);
        assert_eq!(helpers.of(id(1)), [(first, 1), (second, 2)]);
        assert_eq!(helpers.asked_over(11), Some((second, 2)));
        assert_eq!(helpers.at(2), [second, other]);
        helpers.hold(id(1), Held::Cleared);
        assert_eq!(helpers.end(first), Some(Ended { link: 10, freed: None }));
        assert_eq!(helpers.end(first), None);
        assert_eq!(helpers.end(other), Some(Ended { link: 12, freed: None }));
        let freed = Some((id(1), Held::Cleared));
        assert_eq!(helpers.end(second), Some(Ended { link: 11, freed }));
        assert_eq!(helpers.asked_over(11), None);
    }

    #[test]
    fn codes_are_those_of_a_shell() {
        assert_eq!(code_of(&Outcome::Exited { code: 3 }), 3);
        assert_eq!(code_of(&Outcome::Signaled { signal: 9 }), 137);
        assert_eq!(code_of(&Outcome::Lost), 255);
    }
}
