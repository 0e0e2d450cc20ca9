//! What was probably meant by a value of the wrong type, in the flow style of YAML.
//!
//! Knows what fields take, and how a value was written; decides nothing.

use super::fields::{Field, Object, Takes};
use super::problems::{Problems, verbatim};
use super::tree::{Node, Value};
use super::{Format, yaml};

/// What to do about a value where an object is wanted.
pub(crate) fn object(object: &Object, node: &Node) -> String {
    match &node.value {
        Value::Seq(items) if matches!(&items[..], [Node { value: Value::Map(_), .. }]) => {
            "it is one, not a list of them: remove the `-`, or the brackets".to_owned()
        }
        _ => format!("write for example `{}`", example(object)),
    }
}

/// What to do about a value where the list of a field is wanted.
pub(crate) fn list(field: &Field, node: &Node, written: &str, problems: &Problems<'_>) -> String {
    let name = field.name;
    let items = match (&field.takes, &node.value) {
        (Takes::Many(object), Value::Map(entries)) => match &entries[..] {
            // A map by names, as other tools have it.
            [(key, Node { value: Value::Map(_), .. }), ..]
                if object.field(&key.value).is_none() =>
            {
                let named = named(object, &key.value);
                return format!("write each with its name as an item: `- {named}`");
            }
            _ => return "begin each item with `- `, also the only one".to_owned(),
        },
        (Takes::Many(object), _) => example(object),
        (_, Value::Map(_)) => "...".to_owned(),
        _ => verbatim(written.lines().next().unwrap_or_default()),
    };
    format!("write `{}`", problems.pair(name, &format!("[{items}]")))
}

/// What to do about a value where the map of a field is wanted.
pub(crate) fn map(name: &str, node: &Node) -> String {
    let pair = |text: &str| {
        let (key, value) = text.split_once(['=', ':'])?;
        let fits = !key.trim().is_empty() && !value.trim().is_empty();
        fits.then(|| verbatim(&format!("{}: {}", key.trim(), value.trim())))
    };
    let texts: Vec<&str> = match &node.value {
        Value::Seq(items) => items.iter().filter_map(text).collect(),
        Value::Str(text) => vec![text],
        _ => Vec::new(),
    };
    let pairs: Option<Vec<String>> = texts.iter().map(|text| pair(text)).collect();
    match pairs.filter(|pairs| !pairs.is_empty()) {
        Some(pairs) => format!("write `{name}: {{{}}}`", pairs.join(", ")),
        None => format!("write for example `{name}: {{key: value}}`"),
    }
}

fn text(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Str(text) => Some(text),
        _ => None,
    }
}

/// The text that braces without quotes were meant to be: `{i}` is a map in YAML.
pub(crate) fn token(node: &Node, written: &str) -> Option<String> {
    match &node.value {
        Value::Map(entries) => {
            let is_token = matches!(&entries[..], [(_, Node { value: Value::Null, .. })]);
            (is_token
                && written.starts_with('{')
                && !written.contains(['\n', ':', '\''])
                && written.ends_with('}'))
            .then(|| format!("'{}'", verbatim(written)))
        }
        _ => None,
    }
}

/// An object with what it needs.
fn example(object: &Object) -> String {
    named(object, "a")
}

fn named(object: &Object, name: &str) -> String {
    let mut fields: Vec<&Field> = object.fields.iter().filter(|field| field.is_required).collect();
    if fields.is_empty() {
        fields.extend(object.fields.first());
    }
    let value = |field: &Field| match (field.name, &field.takes) {
        ("name", _) => verbatim(name),
        ("command", _) => "echo hello".to_owned(),
        ("path", _) => "data.csv".to_owned(),
        (_, Takes::Word(words)) => words.first().copied().unwrap_or_default().to_owned(),
        (_, Takes::Whole(least, _)) => least.max(&1).to_string(),
        (_, Takes::Flag) => "true".to_owned(),
        (_, Takes::Texts | Takes::Wholes(..) | Takes::Many(_)) => "[...]".to_owned(),
        (name, _) => format!("my_{name}"),
    };
    let pairs: Vec<String> =
        fields.into_iter().map(|field| format!("{}: {}", field.name, value(field))).collect();
    format!("{{{}}}", pairs.join(", "))
}

/// A field with an example of its value, which is in YAML, in a format. What KDL has other words for stays YAML.
pub(crate) fn pair(format: Format, name: &str, example: &str) -> String {
    let as_yaml = || format!("{name}: {example}");
    let problems = Problems::new(example);
    let Some(value) = yaml::parse(example, 0, &problems) else { return as_yaml() };
    match format {
        Format::Yaml => as_yaml(),
        Format::Json | Format::Json5 => format!("\"{name}\": {}", value.to_json()),
        Format::Kdl => match arguments(&value) {
            Some(arguments) => format!("{name} {arguments}"),
            None => as_yaml(),
        },
    }
}

/// The arguments of a node of KDL, if a value is no more than that.
fn arguments(value: &Node) -> Option<String> {
    match &value.value {
        Value::Str(text) if !text.contains(['"', '\\']) => Some(format!("\"{text}\"")),
        Value::Int(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(format!("#{flag}")),
        Value::Seq(items) if items.iter().all(|item| !matches!(item.value, Value::Seq(_))) => {
            let items: Option<Vec<String>> = items.iter().map(arguments).collect();
            items.filter(|items| !items.is_empty()).map(|items| items.join(" "))
        }
        _ => None,
    }
}
