//! What a check found.
//!
//! Owns: the words that say what was expected and what was seen. Does not know: any trait.

use std::fmt::Debug;

/// Why a check does not say that all is well.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// The contract is broken.
    #[error("expected {expected}; saw {seen}")]
    Broken {
        /// What the contract says.
        expected: String,
        /// What was there instead.
        seen: String,
    },
    /// It could not be looked at, for no fault of the candidate.
    #[error("could not be looked at: {0}")]
    NotShown(String),
}

/// Whether the contract is kept.
pub type Verdict = Result<(), Finding>;

/// The contract is broken.
pub(crate) fn broken(expected: impl Into<String>, seen: impl Into<String>) -> Finding {
    Finding::Broken { expected: expected.into(), seen: seen.into() }
}

/// Broken unless it holds.
pub(crate) fn ensure(holds: bool, expected: &str, seen: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(broken(expected, seen())) }
}

/// Broken unless both are the same. `what` says what is compared.
pub(crate) fn same<T: PartialEq + Debug + ?Sized>(what: &str, expected: &T, seen: &T) -> Verdict {
    ensure(expected == seen, &format!("{what} to be {expected:?}"), || format!("{seen:?}"))
}
