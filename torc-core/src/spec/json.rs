//! Reads JSON into a tree.
//!
//! Strict JSON (RFC 8259); knows nothing of specs. Depth is checked before the parser sees the
//! text, since it recurses.

use jsonc_parser::ast::{ObjectProp, ObjectPropName, Value as Ast};
use jsonc_parser::common::Range;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};

use super::problems::Problems;
use super::tree::{Key, MAX_DEPTH, MOST_NODES, Node, Spanned, Value};
use super::tree_checks::{reject_duplicates, too_deep, too_large};
use crate::diagnostics::{Problem, Span};

const STRICT: ParseOptions = ParseOptions {
    allow_comments: false,
    allow_loose_object_property_names: false,
    allow_trailing_commas: false,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

/// The tree of a JSON text. `offset` is where the text starts in the source.
///
/// Problems go to `problems`; `None` when there is no tree at all.
pub(crate) fn parse(text: &str, offset: usize, problems: &Problems<'_>) -> Option<Node> {
    if let Err(problem) = check_text(text, offset) {
        problems.push(problem);
        return None;
    }
    let collect = CollectOptions::default();
    match parse_to_ast(text, &collect, &STRICT) {
        Ok(result) => result.value.map(|value| Converter { offset, problems }.node(value)),
        Err(error) => {
            let message = format!("this is not valid JSON: {}", lower_first(error.kind()));
            let Range { start, end } = error.range();
            let span = Span { start: start + offset, end: end.max(start) + offset };
            problems.push(
                Problem::error("spec::json-syntax", message)
                    .at(span, "here")
                    .help("look at the commas, quotes and brackets around this place"),
            );
            None
        }
    }
}

fn lower_first(message: &impl ToString) -> String {
    let text = message.to_string();
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => text,
    }
}

/// Refuses what the parser could not take, too many levels or values, and what it takes although
/// RFC 8259 forbids it.
fn check_text(text: &str, offset: usize) -> Result<(), Problem> {
    let (mut depth, mut values) = (0_usize, 0_usize);
    let (mut in_string, mut escaped) = (false, false);
    for (at, byte) in text.bytes().enumerate() {
        let span = Span { start: at + offset, end: at + offset + 1 };
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            0..0x20 if in_string => {
                let message = "this is not valid JSON: a string has a raw control character";
                return Err(Problem::error("spec::json-syntax", message).at(span, "here").help(
                    "write a line break as `\\n` and a tab as `\\t`; or is a quote missing?",
                ));
            }
            _ if in_string => {}
            b'[' | b'{' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(too_deep(span));
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b',' => {
                values += 1;
                if values > MOST_NODES {
                    return Err(too_large(span));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

struct Converter<'p, 'a> {
    offset: usize,
    problems: &'p Problems<'a>,
}

impl Converter<'_, '_> {
    fn span(&self, range: Range) -> Span {
        Span { start: range.start + self.offset, end: range.end + self.offset }
    }

    fn node(&self, value: Ast<'_>) -> Node {
        match value {
            Ast::NullKeyword(null) => Node::new(Value::Null, self.span(null.range)),
            Ast::BooleanLit(flag) => Node::new(Value::Bool(flag.value), self.span(flag.range)),
            Ast::StringLit(text) => Node::new(Value::Str(text.value.into()), self.span(text.range)),
            Ast::NumberLit(number) => Node::new(read_number(number.value), self.span(number.range)),
            Ast::Array(array) => {
                let items = array.elements.into_iter().map(|item| self.node(item)).collect();
                Node::new(Value::Seq(items), self.span(array.range))
            }
            Ast::Object(object) => {
                let mut entries: Vec<_> =
                    object.properties.into_iter().map(|entry| self.entry(entry)).collect();
                reject_duplicates(&mut entries, self.problems);
                Node::new(Value::Map(entries), self.span(object.range))
            }
        }
    }

    fn entry(&self, property: ObjectProp<'_>) -> (Key, Node) {
        let key = match property.name {
            ObjectPropName::String(text) => Spanned::new(text.value.into(), self.span(text.range)),
            ObjectPropName::Word(word) => Spanned::new(word.value.into(), self.span(word.range)),
        };
        (key, self.node(property.value))
    }
}

pub(crate) fn read_number(text: &str) -> Value {
    match text.parse() {
        Ok(number) => Value::Int(number),
        Err(_) => Value::Float(text.parse().unwrap_or(f64::INFINITY)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let problems = Problems::new(text);
        let found = match parse(text, 0, &problems) {
            Some(node) if !problems.failed() => node.to_json().to_string(),
            _ => problems
                .finish()
                .iter()
                .map(|p| format!("{} {:?}", p.code, p.span.map(|s| s.start)))
                .collect(),
        };
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn json_is_strict() {
        check(r#"{"a": [1, -2.5, "x\n", null, true]}"#, r#"{"a":[1,-2.5,"x\n",null,true]}"#);
        check(r#"{"a": 1, "a": 2}"#, "spec::duplicate-key Some(9)");
        check(r#"{"a": 1,}"#, "spec::json-syntax Some(7)");
        check("// no\n{}", "spec::json-syntax Some(0)");
        check("{'a': 1}", "spec::json-syntax Some(1)");
        check("[01]", "spec::json-syntax Some(2)");
        check("[\"a\nb\"]", "spec::json-syntax Some(3)");
        check("[99999999999999999999]", "[1e+20]");
        check("{\"a\": 1", "spec::json-syntax Some(0)");
    }

    #[test]
    fn depth_is_checked_before_parsing() {
        check(&"[".repeat(1_000_000), "spec::too-deep Some(100)");
        check(&"{\"a\":".repeat(1_000_000), "spec::too-deep Some(500)");
        let text = format!("{:?}", "[".repeat(1000));
        check(&text, &text);
    }
}
