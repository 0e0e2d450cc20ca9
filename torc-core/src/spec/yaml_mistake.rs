//! What was probably meant by YAML that cannot be read: where to point, and what to write instead.
//!
//! Knows where the scanner stopped, what it said, and the lines around that place; never decides whether a text
//! is YAML. Invariant: a place that it gives lies within the text, and where it recognises nothing it repeats
//! what the scanner said.

mod lines;

use std::ops::Range;

use lines::{Line, before, in_quotes};

use super::problems::verbatim;
use crate::diagnostics::{Problem, Span};

/// A mistake, its place in bytes of the text.
#[derive(Debug)]
struct Mistake {
    place: Range<usize>,
    why: String,
    label: String,
    help: String,
}

impl Mistake {
    fn new(
        place: Range<usize>,
        why: impl Into<String>,
        label: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self { place, why: why.into(), label: label.into(), help: help.into() }
    }
}

/// The problem of a text at whose byte `at` the scanner gave up with these words. `offset` is where the text
/// begins in its source.
pub(crate) fn problem(text: &str, at: usize, said: &str, offset: usize) -> Problem {
    let at = text.floor_char_boundary(at.min(text.len()));
    if let Some(tab) = tab_near(text, at) {
        let start = tab + offset;
        return Problem::error("spec::yaml-tab", "YAML cannot be indented with tabs")
            .at(Span { start, end: start + 1 }, "a tab")
            .help("indent with spaces, two for each level");
    }
    let Mistake { place, why, label, help } = recognised(text, at, said).unwrap_or_else(|| {
        let help = "look at the indentation, quotes and brackets here and on the line before";
        Mistake::new(at..at, said, "here", help)
    });
    let span = Span { start: place.start + offset, end: place.end + offset };
    Problem::error("spec::yaml-syntax", format!("this is not valid YAML: {why}"))
        .at(span, label)
        .help(help)
}

fn recognised(text: &str, at: usize, said: &str) -> Option<Mistake> {
    let has = |words: &[&str]| words.iter().any(|words| said.contains(words));
    if has(&["unknown escape character"]) {
        return unknown_escape(text, at);
    }
    if has(&["trailing content after"]) {
        return behind_quotes(text, at);
    }
    if has(&["quoted scalar"]) {
        return open_quote(text, at);
    }
    if has(&["unknown anchor", "unexpected character", "anchor or alias", "mapping keys are not"]) {
        return first_letter(text, at);
    }
    if has(&["did not find expected comment"]) {
        return behind_block_sign(text, at);
    }
    if has(&["misplaced bracket"]) {
        let help = "remove it, or write the one that it closes";
        return Some(Mistake::new(
            one(text, at),
            "a bracket closes nothing",
            "closes nothing",
            help,
        ));
    }
    if has(&["flow", "node content"]) {
        return bracket(text, at);
    }
    behind_bracket(text, at)
        .or_else(|| no_blank(text, at))
        .or_else(|| colon_in_value(text, at))
        .or_else(|| {
            block_text(text, at).or_else(|| no_colon(text, at)).or_else(|| indentation(text, at))
        })
}

/// The letter at a place.
fn one(text: &str, at: usize) -> Range<usize> {
    at..at + text[at..].chars().next().map_or(0, char::len_utf8)
}

/// A tab in the indentation of the line of `at`, of the one before or of the one after: the scanner
/// notices some tabs late.
fn tab_near(text: &str, at: usize) -> Option<usize> {
    let before = text.get(..at).unwrap_or(text);
    let start = before.rmatch_indices('\n').nth(1).map_or(0, |(newline, _)| newline + 1);
    let mut line_start = start;
    text[start..].split_inclusive('\n').take(3).find_map(|line| {
        let indent = line.len() - line.trim_start_matches([' ', '\t']).len();
        let tab = line[..indent].find('\t').map(|tab| line_start + tab);
        line_start += line.len();
        tab
    })
}

/// `"\d"`: the scanner points at the opening quote.
fn unknown_escape(text: &str, at: usize) -> Option<Mistake> {
    const KNOWN: &str = "0abt\tnvfre \"/\\N_LPxuU\n\r";
    let mut letters = text[at..].char_indices().skip(1);
    while let Some((place, letter)) = letters.next() {
        if letter == '\\' {
            let (_, escaped) = letters.next()?;
            if !KNOWN.contains(escaped) {
                let place = at + place;
                let end = place + 1 + escaped.len_utf8();
                let why =
                    format!("`\\{}` is no escape in double quotes", verbatim(&escaped.to_string()));
                let help = format!(
                    "write `\\\\{}`, or use single quotes, where a backslash is only that",
                    verbatim(&escaped.to_string())
                );
                return Some(Mistake::new(place..end, why, "an unknown escape", help));
            }
        }
    }
    None
}

