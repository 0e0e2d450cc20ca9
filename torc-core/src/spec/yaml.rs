//! Reads YAML into a tree.
//!
//! Knows YAML 1.2's core schema (so `1:4`, `yes` and `on` are strings), anchors and the merge key;
//! knows nothing of specs. Copies made by aliases are bounded, what is written out is not.

use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Tag};

use super::problems::Problems;
use super::tree::{Key, MAX_DEPTH, MOST_NODES, Node, Spanned, Value};
use super::tree_checks::{reject_duplicates, too_deep, too_large};
use super::yaml_mistake;
use crate::diagnostics::{Problem, Span};

/// Nodes (of up to 64 bytes of text) that aliases may copy: room for a hundred thousand jobs that
/// each merge a block of settings, and some hundred megabytes at most.
const ALIAS_BUDGET: usize = 4_000_000;

/// The tree of a YAML text. `offset` is where the text starts in the source.
///
/// Problems go to `problems`; `None` when there is no tree at all.
pub(crate) fn parse(text: &str, offset: usize, problems: &Problems<'_>) -> Option<Node> {
    let mut builder = Builder {
        places: Places::new(text, offset),
        problems,
        stack: Vec::new(),
        anchors: HashMap::new(),
        budget: ALIAS_BUDGET,
        values: 0,
        root: None,
    };
    let mut parser = Parser::new_from_str(text);
    let mut documents = 0;
    while let Some(next) = parser.next_event() {
        let (event, span) = match next {
            Ok(next) => next,
            Err(error) => {
                problems.push(builder.places.syntax_error(&error));
                return None;
            }
        };
        let span = builder.places.span(span.start, span.end);
        if matches!(event, Event::DocumentStart(_)) {
            documents += 1;
        }
        if documents > 1 {
            let problem = Problem::error("spec::yaml-documents", "the file has a second document");
            problems.push(
                problem
                    .at(span, "it starts here")
                    .help("put each workflow into a file of its own, and remove this `---`"),
            );
            return None;
        }
        if let Err(problem) = builder.accept(event, span) {
            problems.push(problem);
            return None;
        }
    }
    builder.root
}

/// Translates the parser's places, which count characters, to bytes of the source.
struct Places<'t> {
    offset: usize,
    /// The byte of every 64th character; empty when all characters are bytes.
    table: Vec<usize>,
    text: &'t str,
}

const STRIDE: usize = 64;

impl<'t> Places<'t> {
    fn new(text: &'t str, offset: usize) -> Self {
        if text.is_ascii() {
            return Self { offset, table: Vec::new(), text };
        }
        let table = text.char_indices().map(|(byte, _)| byte).step_by(STRIDE).collect();
        Self { offset, table, text }
    }

    fn byte(&self, marker: Marker) -> usize {
        let index = marker.index();
        if self.table.is_empty() {
            return index + self.offset;
        }
        let Some(start) = self.table.get(index / STRIDE).copied() else {
            return self.text.len() + self.offset;
        };
        let rest = self.text[start..].char_indices().nth(index % STRIDE);
        rest.map_or(self.text.len(), |(byte, _)| start + byte) + self.offset
    }

    fn span(&self, start: Marker, end: Marker) -> Span {
        let start = self.byte(start);
        Span { start, end: self.byte(end).max(start) }
    }

    fn syntax_error(&self, error: &ScanError) -> Problem {
        let at = self.byte(*error.marker());
        // The scanner, which looks ahead of the events, has a limit of its own.
        if error.info().contains("recursion limit") {
            return too_deep(Span { start: at, end: at });
        }
        yaml_mistake::problem(self.text, at.saturating_sub(self.offset), error.info(), self.offset)
    }
}

/// A collection that is being read.
struct Open {
    span: Span,
    anchor: usize,
    items: Items,
}

enum Items {
    Seq(Vec<Node>),
    Map { entries: Vec<(Key, Node)>, key: Option<Key>, merges: Vec<Node> },
}

