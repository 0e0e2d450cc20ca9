//! Whether a value is a JSON Schema by which the settings of a plugin, an object, can be checked.
//!
//! Looks at the keywords that say what a value must be, in words of its own, and then asks whoever judges settings by
//! it. Whoever does that has these words, too.

use serde_json::{Map, Value};

use crate::settings;

const TYPES: [&str; 7] = ["array", "boolean", "integer", "null", "number", "object", "string"];

/// What is wrong with a schema of settings, and where in it; `None`: nothing.
pub(super) fn fault(schema: &Value) -> Option<String> {
    let Some(object) = schema.as_object() else {
        return Some("it is not a JSON object".to_owned());
    };
    if object.get("type").is_some_and(|kind| !allows(kind, "object")) {
        return Some("`type` does not allow an object, and settings are one".to_owned());
    }
    settings::fault(schema)
}

/// What is wrong with a schema, in torc's words, if it has some for that.
pub(crate) fn own_words(schema: &Value) -> Option<String> {
    wrong(schema, "").err()
}

fn allows(kind: &Value, wanted: &str) -> bool {
    match kind {
        Value::String(kind) => kind == wanted,
        Value::Array(kinds) => kinds.iter().any(|kind| kind == wanted),
        _ => false,
    }
}

/// A schema, and those within it.
fn wrong(schema: &Value, at: &str) -> Result<(), String> {
    let object = match schema {
        Value::Object(object) => object,
        Value::Bool(_) => return Ok(()),
        _ => return Err(format!("`{at}` is no schema: neither an object nor true or false")),
    };
    words(object, at)?;
    for name in ["items", "additionalProperties", "not", "if", "then", "else", "contains"] {
        if let Some(inner) = object.get(name) {
            wrong(inner, &format!("{at}/{name}"))?;
        }
    }
    for name in ["properties", "patternProperties", "$defs", "definitions"] {
        let Some(inner) = object.get(name) else { continue };
        let Value::Object(inner) = inner else {
            return Err(format!("`{at}/{name}` is not an object"));
        };
        for (key, schema) in inner {
            wrong(schema, &format!("{at}/{name}/{key}"))?;
        }
    }
    for name in ["allOf", "anyOf", "oneOf"] {
        let Some(inner) = object.get(name) else { continue };
        let schemas = inner.as_array().filter(|schemas| !schemas.is_empty());
        let schemas = schemas.ok_or_else(|| format!("`{at}/{name}` is not a list with schemas"))?;
        for (place, schema) in schemas.iter().enumerate() {
            wrong(schema, &format!("{at}/{name}/{place}"))?;
        }
    }
    Ok(())
}

/// The keywords that have no schemas in them.
fn words(object: &Map<String, Value>, at: &str) -> Result<(), String> {
    let is_type = |kind: &Value| kind.as_str().is_some_and(|kind| TYPES.contains(&kind));
    let are = |value: &Value, test: &dyn Fn(&Value) -> bool| {
        value.as_array().is_some_and(|values| values.iter().all(test))
    };
    let check = |name: &str, test: &dyn Fn(&Value) -> bool, expected: &str| match object.get(name) {
        Some(value) if !test(value) => Err(format!("`{at}/{name}` is {value}, and not {expected}")),
        _ => Ok(()),
    };
    check(
        "type",
        &|kind| is_type(kind) || are(kind, &is_type),
        &format!("one of {}", TYPES.join(", ")),
    )?;
    check("required", &|names| are(names, &Value::is_string), "a list of names")?;
    check("enum", &Value::is_array, "a list")?;
    check("pattern", &Value::is_string, "text")?;
    check("description", &Value::is_string, "text")?;
    for name in ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"] {
        check(name, &Value::is_number, "a number")?;
    }
    for name in ["minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"]
    {
        check(name, &Value::is_u64, "a number of at least 0")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_wrong_with_a_schema_is_said_with_its_place() {
        #[track_caller]
        fn check(schema: Value, expected: Option<&str>) {
            assert_eq!(fault(&schema).as_deref(), expected);
        }
        check(json!({}), None);
        check(
            json!({"type": "object", "properties": {"n": {"type": ["integer", "null"], "minimum": 0}, "free": true},
                "required": ["n"], "additionalProperties": false, "anyOf": [{"required": ["n"]}]}),
            None,
        );
        check(json!([]), Some("it is not a JSON object"));
        check(
            json!({"type": "string"}),
            Some("`type` does not allow an object, and settings are one"),
        );
        check(json!({"properties": ["n"]}), Some("`/properties` is not an object"));
        check(
            json!({"properties": {"n": 7}}),
            Some("`/properties/n` is no schema: neither an object nor true or false"),
        );
        check(
            json!({"properties": {"n": {"type": "int"}}}),
            Some(
                "`/properties/n/type` is \"int\", and not one of array, boolean, integer, null, number, object, string",
            ),
        );
        check(json!({"required": "n"}), Some("`/required` is \"n\", and not a list of names"));
        check(json!({"oneOf": []}), Some("`/oneOf` is not a list with schemas"));
        check(
            json!({"items": {"maxLength": -1}}),
            Some("`/items/maxLength` is -1, and not a number of at least 0"),
        );
    }
}
