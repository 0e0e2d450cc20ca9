//! Writes KDL 2, by the list of fields: what is a list there is a node for each item, named in the singular.
//!
//! Owns: when a text needs quotes, and the forms of what KDL has no word for.

use super::super::fields::{self, Field, Object, Takes};
use super::super::tree::{Key, Node, Value};
use crate::spec::json::read_number;
use crate::spec::kdl::syntax::is_forbidden;

/// Items of a list are written on one line up to so many characters.
const WIDEST_LIST: usize = 80;

/// How far what stands in braces is indented.
const STEP: usize = 4;

pub(super) fn write(root: &Node, source: &str) -> String {
    let mut writer = Writer { out: String::new(), source };
    if let Value::Map(entries) = &root.value {
        writer.fields(&fields::SPEC, entries, 0);
    }
    writer.out
}

/// A `head` is the beginning of a node: its name, written, with its type before it if it needs one.
struct Writer<'s> {
    out: String,
    source: &'s str,
}

impl Writer<'_> {
    fn fields(&mut self, object: &'static Object, entries: &[(Key, Node)], indent: usize) {
        for (key, node) in entries {
            match object.field(&key.value) {
                // An absent field; as a node of its own it would be an item.
                Some(_) if node.value == Value::Null => {}
                Some(field) => self.field(field, node, indent),
                None => self.anything(&key.value, node, indent),
            }
        }
    }

    fn field(&mut self, field: &'static Field, node: &Node, indent: usize) {
        let name = field.name;
        match (&field.takes, &node.value) {
            (Takes::Texts | Takes::Wholes(..), Value::Seq(items)) => self.list(name, items, indent),
            (Takes::Many(_), Value::Seq(items)) if items.is_empty() => self.line(name, "", indent),
            (Takes::Many(object), Value::Seq(items)) => {
                for item in items {
                    self.object(singular(name), object, item, indent);
                }
            }
            (Takes::One(object) | Takes::TextOr(object), Value::Map(_)) => {
                self.object(name, object, node, indent);
            }
            (Takes::ByName(object), Value::Map(entries)) => {
                self.block(name, entries, indent, &|writer, key, node, indent| {
                    writer.object(&word(key), object, node, indent);
                });
            }
            (
                Takes::TextByName | Takes::LiteralByName | Takes::ParameterByName,
                Value::Map(entries),
            ) => {
                self.block(name, entries, indent, &Self::anything);
            }
            _ => self.anything(name, node, indent),
        }
    }

    /// An item, its name beside the word for it.
    fn object(&mut self, head: &str, object: &'static Object, node: &Node, indent: usize) {
        let Value::Map(entries) = &node.value else {
            return self.anything(head, node, indent);
        };
        let has_name = object.field("name").is_some();
        let (names, rest): (Vec<_>, Vec<_>) =
            entries.iter().cloned().partition(|(key, _)| has_name && &*key.value == "name");
        let name: String =
            names.iter().map(|(_, name)| format!(" {}", self.scalar(name, indent))).collect();
        if rest.is_empty() && !name.is_empty() {
            return self.line(head, &name, indent);
        }
        self.braces(&format!("{head}{name}"), indent, |writer| {
            writer.fields(object, &rest, indent + STEP);
        });
    }

    fn block(
        &mut self,
        head: &str,
        entries: &[(Key, Node)],
        indent: usize,
        each: &dyn Fn(&mut Self, &str, &Node, usize),
    ) {
        self.braces(head, indent, |writer| {
            for (key, node) in entries {
                each(writer, &key.value, node, indent + STEP);
            }
        });
    }

    fn list(&mut self, head: &str, items: &[Node], indent: usize) {
        let is_scalar = |node: &Node| !matches!(node.value, Value::Seq(_) | Value::Map(_));
        if items.iter().all(is_scalar) {
            let line: String =
                items.iter().map(|item| format!(" {}", self.scalar(item, indent))).collect();
            if line.len() <= WIDEST_LIST && !line.contains('\n') {
                return self.line(head, &line, indent);
            }
        }
        self.braces(head, indent, |writer| {
            for item in items {
                writer.anything("-", item, indent + STEP);
            }
        });
    }

    /// A node that says what it is where it does not show.
    fn anything(&mut self, key: &str, node: &Node, indent: usize) {
        let head = word(key);
        match &node.value {
            Value::Seq(items) if items.len() > 1 => self.list(&head, items, indent),
            Value::Seq(items) => self.list(&format!("(list){head}"), items, indent),
            Value::Map(entries) if entries.iter().all(|(key, _)| &*key.value == "-") => {
                self.block(&format!("(map){head}"), entries, indent, &Self::anything);
            }
            Value::Map(entries) => self.block(&head, entries, indent, &Self::anything),
            _ => {
                let value = self.scalar(node, indent);
                self.line(&head, &format!(" {value}"), indent);
            }
        }
    }

    fn line(&mut self, head: &str, rest: &str, indent: usize) {
        self.indent(indent);
        self.out.push_str(head);
        self.out.push_str(rest);
        self.out.push('\n');
    }

    fn braces(&mut self, head: &str, indent: usize, inner: impl FnOnce(&mut Self)) {
        self.line(head, " {", indent);
        inner(self);
        self.line("}", "", indent);
    }

    fn indent(&mut self, indent: usize) {
        self.out.extend(std::iter::repeat_n(' ', indent));
    }

    fn scalar(&self, node: &Node, indent: usize) -> String {
        match &node.value {
            Value::Bool(true) => "#true".to_owned(),
            Value::Bool(false) => "#false".to_owned(),
            Value::Float(number) if number.is_nan() => "#nan".to_owned(),
            Value::Float(number) if number.is_infinite() => {
                if *number > 0.0 { "#inf" } else { "#-inf" }.to_owned()
            }
            Value::Int(_) | Value::Float(_) => super::number(node, self.source, plain_number),
            Value::Str(text) if can_have_lines(text) => lines(text, indent + STEP),
            Value::Str(text) => quoted(text),
            // Lists and maps are nodes, never values.
            Value::Null | Value::Seq(_) | Value::Map(_) => "#null".to_owned(),
        }
    }
}

