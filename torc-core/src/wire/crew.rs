//! What the worker of an allocation and the workers of its nodes say to each other, in mode direct.
//!
//! The node's worker speaks first, with [`FromNode::Hello`]; the answer is [`ToNode::Welcome`] or
//! [`ToNode::Refused`]. The connection is the node's lease: neither side takes it up again once it is lost.
//! The node's worker ends what it runs then, and the other side waits until that is certain to be over.

use serde::{Deserialize, Serialize};

use crate::ids::StepId;
use crate::traits::{Step, StepEvent, StepSignal};

/// What a node's worker says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromNode {
    /// Its node, as the scheduler calls it. Always the first message.
    Hello(Box<str>),
    /// A report of its executor.
    Report(StepEvent),
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
    },
    /// Launch a step.
    Launch(Box<Step>),
    /// Signal a step, if it runs.
    Signal(StepId, StepSignal),
    /// Let what runs come to its end, report that, and end.
    WindUp {
        /// The scheduler itself has asked all processes to end.
        is_asked: bool,
    },
}
