//! What one check of `torc doctor` found.

use std::fmt::Display;

use serde::Serialize;

/// What one check found.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Finding {
    pub(crate) check: &'static str,
    pub(crate) verdict: Verdict,
    pub(crate) found: String,
    /// What to do, when something is to be done.
    pub(crate) help: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    Good,
    Warning,
    Bad,
}

impl Verdict {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Warning => "warning",
            Self::Bad => "bad",
        }
    }
}

impl Finding {
    pub(crate) fn good(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Good, found: found.into(), help: None }
    }

    pub(crate) fn warning(
        check: &'static str,
        found: impl Display,
        help: impl Into<String>,
    ) -> Self {
        let found = found.to_string();
        Self { check, verdict: Verdict::Warning, found, help: Some(help.into()) }
    }

    pub(crate) fn bad(check: &'static str, found: impl Display, help: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Bad, found: found.to_string(), help: Some(help.into()) }
    }
}
