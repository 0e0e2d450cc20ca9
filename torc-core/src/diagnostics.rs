//! Problems of a spec: what is wrong, where, and what to do.
//!
//! A problem is data; the command line renders it. Parsing and checking report every problem they
//! find, not the first.

use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Bytes `start..end` of a source text.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

impl From<Range<usize>> for Span {
    fn from(range: Range<usize>) -> Self {
        Self { start: range.start, end: range.end }
    }
}

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The spec cannot be used.
    Error,
    /// The spec can be used, but probably means something else, or something of it is not done.
    Warning,
}

/// One thing that is wrong with a spec.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Stable, such as `spec::unknown-job`.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// One sentence without a full stop.
    pub message: String,
    /// Where; `None` when the problem is with the file as a whole.
    pub span: Option<Span>,
    /// A few words to put beside the place.
    pub label: String,
    /// What to do, concretely.
    pub help: Option<String>,
}

impl Problem {
    /// A problem that makes the spec unusable.
    pub fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            severity: Severity::Error,
            message: message.into(),
            span: None,
            label: String::new(),
            help: None,
        }
    }

    /// A problem that the spec can be used with.
    pub fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, message) }
    }

    /// With a place and a few words beside it.
    #[must_use]
    pub fn at(mut self, span: Span, label: impl Into<String>) -> Self {
        self.span = Some(span);
        self.label = label.into();
        self
    }

    /// With what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// A source text with its name, for positions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceText {
    /// What people call it: a path, or `standard input`.
    pub name: Arc<str>,
    /// The text.
    pub text: Arc<str>,
}

impl SourceText {
    /// The line and column of a byte, both from 1; columns count characters.
    pub fn position(&self, byte: usize) -> (usize, usize) {
        let mut byte = byte.min(self.text.len());
        while !self.text.is_char_boundary(byte) {
            byte -= 1;
        }
        let before = &self.text[..byte];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        (line, before[line_start..].chars().count() + 1)
    }
}

/// The known name nearest to a mistyped one, when one is near enough to be meant. Never one for text
/// of megabytes, which comparing would take minutes for.
pub fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const LONGEST_TYPO: usize = 1024;
    if wrong.len() > LONGEST_TYPO {
        return None;
    }
    let enough = 0.7;
    known
        .into_iter()
        .map(|name| (strsim::jaro_winkler(wrong, name), name))
        .filter(|(likeness, _)| *likeness > enough)
        .max_by(|(left, _), (right, _)| left.total_cmp(right))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_from_one() {
        let source = SourceText { name: "x".into(), text: "aé\nbc".into() };
        assert_eq!(source.position(0), (1, 1));
        assert_eq!(source.position(3), (1, 3));
        assert_eq!(source.position(4), (2, 1));
        assert_eq!(source.position(99), (2, 3));
    }

    #[test]
    fn the_nearest_name_is_only_named_when_near() {
        assert_eq!(nearest("comand", ["command", "name"]), Some("command"));
        assert_eq!(nearest("zzz", ["command", "name"]), None);
    }
}
