//! What is wrong with settings, in the words that torc has for a spec.

use jsonschema::ValidationError;
use jsonschema::error::{TypeKind, ValidationErrorKind};
use serde_json::Value;
use torc_core::diagnostics::nearest;
use torc_core::spec::PathStep;

use super::{Wrong, steps};

/// Characters of a value, or of somebody else's words, in a message.
const LONGEST: usize = 160;

/// Adds what an error says; it may be about several fields.
pub(super) fn of(error: &ValidationError<'_>, schema: &Value, wrong: &mut Vec<Wrong>) {
    let at = steps(error);
    let unexpected = match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => unexpected,
        _ => return wrong.push(of_value(error, schema, at)),
    };
    let known = known_fields(error, schema);
    for field in unexpected {
        let name = shortened(&path(&at, Some(field)));
        let near = nearest(field, known.iter().copied());
        let help = match near {
            Some(near) => Some(format!("did you mean `{near}`?")),
            None if known.is_empty() => None,
            None => Some(format!("there are: {}", known.join(", "))),
        };
        wrong.push(Wrong {
            at: at.clone(),
            field: Some(field.clone()),
            message: format!("there is no setting `{name}`"),
            label: "unknown setting".to_owned(),
            help,
        });
    }
}

/// An error that is about a value as it is, or about what is missing in it.
fn of_value(error: &ValidationError<'_>, schema: &Value, at: Vec<PathStep>) -> Wrong {
    let value: &Value = error.instance();
    let name = shortened(&path(&at, None));
    let said = if at.is_empty() { "the settings".to_owned() } else { format!("`{name}`") };
    let mut label = format!("this is {}", kind(value));
    let mut help = description(error, schema);
    let message = match error.kind() {
        ValidationErrorKind::Required { property } => {
            let field = property.as_str().unwrap_or_default();
            let missing = shortened(&path(&at, Some(field)));
            label = format!("`{}` is missing", shortened(field));
            help = neighbour(error, schema, &["properties", field]).and_then(described);
            format!("the setting `{missing}` is needed")
        }
        ValidationErrorKind::Enum { options } => {
            let options = options.as_array().map(Vec::as_slice).unwrap_or_default();
            help = Some(choice(value, options));
            format!("{said} cannot be {}", shown(value))
        }
        ValidationErrorKind::Constant { expected_value } => {
            format!("{said} has to be {}", shown(expected_value))
        }
        ValidationErrorKind::Type { kind } => format!("{said} must be {}", types(kind)),
        kind => match limit(kind) {
            Some(limit) => format!("{said} {limit}"),
            None => other(kind, &said, error),
        },
    };
    Wrong { at, field: None, message, label, help }
}

/// What a value has to keep to, where that is a number.
fn limit(kind: &ValidationErrorKind) -> Option<String> {
    use ValidationErrorKind as Kind;
    Some(match kind {
        Kind::Minimum { limit } => format!("must be at least {limit}"),
        Kind::Maximum { limit } => format!("must be at most {limit}"),
        Kind::ExclusiveMinimum { limit } => format!("must be more than {limit}"),
        Kind::ExclusiveMaximum { limit } => format!("must be less than {limit}"),
        Kind::MultipleOf { multiple_of } => format!("must be a multiple of {multiple_of}"),
        Kind::MinLength { limit } => format!("must have at least {limit} characters"),
        Kind::MaxLength { limit } => format!("must have at most {limit} characters"),
        Kind::MinItems { limit } => format!("must have at least {limit} items"),
        Kind::MaxItems { limit } => format!("must have at most {limit} items"),
        Kind::MinProperties { limit } => format!("must have at least {limit} fields"),
        Kind::MaxProperties { limit } => format!("must have at most {limit} fields"),
        _ => return None,
    })
}

