//! Reads JSON and JSON5 into a tree.
//!
//! Strict JSON (RFC 8259) or JSON5 1.0.0 (json5.org); knows nothing of specs. Depth is checked before the
//! parser sees the text, since it recurses.

use jsonc_parser::ast::{ObjectProp, ObjectPropName, Value as Ast};
use jsonc_parser::common::Range;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};

use super::json_mistake::{self, Advice};
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

const JSON5: ParseOptions = ParseOptions {
    allow_comments: true,
    allow_loose_object_property_names: true,
    allow_trailing_commas: true,
    allow_missing_commas: false,
    allow_single_quoted_strings: true,
    allow_hexadecimal_numbers: true,
    allow_unary_plus_numbers: true,
    allow_bare_decimal_point_numbers: true,
    allow_non_finite_numbers: true,
    allow_extended_string_escapes: true,
};

/// Which of the two a text is.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Dialect {
    Json,
    Json5,
}

impl Dialect {
    fn name(self) -> &'static str {
        match self {
            Self::Json => "JSON",
            Self::Json5 => "JSON5",
        }
    }

    /// The problem of a text that is not of this dialect.
    fn syntax_error(self, why: &str) -> Problem {
        let message = format!("this is not valid {}: {why}", self.name());
        Problem::error("spec::json-syntax", message)
    }
}

