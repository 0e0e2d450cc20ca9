//! What a crew knows, and what follows from what happens. Pure.
//!
//! Owns: where each node's worker stands, and which steps it was given. Does not know: connections, Slurm, how it
//! is found out whose doing an end is. Invariants: each step that was taken over ends exactly once, and only when
//! no process of it can be left; a node that is gone stays gone; a gang one of whose nodes is gone ends as a job of
//! that node does, unless its command succeeds.
//!
//! A worker whose connection is lost ends what it runs: its lease is over. That this is done is known from the
//! scheduler, which tells when the worker's task or the node has ended, or from the time that has passed.

mod nodes;
mod steps;

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use torc_core::ids::{AllocationId, StepId};
use torc_core::time::Timestamp;
use torc_core::traits::{NodeState, Outcome, Step, StepEvent};
use torc_core::wire::crew::ToNode;
use torc_core::wire::link::Parting;
use torc_executors::direct::Traces;
use torc_executors::slurm::Standing;

use super::doubts::{Doubts, Settled};
use super::paced::Paced;
use nodes::BETWEEN_RETURNS;

/// How long a node's worker may take to come, from the start of all.
pub(super) const COMES_WITHIN: Duration = Duration::from_secs(180);
/// How long after the loss of its connection a worker may still run something: as long as it may take to
/// notice, and to end all it runs.
pub(super) const LEASE: Duration = Duration::from_secs(75);

/// A place in the list of nodes.
pub(super) type Place = usize;

/// The moment at which something happens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    pub(super) instant: Instant,
    pub(super) at: Timestamp,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Effect {
    /// Say something to a node's worker.
    Say(Place, ToNode),
    /// Close the connection to a node's worker.
    Dismiss(Place),
    /// Report something.
    Emit(StepEvent),
    /// End what these jobs may have left in Slurm, whose workers are gone; to be answered by
    /// [`Books::cleared`].
    Clear(Vec<Traces>),
    /// Give the nodes back to the scheduler that are not [`Books::kept`]; to be answered by
    /// [`Books::given_back`].
    GiveBack,
    /// Ask where the allocation stands; to be answered by [`Books::stands`].
    AskStanding,
}

/// Where a node's worker stands.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stand {
    /// It has not come yet, and must by then.
    Awaited(Instant),
    /// It is connected. What the scheduler has said of its end, if it has.
    Here(Option<String>),
    /// Its connection is lost; it is over by then.
    Cut(Instant, String),
    /// It is over, for this reason.
    Gone(String),
    /// It has ended as it was told, and has reported all.
    Left,
}

#[derive(Clone, Debug)]
struct Node {
    name: Box<str>,
    stand: Stand,
    /// The scheduler's word on it.
    state: NodeState,
    /// Its worker is to end before the others.
    parting: Option<Parting>,
    /// Its worker has ended, and is started again.
    comes_again: bool,
}

/// Why a worker is not taken in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) reason: String,
    /// It may be later.
    pub(super) may_ask_again: bool,
}

/// A step that was taken over.
#[derive(Clone, Debug)]
struct Entry {
    /// Its nodes; the first starts it.
    places: Vec<Place>,
    /// What its helpers on other nodes are made after, if it has several.
    gang: Option<Box<Step>>,
    /// It waits for the worker of its first node.
    waiting: Option<Box<Step>>,
    /// Its end is not the job's own doing.
    is_asked: bool,
    /// Another node of it is gone: how it ends, whatever its command does.
    doom: Option<Outcome>,
    /// It has ended like this, and what it may have left is being ended.
    clearing: Option<Outcome>,
}

/// The books of a crew.
#[derive(Debug)]
pub(super) struct Books {
    allocation: AllocationId,
    nodes: Vec<Node>,
    places: HashMap<Box<str>, Place>,
    steps: BTreeMap<StepId, Entry>,
    doubts: Doubts,
    returns: Paced,
    /// Attempts to give nodes back that failed, in a row.
    failed_returns: u32,
    /// Nothing is launched any more; whether because the scheduler takes the allocation away.
    winding_up: Option<bool>,
}

