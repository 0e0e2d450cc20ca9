//! What a worker knows of its steps: which run, and which ended and may not be durable yet.
//!
//! Knows no connection and no process. An end leaves the books only when it is acknowledged.

use std::collections::btree_map::{BTreeMap, Entry};
use std::io;

use torc_core::engine::ActionCommand;
use torc_core::ids::StepId;
use torc_core::time::Timestamp;
use torc_core::traits::{NodeState, StepEvent};

use crate::journal::Journal;

#[derive(Debug)]
pub(super) struct Books {
    journal: Journal,
    /// The steps that were launched and have not ended, and since when they run.
    running: BTreeMap<StepId, Option<Timestamp>>,
    /// Of the nodes that are not up.
    node_states: BTreeMap<Box<str>, NodeState>,
    /// The commands that were begun, and the codes of those that ended: the server asks again for
    /// those whose end it has not made durable.
    commands: BTreeMap<ActionCommand, Option<i32>>,
    generation: i64,
}

impl Books {
    pub(super) fn new(journal: Journal) -> Self {
        Self {
            journal,
            running: BTreeMap::new(),
            node_states: BTreeMap::new(),
            commands: BTreeMap::new(),
            generation: 0,
        }
    }

    /// Whether a step is to be launched: it is not known.
    pub(super) fn launch(&mut self, step: StepId) -> bool {
        let has_ended =
            self.journal.kept().iter().any(
                |ended| matches!(ended, StepEvent::Ended { step: known, .. } if *known == step),
            );
        if has_ended || self.running.contains_key(&step) {
            return false;
        }
        self.running.insert(step, None);
        true
    }

    /// Takes note of a report.
    ///
    /// # Errors
    /// When an end could not be written down; it is kept in memory all the same.
    pub(super) fn note(&mut self, report: &StepEvent) -> io::Result<()> {
        match report {
            StepEvent::Started { step, at } => {
                if let Some(since) = self.running.get_mut(step) {
                    *since = Some(*at);
                }
            }
            StepEvent::Ended { step, .. } => {
                self.running.remove(step);
                return self.journal.keep(report.clone());
            }
            StepEvent::NodeChanged { node, state, .. } => {
                if *state == NodeState::Up {
                    self.node_states.remove(node);
                } else {
                    self.node_states.insert(node.clone(), *state);
                }
            }
        }
        Ok(())
    }

    /// The ends of these steps are durable.
    ///
    /// # Errors
    /// When the journal cannot be shortened, which does no harm.
    pub(super) fn acknowledge(&mut self, steps: &[StepId]) -> io::Result<()> {
        self.journal.let_go(steps)
    }

    /// A server has taken this worker in.
    pub(super) fn welcome(&mut self, generation: i64) {
        self.generation = self.generation.max(generation);
    }

    /// The highest generation of a server that this worker has served.
    pub(super) fn generation(&self) -> i64 {
        self.generation
    }

    pub(super) fn running(&self) -> Vec<(StepId, Option<Timestamp>)> {
        self.running.iter().map(|(step, since)| (*step, *since)).collect()
    }

    pub(super) fn ended(&self) -> &[StepEvent] {
        self.journal.kept()
    }

    /// The state of each node that is not up.
    pub(super) fn node_states(&self) -> Vec<(Box<str>, NodeState)> {
        self.node_states.iter().map(|(node, state)| (node.clone(), *state)).collect()
    }

    pub(super) fn is_up(&self, node: &str) -> bool {
        !self.node_states.contains_key(node)
    }

    /// Whether nothing runs.
    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty() && self.commands.values().all(Option::is_some)
    }

    /// A command is to be run.
    pub(super) fn begin_command(&mut self, command: ActionCommand) -> Begun {
        match self.commands.entry(command) {
            Entry::Vacant(place) => {
                place.insert(None);
                Begun::Now
            }
            Entry::Occupied(known) => known.get().map_or(Begun::Before, Begun::Ended),
        }
    }

    pub(super) fn end_command(&mut self, command: ActionCommand, code: i32) {
        self.commands.insert(command, Some(code));
    }

    /// Whether a command has ended will never be known.
    pub(super) fn forget_command(&mut self, command: ActionCommand) {
        self.commands.remove(&command);
    }
}

/// Where a command stands that is to be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begun {
    /// It was not known.
    Now,
    /// It runs already.
    Before,
    /// It has run, with this code.
    Ended(i32),
}
