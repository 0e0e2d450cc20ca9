//! Which names a regex selects.
//!
//! Each regex is compiled and matched once. One that begins with `^` and plain text is tried only
//! on the names that begin with that text, so that a regex for each job costs no more than a few
//! comparisons.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use regex::Regex;

use super::names::Names;
use crate::diagnostics::{Problem, Span};
use crate::spec::problems::{Problems, verbatim};

/// Answers for the names of one kind.
pub(crate) struct Patterns<'n> {
    names: &'n Names,
    /// Indices in the order of the names; made when first needed.
    sorted: Option<Vec<u32>>,
    known: HashMap<Box<str>, Rc<[u32]>>,
    /// A regex that selects nothing so far is as it should be.
    may_match_later: bool,
}

impl<'n> Patterns<'n> {
    pub(crate) fn new(names: &'n Names) -> Self {
        Self { names, sorted: None, known: HashMap::new(), may_match_later: false }
    }

    /// The same where names may come that are not there yet.
    pub(crate) fn of_growing(names: &'n Names, may_match_later: bool) -> Self {
        Self { may_match_later, ..Self::new(names) }
    }

    /// The ascending indices of the names that a regex matches. A wrong regex is an error, one that
    /// matches nothing a warning.
    pub(crate) fn select(
        &mut self,
        pattern: &str,
        span: Span,
        problems: &Problems<'_>,
    ) -> Rc<[u32]> {
        if let Some(known) = self.known.get(pattern) {
            return known.clone();
        }
        let found: Rc<[u32]> = match self.matches(pattern) {
            Ok(found) => {
                if found.is_empty() && !self.may_match_later {
                    problems.push(matches_nothing(pattern, span, self.names));
                }
                found.into()
            }
            Err(error) => {
                problems.push(bad_regex(pattern, &error, span));
                Rc::default()
            }
        };
        self.known.insert(pattern.into(), found.clone());
        found
    }

    fn matches(&mut self, pattern: &str) -> Result<Vec<u32>, regex::Error> {
        let prefix = literal_prefix(pattern);
        if let Some((text, true)) = &prefix {
            return Ok(self.names.find(text).into_iter().collect());
        }
        let regex = Regex::new(pattern)?;
        let names = self.names.all();
        let Some((prefix, _)) = prefix else {
            let indices = 0..u32::try_from(names.len()).unwrap_or(u32::MAX);
            return Ok(indices.filter(|index| regex.is_match(&names[*index as usize])).collect());
        };
        let sorted = self.sorted.get_or_insert_with(|| sorted(names));
        let name = |index: &u32| &*names[*index as usize];
        let start = sorted.partition_point(|index| name(index) < &*prefix);
        let candidates =
            sorted[start..].iter().take_while(|index| name(index).starts_with(&prefix));
        let mut found: Vec<u32> =
            candidates.filter(|index| regex.is_match(name(index))).copied().collect();
        found.sort_unstable();
        Ok(found)
    }
}

fn sorted(names: &[Arc<str>]) -> Vec<u32> {
    let mut indices: Vec<u32> = (0..u32::try_from(names.len()).unwrap_or(u32::MAX)).collect();
    indices.sort_unstable_by(|left, right| names[*left as usize].cmp(&names[*right as usize]));
    indices
}

/// The plain text that every match begins with, and whether it is the whole match; `None` when
/// nothing is certain.
fn literal_prefix(pattern: &str) -> Option<(String, bool)> {
    let rest = pattern.strip_prefix('^')?;
    // An alternative may begin otherwise, and a flag may change what letters mean.
    if rest.contains('|') || rest.contains("(?") {
        return None;
    }
    let mut prefix = String::new();
    let mut letters = rest.chars().peekable();
    while let Some(letter) = letters.next() {
        let literal = match letter {
            '$' if letters.peek().is_none() => return Some((prefix, true)),
            '\\' => match letters.next() {
                Some(escaped) if escaped.is_ascii_punctuation() && !"<>".contains(escaped) => {
                    escaped
                }
                _ => break,
            },
            '.' | '[' | '(' | '$' | '^' | '{' | '*' | '+' | '?' | ')' => break,
            plain => plain,
        };
        if matches!(letters.peek(), Some('*' | '?' | '{' | '+')) {
            break;
        }
        prefix.push(literal);
    }
    (!prefix.is_empty()).then_some((prefix, false))
}