/// `'it's'`, `"a" b`: a value goes on behind its closing quote.
fn behind_quotes(text: &str, at: usize) -> Option<Mistake> {
    let why = "a value goes on behind its closing quote";
    let mistake = |help| Some(Mistake::new(one(text, at), why, "behind the quote", help));
    let line = Line::at(text, at);
    let Some(value) = line.value().filter(|value| value.text.starts_with(['"', '\''])) else {
        return mistake(
            "put single quotes around the whole value, and write those in it twice".to_owned(),
        );
    };
    let is_single = value.text.starts_with('\'');
    let is_one_text = value.text.matches('\'').count() % 2 == 1 && value.text.ends_with('\'');
    let right = if is_single && is_one_text {
        in_quotes(&value.text[1..value.text.len() - 1])
    } else {
        in_quotes(value.text)
    };
    mistake(format!("write `{}`", verbatim(&right)))
}

/// `"a`: the scanner points at the opening quote.
fn open_quote(text: &str, at: usize) -> Option<Mistake> {
    let quote = text[at..].chars().next().filter(|first| matches!(first, '"' | '\''))?;
    let rest = text[at..].lines().next().unwrap_or_default().trim_end();
    let help =
        format!("close it: if the value ends on this line, write `{}{quote}`", verbatim(rest));
    Some(Mistake::new(one(text, at), "a quote is never closed", "opened here", help))
}

/// `@x`, `*.csv`, `` `x` ``: values that need quotes for their first letter.
fn first_letter(text: &str, at: usize) -> Option<Mistake> {
    let letter = text[at..].chars().next()?;
    let line = Line::at(text, at);
    let mut rest = text[at..].lines().next().unwrap_or_default().trim_end();
    let so_far = &line.text[..at - line.start];
    if so_far.contains(['[', '{']) {
        rest = rest.split([',', ']', '}']).next().unwrap_or(rest).trim_end();
    }
    let quoted = in_quotes(rest);
    let place = at..at + rest.len();
    let name = &rest[letter.len_utf8().min(rest.len())..];
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || "_-".contains(c));
    if letter == '*' && is_name {
        let name = verbatim(name);
        let help = format!(
            "write `&{name}` before the value that it stands for, further up; if it is text, write `{}`",
            verbatim(&quoted)
        );
        return Some(Mistake::new(
            place,
            format!("there is no anchor `{name}`"),
            "an unknown anchor",
            help,
        ));
    }
    let why = format!("a value cannot begin with {letter} without quotes");
    Some(Mistake::new(place, why, "needs quotes", format!("write `{}`", verbatim(&quoted))))
}

/// `| echo`: text on the line of the sign that says it begins on the next.
fn behind_block_sign(text: &str, at: usize) -> Option<Mistake> {
    let line = Line::at(text, at);
    let sign = text[at..].chars().next().filter(|sign| matches!(sign, '|' | '>'))?;
    let why = format!("the text of `{sign}` begins on the next line");
    let help = format!(
        "write it there, indented deeper than this line; if `{sign}` belongs to it, write `{}`",
        verbatim(&in_quotes(text[at..line.end()].trim_end()))
    );
    Some(Mistake::new(at..line.end(), why, "not on this line", help))
}

/// Something is wrong between brackets, or they are not closed.
fn bracket(text: &str, at: usize) -> Option<Mistake> {
    let here = text[at..].chars().next();
    if here == Some(':') {
        let why = "between brackets an entry has a second colon";
        let help = "put a comma before each `key: value`, as in `{name: a, command: x}`; a value with `: ` or \
                    `, ` in it needs quotes";
        return Some(Mistake::new(one(text, at), why, "a second colon", help));
    }
    let open = lines::open_bracket(&text[..at])?;
    let (bracket, closing) = if text[open..].starts_with('{') { ('{', '}') } else { ('[', ']') };
    let number = Line::at(text, open).number;
    if Line::at(text, at).number != number {
        let why = format!("the `{bracket}` is never closed");
        let help = format!("write `{closing}` where it ends, or a comma if it goes on");
        return Some(Mistake::new(one(text, open), why, "opened here", help));
    }
    let why = format!("a comma or `{closing}` is missing");
    let label = format!("`{closing}` or a comma is missing before this");
    let column = text[Line::at(text, open).start..open].chars().count() + 1;
    let help = format!(
        "write `{closing}` for the `{bracket}` in column {column}, or a comma if it goes on"
    );
    Some(Mistake::new(one(text, at), why, label, help))
}

/// `{i}_a`: a value that begins with a bracket, and goes on behind it.
fn behind_bracket(text: &str, at: usize) -> Option<Mistake> {
    let line = Line::at(text, at);
    let value =
        line.value().filter(|value| value.text.starts_with(['{', '[']) && value.start < at)?;
    let why = "a value goes on behind its closing bracket";
    let help = format!("if it is text, write `{}`", verbatim(&in_quotes(value.text)));
    Some(Mistake::new(value.range(), why, "needs quotes", help))
}

