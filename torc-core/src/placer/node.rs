//! A node and the steps on it.
//!
//! Owns: what is free, id by id, and a summary of the expected ends. Does not know: which indexes it
//! is filed in; only the fleet changes a node, so that they follow.

use super::amounts::{Amounts, Ids, Total};
use super::fleet::NEVER;
use crate::ids::{JobId, NodeId};
use crate::resources::{NodeShare, Request};
use crate::time::Timestamp;
use crate::traits::NodeState;

/// What a step holds on one node.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct StepHere {
    pub(super) job: JobId,
    /// [`NEVER`] when unknown: without a declared runtime, or past it.
    pub(super) ends: Timestamp,
    pub(super) takes: Amounts,
    cores: Ids,
    gpus: Ids,
}

/// A node.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) site: u32,
    /// Its place in the allocation's node order.
    pub(super) position: u32,
    pub(super) total: Total,
    pub(super) free: Amounts,
    pub(super) steps: Vec<StepHere>,
    /// The first known expected end of its steps; [`NEVER`] when none is known.
    pub(super) next_end: Timestamp,
    /// When the last of its steps is expected to end: [`NEVER`] when one of them has no known end.
    pub(super) idle_at: Timestamp,
    /// Steps without a known end.
    pub(super) unknown_ends: u32,
    /// Filed apart, for the planned start of a gang.
    pub(super) held: bool,
    pub(super) cores: Ids,
    pub(super) gpus: Ids,
    pub(super) state: NodeState,
    /// Its allocation has ended.
    pub(super) is_gone: bool,
}

impl Node {
    /// A node on which nothing runs.
    pub(super) fn idle(id: NodeId, total: Total, site: u32, position: u32) -> Self {
        Self {
            id,
            site,
            position,
            total,
            free: total.idle(),
            steps: Vec::new(),
            next_end: NEVER,
            idle_at: Timestamp::default(),
            unknown_ends: 0,
            held: false,
            cores: Ids::all(total.idle().cpus),
            gpus: Ids::all(total.amounts.gpus),
            state: NodeState::Up,
            is_gone: false,
        }
    }

    /// Whether it may be given new work.
    pub(super) fn is_usable(&self) -> bool {
        !self.is_gone && self.state == NodeState::Up
    }

