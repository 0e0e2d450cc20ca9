//! Writes JSON and JSON5, two blanks a level.

use super::super::tree::{Node, Value};
use crate::spec::json::{Dialect, is_identifier, read_number};

pub(super) fn write(root: &Node, source: &str, dialect: Dialect) -> String {
    let mut writer = Writer { out: String::new(), source, dialect };
    writer.value(root, 0);
    writer.out.push('\n');
    writer.out
}

struct Writer<'s> {
    out: String,
    source: &'s str,
    dialect: Dialect,
}

impl Writer<'_> {
    fn value(&mut self, node: &Node, indent: usize) {
        match &node.value {
            Value::Null => self.out.push_str("null"),
            Value::Bool(flag) => self.out.push_str(if *flag { "true" } else { "false" }),
            Value::Float(number) if !number.is_finite() => {
                self.out.push_str(self.not_finite(*number))
            }
            Value::Int(_) | Value::Float(_) => self.number(node),
            Value::Str(text) => self.string(text),
            Value::Seq(items) if items.is_empty() => self.out.push_str("[]"),
            Value::Map(entries) if entries.is_empty() => self.out.push_str("{}"),
            Value::Seq(items) => {
                self.out.push('[');
                for (number, item) in items.iter().enumerate() {
                    self.line(number, indent + 2);
                    self.value(item, indent + 2);
                }
                self.end(indent);
                self.out.push(']');
            }
            Value::Map(entries) => {
                self.out.push('{');
                for (number, (key, item)) in entries.iter().enumerate() {
                    self.line(number, indent + 2);
                    self.key(&key.value);
                    self.out.push_str(": ");
                    self.value(item, indent + 2);
                }
                self.end(indent);
                self.out.push('}');
            }
        }
    }

    /// What JSON has no word for: what is too large for a number reads as infinite.
    fn not_finite(&self, number: f64) -> &'static str {
        match (self.dialect, number.is_nan(), number > 0.0) {
            (Dialect::Json, true, _) => "null",
            (Dialect::Json, false, true) => "1e999",
            (Dialect::Json, false, false) => "-1e999",
            (Dialect::Json5, true, _) => "NaN",
            (Dialect::Json5, false, true) => "Infinity",
            (Dialect::Json5, false, false) => "-Infinity",
        }
    }

    fn number(&mut self, node: &Node) {
        let text = super::number(node, self.source, |text| {
            match serde_json::from_str::<serde_json::Number>(text) {
                Ok(_) => read_number(text),
                Err(_) => Value::Null,
            }
        });
        self.out.push_str(&text);
    }

    /// A new line, after a comma unless it is the first.
    fn line(&mut self, number: usize, indent: usize) {
        if number > 0 {
            self.out.push(',');
        }
        self.out.push('\n');
        self.out.extend(std::iter::repeat_n(' ', indent));
    }

    /// The line of the closing bracket.
    fn end(&mut self, indent: usize) {
        if self.dialect == Dialect::Json5 {
            self.out.push(',');
        }
        self.line(0, indent);
    }

    fn key(&mut self, key: &str) {
        if self.dialect == Dialect::Json5 && !key.is_empty() && is_identifier(key) && key.is_ascii()
        {
            self.out.push_str(key);
        } else {
            self.string(key);
        }
    }

    fn string(&mut self, text: &str) {
        self.out.push_str(&serde_json::Value::from(text).to_string());
    }
}