struct Builder<'p, 'a> {
    places: Places<'p>,
    problems: &'p Problems<'a>,
    stack: Vec<Open>,
    anchors: HashMap<usize, Node>,
    budget: usize,
    /// Values written out so far.
    values: usize,
    root: Option<Node>,
}

impl Builder<'_, '_> {
    fn accept(&mut self, event: Event<'_>, span: Span) -> Result<(), Problem> {
        match event {
            Event::Scalar(text, style, anchor, tag) => self.scalar(&text, style, anchor, tag, span),
            Event::SequenceStart(anchor, tag) => {
                check_tag(tag.as_deref(), &["seq"], span)?;
                self.open(span, anchor, Items::Seq(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                check_tag(tag.as_deref(), &["map"], span)?;
                let items = Items::Map { entries: Vec::new(), key: None, merges: Vec::new() };
                self.open(span, anchor, items)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(span),
            Event::Alias(anchor) => {
                let node = self.copy(anchor, span)?;
                self.place(node)
            }
            _ => Ok(()),
        }
    }

    fn open(&mut self, span: Span, anchor: usize, items: Items) -> Result<(), Problem> {
        if self.stack.len() >= MAX_DEPTH {
            return Err(too_deep(span));
        }
        if let Some(Open { items: Items::Map { key: None, .. }, .. }) = self.stack.last() {
            return Err(Problem::error("spec::yaml-key", "a key must be plain text")
                .at(span, "a list or a map")
                .help("write a name, such as `jobs:`"));
        }
        self.stack.push(Open { span, anchor, items });
        Ok(())
    }

    fn close(&mut self, end: Span) -> Result<(), Problem> {
        let Some(Open { mut span, anchor, items }) = self.stack.pop() else {
            return Ok(());
        };
        span.end = end.end.max(span.end);
        let value = match items {
            Items::Seq(items) => Value::Seq(items),
            Items::Map { mut entries, merges, .. } => {
                reject_duplicates(&mut entries, self.problems);
                for merge in merges {
                    merge_into(&mut entries, merge)?;
                }
                Value::Map(entries)
            }
        };
        self.finish(Node::new(value, span), anchor)
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<std::borrow::Cow<'_, Tag>>,
        span: Span,
    ) -> Result<(), Problem> {
        if let Some(Open { items: Items::Map { key: key @ None, .. }, .. }) = self.stack.last_mut()
        {
            *key = Some(Spanned::new(text.into(), span));
            if anchor > 0 {
                self.anchors.insert(anchor, Node::new(Value::Str(text.into()), span));
            }
            return Ok(());
        }
        let value = match tag.as_deref() {
            None if style == ScalarStyle::Plain => plain(text),
            None => Value::Str(text.into()),
            Some(tag) => tagged(tag, text, span)?,
        };
        self.finish(Node::new(value, span), anchor)
    }

    fn finish(&mut self, node: Node, anchor: usize) -> Result<(), Problem> {
        self.values += 1;
        if self.values > MOST_NODES {
            return Err(too_large(node.span));
        }
        if anchor > 0 {
            self.spend(node.weight(), node.span)?;
            self.anchors.insert(anchor, node.clone());
        }
        self.place(node)
    }

    fn place(&mut self, node: Node) -> Result<(), Problem> {
        match self.stack.last_mut().map(|open| &mut open.items) {
            None => self.root = Some(node),
            Some(Items::Seq(items)) => items.push(node),
            Some(Items::Map { entries, key, merges }) => match key.take() {
                Some(key) if &*key.value == "<<" => merges.push(node),
                Some(key) => entries.push((key, node)),
                // An alias in the place of a key.
                None => match node.value {
                    Value::Str(text) => *key = Some(Spanned::new(text, node.span)),
                    _ => {
                        return Err(Problem::error("spec::yaml-key", "a key must be plain text")
                            .at(node.span, node.kind())
                            .help("write a name, such as `jobs:`"));
                    }
                },
            },
        }
        Ok(())
    }

    fn copy(&mut self, anchor: usize, span: Span) -> Result<Node, Problem> {
        let Some(node) = self.anchors.get(&anchor) else {
            return Err(Problem::error(
                "spec::yaml-alias",
                "an alias stands inside its own anchor",
            )
            .at(span, "this would never end")
            .help("write the value out"));
        };
        let (weight, depth) = (node.weight(), depth(node));
        if self.stack.len() + depth > MAX_DEPTH {
            return Err(too_deep(span));
        }
        let copy = node.clone();
        self.spend(weight, span)?;
        Ok(copy)
    }

    fn spend(&mut self, weight: usize, span: Span) -> Result<(), Problem> {
        let Some(left) = self.budget.checked_sub(weight) else {
            let message = format!("aliases expand to more than {ALIAS_BUDGET} values");
            return Err(Problem::error("spec::yaml-alias", message)
                .at(span, "the limit is reached here")
                .help("use parameters instead of aliases to make many jobs"));
        };
        self.budget = left;
        Ok(())
    }
}

fn depth(node: &Node) -> usize {
    match &node.value {
        Value::Seq(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Map(entries) => 1 + entries.iter().map(|(_, node)| depth(node)).max().unwrap_or(0),
        _ => 0,
    }
}

/// The merge key: what a map lacks is taken from another; of several, the first wins.
fn merge_into(entries: &mut Vec<(Key, Node)>, merge: Node) -> Result<(), Problem> {
    let maps = match merge.value {
        Value::Map(more) => vec![more],
        Value::Seq(maps) if maps.iter().all(|map| matches!(map.value, Value::Map(_))) => maps
            .into_iter()
            .filter_map(|map| match map.value {
                Value::Map(more) => Some(more),
                _ => None,
            })
            .collect(),
        _ => {
            return Err(Problem::error("spec::yaml-merge", "`<<` takes a map or a list of maps")
                .at(merge.span, "neither")
                .help("name an anchor that stands before a map: `<<: *defaults`"));
        }
    };
    let mut known: HashSet<Box<str>> = entries.iter().map(|(key, _)| key.value.clone()).collect();
    for (key, node) in maps.into_iter().flatten() {
        if known.insert(key.value.clone()) {
            entries.push((key, node));
        }
    }
    Ok(())
}

fn check_tag(tag: Option<&Tag>, fitting: &[&str], span: Span) -> Result<(), Problem> {
    match tag {
        Some(tag) if !(tag.is_yaml_core_schema() && fitting.contains(&&*tag.suffix)) => {
            Err(Problem::error("spec::yaml-tag", format!("the tag `{tag}` does not fit here"))
                .at(span, "this value")
                .help("remove the tag; a spec needs none"))
        }
        _ => Ok(()),
    }
}

fn tagged(tag: &Tag, text: &str, span: Span) -> Result<Value, Problem> {
    let value = match &*tag.suffix {
        "str" => Value::Str(text.into()),
        _ => plain(text),
    };
    let fits: &[&str] = match value {
        Value::Str(_) => &["str"],
        Value::Null => &["null"],
        Value::Bool(_) => &["bool"],
        Value::Int(_) => &["int", "float"],
        _ => &["float"],
    };
    check_tag(Some(tag), fits, span)?;
    Ok(value)
}

/// A plain scalar by the core schema, YAML 1.2.2 section 10.3.2.
pub(crate) fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => {
            return Value::Float(f64::INFINITY);
        }
        "-.inf" | "-.Inf" | "-.INF" => return Value::Float(f64::NEG_INFINITY),
        ".nan" | ".NaN" | ".NAN" => return Value::Float(f64::NAN),
        _ => {}
    }
    if !text.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first)) {
        return Value::Str(text.into());
    }
    number(text).unwrap_or_else(|| Value::Str(text.into()))
}