/// The word for one item of a list.
fn singular(name: &str) -> &str {
    match name {
        "resource_requirements" => name,
        _ => name.strip_suffix('s').unwrap_or(name),
    }
}

/// The name of a node.
fn word(text: &str) -> String {
    let is_plain = text == "-"
        || text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && text.chars().all(|letter| letter.is_ascii_alphanumeric() || "_-".contains(letter))
            && !["true", "false", "null", "inf", "nan"].contains(&text);
    if is_plain { text.to_owned() } else { quoted(text) }
}

/// A text on one line; as it is between hashes, where it would have to be escaped otherwise.
fn quoted(text: &str) -> String {
    if text.contains(['"', '\\'])
        && !text.contains("\"#")
        && !text.starts_with('"')
        && !text.chars().any(must_be_escaped)
    {
        return format!("#\"{text}\"#");
    }
    let mut out = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            _ if must_be_escaped(letter) => {
                out.push_str(&format!("\\u{{{:x}}}", u32::from(letter)))
            }
            _ => out.push(letter),
        }
    }
    out.push('"');
    out
}

/// A text of several lines, each as it is. What they are indented by is that of the closing quotes.
fn lines(text: &str, indent: usize) -> String {
    let indent = " ".repeat(indent);
    let is_raw = text.contains(['"', '\\']) && !text.contains("\"\"\"");
    let hash = if is_raw { "#" } else { "" };
    let mut out = format!("{hash}\"\"\"\n");
    for line in text.split('\n') {
        if !line.is_empty() {
            out.push_str(&indent);
            if is_raw {
                out.push_str(line);
            } else {
                out.push_str(&line.replace('\\', "\\\\").replace('"', "\\\""));
            }
        }
        out.push('\n');
    }
    out + &indent + "\"\"\"" + hash
}

/// A number as KDL and the other formats alike write it.
fn plain_number(text: &str) -> Value {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = digits.split_once(['e', 'E']).unwrap_or((digits, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    let are_digits =
        |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if are_digits(whole) && are_digits(fraction) && are_digits(exponent) {
        read_number(text)
    } else {
        Value::Null
    }
}

/// What KDL does not allow as it is, or takes for a line break.
fn must_be_escaped(letter: char) -> bool {
    letter.is_control() || is_forbidden(letter) || matches!(letter, '\u{2028}' | '\u{2029}')
}

/// Whether a text has lines that can be written as they are.
fn can_have_lines(text: &str) -> bool {
    text.contains('\n')
        && !text.chars().any(|letter| !matches!(letter, '\n' | '\t') && must_be_escaped(letter))
        && text.split('\n').all(|line| line.is_empty() || !line.trim().is_empty())
}
