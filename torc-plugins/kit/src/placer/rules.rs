//! The rules, and what it means to break one.
//!
//! Owns: their words. Does not know: when which rule is looked at.

/// What must hold of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// Only who waits is started, once.
    Waits,
    /// The limit of a decision.
    Limit,
    /// The shape of a placement.
    WellFormed,
    /// P1.
    Room,
    /// P2.
    Whole,
    /// P3, of starts.
    Fits,
    /// P3, of explanations.
    Never,
    /// P4.
    Works,
    /// P5, of one decision.
    Promise,
    /// P6.
    Walltime,
    /// P8, of nodes.
    Up,
    /// P9.
    Explains,
}

impl Rule {
    /// What is expected.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Waits => "only waiting jobs to be started, each once",
            Self::Limit => "no more starts than the limit",
            Self::WellFormed => {
                "a placement of the live allocation that it names, with exactly what the job asks for"
            }
            Self::Room => "no core, GPU or memory to be given to two at once",
            Self::Whole => {
                "whole idle nodes of one allocation for a job on several nodes, and nobody beside it"
            }
            Self::Fits => "starts only where a job fits and may run",
            Self::Never => "exactly the jobs that can never start to be called so",
            Self::Works => "no job to wait that may start",
            Self::Promise => "planned starts of waiting jobs, on enough nodes that are up",
            Self::Walltime => "no start of a job that would outlast its allocation",
            Self::Up => "nothing new on nodes that drain or are down",
            Self::Explains => "a cause for every waiting job, and for no other",
        }
    }
}

/// A rule that was broken, and how.
#[derive(Clone, Debug)]
pub(super) struct Breach {
    pub(super) rule: Rule,
    pub(super) seen: String,
}

/// A breach unless it holds.
pub(super) fn ensure(holds: bool, rule: Rule, seen: impl FnOnce() -> String) -> Result<(), Breach> {
    if holds { Ok(()) } else { Err(Breach { rule, seen: seen() }) }
}
