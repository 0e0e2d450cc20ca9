//! Writes a tree as text: what every format reads, back again.
//!
//! Knows no field but for KDL's sake. Comments, anchors and styles are not in a tree, so they are not written. The
//! invariant: what is written reads back as the same tree, and numbers look as they did.

mod json;
mod kdl;
mod yaml;

use super::Format;
use super::json::Dialect;
use super::tree::{Node, Value};

/// The text of a tree. `source` is what its places are in: numbers are taken from there.
pub(crate) fn write(root: &Node, source: &str, format: Format) -> String {
    match format {
        Format::Yaml => yaml::write(root, source),
        Format::Json => json::write(root, source, Dialect::Json),
        Format::Json5 => json::write(root, source, Dialect::Json5),
        Format::Kdl => kdl::write(root, source),
    }
}

/// A string as one line of YAML, wherever a value can stand.
pub(crate) fn yaml_word(text: &str) -> String {
    yaml::word(text)
}

/// A number as its source wrote it, since `0.10` as a parameter is not `0.1`; one without a source is
/// written anew. `read` is the format's own idea of a plain text.
fn number(node: &Node, source: &str, read: impl Fn(&str) -> Value) -> String {
    let written = source.get(node.span.start..node.span.end).unwrap_or_default();
    if read(written) == node.value {
        return written.to_owned();
    }
    match &node.value {
        Value::Int(number) => number.to_string(),
        Value::Float(number) => format!("{number:?}"),
        _ => String::new(),
    }
}