impl Books {
    /// Nodes whose workers are being started.
    pub(super) fn new(
        allocation: AllocationId,
        names: impl IntoIterator<Item = Box<str>>,
        now: Now,
    ) -> Self {
        let stand = Stand::Awaited(now.instant + COMES_WITHIN);
        let node = |name| Node {
            name,
            stand: stand.clone(),
            state: NodeState::Up,
            parting: None,
            comes_again: false,
        };
        let nodes: Vec<Node> = names.into_iter().map(node).collect();
        let places = nodes.iter().enumerate().map(|(place, node)| (node.name.clone(), place));
        Self {
            allocation,
            places: places.collect(),
            nodes,
            steps: BTreeMap::new(),
            doubts: Doubts::new(),
            returns: Paced::every(BETWEEN_RETURNS),
            failed_returns: 0,
            winding_up: None,
        }
    }

    /// The steps that have not ended.
    pub(super) fn steps(&self) -> impl Iterator<Item = StepId> {
        self.steps.keys().copied()
    }

    /// Whether all has been done that was to be: nothing more is launched, and no worker has anything to tell.
    pub(super) fn is_done(&self) -> bool {
        let has_more = |node: &Node| matches!(node.stand, Stand::Here(_));
        self.winding_up.is_some() && self.steps.is_empty() && !self.nodes.iter().any(has_more)
    }

    /// A node's place.
    pub(super) fn place_of(&self, name: &str) -> Option<Place> {
        self.places.get(name).copied()
    }

    /// Whether a node's worker may still come, for the first time or again.
    pub(super) fn may_come(&self, place: Place) -> bool {
        matches!(self.nodes[place].stand, Stand::Awaited(_) | Stand::Cut(..))
    }

    /// Whether a node's worker has not come yet that still may.
    pub(super) fn awaits_any(&self) -> bool {
        self.nodes.iter().any(|node| matches!(node.stand, Stand::Awaited(_)))
    }

    /// Nothing is launched any more, and what runs is asked to end. When the scheduler takes the allocation away
    /// (`is_taken`), only success is a job's own doing.
    pub(super) fn wind_up(&mut self, is_taken: bool, now: Now) -> Vec<Effect> {
        if let Some(known) = &mut self.winding_up {
            *known |= is_taken;
            return if is_taken { self.settle_all(Standing::Ended) } else { Vec::new() };
        }
        self.winding_up = Some(is_taken);
        let mut effects = self.end_waiting(now);
        if is_taken {
            effects.extend(self.settle_all(Standing::Ended));
        }
        for (place, node) in self.nodes.iter().enumerate() {
            if matches!(node.stand, Stand::Here(_)) {
                effects.push(Effect::Say(place, ToNode::WindUp));
            }
        }
        effects
    }

    /// The earliest time at which something is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let due = self.nodes.iter().filter_map(|node| match node.stand {
            Stand::Awaited(until) | Stand::Cut(until, _) => Some(until),
            Stand::Here(_) | Stand::Gone(_) | Stand::Left => None,
        });
        due.chain(self.doubts.deadline()).chain(self.returns.deadline()).min()
    }

    /// This process was given no time for so long, and the workers perhaps none either: all have that much longer.
    pub(super) fn give_time(&mut self, more: Duration) {
        for node in &mut self.nodes {
            if let Stand::Awaited(until) | Stand::Cut(until, _) = &mut node.stand {
                *until += more;
            }
        }
    }

    /// Does what is due.
    pub(super) fn mind_deadlines(&mut self, now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        effects.extend(self.doubts.ask_if_due(now.instant).then_some(Effect::AskStanding));
        effects.extend(self.returns.begin_if_due(now.instant).then_some(Effect::GiveBack));
        for place in 0..self.nodes.len() {
            let why = match &self.nodes[place].stand {
                Stand::Awaited(until) if *until <= now.instant => {
                    format!("its worker did not come within {} s", COMES_WITHIN.as_secs())
                }
                Stand::Cut(until, why) if *until <= now.instant => why.clone(),
                _ => continue,
            };
            effects.extend(self.lose(place, (why, Outcome::Lost), now));
        }
        effects
    }

    fn tell(&self, place: Place, state: NodeState, reason: &str, now: Now) -> Effect {
        Effect::Emit(StepEvent::NodeChanged {
            allocation: self.allocation,
            node: self.nodes[place].name.clone(),
            at: now.at,
            state,
            reason: reason.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests;
