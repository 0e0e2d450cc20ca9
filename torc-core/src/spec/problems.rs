//! Collects the problems of one spec while it is read.
//!
//! Knows the source text and its format, so that a message can name a line and show an example. Keeps one problem for a code and
//! place: an item that expands to a hundred thousand jobs is wrong once.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashSet;

use super::{Format, meant};
use crate::diagnostics::{Problem, Severity, Span, nearest};

/// More than anybody reads; a bound on memory.
const MOST_KEPT: usize = 1_000;

/// A search for the nearest name walks over all names, which a hundred thousand wrong references
/// to a hundred thousand jobs cannot afford.
const MOST_HINTS: u32 = 50;

/// The problems found so far, and the text they are in.
pub(crate) struct Problems<'a> {
    source: &'a str,
    /// How the source is written: so are examples.
    format: Format,
    /// The places of the line breaks, once a line was asked for.
    breaks: OnceCell<Vec<usize>>,
    found: RefCell<Vec<Problem>>,
    seen: RefCell<HashSet<(&'static str, Span)>>,
    /// How many are kept: warnings, and errors.
    kept: [Cell<usize>; 2],
    dropped: Cell<usize>,
    hints: Cell<u32>,
    failed: Cell<bool>,
    not_run: RefCell<HashSet<&'static str>>,
}

impl<'a> Problems<'a> {
    pub(crate) fn new(source: &'a str) -> Self {
        Self {
            source,
            format: Format::Yaml,
            breaks: OnceCell::new(),
            found: RefCell::default(),
            seen: RefCell::default(),
            dropped: Cell::new(0),
            hints: Cell::new(MOST_HINTS),
            kept: Default::default(),
            failed: Cell::new(false),
            not_run: RefCell::default(),
        }
    }

    /// Examples are of this format; else they are YAML.
    pub(crate) fn of_format(source: &'a str, format: Format) -> Self {
        Self { format, ..Self::new(source) }
    }

    /// A field with an example of its value, which is in YAML, as the source would have it.
    pub(crate) fn pair(&self, name: &str, example: &str) -> String {
        meant::pair(self.format, name, example)
    }

    /// Adds a problem, unless there is one of the same code at the same place.
    pub(crate) fn push(&self, problem: Problem) {
        if problem.severity == Severity::Error {
            self.failed.set(true);
        }
        if let Some(span) = problem.span
            && !self.seen.borrow_mut().insert((problem.code, span))
        {
            return;
        }
        // Warnings leave room for as many errors.
        let is_error = problem.severity == Severity::Error;
        let kept = &self.kept[usize::from(is_error)];
        if kept.get() < MOST_KEPT {
            kept.set(kept.get() + 1);
            self.found.borrow_mut().push(problem);
        } else {
            self.dropped.set(self.dropped.get() + 1);
        }
    }

    /// Warns once that `what` is accepted although this release does not act on it.
    pub(crate) fn not_run(&self, what: &'static str, instead: &str, span: Span) {
        if self.not_run.borrow_mut().insert(what) {
            self.push(
                Problem::warning("spec::not-run-here", format!("{what} {instead}"))
                    .at(span, "no effect")
                    .help("the workflow runs without it"),
            );
        }
    }

    /// Whether an error was among them.
    pub(crate) fn failed(&self) -> bool {
        self.failed.get()
    }

    /// The source text at a place.
    pub(crate) fn written(&self, span: Span) -> &'a str {
        self.source.get(span.start..span.end).unwrap_or_default()
    }

    /// A smaller place: that of the first such text within one, less its first `skip` bytes; the whole where it is
    /// not written so.
    pub(crate) fn within(&self, span: Span, text: &str, skip: usize) -> Span {
        match self.written(span).find(text) {
            Some(at) => Span { start: span.start + at + skip, end: span.start + at + text.len() },
            None => span,
        }
    }

    /// The line of a place, from 1.
    pub(crate) fn line(&self, span: Span) -> usize {
        let breaks = self
            .breaks
            .get_or_init(|| self.source.match_indices('\n').map(|(place, _)| place).collect());
        breaks.partition_point(|place| *place < span.start) + 1
    }

    /// `did you mean ...`, when a known name is near.
    pub(crate) fn did_you_mean<'k>(
        &self,
        wrong: &str,
        known: impl IntoIterator<Item = &'k str>,
    ) -> Option<String> {
        let left = self.hints.get().checked_sub(1)?;
        self.hints.set(left);
        nearest(wrong, known).map(|name| format!("did you mean `{name}`?"))
    }

    /// All of them in the order of the source.
    pub(crate) fn finish(self) -> Vec<Problem> {
        let mut problems = self.found.into_inner();
        problems.sort_by_key(|problem| problem.span.map_or(0, |span| span.start));
        if self.dropped.get() > 0 {
            let more =
                format!("there are {} more problems, which are not shown", self.dropped.get());
            let problem = Problem::warning("spec::more", more).help("repair these first");
            let severity = if self.failed.get() { Severity::Error } else { Severity::Warning };
            problems.push(Problem { severity, ..problem });
        }
        problems
    }
}

/// Text for a message: at most sixty characters, control characters visible.
pub(crate) fn excerpt(text: &str) -> String {
    const MOST: usize = 60;
    let mut short: String = text.chars().take(MOST).flat_map(char::escape_debug).collect();
    if text.chars().nth(MOST).is_some() {
        short.push('…');
    }
    short
}

/// Text of a message that is to be written as it stands: as [`excerpt`], but quotes and backslashes are themselves.
pub(crate) fn verbatim(text: &str) -> String {
    const MOST: usize = 120;
    let shown = |letter: char| match letter {
        _ if letter.is_control() => letter.escape_debug().collect(),
        letter => String::from(letter),
    };
    let mut short: String = text.chars().take(MOST).map(shown).collect();
    if text.chars().nth(MOST).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(code: &'static str, start: usize) -> Problem {
        Problem::error(code, "wrong").at(Span { start, end: start + 1 }, "here")
    }

    #[test]
    fn one_problem_for_a_code_and_place_in_source_order() {
        let problems = Problems::new("abc\ndef");
        for (code, start) in [("b", 4), ("b", 4), ("a", 4), ("a", 0)] {
            problems.push(at(code, start));
        }
        assert_eq!(problems.line(Span { start: 4, end: 5 }), 2);
        let found: Vec<_> =
            problems.finish().iter().map(|p| (p.code, p.span.unwrap().start)).collect();
        assert_eq!(found, [("a", 0), ("b", 4), ("a", 4)]);
    }

    #[test]
    fn the_rest_is_counted() {
        let problems = Problems::new("");
        for start in 0..MOST_KEPT + 7 {
            problems.push(at("a", start));
        }
        let found = problems.finish();
        assert_eq!(found.len(), MOST_KEPT + 1);
        assert!(found[MOST_KEPT].message.contains("7 more"));
    }

    #[test]
    fn excerpts_are_short_and_show_controls() {
        assert_eq!(excerpt("a\nb"), "a\\nb");
        assert!(excerpt(&"x".repeat(100)).chars().count() == 61);
    }
}
