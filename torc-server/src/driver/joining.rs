//! Workers that come and go: whom a driver takes in, and how what a worker says of its nodes and steps is
//! brought together with what is known of them.
//!
//! Decides synchronously; what follows is held until it is durable. Of the connections of one allocation
//! only the newest counts.

use std::collections::{BTreeMap, BTreeSet};

use torc_core::engine::Event;
use torc_core::ids::{AllocationId, StepId};
use torc_core::time::Timestamp;
use torc_core::traits::{NodeState, StepSignal};
use torc_core::wire::link::{Hello, ToWorker};

use super::Driver;
use crate::handle::WorkerInput;
use crate::workers::WorkerLink;

impl Driver {
    pub(super) fn take_worker(&mut self, input: WorkerInput, now: Timestamp) {
        match input {
            WorkerInput::Joined(hello, link) => {
                let (allocation, connection) = (hello.allocation, link.id);
                self.disturb(allocation);
                self.join(*hello, link, now);
                let is_taken_in = self.held.welcomes.iter().any(|(_, new)| new.id == connection);
                if let Some(served) = self.served.as_mut().filter(|_| is_taken_in) {
                    served.connections.insert(allocation, connection);
                }
            }
            WorkerInput::EndMoved(allocation, ends_at) => {
                self.disturb(allocation);
                self.apply(Event::AllocationEndMoved { at: now, allocation, ends_at });
            }
            WorkerInput::Suspended(allocation, suspended) => {
                self.apply(Event::AllocationSuspended { at: now, allocation, suspended });
            }
            WorkerInput::Left(allocation, connection) => {
                self.disturb(allocation);
                self.leave(allocation, connection, now);
            }
        }
    }

    /// A connection is gone. Its worker may have come back over another one before that was noticed.
    fn leave(&mut self, allocation: AllocationId, connection: u64, now: Timestamp) {
        let Some(served) = &mut self.served else { return };
        served.around.workers.unregister(allocation, connection);
        if served.connections.get(&allocation) == Some(&connection) {
            served.connections.remove(&allocation);
            served.be_patient(&self.engine, allocation);
            served.around.allocator.left((self.engine.id(), allocation));
            self.apply(Event::AllocationReachable { at: now, allocation, reachable: false });
        }
    }

    /// Takes a worker in, unless its allocation is not there for it.
    fn join(&mut self, hello: Hello, link: WorkerLink, now: Timestamp) {
        if let Err(reason) = self.admit(&hello, now) {
            link.send(ToWorker::Refused { reason });
            return;
        }
        let allocation = hello.allocation;
        self.held.welcomes.push((allocation, link.clone()));
        self.compare_nodes(allocation, &hello.node_states, now);
        for ended in hello.ended {
            self.take_step(ended, Some(&link));
        }
        self.compare_steps(allocation, &hello.running);
        let signals = self.engine.signals_for(allocation);
        self.hold_effects(signals);
        let commands = self.engine.commands_under_way();
        let commands: Vec<_> = commands.filter(|one| one.is_for(allocation)).collect();
        self.held.commands.extend(commands);
        if let Some(served) = &mut self.served {
            served.told_to_leave.remove(&allocation);
            served.around.allocator.worked((self.engine.id(), allocation));
        }
        self.tell_again_of_nodes_in(allocation);
    }

    /// Whether a worker's allocation is one of this workflow's that can have a worker; it has nodes
    /// then.
    fn admit(&mut self, hello: &Hello, now: Timestamp) -> Result<(), String> {
        let allocation = hello.allocation;
        let book = self
            .engine
            .allocation_book(allocation)
            .filter(|book| book.is_open_request())
            .ok_or_else(|| format!("allocation {allocation} is over"))?;
        match book.handle() {
            Some(handle) if *handle != hello.handle => {
                return Err(format!("allocation {allocation} is {handle}, not {}", hello.handle));
            }
            Some(_) => {}
            // It was faster than the scheduler's answer, or than this server's beginning. It may be the
            // only one who ever tells.
            None => {
                self.submitted(allocation, hello.handle.clone(), now);
                self.follow(allocation);
            }
        }
        match self.engine.grant(allocation, hello.nodes.clone(), hello.ends_at) {
            Some(allocation) => {
                let began_at = hello.began_at;
                self.apply(Event::AllocationGranted { at: now, began_at, allocation });
            }
            None => {
                self.apply(Event::AllocationReachable { at: now, allocation, reachable: true });
                let known = self.engine.allocation_book(allocation);
                if known.is_some_and(|book| book.allocation.ends_at != hello.ends_at) {
                    let ends_at = hello.ends_at;
                    self.apply(Event::AllocationEndMoved { at: now, allocation, ends_at });
                }
            }
        }
        Ok(())
    }

    /// Every node is as its worker says, also one that has recovered while it was away.
    fn compare_nodes(
        &mut self,
        allocation: AllocationId,
        not_up: &[(Box<str>, NodeState)],
        now: Timestamp,
    ) {
        let not_up: BTreeMap<&str, NodeState> =
            not_up.iter().map(|(name, state)| (&**name, *state)).collect();
        let changed = self.engine.nodes_in(allocation).filter_map(|(node, name, known)| {
            let state = not_up.get(name).copied().unwrap_or(NodeState::Up);
            let reason = match state {
                NodeState::Up => String::new(),
                _ => "its worker says so".to_owned(),
            };
            (state != known).then_some(Event::NodeStateChanged { at: now, node, state, reason })
        });
        for event in changed.collect::<Vec<_>>() {
            self.apply(event);
        }
    }

    /// Compares what a worker runs with what it should: it is given what it never got, and ends what
    /// is not its any more.
    fn compare_steps(&mut self, allocation: AllocationId, runs: &[(StepId, Option<Timestamp>)]) {
        let runs: BTreeMap<StepId, Option<Timestamp>> = runs.iter().copied().collect();
        let mine: Vec<_> = self.engine.running_in(allocation).collect();
        let mut is_mine = BTreeSet::new();
        for (job, attempt) in mine {
            let step = self.engine.step_id(job, attempt);
            is_mine.insert(step);
            match runs.get(&step) {
                Some(Some(at)) => self.apply(Event::StepStarted { job, attempt, at: *at }),
                Some(None) => {}
                None => self.held.launches.extend(self.engine.dispatch_of(job)),
            }
        }
        for step in runs.into_keys().filter(|step| !is_mine.contains(step)) {
            self.held.strangers.push((allocation, step));
        }
    }

    /// Has a worker end steps that are not its any more.
    pub(super) fn end_strangers(&self, strangers: &[(AllocationId, StepId)]) {
        let Some(served) = &self.served else { return };
        for (allocation, step) in strangers {
            if let Some(link) = served.around.workers.get(*allocation) {
                link.send(ToWorker::Signal(*step, StepSignal::Kill));
            }
        }
    }
}