    pub(super) fn is_idle(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether a job may start there now, as far as the node goes.
    pub(super) fn has_room(&self, request: &Request) -> bool {
        if request.is_gang() {
            self.is_idle() && self.total.holds(request)
        } else {
            self.free.covers(self.total.needed(request))
        }
    }

    /// Bounds of what single-node jobs may ask for that have room there now.
    pub(super) fn bounds(&self) -> Amounts {
        self.total.bounds(self.free)
    }

    /// Books a step. Ids and memory that are not free are left out.
    pub(super) fn take(&mut self, job: JobId, ends: Timestamp, share: &NodeShare) {
        let cores = self.cores.take(&share.cores);
        let gpus = self.gpus.take(&share.gpus);
        let memory = share.memory.min(self.free.memory);
        let takes = Amounts { gpus: gpus.len(), cpus: cores.len(), memory };
        self.free = self.free.minus(takes);
        self.steps.push(StepHere { job, ends, takes, cores, gpus });
        self.next_end = self.next_end.min(ends);
        self.idle_at = self.idle_at.max(ends);
        self.unknown_ends += u32::from(ends == NEVER);
    }

    /// Frees what the job holds here, if it does.
    pub(super) fn give_back(&mut self, job: JobId) {
        let Some(index) = self.steps.iter().position(|step| step.job == job) else { return };
        let step = self.steps.swap_remove(index);
        self.cores.give_back(&step.cores);
        self.gpus.give_back(&step.gpus);
        self.free = self.free.plus(step.takes);
        if step.ends == NEVER && self.unknown_ends > 1 {
            self.unknown_ends -= 1;
        } else if step.ends == self.idle_at || step.ends == self.next_end {
            self.note_ends();
        }
    }

    /// The ends before `now` did not happen: those steps overran, and their ends are unknown from now on.
    pub(super) fn note_overrun(&mut self, now: Timestamp) {
        for step in self.steps.iter_mut().filter(|step| step.ends < now) {
            step.ends = NEVER;
        }
        self.note_ends();
    }

    /// What is free once all steps have ended whose ends are known and not after `at`.
    pub(super) fn free_at(&self, at: Timestamp) -> Amounts {
        if at < self.next_end {
            return self.free;
        }
        let ended = self.steps.iter().filter(|step| step.ends <= at && step.ends != NEVER);
        ended.fold(self.free, |free, step| free.plus(step.takes))
    }

    /// The first known end from `now` on after which `need` is free.
    pub(super) fn room_at(&self, need: Amounts, now: Timestamp) -> Option<Timestamp> {
        let known = self.steps.iter().map(|step| step.ends).filter(|ends| *ends != NEVER);
        let mut ends: Vec<_> = known.filter(|ends| *ends >= now).collect();
        ends.sort_unstable();
        ends.into_iter().find(|end| self.free_at(*end).covers(need))
    }

    /// Its allocation has ended, and everything on it.
    pub(super) fn go(&mut self) {
        self.is_gone = true;
        self.held = false;
        self.steps = Vec::new();
        self.note_ends();
        (self.cores, self.gpus) = (Ids::all(0), Ids::all(0));
    }

    fn note_ends(&mut self) {
        let ends = || self.steps.iter().map(|step| step.ends);
        (self.next_end, self.idle_at) =
            (ends().min().unwrap_or(NEVER), ends().max().unwrap_or_default());
        let unknown = self.steps.iter().filter(|step| step.ends == NEVER).count();
        self.unknown_ends = u32::try_from(unknown).unwrap_or(u32::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_the_ends_is_that_of_the_steps_there_are() {
        #[track_caller]
        fn check(node: &Node) {
            let ends = node.steps.iter().map(|step| step.ends);
            let unknown = ends.clone().filter(|end| *end == NEVER).count();
            let found = (node.next_end, node.idle_at, node.unknown_ends as usize);
            let (first, last) = (ends.clone().min(), ends.max());
            assert_eq!(found, (first.unwrap_or(NEVER), last.unwrap_or_default(), unknown));
        }
        let total =
            Total { amounts: Amounts { gpus: 0, cpus: 8, memory: 8 }, grain: 1, most_jobs: None };
        let mut node = Node::idle(NodeId(0), total, 0, 0);
        let share = NodeShare { node: NodeId(0), cores: [].into(), gpus: [].into(), memory: 1 };
        let ends = [Timestamp(7), NEVER, Timestamp(9), NEVER, NEVER, Timestamp(9)];
        for (ends, job) in ends.into_iter().zip(0..) {
            node.take(JobId(job), ends, &share);
            check(&node);
        }
        for job in [2, 1, 3, 0, 4] {
            node.give_back(JobId(job));
            check(&node);
        }
        node.note_overrun(Timestamp(10));
        check(&node);
        node.give_back(JobId(5));
        check(&node);
    }

    #[test]
    fn a_step_overruns_when_its_end_has_passed() {
        let total =
            Total { amounts: Amounts { gpus: 0, cpus: 8, memory: 8 }, grain: 1, most_jobs: None };
        let mut node = Node::idle(NodeId(0), total, 0, 0);
        let share = NodeShare { node: NodeId(0), cores: [].into(), gpus: [].into(), memory: 1 };
        for (job, ends) in [(1, 9), (2, 10)] {
            node.take(JobId(job), Timestamp(ends), &share);
        }
        node.note_overrun(Timestamp(10));
        let ends: Vec<_> = node.steps.iter().map(|step| step.ends).collect();
        assert_eq!(ends, [NEVER, Timestamp(10)]);
    }
}
