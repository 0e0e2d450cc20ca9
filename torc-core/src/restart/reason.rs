//! Why a job runs again: a contract with users' scripts, as all of [`crate::wire`].

use serde::{Deserialize, Serialize};

/// Why a job runs again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Reason {
    /// It failed.
    Failed,
    /// A time limit ended it.
    Terminated,
    /// It was canceled.
    Canceled,
    /// It has not run in any run.
    NeverRan,
    /// Its run was interrupted before it had ended.
    Unfinished,
    /// Its command, or the script before it, is another one.
    CommandChanged,
    /// These variables of its environment differ.
    EnvChanged {
        /// Their names, sorted.
        names: Vec<String>,
    },
    /// It needs something else.
    RequirementsChanged {
        /// What.
        changes: Vec<Changed>,
    },
    /// Something else starts its command.
    LauncherChanged,
    /// It depends on other jobs.
    DependenciesChanged {
        /// Jobs that it did not depend on before.
        added: Vec<String>,
        /// Jobs that it does not depend on any more.
        removed: Vec<String>,
    },
    /// A value that it reads is another one.
    UserDataChanged {
        /// The name of the user data.
        name: String,
    },
    /// The content of a file that it reads is another one.
    InputChanged {
        /// The path of the file, as in the spec.
        file: String,
    },
    /// It did not read this file before.
    InputAdded {
        /// The path.
        file: String,
    },
    /// A file that it reads is not there.
    InputGone {
        /// The path.
        file: String,
    },
    /// A file that it writes is not there.
    OutputGone {
        /// The path.
        file: String,
    },
    /// It depends on a job that runs again.
    After {
        /// That job.
        job: String,
    },
    /// All jobs were wished.
    All,
}

/// One difference in what a job needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// The field of the resource requirements, as in a spec.
    pub field: String,
    /// As it was, in words.
    pub from: String,
    /// As it is.
    pub to: String,
}
