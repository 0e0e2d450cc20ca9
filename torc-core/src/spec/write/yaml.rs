//! Writes YAML in block style; short lists of scalars in flow style, text of several lines as it is.
//!
//! Owns: when a string needs quotes. Strings are quoted not only where YAML 1.2 would read something
//! else, but also where the older YAML 1.1 of many other tools would: `yes`, `1:4`, `2024-01-01`.

use super::super::tree::{Node, Value};
use crate::spec::yaml::plain;

/// A list is written on one line up to this many characters.
const WIDEST_LIST: usize = 80;

/// A key is written before its colon up to this many bytes (YAML 1.2.2 allows 1,024 characters).
const LONGEST_KEY: usize = 250;

pub(super) fn write(root: &Node, source: &str) -> String {
    let mut writer = Writer { out: String::new(), source };
    match &root.value {
        Value::Map(entries) if !entries.is_empty() => writer.block(root, 0),
        Value::Seq(items) if !items.is_empty() => writer.block(root, 0),
        _ => {
            writer.scalar(root, Context::Flow);
            writer.out.push('\n');
        }
    }
    writer.out
}

/// A string on one line, also inside brackets.
pub(super) fn word(text: &str) -> String {
    let mut writer = Writer { out: String::new(), source: "" };
    writer.string(text, Context::Flow);
    writer.out
}

/// Where a scalar stands.
#[derive(Clone, Copy, PartialEq)]
enum Context {
    /// The value of an entry or an item; its lines would be indented by so much.
    Block(usize),
    /// Inside brackets, or where only one line fits.
    Flow,
}

struct Writer<'s> {
    out: String,
    source: &'s str,
}

impl Writer<'_> {
    /// A map or list that is not empty, one entry a line; the first begins where the text stands.
    fn block(&mut self, node: &Node, indent: usize) {
        match &node.value {
            Value::Map(entries) => {
                for (number, (key, item)) in entries.iter().enumerate() {
                    self.indent(number, indent);
                    self.key(&key.value, indent);
                    self.value(item, indent, false);
                }
            }
            Value::Seq(items) => {
                for (number, item) in items.iter().enumerate() {
                    self.indent(number, indent);
                    self.out.push('-');
                    self.value(item, indent, true);
                }
            }
            _ => {}
        }
    }

    fn indent(&mut self, number: usize, indent: usize) {
        if number > 0 {
            self.out.extend(std::iter::repeat_n(' ', indent));
        }
    }

    fn key(&mut self, key: &str, indent: usize) {
        if key.len() <= LONGEST_KEY {
            self.string(key, Context::Flow);
        } else {
            self.out.push_str("? ");
            self.string(key, Context::Flow);
            self.out.push('\n');
            self.indent(1, indent);
        }
        self.out.push(':');
    }

    /// What follows a colon or a dash, to the end of its last line.
    fn value(&mut self, node: &Node, indent: usize, is_item: bool) {
        let is_empty = match &node.value {
            Value::Map(entries) => entries.is_empty(),
            Value::Seq(items) => items.is_empty(),
            _ => true,
        };
        if is_empty {
            self.out.push(' ');
            self.scalar(node, Context::Block(indent + 2));
            if !self.out.ends_with('\n') {
                self.out.push('\n');
            }
        } else if let Some(list) = self.short_list(node) {
            self.out.push(' ');
            self.out.push_str(&list);
            self.out.push('\n');
        } else if is_item {
            self.out.push(' ');
            self.block(node, indent + 2);
        } else {
            self.out.push('\n');
            self.indent(1, indent + 2);
            self.block(node, indent + 2);
        }
    }

    /// A list of scalars that fits on a line.
    fn short_list(&self, node: &Node) -> Option<String> {
        let Value::Seq(items) = &node.value else { return None };
        let mut line = Writer { out: "[".to_owned(), source: self.source };
        for (number, item) in items.iter().enumerate() {
            if matches!(item.value, Value::Map(_) | Value::Seq(_)) {
                return None;
            }
            if number > 0 {
                line.out.push_str(", ");
            }
            line.scalar(item, Context::Flow);
            if line.out.len() > WIDEST_LIST {
                return None;
            }
        }
        line.out.push(']');
        Some(line.out)
    }

    fn scalar(&mut self, node: &Node, context: Context) {
        match &node.value {
            Value::Null => self.out.push_str("null"),
            Value::Bool(flag) => self.out.push_str(if *flag { "true" } else { "false" }),
            Value::Float(number) if number.is_nan() => self.out.push_str(".nan"),
            Value::Float(number) if number.is_infinite() => {
                self.out.push_str(if *number > 0.0 { ".inf" } else { "-.inf" });
            }
            Value::Int(_) | Value::Float(_) => {
                self.out.push_str(&super::number(node, self.source, plain));
            }
            Value::Str(text) => self.string(text, context),
            Value::Seq(_) => self.out.push_str("[]"),
            Value::Map(_) => self.out.push_str("{}"),
        }
    }

    fn string(&mut self, text: &str, context: Context) {
        match context {
            Context::Block(indent) if can_be_literal(text) => self.literal(text, indent),
            _ if can_be_plain(text, context) => self.out.push_str(text),
            _ if text.chars().any(must_be_escaped) => self.escaped(text),
            _ if text.contains(['"', '\\']) => {
                self.out.push('\'');
                self.out.push_str(&text.replace('\'', "''"));
                self.out.push('\'');
            }
            _ => {
                self.out.push('"');
                self.out.push_str(text);
                self.out.push('"');
            }
        }
    }

    /// A block scalar: every line as it is.
    fn literal(&mut self, text: &str, indent: usize) {
        self.out.push_str(match text.strip_suffix('\n') {
            None => "|-\n",
            Some(rest) if rest.ends_with('\n') => "|+\n",
            Some(_) => "|\n",
        });
        for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
            if !line.is_empty() {
                self.indent(1, indent);
                self.out.push_str(line);
            }
            self.out.push('\n');
        }
    }

    fn escaped(&mut self, text: &str) {
        self.out.push('"');
        for letter in text.chars() {
            match letter {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\t' => self.out.push_str("\\t"),
                '\r' => self.out.push_str("\\r"),
                _ if must_be_escaped(letter) => {
                    self.out.push_str(&format!("\\u{:04x}", u32::from(letter)));
                }
                _ => self.out.push(letter),
            }
        }
        self.out.push('"');
    }
}

