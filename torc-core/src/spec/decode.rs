//! A strict reader of maps: typed fields, nothing unknown, everything wrong reported.
//!
//! Knows no field by name. An explicit null is an absent field.

use std::ops::RangeInclusive;

use super::fields::{Object, Takes};
use super::meant;
use super::problems::{Problems, excerpt};
use super::tree::{Key, Node, Spanned, Text, Value};
use crate::diagnostics::{Problem, Span};

/// The fields of one map that have not been read yet.
pub(crate) struct Fields<'p, 'a> {
    object: &'static Object,
    head: Span,
    entries: Vec<(Key, Node)>,
    problems: &'p Problems<'a>,
}

impl<'p, 'a> Fields<'p, 'a> {
    /// Opens the map that describes such an object.
    pub(crate) fn open(
        node: Node,
        object: &'static Object,
        problems: &'p Problems<'a>,
    ) -> Option<Self> {
        match node.value {
            Value::Map(entries) => {
                let head = entries.first().map_or(node.span, |(key, _)| key.span);
                Some(Self { object, head, entries, problems })
            }
            _ => {
                let help = meant::object(object, &node);
                wrong_type_with(problems, &node, &format!("{} must be a map", object.what), help);
                None
            }
        }
    }

    /// A place that stands for the whole map: its first key.
    pub(crate) fn head(&self) -> Span {
        self.head
    }

    /// Where the problems go.
    pub(crate) fn problems(&self) -> &'p Problems<'a> {
        self.problems
    }

    /// A field as it is.
    pub(crate) fn take(&mut self, name: &'static str) -> Option<(Key, Node)> {
        debug_assert!(self.object.field(name).is_some(), "{name}: {}", self.object.what);
        let index = self.entries.iter().position(|(key, _)| &*key.value == name)?;
        let entry = self.entries.swap_remove(index);
        (entry.1.value != Value::Null).then_some(entry)
    }

    /// The value of a field as it is.
    pub(crate) fn node(&mut self, name: &'static str) -> Option<Node> {
        self.take(name).map(|(_, node)| node)
    }

    /// Where a field stands.
    pub(crate) fn node_span(&self, name: &str) -> Option<Span> {
        self.entries.iter().find(|(key, _)| &*key.value == name).map(|(key, _)| key.span)
    }

    /// Where the value of a field stands.
    pub(crate) fn value_span(&self, name: &str) -> Option<Span> {
        self.entries.iter().find(|(key, _)| &*key.value == name).map(|(_, node)| node.span)
    }

    /// A string.
    pub(crate) fn text(&mut self, name: &'static str, example: &str) -> Option<Text> {
        let node = self.node(name)?;
        as_text(self.problems, node, &format!("`{name}` must be a string"), name, example)
    }

    /// A string that must be there.
    pub(crate) fn required_text(&mut self, name: &'static str, example: &str) -> Option<Text> {
        let there = self.has(name);
        if !there {
            self.missing(name, example);
        }
        self.text(name, example)
    }