fn number(text: &str) -> Option<Value> {
    let all = |digits: &str, radix| {
        !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(radix))
    };
    for (prefix, radix) in [("0x", 16), ("0o", 8)] {
        if let Some(digits) = text.strip_prefix(prefix).filter(|digits| all(digits, radix)) {
            return Some(
                i64::from_str_radix(digits, radix).map_or(Value::Float(f64::INFINITY), Value::Int),
            );
        }
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if all(unsigned, 10)
        && let Ok(number) = text.parse()
    {
        return Some(Value::Int(number));
    }
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |part: &str| part.chars().all(|digit| digit.is_ascii_digit());
    let exponent_fits = exponent
        .is_none_or(|exponent| all(exponent.strip_prefix(['+', '-']).unwrap_or(exponent), 10));
    let fits = digits(whole) && digits(fraction) && whole.len() + fraction.len() > 0;
    (fits && exponent_fits).then(|| text.parse().ok().map(Value::Float)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> String {
        let problems = Problems::new(text);
        match parse(text, 0, &problems) {
            Some(node) if !problems.failed() => node.to_json().to_string(),
            _ => problems
                .finish()
                .iter()
                .map(|p| format!("{} {:?}", p.code, p.span.map(|s| s.start)))
                .collect(),
        }
    }

    fn check(text: &str, expected: &str) {
        assert_eq!(json(text), expected, "{text}");
    }

    #[test]
    fn plain_scalars_follow_the_core_schema() {
        check(
            "[1:4, yes, on, 12:30:00, 0x1F, 0o17, 007, -3, +2, 1e3, .5, 5., 1_000, 0b1, ~, True]",
            r#"["1:4","yes","on","12:30:00",31,15,7,-3,2,1000.0,0.5,5.0,"1_000","0b1",null,true]"#,
        );
        check("[99999999999999999999, 1.2.3, ., +, e5]", r#"[1e+20,"1.2.3",".","+","e5"]"#);
        check("['1', \"2\", !!str 3, !!int 4]", r#"["1","2","3",4]"#);
    }

    #[test]
    fn structure_and_its_errors() {
        check("a: &x {b: 1}\nc: {<<: *x, b: 2, d: 3}", r#"{"a":{"b":1},"c":{"b":2,"d":3}}"#);
        check("a: 1\r\nb:\r\n  - c\r\n", r#"{"a":1,"b":["c"]}"#);
        check("a: 1\nb: 2\na: 3", "spec::duplicate-key Some(10)");
        check("a: 1\n---\nb: 1", "spec::yaml-documents Some(5)");
        check("a:\n\t- b: 1\n", "spec::yaml-tab Some(3)");
        check("a: !foo 1", "spec::yaml-tag Some(3)");
        check("a: &x [*x]", "spec::yaml-alias Some(7)");
        check("? [a]\n: 1", "spec::yaml-key Some(2)");
        check("<<: 3\n", "spec::yaml-merge Some(4)");
        check("é: 'ü'\né: 1", "spec::duplicate-key Some(9)");
    }

    #[test]
    fn bombs_and_depth_are_stopped() {
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let alias = format!("*a{}", level - 1);
            bomb += &format!("a{level}: &a{level} [{}]\n", vec![alias; 10].join(", "));
        }
        assert!(json(&bomb).starts_with("spec::yaml-alias"));
        assert!(json(&"[".repeat(100_000)).starts_with("spec::too-deep"));
        assert!(json(&"- ".repeat(100_000)).starts_with("spec::too-deep"));
        assert!(json(&"{a: ".repeat(100_000)).starts_with("spec::too-deep"));
        let text = "x".repeat(10_000_000);
        assert_eq!(json(&text).len(), 10_000_002);
    }

    #[test]
    fn places_are_bytes_of_the_source() {
        let text = "é: \"ü\"\nname: [ß, abc]";
        let problems = Problems::new(text);
        let tree = parse(text, 0, &problems).unwrap();
        let Value::Seq(items) = &tree.get("name").unwrap().value else { panic!("no list") };
        assert_eq!(problems.written(items[1].span), "abc");
    }
}
