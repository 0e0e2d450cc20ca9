//! What the worker of an allocation and the workers of its nodes say to each other.
//!
//! The node's worker speaks first, with [`FromNode::Hello`]; the answer is [`ToNode::Welcome`] or
//! [`ToNode::Refused`]. The connection is the node's lease: neither side takes it up again once it is lost.
//! The node's worker ends what it runs then, and the other side waits until that is certain to be over.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::StepId;
use crate::resources::NodeInventory;
use crate::traits::{Step, StepEvent, StepSignal};

/// What a node's worker says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromNode {
    /// Who it is. Always the first message.
    Hello {
        /// Its node, as the scheduler calls it.
        node: Box<str>,
        /// What it has there; `None`: as the scheduler said.
        has: Option<Box<NodeInventory>>,
    },
    /// Not a node's worker, but a job: it has a command started on another of its nodes. The first message, and the
    /// only one; the command ends with the connection.
    Start(Box<HelperStart>),
    /// A report of its executor.
    Report(StepEvent),
    /// The command of this number ended with this code; 128 + n after signal n.
    CommandEnded(u64, i32),
    /// It is there: the answer to [`ToNode::Probe`].
    Present(StepId),
}

/// A command that a job on several nodes has started on another of them, as launchers of ranks do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HelperStart {
    /// The job.
    pub step: StepId,
    /// The node.
    pub node: Box<str>,
    /// The command, for `sh -c`.
    pub text: String,
    /// Set on top of the environment of jobs there.
    pub env: BTreeMap<String, String>,
    /// Its working folder.
    pub working_dir: String,
}

/// What it is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToNode {
    /// It was taken in. Orders follow.
    Welcome,
    /// It was not taken in, and is to end.
    Refused {
        /// Why.
        reason: String,
        /// The same worker may be taken in later: its predecessor is still there, or its end was not noticed.
        may_ask_again: bool,
    },
    /// Launch a step.
    Launch(Box<Step>),
    /// Signal a step, if it runs.
    Signal(StepId, StepSignal),
    /// Run a command of an action.
    RunCommand {
        /// Its number, by which its end is told.
        number: u64,
        /// Its text, for `bash -c`.
        text: String,
        /// The file that its output goes to.
        output: String,
        /// Set on top of the worker's environment.
        env: Vec<(String, String)>,
        /// Its working folder.
        working_dir: String,
    },
    /// Only said to a job: the command is being started, and its output goes to these files.
    HelperStarted {
        /// Its standard output.
        stdout: String,
        /// Its standard error.
        stderr: String,
    },
    /// Only said to a job: the command ended with this code; 128 + n after signal n, 255 when it was not started or is
    /// lost.
    HelperEnded(i32),
    /// Show that it is there: this step, of which ranks may have run on the node, has failed.
    Probe(StepId),
    /// Ask what runs to end, report its ends, and end.
    WindUp,
}