/// The tree of a JSON text. `offset` is where the text starts in the source.
///
/// Problems go to `problems`; `None` when there is no tree at all.
pub(crate) fn parse(
    text: &str,
    offset: usize,
    dialect: Dialect,
    problems: &Problems<'_>,
) -> Option<Node> {
    let mut check = Check { dialect, offset, at: 0, depth: 0, values: 0 };
    if let Err(problem) = check.text(text.as_bytes()) {
        problems.push(problem);
        return None;
    }
    let options = if dialect == Dialect::Json5 { &JSON5 } else { &STRICT };
    match parse_to_ast(text, &CollectOptions::default(), options) {
        Ok(result) => result.value.map(|value| Converter { offset, dialect, problems }.node(value)),
        Err(error) => {
            let Advice { place, label, help } = json_mistake::advice(text, &error);
            let span = Span { start: place.start + offset, end: place.end + offset };
            let problem = dialect.syntax_error(&lower_first(error.kind()));
            problems.push(problem.at(span, label).help(help));
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

/// Refuses what the parser could not take, too many levels or values, and what it takes although the dialect
/// forbids it.
struct Check {
    dialect: Dialect,
    offset: usize,
    at: usize,
    depth: usize,
    values: usize,
}

impl Check {
    fn here(&self) -> Span {
        Span { start: self.at + self.offset, end: self.at + self.offset + 1 }
    }

    fn text(&mut self, text: &[u8]) -> Result<(), Problem> {
        while let Some(byte) = text.get(self.at).copied() {
            match byte {
                b'"' => self.string(text, b'"')?,
                b'\'' if self.dialect == Dialect::Json5 => self.string(text, b'\'')?,
                b'/' if self.dialect == Dialect::Json5 => self.skip_comment(text),
                b'[' | b'{' => {
                    self.depth += 1;
                    if self.depth > MAX_DEPTH {
                        return Err(too_deep(self.here()));
                    }
                }
                b']' | b'}' => self.depth = self.depth.saturating_sub(1),
                b',' => {
                    self.values += 1;
                    if self.values > MOST_NODES {
                        return Err(too_large(self.here()));
                    }
                }
                _ => {}
            }
            self.at += 1;
        }
        Ok(())
    }

    /// Goes on to the closing quote, or to the end where there is none.
    fn string(&mut self, text: &[u8], quote: u8) -> Result<(), Problem> {
        self.at += 1;
        while let Some(byte) = text.get(self.at).copied().filter(|byte| *byte != quote) {
            let is_raw = match self.dialect {
                Dialect::Json => byte < 0x20,
                Dialect::Json5 => matches!(byte, b'\n' | b'\r'),
            };
            if is_raw {
                let problem = self.dialect.syntax_error("a string has a raw control character");
                return Err(problem.at(self.here(), "here").help(
                    "write a line break as `\\n` and a tab as `\\t`; or is a quote missing?",
                ));
            }
            self.at += if byte == b'\\' { 2 } else { 1 };
        }
        Ok(())
    }

    /// Goes on to the last byte of a comment, if one begins here.
    fn skip_comment(&mut self, text: &[u8]) {
        let rest = &text[self.at..];
        let length = if rest.starts_with(b"//") {
            rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'))
        } else if rest.starts_with(b"/*") {
            rest[2..].windows(2).position(|pair| pair == b"*/").map(|place| place + 4)
        } else {
            Some(1)
        };
        self.at += length.unwrap_or(rest.len()) - 1;
    }
}

struct Converter<'p, 'a> {
    offset: usize,
    dialect: Dialect,
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
            Ast::NumberLit(number) => {
                let value = match self.dialect {
                    Dialect::Json => read_number(number.value),
                    Dialect::Json5 => read_number5(number.value),
                };
                Node::new(value, self.span(number.range))
            }
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
            ObjectPropName::Word(word) => {
                let span = self.span(word.range);
                if !is_identifier(word.value) {
                    let problem = self.dialect.syntax_error("this name needs quotes");
                    self.problems.push(problem.at(span, "not an identifier").help(
                        "without quotes a name has letters, digits, `_` and `$`, and no digit first",
                    ));
                }
                Spanned::new(word.value.into(), span)
            }
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

/// A number of JSON5: also hexadecimal, with a plus sign, `.5`, `5.`, and what is not finite.
fn read_number5(text: &str) -> Value {
    let (sign, digits) = match text.as_bytes().first() {
        Some(b'-') => ("-", &text[1..]),
        Some(b'+') => ("", &text[1..]),
        _ => ("", text),
    };
    if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        let number = i64::from_str_radix(&format!("{sign}{hex}"), 16);
        return number.map_or(Value::Float(sign_of(sign) * from_hex(hex)), Value::Int);
    }
    match digits {
        "Infinity" => Value::Float(sign_of(sign) * f64::INFINITY),
        "NaN" => Value::Float(f64::NAN),
        _ => read_number(&format!("{sign}{digits}")),
    }
}

fn sign_of(sign: &str) -> f64 {
    if sign == "-" { -1.0 } else { 1.0 }
}

/// Hexadecimal digits that no `i64` holds.
fn from_hex(digits: &str) -> f64 {
    digits
        .chars()
        .filter_map(|digit| digit.to_digit(16))
        .fold(0.0, |so_far, digit| so_far * 16.0 + f64::from(digit))
}

/// Whether a name can stand without quotes in JSON5, escapes aside.
pub(crate) fn is_identifier(word: &str) -> bool {
    !word.starts_with(|first: char| first.is_ascii_digit())
        && word.chars().all(|letter| letter.is_alphanumeric() || matches!(letter, '_' | '$'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        check_as(Dialect::Json, text, expected);
    }

    #[track_caller]
    fn check_as(dialect: Dialect, text: &str, expected: &str) {
        let problems = Problems::new(text);
        let found = match parse(text, 0, dialect, &problems) {
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

    #[test]
    fn json5_is_what_people_write() {
        let check = |text: &str, expected: &str| check_as(Dialect::Json5, text, expected);
        check(
            "// a\n{a: 'x\\\ny', /* [[ */ \"b\": [+1, .5, 5., 0xFF, -0x10,], $c_1: \"it's\",}",
            r#"{"a":"xy","b":[1,0.5,5.0,255,-16],"$c_1":"it's"}"#,
        );
        check("[Infinity, -Infinity, 0xFFFFFFFFFFFFFFFFFF]", "[null,null,4.722366482869645e+21]");
        check("{a-b: 1}", "spec::json-syntax Some(1)");
        check("{1a: 1}", "spec::json-syntax Some(2)");
        check("{a: 1, a: 2}", "spec::duplicate-key Some(7)");
        check("['a\nb']", "spec::json-syntax Some(3)");
        check("['a\tb']", "[\"a\\tb\"]");
        check("[1 2]", "spec::json-syntax Some(2)");
        check("/* [", "spec::json-syntax Some(0)");
        check("{a: '\\", "spec::json-syntax Some(4)");
        check("", "");
        check(&"[".repeat(1_000_000), "spec::too-deep Some(100)");
        check(
            &format!("/*{}*/ ['{}'] //{}", "[".repeat(200), "[".repeat(200), "[".repeat(200)),
            &format!("[{:?}]", "[".repeat(200)),
        );
    }
}
