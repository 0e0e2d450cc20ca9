//! The launcher's interface: how a step is started is written down.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Step;

/// Of `plan`. The answer is a [`LaunchPlan`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LaunchPlanRequest {
    /// The step.
    pub step: Step,
    /// Where the plan's files will lie, absolute.
    pub folder: String,
}

/// What to execute for a step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LaunchPlan {
    /// The program and its arguments; the program absolute, or a name to be found in `PATH`.
    pub argv: Vec<String>,
    /// Set on top of the step's environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Files to be written before the start, in the folder that is the step's own: name and content.
    #[serde(default)]
    pub files: Vec<(String, String)>,
}