    /// Whether a field is there and not null.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.entries.iter().any(|(key, node)| &*key.value == name && node.value != Value::Null)
    }

    /// Reports a field that must be there.
    pub(crate) fn missing(&self, name: &str, example: &str) {
        self.problems.push(
            Problem::error("spec::missing-field", format!("{} needs `{name}`", self.object.what))
                .at(self.head, format!("`{name}` is missing"))
                .help(format!("add it, for example `{}`", self.problems.pair(name, example))),
        );
    }

    /// A boolean.
    pub(crate) fn flag(&mut self, name: &'static str) -> Option<Spanned<bool>> {
        let node = self.node(name)?;
        match node.value {
            Value::Bool(flag) => Some(Spanned::new(flag, node.span)),
            _ => {
                let message = format!("`{name}` must be true or false");
                wrong_type(self.problems, &node, &message, &format!("{name}: true"));
                None
            }
        }
    }

    /// A whole number within the field's range.
    pub(crate) fn whole(&mut self, name: &'static str) -> Option<Spanned<i64>> {
        let range = self.range(name);
        let node = self.node(name)?;
        as_whole(self.problems, &node, name, range)
    }

    /// A whole number that fits `T`.
    pub(crate) fn count<T: TryFrom<i64>>(&mut self, name: &'static str) -> Option<T> {
        T::try_from(self.whole(name)?.value).ok()
    }

    /// A list of whole numbers within the field's range.
    pub(crate) fn wholes<T: TryFrom<i64>>(&mut self, name: &'static str) -> Vec<T> {
        let range = self.range(name);
        let items = self.list(name).into_iter();
        items
            .filter_map(|node| as_whole(self.problems, &node, name, range.clone()))
            .filter_map(|found| T::try_from(found.value).ok())
            .collect()
    }

    fn range(&self, name: &str) -> RangeInclusive<i64> {
        match self.object.field(name).map(|field| &field.takes) {
            Some(Takes::Whole(least, most) | Takes::Wholes(least, most)) => *least..=*most,
            _ => i64::MIN..=i64::MAX,
        }
    }

    /// One of some words.
    pub(crate) fn choice<T: Copy>(
        &mut self,
        name: &'static str,
        choices: &[(&str, T)],
    ) -> Option<Spanned<T>> {
        debug_assert!(self.has_words(name, choices), "{name}: {}", self.object.what);
        let text = self.text(name, choices[0].0)?;
        if let Some((_, value)) = choices.iter().find(|(word, _)| *word == &*text.value) {
            return Some(Spanned::new(*value, text.span));
        }
        let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
        let near = self.problems.did_you_mean(&text.value, words.iter().copied());
        let message = format!("`{name}` cannot be `{}`", excerpt(&text.value));
        let help = near.unwrap_or_else(|| format!("it is one of {}", words.join(", ")));
        let label = format!("one of {}", words.join(", "));
        self.problems
            .push(Problem::error("spec::unknown-value", message).at(text.span, label).help(help));
        None
    }

    /// Whether the words of a field are those of its choices.
    fn has_words<T>(&self, name: &str, choices: &[(&str, T)]) -> bool {
        let Some(Takes::Word(words)) = self.object.field(name).map(|field| &field.takes) else {
            return false;
        };
        words.iter().eq(choices.iter().map(|(word, _)| word))
    }

    /// The items of a list; none when it is absent.
    pub(crate) fn list(&mut self, name: &'static str) -> Vec<Node> {
        let Some(node) = self.node(name) else {
            return Vec::new();
        };
        match node.value {
            Value::Seq(items) => items,
            _ => {
                let message = format!("`{name}` must be a list");
                let written = self.problems.written(node.span);
                let help = match self.object.field(name) {
                    Some(field) => meant::list(field, &node, written, self.problems),
                    None => format!("write `{name}: [...]`"),
                };
                wrong_type_with(self.problems, &node, &message, help);
                Vec::new()
            }
        }
    }

    /// A list of strings.
    pub(crate) fn texts(&mut self, name: &'static str) -> Vec<Text> {
        let message = format!("an item of `{name}` must be a string");
        let items = self.list(name);
        items
            .into_iter()
            .filter_map(|node| as_text(self.problems, node, &message, "-", "example"))
            .collect()
    }

    /// The entries of a map.
    pub(crate) fn map(&mut self, name: &'static str) -> Vec<(Key, Node)> {
        let Some(node) = self.node(name) else {
            return Vec::new();
        };
        match node.value {
            Value::Map(entries) => {
                entries.into_iter().filter(|(_, node)| node.value != Value::Null).collect()
            }
            _ => {
                let message = format!("`{name}` must be a map");
                let help = meant::map(name, &node);
                wrong_type_with(self.problems, &node, &message, help);
                Vec::new()
            }
        }
    }

    /// Everything that is left, for maps with open fields.
    pub(crate) fn rest(&mut self) -> Vec<(Key, Node)> {
        std::mem::take(&mut self.entries)
    }

    /// Reports fields that belong somewhere else.
    pub(crate) fn misplaced(&mut self, names: &[&str], help: &str) {
        let (what, problems) = (self.object.what, self.problems);
        for (key, _) in self.entries.extract_if(.., |(key, _)| names.contains(&&*key.value)) {
            let message = format!("{what} has no field `{}`", key.value);
            problems.push(
                Problem::error("spec::unknown-field", message)
                    .at(key.span, "belongs elsewhere")
                    .help(help),
            );
        }
    }

    /// Reports what is left as unknown.
    pub(crate) fn finish(self) {
        for (key, _) in &self.entries {
            if self.object.field(&key.value).is_some() {
                continue;
            }
            let help =
                self.problems.did_you_mean(&key.value, self.object.names()).unwrap_or_else(|| {
                    let names: Vec<_> = self.object.names().collect();
                    format!("{} has: {}", self.object.what, names.join(", "))
                });
            let message = format!("{} has no field `{}`", self.object.what, excerpt(&key.value));
            self.problems.push(
                Problem::error("spec::unknown-field", message)
                    .at(key.span, "unknown field")
                    .help(help),
            );
        }
    }
}