fn matches_nothing(pattern: &str, span: Span, names: &Names) -> Problem {
    let message = format!("the regex `{}` matches no name", verbatim(pattern));
    let help = match names.some() {
        Some(some) => format!("correct it, or remove it; the names are {some}"),
        None => "remove it: there are no names".to_owned(),
    };
    Problem::warning("spec::regex-matches-nothing", message).at(span, "selects nothing").help(help)
}

fn bad_regex(pattern: &str, error: &regex::Error, span: Span) -> Problem {
    let text = error.to_string();
    let why = text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
    Problem::error("spec::bad-regex", format!("`{}` is not a regex: {why}", verbatim(pattern)))
        .at(span, "this regex")
        .help(right_regex(&why))
}

/// What to write in place of a wrong regex, by what its reader said.
fn right_regex(why: &str) -> &'static str {
    const ADVICE: [(&str, &str); 6] = [
        ("unclosed group", "write the `)` that is missing, or `\\(` for the bracket itself"),
        ("unopened group", "write the `(` that is missing, or `\\)` for the bracket itself"),
        (
            "unclosed character class",
            "write the `]` that is missing, or `\\[` for the bracket itself",
        ),
        ("repetition operator missing", "write `.*` for any letters, or `\\*` for the star itself"),
        ("look-around", "name what is to match: there is no `(?=`, `(?!`, `(?<=` and `(?<!`"),
        ("backreferences", "name what is to match: there is no `\\1`"),
    ];
    let known = ADVICE.iter().find(|(said, _)| why.contains(said));
    known.map_or(
        "the syntax is that of https://docs.rs/regex; write `\\.` for a full stop",
        |(_, help)| help,
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn select(pattern: &str, names: &[&str]) -> Vec<u32> {
        let problems = Problems::new("");
        let mut all = Names::new("job", "spec::unknown-job");
        for name in names {
            all.add((*name).into(), Span::default(), &problems);
        }
        Patterns::new(&all).select(pattern, Span::default(), &problems).to_vec()
    }

    #[test]
    fn prefixes_are_only_taken_when_certain() {
        let check = |pattern: &str, expected: Option<(&str, bool)>| {
            let expected = expected.map(|(text, whole)| (text.to_owned(), whole));
            assert_eq!(literal_prefix(pattern), expected, "{pattern}");
        };
        check("^prep_", Some(("prep_", false)));
        check("^prep_1$", Some(("prep_1", true)));
        check(r"^a\.b\d+$", Some(("a.b", false)));
        check("^ab*", Some(("a", false)));
        check("^ab{0}c", Some(("a", false)));
        check("prep", None);
        check("^a|b", None);
        check("^(a)", None);
        check("^(?i)abc", None);
    }

    proptest! {
        #[test]
        fn the_short_cut_selects_what_the_regex_matches(
            names in prop::collection::btree_set("[ab_.]{1,4}", 1..12),
            pattern in r"\^?([ab_.]|\\\.|[ab]\*|\[ab\]|\(a\|b\)|a\{0,1\}|b\+){0,4}\$?",
        ) {
            let names: Vec<_> = names.iter().map(|name| &**name).collect();
            if let Ok(regex) = Regex::new(&pattern) {
                let expected: Vec<u32> = (0..)
                    .zip(&names)
                    .filter(|(_, name)| regex.is_match(name))
                    .map(|(index, _)| index)
                    .collect();
                prop_assert_eq!(select(&pattern, &names), expected);
            }
        }
    }
}
