//! Writes JSON, two blanks a level.

use super::super::tree::{Node, Value};
use crate::spec::json::read_number;

pub(super) fn write(root: &Node, source: &str) -> String {
    let mut out = String::new();
    value(&mut out, root, source, 0);
    out.push('\n');
    out
}

fn value(out: &mut String, node: &Node, source: &str, indent: usize) {
    match &node.value {
        Value::Null => out.push_str("null"),
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        // JSON has no other word for what is too large for a number.
        Value::Float(number) if number.is_infinite() => {
            out.push_str(if *number > 0.0 { "1e999" } else { "-1e999" });
        }
        Value::Float(number) if number.is_nan() => out.push_str("null"),
        Value::Int(_) | Value::Float(_) => {
            let read = |text: &str| match serde_json::from_str::<serde_json::Number>(text) {
                Ok(_) => read_number(text),
                Err(_) => Value::Null,
            };
            out.push_str(&super::number(node, source, read));
        }
        Value::Str(text) => string(out, text),
        Value::Seq(items) if items.is_empty() => out.push_str("[]"),
        Value::Map(entries) if entries.is_empty() => out.push_str("{}"),
        Value::Seq(items) => {
            out.push('[');
            for (number, item) in items.iter().enumerate() {
                line(out, number, indent + 2);
                value(out, item, source, indent + 2);
            }
            line(out, 0, indent);
            out.push(']');
        }
        Value::Map(entries) => {
            out.push('{');
            for (number, (key, item)) in entries.iter().enumerate() {
                line(out, number, indent + 2);
                string(out, &key.value);
                out.push_str(": ");
                value(out, item, source, indent + 2);
            }
            line(out, 0, indent);
            out.push('}');
        }
    }
}

/// A new line, after a comma unless it is the first.
fn line(out: &mut String, number: usize, indent: usize) {
    if number > 0 {
        out.push(',');
    }
    out.push('\n');
    out.extend(std::iter::repeat_n(' ', indent));
}

fn string(out: &mut String, text: &str) {
    out.push_str(&serde_json::Value::from(text).to_string());
}