fn other(kind: &ValidationErrorKind, said: &str, error: &ValidationError<'_>) -> String {
    use ValidationErrorKind as Kind;
    match kind {
        Kind::Pattern { pattern } => {
            format!("{said} must be like the pattern `{}`", shortened(pattern))
        }
        Kind::UniqueItems => format!("{said} has an item twice"),
        Kind::FalseSchema => format!("{said} may not be there"),
        Kind::AnyOf { context } | Kind::OneOfNotValid { context } => {
            let ways: Vec<String> =
                context.iter().filter_map(|way| way.first().map(ToString::to_string)).collect();
            let ways = if ways.is_empty() { error.to_string() } else { ways.join("; or ") };
            format!("{said} is none of what it may be: {}", shortened(&ways))
        }
        _ => format!("{said}: {}", shortened(&error.to_string())),
    }
}

fn choice(value: &Value, options: &[Value]) -> String {
    let texts = options.iter().filter_map(Value::as_str);
    let near = value.as_str().and_then(|text| nearest(text, texts));
    match near {
        Some(near) => format!("did you mean `{near}`?"),
        None => {
            let shown: Vec<String> = options.iter().map(shown).collect();
            format!("it is one of {}", shown.join(", "))
        }
    }
}

fn types(kind: &TypeKind) -> String {
    let known: Vec<String> = match kind {
        TypeKind::Single(one) => vec![one.to_string()],
        TypeKind::Multiple(several) => several.iter().map(|one| one.to_string()).collect(),
    };
    let words: Vec<&str> = known.iter().map(|one| word(one)).collect();
    words.join(" or ")
}

/// A type of JSON, as torc calls it.
fn word(kind: &str) -> &'static str {
    match kind {
        "string" => "a string",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "true or false",
        "array" => "a list",
        "object" => "a map",
        _ => "null",
    }
}

fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a map".to_owned(),
        Value::Bool(flag) => format!("a boolean: {flag}"),
        Value::Number(number) if number.is_f64() => format!("a number: {number}"),
        Value::Number(number) => format!("a whole number: {number}"),
        Value::String(_) => "a string".to_owned(),
    }
}

/// What the schema says that a value is for.
fn description(error: &ValidationError<'_>, schema: &Value) -> Option<String> {
    neighbour(error, schema, &[]).and_then(described)
}

fn described(schema: &Value) -> Option<String> {
    schema.get("description").and_then(Value::as_str).map(shortened)
}

/// The fields that may be where others are, by the schema that an error comes from.
fn known_fields<'s>(error: &ValidationError<'_>, schema: &'s Value) -> Vec<&'s str> {
    let properties = neighbour(error, schema, &["properties"]).and_then(Value::as_object);
    properties.map(|fields| fields.keys().map(String::as_str).collect()).unwrap_or_default()
}

/// What is beside the keyword that an error comes from.
fn neighbour<'s>(
    error: &ValidationError<'_>,
    schema: &'s Value,
    way: &[&str],
) -> Option<&'s Value> {
    let (parent, _) = error.schema_path().as_str().rsplit_once('/')?;
    let parent = schema.pointer(parent)?;
    way.iter().try_fold(parent, |value, key| value.get(key))
}

/// The way to a field as people write it: `a.b[2].c`.
fn path(at: &[PathStep], field: Option<&str>) -> String {
    let mut text = String::new();
    let last = field.map(|field| PathStep::Field(field.to_owned()));
    for step in at.iter().chain(&last) {
        match step {
            PathStep::Field(field) => {
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(field);
            }
            PathStep::Item(index) => text.push_str(&format!("[{index}]")),
        }
    }
    text
}

/// A value on one line, and not too long.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("`{}`", shortened(text)),
        other => shortened(&other.to_string()),
    }
}

/// On one line, and not too long.
pub(super) fn shortened(text: &str) -> String {
    let escaped = |c: char| if c.is_control() { c.escape_debug().collect() } else { vec![c] };
    let mut short: String = text.chars().take(LONGEST).flat_map(escaped).collect();
    if text.chars().nth(LONGEST).is_some() {
        short.push('…');
    }
    short
}