/// `name:a`, `-name: a`: what makes a key or an item is a blank.
fn no_blank(text: &str, at: usize) -> Option<Mistake> {
    let lines = std::iter::once(Line::at(text, at)).chain(before(text, at));
    lines.take(2).find_map(|line| {
        let content = line.content();
        if let Some(rest) = content.text.strip_prefix('-')
            && rest.starts_with(|first: char| first.is_alphabetic() || first == '_')
            && rest.contains(':')
        {
            let help = format!("write `- {}`", verbatim(rest));
            return Some(Mistake::new(
                content.range(),
                "an item needs a blank behind its `-`",
                "no blank",
                help,
            ));
        }
        let (key, value) = content.text.split_once(':')?;
        let is_key =
            !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || "_-".contains(c));
        if !is_key || value.is_empty() || value.starts_with([' ', '/', '\\']) {
            return None;
        }
        let help = format!("write `{key}: {}`", verbatim(value));
        Some(Mistake::new(
            content.range(),
            "a key needs a blank behind its colon",
            "no blank",
            help,
        ))
    })
}

/// `command: echo a: b`, `jobs: - a`.
fn colon_in_value(text: &str, at: usize) -> Option<Mistake> {
    let line = Line::at(text, at);
    let value = line.value().filter(|value| value.start <= at)?;
    if let Some(item) = value.text.strip_prefix("- ") {
        let why = "a list cannot begin on the line of its key";
        let help = format!(
            "write `- {0}` on a line of its own, or the whole list as `[{0}]`",
            verbatim(item.trim())
        );
        return Some(Mistake::new(value.range(), why, "an item here", help));
    }
    if !value.text.contains(": ") && !value.text.ends_with(':') {
        return None;
    }
    let why = "a value with a colon and a blank in it needs quotes";
    let help = format!("write `{}: {}`", line.key()?, verbatim(&in_quotes(value.text)));
    Some(Mistake::new(value.range(), why, "needs quotes", help))
}

/// `command: |` whose text is not indented.
fn block_text(text: &str, at: usize) -> Option<Mistake> {
    let mut below = Line::at(text, at);
    for line in before(text, at) {
        let key_column = line.content().start - line.start;
        let sign = line.value().map_or("", |value| value.text);
        if matches!(sign, "|" | ">" | "|-" | ">-" | "|+" | ">+") {
            let content = below.content();
            let is_shallow = content.start - below.start <= key_column && below.key().is_none();
            let help = format!("begin its lines in column {}", key_column + 3);
            let why =
                format!("the text of `{}: {sign}` is not indented deeper than that", line.key()?);
            return is_shallow.then(|| Mistake::new(content.range(), why, "not deep enough", help));
        }
        if line.key().is_some() {
            return None;
        }
        below = line;
    }
    None
}

/// A line that is neither `key: value` nor `- item`, where one is needed.
fn no_colon(text: &str, at: usize) -> Option<Mistake> {
    // The scanner is on the next line already when it misses the colon.
    let lines = std::iter::once(Line::at(text, at)).chain(before(text, at).take(1));
    let mut lines = lines.filter(|line| !line.content().text.is_empty());
    let line = lines.find(|line| line.key().is_none())?;
    let content = line.content();
    let is_of_list = line.text.trim_start().starts_with('-');
    if is_of_list || content.text.starts_with(['"', '\'', '?', '{', '[']) {
        return None;
    }
    let help =
        "write `key: value`; if it goes on with the value above, indent it deeper than that key";
    Some(Mistake::new(content.range(), "this line has no key", "no `key:`", help))
}

/// A line that begins in none of the columns in which one can begin there.
fn indentation(text: &str, at: usize) -> Option<Mistake> {
    let line = Line::at(text, at);
    let content = Some(line.content()).filter(|content| !content.text.is_empty())?;
    let is_item = line.text.trim_start().starts_with("- ");
    let column = |line: &Line<'_>| {
        let start = if is_item { line.indent() } else { line.content().start - line.start };
        start + 1
    };
    let own = column(&line);
    // What lines above are within, from the innermost out.
    let mut levels: Vec<(usize, Line<'_>)> = Vec::new();
    for above in before(text, at).filter(|above| above.key().is_some()) {
        if !is_item && above.text.trim_start().starts_with("- ") && above.indent() + 1 == own {
            let help = format!("write `- {}`", verbatim(content.text));
            let why = "this is where the items of the list begin";
            return Some(Mistake::new(content.range(), why, "no `-`", help));
        }
        let fits = !is_item || above.text.trim_start().starts_with("- ");
        if fits && levels.last().is_none_or(|(known, _)| column(&above) < *known) {
            levels.push((column(&above), above));
        }
    }
    let (right, like) = levels.iter().min_by_key(|(level, _)| level.abs_diff(own))?;
    let why = if own > *right {
        "this line is indented too deeply"
    } else {
        "this line is not indented enough"
    };
    let help = format!(
        "begin it in column {right}, as `{}` on line {}",
        verbatim(like.key()?),
        like.number
    );
    let place = line.start + own - 1..line.end();
    (own != *right).then(|| Mistake::new(place, why, format!("begins in column {own}"), help))
}

#[cfg(test)]
mod tests;
