//! Lines of a YAML text, read roughly: what on one is a key, and what a value.
//!
//! Knows nothing of blocks that go over several lines. Places are bytes of the whole text.

use std::ops::Range;

/// A piece of a line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece<'t> {
    pub(super) start: usize,
    pub(super) text: &'t str,
}

impl Piece<'_> {
    pub(super) fn range(&self) -> Range<usize> {
        self.start..self.start + self.text.len()
    }
}

/// A line, without its line break.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line<'t> {
    pub(super) start: usize,
    pub(super) text: &'t str,
    /// From 1.
    pub(super) number: usize,
}

impl<'t> Line<'t> {
    /// The line of a place.
    pub(super) fn at(text: &'t str, at: usize) -> Self {
        let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let end = text[at..].find('\n').map_or(text.len(), |newline| at + newline);
        let number = text[..start].matches('\n').count() + 1;
        Self { start, text: text[start..end].trim_end_matches('\r'), number }
    }

    pub(super) fn end(&self) -> usize {
        self.start + self.text.len()
    }

    /// The blanks that it begins with.
    pub(super) fn indent(&self) -> usize {
        self.text.len() - self.text.trim_start().len()
    }

    /// What stands on it behind blanks and the signs of items.
    pub(super) fn content(&self) -> Piece<'t> {
        let mut rest = self.text.trim_start();
        while let Some(more) = rest.strip_prefix("- ") {
            rest = more.trim_start();
        }
        let start = self.start + self.text.len() - rest.len();
        Piece { start, text: rest.trim_end() }
    }

    /// Its key, when it has one that is written without quotes.
    pub(super) fn key(&self) -> Option<&'t str> {
        let (key, rest) = self.content().text.split_once(':')?;
        let is_name = |letter: char| letter.is_alphanumeric() || "_-.".contains(letter);
        let fits = !key.is_empty() && key.chars().all(is_name);
        (fits && (rest.is_empty() || rest.starts_with(' '))).then_some(key)
    }

    /// The value of its key.
    pub(super) fn value(&self) -> Option<Piece<'t>> {
        let content = self.content();
        let rest = &content.text[self.key()?.len() + 1..];
        let text = rest.trim_start();
        let start = content.start + content.text.len() - text.len();
        (!text.is_empty()).then_some(Piece { start, text })
    }
}

/// The lines before that of a place that are not blank and no comment, the nearest first.
pub(super) fn before(text: &str, at: usize) -> impl Iterator<Item = Line<'_>> {
    let first = Line::at(text, at);
    let mut next = Some(first).filter(|line| line.start > 0);
    let all = std::iter::from_fn(move || {
        let below = next?;
        let line = Line { number: below.number - 1, ..Line::ending(text, below.start - 1) };
        next = Some(line).filter(|line| line.start > 0);
        Some(line)
    });
    all.filter(|line| !line.text.trim().is_empty() && !line.text.trim_start().starts_with('#'))
}

impl<'t> Line<'t> {
    /// The line that ends at a place; its number is not counted.
    fn ending(text: &'t str, end: usize) -> Self {
        let start = text[..end].rfind('\n').map_or(0, |newline| newline + 1);
        Self { start, text: text[start..end].trim_end_matches('\r'), number: 0 }
    }
}

/// The innermost bracket that is open at the end of a text. Brackets in quotes do not count; a quote begins only
/// where a value can.
pub(super) fn open_bracket(text: &str) -> Option<usize> {
    let mut open = Vec::new();
    let mut quote = None;
    let mut last = '\n';
    for (place, letter) in text.char_indices() {
        match (letter, quote) {
            (_, Some(opened)) if letter == opened && last != '\\' => quote = None,
            (_, Some(_)) => {}
            ('"' | '\'', None) if " [{,:\n".contains(last) => quote = Some(letter),
            ('[' | '{', None) if !open.is_empty() || " [{,\n".contains(last) => open.push(place),
            (']' | '}', None) => {
                open.pop();
            }
            _ => {}
        }
        last = letter;
    }
    open.pop()
}

/// A text in single quotes; in double ones where it has single quotes itself and nothing that those change.
pub(super) fn in_quotes(text: &str) -> String {
    if text.contains('\'') && !text.contains(['"', '\\']) {
        format!("\"{text}\"")
    } else {
        format!("'{}'", text.replace('\'', "''"))
    }
}
