//! The launcher's interface: how a step is started is written down.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What to execute for a step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchPlan {
    /// The program and its arguments; the program absolute, or a name to be found in `PATH`.
    pub argv: Vec<String>,
    /// Set on top of the step's environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Files to be written before the start: the name in a folder of the step's own, and the content. In `argv` and
    /// `env`, `{files}` stands for that folder.
    #[serde(default)]
    pub files: Vec<(String, String)>,
}