/// A whole number within a range.
pub(crate) fn as_whole(
    problems: &Problems<'_>,
    node: &Node,
    name: &str,
    range: RangeInclusive<i64>,
) -> Option<Spanned<i64>> {
    let least = range.start().max(&1).to_string();
    let example = format!("{name}: {least}");
    match &node.value {
        Value::Int(number) if range.contains(number) => Some(Spanned::new(*number, node.span)),
        Value::Int(_) | Value::Float(_) if is_whole(problems, node) => {
            let message = format!("`{name}` must be from {} to {}", range.start(), range.end());
            problems.push(
                Problem::error("spec::out-of-range", message)
                    .at(node.span, "out of range")
                    .help(format!("for example `{}`", problems.pair(name, &least))),
            );
            None
        }
        _ => {
            wrong_type(problems, node, &format!("`{name}` must be a whole number"), &example);
            None
        }
    }
}

/// Whether a number is written without a fraction, however large.
fn is_whole(problems: &Problems<'_>, node: &Node) -> bool {
    matches!(node.value, Value::Int(_))
        || problems.written(node.span).bytes().all(|b| b.is_ascii_digit() || b == b'-')
}

/// A string; `name` and `example` make the help.
pub(crate) fn as_text(
    problems: &Problems<'_>,
    node: Node,
    message: &str,
    name: &str,
    example: &str,
) -> Option<Text> {
    let separator = if name == "-" { " " } else { ": " };
    let token = meant::token(&node, problems.written(node.span));
    match node.value {
        Value::Str(text) => Some(Spanned::new(text, node.span)),
        Value::Int(_) | Value::Float(_) | Value::Bool(_) => {
            let written = excerpt(problems.written(node.span));
            wrong_type(problems, &node, message, &format!("{name}{separator}\"{written}\""));
            None
        }
        _ => {
            let help = match token {
                Some(token) => format!("braces need quotes: write `{name}{separator}{token}`"),
                None => format!("write for example `{name}{separator}{example}`"),
            };
            wrong_type_with(problems, &node, message, help);
            None
        }
    }
}

/// Reports a value of the wrong type, with an example of the right form.
pub(crate) fn wrong_type(problems: &Problems<'_>, node: &Node, message: &str, example: &str) {
    let example = match example.split_once(": ") {
        Some((name, value)) => problems.pair(name, value),
        None => example.to_owned(),
    };
    wrong_type_with(problems, node, message, format!("write for example `{example}`"));
}

/// Reports a value of the wrong type, with what to do.
fn wrong_type_with(problems: &Problems<'_>, node: &Node, message: &str, help: String) {
    let written = problems.written(node.span);
    let found = match node.value {
        Value::Int(_) | Value::Float(_) | Value::Bool(_) => {
            format!("{}: {}", node.kind(), excerpt(written))
        }
        _ => node.kind().to_owned(),
    };
    let first_line = written.find('\n').map_or(node.span.end, |line| node.span.start + line);
    let span = Span { start: node.span.start, end: first_line };
    problems.push(
        Problem::error("spec::wrong-type", message).at(span, format!("this is {found}")).help(help),
    );
}
