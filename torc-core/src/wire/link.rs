//! What a worker and its server say to each other, over one WebSocket.
//!
//! The worker speaks first, with a [`Hello`]; the server answers with [`ToWorker::Welcome`] or
//! [`ToWorker::Refused`]; one that cannot tell, because it is stale or does not drive the workflow,
//! closes the connection, and the worker looks for a server again. After a lost connection they begin anew, and nothing is lost: the worker keeps
//! each end in its journal until it is acknowledged, and the server launches again what the worker
//! does not know. A launch is named by its step, so that twice is once.

use serde::{Deserialize, Serialize};

use crate::engine::ActionCommand;
use crate::ids::{AllocationId, StepId, WorkflowId};
use crate::resources::NodeInventory;
use crate::time::Timestamp;
use crate::traits::{AllocationHandle, NodeState, Step, StepEvent, StepSignal};

/// The first words of a worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// [`super::PROTOCOL`] of the worker.
    pub protocol: u32,
    /// Its version of torc.
    pub version: String,
    /// The host that it runs on.
    pub host: String,
    /// The workflow that it works for.
    pub workflow: WorkflowId,
    /// The allocation that it works in.
    pub allocation: AllocationId,
    /// The scheduler's name for that.
    pub handle: AllocationHandle,
    /// The highest generation of a server that it has served: a server of a lower one is stale.
    pub generation: i64,
    /// The nodes that it has.
    pub nodes: Vec<NodeInventory>,
    /// The state of those that are not up, by name. All others are.
    #[serde(default)]
    pub node_states: Vec<(Box<str>, NodeState)>,
    /// When the allocation began, by its scheduler's word.
    #[serde(default)]
    pub began_at: Option<Timestamp>,
    /// When the allocation ends.
    pub ends_at: Option<Timestamp>,
    /// The steps that it runs, and since when, as far as their processes run.
    pub running: Vec<(StepId, Option<Timestamp>)>,
    /// The ends that were not acknowledged.
    pub ended: Vec<StepEvent>,
}

/// What a worker says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToServer {
    /// Who it is, and what it has. Always the first message.
    Hello(Box<Hello>),
    /// A report of its executor.
    Report(StepEvent),
    /// The allocation ends at another time than it said before.
    EndMoved(Option<Timestamp>),
    /// A command of an action ended with this code; 128 + n after signal n.
    CommandEnded(ActionCommand, i32),
}

/// What becomes of a node whose worker ends while the allocation goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Parting {
    /// It stays in the allocation, and idles.
    Stays,
    /// The scheduler gets it back.
    GoesBack,
}

/// What a server says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToWorker {
    /// The worker was taken in. Orders follow.
    Welcome {
        /// The server's generation.
        generation: i64,
    },
    /// The worker was not taken in, and is to end: its allocation is over, or another's.
    Refused {
        /// Why.
        reason: String,
    },
    /// Launch a step, unless it is known.
    Launch(Box<Step>),
    /// Signal a step, if it runs.
    Signal(StepId, StepSignal),
    /// The ends of these steps are durable.
    Acknowledged(Vec<StepId>),
    /// Run a command of an action.
    RunCommand {
        /// Which.
        command: ActionCommand,
        /// Its text, for `bash -c`.
        text: String,
        /// The file that its output goes to.
        output: String,
        /// Set on top of the worker's environment.
        env: Vec<(String, String)>,
        /// Its working folder.
        working_dir: String,
        /// The node to run it on; `None`: where the worker is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        node: Option<Box<str>>,
    },
    /// A node's worker is to end: nothing could run there any more.
    ReleaseNode {
        /// The node.
        node: Box<str>,
        /// What becomes of the node.
        parting: Parting,
    },
    /// The allocation ends then, by its scheduler's word. Only told to those who cannot ask it.
    EndsAt(Timestamp),
    /// End: there is nothing more to do here.
    Leave {
        /// Why.
        reason: String,
    },
}