/// Control characters, what some readers take for a line break, and the byte order mark.
fn must_be_escaped(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{85}' | '\u{2028}' | '\u{2029}' | '\u{feff}')
}

/// Whether a text of several lines can be written line by line.
fn can_be_literal(text: &str) -> bool {
    let is_safe = |line: &str| {
        !line.starts_with('\t') && (line.is_empty() || !line.trim_matches(' ').is_empty())
    };
    text.contains('\n')
        && !text.starts_with(['\n', ' '])
        && !text.chars().any(|letter| letter != '\n' && letter != '\t' && must_be_escaped(letter))
        && text.split('\n').all(is_safe)
}

fn can_be_plain(text: &str, context: Context) -> bool {
    const INDICATORS: &[char] = &[
        '-', '?', ':', ',', '[', ']', '{', '}', '#', '&', '*', '!', '|', '>', '\'', '"', '%', '@',
        '`', '=', '<', '~',
    ];
    const IN_BRACKETS: &[char] =
        &[',', '[', ']', '{', '}', ':', '#', '?', '&', '*', '!', '|', '>', '\'', '"', '%'];
    !text.is_empty()
        && !text.starts_with(INDICATORS)
        && !text.starts_with("...")
        && !text.ends_with(':')
        && text.trim() == text
        && !text.contains(": ")
        && !text.contains(" #")
        && !text.chars().any(must_be_escaped)
        && (context != Context::Flow || !text.contains(IN_BRACKETS) && !text.ends_with(" -"))
        && matches!(plain(text), Value::Str(_))
        && !means_something_else(text)
}

/// Whether YAML 1.1 reads a plain text as something else than a string.
fn means_something_else(text: &str) -> bool {
    const WORDS: [&str; 10] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null", "none"];
    const NUMERIC: &str = "0123456789.,_+-:eExXoObBtTzZ ";
    let is_word = WORDS.iter().any(|word| text.eq_ignore_ascii_case(word));
    let starts_as_number =
        text.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first));
    is_word || starts_as_number && text.chars().all(|letter| NUMERIC.contains(letter))
}
