//! A document as a tree of values, each with its place: what every format is read into.
//!
//! Knows no format and no field. What a scalar looked like is found by its place in the source.
//! The order of a map is the order written, and no key is in it twice.

use serde_json::Value as Json;

use crate::diagnostics::Span;

/// Nested deeper than this, a document is refused: no spec needs it, and later walks recurse.
pub(crate) const MAX_DEPTH: usize = 100;

/// More values than this are refused: the tree would take gigabytes. Room for a million jobs written
/// out.
pub(crate) const MOST_NODES: usize = 16_000_000;

/// A value and its place.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub(crate) span: Span,
    pub(crate) value: Value,
}

/// A value of the JSON data model.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    /// Every number that is not an `i64`.
    Float(f64),
    Str(Box<str>),
    Seq(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A key of a map.
pub(crate) type Key = Spanned<Box<str>>;

/// A string of the spec.
pub(crate) type Text = Spanned<Box<str>>;

/// Something that was written at a place.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Spanned<T> {
    pub(crate) value: T,
    pub(crate) span: Span,
}

impl<T> Spanned<T> {
    pub(crate) fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }
}

impl Node {
    pub(crate) fn new(value: Value, span: Span) -> Self {
        Self { span, value }
    }

    /// What the value is, in words, with its article.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.value {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Int(_) => "a whole number",
            Value::Float(_) => "a number",
            Value::Str(_) => "a string",
            Value::Seq(_) => "a list",
            Value::Map(_) => "a map",
        }
    }

    /// The entry of a map.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        match &self.value {
            Value::Map(entries) => {
                entries.iter().find(|(name, _)| &*name.value == key).map(|(_, node)| node)
            }
            _ => None,
        }
    }

    /// The same, to be changed.
    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut Self> {
        match &mut self.value {
            Value::Map(entries) => {
                entries.iter_mut().find(|(name, _)| &*name.value == key).map(|(_, node)| node)
            }
            _ => None,
        }
    }

    /// Gives a map an entry, in the place of one of that key if there is one.
    pub(crate) fn set(&mut self, key: &str, node: Self) {
        if let Some(known) = self.get_mut(key) {
            *known = node;
        } else if let Value::Map(entries) = &mut self.value {
            entries.push((Spanned::new(key.into(), Span::default()), node));
        }
    }

    /// How much it costs to hold a copy: its nodes, and its text in units of 64 bytes.
    pub(crate) fn weight(&self) -> usize {
        match &self.value {
            Value::Str(text) => 1 + text.len() / 64,
            Value::Seq(items) => 1 + items.iter().map(Self::weight).sum::<usize>(),
            Value::Map(entries) => {
                1 + entries
                    .iter()
                    .map(|(key, node)| key.value.len() / 64 + node.weight())
                    .sum::<usize>()
            }
            _ => 1,
        }
    }

    /// The same value as JSON. A number that JSON lacks (infinity) becomes null.
    pub(crate) fn to_json(&self) -> Json {
        match &self.value {
            Value::Null => Json::Null,
            Value::Bool(flag) => Json::Bool(*flag),
            Value::Int(number) => Json::from(*number),
            Value::Float(number) => Json::from(*number),
            Value::Str(text) => Json::String(text.to_string()),
            Value::Seq(items) => Json::Array(items.iter().map(Self::to_json).collect()),
            Value::Map(entries) => Json::Object(
                entries.iter().map(|(key, node)| (key.value.to_string(), node.to_json())).collect(),
            ),
        }
    }
}
